"""`dataprep.export`: byte for byte what the other tools read, and nothing of anybody's is harmed."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import byte_ranks, run_in
from foreign import read_datatrove, read_dolma, read_llmc, read_megatron, read_nanogpt
from talks import write_talk_source

from dataprep import export, foreign_export, shards
from dataprep.bins import open_document_ends, open_loss, read_receipt
from dataprep.errors import DataError, UsageError
from dataprep.foreign_formats import LLMC_MAX_TOKENS
from dataprep.paths import Paths
from dataprep.vocab_store import load_vocab, publish_vocab

FORMATS = ("nanogpt", "llmc", "megatron", "datatrove", "dolma")
KILL_AT = Path(__file__).parents[1] / "crash" / "kill_at.py"
END = 260  # of the tests' vocabulary


@pytest.fixture(scope="module")
def talking_root(encoded_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """alpha (3 + 1 shards of text with empty documents) and talks (1 + 1, with roles). Do not change it."""
    root = tmp_path_factory.mktemp("talking") / "root"
    shutil.copytree(encoded_root, root)
    write_talk_source(root)
    return root


def put(root: Path, to: str, folder: Path, *more: str, source: str = "alpha") -> None:
    assert run_in(root, export.main, "--source", source, "--to", to, *more, str(folder)) == 0


def held(root: Path, source: str, shard: str) -> tuple[Path, Any, list[list[int]]]:
    """The folder, the receipt and the documents with tokens of one of our shards."""
    folder = Paths(root=root).bins("tiny-bpe", source)
    receipt = read_receipt(folder / f"{shard}.json")
    ends = open_document_ends(folder, receipt).astype(np.int64)
    tokens = np.fromfile(folder / f"{shard}.bin", "<u2")
    return folder, receipt, [some.tolist() for some in np.split(tokens, ends)[:-1] if len(some)]


def state(folder: Path) -> dict[str, tuple[int, int]]:
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".quern-export.lock"]
    return {str(file.relative_to(folder)): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in state(folder)}


def test_nanogpt_gets_one_file_a_split_linked_where_it_is_one_bin(talking_root: Path, tmp_path: Path) -> None:
    put(talking_root, "nanogpt", tmp_path / "out")
    folder, _, held_out = held(talking_root, "alpha", "shard_00003")
    assert (tmp_path / "out/val.bin").samefile(folder / "shard_00003.bin")
    assert read_nanogpt(tmp_path / "out/val.bin", END) == held_out
    wanted = [document for i in range(3) for document in held(talking_root, "alpha", f"shard_{i:05d}")[2]]
    assert read_nanogpt(tmp_path / "out/train.bin", END) == wanted


def test_llmc_gets_a_header_and_the_end_token_before_each_document(talking_root: Path, tmp_path: Path) -> None:
    put(talking_root, "llmc", tmp_path / "out")
    names = sorted(file.name for file in (tmp_path / "out").glob("*.bin"))
    assert names == [f"alpha_train_{i:06d}.bin" for i in range(3)] + ["alpha_val_000000.bin"]
    for i in range(3):
        wanted = held(talking_root, "alpha", f"shard_{i:05d}")[2]
        assert read_llmc(tmp_path / f"out/alpha_train_{i:06d}.bin", END) == wanted


def test_a_shard_too_long_for_an_llmc_header_becomes_parts_of_whole_documents(
    talking_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LLMC_MAX_TOKENS == 2**31 - 1
    monkeypatch.setattr(foreign_export, "LLMC_MAX_TOKENS", 1000)
    monkeypatch.setattr(foreign_export, "_BLOCK_BYTES", 64)
    put(talking_root, "llmc", tmp_path / "out", "--split", "holdout")
    parts = sorted((tmp_path / "out").glob("alpha_val_*.bin"))
    assert len(parts) > 3
    assert all(part.stat().st_size <= 1024 + 2000 for part in parts)
    documents = [document for part in parts for document in read_llmc(part, END)]
    assert documents == held(talking_root, "alpha", "shard_00003")[2]


def test_a_document_longer_than_a_part_is_cut_and_no_token_is_lost() -> None:
    assert list(foreign_export.cut_parts(np.array([2, 12, 13]), 4)) == [(0, 2), (2, 6), (6, 10), (10, 13)]


def test_megatron_gets_the_bin_and_an_index_of_documents_that_have_tokens(talking_root: Path, tmp_path: Path) -> None:
    put(talking_root, "megatron", tmp_path / "out")
    for split, shard in (("train", "shard_00001"), ("holdout", "shard_00003")):
        folder, _, wanted = held(talking_root, "alpha", shard)
        assert read_megatron(tmp_path / "out" / split / shard) == wanted
        assert (tmp_path / "out" / split / f"{shard}.bin").samefile(folder / f"{shard}.bin")


def test_datatrove_gets_ends_loss_and_metadata(talking_root: Path, tmp_path: Path) -> None:
    put(talking_root, "datatrove", tmp_path / "out", source="talks")
    folder, receipt, wanted = held(talking_root, "talks", "shard_00000")
    file = tmp_path / "out/train/shard_00000.ds"
    documents, loss = read_datatrove(file)
    assert documents == wanted
    assert receipt.empty_documents > 0  # of which its index has none
    ours = open_loss(folder, receipt)
    assert ours is not None
    assert loss is not None
    assert loss.tolist() == ours.tolist()
    assert Path(f"{file}.loss").samefile(folder / "shard_00000.loss")
    assert Path(f"{file}.metadata").read_text() == f"tiny-bpe|2\n{receipt.tokens}\n{receipt.tokens}.0 T"


def test_datatrove_gets_our_document_ends_themselves_where_none_is_empty(talking_root: Path, tmp_path: Path) -> None:
    put(talking_root, "datatrove", tmp_path / "out", "--split", "holdout", source="talks")
    folder, _, _ = held(talking_root, "talks", "shard_00001")
    assert (tmp_path / "out/holdout/shard_00001.ds.index").samefile(folder / "shard_00001.docs")


def test_dolma_gets_a_line_for_each_document_with_its_row_in_the_file(talking_root: Path, tmp_path: Path) -> None:
    put(talking_root, "dolma", tmp_path / "out")
    folder, receipt, wanted = held(talking_root, "alpha", "shard_00000")
    documents, rows = read_dolma(tmp_path / "out/train/shard_00000.npy")
    assert documents == wanted
    ends = open_document_ends(folder, receipt).astype(np.int64)
    with_tokens = np.flatnonzero(np.diff(ends, prepend=0))
    assert [row[2:] for row in rows] == [
        [f"alpha/shard_00000/{i}", "shard_00000.parquet", str(i + 1)] for i in with_tokens.tolist()
    ]


@pytest.mark.parametrize("to", FORMATS)
def test_the_same_command_again_writes_nothing_and_the_record_names_every_file_by_its_hash(
    to: str, talking_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataprep.hashing import sha256_file

    put(talking_root, to, tmp_path / "out")
    before, record = state(tmp_path / "out"), json.loads((tmp_path / "out/quern-export.json").read_text())
    assert record["complete"] is True
    assert {file["name"] for file in record["files"]} == before.keys() - {"quern-export.json"}
    for file in record["files"]:
        assert sha256_file(tmp_path / "out" / file["name"]) == file["sha256"]
    put(talking_root, to, tmp_path / "out")
    assert state(tmp_path / "out") == before
    assert "nothing was written" in capsys.readouterr().out


def test_where_hard_links_cannot_be_the_bytes_are_copied_and_it_is_said(
    talking_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(talking_root, "datatrove", tmp_path / "linked")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    put(talking_root, "datatrove", tmp_path / "copied")
    assert "copied: no hard links there" in capsys.readouterr().out
    linked, copied = contents(tmp_path / "linked"), contents(tmp_path / "copied")
    assert {n: c for n, c in linked.items() if ".ds" in n} == {n: c for n, c in copied.items() if ".ds" in n}
    assert "hard links" not in (tmp_path / "copied/README.md").read_text()
    assert "hard links to bins" in (tmp_path / "linked/README.md").read_text()


def test_copies_asked_for_share_no_bytes_with_our_bins(talking_root: Path, tmp_path: Path) -> None:
    put(talking_root, "megatron", tmp_path / "out", "--copy")
    assert all(file.stat().st_nlink == 1 for file in (tmp_path / "out").rglob("*") if file.is_file())


def test_a_changed_shard_is_exported_again_and_what_is_no_longer_asked_for_is_taken_away(
    talking_root: Path, tmp_path: Path
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    shutil.copytree(talking_root, root)
    put(root, "megatron", out)
    write = root / "alpha/shard_00000.parquet"
    shutil.copy(root / "alpha/shard_00001.parquet", write)
    asked = ["--source", "alpha", "--n", "3", "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
    assert run_in(root, shards.main, *asked) == 0
    put(root, "megatron", out)
    assert read_megatron(out / "train/shard_00000") == held(root, "alpha", "shard_00001")[2]
    put(root, "megatron", out, "--split", "train")
    assert list((out / "holdout").glob("*")) == []
    assert len(list((out / "train").glob("*.bin"))) == 3


@pytest.mark.parametrize("name", ["train.bin", "README.md", "quern-export.json"])
def test_a_file_that_is_not_ours_is_never_overwritten(name: str, talking_root: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match=name):
        put(talking_root, "nanogpt", tmp_path)
    assert (tmp_path / name).read_text() == "{}"
    assert not (tmp_path / "val.bin").exists()


def test_unfinished_files_of_other_programs_stay_where_they_lie(talking_root: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    theirs = [tmp_path / ".film.mkv.part", tmp_path / "train" / ".data.5fz.part"]
    for file in theirs:
        file.write_text("half")
    orphan = tmp_path / "train" / ".shard_00000.bin.5fz.part"
    orphan.write_text("of a killed export")
    put(talking_root, "megatron", tmp_path)
    assert [file.exists() for file in (*theirs, orphan)] == [True, True, False]


def test_an_export_killed_at_its_very_end_is_tidied_though_nothing_is_left_to_write(
    talking_root: Path, tmp_path: Path
) -> None:
    put(talking_root, "nanogpt", tmp_path)
    second_name = tmp_path / ".quern-export.json.5fz.part" / "quern-export.json"
    second_name.parent.mkdir()
    second_name.write_text("of the claim that the record has replaced")
    put(talking_root, "nanogpt", tmp_path)
    assert not second_name.parent.exists()


def test_an_exported_file_that_somebody_changed_is_not_overwritten(talking_root: Path, tmp_path: Path) -> None:
    put(talking_root, "nanogpt", tmp_path, "--copy")
    (tmp_path / "train.bin").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"train\.bin"):
        put(talking_root, "nanogpt", tmp_path)
    assert (tmp_path / "train.bin").read_bytes() == b"mine"


def test_a_folder_holds_one_export(talking_root: Path, tmp_path: Path) -> None:
    put(talking_root, "nanogpt", tmp_path)
    with pytest.raises(UsageError, match="another export"):
        put(talking_root, "nanogpt", tmp_path, source="talks")
    with pytest.raises(UsageError, match="a folder of its own"):
        put(talking_root, "nanogpt", talking_root / "data/bins/out")


def test_a_record_that_names_files_elsewhere_takes_nothing_away(talking_root: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    out = tmp_path / "out"
    put(talking_root, "nanogpt", out)
    record = json.loads((out / "quern-export.json").read_text())
    record["files"].append({"name": "../precious", "bytes": 4, "sha256": ""})
    (out / "quern-export.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="no record"):
        put(talking_root, "nanogpt", out, "--split", "train")
    assert (tmp_path / "precious").exists()


def test_bytes_that_are_not_those_of_the_receipt_are_not_copied(talking_root: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    shutil.copytree(talking_root, root)
    file = root / "data/bins/tiny-bpe/alpha/shard_00001.bin"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    with pytest.raises(DataError, match="not what its receipt says"):
        put(root, "llmc", out)
    assert not (out / "alpha_train_000001.bin").exists()
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DataError, match="not what its receipt says"):
        put(root, "nanogpt", out / "other")


def test_loss_that_a_format_cannot_carry_is_said(
    talking_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(talking_root, "megatron", tmp_path / "out", source="talks")
    assert "no loss mask" in capsys.readouterr().out
    put(talking_root, "datatrove", tmp_path / "other", source="talks")
    assert "no loss mask" not in capsys.readouterr().out


@pytest.mark.parametrize(("step", "turn"), [("written", 2), ("synced", 4), ("renamed", 3)])
def test_killed_while_it_publishes_the_same_command_completes(
    step: str, turn: int, talking_root: Path, tmp_path: Path
) -> None:
    put(talking_root, "datatrove", tmp_path / "undisturbed", source="talks")
    out = tmp_path / "out"
    done = subprocess.run(
        [
            sys.executable,
            str(KILL_AT),
            step,
            str(turn),
            "dataprep.export",
            "--source",
            "talks",
            "--to",
            "datatrove",
            out,
        ],
        env=os.environ | {"DATAPREP_ROOT": str(talking_root)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert json.loads((out / "quern-export.json").read_text())["complete"] is False
    put(talking_root, "datatrove", out, source="talks")
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert list(out.rglob(".*.part")) == []


def test_an_export_of_nothing_says_what_is_missing(tmp_path: Path, talking_root: Path) -> None:
    with pytest.raises(UsageError, match="no source is called"):
        put(talking_root, "nanogpt", tmp_path, source="nobody")
    publish_vocab(Paths(root=tmp_path / "root"), "tiny-bpe", byte_ranks(), origin="made by the tests")
    assert load_vocab(Paths(root=tmp_path / "root"), "tiny-bpe").end_id == END
    with pytest.raises(DataError, match="nothing of 'fineweb-edu'"):
        put(tmp_path / "root", "nanogpt", tmp_path / "out", "--tokenizer", "tiny-bpe", source="fineweb-edu")
