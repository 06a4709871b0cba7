"""Symbolic links in the place of files: to elsewhere they are followed; to nowhere, or in a circle, they are named.

In:  a root of two encoded sources and a plan, one file or folder of it made a link.
Holds: no command ends in a traceback, and none goes on with fewer files than it was asked for.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from dataprep import shards, verify
from dataprep.errors import DataError
from dataprep.paths import Paths

BINS = "data/bins/tiny-bpe/alpha"


def end_of(paths: Paths, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"dataprep.{verb}", *arguments]
    return subprocess.run(command, check=False, cwd=paths.root, capture_output=True, text=True)


def bring(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("DATAPREP_ROOT", str(paths.root))
    asked = ["--source", "alpha", "--n", "2", "--catalogue", str(paths.root / "my.toml"), "--tokenizer", "tiny-bpe"]
    return shards.main(asked)


@pytest.mark.parametrize("target", ["nowhere", "itself"])
@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("manifests/recipes/mix.toml", "verify"),
        ("manifests/recipes/mix.toml", "index"),
        ("data/sources/alpha.json", "verify"),
        (f"{BINS}/shard_00000.json", "verify"),
        (f"{BINS}/shard_00000.bin", "verify"),
        ("manifests/plans/mix.parquet", "verify"),
    ],
)
def test_a_link_to_nowhere_is_no_traceback(target: str, name: str, verb: str, paths: Paths) -> None:
    link = paths.root / name
    link.unlink()
    link.symlink_to(link.name if target == "itself" else "nowhere")
    ended = end_of(paths, verb)
    assert ended.returncode in {3, 5}
    assert "Traceback" not in ended.stderr
    assert link.name in ended.stdout + ended.stderr


@pytest.mark.parametrize("target", ["nowhere", "itself"])
def test_a_folder_of_bins_that_leads_nowhere_is_named(target: str, paths: Paths) -> None:
    link = paths.root / BINS
    link.rename(paths.root / "elsewhere")
    link.symlink_to(link.name if target == "itself" else "nowhere")
    asked = ("--source", "alpha", "--n", "2", "--catalogue", "my.toml", "--tokenizer", "tiny-bpe")
    ended = end_of(paths, "shards", *asked)
    assert (ended.returncode, "is a link that leads nowhere" in ended.stderr) == (5, True)


@pytest.mark.parametrize("name", ["alpha/shard_00000.parquet", "alpha"])
def test_a_local_source_is_not_read_without_what_its_links_lead_to(
    name: str, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shard 0 left out, the first two would be 1 and 2: as many as were asked for, and others."""
    link, elsewhere = paths.root / name, paths.root / "elsewhere"
    link.rename(elsewhere)
    link.symlink_to(elsewhere)
    assert bring(paths, monkeypatch) == 0
    elsewhere.rename(paths.root / "gone")
    with pytest.raises(DataError, match="leads nowhere") as refused:
        bring(paths, monkeypatch)
    assert str(link) in refused.value.fix


@pytest.mark.parametrize("name", [f"{BINS}/shard_00000.bin", BINS, "data/bins", "manifests/plans/mix.parquet"])
def test_what_lies_elsewhere_behind_a_link_is_as_good(
    name: str, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (paths.root / name).rename(tmp_path / "elsewhere")
    (paths.root / name).symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("DATAPREP_ROOT", str(paths.root))
    assert verify.main(["--full"]) == 0
    assert bring(paths, monkeypatch) == 0
