"""`make torture`: every group of faults, or those named, and one table of what became of each try.

In:  --kills 1000  --only kills,disk. Out: the table on stdout; exit 1 when anything was lost.
Holds: a group is tests/torture/<group>.py with `torture(work, *, kills)`, which yields lines; one that breaks has lost
       a try, says why on stderr, and the others still run.
Run: make torture KILLS=1000 ONLY=kills
"""

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]  # `torture.<group>`, the tests' own modules, and the product

from torture.table import Line, header, shown, total

_ENTRY = "def torture("


def main() -> int:
    """Try what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="A,B", help=f"of {', '.join(groups())} (default: all)")
    parser.add_argument("--kills", type=int, default=200, help="how often a group that kills does so (default 200)")
    args = parser.parse_args()
    chosen = args.only.replace(",", " ").split() or groups()
    if unknown := sorted(set(chosen) - set(groups())):
        parser.error(f"no group {', '.join(unknown)}; there are: {', '.join(groups())}")
    # What the groups start finds the product, computes on one thread, and is told nothing by the caller's shell.
    os.environ |= {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    os.environ.pop("DATAPREP_ROOT", None)
    table = sys.stdout
    print(header(), file=table, flush=True)
    with contextlib.redirect_stdout(sys.stderr):  # what the verbs say that a group calls is no part of it
        lines = [line for group in chosen for line in tried(group, args.kills, table)]
    print(shown(total(lines)), file=table)
    return 1 if any(line.lost for line in lines) else 0


def groups() -> list[str]:
    """The modules beside this one that have something to try."""
    return sorted(file.stem for file in HERE.glob("*.py") if f"\n{_ENTRY}" in file.read_text(encoding="utf-8"))


def tried(group: str, kills: int, table: TextIO) -> Iterator[Line]:
    """A group's lines, printed as they come."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"quern-torture-{group}-", ignore_cleanup_errors=True) as work:
        try:
            for line in importlib.import_module(f"torture.{group}").torture(Path(work), kills=kills):
                print(shown(line), file=table, flush=True)
                yield line
        except Exception:  # noqa: BLE001 -- the other groups still run, and the table says it
            traceback.print_exc()
            broken = Line(fault=f"{group}: the group itself broke", tries=1, survived=0, reported=0, lost=1)
            print(shown(broken), file=table, flush=True)
            yield broken
    print(f"{group}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
