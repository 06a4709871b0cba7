"""A run that is moved by a disk that fails: it is whole in one of the two places, and the verb can be repeated."""

import contextlib
import errno
import itertools
import os
from pathlib import Path

import pytest
from trained import Run

from dataprep.errors import UsageError
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from train.runs.trash import restore_run, trash_run

WHOLE = {"journal.jsonl", "checkpoints/step_00000001/model.safetensors"}
# Trash: its receipt and the run's folder, then the folder, the trash and runs/. Restore: the last three.
TURNS = [*(("trash", nth) for nth in range(1, 6)), *(("restore", nth) for nth in range(1, 4))]


@pytest.mark.parametrize(("verb", "nth"), TURNS)
def test_a_run_is_whole_in_one_of_two_places_whichever_fsync_of_its_move_fails(
    verb: str, nth: int, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    living, trashed = written_run(paths), paths.runs / ".trash" / "run"
    if verb == "restore":
        trash_run(paths, "run", {}, force=False)
    with monkeypatch.context() as patched:
        fail_at(patched, nth)
        with pytest.raises(OSError, match="as the kernel says it"):
            move(verb, paths)
    assert [files_of(place) >= WHOLE for place in (living, trashed)].count(True) == 1
    with contextlib.suppress(UsageError):  # it says that this was done
        move(verb, paths)
    receipt = {"trashed.json"} if verb == "trash" else set()
    assert files_of(trashed if verb == "trash" else living) == WHOLE | receipt


def move(verb: str, paths: Paths) -> None:
    """Trash or restore it."""
    if verb == "trash":
        trash_run(paths, "run", {}, force=False)
    else:
        restore_run(paths, "run")


def files_of(folder: Path) -> set[str]:
    """Names of every file below it."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def written_run(paths: Paths) -> Path:
    """A run of one step, with something in place of its weights."""
    run = Run(paths, "run", load_recipe(paths, "mix"))
    run.start(batch_rows=8)
    run.take_step()
    run.save()
    weights = paths.checkpoints("run") / "step_00000001" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    return paths.runs / "run"


def fail_at(patched: pytest.MonkeyPatch, nth: int) -> None:
    """Let the nth fsync from here on fail."""
    real, turns = os.fsync, itertools.count(1)

    def fail(descriptor: int) -> None:
        if next(turns) == nth:
            raise OSError(errno.EIO, "as the kernel says it")
        real(descriptor)

    patched.setattr(os, "fsync", fail)
