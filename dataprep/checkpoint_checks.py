"""Checks of checkpoints: every file of every one that is kept, without loading torch.

In:  runs/<run>/checkpoints/step_…/, of the trash too. Out: one finding.
Holds: state.json hashes itself and names size and sha256 of the weights and the moments; a folder that was set aside as
       damaged is no checkpoint any more.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from dataprep.bins import FileFact
from dataprep.checks import Finding, file_faults, finding
from dataprep.errors import quoted
from dataprep.harvest import journal_files
from dataprep.paths import CHECKPOINTS, Paths
from dataprep.state_file import STATE, state_hash, state_text


def check_checkpoints(paths: Paths, *, full: bool) -> Finding:
    """Every file is what its state.json says, by size, or every byte hashed."""
    faults, fixes, n_checkpoints = [], [], 0
    for journal in journal_files(paths):
        folders = sorted((journal.parent / CHECKPOINTS).glob("step_*"))
        damaged = {folder: found for folder in folders if (found := list(_faults(folder, full=full)))}
        faults += [
            f"{paths.shown(folder / name)}: {fault}" for folder, found in damaged.items() for name, fault in found
        ]
        # From the newest that is whole training goes on. Where none is left, nothing but a run of another name can.
        goes_on = f"; {train_again(journal.parent.name)}" if len(damaged) < len(folders) else "   # the last of its run"
        fixes += [f"rm -r {quoted(paths.shown(folder))}{goes_on}" for folder in damaged]
        n_checkpoints += len(folders)
    how = "every byte hashed" if full else "by size"
    return finding("checkpoints are as saved", f"{n_checkpoints:,} checkpoints, {how}", faults, fixes)


def train_again(run: str) -> str:
    """What goes on with a run from the newest checkpoint that is whole: what was lost is trained again."""
    return f"python train/main.py --manifest --run-name {run}   # torchrun as it was begun"


def _faults(folder: Path, *, full: bool) -> Iterator[tuple[str, str]]:
    try:
        text = (folder / STATE).read_text(encoding="utf-8")
        state = json.loads(text)
        stated = state.pop("sha256")
        facts = [FileFact(name=name, bytes=f["bytes"], sha256=f["sha256"]) for name, f in state["files"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield STATE, f"cannot be read ({type(error).__name__})"
        return
    if stated != state_hash(state) or text != state_text(state):
        yield STATE, "its bytes are not those that were saved (sha256)"
    for fact in facts:
        for fault in file_faults(fact.name, folder / fact.name, fact, full=full):
            yield fact.name, fault
