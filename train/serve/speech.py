"""Speech: answers being made in a thread of their own, listened to from the event loop.

In:  one iterator of pieces per choice, stop texts. Out: `Said` and `Ended`, as an asynchronous iterator.
Holds: whoever cancels is obeyed before the next piece of text; `on_end` is called once, when the thread is done with
       the model, whether anyone still listens or not.
async for event in speak([stream], [], on_end=desk.free): …
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from train.engine import Stream
from train.serve.cutting import Cutter


@dataclass(frozen=True)
class Said:
    """More text of a choice, and how many tokens it has now."""

    choice: int
    text: str
    n_tokens: int


@dataclass(frozen=True)
class Ended:
    """A choice is whole."""

    choice: int
    finish: str  # stop | length
    n_tokens: int
    seconds: float  # that the model worked on it


Event = Said | Ended


class Speech:
    """Answers under way."""

    def __init__(
        self, streams: Iterable[Callable[[], Stream]], stops: Sequence[str], on_end: Callable[[], None]
    ) -> None:
        self._streams, self._stops, self._on_end = streams, stops, on_end
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
        self._cancelled = threading.Event()
        # A daemon: a program that is told to end waits for no token.
        threading.Thread(target=self._work, name="speech", daemon=True).start()

    def cancel(self) -> None:
        """Say no more. To be called from anywhere, as often as one likes."""
        self._cancelled.set()

    def end(self, why: Exception) -> None:
        """Say no more, and have the listener told why at once, whatever the thread is doing. In the event loop."""
        self.cancel()
        self._events.put_nowait(why)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """What is said, as it comes."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event

    def _work(self) -> None:
        """In the thread."""
        try:
            for choice, begin in enumerate(self._streams):
                for event in _events(choice, begin(), Cutter(self._stops), self._cancelled.is_set):
                    self._tell(lambda event=event: self._events.put_nowait(event))
        except BaseException as error:  # noqa: BLE001 -- raised again where it is listened to
            self._tell(lambda error=error: self._events.put_nowait(error))
        finally:
            self._tell(self._on_end)
            self._tell(lambda: self._events.put_nowait(None))

    def _tell(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed when the program ends
            self._loop.call_soon_threadsafe(what)


def _events(choice: int, stream: Stream, cutter: Cutter, is_cancelled: Callable[[], bool]) -> Iterator[Event]:
    """One answer's events; it ends early where it is cut or cancelled."""
    began = time.perf_counter()
    for piece in stream:
        if shown := cutter.feed(piece):
            yield Said(choice, shown, stream.answer.n_tokens)
        if cutter.cut or is_cancelled():
            break
    finish = "stop" if cutter.cut or is_cancelled() else stream.answer.finish
    if rest := cutter.rest():
        yield Said(choice, rest, stream.answer.n_tokens)
    yield Ended(choice, finish, stream.answer.n_tokens, time.perf_counter() - began)
