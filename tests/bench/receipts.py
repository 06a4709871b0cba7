"""Receipts of shards that are not there, as many as asked: for benches of what reads receipts only.

In:  a root and a number. Out: receipts of two sources, one shard in a hundred held out, as `encode` writes them.
Holds: number n gives the same receipt on every machine.
"""

import hashlib
import json
from pathlib import Path

from dataprep.bins import FileFact, Oracle, Origin, Receipt, TokenizerFact
from dataprep.paths import Paths

_TOKENIZER = TokenizerFact(name="gpt2", fingerprint="f" * 64, vocab_size=50_268, end_id=50_256)
_ORIGIN = Origin(kind="hub", repo="made/up", revision="r" * 40, licence="odc-by", layout="text", columns=("text",))


def write_receipts(root: Path, n_shards: int) -> None:
    """30 % of them of source0, 70 % of source1."""
    for number in range(n_shards):
        receipt = _receipt(f"source{int(number % 10 >= 3)}", number)
        folder = Paths(root=root).bins(_TOKENIZER.name, receipt.source)
        if number < 10:
            folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(receipt.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / f"{receipt.shard}.json").write_text(text, encoding="utf-8")


def _receipt(source: str, number: int) -> Receipt:
    shard, documents = f"shard_{number:06d}", 50_000 + number * 7_919 % 6_000
    tokens = documents * 1_050 + number % 1_013

    def fact(suffix: str, n_bytes: int) -> FileFact:
        return FileFact(
            name=f"{shard}.{suffix}", bytes=n_bytes, sha256=hashlib.sha256(f"{shard}{suffix}".encode()).hexdigest()
        )

    return Receipt(
        source=source,
        shard=shard,
        split="holdout" if number % 100 == 99 else "train",
        origin=_ORIGIN,
        encoder=1,
        file=fact("parquet", tokens * 2 - 12_345),
        tokenizer=_TOKENIZER,
        documents=documents,
        empty_documents=number % 3,
        excluded={"too long": number % 5} if number % 7 == 0 else {},
        unsupervised_documents=0,
        text_bytes=tokens * 14 // 3,
        tokens=tokens,
        end_tokens=documents - number % 3,
        loss_tokens=tokens,
        bin=fact("bin", 2 * tokens),
        docs=fact("docs", 8 * documents),
        loss=None,
        oracle=Oracle(documents=32, tokens=33_000),
    )
