"""Locks on files and folders, by flock: they end with their process, whatever ends it.

In:  a path or a descriptor. Out: a lock, waited for or refused.
Holds: a file system without such locks is named, not worked around.
"""

import contextlib
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from dataprep.errors import EnvironmentProblem, quoted, visible

_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
SILENT_S = 3.0  # two commands at once wait for each other all the time, but not for so long


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock `file`: one holder at a time, a second waits for the first; it ends with its process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        with _waiting_said(descriptor, file):
            take_lock(descriptor, fcntl.LOCK_EX, file)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _waiting_said(descriptor: int, file: Path) -> Iterator[None]:
    """Say on stderr what a long wait is for: who holds the lock may stand still (Ctrl-Z), and silence looks like us."""
    said = f"waiting: another command holds {file} (which one: fuser -v {file})"
    say = threading.Timer(SILENT_S, print, [visible(said)], {"file": sys.stderr, "flush": True})
    try:
        take_lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, file)
    except BlockingIOError:
        say.start()
    try:
        yield
    finally:
        say.cancel()


def take_lock(descriptor: int, kind: int, path: Path) -> None:
    """flock, as every lock of ours is taken. Raises BlockingIOError where LOCK_NB is given and another holds it.

    Raises EnvironmentProblem where the file system has no such locks: NFS has none on folders.
    """
    try:
        fcntl.flock(descriptor, kind)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise EnvironmentProblem(
            f"files under {path.parent} cannot be locked",
            seen=os.strerror(error.errno or 0),
            wanted="a file system with flock on files and folders",
            fix=f"findmnt -T {quoted(path.parent)}; mount NFS with local_lock=flock, or DATAPREP_ROOT on a local disk",
        ) from None
