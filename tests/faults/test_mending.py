"""What is printed for shards that another tool made: the fix, as printed, is pasted into a shell and mends them.

In:  a source of three imported files, one of them held out, and one fault in what is kept of it.
Holds: `verify` names the fault; its fix needs the folder that the files are in and nothing else.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import byte_ranks, run_in

from dataprep import pack, verify
from dataprep.bins import open_bin, read_receipt
from dataprep.errors import DataError, UsageError
from dataprep.paths import Paths
from dataprep.vocab_store import load_vocab, publish_vocab

IMPORT = "--from nanogpt --source owt --tokenizer tiny-bpe"
SHARDS = ("train0", "train1", "val")


def import_files(root: Path, *more: str) -> None:
    asked = [*IMPORT.split(), "--holdout", "val", "--licence", "MIT (old)", *more]
    subprocess.run(
        [sys.executable, "-m", "dataprep.import", *asked, *(f"{s}.bin" for s in SHARDS)], cwd=root, check=True
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The import, in the folder that the files are in."""
    root = tmp_path_factory.mktemp("imported")
    publish_vocab(Paths(root=root), "tiny-bpe", byte_ranks(), origin="made by the tests")
    end, rng = load_vocab(Paths(root=root), "tiny-bpe").end_id, np.random.default_rng(1)
    for shard in SHARDS:
        tokens = rng.integers(97, 122, 2_000).astype("<u2")
        tokens[99::100] = end
        tokens.tofile(root / f"{shard}.bin")
    import_files(root)
    assert run_in(root, pack.main, "--mix", "1", "--sources", "owt", "--name", "mix", "--seq-len", "64") == 0
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "root")
    monkeypatch.setenv("DATAPREP_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[60] ^= 1
    file.write_bytes(content)


BINS = "data/bins/tiny-bpe/owt"
FAULTS = {
    "a bin is gone": lambda: Path(BINS, "train0.bin").unlink(),
    "a bin was cut": lambda: Path(BINS, "train0.bin").write_bytes(b"aa"),
    "a bin rotted": lambda: flip(Path(BINS, "train0.bin")),
    "the ends rotted": lambda: flip(Path(BINS, "val.docs")),
    "a receipt is gone": lambda: Path(BINS, "train0.json").unlink(),
    "a held-out receipt rotted": lambda: flip(Path(BINS, "val.json")),
    "the request rotted": lambda: flip(Path("data/sources/owt.json")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_mends_an_imported_shard_can_be_pasted(fault: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in Path("data").rglob("*") if file.is_file()}
    FAULTS[fault]()
    assert verify.main(["--full"]) == 3
    fixes = [line.split("fix:", 1)[1] for line in capsys.readouterr().out.splitlines() if "fix:" in line]
    assert fixes
    assert not [fix for fix in fixes if "make shards" in fix]
    files = " ".join(f"{shard}.bin" for shard in SHARDS)
    pasted = fixes[0].replace("python", sys.executable, 1).replace("FILE…", files)  # the one thing it cannot know
    subprocess.run(pasted, shell=True, check=True, cwd=root)
    assert verify.main(["--full"]) == 0
    assert {file: file.read_bytes() for file in before} == before


def test_who_draws_from_or_opens_what_is_gone_is_told_the_import(root: Path) -> None:
    paths, receipt = Paths(root=root), read_receipt(root / BINS / "train0.json")
    Path(BINS, "train0.json").unlink()
    with pytest.raises(DataError) as refused:
        open_bin(paths, "tiny-bpe", "owt", "train0", tokens=receipt.tokens, bin_sha256=receipt.bin.sha256)
    assert refused.value.fix.startswith(f"python -m dataprep.import {IMPORT}")
    for file in Path(BINS).glob("*.json"):
        file.unlink()
    with pytest.raises(UsageError) as refused:
        pack.main(["--mix", "1", "--sources", "owt", "--name", "other", "--tokenizer", "tiny-bpe"])
    assert "dataprep.import --from FORMAT --source owt" in refused.value.fix
