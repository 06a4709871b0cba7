"""The machine, as the doctor sees it: processors, memory, shared memory, disks, open files, the terminal.

In:  /proc, /sys, /dev/shm and the environment of this process. Out: findings.
Holds: what a container may use counts, not what its host has; nothing is written.
judge_shared_memory(67_108_864, 67_108_864, n_gpus=8) → FAIL, "67.1 MB in /dev/shm, 67.1 MB free"
"""

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dataprep.console import size
from dataprep.paths import Paths
from train.doctor.finding import FAIL, OK, WARN, Finding

_GB = 10**9
_CGROUP = Path("/sys/fs/cgroup")
_NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p", "fuse.", "virtiofs")
_SHARED_ADVICE = "docker run --shm-size=8g …, or --ipc=host"
_DISK_ADVICE = "df -h; another disk: export DATAPREP_ROOT=/that/folder"


def check_processors(n_gpus: int) -> Iterable[Finding]:
    """Each rank keeps one busy, and one more while it loads rows."""
    n_allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_usable = min(float(n_allowed), _cpu_quota(_CGROUP / "cpu.max"))
    few = n_usable < 2 * n_gpus
    yield Finding(
        name="processors",
        level=WARN if few else OK,
        seen=f"{n_usable:g} usable of {os.cpu_count()}",
        advice=f"{2 * n_gpus} for {n_gpus} GPUs: rent more, or docker run --cpus" if few else "",
    )


def check_memory() -> Iterable[Finding]:
    """First weights are made in memory, and a checkpoint passes through it."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    by_name = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
    total = min(by_name["MemTotal"], _limit(_CGROUP / "memory.max"))
    free = min(by_name["MemAvailable"], total)
    scarce = free < 4 * _GB
    yield Finding(
        name="memory",
        level=WARN if scarce else OK,
        seen=f"{size(total)}, {size(free)} free",
        advice="close what else runs: a 500m model passes 6 GB through memory at each checkpoint" if scarce else "",
    )


def check_shared_memory(n_gpus: int, folder: Path = Path("/dev/shm")) -> Iterable[Finding]:  # noqa: S108 -- looked at
    """NCCL sends through it where GPUs cannot reach each other; a container has 64 MB unless told otherwise."""
    if folder.is_dir():
        disk = shutil.disk_usage(folder)
        yield judge_shared_memory(disk.total, disk.free, n_gpus)
    else:
        yield Finding(name="shared memory", level=WARN, seen=f"no {folder}", advice=_SHARED_ADVICE)


def judge_shared_memory(total: int, free: int, n_gpus: int) -> Finding:
    """Too little fails where several GPUs need it, and is worth a word elsewhere."""
    level = OK if free >= _GB else FAIL if free < 2**27 and n_gpus > 1 else WARN
    seen = f"{size(total)} in /dev/shm, {size(free)} free"
    return Finding(name="shared memory", level=level, seen=seen, advice="" if level == OK else _SHARED_ADVICE)


def check_disks(paths: Paths) -> Iterable[Finding]:
    """Free space, and the kind of file system, where data/ and runs/ live."""
    mounts = Path("/proc/self/mountinfo")
    text = mounts.read_text(errors="replace") if mounts.exists() else ""
    for folder in (paths.data, paths.runs):
        there = next(each for each in (folder, *folder.parents) if each.exists()).resolve()
        writable = os.access(there, os.W_OK)
        free, kind = shutil.disk_usage(there).free, file_system(text, there)
        judged = judge_disk(free, kind) if writable else (FAIL, "not writable", f"chown -R $USER {there}")
        yield Finding(name=f"disk of {folder.name}/", level=judged[0], seen=judged[1], advice=judged[2])


def judge_disk(free: int, kind: str) -> tuple[str, str, str]:
    """(level, seen, advice). Two checkpoints of a 500m model and the one being written are 18 GB."""
    seen = f"{size(free)} free, {kind or 'unknown file system'}"
    if free < _GB:
        return FAIL, seen, _DISK_ADVICE
    if kind.startswith(_NETWORK):
        advice = "a local disk: bins are read as memory maps and locks are needed; export DATAPREP_ROOT=/local/folder"
        return WARN, f"{seen}, over a network", advice
    if kind in ("tmpfs", "ramfs"):
        return WARN, f"{seen}, which is memory", "a disk: this is gone at the next boot"
    if free < 20 * _GB:
        return WARN, seen, f"two checkpoints of a 500m model and the next are 18 GB; {_DISK_ADVICE}"
    return OK, seen, ""


def file_system(mountinfo: str, folder: Path) -> str:
    """The kind of file system `folder` is on: of the mount points above it, the deepest and newest."""
    found = Path(), ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        mount = Path(before.split()[4].replace("\\040", " "))
        if folder.is_relative_to(mount) and len(mount.parts) >= len(found[0].parts):
            found = mount, after.split()[0]
    return found[1]


def check_open_files(n_shards: int) -> Iterable[Finding]:
    """Every shard of a plan is an open file; the trainer raises its own limit to the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    unlimited = hard == resource.RLIM_INFINITY
    few = not unlimited and hard < max(1024, n_shards + 256)
    yield Finding(
        name="open files",
        level=FAIL if few else OK,
        seen=f"a limit of {'none' if unlimited else format(hard, ',')} for {n_shards:,} shards",
        advice="ulimit -n 65536 (as root, or in limits.conf)" if few else "",
    )


def check_terminal() -> Iterable[Finding]:
    """A run should outlive the connection it was typed over."""
    yield judge_terminal(os.environ, is_terminal=sys.stdin is not None and sys.stdin.isatty(), find=shutil.which)


def judge_terminal(environment: Mapping[str, str], *, is_terminal: bool, find: Callable[[str], str | None]) -> Finding:
    """Inside tmux or screen, or no terminal at all: nothing to lose. `find` tells where a program is, or None."""
    inside = next((word for name, word in (("TMUX", "tmux"), ("STY", "screen")) if environment.get(name)), None)
    if inside or not is_terminal:
        return Finding(name="terminal", level=OK, seen=f"inside {inside}" if inside else "none: started by a program")
    held = next((program for program in ("tmux", "screen") if find(program)), None)
    begin = {"tmux": "tmux new -s train", "screen": "screen -S train"}
    return Finding(
        name="terminal",
        level=WARN,
        seen=f"not inside tmux or screen{'' if held else ', and neither is installed'}: a lost connection is lost",
        advice=f"{begin[held]}   # before you train" if held else "apt-get install tmux, then tmux new -s train",
    )


def _cpu_quota(file: Path) -> float:
    """Processors' worth of time a container may use."""
    words = file.read_text().split() if file.exists() else ["max"]
    return float("inf") if words[0] == "max" else int(words[0]) / int(words[1])


def _limit(file: Path) -> float:
    text = file.read_text().strip() if file.exists() else "max"
    return float("inf") if text == "max" else int(text)
