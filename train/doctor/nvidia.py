"""What torch and the driver say of the GPUs, as they say it.

In:  torch, and nvidia-smi where there is one. Out: `TorchView`, `DriverView`.
Holds: nothing raises: a torch that cannot be loaded and a driver that does not answer are seen, with their words.
look_at_driver() → DriverView(gpus=(GpuView(name="NVIDIA H100 80GB HBM3", total_mib="81559", …),), …)
"""

import shutil
import subprocess
import warnings
from dataclasses import dataclass

from dataprep.errors import EnvironmentProblem

_LIMIT_S = 10
_QUERY = ("name", "memory.total", "memory.used", "driver_version")


@dataclass(frozen=True, kw_only=True)
class TorchView:
    """What torch says of itself; no version where it cannot be loaded."""

    version: str | None
    cuda: str | None  # the CUDA it was built with
    n_gpus: int  # that it can use
    complaint: str


@dataclass(frozen=True, kw_only=True)
class GpuView:
    """One line of nvidia-smi."""

    name: str
    total_mib: str
    used_mib: str
    driver: str


@dataclass(frozen=True, kw_only=True)
class DriverView:
    """What nvidia-smi says: no GPUs where it is not there, a complaint where it does not work."""

    gpus: tuple[GpuView, ...]
    is_there: bool
    complaint: str


def look_at_torch() -> TorchView:
    """Load torch and count GPUs; a driver that is too old makes it warn and count none."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            import torch

            n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        except (ImportError, OSError, RuntimeError) as error:  # OSError: a library that torch needs is not there
            return TorchView(version=None, cuda=None, n_gpus=0, complaint=str(error).partition("\n")[0])
    complaint = str(warned[-1].message).partition("\n")[0] if warned else ""
    return TorchView(version=torch.__version__, cuda=torch.version.cuda, n_gpus=n_gpus, complaint=complaint)


def look_at_driver() -> DriverView:
    """Ask nvidia-smi, where there is one."""
    if not shutil.which("nvidia-smi"):
        return DriverView(gpus=(), is_there=False, complaint="")
    try:
        text = nvidia_smi(f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits")
    except EnvironmentProblem as broken:
        return DriverView(gpus=(), is_there=True, complaint=str(broken.seen))
    lines = [line.split(", ") for line in text.splitlines() if line.count(", ") == len(_QUERY) - 1]
    gpus = [GpuView(name=name, total_mib=total, used_mib=used, driver=driver) for name, total, used, driver in lines]
    return DriverView(gpus=tuple(gpus), is_there=True, complaint="")


def nvidia_smi(*arguments: str) -> str:
    """What nvidia-smi prints. Raises EnvironmentProblem where it fails or hangs, as it does beside a broken driver."""
    command = ["nvidia-smi", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        seen = f"no answer within {_LIMIT_S} s"
    except OSError as error:
        seen = str(error)
    else:
        if done.returncode == 0:
            return done.stdout
        seen = next(iter((done.stdout + done.stderr).strip().splitlines()), f"exit code {done.returncode}")
    raise EnvironmentProblem("nvidia-smi does not work", seen=seen, wanted="a driver that answers", fix="sudo reboot")
