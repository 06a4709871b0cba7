"""The GPUs, as the doctor sees them: torch's view, the driver's view, and how they are joined.

In:  `TorchView` and `DriverView`, and a first computation. Out: findings.
Holds: a machine without GPUs is examined like any other: it trains on the CPU, slowly.
GPU0 NV18 GPU1 → ok; GPU0 SYS GPU1 → warn: gradients cross between processors
"""

import os
import re
import shutil
from collections.abc import Iterable, Sequence

from train.doctor.finding import FAIL, OK, WARN, Finding
from train.doctor.nvidia import DriverView, GpuView, TorchView, nvidia_smi

_BUSY_MIB = 1024
_N_ONES = 1024
_FIRST_BF16 = (8, 0)  # Ampere
_SLOW_LINKS = {"SYS": "between processors", "NODE": "inside a processor, not a switch", "PHB": "through a processor"}


def check_torch(torch: TorchView, driver: DriverView) -> Iterable[Finding]:
    """Torch, its CUDA, and whether it can use what the driver has."""
    if torch.version is None:
        advice = "python -m pip install --force-reinstall torch"
        yield Finding(name="torch", level=FAIL, seen=f"cannot be loaded: {torch.complaint}", advice=advice)
        return
    yield Finding(name="torch", level=OK, seen=torch.version)
    if torch.n_gpus:
        yield Finding(name="CUDA", level=OK, seen=f"{torch.cuda}, usable GPUs: {torch.n_gpus}")
    elif not driver.gpus:
        seen = f"torch is built {f'with {torch.cuda}' if torch.cuda else 'without'}; no GPU here"
        yield Finding(name="CUDA", level=WARN, seen=seen, advice="nothing, if you mean to train on the CPU: slowly")
    elif torch.cuda is None:
        seen = f"torch is a CPU build beside {len(driver.gpus)} GPUs"
        yield Finding(
            name="CUDA", level=FAIL, seen=seen, advice="the torch of your CUDA: https://pytorch.org/get-started"
        )
    else:
        seen = f"torch can use none of {len(driver.gpus)} GPUs: {torch.complaint or _chosen()}"
        advice = (
            f"driver {driver.gpus[0].driver} may be too old for CUDA {torch.cuda}: another driver, or another torch"
        )
        yield Finding(name="CUDA", level=FAIL, seen=seen, advice=advice)


def check_driver(driver: DriverView, n_usable: int) -> Iterable[Finding]:
    """The driver and its GPUs: how many, of which kind, how full."""
    if driver.complaint:
        yield Finding(
            name="driver", level=FAIL, seen=f"nvidia-smi: {driver.complaint}", advice="sudo reboot, or another machine"
        )
        return
    if not driver.gpus:
        seen = "nvidia-smi lists no GPU" if driver.is_there else "no nvidia-smi"
        yield Finding(name="driver", level=WARN if n_usable else OK, seen=seen)
        return
    yield Finding(name="driver", level=OK, seen=driver.gpus[0].driver)
    level, remark, advice = _judge_gpus(driver.gpus, n_usable)
    kinds = " and ".join(sorted({f"{gpu.name} of {gpu.total_mib} MiB" for gpu in driver.gpus}))
    yield Finding(name="GPUs", level=level, seen=f"{len(driver.gpus)} x {kinds}{remark}", advice=advice)


def _judge_gpus(gpus: Sequence[GpuView], n_usable: int) -> tuple[str, str, str]:
    """Are they free, alike, and all in use? As (level, remark, advice)."""
    busy = [f"{i} ({gpu.used_mib} MiB)" for i, gpu in enumerate(gpus) if _is_busy(gpu)]
    if busy:
        return WARN, f"; in use: {', '.join(busy)}", "nvidia-smi names who; CUDA_VISIBLE_DEVICES leaves them out"
    if len({gpu.name for gpu in gpus}) > 1:
        return WARN, "", "the slowest sets the pace: CUDA_VISIBLE_DEVICES chooses"
    if n_usable not in (0, len(gpus)):
        return WARN, f"; torch uses {n_usable}", f"nothing, if you mean it: {_chosen()}"
    return OK, "", ""


def check_kernel(n_usable: int) -> Iterable[Finding]:
    """Compute on the first GPU: a build without code for it, or a broken card, is found here and not in the run."""
    if not n_usable:
        return
    import torch

    try:
        total = torch.ones(_N_ONES, device="cuda", dtype=torch.bfloat16).sum().item()
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        yield Finding(name="first GPU", level=FAIL, seen=said, advice="a torch built for this GPU, or another machine")
        return
    capability = torch.cuda.get_device_capability(0)
    slow = capability < _FIRST_BF16
    yield Finding(
        name="first GPU",
        level=FAIL if total != _N_ONES else WARN if slow else OK,
        seen=f"{total:g} of {_N_ONES} ones on GPU 0, compute capability {capability[0]}.{capability[1]}",
        advice="another GPU: this one has no bf16 of its own" if slow else "",
    )


def check_topology(n_gpus: int) -> Iterable[Finding]:
    """How GPUs reach each other."""
    if n_gpus > 1 and shutil.which("nvidia-smi"):
        yield judge_links(read_links(nvidia_smi("topo", "-m")))


def read_links(matrix: str) -> set[str]:
    """The kinds of link between GPUs, NV18 or PIX or SYS, in what `nvidia-smi topo -m` prints."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", matrix)
    lines = [line.split() for line in plain.splitlines() if re.match(r"GPU\d+\s+(X|NV|PIX|PXB|PHB|NODE|SYS)", line)]
    return {link for words in lines for link in words[1 : 1 + len(lines)] if link != "X"}


def judge_links(links: set[str]) -> Finding:
    """NVLink and switches are fine; anything through a processor is slow, and where peer access tends to hang."""
    seen = ", ".join(sorted(links)) or "not told"
    slow = [f"{link}: {_SLOW_LINKS[link]}" for link in sorted(links) if link in _SLOW_LINKS]
    if not slow:
        return Finding(name="topology", level=OK, seen=seen)
    advice = "try it: python -m train.doctor --nccl; NCCL_P2P_DISABLE=1 where it hangs"
    return Finding(name="topology", level=WARN, seen=f"{seen} ({'; '.join(slow)})", advice=advice)


def _chosen() -> str:
    return f"CUDA_VISIBLE_DEVICES is {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}"


def _is_busy(gpu: GpuView) -> bool:
    return gpu.used_mib.isdigit() and int(gpu.used_mib) > _BUSY_MIB
