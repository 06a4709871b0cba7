"""SQL: ask tokens.db a question. A verb.

In:  a query, or one of the files in manifests/queries. Out: a table, or exact JSON.
Holds: the answer is current (the database is rebuilt first when something changed), and nobody is
blocked: a private copy is opened, read-only.
Run: python -m dataprep.sql "SELECT source, sum(tokens) FROM shards GROUP BY source"
"""

import argparse
import contextlib
import errno
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb

from dataprep import manifest
from dataprep.console import print_json, table
from dataprep.errors import DataError, Parser, UsageError, quoted, run
from dataprep.index import print_notes
from dataprep.paths import SHIPPED_MANIFESTS, Paths, find_paths

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def main(argv: list[str] | None = None) -> int:
    """Answer one query."""
    args = _parse(argv)
    paths = find_paths()
    if not (paths.data.exists() or paths.runs.exists()):
        raise DataError(
            f"nothing is held in {paths.root}",
            seen="neither data/ nor runs/",
            wanted="the folder that make shards was run in",
            fix="cd there, or export DATAPREP_ROOT=/that/folder",
        )
    with tempfile.TemporaryDirectory() as folder:
        apart = _bring_up_to_date(paths, Path(folder) / "apart.db")
        header, rows = ask(paths, _query(args), database=apart)
    if args.json:
        print_json([dict(zip(header, row, strict=True)) for row in rows])
    else:
        print(table(header, rows))
    return 0


def _bring_up_to_date(paths: Paths, apart: Path) -> Path | None:
    """Rebuild what is stale; where it cannot be published, say so and build it `apart`: the answer is current."""
    if not manifest.is_stale(paths):
        return None
    try:
        rebuilt = manifest.rebuild(paths, unless_current=True)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        note = f"{paths.shown(paths.manifests)} cannot be written ({error.strerror}): answered from a copy of our own"
        print(f"note: {note}", file=sys.stderr)
    else:
        print_notes(rebuilt)
        if rebuilt.postponed is None:
            return None
    manifest.build_apart(paths, apart)
    return apart


def ask(paths: Paths, query: str, *, database: Path | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query's answer. Raises UsageError for SQL that DuckDB refuses.

    `database` is asked in place of the published one: one that nobody else has.
    """
    with tempfile.TemporaryDirectory() as folder, _open(paths, database, Path(folder)) as connection:
        try:
            answer = connection.execute(query)
            if answer is None or not answer.description:
                raise _refusal("no question: nothing to answer")
            return _distinct([column[0] for column in answer.description]), answer.fetchall()
        except duckdb.Error as error:
            if "No files found" in str(error) and not any(paths.plans.glob("*.parquet")):
                raise _no_plan(paths) from None
            raise _refusal(str(error).split("\n\n", maxsplit=1)[0]) from None


def _open(paths: Paths, database: Path | None, folder: Path) -> duckdb.DuckDBPyConnection:
    if database is None:
        return _open_copy(paths, folder / paths.database.name)
    return _open_read_only(paths, database)


def _open_read_only(paths: Paths, file: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(file), read_only=True)
    connection.execute("SET file_search_path = $1", [str(paths.root)])  # plans are named below the root
    return connection


def _open_copy(paths: Paths, copy: Path) -> duckdb.DuckDBPyConnection:
    """A private copy, read-only; made anew first where the file is no database any more."""
    for attempt in range(2):
        if attempt or not paths.database.exists():
            print_notes(manifest.rebuild(paths))
        shutil.copyfile(paths.database, copy)
        with contextlib.suppress(duckdb.Error):
            return _open_read_only(paths, copy)
    raise DataError(
        f"{paths.shown(paths.database)} cannot be opened, not even made anew",
        seen="no database",
        wanted="the file that python -m dataprep.index makes",
        fix=f"rm {quoted(paths.database)}; then python -m dataprep.index",
    )


def _distinct(names: list[str]) -> list[str]:
    """Column names, the second `x` as `x_1`: JSON would silently keep only the last."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        distinct.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return distinct


def _no_plan(paths: Paths) -> DataError:
    """DuckDB has no answer where a pattern finds no file."""
    return DataError(
        "the query reads plans, and there are none",
        seen=f"no parquet file in {paths.shown(paths.plans)}",
        wanted="a packed recipe",
        fix="python -m dataprep.pack --help",
    )


def _refusal(seen: str) -> UsageError:
    return UsageError(
        "the query cannot be answered",
        seen=" ".join(seen.split()),
        wanted="SQL over the tables of manifests/README.md",
        fix='python -m dataprep.sql "SHOW TABLES", or --file with one of manifests/queries/',
    )


def _query(args: argparse.Namespace) -> str:
    if (args.query is None) == (args.file is None):
        shipped = sorted(file.name for file in (SHIPPED_MANIFESTS / "queries").glob("*.sql"))
        raise UsageError(
            "give one query",
            seen="none" if args.query is None else "a query and a file",
            wanted='"SELECT …" or --file manifests/queries/' + ", ".join(shipped),
            fix='python -m dataprep.sql "FROM supply"',
        )
    if args.file is None:
        return args.query
    try:
        return args.file.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(
            f"there is no query file {args.file}", seen="no file", wanted="a .sql file", fix="ls manifests/queries"
        ) from None


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m dataprep.sql", description="Ask tokens.db a question in SQL.")
    parser.add_argument("query", nargs="?", help="SQL, such as 'FROM supply'")
    parser.add_argument("--file", type=Path, help="a .sql file, such as manifests/queries/seen.sql")
    parser.add_argument("--json", action="store_true", help="exact values for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
