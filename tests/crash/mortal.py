"""A command in a forked process, in a process group of its own, and how it is struck down with SIGKILL.

In:  a command's main, its root, a strike. Out: its exit code (-9 where it was struck) and what it said on stderr.
Holds: whoever forks has imported the command's libraries, started no thread and used none of them, so a child begins
       as a fresh interpreter would, a second sooner. It writes real files, and nothing of it outlives the kill.
    Strike("moment", 0.13)   whenever it is, 0.13 s after the fork
    Strike("step", 7)        at the seventh named step of a publication (`publish._reached`)
    Strike("change", 40)     right before the fortieth change to the disk; a write is then half done
"""

import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dataprep import publish
from dataprep.errors import run

REPOSITORY, POINTS = Path(__file__).resolve().parents[2], Path(__file__).resolve().parent / "points"
_LONGEST_S = 120
_write = os.write  # as it was before anyone watched it
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {
    *("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.utime", "os.chmod", "os.link"),
    *("os.symlink", "fcntl.flock", "shutil.rmtree"),
}


@dataclass(frozen=True)
class Strike:
    """When to kill: by the clock, or at the nth of something. An nth that never comes kills nobody."""

    kind: str
    at: Any


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt ended."""

    code: int
    said: str
    wall_s: float
    counts: dict[str, int]  # of a whole life: how many steps and changes there were


def attempt(main: Callable[[], int | None], root: Path, strike: Strike | None = None) -> Ended:
    """Run a command in `root` until it ends or is struck."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as counted:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _live(main, root, strike, said.fileno(), counted.fileno())
        os.setpgid(child, child)
        waiting = strike.at if strike and strike.kind == "moment" else _LONGEST_S
        watch = os.pidfd_open(child)
        if hung := not select.select([watch], [], [], waiting)[0]:
            os.killpg(child, signal.SIGKILL)
        os.close(watch)
        status, wall_s = os.waitpid(child, 0)[1], time.monotonic() - began
        if hung and not (strike and strike.kind == "moment"):
            raise TimeoutError(f"no strike and no end in {_LONGEST_S} s: this is a hang, not a kill")
        said.seek(0), counted.seek(0)
        counts = counted.read()
        return Ended(
            code=os.waitstatus_to_exitcode(status),
            said=said.read().decode(errors="replace"),
            wall_s=wall_s,
            counts=pickle.loads(counts) if counts else {},
        )


def attempt_as_typed(typed: Sequence[str], root: Path, strike: Strike | None = None) -> Ended:
    """The same by the real command line: an interpreter of its own, a session of its own, the group killed at once.

    A "step" is then written step:n, as points/sitecustomize.py reads it.
    """
    environment = os.environ | {"DATAPREP_ROOT": str(root)}
    if strike and strike.kind == "step":
        environment |= {"PYTHONPATH": f"{POINTS}{os.pathsep}{REPOSITORY}", "QUERN_KILL_AT": str(strike.at)}
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        command = [sys.executable, *typed]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        try:
            process.wait(strike.at if strike and strike.kind == "moment" else _LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            if not (strike and strike.kind == "moment"):
                raise
        code, wall_s = process.wait(), time.monotonic() - began
        said.seek(0)
        return Ended(code=code, said=said.read().decode(errors="replace"), wall_s=wall_s, counts={})


def asked_of_a_child(question: Callable[[], Any]) -> Any:
    """What `question` returns, found out in a fork: the libraries that it uses start their threads there."""
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.write(answer.fileno(), pickle.dumps(question()))
                code = 0
            except BaseException:  # noqa: BLE001 -- a fork must not go on as its parent
                traceback.print_exc()
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("a fork could not answer; its reason is above")
        answer.seek(0)
        return pickle.load(answer)


def _live(main: Callable[[], int | None], root: Path, strike: Strike | None, said: int, counted: int) -> NoReturn:
    """The child's whole life: what a verb does when it is the main program, and no way back into the caller."""
    code = 1
    try:
        os.setpgid(0, 0)  # both sides do it: no kill finds half a group
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(said, 2)
        os.environ["DATAPREP_ROOT"] = str(root)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        counts = _watch(root, strike)
        try:
            run(main)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        _write(counted, pickle.dumps(counts))
    except BaseException:  # noqa: BLE001 -- a fork must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _watch(root: Path, strike: Strike | None) -> dict[str, int]:
    """Count steps and changes from here on, and die at the one that was chosen."""
    counts = {"step": 0, "change": 0}

    def another(kind: str, half: Callable[[], Any] = lambda: None) -> None:
        counts[kind] += 1
        if strike and strike.kind == kind and counts[kind] == strike.at:
            half()
            os.killpg(0, signal.SIGKILL)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(arguments[2], int) and arguments[2] & _WRITES and _is_below(root, arguments[0]):
                another("change")
        elif event in _CHANGES and _is_below(root, arguments[0]):
            another("change")

    def noticed(write: Callable[..., Any]) -> Callable[..., Any]:
        def before(descriptor: int, *block: bytes) -> Any:
            another("change", lambda: write(descriptor, *(each[: len(each) // 2] for each in block)) if block else None)
            return write(descriptor, *block)

        return before

    publish._reached = lambda _step, _path: another("step")
    os.write, os.fsync, os.fdatasync = noticed(os.write), noticed(os.fsync), noticed(os.fdatasync)
    sys.addaudithook(hear)
    return counts


def _is_below(root: Path, place: Any) -> bool:
    """Whether it is in the root, or may be: an open file, or a name in an open folder, as rmtree removes them."""
    return isinstance(place, int) or str(place).startswith(str(root)) or not Path(os.fsdecode(place)).is_absolute()
