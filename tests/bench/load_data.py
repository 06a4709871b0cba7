"""The load bench's data: two sources of made-up tokens in real bins, and plans over them made by the real `pack`.

In:  a folder, a size in bytes of text. Out: a root with bins, receipts, masks and five recipes (`RECIPES`).
Holds: tokens are drawn from a seed, so two preparations are equal; documents have the lengths that web pages and
       conversations have. A loader moves numbers and does not care what they say: no text, no vocabulary is needed.
`web` has no roles; in `chat` about half of the tokens are the assistant's.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pack_rows import drawn

from dataprep import pack
from dataprep.bins import DOCUMENT_END, LOSS, TOKEN, FileFact, Oracle, Origin, Receipt, TokenizerFact
from dataprep.hashing import sha256_file
from dataprep.paths import Paths
from dataprep.publish import publish_bytes
from dataprep.rank_file import format_ranks
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab, publish_vocab

TOKENIZER = "made-up"
N_RANKS = 50_256  # as many as gpt2 has, so the end token is 50256 as well
SEQ_LEN, BATCH_ROWS = 2_048, 16
_BYTES_PER_TOKEN = 4.67  # web text under gpt2: what makes a size in bytes of text a number of tokens


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """One source: its share of the tokens, its shards, and its documents' lengths."""

    name: str
    share: float
    n_shards: int
    mean: float
    sigma: float
    has_roles: bool


SOURCES = (
    MadeUp(name="web", share=0.7, n_shards=4, mean=1_000, sigma=1.0, has_roles=False),
    MadeUp(name="chat", share=0.3, n_shards=2, mean=350, sigma=0.8, has_roles=True),
)
RECIPES = {
    "concat": (),
    "masked": ("--loss", "assistant"),
    "best-fit": ("--strategy", "best-fit"),
    "documents": ("--strategy", "best-fit", "--loss", "assistant", "--attention", "document"),
    "deep": ("--epochs", "10"),  # many row groups: what a resume at 80 % has to find its way in
}


def prepare(root: Path, text_bytes: int) -> None:
    """Make bins and plans below `root` unless they are there."""
    paths = Paths(root=root)
    if (paths.recipes / f"{list(RECIPES)[-1]}.toml").exists():
        return
    publish_vocab(paths, TOKENIZER, _ranks(), origin="made by the load bench")
    vocab = load_vocab(paths, TOKENIZER)
    for number, source in enumerate(SOURCES):
        n_tokens = int(text_bytes / _BYTES_PER_TOKEN * source.share / source.n_shards)
        for shard in range(source.n_shards):
            rng = np.random.default_rng([number, shard])
            _publish_shard(paths, vocab, source, f"shard_{shard:05d}", rng=rng, n_tokens=n_tokens)
    os.environ["DATAPREP_ROOT"] = str(root)
    mixture = ["--mix", "70:30", "--sources", "web,chat", "--seq-len", str(SEQ_LEN), "--on-short", "shrink"]
    _join_bins(paths, root / "peers" / "tokens.bin")
    for name, flags in RECIPES.items():
        assert pack.main([*mixture, "--name", name, *flags]) == 0


def _join_bins(paths: Paths, file: Path) -> None:
    """All bins end to end, as the peers read them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    held = [part for source in SOURCES for part in sorted(paths.bins(TOKENIZER, source.name).glob("*.bin"))]
    publish_bytes(file, b"".join(part.read_bytes() for part in held))


def _ranks() -> bytes:
    """Every byte, then pairs and triples of bytes until there are enough."""
    return format_ranks([number.to_bytes(1 + (number >= 256) + (number >= 40_000), "big") for number in range(N_RANKS)])


def _publish_shard(
    paths: Paths, vocab: Vocab, source: MadeUp, shard: str, *, rng: np.random.Generator, n_tokens: int
) -> None:
    """A bin, its document ends, its mask where there are roles, and the receipt last."""
    length = drawn(rng, max(1, round(n_tokens / source.mean)), mean=source.mean, sigma=source.sigma)
    ends = np.cumsum(length)
    tokens = (N_RANKS * rng.random(int(ends[-1])) ** 3).astype(TOKEN)  # small ids often, large ones seldom
    tokens[ends - 1] = vocab.end_id
    loss = (np.cumsum(rng.random(len(tokens)) < 0.02) % 2).astype(LOSS)  # turns of about 50 tokens
    folder = paths.bins(TOKENIZER, source.name)
    facts = [
        _publish(folder / f"{shard}.bin", tokens),
        _publish(folder / f"{shard}.docs", ends.astype(DOCUMENT_END)),
        _publish(folder / f"{shard}.loss", loss) if source.has_roles else None,
    ]
    receipt = Receipt(
        source=source.name,
        shard=shard,
        split="train",
        origin=Origin(kind="local", repo=None, revision=None, licence="none", layout="text", columns=("text",)),
        encoder=1,
        file=FileFact(name=f"{shard}.parquet", bytes=0, sha256=""),
        tokenizer=TokenizerFact(
            name=TOKENIZER, fingerprint=vocab.fingerprint, vocab_size=vocab.vocab_size, end_id=vocab.end_id
        ),
        documents=len(ends),
        empty_documents=0,
        excluded={},
        unsupervised_documents=0,
        text_bytes=int(len(tokens) * _BYTES_PER_TOKEN),
        tokens=len(tokens),
        end_tokens=len(ends),
        loss_tokens=int(loss.sum()) if source.has_roles else len(tokens),
        bin=facts[0],
        docs=facts[1],
        loss=facts[2],
        oracle=Oracle(documents=0, tokens=0),
    )
    publish_bytes(folder / f"{shard}.json", json.dumps(receipt.to_json()).encode())


def _publish(file: Path, values: np.ndarray) -> FileFact:
    publish_bytes(file, values.tobytes())
    return FileFact(name=file.name, bytes=values.nbytes, sha256=sha256_file(file))
