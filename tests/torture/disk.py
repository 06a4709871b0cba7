"""Disks that are full: every verb on file systems of every size, and with files cut off at every length.

In:  a folder to work in. Out: a line per verb and way to run out of space.
Holds: a verb that does not fit ends with exit 5 and three lines that say where and how many bytes; what was finished is
       intact, no temp is left, and once there is room the same command ends with the bytes of an undisturbed run.
Needs root for tmpfs; without it only file sizes are limited (prlimit).
"""

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torture.table import Line
from torture.verbs import begin, complaint, held, published, started, temps

_PAGE = 4096
_ROOM = "64m"
_SPARE = 256 << 10  # folders, locks and the like


@dataclass(frozen=True)
class Roots:
    """One root three times: as the verb finds it, as it shall be, and where the verb was tried."""

    before: Path
    wanted: Path
    tried: Path

    def broken(self) -> str | None:
        """What is neither as before nor as it shall be; None where every finished file is intact and no temp is left.

        Checkpoints are judged by the trainer: the run's end has only the newest of them.
        """
        was, whole = published(self.before), published(self.wanted)
        strange = [
            name
            for name, content in published(self.tried).items()
            if content not in (was.get(name), whole.get(name)) and "/checkpoints/" not in name
        ]
        left = temps(self.tried)
        return f"{strange} are other files, {left} are left" if strange or left else None


@contextlib.contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[Path]:
    """A file system of its own, `n_bytes` large, gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("mount", "-t", "tmpfs", "-o", f"size={max(_PAGE, n_bytes)}", "quern-test", str(folder))
    try:
        yield folder
    finally:
        _mount("umount", str(folder))


def make_room(folder: Path) -> None:
    """The same file system, with space."""
    _mount("mount", "-o", f"remount,size={_ROOM}", str(folder))


def why_no_disk(folder: Path) -> str | None:
    """Why no file system of a chosen size can be had here; None where one can."""
    if os.geteuid() != 0:
        return "tmpfs needs root"
    try:
        with small_disk(folder, 1 << 20):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"tmpfs cannot be mounted ({error})"


def used(root: Path) -> int:
    """Bytes of `root` in whole pages, as tmpfs counts them."""
    files = [file for file in root.rglob("*") if file.is_file()]
    return sum(-(-file.stat().st_size // _PAGE) * _PAGE for file in files)


def wanted_after(verb: str, before: Path, folder: Path) -> Path:
    """The root that an undisturbed run leaves."""
    root = Path(shutil.copytree(before, folder))
    done = started(verb, root)
    assert done.returncode == 0, done.stderr
    return root


def fill_up(verb: str, before: Path, wanted: Path, disk: Path, n_bytes: int) -> str:
    """Run `verb` on a disk with room for `n_bytes` more than it finds: "survived", "reported" or what was lost."""
    with small_disk(disk, used(before) + _SPARE + n_bytes):
        root = Path(shutil.copytree(before, disk / "root"))
        done = started(verb, root)
        return judged(verb, Roots(before, wanted, root), done, lambda: make_room(disk))


def fill_up_training(before: Path, wanted: Path, disk: Path) -> str:
    """Somebody else fills the disk up once the first checkpoint is there."""
    with small_disk(disk, 48 << 20):
        root = Path(shutil.copytree(before, disk / "root"))
        filler = threading.Thread(target=_fill_after, args=(disk / "filler", root / "runs/run/checkpoints"))
        filler.start()
        done = started("train", root)
        filler.join()
        return judged("train", Roots(before, wanted, root), done, (disk / "filler").unlink)


def cut_off(verb: str, before: Path, wanted: Path, root: Path, most_file_bytes: int) -> str:
    """Run `verb` where no file may be larger than so much, then without the limit."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(before, root)
    done = started(verb, root, most_file_bytes=most_file_bytes)
    return judged(verb, Roots(before, wanted, root), done, lambda: None)


def judged(verb: str, roots: Roots, done: subprocess.CompletedProcess[str], make_it_fit: Callable[[], None]) -> str:
    """What became of a try: "survived", "reported" or what was lost."""
    whole = held(roots.wanted)
    if done.returncode == 0:
        return "survived" if held(roots.tried) == whole else "lost: exit 0 with other bytes"
    wrong = complaint(done) or (None if "bytes" in done.stderr else f"no bytes are named: {done.stderr}")
    if wrong := wrong or roots.broken():
        return f"lost: {wrong}"
    make_it_fit()
    again = started(verb, roots.tried)
    found = held(roots.tried)
    if again.returncode != 0 or found != whole:
        names = [name for name in whole if found.get(name) != whole[name]]
        return f"lost: after there was room: exit {again.returncode}, {names}: {again.stderr[-500:]}"
    return "reported"


def counted(fault: str, outcomes: Iterable[str]) -> Line:
    """Outcomes as a line; what was lost is told."""
    outcomes = list(outcomes)
    for outcome in outcomes:
        if outcome.startswith("lost"):
            print(f"{fault}: {outcome}", flush=True)
    n_lost = sum(outcome.startswith("lost") for outcome in outcomes)
    survived, reported = outcomes.count("survived"), outcomes.count("reported")
    return Line(fault=fault, tries=len(outcomes), survived=survived, reported=reported, lost=n_lost)


def torture(work: Path, *, kills: int) -> Iterable[Line]:
    """Every verb, at as many sizes as a tenth of `kills` allows."""
    n_sizes = max(4, kills // 25)
    roots, no_disk = begin(work), why_no_disk(work / "disk")
    for verb, before in roots.items():
        wanted = wanted_after(verb, before, work / f"wanted-{verb}")
        grown = max(_PAGE * n_sizes, used(wanted) - used(before) + (1 << 20))
        n_tries = n_sizes if verb != "train" else max(3, n_sizes // 3)
        if no_disk is None:
            sizes = [grown * i // n_tries - _SPARE for i in range(n_tries)]
            outcomes = [fill_up(verb, before, wanted, work / "disk", size) for size in sizes]
            yield counted(f"disk full: {verb}", outcomes)
        else:
            yield Line(fault=f"disk full: {verb}", tries=0, survived=0, reported=0, lost=0, note=no_disk)
        largest = max(len(content) for content in published(wanted).values())
        limits = [largest * i // n_tries for i in range(n_tries)]
        yield counted(f"file size limit: {verb}", [cut_off(verb, before, wanted, work / "cut", n) for n in limits])
        if verb == "train" and no_disk is None:
            yield counted("disk filled while training", [fill_up_training(before, wanted, work / "disk")])


def _fill_after(filler: Path, awaited: Path) -> None:
    deadline = time.monotonic() + 60
    while not any(awaited.glob("step_*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(1 << 16))


def _mount(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
