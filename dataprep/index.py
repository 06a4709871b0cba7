"""Index: rebuild tokens.db from receipts, recipes and journals. A verb.

In:  everything generated so far. Out: manifests/tokens.db, and what it now holds.
Holds: it can be run at any time, by anyone, beside any training.
Run: python -m dataprep.index
"""

import sys

from dataprep import manifest
from dataprep.console import print_next
from dataprep.errors import Parser, run
from dataprep.paths import find_paths


def main(argv: list[str] | None = None) -> int:
    """Rebuild and report."""
    parser = Parser(prog="python -m dataprep.index", description="Rebuild manifests/tokens.db from what is on disk.")
    parser.parse_args(argv)
    paths = find_paths()
    rebuilt = manifest.rebuild(paths)
    held = ", ".join(f"{count:,} {table}" for table, count in rebuilt.lines_by_table.items())
    print(f"{paths.shown(paths.database)}: {held or 'nothing yet'}")
    print_notes(rebuilt)
    print_next('python -m dataprep.sql "FROM supply"')
    return 0


def print_notes(rebuilt: manifest.Rebuilt) -> None:
    """Say on stderr what was left out, and why the published database is still the old one, if it is."""
    for note in (*rebuilt.notes, *filter(None, [rebuilt.postponed])):
        print(f"note: {note}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
