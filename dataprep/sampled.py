"""A sampled hash: a cheap look at a large file, before a long job reads all of it.

In:  a file, or its bytes as they are written. Out: a sha256 over 4 KiB of every 8 MiB.
Holds: both ways give the same hash; it finds a file that is another one, or lost whole stretches (a bad copy, holes
       after a power cut), not a single flipped byte: only the full sha256 does. Files up to 1 MiB are hashed whole.
A 200 MB bin: 24 blocks, 98 KiB read.
"""

import hashlib
import os
from pathlib import Path

LOOKS = ("sampled", "full", "size")  # how closely the trainer looks before it begins
BLOCK_BYTES, STRIDE_BYTES = 4 << 10, 8 << 20
WHOLE_BYTES = 1 << 20  # up to here the full hash is as cheap


class Sampler:
    """Takes in a file's bytes in order, and hashes the blocks that are looked at."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._offset = 0

    def update(self, view: memoryview) -> None:
        """Take in the next bytes."""
        end = self._offset + len(view)
        first = self._offset // STRIDE_BYTES * STRIDE_BYTES
        for block in range(first, end, STRIDE_BYTES):
            begin, stop = max(block, self._offset), min(block + BLOCK_BYTES, end)
            if begin < stop:
                self._hash.update(view[begin - self._offset : stop - self._offset])
        self._offset = end

    @property
    def sha256(self) -> str | None:
        """Hex digest of the blocks; None for a file so small that its full hash is as cheap."""
        return self._hash.hexdigest() if self._offset > WHOLE_BYTES else None


def sampled_sha256(file: Path) -> str:
    """The sampled hash of a file on disk: one read per block, and nothing read ahead."""
    found, descriptor = hashlib.sha256(), os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for offset in range(0, os.fstat(descriptor).st_size, STRIDE_BYTES):
            found.update(os.pread(descriptor, BLOCK_BYTES, offset))
    finally:
        os.close(descriptor)
    return found.hexdigest()
