"""Making ahead: the order is that of the things, little is in memory, errors come where they belong."""

import threading
import time
from collections.abc import Iterator

import pytest

from dataprep.ahead import N_AHEAD, Helpers, made_ahead


@pytest.fixture
def helpers() -> Iterator[Helpers]:
    made = Helpers(2)
    with made.executor:
        yield made
    assert [made.take() for _ in range(3)] == [True, True, False]  # whatever was taken came back


def test_pairs_come_in_the_order_of_the_things_however_long_each_takes(helpers: Helpers) -> None:
    def slowly(thing: int) -> int:
        time.sleep(0.01 * (thing % 3 == 0))
        return thing * thing

    wanted = [(thing, thing * thing) for thing in range(20)]
    assert list(made_ahead(range(20), slowly, helpers)) == wanted
    assert list(made_ahead(range(20), slowly, None)) == wanted
    assert list(made_ahead([], slowly, helpers)) == []


def test_no_more_things_are_read_than_may_wait(helpers: Helpers) -> None:
    read: list[int] = []

    def things() -> Iterator[int]:
        for thing in range(20):
            read.append(thing)
            yield thing

    for used, _ in enumerate(made_ahead(things(), str, helpers), start=1):
        assert len(read) <= used + N_AHEAD


def test_an_error_comes_after_what_was_made_before_it_and_nothing_runs_on(helpers: Helpers) -> None:
    running = threading.Semaphore(0)

    def fail_at_three(thing: int) -> int:
        if thing == 3:
            raise ValueError(thing)
        time.sleep(0.02 * (thing > 3))
        running.release()
        return thing

    used = []
    with pytest.raises(ValueError, match="3"):  # noqa: PT012 -- the loop is what is tested
        for thing, _ in made_ahead(range(10), fail_at_three, helpers):
            used.append(thing)
    n_made = running._value
    time.sleep(0.1)
    assert used == [0, 1, 2]
    assert running._value == n_made


def test_an_unreadable_thing_does_not_hide_behind_helpers(helpers: Helpers) -> None:
    def things() -> Iterator[int]:
        yield from range(5)
        raise OSError("cut short")

    with pytest.raises(OSError, match="cut short"):
        list(made_ahead(things(), str, helpers))


def test_helpers_help_only_while_a_worker_is_idle(helpers: Helpers) -> None:
    def where(_thing: int) -> str:
        return threading.current_thread().name

    me = threading.current_thread().name
    with helpers.working():
        with helpers.working():  # both workers have a shard of their own
            pairs = made_ahead(range(20), where, helpers)
            assert [next(pairs)[1] for _ in range(3)] == [me] * 3
        assert me not in {maker for _, maker in pairs}  # the other one is done, and helps from now on


def test_a_caller_that_stops_early_gives_its_helper_back(helpers: Helpers) -> None:
    pairs = made_ahead(range(20), str, helpers)
    assert next(pairs) == (0, "0")
    pairs.close()
