"""Locks between processes: on a file or folder that is there, for as long as the block runs or its process lives.

In:  a path, and fcntl's LOCK_SH or LOCK_EX, with LOCK_NB not to wait. Out: whether the lock was had.
Holds: a lock is never left behind: it ends with its process, however that ends.
with lock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone: …
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dataprep.flocks import take_lock


@contextlib.contextmanager
def lock(path: Path, kind: int) -> Iterator[bool]:
    """Hold a lock on `path`; False where there is no such path, or where another holds it and nobody waits."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _is_had(descriptor, kind, path)
    finally:
        os.close(descriptor)


def _is_had(descriptor: int, kind: int, path: Path) -> bool:
    try:
        take_lock(descriptor, kind, path)
    except BlockingIOError:
        return False
    return True
