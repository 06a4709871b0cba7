"""GPUs that people rent: peak, memory and a typical price, from the dated table gpus.toml.

In:  a name as typed (H100, 4xH100), or as torch tells it ("NVIDIA H100 80GB HBM3"). Out: `Gpu`, or None.
Holds: what is not in the table has no peak and no price, rather than those of something similar;
       a slice of a GPU (MIG) is not in the table.
find_gpu("NVIDIA A100-SXM4-80GB").name == "A100-80GB"; gpus("4xH100").count == 4
"""

import argparse
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GIB = 1 << 30  # memory of GPUs is told in it; files and disks are in powers of ten
_TABLE = Path(__file__).with_name("gpus.toml")
_RENTED = re.compile(r"(?:([1-9][0-9]{0,4})(?: *[x×*] *| +))?(.+)", re.IGNORECASE | re.ASCII)
_STRAY_COUNT = re.compile(r"(?<![\w-])[x×]?[0-9]+(?!\w)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU. `peak_flops` is dense bf16 FLOP/s; the price is of one GPU for an hour."""

    name: str
    peak_flops: float
    memory_gib: int
    usd_per_hour: float
    pattern: str


@dataclass(frozen=True, kw_only=True)
class GpuTable:
    """Every GPU known, and when the table was written."""

    date: str
    gpus: tuple[Gpu, ...]

    @property
    def warning(self) -> str:
        """What is said beside each of its prices."""
        return f"prices of {self.date}, typical; prices change, --usd-per-hour wins"


@dataclass(frozen=True, kw_only=True)
class Rented:
    """So many of one device; no `gpu` means a CPU, whose speed nobody can look up."""

    count: int
    gpu: Gpu | None

    @property
    def name(self) -> str:
        """As it is typed: 4xH100."""
        return f"{self.count}x{self.gpu.name if self.gpu else 'cpu'}"


@cache
def gpu_table() -> GpuTable:
    """The table that ships with the code."""
    entries = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    date = entries.pop("date")
    gpus = [
        Gpu(
            name=name,
            peak_flops=entry["peak_tflops"] * 1e12,
            memory_gib=entry["memory_gib"],
            usd_per_hour=entry["usd_per_hour"],
            pattern=rf"\b{entry['pattern']}\b",
        )
        for name, entry in entries.items()
    ]
    return GpuTable(date=date, gpus=tuple(gpus))


def find_gpu(name: str) -> Gpu | None:
    """The GPU that a person or torch.cuda.get_device_name calls so; None where the table has none."""
    if re.search(r"\bMIG\b", name):
        return None
    return next((gpu for gpu in gpu_table().gpus if re.search(gpu.pattern, name, re.IGNORECASE)), None)


def gpus(text: str) -> Rented:
    """H100, 4xH100, 2xcpu. Raises argparse.ArgumentTypeError that lists the names there are."""
    match = _RENTED.fullmatch(text.strip())
    name = match[2].strip() if match else ""
    gpu = find_gpu(name)
    # H100:8 and H100 x8 are eight GPUs to whoever types them: they are refused rather than taken for one.
    stray = gpu and _STRAY_COUNT.search(re.sub(gpu.pattern, "", name, flags=re.IGNORECASE))
    if match is None or stray or (gpu is None and name.lower() != "cpu"):
        names = ", ".join(gpu.name for gpu in gpu_table().gpus)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {names} or cpu, or so many of one, such as 4xH100")
    return Rented(count=int(match[1] or 1), gpu=gpu)
