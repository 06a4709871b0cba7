"""Full disks and failing ones, for real: small file systems, file size limits, system calls that strace lets fail."""

import errno
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import run_in
from torture import disk, errors
from torture.verbs import begin
from training import here, records, settle

from dataprep import pack, shards, space
from dataprep.bins import find_receipts, read_receipt
from dataprep.errors import EnvironmentProblem
from dataprep.listing import ListedFile, Listing
from dataprep.paths import Paths
from dataprep.plan import PLAN_BYTES_PER_SEGMENT
from dataprep.publish import publish_bytes, publishing_folder
from dataprep.recipe import load_recipe
from dataprep.shard_space import estimate_bin_bytes
from dataprep.sources import load_catalogue
from train import saving
from train.export import __main__ as export
from train.room import count_new


class Usage(NamedTuple):
    """What `shutil.disk_usage` says, as far as anyone asks."""

    free: int


class Roots:
    """For each verb, the root that it finds and the one that an undisturbed run leaves; made when asked for."""

    def __init__(self, work: Path) -> None:
        self._work, self._before = work, begin(work, ["shards", "pack", "train"], n_documents=40)
        self._after: dict[str, Path] = {}

    def __getitem__(self, verb: str) -> tuple[Path, Path]:
        if verb not in self._after:
            self._after[verb] = disk.wanted_after(verb, self._before[verb], self._work / f"after-{verb}")
        return self._before[verb], self._after[verb]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    """Roots that every test copies."""
    return Roots(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Where a file system of a chosen size is mounted."""
    if why := disk.why_no_disk(tmp_path / "disk"):
        pytest.skip(why)
    return tmp_path / "disk"


@pytest.mark.parametrize(("verb", "n_bytes"), [("shards", -220_000), ("pack", 100_000)])
def test_a_verb_on_a_full_disk_says_what_it_needs_and_succeeds_once_there_is_room(
    verb: str, n_bytes: int, roots: Roots, small: Path
) -> None:
    assert disk.fill_up(verb, *roots[verb], small, n_bytes) == "reported"


def test_training_on_a_disk_that_fills_up_keeps_its_checkpoints_and_goes_on_once_there_is_room(
    roots: Roots, small: Path
) -> None:
    assert disk.fill_up_training(*roots["train"], small) == "reported"


def test_a_file_that_may_not_grow_is_named_and_the_same_command_goes_on_without_the_limit(
    roots: Roots, tmp_path: Path
) -> None:
    assert disk.cut_off("shards", *roots["shards"], tmp_path / "root", 9_000) == "reported"


@pytest.mark.parametrize(
    ("verb", "call", "when"),
    [("shards", "fsync", 8), ("pack", "rename", 1), ("pack", "write", 3)],
)
def test_a_file_whose_write_fails_is_not_published_and_not_synced_again(
    verb: str, call: str, when: int, roots: Roots, tmp_path: Path
) -> None:
    if why := errors.why_no_strace(tmp_path / "trying"):
        pytest.skip(why)
    failed = errors.fail(verb, *roots[verb], tmp_path / "root", call, error=errors.CALLS[call], when=when)
    assert failed == "reported"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_name_whose_folder_could_not_be_synced_is_taken_back(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a shard's receipt would stand, and the next command would trust what may not be on the disk."""
    real = os.fsync

    def fail(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path:
            raise OSError(errno.EIO, "as the kernel says it")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    publish = publish_file if kind == "file" else publish_folder
    with pytest.raises(OSError, match="as the kernel says it") as refused:
        publish(tmp_path / "a")
    assert refused.value.filename == str(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_an_export_onto_a_full_disk_says_what_it_needs_and_leaves_nothing(root: Path, small: Path) -> None:
    here("--run", "run", "--tokens", "512")
    with disk.small_disk(small, 64 << 10):
        asked = ["--run", "run", "--to", "hf", "--no-verify", str(small / "out")]
        with pytest.raises(EnvironmentProblem, match=r"bytes free, wanted: [\d,]+ bytes free"):
            export.main(asked)
        assert list(small.iterdir()) == []
        disk.make_room(small)
        assert export.main(asked) == 0
    assert (root / "runs/run").exists()


def test_shards_are_refused_before_the_first_when_their_bins_will_not_fit(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(roots["shards"][0], tmp_path / "root"))
    listed = sum(file.stat().st_size for file in (root / "notes").iterdir())
    leave_free(monkeypatch, listed - 1, asked_of=root)
    asked = ["--source", "notes", "--n", "2", "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
    with pytest.raises(EnvironmentProblem, match=rf"{listed - 1:,} bytes free, wanted: {listed:,} bytes") as refused:
        run_in(root, shards.main, *asked)
    assert refused.value.what.endswith(f"notes: 0 bytes still to fetch and about {listed:,} of bins")
    assert not list(root.glob("data/bins/*/*/*.bin"))
    leave_free(monkeypatch, listed, asked_of=root)
    assert run_in(root, shards.main, *asked) == 0


def test_once_a_source_has_bins_the_estimate_is_its_own_ratio(root: Path) -> None:
    paths = Paths(root=root)
    receipts = [read_receipt(file) for file in find_receipts(paths, "tiny-bpe", "alpha")]
    source = load_catalogue(root / "my.toml")["alpha"]
    listing = Listing(source=source, revision=None, files=())
    file = ListedFile(shard="next", split="train", name="next.parquet", bytes=receipts[0].file.bytes)
    made, one = estimate_bin_bytes(listing, [file], receipts), sum(fact.bytes for fact in receipts[0].files)
    assert abs(made - one) < one / 5
    assert estimate_bin_bytes(listing, [file], []) == file.bytes


def test_a_plan_that_will_not_fit_is_refused_before_it_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_free(monkeypatch, 100, asked_of=root)
    with pytest.raises(EnvironmentProblem, match=r"100 bytes free, wanted: [0-9,]+ bytes") as refused:
        pack.main(["--mix", "1", "--sources", "alpha", "--name", "more", "--seq-len", "64"])
    assert "too small for the plan of 'more'" in refused.value.what
    assert not (root / "manifests/recipes/more.toml").exists()


def test_the_plans_estimate_is_near_what_plans_take(root: Path) -> None:
    recipe = load_recipe(Paths(root=root), "mix")
    assert recipe.plan_bytes < 2 * PLAN_BYTES_PER_SEGMENT * recipe.segments + 4096


def test_a_run_whose_checkpoints_will_not_fit_is_refused_before_its_first_step(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_free(monkeypatch, 10_000, asked_of=root)
    with pytest.raises(EnvironmentProblem, match=r"10,000 bytes free, wanted: [0-9,]+ bytes") as refused:
        here("--checkpoint-every", "1")
    assert "3 checkpoints of run 'mix-nano'" in refused.value.what
    assert "--keep 1" in refused.value.fix
    assert records(root, "mix-nano", "start") == []
    one = int(re.findall(r"([0-9,]+) bytes each", refused.value.what)[0].replace(",", ""))
    monkeypatch.undo()
    settle(monkeypatch, root)
    here("--tokens", "512")
    saved = sum(file.stat().st_size for file in (root / "runs/mix-nano/checkpoints").rglob("*.*"))
    assert one <= saved <= 1.1 * one + 50_000


@pytest.mark.parametrize(
    ("n_steps", "keep", "keep_every", "n_held", "wanted"),
    [(0, 2, None, 0, 0), (3, 2, None, 0, 1), (100, 2, None, 0, 3), (100, 2, None, 2, 1), (100, 2, 20, 2, 6)],
)
def test_checkpoints_to_come_are_counted_at_the_fullest_moment(
    n_steps: int, keep: int, keep_every: int | None, n_held: int, wanted: int
) -> None:
    assert count_new(n_steps, every=10, keep=keep, keep_every=keep_every, n_held=n_held) == wanted


def publish_file(file: Path) -> None:
    publish_bytes(file, b"whole")


def publish_folder(folder: Path) -> None:
    with publishing_folder(folder) as part:
        (part / "file").write_bytes(b"whole")


def leave_free(monkeypatch: pytest.MonkeyPatch, n_bytes: int, *, asked_of: Path) -> None:
    """The file system of `asked_of` has so much left; who asks about another one has made a mistake."""

    def usage(folder: Path) -> Usage:
        assert folder.is_relative_to(asked_of), folder
        return Usage(free=n_bytes)

    monkeypatch.setattr(space.shutil, "disk_usage", usage)


def test_an_old_checkpoint_that_a_failing_disk_kept_goes_when_the_same_command_is_repeated(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was whole by then: nothing was trained or saved again, and nothing was removed."""
    flags = ("--run", "run", "--checkpoint-every", "1", "--keep", "1", "--tokens", "1024")
    real = saving.remove_old

    def fail_at_the_last(checkpoints: Path, **rules: int) -> list[str]:
        if (checkpoints / "step_00000002").exists():
            raise OSError(errno.EIO, "as the kernel says it")
        return real(checkpoints, **rules)

    with monkeypatch.context() as failing:
        failing.setattr(saving, "remove_old", fail_at_the_last)
        with pytest.raises(EnvironmentProblem, match="an old checkpoint could not be removed"):
            here(*flags)
    here(*flags)
    assert [folder.name for folder in (root / "runs/run/checkpoints").glob("step_*")] == ["step_00000002"]
