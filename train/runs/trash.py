"""Trash: a run is taken out of the way, brought back, or emptied for good; what it saw stays known.

In:  a run's name. Out: runs/.trash/<run>/, with trashed.json: {"trashed_at": …, "bytes": …, "purged_at": …}.
Holds: one rename takes a run away whole, under its journal's lock: nothing that is being trained moves;
       the journal is never deleted, so lineage, seen and steps of the run and of its children stay.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dataprep.errors import DataError, UsageError, quoted
from dataprep.flocks import locked
from dataprep.ledger import TRASH, TRASH_RECEIPT, Journal
from dataprep.paths import FINDINGS, JOURNAL, Paths
from dataprep.publish import move_folder
from dataprep.sealed import publish_json, read_json
from dataprep.temps import sweep
from train.journal import now
from train.locks import lock


def trash_run(paths: Paths, run: str, journals: Mapping[str, Journal], *, force: bool) -> int:
    """Move runs/RUN to the trash; returns its bytes. Raises UsageError for what must stay."""
    with _changing(paths, run):
        folder, place = paths.runs / run, trash_folder(paths, run)
        if place.exists():
            raise _taken(paths, run) if folder.exists() else _trashed_already(paths, run)
        if not folder.is_dir():
            raise no_such_run(paths, run)
        if folder.is_symlink():
            raise _link(paths, folder)
        descendants = living_descendants(paths, journals, run)
        if descendants and not force:
            raise UsageError(
                f"runs that are not in the trash descend from {run!r}",
                seen=", ".join(descendants),
                wanted="no living descendant: until its own first checkpoint, a run needs its parent's",
                fix=f"trash those first; or python -m train.runs trash {run} --force",
            )
        with _held(folder, run):
            _forget_begun(folder)
            n_bytes = bytes_of(folder)
            # The receipt goes with the folder: only inside the trash does it mean anything.
            publish_json(folder / TRASH_RECEIPT, {"run": run, "trashed_at": now(), "bytes": n_bytes})
            move_folder(folder, place)
    return n_bytes


def restore_run(paths: Paths, run: str) -> None:
    """Move a run back from the trash. Raises UsageError where it cannot be one again."""
    with _changing(paths, run):
        folder, place = paths.runs / run, trash_folder(paths, run)
        if not place.exists() and (folder / TRASH_RECEIPT).exists():
            _forget_begun(folder)  # killed while it was brought back, or before it was taken away: it is here, whole
            return
        receipt = _receipt(paths, run)
        if folder.exists():
            raise _taken(paths, run)
        if receipt.get("purge_began_at"):
            raise UsageError(
                f"run {run!r} was purged: there are no checkpoints to bring back",
                seen=f"purged at {receipt.get('purged_at') or 'no time: it was interrupted'}",
                wanted="a run that is whole in the trash",
                fix=f"python -m train.runs show {run}   # what it saw stays known",
            )
        move_folder(place, folder)
        _forget_begun(folder)


def purge_run(paths: Paths, run: str) -> int:
    """Delete all of a trashed run but its records; returns the bytes freed. Interrupted, it goes on when called again.

    Raises UsageError for a run that is not in the trash.
    """
    with _changing(paths, run):
        place, receipt = trash_folder(paths, run), _receipt(paths, run)
        if place.is_symlink():
            raise _link(paths, place)
        n_bytes = 0
        # Said before the first byte goes: half a run is never restored.
        receipt.setdefault("purge_began_at", now())
        publish_json(place / TRASH_RECEIPT, receipt)
        for item in place.iterdir():
            if item.is_dir() and not item.is_symlink():
                n_bytes += bytes_of(item)
                shutil.rmtree(item)
            elif item.name not in (JOURNAL, FINDINGS, TRASH_RECEIPT):
                n_bytes += item.lstat().st_size
                item.unlink()
        publish_json(place / TRASH_RECEIPT, receipt | {"purged_at": receipt.get("purged_at") or now()})
    return n_bytes


def refuse_trashed(paths: Paths, run: str, *, wanted: str, instead: str) -> None:
    """Raise UsageError when `run` lies in the trash and no living run has its name."""
    place = trash_folder(paths, run)
    if place.exists() and not (paths.runs / run).exists():
        fix = f"python -m train.runs restore {run}; or {instead}"
        raise UsageError(f"run {run!r} is in the trash", seen=paths.shown(place), wanted=wanted, fix=fix)


def trash_folder(paths: Paths, run: str) -> Path:
    """Where a run lies once it was trashed."""
    return paths.runs / TRASH / run


def living_descendants(paths: Paths, journals: Mapping[str, Journal], run: str) -> list[str]:
    """Runs not in the trash that began from `run`, or from one that did; a trashed run between hides nobody."""
    found, asked = [], [run]
    while asked:
        parent = asked.pop()
        children = [child for child, journal in journals.items() if parent_of(journal) == parent and child not in found]
        found += children
        asked += children
    return sorted(child for child in found if child != run and (paths.runs / child).exists())


def parent_of(journal: Journal) -> str | None:
    """The run whose weights this one began with."""
    return next((start["parent_run"] for start in journal.of_kind("start")), None)


def is_locked(journal: Path) -> bool:
    """Whether a living process writes this journal. Asks for the lock and gives it back at once."""
    with lock(journal, fcntl.LOCK_SH | fcntl.LOCK_NB) as free:
        return journal.exists() and not free


def bytes_of(folder: Path) -> int:
    """Bytes of every file below a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_symlink() or file.is_file())


def no_such_run(paths: Paths, run: str) -> UsageError:
    """There is no such run, but perhaps others."""
    known = sorted(folder.name for folder in paths.runs.glob("[!.]*") if folder.is_dir())
    return UsageError(
        f"there is no run {run!r}",
        seen=", ".join(known) or "no runs",
        wanted="the name of a run",
        fix="python -m train.runs ls",
    )


@contextlib.contextmanager
def _changing(paths: Paths, run: str) -> Iterator[None]:
    """One at a time: two who move the same run would both believe they did."""
    if not paths.runs.is_dir():
        raise no_such_run(paths, run)
    with locked(paths.runs / ".runs.lock"):
        yield


@contextlib.contextmanager
def _held(folder: Path, run: str) -> Iterator[None]:
    """Hold the run's journal, so that nobody trains it while it moves."""
    with lock(folder / JOURNAL, fcntl.LOCK_EX | fcntl.LOCK_NB) as free:
        if not free and (folder / JOURNAL).exists():
            raise UsageError(
                f"run {run!r} is being trained now",
                seen="its journal is locked by another process",
                wanted="a run that nobody trains",
                fix=f"stop it (Ctrl-C saves a checkpoint), then python -m train.runs trash {run}",
            )
        yield


def _forget_begun(folder: Path) -> None:
    """Take away what a trash or a restore, this one or one that was killed, left in a run that is not in the trash."""
    sweep(folder)
    (folder / TRASH_RECEIPT).unlink(missing_ok=True)


def _link(paths: Paths, link: Path) -> UsageError:
    """What it points to may be another run, and a purge would empty that one."""
    return UsageError(
        f"{paths.shown(link)} is a link, not a run of its own",
        seen=f"it points to {link.readlink()}",
        wanted="the run's own folder",
        fix=f"rm {quoted(link)}   # takes the link alone away",
    )


def _receipt(paths: Paths, run: str) -> dict[str, Any]:
    place = trash_folder(paths, run)
    if not place.is_dir():
        living = (paths.runs / run).is_dir()
        raise UsageError(
            f"run {run!r} is not in the trash",
            seen=paths.shown(paths.runs / run) if living else "no run of that name",
            wanted=paths.shown(place),
            fix=f"python -m train.runs trash {run}" if living else "python -m train.runs ls",
        )
    receipt = read_json(place / TRASH_RECEIPT)
    if receipt is None:
        raise DataError(
            f"the receipt of the trashed run {run!r} is damaged",
            seen=paths.shown(place / TRASH_RECEIPT),
            wanted="the JSON that trash wrote",
            fix=f"mv {quoted(place)} {quoted(paths.runs / run)}   # the run itself is whole",
        )
    return receipt


def _trashed_already(paths: Paths, run: str) -> UsageError:
    return UsageError(
        f"run {run!r} is in the trash already",
        seen=paths.shown(trash_folder(paths, run)),
        wanted="a run in runs/",
        fix=f"python -m train.runs restore {run}; or purge {run} to free its space",
    )


def _taken(paths: Paths, run: str) -> UsageError:
    place = trash_folder(paths, run)
    return UsageError(
        f"the name {run!r} is taken twice: by a run and by one in the trash",
        seen=f"{paths.shown(paths.runs / run)} and {paths.shown(place)}",
        wanted="one of them",
        fix=f"mv {quoted(place)} {quoted(f'{place}-old')}; python -m train.runs restore {run}-old",
    )
