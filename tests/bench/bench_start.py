"""Bench `start`: how long a command takes to answer --help, and tokens.db to be made again from receipts.

In:  nothing: every verb of the package; synthetic receipts, 1,823 and 100,000. Out: two tables.
Holds: each --help printed its usage and exited 0; the table `shards` of every rebuilt tokens.db is what a plain
       reading of the receipts' JSON gives, line by line.
"""

import os
import statistics
import subprocess
import sys
import time

from harness import FOLDER, ROOT, Comparison, Contender, Options, Report, Table, compare
from receipts import write_receipts

SHARDS = (1_823, 100_000)
CONTENDERS = tuple(
    Contender(name=f"rebuild {n:,}", script="start_rebuild.py", arguments=("--shards", str(n))) for n in SHARDS
)
VERBS = ("shards", "fetch", "bpe", "pack", "index", "sql", "verify", "show", "budget", "explain")
COMMANDS = (
    *(f"-m dataprep.{verb}" for verb in VERBS),
    *("train/main.py", "-m train.runs", "-m train.doctor"),
)


def run(options: Options) -> Report:
    """Both tables."""
    help_seconds = {command: [] for command in ("-c pass", '-c "import dataprep"', *COMMANDS)}
    for _ in range(options.rounds):
        for command, seconds in help_seconds.items():
            seconds.append(_answer(command))
    slowest = max(COMMANDS, key=lambda command: statistics.median(wall for wall, _ in help_seconds[command]))
    for n_shards in SHARDS:
        _prepare(n_shards)
    rebuilt = compare(CONTENDERS, ["--data", str(FOLDER / "data")], rounds=options.rounds)
    figures = {"slowest help seconds": statistics.median(wall for wall, _ in help_seconds[slowest])}
    for line, n_shards in zip(rebuilt.lines, SHARDS, strict=True):
        if line.rates:
            figures[f"rebuild {n_shards:,} seconds"] = statistics.median(reply["seconds"] for reply in line.replies)
    return Report(
        tables=[_help_table(help_seconds), _rebuild_table(rebuilt)],
        figures=figures,
        raw={"help": help_seconds, "rebuild": rebuilt.raw()},
    )


def _prepare(n_shards: int) -> None:
    """Receipts, once."""
    root = FOLDER / "data" / f"receipts-{n_shards}"
    if not root.exists():
        part = root.with_name(f".{root.name}.part")
        write_receipts(part, n_shards)
        part.rename(root)


def _answer(command: str) -> tuple[float, float]:
    """(wall, CPU) seconds of one --help. A command that does not give its usage breaks the bench."""
    words = ["-c", command[3:].strip('"')] if command.startswith("-c") else [*command.split(), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - began, os.times()
    assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr[-200:]}"
    assert words[0] == "-c" or done.stdout.startswith("usage:"), f"{command}: no usage"
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def _help_table(help_seconds: dict[str, list[tuple[float, float]]]) -> Table:
    rows = []
    for command, seconds in help_seconds.items():
        walls, cpu = [wall for wall, _ in seconds], statistics.median(cpu for _, cpu in seconds)
        asked = f"python {command}" if command.startswith("-c") else f"python {command} --help"
        rows.append([asked, round(statistics.median(walls), 3), f"{min(walls):.3f}–{max(walls):.3f}", round(cpu, 2)])
    return Table(title="Until a command answers", header=["command", "seconds", "spread", "CPU seconds"], rows=rows)


def _rebuild_table(rebuilt: Comparison) -> Table:
    rows = []
    for line in rebuilt.lines:
        if not line.rates:
            rows.append([line.contender.name, None, line.trouble, None, None, None])
            continue
        seconds = [reply["seconds"] for reply in line.replies]
        cpu = statistics.median(reply["cpu_seconds"] for reply in line.replies)
        spread = f"{min(seconds):.2f}–{max(seconds):.2f}"
        amount, peak = line.replies[0]["amount"], round(line.peak_bytes / 1e6)
        rows.append([line.contender.name, round(statistics.median(seconds), 2), spread, round(cpu, 2), amount, peak])
    header = ["tokens.db from receipts", "seconds", "spread", "CPU seconds", "receipts", "peak MB"]
    return Table(title="The manifest, rebuilt", header=header, rows=rows)
