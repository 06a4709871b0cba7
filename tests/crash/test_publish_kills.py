"""Killed at every step of every publication, the same command ends with the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import byte_ranks, run_in, sentences, write_source

from dataprep import pack, shards
from dataprep.paths import Paths
from dataprep.vocab_store import publish_vocab

KILL_AT = Path(__file__).with_name("kill_at.py")
STEPS = ("opened", "written", "synced", "renamed", "published")


def arguments(root: Path, verb: str) -> list[str]:
    if verb == "dataprep.shards":
        catalogue = str(root / "my.toml")
        return ["--source", "notes", "--n", "2", "--catalogue", catalogue, "--tokenizer", "tiny-bpe", "--workers", "1"]
    return ["--mix", "1", "--sources", "notes", "--name", "mix", "--seq-len", "32"]


def published(root: Path) -> dict[str, bytes]:
    """Everything under a final name, but for the database, which is derived and not equal byte for byte."""
    kept = [file for file in root.rglob("*") if file.is_file() and not file.name.startswith((".", "tokens.db"))]
    return {str(file.relative_to(root)): file.read_bytes() for file in kept}


def leftovers(root: Path) -> list[Path]:
    return list(root.rglob(".*.part"))


def killed(root: Path, verb: str, step: str, turn: int) -> bool:
    """Run `verb` until the `turn`th time it reaches `step`; False when it never did and ended by itself."""
    done = subprocess.run(
        [sys.executable, str(KILL_AT), step, str(turn), verb, *arguments(root, verb)],
        env=os.environ | {"DATAPREP_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {-signal.SIGKILL, 0}, done.stderr
    return done.returncode != 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(before shards, after shards, after pack), each a root of its own."""
    before = tmp_path_factory.mktemp("before") / "root"
    before.mkdir()
    write_source(before, "notes", [sentences(f"notes{i}", 40) for i in range(3)])
    publish_vocab(Paths(root=before), "tiny-bpe", byte_ranks(), origin="made by the tests")
    encoded = tmp_path_factory.mktemp("encoded") / "root"
    shutil.copytree(before, encoded)
    assert run_in(encoded, shards.main, *arguments(encoded, "dataprep.shards")) == 0
    packed = tmp_path_factory.mktemp("packed") / "root"
    shutil.copytree(encoded, packed)
    assert run_in(packed, pack.main, *arguments(packed, "dataprep.pack")) == 0
    return before, encoded, packed


@pytest.mark.parametrize("step", STEPS)
def test_shards_killed_at_a_publication_step_and_run_again_gives_the_same_bytes(
    step: str, undisturbed: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    before, encoded, _ = undisturbed
    root = tmp_path / "root"
    shutil.copytree(before, root)
    # The source's record, then bin, docs and receipt of three shards, then the database.
    n_kills = sum(killed(root, "dataprep.shards", step, turn) for turn in (1, 2, 3, 4))
    assert n_kills == 4
    assert run_in(root, shards.main, *arguments(root, "dataprep.shards")) == 0
    assert published(root) == published(encoded)
    assert leftovers(root) == []


@pytest.mark.parametrize("step", STEPS)
def test_pack_killed_at_a_publication_step_and_run_again_gives_the_same_bytes(
    step: str, undisturbed: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, encoded, packed = undisturbed
    root = tmp_path / "root"
    shutil.copytree(encoded, root)
    assert killed(root, "dataprep.pack", step, 1)  # the plan
    assert killed(root, "dataprep.pack", step, 2)  # the recipe, or what comes after it
    assert run_in(root, pack.main, *arguments(root, "dataprep.pack")) == 0
    assert published(root) == published(packed)
    assert leftovers(root) == []
