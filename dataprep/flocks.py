"""Locks on files and folders, by flock: they end with their process, whatever ends it.

In:  a path or a descriptor. Out: a lock, waited for or refused.
Holds: a file system without such locks is named, not worked around.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from dataprep.errors import EnvironmentProblem, quoted

_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock `file`: one holder at a time, a second waits for the first; it ends with its process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        take_lock(descriptor, fcntl.LOCK_EX, file)
        yield
    finally:
        os.close(descriptor)


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
