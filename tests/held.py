"""Shards as `encode` leaves them, made in no time: for tests of plans, which never read a token."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dataprep.bins import FileFact, Oracle, Origin, Receipt, TokenizerFact
from dataprep.paths import Paths
from dataprep.request import Request
from dataprep.vocab import Vocab

VOCAB = Vocab(name="v", ranks_file=Path("none"), n_ranks=300, fingerprint="f" * 64)


def hold_shard(
    paths: Paths, source: str, number: int, lengths: list[int], *, split: str = "train", loss: list[int] | None = None
) -> int:
    """A bin with its ends, its mask if `loss` is given, and its receipt. Returns its tokens."""
    folder, name, tokens = paths.bins(VOCAB.name, source), f"shard_{number:05d}", sum(lengths)
    contents = {"bin": np.zeros(tokens, "<u2").tobytes(), "docs": np.cumsum(lengths, dtype="<u8").tobytes()}
    if loss is not None:
        contents["loss"] = bytes(loss)
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, FileFact | None] = {"loss": None}
    for suffix, content in contents.items():
        (folder / f"{name}.{suffix}").write_bytes(content)
        digest = hashlib.sha256(f"{source}{number}".encode() + content).hexdigest()
        facts[suffix] = FileFact(name=f"{name}.{suffix}", bytes=len(content), sha256=digest)
    counts = {"documents": len(lengths), "empty_documents": lengths.count(0), "tokens": tokens}
    publish_receipt(
        folder, source, name, facts, split=split, loss_tokens=tokens if loss is None else sum(loss), **counts
    )
    return tokens


def publish_receipt(
    folder: Path, source: str, shard: str, facts: dict[str, FileFact | None], *, split: str = "train", **counts: int
) -> None:
    """A receipt with the counts given; of what plans never read, the least that is allowed."""
    receipt = Receipt(
        source=source,
        shard=shard,
        split=split,
        origin=Origin(kind="local", repo=None, revision=None, licence="none", layout="text", columns=("text",)),
        encoder=1,
        file=FileFact(name=f"{shard}.parquet", bytes=1, sha256="0" * 64),
        tokenizer=TokenizerFact(
            name=VOCAB.name, fingerprint=VOCAB.fingerprint, vocab_size=VOCAB.vocab_size, end_id=VOCAB.end_id
        ),
        excluded={},
        unsupervised_documents=0,
        text_bytes=counts["tokens"],
        end_tokens=counts["documents"] - counts["empty_documents"],
        oracle=Oracle(documents=0, tokens=0),
        **counts,
        **facts,  # type: ignore[arg-type]
    )
    (folder / f"{shard}.json").write_text(json.dumps(asdict(receipt)))


def request(mix: list[int], *, seq_len: int, **changed: Any) -> Request:
    """A request for source0, source1, …, one a share, with everything else as by default."""
    usual: dict[str, Any] = {
        "shares": tuple((f"source{i}",) for i in range(len(mix))),
        "unit": "tokens",
        "budget_tokens": None,
        "budget_loss_tokens": None,
        "budget_source_tokens": None,
        "split": "train",
        "strategy": "concat",
        "shuffle": "rows",
        "long": "split",
        "loss": "all",
        "attention": "full",
        "on_short": "error",
        "max_passes": 4,
        "epochs": 1,
        "seed": 0,
    }
    return Request(mix=tuple(mix), seq_len=seq_len, **usual | changed)
