"""Disks that answer with errors: the nth fsync, fdatasync, write or rename of a real command fails, by strace.

In:  a folder to work in. Out: a line per verb and system call.
Holds: a file whose fsync failed is not published and not synced a second time: its temp goes, the command ends with
       exit 5 and the file's name; the same command then ends with the bytes of an undisturbed run.
Needs strace and the right to trace.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from torture.disk import Roots, counted, wanted_after
from torture.table import Line
from torture.verbs import begin, complaint, held, started

from dataprep.errors import EnvironmentProblem

CALLS = {"fsync": "EIO", "fdatasync": "EIO", "write": "ENOSPC", "rename": "EIO"}
_INJECTED = "(INJECTED)"


def why_no_strace(folder: Path) -> str | None:
    """Why no system call can be made to fail here; None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    folder.mkdir(parents=True, exist_ok=True)
    tried = ["strace", "-f", "-e", "inject=fsync:error=EIO:when=1", "-e", "trace=fsync", "sync", str(folder)]
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    return None if _INJECTED in done.stderr else "strace may not trace here"


def turns_of(verb: str, before: Path, call: str, root: Path) -> list[int]:
    """Which turns of `call` are about a file below the root in an undisturbed run, as each thread counts its own."""
    _fresh(before, root)
    log = root.parent / "calls.log"
    done = started(verb, root, under=_strace(log, "-e", f"trace={call}"))
    assert done.returncode == 0, done.stderr
    turns, counts = set(), Counter()
    for line in log.read_text().splitlines():
        thread, _, said = line.partition(" ")
        if re.match(rf"\s*{call}\(", said):
            counts[thread] += 1
            if str(root) in said:
                turns.add(counts[thread])
    return sorted(turns)


def fail(verb: str, before: Path, wanted: Path, root: Path, call: str, *, error: str, when: int) -> str:
    """Let the nth `call` fail: "survived", "reported", what was lost, or "elsewhere": it was not about our files."""
    _fresh(before, root)
    log = root.parent / "injected.log"
    inject = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}")
    done = started(verb, root, under=_strace(log, *inject))
    lines = log.read_text().splitlines()
    hit = next((number for number, line in enumerate(lines) if _INJECTED in line and str(root) in line), None)
    if hit is None:
        return "elsewhere"
    roots, where = Roots(before, wanted, root), f"{verb} {lines[hit]}"
    wrong = None
    if done.returncode != 0:
        wrong = _exit_code_alone(done) if _is_muted(lines) else complaint(done) or _no_file_named(done.stderr)
    wrong = wrong or _synced_again(lines, hit) or roots.broken()
    if wrong:
        return f"lost: {where}: {wrong}"
    again = started(verb, root)
    if again.returncode != 0 or held(root) != held(wanted):
        return f"lost: {where}: then exit {again.returncode}: {again.stderr[-500:]}"
    return "survived" if done.returncode == 0 else "reported"


def torture(work: Path, *, kills: int) -> Iterable[Line]:
    """Every verb and call, at its turns, thinned out to a twentieth of `kills`."""
    if why := why_no_strace(work / "trying"):
        yield Line(fault="failing system calls", tries=0, survived=0, reported=0, lost=0, note=why)
        return
    roots, most = begin(work), max(3, kills // 20)
    for verb, before in roots.items():
        wanted = wanted_after(verb, before, work / f"wanted-{verb}")
        for call, error in CALLS.items():
            turns = turns_of(verb, before, call, work / "calls")
            chosen = turns[:: -(-len(turns) // (most if verb != "train" else -(-most // 4))) or 1]
            tried = [fail(verb, before, wanted, work / "failing", call, error=error, when=turn) for turn in chosen]
            tried = [outcome for outcome in tried if outcome != "elsewhere"]
            if tried:
                yield counted(f"{call} {error}: {verb}", tried)


def _strace(log: Path, *more: str) -> tuple[str, ...]:
    return ("strace", "-f", "-y", "-qq", *more, "-o", str(log))


def _is_muted(lines: list[str]) -> bool:
    """Whether the same turn of another thread, its write to stderr, failed as well: nothing could be said."""
    return any(_INJECTED in line and re.search(r"write\(2<", line) for line in lines)


def _exit_code_alone(done: subprocess.CompletedProcess[str]) -> str | None:
    return (
        None
        if done.returncode == EnvironmentProblem.exit_code and "Traceback" not in done.stderr
        else f"exit {done.returncode}"
    )


def _no_file_named(said: str) -> str | None:
    return None if re.search(r"\w/[\w.-]+", said) else f"names no file: {said}"


def _synced_again(lines: list[str], hit: int) -> str | None:
    """What is wrong if the file whose fsync failed was synced once more. Folders are: they have other files too."""
    found = re.search(r"fsync\((\d+<[^>]+>)\)", lines[hit])
    if found is None or Path(found[1].partition("<")[2][:-1]).is_dir():
        return None
    return f"{found[1]} was synced again" if any(found[1] in line for line in lines[hit + 1 :]) else None


def _fresh(before: Path, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(before, root)
