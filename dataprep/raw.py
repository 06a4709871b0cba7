"""Raw shards: one listed shard's file on this disk, fetched if need be, and verified.

In:  a listed file. Out: data/raw/<source>/<file> with its receipt <file>.json beside it.
Holds: a file gets its name only when size and sha256 agree, and its receipt after it; a local
source's files are used where they are; done files are not fetched again.
"""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from dataprep import hub, urls
from dataprep.errors import DataError
from dataprep.hashing import git_sha1_file, sha256_file
from dataprep.listing import REMOTE_KINDS, ListedFile, Listing
from dataprep.paths import Paths
from dataprep.patience import MayPass
from dataprep.publish import adopt
from dataprep.retry import persist
from dataprep.sealed import publish_record, read_json
from dataprep.sources import Source, fetch_command, shard_name
from dataprep.space import check_free
from dataprep.temps import private_folder

ENGINES = ("hub", "hf_transfer")
MAKE_ROOM = "free space, a smaller N, or DATAPREP_ROOT on a larger disk"
_PARQUET_MAGIC, _PARQUET_MIN_BYTES = b"PAR1", 12
_BUILDING = threading.Lock()


def fetch_shard(
    listing: Listing,
    file: ListedFile,
    paths: Paths,
    *,
    offline: bool = False,
    engine: str = "hub",
    report: Callable[[int], None] | None = None,
) -> Path:
    """The verified local file of one listed shard, fetched if need be. Safe to call from several threads.

    `report` gets increments of bytes as they arrive; an attempt that fails takes its own back (a
    negative increment), and a success adds up to the file's size. Raises DataError naming the shard.
    """
    path = _local_path(listing.source, file, paths)
    if listing.source.kind == "python":
        _build(listing.source, path)
    if listing.source.kind not in REMOTE_KINDS:
        return _present(listing.source, path)
    if find_held(listing, file, paths) or _recognise(listing, file, path):
        return path
    if offline:
        raise _missing(listing, file, "not held, and --offline")
    advance = report or (lambda _: None)
    what = f"{listing.source.name}/{file.shard} cannot be fetched"
    persist(lambda: _attempt(listing, file, path, engine, advance), what, _command_for(listing, file))
    return path


def find_held(listing: Listing, file: ListedFile, paths: Paths) -> Path | None:
    """The file of `file` if it is here and its receipt (its size, for a local one) agrees with the listing."""
    path = _local_path(listing.source, file, paths)
    if not path.is_file():
        return None
    if listing.source.kind not in REMOTE_KINDS:
        return path
    receipt = read_json(_receipt_path(path)) or {}
    wanted = {"bytes": path.stat().st_size}
    if file.bytes is not None:
        wanted["bytes"] = file.bytes
    # Without a hash only the place it came from can tell that it is still the same file.
    origin = {"sha256": file.sha256} if file.sha256 else {"name": file.name, "revision": listing.revision}
    agrees = all(receipt.get(key) == value for key, value in (wanted | origin).items())
    return path if agrees and path.stat().st_size == wanted["bytes"] else None


def fetched_sha256(listing: Listing, path: Path) -> str | None:
    """The hash a remote shard's file had when it was judged and published."""
    return (read_json(_receipt_path(path)) or {}).get("sha256") if listing.source.kind in REMOTE_KINDS else None


def _attempt(listing: Listing, file: ListedFile, path: Path, engine: str, report: Callable[[int], None]) -> None:
    """Download once into a folder of our own, judge, publish: the file, then its receipt."""
    n_reported = 0

    def advance(n_bytes: int) -> None:
        nonlocal n_reported
        n_reported += n_bytes
        report(n_bytes)

    try:
        with private_folder(path.parent, path.name) as folder:
            part = _download(listing, file, folder, engine, advance)
            n_bytes, sha256 = _judge(file, part)
            adopt(part, path)
        _publish_receipt(listing, file, path, n_bytes, sha256)
    except BaseException:
        report(-n_reported)
        raise
    report(n_bytes - n_reported)


def _download(listing: Listing, file: ListedFile, folder: Path, engine: str, report: Callable[[int], None]) -> Path:
    source, commit = listing.source, listing.revision
    if source.kind == "hub" and engine == "hub":
        assert source.repo is not None
        assert commit is not None
        return hub.download(source.repo, commit, file.name, folder, report, relist=_relisting(source))
    part = folder / PurePosixPath(file.name).name
    headers = hub.token_header() if source.kind == "hub" else {}
    refused = functools.partial(_refused, listing, file)
    urls.download(_url(listing, file), part, headers=headers, refused=refused, report=report)
    return part


def _refused(listing: Listing, file: ListedFile, status: int) -> DataError:
    """A server said no, and would say it again."""
    source, seen = listing.source, f"HTTP {status}"
    denied = status in urls.DENIED
    if source.repo is not None and listing.revision is not None:
        if denied:
            return hub.gated(source.repo, seen)
        return hub.gone(source.repo, listing.revision, file.name, seen, _relisting(source))
    fix = 'an address that needs no login, or the files by hand and kind = "local"'
    if denied:
        return DataError(f"{source.name} needs a login", seen=seen, wanted="HTTP 200 or 206", fix=fix)
    fix = "correct the address in the catalogue; then the same command again"
    return DataError(f"{file.name} cannot be fetched", seen=seen, wanted="HTTP 200 or 206", fix=fix)


def _relisting(source: Source) -> str:
    """The command that asks the Hub anew what the source holds."""
    return f"{fetch_command(source.name)} --refresh"


def _judge(file: ListedFile, part: Path) -> tuple[int, str]:
    """Size and sha256 of a downloaded file. Raises MayPass where it is not what was listed."""
    n_bytes = part.stat().st_size
    if file.bytes is not None and n_bytes != file.bytes:
        raise MayPass(f"{n_bytes:,} bytes came, {file.bytes:,} were listed")
    _judge_form(file.name, part)
    sha256 = sha256_file(part)
    if file.sha256 is not None and sha256 != file.sha256:
        raise MayPass(f"sha256 {sha256[:12]}… came, {file.sha256[:12]}… was listed")
    if file.git_sha1 is not None and (git_sha1 := git_sha1_file(part)) != file.git_sha1:
        raise MayPass(f"git's sha1 {git_sha1[:12]}… came, {file.git_sha1[:12]}… was listed")
    return n_bytes, sha256


def _judge_form(name: str, part: Path) -> None:
    """A proxy's page with status 200 is no shard, whatever its size."""
    with part.open("rb") as content:
        head = content.read(_PARQUET_MIN_BYTES)
        content.seek(-min(len(_PARQUET_MAGIC), part.stat().st_size), os.SEEK_END)
        tail = content.read()
    if name.endswith(".parquet"):
        good = len(head) == _PARQUET_MIN_BYTES and head.startswith(_PARQUET_MAGIC) and tail == _PARQUET_MAGIC
    else:
        good = head.lstrip().startswith(b"{")
    if not good:
        raise MayPass(f"what came begins with {head!r} and ends with {tail!r}: not a {PurePosixPath(name).suffix} file")


def _recognise(listing: Listing, file: ListedFile, path: Path) -> bool:
    """A file without its receipt (killed between the two, or placed by hand) counts when its hash is the listed one."""
    if file.sha256 is None or not path.is_file() or file.bytes not in {None, path.stat().st_size}:
        return False
    if sha256_file(path) != file.sha256:
        return False
    _publish_receipt(listing, file, path, path.stat().st_size, file.sha256)
    return True


def _publish_receipt(listing: Listing, file: ListedFile, path: Path, n_bytes: int, sha256: str) -> None:
    receipt = {"name": file.name, "bytes": n_bytes, "sha256": sha256, "url": _url(listing, file)}
    publish_record(_receipt_path(path), receipt | {"repo": listing.source.repo, "revision": listing.revision})


def _build(source: Source, path: Path) -> None:
    from dataprep import corpus

    with _BUILDING:  # one build makes every missing shard
        if not path.is_file():
            corpus.build(source.name, path.parent)


def _present(source: Source, path: Path) -> Path:
    if path.is_file():
        return path
    wanted = "the file that was listed"
    raise DataError(
        f"{source.name}/{shard_name(path.name)} is gone",
        seen=f"no {path}",
        wanted=wanted,
        fix=fetch_command(source.name),
    )


def _local_path(source: Source, file: ListedFile, paths: Paths) -> Path:
    if source.kind == "local":
        assert source.path is not None
        return source.path / file.name
    return paths.raw(source.name) / PurePosixPath(file.name).name


def _receipt_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _url(listing: Listing, file: ListedFile) -> str:
    repo, commit = listing.source.repo, listing.revision
    return hub.file_url(repo, commit, file.name) if repo and commit else file.name


def _missing(listing: Listing, file: ListedFile, seen: str) -> DataError:
    what, fix = f"{listing.source.name}/{file.shard} is missing", f"{_command_for(listing, file)}  (without --offline)"
    return DataError(what, seen=seen, wanted="a fetched, verified file", fix=fix)


def _command_for(listing: Listing, file: ListedFile) -> str:
    """The smallest command that fetches `file`: its place among the train shards; held-out ones always come."""
    train = [other.shard for other in listing.files if other.split == "train"]
    return fetch_command(listing.source.name, n=train.index(file.shard) + 1 if file.shard in train else 1)


def check_space(listing: Listing, files: Sequence[ListedFile], paths: Paths) -> None:
    """Refuse to begin what the disk cannot hold: the listed bytes of `files` that are not here yet."""
    source = listing.source.name
    what = f"{source}: so much is still to fetch"
    check_free(paths.raw(source), bytes_to_fetch(listing, files, paths), what, fix=MAKE_ROOM)


def bytes_to_fetch(listing: Listing, files: Sequence[ListedFile], paths: Paths) -> int:
    """The listed bytes of `files` that are not here yet."""
    if listing.source.kind not in REMOTE_KINDS:
        return 0
    return sum(file.bytes or 0 for file in files if find_held(listing, file, paths) is None)
