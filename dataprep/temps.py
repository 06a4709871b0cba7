"""Temps: unfinished files and folders, beside where they will be published, and sweeping what the dead left.

In:  a final path. Out: a temp of it, locked while its owner lives: `.name.random.part`.
Holds: a sweep takes away what nobody holds, and never what somebody still writes.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from dataprep.flocks import take_lock

_PART = ".part"


@contextlib.contextmanager
def private_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield an empty temp folder in `parent` that is gone afterwards; `sweep` spares it while we live."""
    part, lock = _new_folder(parent, name)
    try:
        yield part
    finally:
        os.close(lock)
        shutil.rmtree(part, ignore_errors=True)


def sweep(folder: Path, *, of: Collection[str] | None = None) -> list[Path]:
    """Remove temps whose writer died; returns them. A living writer's temp is locked and stays.

    In a folder that is not ours alone, give the names whose temps they must be.
    """
    parts = sorted(folder.glob(f".*{_PART}"))
    return [part for part in parts if (of is None or _name_of(part) in of) and _remove_orphan(part)]


def new_temp(path: Path) -> tuple[Path, int]:
    """A temp file beside `path`, locked while its owner lives: (its path, an open descriptor)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PART, dir=path.parent)
        take_lock(descriptor, fcntl.LOCK_EX, Path(name))
        if Path(name).exists():
            return Path(name), descriptor
        os.close(descriptor)  # a sweep came between making and locking it


def _new_folder(parent: Path, name: str) -> tuple[Path, int]:
    """A temp folder in `parent`, locked while its owner lives: (its path, the lock's descriptor)."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        part = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_PART, dir=parent))
        with contextlib.suppress(FileNotFoundError):  # a sweep came between making and locking it
            lock = os.open(part, os.O_RDONLY)
            take_lock(lock, fcntl.LOCK_EX, part)
            if part.exists():
                return part, lock
            os.close(lock)


def _name_of(part: Path) -> str:
    """What `.name.random.part` is a temp of."""
    return part.name.removesuffix(_PART).rpartition(".")[0].removeprefix(".")


def _remove_orphan(part: Path) -> bool:
    """Remove a temp that nobody holds, while we hold it: a writer that waits for its lock looks again."""
    try:
        descriptor = os.open(part, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        take_lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, part)
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
