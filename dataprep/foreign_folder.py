"""Foreign folder: the record of an export in its folder, and what may be written there.

In:  the folder, what is to be exported, the files it takes. Out: quern-export.json, first as a claim, then complete.
Holds: nothing of somebody else's is overwritten or taken away; after a kill, the claim says which names are ours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataprep.errors import UsageError, quoted
from dataprep.hashing import sha256_file
from dataprep.sealed import publish_json, read_json
from dataprep.temps import sweep

RECORD = "quern-export.json"


def read_claim(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What an earlier export left there; {} where there was none. Raises UsageError for another source's."""
    file = folder / RECORD
    before = read_json(file) or {}
    if file.exists() and not _is_record(before):
        wanted, fix = "what an export wrote", _mv(file, ".other")
        raise UsageError(f"{file} is no record of an export", seen="something else", wanted=wanted, fix=fix)
    ours = [about[key] for key in ("format", "source")]
    theirs = [before.get(key) for key in ("format", "source")]
    if before and theirs != ours:
        seen, wanted = " of ".join(map(str, theirs)), " of ".join(ours)
        raise UsageError(f"{folder} holds another export", seen=seen, wanted=wanted, fix="choose another folder")
    return before


def _mv(file: Path, suffix: str) -> str:
    return f"mv {quoted(file)} {quoted(f'{file}{suffix}')}"


def _is_record(value: dict[str, Any]) -> bool:
    """Whether it is ours, and all its names are below the folder: files are taken away by them."""
    files = value.get("files") if {"format", "source", "complete"} <= value.keys() else None
    names = [file.get("name") for file in files] if isinstance(files, list) else [None]
    return all(isinstance(name, str) and ".." not in name and not name.startswith("/") for name in names)


def is_current(folder: Path, about: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether everything is there and as it would be made. Sizes stand for hashes where nothing is newer."""
    complete = before.get("complete") and all(before.get(key) == value for key, value in about.items())
    return bool(complete) and all(
        (folder / file["name"]).is_file() and not _edited(folder, file) for file in before["files"]
    )


def _edited(folder: Path, file: dict[str, Any]) -> bool:
    """Whether a file of an earlier export is another one now. Hashed only if it is newer, as make does."""
    path, record = folder / file["name"], folder / RECORD
    if path.stat().st_size != file["bytes"]:
        return True
    return path.stat().st_mtime_ns > record.stat().st_mtime_ns and sha256_file(path) != file["sha256"]


def make_room(folder: Path, names: Sequence[str], before: dict[str, Any]) -> list[str]:
    """Refuse to overwrite what is not ours; take away, and return, our own files that this export does not have."""
    known = {file["name"]: file for file in before.get("files", [])}
    strangers = [name for name in names if name not in known and (folder / name).exists()]
    if before.get("complete"):
        strangers += [name for name in known if (folder / name).exists() and _edited(folder, known[name])]
    if strangers:
        raise UsageError(
            f"{folder} has files that no export of this made",
            seen=", ".join(strangers),
            wanted="nothing of that name, or what was exported, unchanged",
            fix=f"{_mv(folder / strangers[0], '.mine')}   # or choose another folder",
        )
    stale = sorted(known.keys() - set(names))
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    return stale


def claim(folder: Path, about: dict[str, Any], names: Sequence[str], before: dict[str, Any]) -> None:
    """Say before the first file which names are ours: a run after a kill may overwrite them.

    What a kill left of them is taken away; a temp of another name may be somebody's download.
    """
    known = {*names, *(file["name"] for file in before.get("files", []))}
    publish_json(folder / RECORD, about | {"complete": False, "files": [{"name": name} for name in sorted(known)]})
    for inside in {(folder / name).parent for name in known}:
        sweep(inside, of={RECORD, *(Path(name).name for name in known)})
