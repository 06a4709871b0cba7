"""Bundle files: what lies in an evaluation bundle, a folder or a zip, read without unpacking.

In:  the path of a folder or a .zip that has core.yaml at its top or one folder down, as the real one has.
Out: any file's bytes by its name below core.yaml's folder, and one sha256 for what was read.
Holds: no name leads out of the bundle, and nothing larger than MAX_FILE_BYTES is unpacked into memory.
A zip is known by the sha256 of the zip; a folder by that of the sorted lines "<sha256>  <name>" of the files read.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from dataprep.errors import DataError, UsageError
from dataprep.hashing import sha256_file

TASK_LIST = "core.yaml"
MAX_FILE_BYTES = 512 << 20
FETCH = "python -m dataprep.fetch --source core-eval"
_Top = TypeVar("_Top")
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)  # Runtime: a password


class BundleFiles(Protocol):
    """A bundle's files, by their names below the folder of core.yaml."""

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises DataError naming it."""
        ...

    def sha256(self) -> str:
        """What the bundle is known by, once everything wanted was read."""
        ...


def open_files(path: Path) -> BundleFiles:
    """The files of the bundle at `path`. Raises UsageError where there is none, DataError where it is damaged."""
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise UsageError(
            f"there is no bundle at {path}",
            seen="no such file or folder",
            wanted=f"a .zip or a folder with {TASK_LIST}",
            fix=FETCH,
        )
    return _Zip(path)


class _Folder:
    def __init__(self, path: Path) -> None:
        tops = [file.parent for file in (path / TASK_LIST, *sorted(path.glob(f"*/{TASK_LIST}"))) if file.is_file()]
        self._top, self._shown = _the_one(tops, path), path
        self._sha256: dict[str, str] = {}

    def read(self, name: str) -> bytes:
        file = self._top / _inside(name, self._shown)
        if not file.resolve().is_relative_to(self._top.resolve()):
            raise _leads_out(name, self._shown)
        if not file.is_file():
            raise _missing(name, self._shown)
        _check_size(name, file.stat().st_size, self._shown)
        content = file.read_bytes()
        self._sha256[name] = hashlib.sha256(content).hexdigest()
        return content

    def sha256(self) -> str:
        lines = [f"{sha256}  {name}\n" for name, sha256 in sorted(self._sha256.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class _Zip:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGED_ZIP as error:
            raise _damaged(path, error) from None
        tops = [PurePosixPath(name).parent for name in self._zip.namelist() if PurePosixPath(name).name == TASK_LIST]
        self._top = _the_one(sorted({top for top in tops if len(top.parts) <= 1}, key=lambda top: len(top.parts)), path)

    def read(self, name: str) -> bytes:
        entry = str(self._top / _inside(name, self._path))
        try:
            info = self._zip.getinfo(entry)
            _check_size(name, info.file_size, self._path)
            return self._zip.read(info)  # never more than file_size, and its checksum is checked
        except KeyError:
            raise _missing(name, self._path) from None
        except _DAMAGED_ZIP as error:
            raise _damaged(self._path, f"{name}: {error}") from None

    def sha256(self) -> str:
        return sha256_file(self._path)


def _the_one(tops: Sequence[_Top], bundle: Path) -> _Top:
    """The top folder: the bundle's own where core.yaml is there, else the only one that has it."""
    if len(tops) == 1:
        return tops[0]
    raise DataError(
        f"{bundle} is not one evaluation bundle",
        seen=f"{TASK_LIST} in {len(tops)} places",
        wanted=f"one {TASK_LIST}, at the top or one folder down",
        fix=FETCH,
    )


def _inside(name: str, bundle: Path) -> PurePosixPath:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or not relative.parts:
        raise _leads_out(name, bundle)
    return relative


def _check_size(name: str, n_bytes: int, bundle: Path) -> None:
    if n_bytes > MAX_FILE_BYTES:
        raise DataError(
            f"{name} in {bundle} is too large to be a task's data",
            seen=f"{n_bytes:,} bytes",
            wanted=f"at most {MAX_FILE_BYTES:,}",
            fix=FETCH,
        )


def _leads_out(name: str, bundle: Path) -> DataError:
    return DataError(
        f"the name {name!r} leads out of {bundle}",
        seen=name,
        wanted="a path inside the bundle",
        fix=f"correct {TASK_LIST}; or {FETCH}",
    )


def _missing(name: str, bundle: Path) -> DataError:
    return DataError(f"{bundle} has no {name}", seen="no such file in it", wanted="every file that it names", fix=FETCH)


def _damaged(path: Path, error: object) -> DataError:
    return DataError(f"{path} cannot be read as a zip", seen=error, wanted="a whole zip, without a password", fix=FETCH)
