"""Keeping: which checkpoints stay, and which make way for newer ones.

In:  the steps there are, --keep, --keep-every, the other runs' journals. Out: folders removed, for good.
Holds: the newest `keep` stay, so do those of every `keep_every` steps; and none goes that another run still begins
       from: one that is reading it holds a lock, one that has begun says so in its journal until it has its own.
doomed([10, 20, 30, 40], keep=1, keep_every=20, needed=set()) == [10, 30]
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from dataprep.errors import DataError
from dataprep.ledger import read_journal
from dataprep.paths import JOURNAL
from train.locks import lock
from train.step_folders import list_checkpoints, step_of


def doomed(steps: Sequence[int], keep: int, keep_every: int | None, needed: set[int]) -> list[int]:
    """Of the checkpoints' `steps`, ascending, those that no rule keeps."""
    old = steps[:-keep]
    return [step for step in old if step not in needed and not (keep_every and step % keep_every == 0)]


def remove_old(checkpoints: Path, *, keep: int, keep_every: int | None) -> list[str]:
    """Remove what no rule keeps; returns warnings. While another run reads here, everything waits for the next time."""
    folders = {step_of(folder): folder for folder in list_checkpoints(checkpoints)}
    if not doomed(list(folders), keep, keep_every, set()):
        return []
    with lock(checkpoints, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        if not alone:
            return []
        # Only now: whoever read here before has written by now from where it began.
        needed, warnings = _needed_by_others(checkpoints, set(folders))
        making_way = [_aside(folders[step]) for step in doomed(list(folders), keep, keep_every, needed)]
    for folder in making_way:
        shutil.rmtree(folder)
    return warnings


@contextlib.contextmanager
def reading(checkpoints: Path) -> Iterator[None]:
    """Nothing that lies in `checkpoints` when the block begins is removed before it ends."""
    with lock(checkpoints, fcntl.LOCK_SH):
        yield


def _needed_by_others(checkpoints: Path, steps: set[int]) -> tuple[set[int], list[str]]:
    """The steps that runs without a checkpoint of their own would begin from again, and warnings."""
    run_folder = checkpoints.parent
    needed: set[int] = set()
    warnings = []
    for file in sorted(run_folder.parent.glob(f"*/{JOURNAL}")):
        if file.parent == run_folder or list_checkpoints(file.parent / checkpoints.name):
            continue
        try:
            starts = read_journal(file).of_kind("start")
        except DataError as damage:
            warnings.append(f"warning: {damage.what}; what it begins from is not known, so no checkpoint is removed")
            return steps, warnings
        # A replayed run (no preset) has no weights, and will never ask for any.
        if starts and starts[-1]["parent_run"] == run_folder.name and "preset" in starts[-1]:
            needed.add(starts[-1]["parent_step"])
    return needed, warnings


def _aside(folder: Path) -> Path:
    """Rename first: a kill half-way leaves a temp to sweep, not something that looks like a checkpoint."""
    aside = folder.with_name(f".{folder.name}.old.part")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)
