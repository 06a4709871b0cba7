"""Which checkpoints stay: the rules by hand, and what other runs still need."""

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from train.keeping import doomed, reading, remove_old

TENS = [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize(
    ("steps", "keep", "keep_every", "needed", "gone"),
    [
        ([], 2, None, set(), []),
        ([10], 2, None, set(), []),
        ([10, 20], 2, None, set(), []),
        (TENS, 2, None, set(), [10, 20, 30, 40]),
        (TENS, 1, None, set(), [10, 20, 30, 40, 50]),
        (TENS, 9, None, set(), []),
        (TENS, 1, 20, set(), [10, 30, 50]),
        (TENS, 2, 25, set(), [10, 20, 30, 40]),
        (TENS, 1, None, {30}, [10, 20, 40, 50]),
        (TENS, 1, 20, {30, 60, 70}, [10, 50]),
    ],
)
def test_the_newest_stay_and_so_do_every_so_many_steps_and_what_is_needed(
    steps: list[int], keep: int, keep_every: int | None, needed: set[int], gone: list[int]
) -> None:
    assert doomed(steps, keep, keep_every, needed) == gone


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Of a run `base`, at steps 10, 20 and 30."""
    folder = tmp_path / "runs" / "base" / "checkpoints"
    for step in (10, 20, 30):
        (folder / f"step_{step:08d}").mkdir(parents=True)
        (folder / f"step_{step:08d}" / "model.safetensors").write_bytes(b"weights")
    return folder


def child(checkpoints: Path, name: str, **changes: Any) -> Path:
    """A run that began from base@10 and has no checkpoint yet."""
    needs = ("time", "stage", "recipe", "recipe_sha256", "params", "world_size", "batch_rows", "micro_batch")
    start = dict.fromkeys((*needs, "accumulation", "rows_done"), 1) | {"kind": "start", "attempt": 1, "preset": "nano"}
    folder = checkpoints.parents[1] / name
    folder.mkdir()
    line = json.dumps(start | {"parent_run": "base", "parent_step": 10} | changes)
    (folder / "journal.jsonl").write_text(f"{line}\n")
    return folder


def left(checkpoints: Path) -> list[int]:
    """Steps under their own names; nothing else may lie there."""
    return sorted(int(folder.name.removeprefix("step_")) for folder in checkpoints.iterdir())


def test_old_ones_go_and_leave_nothing_behind(checkpoints: Path) -> None:
    assert remove_old(checkpoints, keep=1, keep_every=None) == []
    assert left(checkpoints) == [30]
    assert remove_old(checkpoints.with_name("none"), keep=1, keep_every=None) == []


def test_what_a_child_without_a_checkpoint_began_from_stays_until_it_has_its_own(checkpoints: Path) -> None:
    folder = child(checkpoints, "child")
    child(checkpoints, "others", parent_run="elsewhere", parent_step=20)
    assert remove_old(checkpoints, keep=1, keep_every=None) == []
    assert left(checkpoints) == [10, 30]
    (folder / "checkpoints" / "step_00000005").mkdir(parents=True)
    remove_old(checkpoints, keep=1, keep_every=None)
    assert left(checkpoints) == [30]


def test_a_replayed_child_has_no_weights_and_needs_none(checkpoints: Path) -> None:
    folder = child(checkpoints, "replayed")
    start = json.loads((folder / "journal.jsonl").read_text())
    del start["preset"]
    (folder / "journal.jsonl").write_text(f"{json.dumps(start)}\n")
    remove_old(checkpoints, keep=1, keep_every=None)
    assert left(checkpoints) == [30]


def test_beside_a_journal_that_cannot_be_read_nothing_is_removed_and_it_is_said(checkpoints: Path) -> None:
    (child(checkpoints, "broken") / "journal.jsonl").write_text("{\n")
    (warning,) = remove_old(checkpoints, keep=1, keep_every=None)
    assert warning.startswith("warning: line 1 of the journal of run 'broken' is damaged")
    assert left(checkpoints) == [10, 20, 30]


def test_while_another_run_reads_everything_stays_and_goes_the_next_time(checkpoints: Path) -> None:
    with reading(checkpoints):
        remove_old(checkpoints, keep=1, keep_every=None)
        assert left(checkpoints) == [10, 20, 30]
    remove_old(checkpoints, keep=1, keep_every=None)
    assert left(checkpoints) == [30]


def test_whoever_comes_to_read_waits_for_a_removal_to_end(checkpoints: Path) -> None:
    removing = os.open(checkpoints, os.O_RDONLY)
    fcntl.flock(removing, fcntl.LOCK_EX)
    reader_in = threading.Event()

    def read() -> None:
        with reading(checkpoints):
            reader_in.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert not reader_in.wait(0.1)
    os.close(removing)
    assert reader_in.wait(10)
    reader.join()
