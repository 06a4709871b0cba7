"""Peak memory of a process and all it started, while it runs: read from /proc, by a thread of the harness.

In:  the process id of a session's leader. Out: bytes: of the whole tree, and what of it no file backs.
Holds: pages shared by processes count once (PSS); a high-water mark of one process (VmHWM) catches what was let go
       between two looks; looking takes at most one part in fifty of the time.
"""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_PAUSE_S = 0.05
_SHARE = 50


class TreePeak:
    """`with TreePeak(pid) as peak: …` then `peak.found()`."""

    def __init__(self, session: int) -> None:
        self._session, self._done = session, threading.Event()
        self._peak = self._anonymous = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def found(self) -> dict[str, int]:
        """The peaks: with pages of mapped files (which the kernel can take back), and without."""
        return {"peak_bytes": self._peak, "peak_anonymous_bytes": self._anonymous}

    def _watch(self) -> None:
        pause = 0.0
        while not self._done.wait(pause):
            began = time.perf_counter()
            self._look()
            pause = max(_PAUSE_S, _SHARE * (time.perf_counter() - began))

    def _look(self) -> None:
        whole = anonymous = highest = 0
        for folder in _members(self._session):
            try:
                rollup, status = _fields(folder / "smaps_rollup"), _fields(folder / "status")
            except (OSError, ValueError):  # it ended while we looked
                continue
            whole += rollup.get("Pss", 0)
            anonymous += rollup.get("Pss_Anon", 0) + rollup.get("Pss_Shmem", 0)
            highest = max(highest, status.get("VmHWM", 0))
        self._peak, self._anonymous = max(self._peak, whole, highest), max(self._anonymous, anonymous)


def _members(session: int) -> list[Path]:
    """Folders of /proc of every process of the session."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # pid (name, which may hold anything) state parent group session
                after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(after_name[3]) == session:
                found.append(folder)
    return found


def _fields(file: Path) -> dict[str, int]:
    """`Key:   123 kB` lines in bytes."""
    pairs = (line.partition(":") for line in file.read_text().splitlines())
    return {key: 1024 * int(value.split()[0]) for key, _, value in pairs if value.endswith(" kB")}
