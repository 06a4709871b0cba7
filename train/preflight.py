"""The preflight: whether two ranks on this machine answer each other, and which setting cures them if not.

In:  a way to try once under some environment variables. Out: `Diagnosis`: every trial, and the first that worked.
Holds: a trial that hangs is killed with all it started; settings are tried one by one, and at last all together.
nothing set: hangs → NCCL_P2P_DISABLE=1: hangs → NCCL_IB_DISABLE=1: works, so `export NCCL_IB_DISABLE=1`
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

Variables = Mapping[str, str]
# What cures hanging collectives in the field, the most frequent first: peer access between GPUs that the board or
# the virtual machine breaks, InfiniBand that is there but not connected, the wrong network card, a provider's plugin.
CURES: Mapping[str, tuple[Variables, ...]] = {
    "nccl": (
        {"NCCL_P2P_DISABLE": "1"},
        {"NCCL_IB_DISABLE": "1"},
        {"NCCL_SOCKET_IFNAME": "lo"},
        {"NCCL_NET": "Socket"},
        {"NCCL_NET_PLUGIN": "none"},
    ),
    "gloo": ({"GLOO_SOCKET_IFNAME": "lo"},),
}
_POLL_S = 0.05
_TOLD_LINES = 2


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One try: what was set, whether every rank answered, and the last words where one did not."""

    variables: Variables
    answered: bool
    seconds: float
    said: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The trials in order; only the last can have been answered."""

    trials: tuple[Trial, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether ranks answer with nothing set."""
        return self.trials[0].answered

    @property
    def cure(self) -> Variables | None:
        """The settings that made them answer; None where none is needed, or none helped."""
        last = self.trials[-1]
        return last.variables if last.answered and last.variables else None


def find_cure(backend: str, try_once: Callable[[Variables], Trial]) -> Diagnosis:
    """Try with nothing set, then each known cure of `backend`, then all of them, until one is answered."""
    cures = CURES[backend]
    together = {name: value for cure in cures for name, value in cure.items()}
    trials: list[Trial] = []
    for variables in ({}, *cures, *([together] if len(cures) > 1 else [])):
        trials.append(try_once(variables))
        if trials[-1].answered:
            break
    return Diagnosis(trials=tuple(trials))


def shown(variables: Variables) -> str:
    """Settings as a shell takes them: NCCL_P2P_DISABLE=1 NCCL_IB_DISABLE=1."""
    return " ".join(f"{name}={value}" for name, value in variables.items())


def known_cures(backend: str) -> str:
    """Every cure of a backend, to be named in a message."""
    return " ".join(shown(cure) for cure in CURES[backend])


def try_in_children(command: Sequence[str], variables: Variables, *, world_size: int, timeout_s: float) -> Trial:
    """Start `command` once per rank, as torchrun would on one machine; all must exit 0 within `timeout_s`."""
    started = time.monotonic()
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(world_size)}
    children: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile() as said:
        try:
            for rank in range(world_size):
                place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                environment = os.environ | meeting | place | dict(variables)
                children.append(_start(command, environment, said))
            answered = _all_done(children, started + timeout_s)
        finally:
            _kill(children)
        seconds = time.monotonic() - started
        words = "" if answered else _last_words(said) or f"no answer within {timeout_s:g} s"
    return Trial(variables=variables, answered=answered, seconds=seconds, said=words)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start(command: Sequence[str], environment: Mapping[str, str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    """A child in a process group of its own, so that what it started dies with it."""
    return subprocess.Popen(  # noqa: S603 -- our own interpreter, started without a shell
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
    )


def _all_done(children: list[subprocess.Popen[bytes]], deadline: float) -> bool:
    """Wait until all exited 0, one failed, or the time is up."""
    while time.monotonic() < deadline:
        codes = [child.poll() for child in children]
        if any(codes) or None not in codes:
            return not any(codes)
        time.sleep(_POLL_S)
    return False


def _kill(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _last_words(said: IO[bytes]) -> str:
    """The end of what the children wrote to stderr, less our own advice to run the doctor."""
    said.seek(0)
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
    return "; ".join([line for line in lines if line and not line.startswith("fix:")][-_TOLD_LINES:])
