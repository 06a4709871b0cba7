"""Disk: every writer's word for a disk that is full or broken, as one error.

In:  a block that writes, what is said if it cannot, where, how many bytes. Out: EnvironmentProblem, exit 5.
Holds: safetensors has a word of its own, torch a RuntimeError, Python OSError: none of them ends in a traceback.
with refusing("the checkpoint could not be written", folder, needed_bytes=1_000_000): …
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from dataprep.errors import EnvironmentProblem, quoted
from dataprep.space import free_bytes


@contextlib.contextmanager
def refusing(what: str, folder: Path, *, needed_bytes: int | None = None) -> Iterator[None]:
    """Say `what` and the writer's own word, and how much is free and needed."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        needed = "free space" if needed_bytes is None else f"{needed_bytes:,} bytes free"
        raise EnvironmentProblem(
            what,
            seen=f"{str(error).partition(chr(10))[0]}; {free_bytes(folder):,} bytes free",
            wanted=f"{needed} and a healthy disk for {folder}",
            fix=f"df -h {quoted(folder.parent)}; make space, then the same command goes on",
        ) from error
