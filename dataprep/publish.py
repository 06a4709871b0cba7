"""Atomic publication: a file of ours is either whole and durable under its name, or absent.

In:  a final path and the bytes. Out: the file, fsynced and renamed, and its size and sha256.
Holds: unique temp in the same folder → write → fsync → rename → fsync folder. A receipt is
published after the files it names. A failed fsync fails the file: the kernel reports the
error once and the next fsync would lie, so what was written is removed and nothing is retried.
A record of ours is sealed: it names the sha256 of its own bytes.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from dataprep.errors import EnvironmentProblem, disk_error
from dataprep.sampled import Sampler

SEAL = "seal_sha256"
_NO_SEAL = "0" * 64
_PART = ".part"
_BUFFER_BYTES = 1 << 20
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def _reached(step: str, path: Path) -> None:
    """A named moment of a publication. Does nothing; crash tests replace it and kill here."""


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


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[HashedFile]:
    """Write `path` atomically: `with publishing(p) as out: out.write(block)`.

    When the block or the disk fails before the rename, nothing is left under the final name.
    """
    part, descriptor = _locked_file(path)
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


def publish_json(path: Path, value: Any) -> None:
    """Publish `value` with sorted keys, so that equal values are equal bytes."""
    publish_bytes(path, _as_text(value))


def publish_record(path: Path, value: dict[str, Any]) -> None:
    """Publish `value` as `publish_json` does, sealed: with the sha256 of its own bytes, the seal read as zeros."""
    unsealed = _as_text(value | {SEAL: _NO_SEAL})
    publish_bytes(path, unsealed.replace(_sealed_by(_NO_SEAL), _sealed_by(hashlib.sha256(unsealed).hexdigest()), 1))


def open_record(content: bytes) -> dict[str, Any]:
    """The value of a record's bytes, without its seal. ValueError where it is no JSON object or the seal is broken.

    Records from before there were seals have none, and are read as they were then.
    """
    value = json.loads(content.decode())
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 -- what is wrong is the file
    if (seal := value.pop(SEAL, None)) is not None:
        unsealed = content.replace(_sealed_by(str(seal)), _sealed_by(_NO_SEAL), 1)
        if hashlib.sha256(unsealed).hexdigest() != seal:
            raise ValueError("its bytes are not those its seal names (sha256)")
    return value


def read_json(path: Path) -> dict[str, Any] | None:
    """A record of ours, or None where there is none or it is damaged: both mean "do it again"."""
    try:
        return open_record(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def adopt(part: Path, path: Path) -> None:
    """Publish a temp file that another program wrote (a download) as `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sync(part)
    _reached("synced", path)
    _rename(part, path)


def publish_link(held: Path, path: Path) -> None:
    """Publish `path` as another name for the bytes of `held`. OSError where the file system cannot do that."""
    with private_folder(path.parent, path.name) as part:
        link = part / path.name
        os.link(held, link)
        _reached("synced", path)
        _rename(link, path)


@contextlib.contextmanager
def private_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield an empty temp folder in `parent` that is gone afterwards; `sweep` spares it while we live."""
    part, lock = _locked_folder(parent, name)
    try:
        yield part
    finally:
        os.close(lock)
        shutil.rmtree(part, ignore_errors=True)


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
            fix=f"findmnt -T {path.parent}; mount NFS with local_lock=flock, or DATAPREP_ROOT on a local disk",
        ) from None


def sweep(folder: Path, *, of: Collection[str] | None = None) -> list[Path]:
    """Remove temps whose writer died; returns them. A living writer's temp is locked and stays.

    In a folder that is not ours alone, give the names whose temps they must be.
    """
    parts = sorted(folder.glob(f".*{_PART}"))
    return [part for part in parts if (of is None or _name_of(part) in of) and _remove_orphan(part)]


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


def sync(path: Path) -> None:
    """fsync a file or a folder. Raises OSError with its name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        os.close(descriptor)


def _as_text(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _sealed_by(sha256: str) -> bytes:
    return f'"{SEAL}": "{sha256}"'.encode()


def _locked_file(path: Path) -> tuple[Path, int]:
    """A temp file beside `path`, locked while its owner lives: (its path, an open descriptor)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PART, dir=path.parent)
        take_lock(descriptor, fcntl.LOCK_EX, Path(name))
        if Path(name).exists():
            return Path(name), descriptor
        os.close(descriptor)  # a sweep came between making and locking it


def _locked_folder(parent: Path, name: str) -> tuple[Path, int]:
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


def _rename(part: Path, path: Path) -> None:
    part.rename(path)
    _reached("renamed", path)
    try:
        sync(path.parent)
    except OSError as error:
        # Whether the name is on the disk is not known, and the next fsync would say yes: it is taken back.
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise disk_error(error, path) from error
    _reached("published", path)


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
