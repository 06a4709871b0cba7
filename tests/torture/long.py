"""Long runs: thousands of steps, a journal of a million, a clock that jumps; everything stays flat or grows with them.

In:  nothing but the tests' own small mixture. Out: a line per promise; figures on stderr.
Holds: memory, open files and threads are those of the beginning; a journal grows by the step, tokens.db and the time to
       build it with the journal; no limit, order or ledger depends on the time of day.
Run: make torture ONLY=long
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torture.mixture import packed
from torture.table import Line
from training import FLAGS, REPOSITORY, journal_of, settle

STEPS, JOURNAL_STEPS = 2_000, (250_000, 1_000_000)
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
BUILD = """
import resource, sys, time
from dataprep import manifest
from dataprep.paths import find_paths
began = time.monotonic()
manifest.rebuild(find_paths())
print(time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def torture(work: Path, *, kills: int) -> Iterable[Line]:  # noqa: ARG001 -- every promise once, whatever is killed
    """Every promise once."""
    root = packed(work / "root", documents=(700, 900))
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root)
        yield _line(f"{STEPS:,} steps, judged, asked and saved: memory, files, threads", _flat(root))
        yield _line("a journal of 1,000,000 steps: tokens.db and ls", _linear(work / "replayed", patch))
        settle(patch, root)
        if LIBRARY:
            yield _line("the clock jumps 30 days back and 3 years on in a run", _jumps(root))
        else:
            yield Line(
                fault="the clock jumps in a run", tries=0, survived=0, reported=0, lost=0, note="needs libfaketime"
            )


def _flat(root: Path) -> Iterator[str]:
    script = REPOSITORY / "tests" / "bench" / "memory_slope.py"
    routine = ["--checkpoint-every", "50", "--validate-every", "100", "--sample-every", "100", "--prompts"]
    flags = [*FLAGS, "--batch-tokens", "128", "--tokens", str(STEPS * 128), "--run", "long", *routine]
    done = _started([str(script), *flags, str(REPOSITORY / "train" / "prompts.toml")])
    print(*done.stdout.splitlines()[-3:], sep="\n", file=sys.stderr)
    slope = re.search(rf"slope after step 100: (\S+) MiB per 100 steps over {STEPS} steps", done.stdout)
    if not slope or float(slope[1]) > 0.5:
        yield f"memory: {done.stdout[-500:]}{done.stderr[-2000:]}"
    for name in ("open files", "threads"):
        held = re.search(rf"{name}: at most (\d+) .*, (\d+) in the second", done.stdout)
        if not held or int(held[2]) > int(held[1]) + 1:
            yield f"{name}: {held and held[0]}"
    lines = (root / "runs" / "long" / "journal.jsonl").read_bytes().splitlines()
    steps = [len(line) for line in lines if b'"kind": "step"' in line]
    first, last = sum(steps[:200]) / 200, sum(steps[-200:]) / 200
    print(f"journal: {first:.0f} bytes a step at first, {last:.0f} at last", file=sys.stderr)
    if len(steps) != STEPS or last > first + 40:
        yield f"journal: {len(steps)} steps, {first:.0f} bytes a step, then {last:.0f}"


def _linear(root: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    taken = []
    for n_steps in JOURNAL_STEPS:
        of = root / str(n_steps)
        n_bytes = _write_journal(of / "runs" / "base" / "journal.jsonl", n_steps)
        (of / "manifests").mkdir()
        patch.setenv("DATAPREP_ROOT", str(of))
        built = _started(["-c", BUILD])
        if built.returncode:
            yield f"{n_steps:,} steps: {built.stderr[-2000:]}"
            return
        seconds, rss = map(float, built.stdout.split())
        began = time.monotonic()
        listed = _started(["-m", "train.runs", "ls"])
        ls_seconds = time.monotonic() - began
        if f"{n_steps * 8:,}" not in listed.stdout:
            yield f"ls: {listed.stdout[-500:]}{listed.stderr[-500:]}"
        taken.append((seconds, rss, ls_seconds))
        size = (of / "manifests" / "tokens.db").stat().st_size
        told = f"built in {seconds:.1f} s with {rss / 2**30:.2f} GiB, {size / 2**20:.0f} MiB; ls {ls_seconds:.1f} s"
        print(f"{n_steps:,} steps, {n_bytes / 2**20:.0f} MiB of journal: {told}", file=sys.stderr)
    more = JOURNAL_STEPS[1] / JOURNAL_STEPS[0]
    for name, few, many in zip(("seconds", "memory", "seconds of ls"), *taken, strict=True):
        if many > few * more * 1.5:
            yield f"{name}: {few:g} for {JOURNAL_STEPS[0]:,} steps, {many:g} for {JOURNAL_STEPS[1]:,}"


def _write_journal(file: Path, n_steps: int) -> int:
    start = {"kind": "start", "time": "2026-11-01T00:00:00+00:00", "stage": "pretrain", "recipe": "gone", "params": 1}
    start |= {"recipe_sha256": "0" * 64, "parent_run": None, "parent_step": None, "world_size": 1, "rows_done": 0}
    start |= {"attempt": 1, "batch_rows": 8, "micro_batch": 8, "accumulation": 1}
    file.parent.mkdir(parents=True)
    with file.open("w") as out:
        out.write(json.dumps(start) + "\n")
        for step in range(1, n_steps + 1):
            record: dict[str, Any] = {"kind": "step", "attempt": 1, "step": step, "row_from": step * 8 - 8}
            record |= {"row_to": step * 8, "tokens": 512, "loss_tokens": 512, "loss": 1 / step, "lr": 0.001}
            record |= {"grad_norm": 1.25, "seconds": 0.25, "tokens_per_s": 2048.0, "mfu": None}
            out.write(json.dumps(record | {"vram_allocated": None, "vram_reserved": None}) + "\n")
        saved = {"kind": "checkpoint", "attempt": 1, "step": n_steps, "rows_done": n_steps * 8, "bytes": 1}
        saved |= {"tokens_done": n_steps * 512, "path": "checkpoints/step", "sha256": "1" * 64}
        out.write(json.dumps(saved) + "\n")
    return file.stat().st_size


def _jumps(root: Path) -> Iterator[str]:
    """By libfaketime: the time of day of the whole process, while the monotonic clock goes on as it does."""
    clock = root / "clock"  # read at every look at any clock, which makes a step take a while: hence few steps
    faked = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    faked |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    flags = [*FLAGS, "--run", "jumping", "--batch-tokens", "128", "--checkpoint-every", "10", "--max-hours", "2"]
    for tokens, offsets in ((7_680, ("+0", "-30d")), (15_360, ("+3y", "-1y"))):
        clock.write_text(offsets[0])
        command = [sys.executable, str(REPOSITORY / "train" / "main.py"), *flags, "--tokens", str(tokens)]
        command += ["--checkpoint-minutes", "60"]
        with subprocess.Popen(command, env={**os.environ, **faked}, stdout=subprocess.PIPE, text=True) as run:
            while run.poll() is None and len(_steps(root)) < tokens // 128 - 30:
                time.sleep(0.02)
            clock.write_text(offsets[1])
            said = run.communicate()[0]
        if run.returncode or "allows no further step" in said:
            yield f"with the clock at {offsets}: {said[-2000:]}"
    records = journal_of(root, "jumping").records
    times = [record["time"] for record in records if "time" in record]
    print(f"times of day in the journal: {', '.join(dict.fromkeys(time[:7] for time in times))}", file=sys.stderr)
    if times == sorted(times):
        yield "the clock did not jump"
    steps = [record["step"] for record in records if record["kind"] == "step"]
    if steps != list(range(1, 121)):
        yield f"steps {steps[:3]} to {steps[-3:]}"
    if any(record["seconds"] < 0 for record in records if "seconds" in record):
        yield "negative seconds"
    saved = [record["step"] for record in records if record["kind"] == "checkpoint"]
    if saved != list(range(10, 121, 10)):
        yield f"checkpoints at {saved}: by the minutes of a clock that jumped"
    for verb in (["-m", "dataprep.index"], *(["-m", "train.runs", act, "jumping"] for act in ("trash", "restore"))):
        done = subprocess.run(
            [sys.executable, *verb], env={**os.environ, **faked}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            yield f"{verb}: {done.stderr[-500:]}"


def _steps(root: Path) -> list[bytes]:
    file = root / "runs" / "jumping" / "journal.jsonl"
    return [line for line in file.read_bytes().splitlines() if b'"kind": "step"' in line] if file.exists() else []


def _started(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], env=os.environ, capture_output=True, text=True, check=False)


def _line(fault: str, troubles: Iterable[str]) -> Line:
    found = list(troubles)
    for trouble in found:
        print(f"{fault}: {trouble}", file=sys.stderr, flush=True)
    return Line(fault=fault, tries=1, survived=int(not found), reported=0, lost=int(bool(found)))
