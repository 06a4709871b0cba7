"""One odd shard: written, encoded by the real verb under `tiny-bpe`, and compared with tiktoken, token by token."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from conftest import byte_ranks, run_in

from dataprep import shards
from dataprep.paths import Paths
from dataprep.vocab_store import load_vocab, publish_vocab

MESSAGES = 'messages = "messages"'


def mill(root: Path, *, columns: str = 'text = "text"') -> int:
    """Encode the one shard of root/odd under `tiny-bpe`."""
    if not (root / "data/vocab").exists():
        publish_vocab(Paths(root=root), "tiny-bpe", byte_ranks(), origin="made by the tests")
    (root / "my.toml").write_text(f'[odd]\nkind = "local"\npath = "odd"\n{columns}\n')
    asked = ["--source", "odd", "--n", "1", "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
    return run_in(root, shards.main, *asked)


def write_lines(root: Path, lines: Sequence[str]) -> Path:
    """A JSONL shard of these lines. Half a surrogate pair is written as the escape it is in JSON."""
    (root / "odd").mkdir()
    file = root / "odd/shard_0.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return file


def check_against_oracle(root: Path, texts: Sequence[str | None]) -> None:
    vocab = load_vocab(Paths(root=root), "tiny-bpe")
    wanted = [[*vocab.encode_ordinary(text), vocab.end_id] if text else [] for text in texts]
    tokens = np.fromfile(root / "data/bins/tiny-bpe/odd/shard_0.bin", dtype="<u2")
    ends = np.fromfile(root / "data/bins/tiny-bpe/odd/shard_0.docs", dtype="<u8")
    assert ends.tolist() == np.cumsum([len(ids) for ids in wanted]).tolist()
    assert tokens.tolist() == [token for ids in wanted for token in ids]
