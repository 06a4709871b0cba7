"""`dataprep.import`: exported and imported back, the bins are equal; whatever is imported, our invariants hold."""

import importlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_in
from talks import write_talk_source

from dataprep import explain, export, foreign_import, index, pack, show, verify
from dataprep.bins import read_receipt
from dataprep.errors import DataError, UsageError
from dataprep.foreign_formats import pack_llmc_header, pack_megatron_index
from dataprep.paths import Paths
from dataprep.sql import ask

bring_in = importlib.import_module("dataprep.import")
KILL_AT = Path(__file__).parents[1] / "crash" / "kill_at.py"
END = 260  # of the tests' vocabulary, which ends with the padding's id 271
SUFFIX = {"nanogpt": ".bin", "llmc": ".bin", "megatron": ".bin", "datatrove": ".ds"}


@pytest.fixture(scope="module")
def talking_root(encoded_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """alpha (3 + 1 shards of text with empty documents) and talks (1 + 1, with roles). Do not change it."""
    root = tmp_path_factory.mktemp("talking") / "root"
    shutil.copytree(encoded_root, root)
    write_talk_source(root)
    return root


@pytest.fixture
def root(encoded_root: Path, tmp_path: Path) -> Path:
    """A root with the vocabulary and nothing else."""
    shutil.copytree(encoded_root / "data/vocab", tmp_path / "root/data/vocab")
    return tmp_path / "root"


def bring(root: Path, from_: str, *files: Path | str, source: str = "brought") -> int:
    asked = ["--from", from_, "--source", source, "--tokenizer", "tiny-bpe"]
    return run_in(root, bring_in.main, *asked, *map(str, files))


def receipt_of(root: Path, shard: str, source: str = "brought") -> Any:
    return read_receipt(Paths(root=root).bins("tiny-bpe", source) / f"{shard}.json")


def read(root: Path, source: str, shard: str, suffix: str) -> np.ndarray:
    dtype = {"bin": "<u2", "docs": "<u8", "loss": "u1"}[suffix]
    return np.fromfile(root / f"data/bins/tiny-bpe/{source}/{shard}.{suffix}", dtype)


def tokens_file(folder: Path, tokens: list[int], name: str = "train.bin", *, head: bytes = b"") -> Path:
    file = folder / name
    file.write_bytes(head + np.array(tokens, "<u2").tobytes())
    return file


def check(root: Path) -> None:
    assert run_in(root, verify.main, "--full") == 0


@pytest.mark.parametrize("source", ["alpha", "talks"])
@pytest.mark.parametrize("format_", SUFFIX)
def test_what_is_exported_and_imported_back_is_equal(
    format_: str, source: str, talking_root: Path, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run_in(talking_root, export.main, "--source", source, "--to", format_, str(out)) == 0
    files = sorted(out.rglob(f"*{SUFFIX[format_]}"), key=lambda file: (file.parent.name == "holdout", file.name))
    held_out = next(file.stem for file in files if "val" in file.stem or file.parent.name == "holdout")
    assert bring(root, format_, *files, "--holdout", held_out) == 0
    check(root)
    shards = [f"shard_{i:05d}" for i in range(4 if source == "alpha" else 2)]
    for suffix in ("bin", "docs", *["loss"] * (source == "talks" and format_ == "datatrove")):
        ours = [read(talking_root, source, shard, suffix) for shard in shards]
        theirs = [read(root, "brought", file.stem, suffix) for file in files]
        if suffix == "docs":  # lengths: no format has documents without tokens, nanoGPT's file is of several shards
            ours, theirs = ([np.diff(ends, prepend=np.uint64(0)) for ends in some] for some in (ours, theirs))
            ours = [lengths[lengths > 0] for lengths in ours]
        assert np.array_equal(np.concatenate(ours), np.concatenate(theirs))
    assert receipt_of(root, held_out).split == "holdout"
    before = [receipt_of(talking_root, shard, source) for shard in shards]
    after = [receipt_of(root, file.stem) for file in files]
    assert sum(receipt.tokens for receipt in before) == sum(receipt.tokens for receipt in after)
    assert sum(receipt.end_tokens for receipt in before) == sum(receipt.end_tokens for receipt in after)
    if source == "alpha":
        assert sum(receipt.text_bytes for receipt in before) == sum(receipt.text_bytes for receipt in after)


def test_an_imported_source_is_packed_trained_on_shown_explained_and_asked_about(
    talking_root: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training import here, settle

    settle(monkeypatch, root)
    assert run_in(talking_root, export.main, "--source", "alpha", "--to", "nanogpt", str(tmp_path / "out")) == 0
    assert bring(root, "nanogpt", tmp_path / "out", "--holdout", "val", "--licence", "MIT") == 0
    assert pack.main(["--mix", "1", "--sources", "brought", "--name", "mix", "--seq-len", "64", "--seed", "1"]) == 0
    here("--run", "first", "--tokens", "1024")
    check(root)
    capsys.readouterr()
    assert show.main(["brought", "--document", "0", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert show.main(["brought", "--document", "0"]) == 0
    assert "".join(run["text"] for run in shown["runs"][:-1]).strip() in capsys.readouterr().out
    assert explain.main(["--run", "first", "--step", "1", "--row", "0"]) == 0
    explained = capsys.readouterr().out
    assert "train.bin" in explained
    assert "brought: imported" in explained
    paths = Paths(root=root)
    assert index.main([]) == 0
    assert ask(paths, "SELECT kind, licence, holdout FROM sources")[1] == [("imported", "MIT", "val")]
    assert ask(paths, "SELECT asked, held FROM expected_shards WHERE source = 'brought'")[1] == [(2, 2)]
    assert ask(paths, "SELECT DISTINCT difference FROM conservation")[1] == [(0,)]


def test_other_tools_streams_become_documents_that_end_once(root: Path, tmp_path: Path) -> None:
    file = tokens_file(tmp_path, [1, 2, END, END, 3, END, 4])
    assert bring(root, "nanogpt", file) == 0
    assert read(root, "brought", "train", "bin").tolist() == [1, 2, END, 3, END, 4, END]
    assert read(root, "brought", "train", "docs").tolist() == [3, 3, 5, 7]
    receipt = receipt_of(root, "train")
    assert (receipt.documents, receipt.empty_documents, receipt.text_bytes) == (4, 1, 4)
    assert (receipt.origin.kind, receipt.origin.layout, receipt.file.name) == ("imported", "nanogpt", "train.bin")
    check(root)


def test_an_llmc_shard_that_begins_inside_a_document_keeps_it(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = [1, 2, END, 3, END, END]
    file = tokens_file(tmp_path, cut, "cut.bin", head=pack_llmc_header(len(cut)))
    whole = [END, 1, END, 2, 3]
    other = tokens_file(tmp_path, whole, "whole.bin", head=pack_llmc_header(len(whole)))
    alone = tokens_file(tmp_path, [END, 1], "alone.bin", head=pack_llmc_header(2))
    assert bring(root, "llmc", file, other, alone, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["added_ends"], report["lone_ends"]) == (0, 1)
    assert read(root, "brought", "alone", "bin").tolist() == [1, END]
    assert read(root, "brought", "cut", "bin").tolist() == [1, 2, END, 3, END]
    assert read(root, "brought", "whole", "bin").tolist() == [1, END, 2, 3, END]
    check(root)


def test_an_index_is_honoured_and_its_empty_documents_kept(root: Path, tmp_path: Path) -> None:
    file = tokens_file(tmp_path, [1, 2, 3, END, 4], "a.ds")
    (tmp_path / "a.ds.index").write_bytes(np.array([2, 2, 4, 5], "<u8").tobytes())
    (tmp_path / "a.ds.loss").write_bytes(bytes([0, 0, 1, 1, 1]))
    assert bring(root, "datatrove", file) == 0
    assert read(root, "brought", "a", "bin").tolist() == [1, 2, END, 3, END, 4, END]
    assert read(root, "brought", "a", "docs").tolist() == [3, 3, 5, 7]
    assert read(root, "brought", "a", "loss").tolist() == [0, 0, 0, 1, 1, 1, 0]
    assert receipt_of(root, "a").unsupervised_documents == 1
    check(root)


def test_documents_of_several_megatron_sequences_are_one_document(root: Path, tmp_path: Path) -> None:
    file = tokens_file(tmp_path, [1, 2, 3, 4], "m.bin")
    idx = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 3, 3) + np.array([1, 1, 2], "<i4").tobytes()
    idx += np.array([0, 2, 4], "<i8").tobytes() + np.array([0, 2, 3], "<i8").tobytes()
    (tmp_path / "m.idx").write_bytes(idx)
    assert bring(root, "megatron", file.with_suffix(".idx")) == 0
    assert read(root, "brought", "m", "bin").tolist() == [1, 2, END, 3, 4, END]
    check(root)


def _megatron(change: Any) -> dict[str, bytes]:
    return {"a.bin": bytes(8), "a.idx": change(pack_megatron_index(np.array([2, 4])))}


BAD: dict[str, tuple[str, dict[str, bytes], str]] = {
    "odd": ("nanogpt", {"a.bin": bytes(7)}, "an even number"),
    "empty": ("nanogpt", {"a.bin": b""}, "no tokens"),
    "llmc's header": ("nanogpt", {"a.bin": pack_llmc_header(2) + bytes(4)}, "a header of llm.c"),
    "no end token": ("nanogpt", {"a.bin": bytes(8)}, "no document ends"),
    "end tokens only": ("nanogpt", {"a.bin": struct.pack("<2H", END, END)}, "end tokens only"),
    "id out of the vocabulary": ("nanogpt", {"a.bin": struct.pack("<4H", 1, END, 2, 300)}, "id 300 at token 3"),
    "the padding": ("nanogpt", {"a.bin": struct.pack("<2H", 271, END)}, "id 271 at token 0"),
    "no magic": ("llmc", {"a.bin": bytes(1030)}, "magic 0"),
    "llama's magic": ("llmc", {"a.bin": struct.pack("<3i", 20240801, 7, 0) + bytes(1012)}, "tokens of 4 bytes"),
    "big-endian llmc": ("llmc", {"a.bin": struct.pack(">3i", 20240520, 1, 0) + bytes(1012)}, "big-endian"),
    "count too large": ("llmc", {"a.bin": pack_llmc_header(9) + bytes(4)}, "1,028 bytes"),
    "negative count": ("llmc", {"a.bin": pack_llmc_header(-2) + bytes(4)}, "1,028 bytes"),
    "short header": ("llmc", {"a.bin": pack_llmc_header(9)[:100]}, "100 bytes of header"),
    "no idx": ("megatron", {"a.bin": bytes(8)}, "there is no file"),
    "truncated idx": ("megatron", _megatron(lambda idx: idx[:-1]), "81 bytes"),
    "idx of a few bytes": ("megatron", _megatron(lambda idx: idx[:20]), "at least the 34"),
    "wrong idx magic": ("megatron", _megatron(lambda idx: b"X" + idx[1:]), "XMIDIDX"),
    "big-endian idx": ("megatron", _megatron(lambda idx: idx[:9] + struct.pack(">Q", 1) + idx[17:]), "big-endian"),
    "int32 tokens": ("megatron", _megatron(lambda idx: idx[:17] + b"\4" + idx[18:]), "dtype 4"),
    "lengths": ("megatron", _megatron(lambda idx: idx[:34] + b"\3" + idx[35:]), "sequences of 5 tokens"),
    "offsets": ("megatron", _megatron(lambda idx: idx[:46] + b"\2" + idx[47:]), "that do not follow"),
    "documents": ("megatron", _megatron(lambda idx: idx[:58] + b"\1" + idx[59:]), "documents from 1"),
    "index beyond": ("datatrove", {"a.ds": bytes(8), "a.ds.index": struct.pack("<Q", 5)}, "ends up to 5"),
    "index falls": ("datatrove", {"a.ds": bytes(8), "a.ds.index": struct.pack("<QQ", 3, 2)}, "ends up to 3"),
    "index torn": ("datatrove", {"a.ds": bytes(8), "a.ds.index": bytes(9)}, "9 bytes"),
    "loss short": ("datatrove", {"a.ds": bytes(8), "a.ds.loss": bytes(3)}, "3 bytes"),
    "loss no mask": ("datatrove", {"a.ds": struct.pack("<2H", 1, END), "a.ds.loss": b"\1\2"}, "up to 2"),
    "4 bytes": ("datatrove", {"a.ds": bytes(8), "a.ds.metadata": b"x|4\n2\n2 T"}, "tokens of 4 bytes"),
    "another count": ("datatrove", {"a.ds": bytes(8), "a.ds.metadata": b"x|2\n5\n5 T"}, "5 tokens"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_not_whole_is_refused_and_nothing_is_published(case: str, root: Path, tmp_path: Path) -> None:
    format_, files, seen = BAD[case]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as refused:
        bring(root, format_, tmp_path / next(iter(files)))
    assert seen in str(refused.value)
    assert list(root.rglob("*.bin")) == list(root.rglob("*.part")) == []


def test_one_text_without_any_end_token_is_imported_when_that_is_said(root: Path, tmp_path: Path) -> None:
    assert bring(root, "nanogpt", tokens_file(tmp_path, [1, 2, 3]), "--one-document") == 0
    assert read(root, "brought", "train", "bin").tolist() == [1, 2, 3, END]


def test_ids_are_checked_beyond_the_first_block(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_import, "_BLOCK_TOKENS", 2)
    with pytest.raises(DataError, match="id 300 at token 4"):
        bring(root, "nanogpt", tokens_file(tmp_path, [1, END, 2, END, 300, END]))
    assert list(root.rglob("train.*")) == []
    assert bring(root, "nanogpt", tokens_file(tmp_path, [1, 2, END, END, 3])) == 0
    assert read(root, "brought", "train", "bin").tolist() == [1, 2, END, 3, END]
    check(root)


def test_the_name_of_another_source_is_refused(talking_root: Path, tmp_path: Path) -> None:
    file = tokens_file(tmp_path, [1, END])
    for taken in ("alpha", "fineweb-edu"):
        with pytest.raises(UsageError, match="is taken by a source"):
            bring(talking_root, "nanogpt", file, source=taken)
    with pytest.raises(UsageError, match="known from: the catalogue"):
        bring(tmp_path, "nanogpt", file, "--catalogue", talking_root / "my.toml", source="beta")


def test_a_shard_is_never_replaced_by_another_files_tokens(root: Path, tmp_path: Path) -> None:
    file = tokens_file(tmp_path, [1, END])
    assert bring(root, "nanogpt", file) == 0
    (tmp_path / "other").mkdir()
    for tokens in ([2, END], [2, 3, END]):
        other = tokens_file(tmp_path / "other", tokens)
        os.utime(other, (0, 0))  # an old file, perhaps of the same size, is no less another one
        with pytest.raises(UsageError, match="from another file"):
            bring(root, "nanogpt", other)
    assert read(root, "brought", "train", "bin").tolist() == [1, END]
    with pytest.raises(UsageError, match="would make one shard"):
        bring(root, "nanogpt", file, tmp_path / "other/train.bin")
    with pytest.raises(UsageError, match="names what is not imported"):
        bring(root, "nanogpt", file, "--holdout", "val")


def test_who_edits_the_foreign_file_later_does_not_change_the_bin(root: Path, tmp_path: Path) -> None:
    file = tokens_file(tmp_path, [1, END])
    assert bring(root, "nanogpt", file) == 0
    with file.open("r+b") as opened:
        opened.write(bytes(4))
    check(root)


def test_the_same_command_again_makes_nothing_and_more_files_are_added(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tokens_file(tmp_path, [1, END]), tokens_file(tmp_path, [2, END], "more.bin")
    assert bring(root, "nanogpt", first) == 0
    before = (root / "data/bins/tiny-bpe/brought/train.bin").stat()
    capsys.readouterr()
    assert bring(root, "nanogpt", first, second, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["made"], report["held"], report["tokens"]) == (1, 2, 4)
    assert (root / "data/bins/tiny-bpe/brought/train.bin").stat().st_ino == before.st_ino
    (root / "data/bins/tiny-bpe/brought/more.json").write_text("torn")
    assert bring(root, "nanogpt", second) == 0
    (root / "data/bins/tiny-bpe/brought/train.bin").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"not what its receipt says\n.*\n.*dataprep\.import --from nanogpt --source brought"
    ):
        run_in(root, export.main, "--source", "brought", "--to", "dolma", str(tmp_path / "out"))
    assert bring(root, "nanogpt", first) == 0
    check(root)
    held = ask(Paths(root=root), "SELECT shard FROM asked_shards ORDER BY shard")[1]
    assert held == [("more",), ("train",)]


@pytest.mark.parametrize(("step", "turn"), [("synced", 1), ("written", 4), ("renamed", 3), ("published", 5)])
def test_killed_between_files_the_same_command_completes(
    step: str, turn: int, encoded_root: Path, root: Path, tmp_path: Path
) -> None:
    files = [tokens_file(tmp_path, [i, i + 1, END], f"part{i}.bin") for i in range(2)]
    command = [
        "dataprep.import",
        "--from",
        "nanogpt",
        "--source",
        "brought",
        "--tokenizer",
        "tiny-bpe",
        *map(str, files),
    ]
    environment = os.environ | {"DATAPREP_ROOT": str(root)}
    done = subprocess.run([sys.executable, str(KILL_AT), step, str(turn), *command], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert bring(root, "nanogpt", *files) == 0
    check(root)
    other = tmp_path / "undisturbed"
    shutil.copytree(encoded_root / "data/vocab", other / "data/vocab")
    assert bring(other, "nanogpt", *files) == 0
    for file in (other / "data").rglob("*"):
        if file.is_file():
            assert (root / file.relative_to(other)).read_bytes() == file.read_bytes()
    assert list((root / "data").rglob(".*.part")) == []
