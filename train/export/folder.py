"""Folder: where an export is published, whole or not at all, and what may stand there before it.

In:  the folder asked for, what the export is of. Out: a temp folder to fill, published under the name; its receipt.
Holds: nothing but an export of ours, with no file in it that is not of the export, is ever replaced, and only with
       --force; a second export of the same weights finds that it is there, file by file.
quern_export.json {"of": {"run": "base", "step": 40, …}, "verified": {…} or null, "files": {name: bytes and sha256}}
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataprep.errors import UsageError, quoted
from dataprep.hashing import sha256_file
from dataprep.publish import publishing_folder, sync
from dataprep.sealed import publish_json, read_json
from dataprep.temps import sweep

RECEIPT = "quern_export.json"
_FORMAT = 1
Facts = dict[str, Any]


def stands(folder: Path, of: Facts, *, force: bool) -> bool:
    """Whether this very export is there, whole. Raises UsageError for anything that must not be replaced."""
    fresh, _ = _beside(folder)
    if fresh.exists() and not folder.exists():  # killed between the two renames: the new export is whole
        fresh.rename(folder)
        sync(folder.parent)
    sweep(folder.parent, of={folder.name, fresh.name})
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    receipt = read_json(folder / RECEIPT) if folder.is_dir() else None
    if receipt is None or receipt.get("format") != _FORMAT:
        raise _refused(folder, "it is not an export of ours", f"no {RECEIPT} in it", "another FOLDER")
    strange = sorted(file.name for file in folder.iterdir() if file.name not in {RECEIPT, *receipt["files"]})
    if strange:
        fix = f"mv {quoted(folder / strange[0])} …   # elsewhere; then the same command again"
        raise _refused(folder, "files that are not of the export lie in it", ", ".join(strange[:5]), fix)
    if force:
        return False
    if receipt["of"] != of:
        seen = _difference(receipt["of"], of)
        raise _refused(folder, "it holds another export", seen, "another FOLDER, or --force to replace it")
    wrong = sorted(name for name, fact in receipt["files"].items() if _fact(folder / name) != fact)
    if wrong:
        raise _refused(folder, "its files were changed", ", ".join(wrong), "--force writes them again")
    return True


@contextlib.contextmanager
def publishing_export(folder: Path, of: Facts) -> Iterator[tuple[Path, Facts]]:
    """Yield a temp folder and the receipt's other facts; what was put in both is published together.

    An export that stands there goes at the last moment, when the new one is durable beside it.
    """
    replaces = folder.exists()
    fresh, aside = _beside(folder) if replaces else (folder, folder)
    facts: Facts = {}
    try:
        with publishing_folder(fresh) as part:
            yield part, facts
            for file in part.iterdir():
                file.chmod(0o644)  # safetensors writes for its owner alone
            files = {file.name: _fact(file) for file in sorted(part.iterdir())}
            publish_json(part / RECEIPT, {"format": _FORMAT, "of": of, "files": files, **facts})
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not folder.exists():
            raise
        raise _refused(folder, "somebody else wrote it meanwhile", "a folder", "another FOLDER") from None
    if replaces:
        folder.rename(aside)
        fresh.rename(folder)
        sync(folder.parent)
        shutil.rmtree(aside)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the new export lies, whole, until the one it replaces has gone; and where that one goes."""
    return folder.with_name(f".{folder.name}.new.part"), folder.with_name(f".{folder.name}.old.part")


def _fact(file: Path) -> Facts | None:
    return {"bytes": file.stat().st_size, "sha256": sha256_file(file)} if file.is_file() else None


def _difference(held: Facts, asked: Facts) -> str:
    """The first thing in which two exports differ, as a person would say it."""
    key = next(key for key in (*asked, *held) if held.get(key) != asked.get(key))
    return f"{key} {held.get(key)}, not {asked.get(key)}"


def _refused(folder: Path, what: str, seen: str, fix: str) -> UsageError:
    return UsageError(f"{folder} is not written: {what}", seen=seen, wanted="a new folder, or this export", fix=fix)
