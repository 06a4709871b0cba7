"""What was asked: the record of the last `make shards` of each source, data/sources/<source>.json.

In:  a listing and the files chosen from it. Out: the record, and back.
Holds: with it a query can tell a shard that is missing from one that was never asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataprep.errors import DataError, quoted
from dataprep.listing import ListedFile, Listing
from dataprep.mending import make_again
from dataprep.paths import Paths, find_paths
from dataprep.sealed import open_record, publish_record


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One source as it was last asked for; `shards` are (shard, split)."""

    source: str
    kind: str
    repo: str | None
    revision: str | None
    licence: str
    holdout: tuple[str, ...]
    tokenizer: str
    shards: tuple[tuple[str, str], ...]


def publish_asked(paths: Paths, listing: Listing, files: Sequence[ListedFile], tokenizer: str) -> None:
    """Keep the request."""
    source = listing.source
    record = {
        "source": source.name,
        "kind": source.kind,
        "repo": source.repo,
        "revision": listing.revision,
        "licence": source.licence,
        "holdout": list(source.holdout),
        "tokenizer": tokenizer,
        "asked": [{"shard": f.shard, "split": f.split, "bytes": f.bytes, "sha256": f.sha256} for f in files],
    }
    publish_record(paths.source_record(source.name), record)


def asked_files(paths: Paths) -> list[Path]:
    """Every source's record."""
    return sorted(file for file in paths.source_record("*").parent.glob("*.json") if not file.name.startswith("."))


def read_asked(file: Path) -> Asked:
    """One record. Raises DataError when it is damaged."""
    try:
        record = open_record(file.read_bytes())
        shards = tuple((shard["shard"], shard["split"]) for shard in record.pop("asked"))
        return Asked(shards=shards, holdout=tuple(record.pop("holdout")), **record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        paths = find_paths()
        tokenizer = next((folder.parent.name for folder in sorted(paths.all_bins.glob(f"*/{file.stem}"))), "gpt2")
        raise DataError(
            f"the record of what was asked of {file.stem} cannot be read",
            seen=f"{type(error).__name__}: {error}",
            wanted="the JSON that make shards or an import wrote",
            fix=f"rm {quoted(paths.shown(file))}; {make_again(paths, file.stem, tokenizer)}",
        ) from None
