"""Listings: what a source has, by shard: names, sizes and hashes, pinned to one commit.

In:  a catalogue entry. Out: `Listing`; for the Hub kept in data/raw/<source>/listing.json.
Holds: the first listing pins the commit, so later shards come from the same one and --offline works;
two files never make one shard, and a held-out pin that pins nothing is refused.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from dataprep import hub
from dataprep.errors import DataError, UsageError, quoted
from dataprep.paths import Paths
from dataprep.retry import persist
from dataprep.sealed import publish_record, read_json
from dataprep.sources import (
    SHARD_SUFFIXES,
    Source,
    fetch_command,
    look_alike,
    make_shards,
    shard_name,
    why_no_shard,
)
from dataprep.temps import sweep

REMOTE_KINDS = ("hub", "url")
_MEANS_SOMETHING_TO_A_SHELL = re.compile(r"[\s!\"#$%&'()*;<>?\[\\\]^`{|}~]")


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """One shard as its origin lists it. `bytes` and the hashes are None where the origin does not say."""

    shard: str
    split: str
    name: str
    bytes: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None  # of a small file of the Hub, which has no other


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Everything a source has, by shard name. `revision` is the Hub's commit, else None."""

    source: Source
    revision: str | None
    files: tuple[ListedFile, ...]


def list_source(source: Source, paths: Paths, *, offline: bool = False, refresh: bool = False) -> Listing:
    """What `source` holds. A Hub listing is pinned on first use; `refresh` resolves its revision again.

    Raises DataError where nothing matches, two files make one shard, or a held-out pin pins nothing.
    """
    if offline and refresh:
        raise UsageError(
            "--refresh needs the network", seen="--offline --refresh", wanted="one of them", fix="drop one"
        )
    if source.kind in REMOTE_KINDS:
        sweep(paths.raw(source.name))  # what a killed download left behind
    revision, files = None, []
    if source.kind == "hub":
        revision, files = _hub_files(source, paths, offline=offline, refresh=refresh)
    elif source.kind == "url":
        files = _url_files(source)
    elif source.kind == "local":
        files = _local_files(source)
    else:
        files = _python_files(source)
    files.sort(key=lambda file: file.shard)
    _check_listing(source, files)
    return Listing(source=source, revision=revision, files=tuple(files))


def select(listing: Listing, n_train: int) -> tuple[ListedFile, ...]:
    """The first `n_train` train shards, then every held-out shard. UsageError where there are not so many."""
    train = [file for file in listing.files if file.split == "train"]
    if not 1 <= n_train <= len(train):
        raise UsageError(
            f"{listing.source.name} cannot give {n_train:,} train shards",
            seen=n_train,
            wanted=f"1 to {len(train):,}: it has {len(train):,} train shards"
            if train
            else "a shard that is not held out",
            fix=make_shards(listing.source.name, n=max(1, min(n_train, len(train))))
            if train
            else "correct holdout in its entry of the catalogue",
        )
    return (*train[:n_train], *(file for file in listing.files if file.split != "train"))


def _hub_files(source: Source, paths: Paths, *, offline: bool, refresh: bool) -> tuple[str, list[ListedFile]]:
    asked = {"source": source.name, "repo": source.repo, "asked": source.revision, "patterns": list(source.files)}
    record = paths.raw(source.name) / "listing.json"
    known = None if refresh else read_json(record)
    if known is None or any(known.get(key) != value for key, value in asked.items()):
        if offline:
            raise DataError(
                f"{source.name} was never listed here",
                seen=f"no matching {paths.shown(record)}",
                wanted="a listing from an earlier run with the network",
                fix=f"{fetch_command(source.name)}  (without --offline)",
            )
        known = asked | persist(lambda: _ask_hub(source), f"{source.name} cannot be listed", fetch_command(source.name))
        publish_record(record, known)
    return known["commit"], [_listed(source, **file) for file in known["files"]]


def _ask_hub(source: Source) -> dict[str, Any]:
    assert source.repo is not None
    commit = hub.resolve(source.repo, source.revision)
    return {"commit": commit, "files": [file._asdict() for file in hub.list_files(source.repo, commit, source.files)]}


def _url_files(source: Source) -> list[ListedFile]:
    hashes = source.sha256 or {}
    files = [_listed(source, name=url, sha256=hashes.get(shard_name(url))) for url in source.urls]
    if strangers := sorted(hashes.keys() - {file.shard for file in files}):
        raise DataError(
            f"{source.name} gives a sha256 for what it does not have",
            seen=", ".join(strangers),
            wanted="shard names, such as " + files[0].shard,
            fix="correct sha256 in the catalogue",
        )
    return files


def _local_files(source: Source) -> list[ListedFile]:
    assert source.path is not None
    if not source.path.is_dir():
        raise _no_folder(source.name, source.path)
    files = [path for path in source.path.iterdir() if path.suffix in SHARD_SUFFIXES and not path.name.startswith(".")]
    if nowhere := sorted(path for path in files if path.is_symlink() and not path.exists()):
        # Left out, the first N would be others, and as many.
        raise _leads_nowhere(f"{source.name}: {len(nowhere):,} of its files stand", nowhere[0])
    return [_listed(source, name=path.name, bytes=path.stat().st_size) for path in files if path.is_file()]


def _no_folder(name: str, folder: Path) -> DataError:
    if folder.is_symlink():
        return _leads_nowhere(f"{name}: its folder stands", folder)
    return DataError(f"{name} has no folder", seen=f"no {folder}", wanted="a folder", fix=f"mkdir {quoted(folder)}")


def _leads_nowhere(what: str, link: Path) -> DataError:
    return DataError(
        f"{what} behind a link that leads nowhere",
        seen=f"{link} points to {link.readlink()}",
        wanted="what was there",
        fix=f"ls -l {quoted(link)}; bring back (mount?) what it points to, or take the link away",
    )


def _python_files(source: Source) -> list[ListedFile]:
    from dataprep import corpus

    return [_listed(source, name=name) for name in corpus.list_shards(source.name)]


def _listed(
    source: Source,
    *,
    name: str,
    bytes: int | None = None,  # noqa: A002 -- the unit is the name
    sha256: str | None = None,
    git_sha1: str | None = None,
) -> ListedFile:
    shard = shard_name(name)
    split = source.split_of(shard)
    return ListedFile(shard=shard, split=split, name=name, bytes=bytes, sha256=sha256, git_sha1=git_sha1)


def _check_listing(source: Source, files: Sequence[ListedFile]) -> None:
    def refuse(what: str, seen: object, wanted: str) -> DataError:
        return DataError(f"{source.name}: {what}", seen=seen, wanted=wanted, fix="correct its entry in the catalogue")

    if not files:
        where = source.path or f"{source.repo}: {', '.join(source.files)}"
        raise refuse("no shard was found", where, "at least one .parquet or .jsonl file")
    for file in files:
        if why := _why_refused(source, file):
            raise refuse("a file cannot become a shard", f"{file.name!r:.200}: {why}", "another name for it")
    shard, count = Counter(look_alike(file.shard) for file in files).most_common(1)[0]
    if count > 1:
        names = ", ".join(file.name for file in files if look_alike(file.shard) == shard)
        raise refuse(f"{count} files would make one shard, {shard}", names, "one file per shard name")
    shards = [file.shard for file in files]
    if empty := [pin for pin in source.holdout if not any(fnmatchcase(shard, pin) for shard in shards)]:
        raise refuse(
            f"the held-out {', '.join(empty)} is not among its shards",
            f"{len(shards):,} shards, {shards[0]} to {shards[-1]}",
            "names of shards",
        )


def _why_refused(source: Source, file: ListedFile) -> str | None:
    """Why a listed file is not fetched: its own name, or a path that leads out of where it is put."""
    if source.kind == "hub" and {"..", "/"} & set(PurePosixPath(file.name).parts):
        return "a path that leads elsewhere"
    if source.kind in REMOTE_KINDS and _MEANS_SOMETHING_TO_A_SHELL.search(file.shard):
        return "characters that mean something to a shell: it would stand in commands that are printed to be pasted"
    return why_no_shard(file.shard)
