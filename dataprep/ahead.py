"""Ahead: while cores are idle, helpers make what comes next and the caller works on what came before.

In:  things, what to make of each, and the helpers. Out: (thing, made) pairs in the order of the things.
Holds: the order, and so the bytes, do not depend on helpers; callers and helpers together are never more than
the workers asked for; at most N_AHEAD + 1 things are in memory; nothing is left running when the caller stops.
Two workers, three shards: each worker takes one, the first to be done the third, the other then helps it.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

N_AHEAD = 2  # one that is being made and one that waits

Thing = TypeVar("Thing")
Made = TypeVar("Made")


class Helpers:
    """`n_workers` threads' worth of work, shared by callers (`with helpers.working(): …`) and those who help them."""

    def __init__(self, n_workers: int) -> None:
        self._idle = threading.Semaphore(n_workers)
        self.executor = ThreadPoolExecutor(n_workers)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Be one of the workers; waits while all of them are busy."""
        with self._idle:
            yield

    def take(self) -> bool:
        """Whether a worker was idle: it helps until it is given back."""
        return self._idle.acquire(blocking=False)

    def give_back(self) -> None:
        """What `take` took may help others."""
        self._idle.release()


def made_ahead(
    things: Iterable[Thing], make: Callable[[Thing], Made], helpers: Helpers | None
) -> Generator[tuple[Thing, Made], None, None]:
    """Yield each thing with what `make` made of it: by a helper from the moment on that one is idle."""
    under_way: deque[tuple[Thing, Future[Made]]] = deque()
    helped = False
    try:
        for thing in things:
            helped = helped or (helpers is not None and helpers.take())
            if helpers is None or not helped:  # handing a batch to another core costs, so nobody does it in vain
                yield thing, make(thing)
                continue
            under_way.append((thing, helpers.executor.submit(make, thing)))
            if len(under_way) > N_AHEAD:
                first, made = under_way.popleft()
                yield first, made.result()
        while under_way:
            first, made = under_way.popleft()
            yield first, made.result()
    finally:
        wait([made for _, made in under_way if not made.cancel()])
        if helpers is not None and helped:
            helpers.give_back()
