"""Atomic publication: a file of ours is either whole and durable under its name, or absent.

In:  a final path and the bytes. Out: the file, fsynced and renamed, and its size and sha256.
Holds: unique temp in the same folder → write → fsync → rename → fsync folder. A receipt is
published after the files it names. A failed fsync fails the file: the kernel reports the
error once and the next fsync would lie, so what was written is removed and nothing is retried;
what it was to replace is put back.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dataprep.errors import disk_error
from dataprep.hashing import HashedFile
from dataprep.temps import new_temp, private_folder


def _reached(step: str, path: Path) -> None:
    """A named moment of a publication. Does nothing; crash tests replace it and kill here."""


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[HashedFile]:
    """Write `path` atomically: `with publishing(p) as out: out.write(block)`.

    When the block or the disk fails before the rename, nothing is left under the final name.
    """
    part, descriptor = new_temp(path)
    out = HashedFile(descriptor, path)
    try:
        _reached("opened", path)
        yield out
        _reached("written", path)
        os.fchmod(descriptor, 0o644)
        out.make_durable()
        _reached("synced", path)
        _rename(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        out.close()  # last: closing gives up the lock


def publish_bytes(path: Path, content: bytes) -> str:
    """Publish `content` as `path`; returns its sha256."""
    with publishing(path) as out:
        out.write(content)
    return out.sha256


def adopt(part: Path, path: Path) -> None:
    """Publish a temp file that another program wrote (a download) as `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sync(part)
    _reached("synced", path)
    _rename(part, path)


def move_folder(folder: Path, place: Path) -> None:
    """Give a finished folder another place. Whatever fails, it is whole in one of the two: nothing is taken back."""
    place.parent.mkdir(parents=True, exist_ok=True)
    sync(folder)
    _reached("synced", place)
    folder.rename(place)
    _reached("renamed", place)
    sync(place.parent)
    sync(folder.parent)
    _reached("published", place)


def publish_link(held: Path, path: Path) -> None:
    """Publish `path` as another name for the bytes of `held`. OSError where the file system cannot do that."""
    with private_folder(path.parent, path.name) as part:
        link = part / path.name
        os.link(held, link)
        _reached("synced", path)
        _rename(link, path)


@contextlib.contextmanager
def publishing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temp folder beside `path`; on success every file in it is durable under `path`."""
    with private_folder(path.parent, path.name) as part:
        _reached("opened", path)
        yield part
        _reached("written", path)
        for file in sorted(part.rglob("*")):
            sync(file)
        sync(part)
        _reached("synced", path)
        part.chmod(0o755)
        _rename(part, path)


def sync(path: Path) -> None:
    """fsync a file or a folder. Raises OSError with its name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        os.close(descriptor)


def _rename(part: Path, path: Path) -> None:
    with contextlib.ExitStack() as until_durable:
        before = _second_name(path, until_durable)
        part.rename(path)
        _reached("renamed", path)
        try:
            sync(path.parent)
        except OSError as error:
            # Whether the name is on the disk is not known, and the next fsync would say yes: it is taken back.
            _take_back(path, before)
            raise disk_error(error, path) from error
    _reached("published", path)


def _second_name(path: Path, until_durable: contextlib.ExitStack) -> Path | None:
    """Another name for the file that `path` is to replace; None where there is no such file, or no hard links."""
    if not path.is_file():
        return None
    with contextlib.suppress(OSError):
        second = until_durable.enter_context(private_folder(path.parent, path.name)) / path.name
        os.link(path, second)
        return second
    return None


def _take_back(path: Path, before: Path | None) -> None:
    if before:
        before.rename(path)
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
