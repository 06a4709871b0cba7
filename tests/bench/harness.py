"""The harness of `make bench`: contenders run as child processes, taking turns, and compared in one table.

In:  contenders (a script of tests/bench/peers each) and their arguments. Out: a `Comparison`: medians, spreads, ratios.
Holds: every contender is in the table: measured, or "not installed: why", or "failed: why"; rounds are interleaved
       A B C A B C; a reply that the bench's judge refuses is a failure, whatever its speed.
A contender prints as its last line {"seconds": 1.5, "amount": 250000000, "check": {…}, "versions": {"package": "x.y"}}.
"""

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory import TreePeak
from venvs import NotInstalledError, python_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".bench"  # all that benches generate; git ignores it
PEERS = Path(__file__).resolve().with_name("peers")

Reply = dict[str, Any]
Judge = Callable[[str, Reply, Path], str | None]  # (name, reply, work folder) -> what is wrong with it


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One line of a comparison."""

    name: str
    script: str  # below tests/bench/peers/
    requirements: tuple[str, ...] = ()  # for pip, into a venv of its own; none: the running Python, with Quern
    venv: str = ""  # contenders that name the same one share it; default: the name
    arguments: tuple[str, ...] = ()  # after those of the whole comparison
    environment: Mapping[str, str] = field(default_factory=dict)
    note: str = ""  # what is left out or differs, for the table
    timeout_s: float = 1_800


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `make bench` was asked for."""

    rounds: int
    size_bytes: int
    text: Path | None  # parquet files to read instead of the prepared ones


@dataclass(kw_only=True)
class Table:
    """What people read: cells are text or numbers."""

    title: str
    header: list[str]
    rows: list[list[Any]]
    notes: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Report:
    """What a bench gives back; `figures` are what targets.py is held against, by key."""

    tables: list[Table]
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Line:
    """All rounds of one contender. `trouble` says why there are none, or no more."""

    contender: Contender
    replies: list[Reply] = field(default_factory=list)
    trouble: str = ""

    @property
    def rates(self) -> list[float]:
        """Amount per second, round by round; none where anything went wrong."""
        return [] if self.trouble else [reply["amount"] / reply["seconds"] for reply in self.replies]

    @property
    def peak_bytes(self) -> int:
        """The most memory that any round's process tree held."""
        return max((reply["peak_bytes"] for reply in self.replies), default=0)


@dataclass(kw_only=True)
class Comparison:
    """Contenders measured in one run; the first one is ours."""

    lines: list[Line]

    def rate(self, name: str) -> float | None:
        """A contender's median rate."""
        rates = next(line.rates for line in self.lines if line.contender.name == name)
        return statistics.median(rates) if rates else None

    def ratio(self, name: str) -> float | None:
        """How many times as fast as `name` ours is."""
        ours, theirs = self.rate(self.lines[0].contender.name), self.rate(name)
        return ours / theirs if ours and theirs else None

    def table(self, title: str, unit: str, *, scale: float) -> Table:
        """Medians, spreads (min-max), ratios and memory: rates in `unit`, which is `scale` per second."""
        header = ["contender", unit, "spread", "ours is", "peak MB", "versions"]
        rows, notes = [], []
        for line in self.lines:
            name, ratio = line.contender.name, self.ratio(line.contender.name)
            if line.contender.note:
                notes.append(f"{name}: {line.contender.note}")
            if not line.rates:
                kind, _, why = line.trouble.partition(": ")
                rows.append([name, None, kind, "", None, ""])
                notes.append(f"{name} {kind}: {why}")
                continue
            low, middle, high = (pick(line.rates) / scale for pick in (min, statistics.median, max))
            versions = ", ".join(f"{package} {version}" for package, version in line.replies[0]["versions"].items())
            spread, times = f"{low:.4g}–{high:.4g}", f"{ratio:.2f}x" if ratio else ""
            rows.append([name, float(f"{middle:.4g}"), spread, times, round(line.peak_bytes / 1e6), versions])
        return Table(title=title, header=header, rows=rows, notes=notes)

    def raw(self) -> list[dict[str, Any]]:
        """Every reply, for the JSON."""
        return [
            {"name": line.contender.name, "trouble": line.trouble, "note": line.contender.note, "rounds": line.replies}
            for line in self.lines
        ]


def compare(
    contenders: Sequence[Contender], arguments: Sequence[str], *, rounds: int, judge: Judge | None = None
) -> Comparison:
    """Run every contender `rounds` times, taking turns. `judge` sees each reply and the files it left."""
    lines = [Line(contender=contender) for contender in contenders]
    pythons: dict[str, Path] = {}
    for line in lines:  # before the first clock starts
        try:
            pythons[line.contender.name] = python_of(line.contender, FOLDER / "venvs")
        except NotInstalledError as problem:
            line.trouble = f"not installed: {_without_places(str(problem))}"
    for number in range(1, rounds + 1):
        for line in lines:
            if not line.trouble:
                _take_turn(line, pythons[line.contender.name], arguments, judge)
                told = line.trouble or f"{line.replies[-1]['seconds']:.2f} s"
                print(f"  round {number}/{rounds}  {line.contender.name}: {told}", flush=True)
    return Comparison(lines=lines)


def _take_turn(line: Line, python: Path, arguments: Sequence[str], judge: Judge | None) -> None:
    name = line.contender.name
    work = FOLDER / "work" / "".join(letter if letter.isalnum() else "-" for letter in name)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        reply = run(line.contender, python, arguments, work)
        wrong = judge(name, reply, work) if judge else None
        line.trouble = f"failed: {wrong}" if wrong else ""
        line.replies.append(reply)
    except ChildError as problem:
        line.trouble = f"failed: {_without_places(str(problem))}"
    finally:
        shutil.rmtree(work, ignore_errors=True)


class ChildError(Exception):
    """A contender that did not finish, or printed no reply."""


def run(contender: Contender, python: Path, arguments: Sequence[str], work: Path) -> Reply:
    """One measurement: the contender's reply with its memory and whole seconds. Raises ChildError."""
    command = [str(python), str(PEERS / contender.script), *arguments, *contender.arguments, "--work", str(work)]
    environment = {**os.environ, **contender.environment}
    environment.pop("PYTHONPATH", None)
    if not contender.requirements:
        environment["PYTHONPATH"] = str(ROOT)
    out, complaints = work.with_suffix(".out"), work.with_suffix(".err")
    began = time.perf_counter()
    with out.open("wb") as stdout, complaints.open("wb") as stderr:
        # A session of its own: its helpers are found by it, and end with it.
        os.sync()  # what another left unwritten is its own cost: whoever fsyncs must not wait for it
        child = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment, start_new_session=True)
        with TreePeak(child.pid) as peak:
            try:
                status = child.wait(timeout=contender.timeout_s)
            except subprocess.TimeoutExpired:
                raise ChildError(f"not done after {contender.timeout_s:,.0f} s") from None
            finally:
                _end_session(child)
    wall = time.perf_counter() - began
    lines = out.read_text(errors="replace").strip().splitlines()
    if status:
        last_words = complaints.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise ChildError(f"exit {status}: {last_words[0][:200]}")
    try:
        reply = json.loads(lines[-1])
        assert reply["seconds"] > 0, "no seconds in its reply"
        reply["amount"] = int(reply["amount"])
    except (IndexError, ValueError, KeyError, TypeError, AssertionError) as problem:
        raise ChildError(f"no reply of JSON on its last line ({problem})") from None
    return {"check": {}, "versions": {}, **reply, "wall_seconds": wall, **peak.found()}


def _without_places(text: str) -> str:
    """A message without this machine's folders: it goes into a page that is committed."""
    for folder in (ROOT, Path(sys.prefix), Path.home()):
        text = text.replace(f"{folder}/", "")
    return text


def _end_session(child: subprocess.Popen) -> None:
    """Nothing of this contender may run beside the next one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
