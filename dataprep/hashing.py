"""Hashing: files that are hashed while they are written, and hashes of files that are there.

In:  blocks, or a path. Out: sha256, a sampled one for large files, git's sha1.
Holds: every byte that is written passes the hash; an error of the disk names the file and the bytes.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataprep.errors import disk_error
from dataprep.sampled import Sampler

_BUFFER_BYTES = 1 << 20


class HashedFile(io.RawIOBase):
    """A file being written: every byte that passes is hashed, so nothing is read twice.

    It is an ordinary binary file to whoever writes (pyarrow, polars), and it cannot seek.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES)
        self._path = path
        self._hash, self._sampler = hashlib.sha256(), Sampler()
        self.bytes_written = 0

    def writable(self) -> bool:
        """Say yes: `io` asks."""
        return True

    def write(self, block: Any) -> int:
        """Append one contiguous buffer; returns its bytes."""
        n_bytes = memoryview(block).nbytes
        if n_bytes:  # a view of nothing cannot be cast
            view = memoryview(block).cast("B")
            self.bytes_written += n_bytes
            with self._named():
                self._file.write(view)
            self._hash.update(view)
            self._sampler.update(view)
        return n_bytes

    @property
    def sha256(self) -> str:
        """Hex digest of what was written so far."""
        return self._hash.hexdigest()

    @property
    def sampled_sha256(self) -> str | None:
        """The sampled hash; None for a file so small that its full hash is as cheap."""
        return self._sampler.sha256

    def make_durable(self) -> None:
        """Flush and fsync. Raises OSError, after which the file must not be published."""
        with self._named():
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close without caring whether the bytes arrived: `make_durable` is who cares."""
        with contextlib.suppress(OSError):
            self._file.close()
        super().close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """The system does not say which file it could not write, nor how much of it there was to be."""
        try:
            yield
        except OSError as error:
            raise disk_error(error, self._path, needed_bytes=self.bytes_written) from error


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, about 0.5 GB/s."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sha1_file(path: Path) -> str:
    """What git calls a file of these bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BUFFER_BYTES):
            digest.update(block)
    return digest.hexdigest()
