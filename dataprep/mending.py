"""Mending: the command that brings back shards that are gone, or that are not what they were.

In:  the layout, a source, its tokenizer. Out: one command; what it cannot know stands in capitals or in a comment.
Holds: what was imported is imported again, with what was said of it then: `make shards` knows no such source.
make shards SOURCE=fineweb-edu N=178, or: python -m dataprep.import --from nanogpt --source owt … train.bin
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dataprep.paths import Paths
from dataprep.sealed import read_json
from dataprep.sources import fetch_command, make_shards

IMPORTED = "imported"  # the origin of a bin that another tool made: `file` is that tool's, `layout` its format


def make_again(paths: Paths, source: str, tokenizer: str, *, shards: Sequence[str] = ()) -> str:
    """The `make shards` that was asked last, with its N if the record of it can still be read; or the import.

    `shards` are those that are gone, where that is known: an import takes files by name.
    """
    record = read_json(paths.source_record(source)) or {}
    if record.get("kind") == IMPORTED or any(_imported_receipts(paths, source)):
        return _import_of(paths, source, tokenizer, shards)
    n_train = _asked_before(record)
    command = make_shards(source, n=n_train or 1, tokenizer=tokenizer)
    return command if n_train else f"{command}   # with your N"


def fetch_again(paths: Paths, source: str) -> str:
    """What brings raw files alone that are not here."""
    return fetch_command(source, n=_asked_before(read_json(paths.source_record(source)) or {}) or 1)


def import_again(
    *, layout: str, source: str, tokenizer: str, licence: str, holdout: Iterable[str], files: Iterable[str]
) -> str:
    """The import of some files once more. Where they are was never kept: they are another tool's."""
    flags = "".join(f" --holdout {shard}" for shard in holdout)
    flags += f" --licence {shlex.quote(licence)}" if licence != "unknown" else ""
    what = f"--from {layout} --source {source} --tokenizer {tokenizer}{flags} {' '.join(files)}"
    return f"python -m dataprep.import {what}   # with their folder"


def _asked_before(record: dict[str, Any]) -> int:
    """Train shards asked for by the last `make shards`; 0 where its record cannot be read."""
    return sum(shard.get("split") == "train" for shard in record.get("asked", []))


def _imported_receipts(paths: Paths, source: str) -> Iterator[dict[str, Any]]:
    """Receipts of the source that can be read and say that another tool made it."""
    for file in sorted(paths.all_bins.glob(f"*/{source}/*.json")):
        receipt = read_json(file) or {}
        if receipt.get("origin", {}).get("kind") == IMPORTED:
            yield receipt


def _import_of(paths: Paths, source: str, tokenizer: str, shards: Sequence[str]) -> str:
    """The import of `shards`, by a receipt that is left and the record of what was asked."""
    record, known = read_json(paths.source_record(source)) or {}, next(_imported_receipts(paths, source), None)
    held_out = record.get("holdout") or [
        receipt["shard"] for receipt in _imported_receipts(paths, source) if receipt["split"] == "holdout"
    ]
    suffix = Path(known["file"]["name"]).suffix if known else ""
    return import_again(
        layout=known["origin"]["layout"] if known else "FORMAT",
        source=source,
        tokenizer=tokenizer,
        licence=record.get("licence") or (known["origin"]["licence"] if known else "unknown"),
        holdout=[shard for shard in held_out if shard in shards or not shards],
        files=[f"{shard}{suffix}" for shard in shards] if known and shards else ["FILE…"],
    )
