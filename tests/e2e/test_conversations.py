"""Conversations through the verbs: shards, --strict, tokens.db, verify, show, bpe."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import byte_ranks, run_in, write_parquet

from dataprep import shards, show, verify
from dataprep.bins import read_receipt
from dataprep.errors import DataError, UsageError
from dataprep.paths import SHIPPED_MANIFESTS, Paths
from dataprep.sealed import open_record
from dataprep.sql import ask
from dataprep.vocab_store import publish_vocab

ENTRY = '[talks]\nkind = "local"\npath = "talks"\nmessages = "messages"\nholdout = ["shard_00001"]\n'


def talk(*texts: str, roles: tuple[str, str] = ("user", "assistant")) -> list[dict[str, str]]:
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


TALKS: list[Any] = [
    talk("the mill?", "It grinds."),
    talk("only a question"),  # 1: unsupervised
    talk("one", "two", roles=("assistant", "user")),  # 2: does not alternate
    [],  # 3: empty
    talk("x", ""),  # 4: empty content
    talk("x", "y", roles=("user", "tool")),  # 5: unknown role
    talk("a", "b", roles=("assistant", "user")),  # 6: does not alternate
    None,  # 7: empty
    talk("<|user_end|>", "<|endoftext|>"),
]
BINS = "data/bins/tiny-bpe/talks"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A train shard with every kind of conversation and a held-out one that is all good, encoded."""
    (tmp_path / "talks").mkdir()
    (tmp_path / "my.toml").write_text(ENTRY)
    write_talks(tmp_path, "shard_00000", TALKS)
    write_talks(tmp_path, "shard_00001", [talk("held", "out")])
    publish_vocab(Paths(root=tmp_path), "tiny-bpe", byte_ranks(), origin="made by the tests")
    assert mill(tmp_path) == 0
    return tmp_path


def write_talks(root: Path, shard: str, talks: list[Any]) -> None:
    (root / f"talks/{shard}.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))


def mill(root: Path, *more: str) -> int:
    asked = ["--source", "talks", "--n", "1", "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
    return run_in(root, shards.main, *asked, *more)


def test_rows_stay_aligned_and_every_document_is_counted(root: Path) -> None:
    receipt = read_receipt(root / f"{BINS}/shard_00000.json")
    ends = np.fromfile(root / f"{BINS}/shard_00000.docs", dtype="<u8").astype(int)
    assert np.flatnonzero(np.diff(ends, prepend=0)).tolist() == [0, 1, 8]
    assert receipt.excluded == {"empty content": 1, "roles do not alternate": 2, "unknown role": 1}
    assert (receipt.documents, receipt.end_tokens, receipt.empty_documents) == (9, 3, 2)
    assert receipt.unsupervised_documents == 1
    assert receipt.loss
    loss = (root / f"{BINS}/shard_00000.loss").read_bytes()
    assert (receipt.loss.bytes, sum(loss)) == (receipt.tokens, receipt.loss_tokens)
    assert receipt.oracle.documents == 1


def test_what_was_left_out_is_printed_and_counted_in_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert mill(root) == 0
    assert (
        "left out: 4 documents (2 roles do not alternate, 1 empty content, 1 unknown role)" in capsys.readouterr().out
    )
    assert mill(root, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["excluded"] == {"empty content": 1, "roles do not alternate": 2, "unknown role": 1}
    assert told["unsupervised_documents"] == 1


def test_tokens_db_says_how_many_were_left_out_and_why(root: Path) -> None:
    counted = "SELECT shard, excluded_documents, unsupervised_documents FROM shards ORDER BY shard"
    assert ask(Paths(root=root), counted)[1] == [("shard_00000", 4, 1), ("shard_00001", 0, 0)]
    query = (SHIPPED_MANIFESTS / "queries/excluded_documents.sql").read_text()
    assert [(reason, documents) for _, _, reason, documents, _ in ask(Paths(root=root), query)[1]] == [
        ("excluded: roles do not alternate", 2),
        ("excluded: empty content", 1),
        ("excluded: unknown role", 1),
        ("held, but the assistant says nothing", 1),
    ]


def test_strict_makes_the_first_of_them_a_gap_and_keeps_what_is_held(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file.name: file.read_bytes() for file in (root / BINS).iterdir()}
    capsys.readouterr()
    assert mill(root, "--strict") == 3
    said = capsys.readouterr().err
    assert "shard_00000: row 2 cannot be learned from\n  seen: roles do not alternate" in said
    assert "1 of 2 shards are missing: shard_00000" in said
    assert {file.name: file.read_bytes() for file in (root / BINS).iterdir()} == before
    write_talks(root, "shard_00000", [talk("a", "b")])
    assert mill(root, "--strict") == 0


def test_the_same_file_under_another_layout_is_made_again_without_a_mask(root: Path) -> None:
    (root / "talks/shard_00000.jsonl").unlink()
    pq.write_table(
        pq.read_table(write_parquet(root / "one.parquet", ["some text"])), root / "talks/shard_00000.parquet"
    )
    (root / "my.toml").write_text(ENTRY.replace("messages =", "text =").replace('= "messages"', '= "text"'))
    (root / "talks/shard_00001.jsonl").write_text('{"text": "held"}\n')
    assert mill(root) == 0
    assert sorted(file.name for file in (root / BINS).glob("*.loss")) == []
    receipt = read_receipt(root / f"{BINS}/shard_00000.json")
    assert (receipt.loss, receipt.loss_tokens, receipt.tokens) == (None, 9, 9)


def failed(root: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> set[str]:
    capsys.readouterr()
    code = run_in(root, verify.main, "--json", *flags)
    names = {f["name"] for f in json.loads(capsys.readouterr().out) if not f["passed"]}
    assert code == (3 if names else 0)
    return names


def test_verify_passes_and_names_a_damaged_mask(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(root, capsys) == failed(root, capsys, "--full") == set()
    mask = root / f"{BINS}/shard_00000.loss"
    content = mask.read_bytes()
    mask.write_bytes(content[:-1] + b"\1")
    assert failed(root, capsys) == set()
    assert failed(root, capsys, "--full") == {"tokens = bin bytes / 2", "loss tokens are those of the mask"}
    mask.write_bytes(content[:-1])
    assert "tokens = bin bytes / 2" in failed(root, capsys)


@pytest.mark.parametrize("change", ["loss_tokens", "unsupervised_documents"])
def test_verify_recounts_what_a_receipt_says_of_the_mask(
    root: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / f"{BINS}/shard_00000.json"
    value = open_record(file.read_bytes())
    file.write_text(json.dumps(value | {change: value[change] + 1}))
    assert "loss tokens are those of the mask" in failed(root, capsys, "--full")


def test_verify_notices_a_document_that_nobody_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / f"{BINS}/shard_00000.json"
    value = open_record(file.read_bytes())
    value["excluded"].pop("unknown role")
    file.write_text(json.dumps(value))
    assert "document ends add up to the tokens" in failed(root, capsys)


def shown(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run_in(root, show.main, "talks", *arguments) == 0
    return capsys.readouterr().out


def test_show_prints_roles_loss_and_text_plainly_off_a_terminal(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(root, capsys, "--document", "8")
    assert "document 8 of talks: row 8 of shard_00000.jsonl (train)" in said
    assert "30 tokens under tiny-bpe, 14 of them learned" in said
    assert said.splitlines()[3:] == [
        "user      loss 0      1  <|user_start|>",
        "user      loss 0     12  <|user_end|>",
        "user      loss 0      1  <|user_end|>",
        "assistant loss 0      1  <|assistant_start|>",
        "assistant loss 1     13  <|endoftext|>",
        "assistant loss 1      1  <|assistant_end|>",
        "end       loss 0      1  <|endoftext|>",
    ]
    assert "\x1b" not in said


def test_show_counts_over_shards_in_order_or_inside_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "row 0 of shard_00001.jsonl (holdout)" in shown(root, capsys, "--document", "9")
    assert "row 0 of shard_00001.jsonl" in shown(root, capsys, "--document", "0", "--shard", "shard_00001")
    assert "no tokens" in shown(root, capsys, "--document", "2")


def test_show_gives_machines_exact_ids(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(shown(root, capsys, "--document", "0", "--json"))
    tokens = np.fromfile(root / f"{BINS}/shard_00000.bin", dtype="<u2")
    assert [token for run in told["runs"] for token in run["ids"]] == tokens[: told["tokens"]].tolist()
    assert "".join(run["text"] for run in told["runs"] if not run["special"]) == "the mill?It grinds."
    assert sum(run["loss"] * len(run["ids"]) for run in told["runs"]) == told["loss_tokens"] == 10


def test_show_colours_a_terminal_and_lets_no_document_steer_it(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_talks(root, "shard_00000", [talk("\x1b[2J\x07", "é\nthe the")])
    assert mill(root) == 0
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run_in(root, show.main, "talks") == 0
    said = capsys.readouterr().out
    assert "\\x1b" in said
    assert "\x1b[2J" not in said
    assert "\x1b[32m" in said
    assert "é" in said


@pytest.mark.parametrize("document", ["10", "-1", "1000000000000"])
def test_show_refuses_a_document_that_is_not_there(root: Path, document: str) -> None:
    with pytest.raises(UsageError, match="0 to 9: 2 shards hold 10 documents"):
        run_in(root, show.main, "talks", "--document", document)


def test_show_refuses_unknown_sources_and_shards(root: Path) -> None:
    with pytest.raises(UsageError, match="no source is called 'walks'"):
        run_in(root, show.main, "walks")
    with pytest.raises(DataError, match="no shard of 'lima' is held"):
        run_in(root, show.main, "lima")
    with pytest.raises(UsageError, match="holds no shard 'shard_7'"):
        run_in(root, show.main, "talks", "--shard", "shard_7")
