"""Space: whether a job's bytes fit the disk they go to, asked before the job.

In:  a folder that may not exist yet, bytes needed. Out: nothing, or EnvironmentProblem with both numbers and a way out.
Holds: the free bytes are those of the file system that the folder is, or would be, on.
"""

import shutil
from pathlib import Path

from dataprep.errors import EnvironmentProblem


def check_free(folder: Path, needed_bytes: int, what: str, *, fix: str) -> None:
    """Refuse a job that writes `needed_bytes` into `folder` where so much is not free."""
    free = free_bytes(folder)
    if needed_bytes > free:
        raise EnvironmentProblem(
            f"the disk under {folder} is too small for {what}",
            seen=f"{free:,} bytes free",
            wanted=f"{needed_bytes:,} bytes",
            fix=fix,
        )


def free_bytes(folder: Path) -> int:
    """Bytes free where `folder` is, or would be made."""
    return shutil.disk_usage(next(held for held in (folder, *folder.parents) if held.exists())).free
