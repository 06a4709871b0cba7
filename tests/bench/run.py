"""`make bench`: every bench, or those named, with their tables, their JSON and docs/benchmarks.md.

In:  --only encode,load,pack,start  --size 250M  --text FOLDER  --rounds 3. Out: .bench/<bench>.json, one each.
Holds: a bench is tests/bench/bench_<name>.py with `run(options) -> Report`; a bench that breaks says so and the
       others still run; nothing timed decides the exit code.
Run: make bench ONLY=pack ROUNDS=3
"""

import argparse
import importlib
import json
import sys
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import page
from harness import FOLDER, Options, Report
from machine import machine
from targets import verdicts

from dataprep import console, quantity

BENCHES = ("encode", "load", "pack", "start")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names joined by commas (default: all)")
    parser.add_argument("--size", type=quantity.count, default=250_000_000, help="bytes of text to prepare")
    parser.add_argument("--text", type=Path, default=None, help="a folder of parquet files to read instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page-only", action="store_true", help="write docs/benchmarks.md from the last runs")
    args = parser.parse_args()
    chosen = [name for name in args.only.replace(",", " ").split() if name] or list(BENCHES)
    unknown = [name for name in chosen if name not in BENCHES]
    if unknown:
        parser.error(f"there is no bench {unknown[0]!r}; there are {', '.join(BENCHES)}")
    options = Options(rounds=args.rounds, size_bytes=args.size, text=args.text)
    broken = [] if args.page_only else [name for name in chosen if not _run(name, options)]
    page.write(BENCHES)
    sys.exit(f"error: {', '.join(broken)} broke" if broken else 0)


def _run(name: str, options: Options) -> bool:
    print(f"\n{name}", flush=True)
    began = datetime.now(UTC)
    try:
        report: Report = importlib.import_module(f"bench_{name}").run(options)
    except Exception:  # noqa: BLE001 -- the others shall still run
        traceback.print_exc()
        return False
    size = f"TEXT={options.text.name}" if options.text else f"SIZE={options.size_bytes // 10**6}M"
    result = {
        "bench": name,
        "date": began.isoformat(timespec="seconds"),
        "seconds": (datetime.now(UTC) - began).total_seconds(),
        "command": f"make bench ONLY={name} {size} ROUNDS={options.rounds}",
        "machine": machine(),
        "targets": verdicts(name, report.figures),
        **asdict(report),
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    _show(report, result["targets"])
    return True


def _show(report: Report, targets: list[dict]) -> None:
    for table in report.tables:
        print(f"\n{table.title}\n{console.table(table.header, table.rows)}")
        print("".join(f"  {note}\n" for note in table.notes), end="")
    for target in targets:
        print(f"target {target['verdict']}: {target['target']} (found {target['found']})")
    print("".join(f"{note}\n" for note in report.notes), end="")


if __name__ == "__main__":
    main()
