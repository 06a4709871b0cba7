import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataprep import bpe
from dataprep.errors import DataError, UsageError
from dataprep.paths import Paths
from dataprep.rank_file import CHAT_SPECIALS, END
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab

PROSE = [f"The miller grinds {n} sacks of wheat; the baker's {n * n} loaves rise… <|endoftext|>" for n in range(300)]
CHATS = [[{"role": "user", "content": f"Sack {n}?"}, {"role": "assistant", "content": "Ground."}] for n in range(100)]
CATALOGUE = """
[prose]
kind = "local"
path = "prose"
text = "text"
holdout = ["shard_00002"]

[chats]
kind = "local"
path = "chats"
messages = "messages"

[empty]
kind = "local"
path = "empty"
text = "text"
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATAPREP_ROOT", str(tmp_path))
    (tmp_path / "more.toml").write_text(CATALOGUE)
    write(tmp_path / "prose" / "shard_00000.parquet", text=PROSE[:150])
    write(tmp_path / "prose" / "shard_00001.parquet", text=[*PROSE[150:], "", None])
    (tmp_path / "prose" / "shard_00002.parquet").write_bytes(b"held out: reading it would be an error")
    write(tmp_path / "chats" / "shard_00000.parquet", messages=CHATS)
    write(tmp_path / "empty" / "shard_00000.parquet", text=["", ""])
    return tmp_path


def write(file: Path, **columns: list[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)


def train(root: Path, name: str = "mill", size: int = 400, sources: str = "prose,chats", *more: str) -> Vocab:
    catalogue = str(root / "more.toml")
    argv = ["--name", name, "--size", str(size), "--sources", sources, "--catalogue", catalogue, *more]
    assert bpe.main(argv) == 0
    return load_vocab(Paths(root=root), name)


def ranks_of(root: Path, name: str) -> bytes:
    return (root / "data" / "vocab" / f"{name}.tiktoken").read_bytes()


def test_a_trained_vocabulary_loads_and_reads_back_what_it_encodes(root: Path) -> None:
    vocab = train(root)
    ids = vocab.encode_ordinary(PROSE[7])
    assert vocab.vocab_size == 400
    assert vocab.decode(ids) == PROSE[7]
    assert len(ids) < len(PROSE[7]) / 3
    assert max(ids) < vocab.n_ranks


def test_the_specials_follow_the_ranks(root: Path) -> None:
    vocab = train(root)
    assert vocab.specials == {text: 388 + i for i, text in enumerate((END, *CHAT_SPECIALS))}
    assert (vocab.end_id, vocab.pad_id) == (388, 399)


def test_the_same_shards_give_the_same_bytes_in_any_order_of_sources(root: Path) -> None:
    train(root, "one", sources="prose,chats")
    train(root, "two", sources="prose,chats")
    train(root, "three", sources="chats,prose,chats")
    assert ranks_of(root, "one") == ranks_of(root, "two") == ranks_of(root, "three")


def test_one_thread_gives_the_same_bytes(root: Path) -> None:
    train(root, "many")
    argv = ["--name", "one", "--size", "400", "--sources", "prose,chats", "--catalogue", str(root / "more.toml")]
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-m", "dataprep.bpe", *argv], env=environment, check=True, capture_output=True)
    assert ranks_of(root, "one") == ranks_of(root, "many")


def test_of_conversations_the_texts_are_learnt_and_no_special_string(root: Path) -> None:
    vocab = train(root, sources="chats", size=320)
    learnt = [vocab.oracle.decode_single_token_bytes(rank) for rank in range(256, vocab.n_ranks)]
    assert any(len(vocab.encode_ordinary(word)) == 1 for message in CHATS[0] for word in message["content"].split())
    assert not [token for token in learnt if b"|" in token or b"start" in token or b"assistant" in token.lower()]


def test_no_token_reaches_from_one_document_into_the_next(root: Path) -> None:
    write(root / "prose" / "shard_00000.parquet", text=["ab"] * 500)
    write(root / "prose" / "shard_00001.parquet", text=["ab"] * 500)
    vocab = train(root, size=269, sources="prose")
    assert vocab.encode_ordinary("abab") == [256, 256]
    with pytest.raises(DataError, match="257 ranks"):
        train(root, "larger", size=270, sources="prose")


def test_a_second_call_trains_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = train(root)
    monkeypatch.setattr(bpe, "train_ranks", lambda *_: pytest.fail("trained again"))
    capsys.readouterr()
    assert train(root) == before
    assert "there already" in capsys.readouterr().out


def test_another_size_under_a_taken_name_is_refused_and_changes_nothing(root: Path) -> None:
    train(root)
    before = ranks_of(root, "mill")
    with pytest.raises(UsageError, match=r"(?s)another size.*400 ids.*wanted: 500"):
        train(root, size=500)
    assert ranks_of(root, "mill") == before


@pytest.mark.parametrize("lost", ["mill.json", "mill.tiktoken"])
def test_an_interrupted_vocabulary_is_trained_again_to_the_same_bytes(root: Path, lost: str) -> None:
    train(root)
    folder = root / "data" / "vocab"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / lost).unlink()
    train(root)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("size", [-1, 0, 267, 65_537])
def test_a_size_no_vocabulary_can_have_is_refused(root: Path, size: int) -> None:
    with pytest.raises(UsageError, match="size"):
        train(root, size=size)


def test_the_smallest_vocabulary_is_the_bytes_alone(root: Path) -> None:
    assert train(root, size=268).encode_ordinary("é!") == list("é!".encode())


def test_too_little_text_is_named_with_the_ranks_it_gave(root: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)too little text.*ranks from.*wanted: 59,988 ranks"):
        train(root, size=60_000)
    assert not list((root / "data").glob("vocab/*"))


def test_empty_documents_are_no_text(root: Path) -> None:
    with pytest.raises(DataError, match="no text"):
        train(root, sources="empty", size=268)


def test_nothing_is_published_when_the_oracle_disagrees(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vocab, "encode_ordinary", lambda _, text: [*text.encode(), 0])
    with pytest.raises(DataError, match="disagree"):
        train(root)
    assert not list((root / "data").glob("vocab/*"))


def test_the_receipt_names_the_shards_it_was_trained_on(root: Path) -> None:
    train(root)
    origin = json.loads((root / "data" / "vocab" / "mill.json").read_text())["origin"]
    assert [part.partition(":")[0] for part in origin.removeprefix("bpe of ").split(", ")] == [
        "prose/shard_00000",
        "prose/shard_00001",
        "chats/shard_00000",
    ]


def test_n_takes_the_first_shards_only(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(root, "first", 300, "prose", "--n", "1", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["shards"] == {"prose": 1}
    assert facts["text_bytes"] == sum(len(text.encode()) for text in PROSE[:150])
    assert facts["bytes_per_token"] == round(facts["text_bytes"] / facts["tokens"], 3)


def test_the_trainer_s_own_words_reach_neither_output(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(root)
    out, err = capfd.readouterr()
    assert err == ""
    first, second, last = out.splitlines()
    assert first.startswith("mill: 400 ids = 388 ranks + 12 specials, trained")
    assert "bytes per token" in second
    assert last.startswith("next: python -m dataprep.shards --source prose --n 2 --tokenizer mill --catalogue ")


def test_more_text_than_memory_is_refused_before_it_is_fetched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "MAX_RAW_BYTES", 100)
    monkeypatch.setattr(bpe, "fetch_shard", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(UsageError, match="more text"):
        train(root)


@pytest.mark.parametrize(("name", "sources"), [("gpt2", "prose"), ("mill", "flour"), ("mill", "")])
def test_a_published_name_and_unknown_sources_are_refused(root: Path, name: str, sources: str) -> None:
    with pytest.raises(UsageError):
        train(root, name, sources=sources)


def test_a_mistake_costs_three_lines_and_exit_code_2(root: Path) -> None:
    argv = ["--name", "mill", "--size", "10", "--sources", "prose"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "DATAPREP_ROOT": str(root)}
    done = subprocess.run(
        [sys.executable, "-m", "dataprep.bpe", *argv], env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    assert done.stdout == ""
