"""The machine that figures were taken on: what a reader needs to judge them.

In:  nothing. Out: CPU model, cores, memory, system, Python, Quern's version and commit.
"""

import os
import platform
import subprocess
from pathlib import Path

import dataprep

ROOT = Path(__file__).resolve().parents[2]


def machine() -> dict[str, str | int | float]:
    """Facts, no names of hosts or folders."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "quern": dataprep.__version__,
        "commit": _commit(),
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def _commit() -> str:
    called = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return called.stdout.strip() or "unknown"
