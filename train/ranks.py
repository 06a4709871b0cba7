"""Ranks: one process by itself, or one of several that torchrun started; the only file with collectives.

In:  torchrun's environment variables and --device. Out: `Ranks`: who I am, where I compute, sums over all.
Holds: one process uses no process group; several prove that sums come back before anything else is done, or leave
       with the settings that cure it; a peer that is gone later, or silent for --rank-timeout, ends the run with
       three lines, told before anything else is done: torchrun's SIGTERM is on its way.
"""

import contextlib
import gc
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout

from dataprep.errors import EnvironmentProblem, QuernError
from dataprep.gpus import Gpu, find_gpu
from train.preflight import known_cures
from train.terminal import safe
from train.waiting import leave_at_once, limited

_TIMEOUT = timedelta(minutes=10)  # the others wait this long while the first rank reads or writes a checkpoint
_ARRIVAL_S = 120.0  # torch is loaded from a cold or distant disk on one machine, and from memory on another
_ANSWER_S = 20.0  # once all have arrived
_STAGGER_S = 1.0  # torchrun ends the ranks after the first that leaves: so one tells the problem, not all
# As gloo, NCCL and torch's store say it.
_GONE = re.compile(r"[Cc]onnection (closed|reset) by (remote )?peer|remote process exited|[Bb]roken pipe")
_SILENT = re.compile(r"Timed out waiting \d+ ?ms|[Ww]ait timeout after \d+ ?ms|collective operation timeout")
Prepared = TypeVar("Prepared")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One process among `world_size` equal ones."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank prints, journals and saves."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this rank looks at this machine's disk for all ranks of the machine."""
        return self.world_size == 1 or os.environ.get("LOCAL_RANK", "0") == "0"

    @property
    def hardware(self) -> str:
        """What computes, in words."""
        if self.device.type == "cuda":
            return f"{self.world_size} x {torch.cuda.get_device_name(self.device)}"
        return f"CPU, {self.world_size} process(es) of {torch.get_num_threads()} thread(s)"

    @property
    def gpu(self) -> Gpu | None:
        """The device as the table of GPUs has it; None for a CPU and for what is not in it."""
        return find_gpu(torch.cuda.get_device_name(self.device)) if self.device.type == "cuda" else None

    @property
    def peak_flops(self) -> float | None:
        """One device's peak; None where it is not known."""
        return self.gpu.peak_flops if self.gpu else None

    def usd_per_hour(self, of_one: float | None) -> float | None:
        """What all devices cost together, by `of_one` or else by the table; None where no price is known."""
        price = of_one or (self.gpu.usd_per_hour if self.gpu else None)
        return None if price is None else price * self.world_size

    def say(self, line: str) -> None:
        """Print once, not once per rank. Where nobody can read it any more, training goes on in silence."""
        if not self.is_first:
            return
        try:
            print(safe(line), flush=True)
        except OSError:  # a closed terminal or pipe: everything said is in the journal too
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def sum_counts(self, *counts: int) -> list[int]:
        """Exact sums of whole numbers over all ranks."""
        return [int(count) for count in self._summed(torch.tensor(counts, dtype=torch.int64)).tolist()]

    def sum_scalar(self, value: torch.Tensor) -> float:
        """Sum of a scalar over all ranks, in float64."""
        return float(self._summed(value.detach().double()).item())

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def agree(self, prepare: Callable[[], Prepared]) -> Prepared:
        """Run `prepare` everywhere; if any rank refuses, all leave, and the first to refuse says why."""
        prepared, refusal = None, None
        try:
            prepared = prepare()
        except QuernError as error:
            refusal = error
        refused_by = [rank for rank, refuses in enumerate(self.gather(refusal is not None)) if refuses]
        if refusal is not None and refused_by[0] == self.rank:
            raise refusal
        if refused_by:
            raise SystemExit(refusal.exit_code if refusal else 1)
        return prepared  # pyright: ignore[reportReturnType] -- no refusal: `prepare` returned

    def _summed(self, values: torch.Tensor) -> torch.Tensor:
        if self.world_size > 1:
            dist.all_reduce(values)
        return values


@contextlib.contextmanager
def joined(device_name: str | None, *, timeout: timedelta = _TIMEOUT) -> Iterator[Ranks]:
    """Join the process group if torchrun made one; leave it cleanly."""
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = choose_device(device_name, int(os.environ.get("LOCAL_RANK", "0")))
    if world_size == 1:
        yield Ranks(rank=0, world_size=1, device=device)
        return
    _join_group(device, world_size, timeout)
    try:
        with telling_of_lost_peers():
            yield Ranks(rank=rank, world_size=world_size, device=device)
            dist.barrier()  # a rank that leaves while the first still saves is taken for a crash now and then
    finally:
        gc.collect()  # a model wrapped by DDP holds on to the group, whose threads must end before the process does
        dist.destroy_process_group()


@contextlib.contextmanager
def telling_of_lost_peers() -> Iterator[None]:
    """Tell, where a collective fails for want of a peer, that it is gone or silent; then leave with exit code 5.

    Told here and at once, not at the end as other errors are: what is in flight may take longer to finish than torchrun
    waits before it kills.
    """
    try:
        yield
    except RuntimeError as error:
        problem = _lost_peer(error)
        if problem is None:
            raise
        with contextlib.suppress(OSError):  # nobody reads any more
            sys.stderr.write(f"{problem}\n")  # in one write: every survivor tells it
            sys.stderr.flush()
        raise SystemExit(problem.exit_code) from None


def answer_once(device_name: str) -> None:
    """Join the group as a run does, and leave it: one rank of the doctor's trial, which may be the only one."""
    device = choose_device(device_name, int(os.environ["LOCAL_RANK"]))
    _join_group(device, int(os.environ["WORLD_SIZE"]))
    dist.destroy_process_group()


def _join_group(device: torch.device, world_size: int, timeout: timedelta = _TIMEOUT) -> None:
    """Make the process group, and prove that a sum comes back. Ends the process where it does not."""
    later_s = _STAGGER_S * int(os.environ.get("LOCAL_RANK", "0"))
    try:
        with limited(_ARRIVAL_S + later_s, _unanswered(device, world_size, f"not all came within {_ARRIVAL_S:g} s")):
            # Counts and objects travel by gloo even beside GPUs: they never make a GPU wait.
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        with limited(_ANSWER_S + later_s, _unanswered(device, world_size, f"no sum within {_ANSWER_S:g} s")):
            _first_sum(device, world_size)
        _set_pg_timeout(timeout)  # only now: a rank that starts a little later is not a silent one
    except ValueError as error:
        raise EnvironmentProblem(
            f"this process is told to be one of {world_size} ranks, but not where they meet",
            seen=str(error).rpartition(": ")[2],
            wanted="every variable that torchrun sets, or none",
            fix=f"torchrun --standalone --nproc_per_node={world_size} train/main.py --manifest, or unset WORLD_SIZE",
        ) from None
    except RuntimeError as error:  # of which kind depends on the backend and on torch's version
        leave_at_once(_no_meeting(str(error)) or _unanswered(device, world_size, str(error).partition("\n")[0]))


def _first_sum(device: torch.device, world_size: int) -> None:
    """Add up a one of every rank by each backend that training will use, in the same order everywhere."""
    places = [torch.device("cpu"), device]
    for place in places if device.type == "cuda" else places[:1]:
        ones = torch.ones((), device=place)
        dist.all_reduce(ones)
        if ones.item() != world_size:
            raise RuntimeError(f"{world_size} ones add up to {ones.item():g} on {place}")


def _no_meeting(said: str) -> EnvironmentProblem | None:
    """What no other network setting cures: a taken port, or a network card that is not in this machine."""
    port, card = os.environ.get("MASTER_PORT", "none"), os.environ.get("GLOO_SOCKET_IFNAME", "none")
    if "EADDRINUSE" in said:
        return EnvironmentProblem(
            "the port where the ranks meet is taken by another program",
            seen=f"MASTER_PORT {port}, address already in use",
            wanted="a free port",
            fix=f"ss -ltnp | grep {port}   # who has it; or another port: torchrun --master-port, or --standalone",
        )
    if "Unable to find address for" in said:
        cards = ", ".join(name for _, name in socket.if_nameindex())
        return EnvironmentProblem(
            "GLOO_SOCKET_IFNAME names no network card of this machine that has an address",
            seen=card,
            wanted=f"one of {cards}, or nothing set",
            fix="unset GLOO_SOCKET_IFNAME",
        )
    return None


def _unanswered(device: torch.device, world_size: int, seen: str) -> EnvironmentProblem:
    backend = "nccl" if device.type == "cuda" else "gloo"
    return EnvironmentProblem(
        f"the {world_size} ranks do not answer each other by {backend}: waiting on would be waiting for ever",
        seen=seen,
        wanted="a first all-reduce that comes back",
        fix=f"python -m train.doctor --nccl   # finds which to export of {known_cures(backend)}",
    )


def _lost_peer(error: RuntimeError) -> EnvironmentProblem | None:
    """What a collective's error means for want of a peer; None for every other error."""
    said = re.sub(r"^\[[^]]*\] ", "", str(error).partition("\n")[0]).partition(". ")[0][:160]  # less its line of code
    if _GONE.search(str(error)):
        return EnvironmentProblem(
            "another rank is gone, so this one leaves: what that rank says is the cause; if nothing, it was killed",
            seen=said,
            wanted="every rank, to the end",
            fix="dmesg | tail   # was memory short? Then the same command goes on from the newest checkpoint",
        )
    if _SILENT.search(str(error)):
        return EnvironmentProblem(
            "another rank has not answered for as long as --rank-timeout allows, so this one leaves",
            seen=said,
            wanted="an answer from every rank",
            fix="ps -eo pid,stat,args | grep train/main.py   # T is stopped, D waits for a disk; then the same command"
            " goes on, with a larger --rank-timeout if that rank was only slow",
        )
    return None


def choose_device(name: str | None, local_rank: int = 0) -> torch.device:
    """What `--device` asks for, by default a GPU where there is one. Raises EnvironmentProblem."""
    if (name or "cuda") == "cpu" or (name is None and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EnvironmentProblem(
            "there is no GPU for --device cuda", seen="none that torch can use", wanted="one", fix="--device cpu"
        )
    if local_rank >= torch.cuda.device_count():
        raise EnvironmentProblem(
            f"local rank {local_rank} has no GPU of its own",
            seen=f"{torch.cuda.device_count()} GPUs",
            wanted=f"at least {local_rank + 1}",
            fix="fewer processes (--nproc_per_node), or --device cpu",
        )
    torch.cuda.set_device(local_rank)
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda", local_rank)
