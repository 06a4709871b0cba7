"""Manifest: tokens.db, derived from receipts, recipes and journals, and replaced as one file.

In:  everything under data/, manifests/recipes/ and runs/. Out: manifests/tokens.db (storage v1.4.0).
Holds: the database is built in a private file under a lock, checkpointed, fsynced, then renamed in;
no program of ours ever opens the published file for writing. A stranger's unsaved changes
(a non-empty tokens.db.wal with a living owner) postpone the publication; an orphan is moved aside.
A shell that was open for writing when we renamed and writes afterwards writes to the old file: what
it wrote is moved aside too, with a note. So people are told to open the file with -readonly.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataprep import harvest
from dataprep.errors import EnvironmentProblem, quoted
from dataprep.flocks import locked
from dataprep.paths import SHIPPED_MANIFESTS, Paths
from dataprep.publish import adopt
from dataprep.space import free_bytes
from dataprep.temps import private_folder, sweep

if TYPE_CHECKING:
    import duckdb

_STORAGE = "v1.4.0"  # the oldest that duckdb 1.4 to 2.0 all read; people's shells are 1.5
_LOCK = ".tokens.lock"  # it also holds the hash of what tokens.db was made from
_TICK_NS = 100_000_000  # times of files are as coarse as the tick of the kernel, up to 10 ms: ten of them


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What came of a rebuild. `postponed` says why the old file still stands; notes are for people."""

    lines_by_table: dict[str, int]
    notes: tuple[str, ...]
    postponed: str | None


def rebuild(paths: Paths, *, unless_current: bool = False) -> Rebuilt:
    """Derive tokens.db anew and publish it; not where somebody else did while we waited, if told so."""
    paths.manifests.mkdir(parents=True, exist_ok=True)
    lock = paths.manifests / _LOCK
    with locked(lock):
        if unless_current and not is_stale(paths):
            return Rebuilt(lines_by_table={}, notes=(), postponed=None)
        sweep(paths.manifests)
        os.utime(lock)
        begun = lock.stat().st_mtime_ns  # by the clock of this file system
        state = _state(paths)
        harvested = harvest.collect(paths)
        with private_folder(paths.manifests, paths.database.name) as folder:
            fresh = folder / paths.database.name
            _build(fresh, harvested, paths)
            os.utime(fresh, ns=(begun, begun))  # what changes from here on makes it stale
            made_from = f"{fresh.stat().st_ino} {state}"
            postponed = _publish(fresh, paths, harvested.notes)
            lock.write_text(made_from if postponed is None else "")  # torn or missing, the database counts as stale
    counts = {name: len(lines) for name, lines in harvested.tables.items()}
    return Rebuilt(lines_by_table=counts, notes=tuple(harvested.notes), postponed=postponed)


def build_apart(paths: Paths, file: Path) -> None:
    """Derive the database into a file of the caller's own: where it cannot be published, for whatever reason."""
    _build(file, harvest.collect(paths), paths)


def check_writable(paths: Paths) -> None:
    """Before a long job: its end would be in vain. Raises EnvironmentProblem."""
    paths.manifests.mkdir(parents=True, exist_ok=True)
    if not os.access(paths.manifests, os.W_OK | os.X_OK):  # says no to root too, where the mount is read-only
        raise EnvironmentProblem(
            f"{paths.shown(paths.manifests)} cannot be written",
            seen="a read-only folder",
            wanted="the place of tokens.db, recipes and plans",
            fix="export DATAPREP_ROOT=FOLDER that you may write; then the same command again",
        )


def is_stale(paths: Paths) -> bool:
    """Whether something the database is derived from changed after it was made.

    Told by what is there, not by its age: a clock that was put back would make new records look old for as long.
    """
    if not paths.database.exists():
        return True
    if _unsaved_changes(paths.database):
        return True  # somebody's, perhaps over a file that is no longer ours: nobody could open it
    made, lock = paths.database.stat(), paths.manifests / _LOCK
    if not lock.exists() or lock.read_text() != f"{made.st_ino} {_state(paths)}":
        return True
    # What was written in the very tick of the clock in which we looked may have been written once more since.
    ages = (item.stat().st_mtime_ns - made.st_mtime_ns for item in _watched(paths))
    return any(0 <= age < _TICK_NS for age in ages)


def _watched(paths: Paths) -> list[Path]:
    return [SHIPPED_MANIFESTS / "schema.sql", *harvest.watched(paths)]


def _state(paths: Paths) -> str:
    """A hash of which files and folders there are, which ones they are, and when they were last changed."""
    found = [(str(item), item.stat()) for item in _watched(paths)]
    facts = [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _build(file: Path, harvested: harvest.Harvest, paths: Paths) -> None:
    import duckdb

    try:
        _fill(file, harvested)
    except duckdb.Error as error:
        raise _cannot_write(paths, error, file) from None


def _fill(file: Path, harvested: harvest.Harvest) -> None:
    import duckdb

    with duckdb.connect(str(file), config={"storage_compatibility_version": _STORAGE}) as connection:
        connection.execute((SHIPPED_MANIFESTS / "schema.sql").read_text(encoding="utf-8"))
        for table, lines in harvested.tables.items():
            if lines and not _insert(connection, table, lines):
                bad = [line for line in lines if not _insert(connection, table, [line])]
                harvested.notes.append(f"left out of {table}: {len(bad)} lines with values that no column can hold")
        for counted, sql in ((harvested.seen, _SEEN), (harvested.again, _AGAIN)):
            for rows in counted:
                try:
                    connection.execute(sql, vars(rows) | {"plan": str(rows.plan)})
                except duckdb.Error as error:
                    why = str(error).splitlines()[0]
                    harvested.notes.append(f"run {rows.run}: {rows.plan.name} cannot be read ({why})")
        connection.execute("CHECKPOINT")


def _insert(connection: "duckdb.DuckDBPyConnection", table: str, lines: list[harvest.Line]) -> bool:
    """Insert all of `lines` or none; False where a value fits no column."""
    import duckdb
    import pyarrow as pa

    try:
        connection.register("lines_to_insert", pa.Table.from_pylist(lines))
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM lines_to_insert")  # noqa: S608 -- our own table names
    except (OverflowError, UnicodeError, pa.ArrowException, duckdb.ConversionException, duckdb.OutOfRangeException):
        return False
    connection.unregister("lines_to_insert")
    return True


_SEEN = """
INSERT INTO seen_tokens
SELECT $run, $ancestor, $recipe, source, shard, sum(length)::BIGINT FROM read_parquet($plan)
WHERE "row" >= $row_from AND "row" < $row_to GROUP BY source, shard
"""
_AGAIN = """
INSERT INTO reseen_rows
SELECT $run, $recipe, $row_from, $row_to, $times, (sum(length) * $times)::BIGINT FROM read_parquet($plan)
WHERE "row" >= $row_from AND "row" < $row_to
"""


def _publish(fresh: Path, paths: Paths, notes: list[str]) -> str | None:
    """Rename the fresh database in, unless somebody else's changes would be lost: then say why not."""
    with _hold_off_writers(paths.database) as nobody_writes:
        if wal := _unsaved_changes(paths.database):
            if not nobody_writes:
                return (
                    f"{paths.shown(paths.database)} is open in another program that has unsaved changes; "
                    "it was left as it was. Close that program, then: python -m dataprep.index"
                )
            aside = wal.rename(_free_name(wal))
            notes.append(f"changes that a duckdb shell wrote after a rebuild are in {aside.name}; open with -readonly")
        adopt(fresh, paths.database)
    return None


def _cannot_write(paths: Paths, error: "duckdb.Error", fresh: Path) -> EnvironmentProblem:
    """What was reached of the new file, or the old one's size, is the least that it takes."""
    reached = max(file.stat().st_size if file.exists() else 0 for file in (fresh, paths.database))
    return EnvironmentProblem(
        f"{paths.shown(paths.database)} could not be built",
        seen=str(error).splitlines()[0],
        wanted=f"more than {reached:,} bytes for a new file beside it, {free_bytes(paths.manifests):,} are free",
        fix=f"df -h {quoted(paths.manifests)}; then python -m dataprep.index",
    )


def _unsaved_changes(database: Path) -> Path | None:
    """DuckDB's log of what is not yet in the file, if there is any."""
    wal = database.with_name(database.name + ".wal")
    return wal if wal.exists() and wal.stat().st_size else None


@contextlib.contextmanager
def _hold_off_writers(database: Path) -> Iterator[bool]:
    """Hold a read lock as DuckDB takes it, so that none starts to write; False when one already does."""
    if not database.exists():
        yield True
        return
    descriptor = os.open(database, os.O_RDONLY)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        nobody_writes = True
    except (BlockingIOError, PermissionError):
        nobody_writes = False
    try:
        yield nobody_writes
    finally:
        os.close(descriptor)


def _free_name(wal: Path) -> Path:
    numbers = (wal.with_name(f"{wal.name}.orphan-{number}") for number in range(1, 1_000_000))
    return next(name for name in numbers if not name.exists())
