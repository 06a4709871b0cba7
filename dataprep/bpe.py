"""Train a vocabulary: byte pairs merged by their frequency in the train shards of some sources.

In:  raw train shards, read as `encode` will read them. Out: data/vocab/<name>.tiktoken and its receipt.
Holds: the same shards give the same ranks, in any order and on any number of threads; a held-out
shard is never read; nothing is published before gigatoken and tiktoken agree on the new ranks.
Run: `python -m dataprep.bpe --name python-8k --size 8192 --sources python-docs,python-qa`
"""

import time
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from dataprep import quantity
from dataprep.console import print_json, print_next
from dataprep.errors import Parser, UsageError, run
from dataprep.hashing import sha256_file
from dataprep.listing import list_source, select
from dataprep.merges import RawShard, measure, train_ranks
from dataprep.paths import Paths, find_paths
from dataprep.rank_file import MAX_VOCAB_SIZE, N_BYTES, N_SPECIALS, format_ranks
from dataprep.raw import check_space, fetch_shard
from dataprep.sources import find_source, load_catalogue, shard_name
from dataprep.temps import sweep
from dataprep.vocab_store import load_vocab, publish_vocab

MIN_SIZE = N_BYTES + N_SPECIALS
MAX_RAW_BYTES = 1 << 30  # all text is in memory at once, and a vocabulary learns little from more


def main(argv: list[str] | None = None) -> int:
    """`python -m dataprep.bpe`: train, check and publish; or say that this was done before."""
    asked = _parse(argv)
    _check(asked)
    paths = find_paths()
    sweep(paths.vocab)
    facts = _describe_held(paths, asked) if _is_held(paths, asked.name) else _make(paths, asked)
    if asked.json:
        print_json(facts)
    else:
        _report(asked, facts)
    return 0


def _is_held(paths: Paths, name: str) -> bool:
    """Ranks without their receipt were interrupted between the two: training again gives the same ranks."""
    return all((paths.vocab / f"{name}{suffix}").exists() for suffix in (".tiktoken", ".json"))


def _make(paths: Paths, asked: Namespace) -> dict[str, Any]:
    started = time.monotonic()
    n_ranks = asked.size - N_SPECIALS
    shards = bring_shards(paths, asked)
    ranks_bytes = format_ranks(train_ranks(shards, n_ranks))
    text_bytes, n_tokens = measure(shards, asked.name, ranks_bytes, n_ranks)
    origin = "bpe of " + ", ".join(f"{shard.source.name}/{_stamp(shard.file)}" for shard in shards)
    publish_vocab(paths, asked.name, ranks_bytes, origin)
    return _describe(paths, asked.name, made=True) | {
        "shards": dict(Counter(shard.source.name for shard in shards)),
        "text_bytes": text_bytes,
        "tokens": n_tokens,
        "bytes_per_token": round(text_bytes / n_tokens, 3),
        "seconds": round(time.monotonic() - started, 1),
    }


def bring_shards(paths: Paths, asked: Namespace) -> list[RawShard]:
    """The train shards of the sources asked for; fetched or built where they are not held."""
    catalogue = load_catalogue(asked.catalogue)
    listings = [list_source(find_source(catalogue, name), paths, offline=asked.offline) for name in asked.sources]
    wanted = []
    for listing in listings:
        n_train = asked.n or sum(file.split == "train" for file in listing.files)
        wanted += [(listing, file) for file in select(listing, n_train) if file.split == "train"]
    _check_memory(sum(file.bytes or 0 for _, file in wanted))
    for listing in listings:
        check_space(listing, [file for owner, file in wanted if owner is listing], paths)
    return [
        RawShard(source=listing.source, file=fetch_shard(listing, file, paths, offline=asked.offline))
        for listing, file in wanted
    ]


def _describe_held(paths: Paths, asked: Namespace) -> dict[str, Any]:
    """What is there under the name. Raises UsageError when it has another size, DataError when it is damaged."""
    facts = _describe(paths, asked.name, made=False)
    if facts["size"] != asked.size:
        raise UsageError(
            f"the name {asked.name!r} is taken by a vocabulary of another size",
            seen=f"{facts['size']:,} ids",
            wanted=f"{asked.size:,}: bins made with the old one stay readable",
            fix=f"choose another --name, or --size {facts['size']}",
        )
    return facts


def _describe(paths: Paths, name: str, *, made: bool) -> dict[str, Any]:
    vocab = load_vocab(paths, name)
    counts = {"size": vocab.vocab_size, "ranks": vocab.n_ranks, "specials": N_SPECIALS}
    return {"vocabulary": name, "made": made} | counts | {"fingerprint": vocab.fingerprint}


def _report(asked: Namespace, facts: dict[str, Any]) -> None:
    print(
        f"{asked.name}: {facts['size']:,} ids = {facts['ranks']:,} ranks + {facts['specials']} specials, "
        f"{'trained' if facts['made'] else 'there already'}, fingerprint {facts['fingerprint'][:12]}…"
    )
    if facts["made"]:
        print(
            f"{facts['text_bytes']:,} bytes of text, {facts['tokens']:,} tokens, "
            f"{facts['bytes_per_token']} bytes per token, {facts['seconds']} s"
        )
    first = asked.sources[0]
    n_train = facts.get("shards", {}).get(first, asked.n or 1)
    catalogue = f" --catalogue {asked.catalogue}" if asked.catalogue else ""
    print_next(f"python -m dataprep.shards --source {first} --n {n_train} --tokenizer {asked.name}{catalogue}")


def _check(asked: Namespace) -> None:
    if not MIN_SIZE <= asked.size <= MAX_VOCAB_SIZE:
        raise UsageError(
            "no vocabulary can have this size",
            seen=f"--size {asked.size}",
            wanted=f"{MIN_SIZE} ({N_BYTES} bytes + {N_SPECIALS} specials) to {MAX_VOCAB_SIZE:,} (a token is two bytes)",
            fix="--size 8192, or 32768 for more text",
        )
    if asked.name == "gpt2":
        raise UsageError(
            "the name 'gpt2' is that of a published vocabulary",
            seen="--name gpt2",
            wanted="a name of your own",
            fix="choose another --name",
        )


def _check_memory(raw_bytes: int) -> None:
    if raw_bytes > MAX_RAW_BYTES:
        raise UsageError(
            "that is more text than a vocabulary needs, and than memory holds",
            seen=f"{raw_bytes:,} bytes of train shards",
            wanted=f"at most {MAX_RAW_BYTES:,}",
            fix="--n 2, or so: the first train shards of each source",
        )


def _stamp(file: Path) -> str:
    return f"{shard_name(file.name)}:{sha256_file(file)[:16]}"


def _parse(argv: list[str] | None) -> Namespace:
    parser = Parser(prog="python -m dataprep.bpe", description="Train a vocabulary on the train shards of sources.")
    parser.add_argument("--name", type=quantity.name, required=True, help="what bins and recipes will call it")
    parser.add_argument("--size", type=int, required=True, help=f"ids, with the {N_SPECIALS} specials, such as 8192")
    parser.add_argument("--sources", required=True, help="comma-separated names in the catalogue")
    parser.add_argument("--n", type=quantity.count, help="train shards of each source (default: all)")
    parser.add_argument("--catalogue", type=Path, help="a TOML file with more sources")
    parser.add_argument("--offline", action="store_true", help="use what is held, name what is not")
    parser.add_argument("--json", action="store_true", help="exact numbers for machines")
    asked = parser.parse_args(argv)
    asked.sources = list(dict.fromkeys(asked.sources.split(",")))  # a source named twice is read once
    return asked


if __name__ == "__main__":
    run(main)
