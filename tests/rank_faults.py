"""Attempts by several real ranks, of which one meets a fault; what they said, how they ended, what outlived them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from training import FLAGS, REPOSITORY, kept_steps

from train.step_folders import list_checkpoints

FAULTY = REPOSITORY / "tests" / "crash" / "faulty.py"
NOTHING = ("-", "step", "1", "KILL")  # no rank is called so
# 12 rows a step: whole shares for 2 and 3 ranks, whose last step is uneven.
TRAINED = (*FLAGS, "--batch-tokens", "768", "--checkpoint-every", "10")
_MARK = "QUERN_TEST_MARK"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt ended: torchrun's exit code or each rank's, all that was said, and who was still there."""

    codes: tuple[int, ...]
    said: str
    seconds: float
    orphans: tuple[int, ...]

    def tells_once(self, what: str) -> bool:
        """Whether a message of three lines stands by itself, and no traceback of ours beside it."""
        lines = self.said.splitlines()
        at = [i for i, line in enumerate(lines) if line.startswith("error: ") and what in line]
        whole = [lines[i + 1].startswith("  seen: ") and lines[i + 2].startswith("  fix:  ") for i in at]
        return bool(at) and all(whole) and "/train/loop.py" not in self.said


def by_torchrun(run: str, fault: tuple[str, str, str, str] = NOTHING, *flags: str, n: int = 2) -> Ended:
    """Train as people do; a rank meets `fault`. Where it is stopped, torchrun itself puts an end to it, 30 s later."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n}", "--"]
    return _watched([[sys.executable, *launcher, *_command(run, fault, flags)]], [{}])


def by_hand(
    run: str, fault: tuple[str, str, str, str] = NOTHING, *flags: str, each: Mapping[int, Mapping[str, str]] = {}
) -> Ended:
    """Train by two ranks without torchrun: no one ends the other; `each` rank may have variables of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank), **meeting, **each.get(rank, {})} for rank in range(2)]
    return _watched([[sys.executable, *_command(run, fault, flags)]] * 2, places)


def differences(root: Path, run: str, whole: str) -> list[str]:
    """What is not bit for bit as in the undisturbed run: rows, losses, weights, moments, randomness."""
    ours, wanted = kept_steps(root, run), kept_steps(root, whole)
    keys = ("step", "row_from", "row_to", "tokens", "loss_tokens", "lr", "loss")
    found = [key for key in keys if [step[key] for step in ours] != [step[key] for step in wanted]]
    states = [list_checkpoints(root / "runs" / name / "checkpoints")[-1] / "state.json" for name in (run, whole)]
    return [*found, *(["state.json"] if states[0].read_bytes() != states[1].read_bytes() else [])]


def _command(run: str, fault: tuple[str, str, str, str], flags: tuple[str, ...]) -> list[str]:
    return [str(FAULTY), *fault, *TRAINED, "--run-name", run, *flags]


def _watched(commands: list[list[str]], variables: list[dict[str, str]]) -> Ended:
    """Start, let the living end by themselves, kill who stands still, look for who is left."""
    mark, began = uuid.uuid4().hex, time.monotonic()
    started = [
        subprocess.Popen(
            command, env={**os.environ, _MARK: mark, **own}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for command, own in zip(commands, variables, strict=True)
    ]
    moving = [process for process in started if not _stands_still(process, until=began + 180)]
    seconds = time.monotonic() - began
    for process in started:
        if process not in moving:
            process.kill()
    said = "".join(process.communicate(timeout=60)[0] for process in started)
    orphans = _marked(mark)
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    codes = tuple(process.returncode for process in started)
    return Ended(codes=codes, said=said, seconds=seconds, orphans=orphans)


def _stands_still(process: "subprocess.Popen[str]", *, until: float) -> bool:
    """Wait for the end of a process; True where it was stopped instead, or does not end."""
    while time.monotonic() < until:
        if process.poll() is not None:
            return False
        if _state(process.pid) == "T":
            return True
        time.sleep(0.05)
    return True


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def _marked(mark: str) -> tuple[int, ...]:
    """Processes that an attempt started, at whatever depth, and that still run."""
    return tuple(pid for pid, environment in _environments() if mark.encode() in environment and _state(pid) != "Z")


def stopped_ranks() -> list[int]:
    """Marked processes that were stopped."""
    return [pid for pid, environment in _environments() if _MARK.encode() in environment and _state(pid) == "T"]


def _environments() -> Iterator[tuple[int, bytes]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(folder.name), (folder / "environ").read_bytes()
