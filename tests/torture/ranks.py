"""Ranks: one of them is killed, stands still, has no room left or holds other data; each time, the same command again.

In:  nothing but the tests' own small mixture. Out: a line per fault.
Holds: a try is survived where the run ended with our three lines in time, nothing was left running, and the same
       command came to the rows, losses, weights and moments of an undisturbed run, bit for bit.
Run: make torture ONLY=ranks
"""

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from rank_faults import NOTHING, Ended, by_hand, by_torchrun, differences, stopped_ranks
from torture.mixture import pack_mix, packed
from torture.table import Line
from training import settle

GONE, SILENT = "another rank is gone", "has not answered for as long as --rank-timeout allows"
IN_SECONDS = 90.0  # torchrun waits 30 s for a rank that is stopped before it kills it
# What happens, to whom, at which turn of which moment; what is told; 2 ranks or 3.
KILLED: dict[str, tuple[tuple[str, str, str, str], str, int]] = {
    "second rank killed before the first sum": (("1", "sum", "1", "KILL"), "do not answer each other", 2),
    "first rank killed before the first sum": (("0", "sum", "1", "KILL"), "do not answer each other", 2),
    "second rank killed inside a step": (("1", "step", "14", "KILL"), GONE, 2),
    "first rank killed inside a step": (("0", "step", "14", "KILL"), GONE, 2),
    "second rank killed when a checkpoint begins": (("1", "save", "2", "KILL"), GONE, 2),
    "first rank killed while it writes a checkpoint": (("0", "write", "5", "KILL"), GONE, 2),
    "third of three killed in the uneven last step": (("2", "step", "87", "KILL"), GONE, 3),
    "no room left on the first rank's disk": (("0", "save", "2", "FULL"), "could not", 2),
}


def torture(work: Path, *, kills: int) -> Iterable[Line]:  # noqa: ARG001 -- each fault costs half a minute
    """Every fault once, however many kills are asked for."""
    root = packed(work / "root", documents=(120, 160))
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root)
        for n in (2, 3):
            assert by_torchrun(f"whole-{n}", n=n).codes == (0,)
        for fault, (met, told, n) in KILLED.items():
            yield _line(fault, _comes_back(root, fault, met, told, n))
        timeout = ("--rank-timeout", "0.05")
        for rank in ("0", "1"):
            fault = f"rank {rank} of two stopped for longer than the timeout"
            yield _line(fault, _comes_back(root, fault, (rank, "step", "14", "STOP"), SILENT, 2, *timeout))
        yield _line("rank 1 of two stopped for 5 s and continued", _goes_on(root))
        yield from _refused(root, work)


def _comes_back(
    root: Path, fault: str, met: tuple[str, str, str, str], told: str, n: int, *flags: str
) -> Iterator[str]:
    """What went wrong, if anything did."""
    run = fault.replace(" ", "-").replace("'", "")
    yield from _ended_well(by_torchrun(run, met, *flags, n=n), told)
    again = by_torchrun(run, NOTHING, n=n)
    if again.codes != (0,):
        yield f"the same command left with {again.codes}: {again.said[-2000:]}"
        return
    yield from differences(root, run, f"whole-{n}")


def _goes_on(root: Path) -> Iterator[str]:
    """Stopped for less than the timeout, a rank makes the others wait, and changes nothing."""
    continuing = threading.Thread(target=_continue_after, args=(5.0,))
    continuing.start()
    ended = by_torchrun("paused", ("1", "step", "14", "STOP"))
    continuing.join()
    if ended.codes != (0,):
        yield f"it left with {ended.codes}: {ended.said[-2000:]}"
        return
    yield from differences(root, "paused", "whole-2")


def _continue_after(seconds: float) -> None:
    deadline = time.monotonic() + 120
    while not (stopped := stopped_ranks()) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(seconds)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def _refused(root: Path, work: Path) -> Iterator[Line]:
    """What is told before anything is trained."""
    other = work / "other"
    shutil.copytree(root, other)
    for file in ("recipes/mix.toml", "plans/mix.parquet"):
        (other / "manifests" / file).unlink()
    pack_mix(other, "60:40")
    ended = by_hand("refused", each={1: {"DATAPREP_ROOT": str(other)}})
    yield _line("another recipe on the second rank's disk", _ended_well(ended, "another recipe_sha256"), reported=True)

    shutil.copytree(root, work / "no-runs", ignore=shutil.ignore_patterns("runs"))
    ended = by_hand("whole-2", each={1: {"DATAPREP_ROOT": str(work / "no-runs")}})
    yield _line("the second rank sees no runs/", _ended_well(ended, "rank 1 is about to train"), reported=True)

    card = {"GLOO_SOCKET_IFNAME": "nonsense"}
    ended = by_hand("refused", each={0: card, 1: card})
    yield _line("GLOO_SOCKET_IFNAME=nonsense", _ended_well(ended, "GLOO_SOCKET_IFNAME names no"), reported=True)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        meeting = {"MASTER_PORT": str(taken.getsockname()[1])}
        ended = by_hand("refused", each={0: meeting, 1: {**meeting, "WORLD_SIZE": "1", "RANK": "0"}})
    yield _line("MASTER_PORT is taken", _ended_well(ended, "port where the ranks meet is taken"), reported=True)


def _ended_well(ended: Ended, told: str) -> Iterator[str]:
    if not ended.tells_once(told):
        yield f"not told: {told}: {ended.said[-3000:]}"
    if ended.seconds > IN_SECONDS:
        yield f"it took {ended.seconds:.0f} s"
    if ended.orphans:
        yield f"left running: {ended.orphans}"


def _line(fault: str, troubles: Iterable[str], *, reported: bool = False) -> Line:
    found = list(troubles)
    for trouble in found:
        print(f"{fault}: {trouble}", file=sys.stderr, flush=True)
    well = not found
    return Line(
        fault=fault, tries=1, survived=int(well and not reported), reported=int(well and reported), lost=int(not well)
    )
