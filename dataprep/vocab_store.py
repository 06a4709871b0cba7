"""The vocabularies on disk: `data/vocab/<name>.tiktoken` with a receipt, placed, fetched or trained.

In:  a name, and where needed a rank file by hand (`--vocab-file`) or, for gpt2, its public address.
Out: a checked `Vocab`; or ranks published with their receipt `<name>.json`.
Holds: a name never changes its ranks: bins, recipes and checkpoints carry the fingerprint.
"""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from dataprep.errors import DataError, UsageError, quoted
from dataprep.paths import Paths
from dataprep.publish import publish_bytes
from dataprep.rank_file import SPLIT_PATTERN, fingerprint, parse_ranks
from dataprep.sealed import open_record, publish_record, read_json
from dataprep.vocab import Vocab

GPT2_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
GPT2_URL = "https://openaipublic.blob.core.windows.net/encodings/r50k_base.tiktoken"
_TIMEOUT_S = 60


def obtain_vocab(paths: Paths, name: str, *, vocab_file: Path | None = None, offline: bool = False) -> Vocab:
    """The vocabulary `name`, taken from `vocab_file` or fetched once (gpt2) where it is not held yet.

    Raises DataError when it cannot be had or is not what it should be.
    """
    if vocab_file is not None:
        publish_vocab(paths, name, _read_given(name, vocab_file), origin=vocab_file.name)
    elif name == "gpt2" and not (paths.vocab / "gpt2.tiktoken").exists():
        publish_vocab(paths, name, _fetch_gpt2(paths, offline=offline), origin=GPT2_URL)
    return load_vocab(paths, name)


def load_vocab(paths: Paths, name: str) -> Vocab:
    """The vocabulary called `name` from `data/vocab/`.

    Raises DataError when it is not there or is not what its receipt says.
    """
    ranks_file, receipt_file = paths.vocab / f"{name}.tiktoken", paths.vocab / f"{name}.json"
    if not ranks_file.exists():
        raise DataError(
            f"there is no vocabulary {name!r}",
            seen=f"no {paths.shown(ranks_file)}",
            wanted="a rank file placed there, fetched or trained",
            fix="python -m dataprep.shards --source S --n 1 --tokenizer gpt2 --vocab-file r50k_base.tiktoken"
            if name == "gpt2"
            else f"python -m dataprep.bpe --name {name} --size 8192 --sources S",
        )
    ranks_bytes = ranks_file.read_bytes()
    found = hashlib.sha256(ranks_bytes).hexdigest()
    wanted = GPT2_SHA256 if name == "gpt2" else _receipt_sha256(receipt_file)
    if found != wanted:
        raise DataError(
            f"{paths.shown(ranks_file)} is not the vocabulary it was",
            seen=f"sha256 {found[:12]}…",
            wanted=f"{wanted[:12]}…",
            fix=_again(ranks_file),
        )
    n_ranks = len(parse_ranks(ranks_bytes, ranks_file.name))
    return Vocab(name=name, ranks_file=ranks_file, n_ranks=n_ranks, fingerprint=fingerprint(ranks_bytes, n_ranks))


def check_record(paths: Paths, name: str) -> None:
    """Whether the record beside the ranks is as it was written; gpt2's ranks are known without it. Raises DataError."""
    _receipt_sha256(paths.vocab / f"{name}.json")


def publish_vocab(paths: Paths, name: str, ranks_bytes: bytes, origin: str) -> None:
    """Keep `ranks_bytes` as the vocabulary `name`; refuses what a bin cannot hold or what is taken."""
    ranks_file = paths.vocab / f"{name}.tiktoken"
    n_ranks = len(parse_ranks(ranks_bytes, f"{name}.tiktoken"))
    if ranks_file.exists() and ranks_file.read_bytes() != ranks_bytes:
        raise UsageError(
            f"the name {name!r} is taken by another vocabulary",
            seen=f"{paths.shown(ranks_file)} holds other ranks",
            wanted="a new name: bins made with the old one stay readable",
            fix="choose another --name or --tokenizer",
        )
    _check_held_bins(paths, name, fingerprint(ranks_bytes, n_ranks))
    digest = publish_bytes(ranks_file, ranks_bytes)
    receipt = {"name": name, "origin": origin, "sha256": digest, "bytes": len(ranks_bytes), "n_ranks": n_ranks}
    publish_record(
        paths.vocab / f"{name}.json",
        receipt | {"fingerprint": fingerprint(ranks_bytes, n_ranks), "split_pattern": SPLIT_PATTERN},
    )


def _check_held_bins(paths: Paths, name: str, wanted: str) -> None:
    """Refuse other ranks under a name that bins were made with, even if the old ranks are lost."""
    receipt = next((read_json(file) for file in sorted(paths.all_bins.glob(f"{name}/*/*.json"))), None) or {}
    held = receipt.get("tokenizer", {}).get("fingerprint", wanted)
    if held != wanted:
        raise UsageError(
            f"bins were made with another vocabulary called {name!r}",
            seen=f"fingerprint {wanted[:12]}…",
            wanted=f"{held[:12]}…, as in {paths.shown(paths.all_bins / name)}",
            fix="choose another name, or bring the old rank file back with --vocab-file",
        )


def _read_given(name: str, vocab_file: Path) -> bytes:
    try:
        ranks_bytes = vocab_file.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(
            f"there is no rank file at {vocab_file}",
            seen="no file",
            wanted="a .tiktoken file",
            fix="check --vocab-file",
        ) from None
    if name == "gpt2":
        _check_gpt2(ranks_bytes, str(vocab_file))
    return ranks_bytes


def _fetch_gpt2(paths: Paths, *, offline: bool) -> bytes:
    by_hand = f"place r50k_base.tiktoken as {paths.shown(paths.vocab / 'gpt2.tiktoken')}, or pass --vocab-file FILE"
    if offline:
        raise DataError("the gpt2 vocabulary is not held", seen="--offline", wanted=GPT2_URL, fix=by_hand)
    try:
        with urllib.request.urlopen(GPT2_URL, timeout=_TIMEOUT_S) as response:
            ranks_bytes = response.read()
    except (urllib.error.URLError, OSError) as error:
        raise DataError("the gpt2 vocabulary could not be fetched", seen=error, wanted=GPT2_URL, fix=by_hand) from None
    _check_gpt2(ranks_bytes, GPT2_URL)
    return ranks_bytes


def _check_gpt2(ranks_bytes: bytes, origin: str) -> None:
    found = hashlib.sha256(ranks_bytes).hexdigest()
    if found != GPT2_SHA256:
        raise DataError(
            f"{origin} is not the gpt2 vocabulary",
            seen=f"{len(ranks_bytes):,} bytes, sha256 {found[:12]}…",
            wanted=f"835,554 bytes, {GPT2_SHA256[:12]}…",
            fix="get r50k_base.tiktoken again, or give your own vocabulary another --tokenizer name",
        )


def _receipt_sha256(receipt_file: Path) -> str:
    try:
        return str(open_record(receipt_file.read_bytes())["sha256"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(
            f"the vocabulary's receipt {receipt_file.name} cannot be read",
            seen="no receipt, or one that is damaged",
            wanted="the JSON published beside the ranks",
            fix=_again(receipt_file.with_suffix(".tiktoken")),
        ) from None


def _again(ranks_file: Path) -> str:
    name, removed = ranks_file.stem, f"rm -f {quoted(ranks_file)}"
    if name == "gpt2":
        return f"{removed}   # the next make shards TOKENIZER=gpt2 fetches it again"
    return f"{removed}   # then bring it back from a copy, or python -m dataprep.bpe --name {name} as it was trained"
