"""Throw-away environments of the peers: one venv each, made when it is first needed.

In:  a contender's requirements. Out: the Python that has them; without any, the running one.
Holds: a venv that is there was installed to the end from these very requirements; what pip said is the reason
       that the table gives for a peer that is not there.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol


class NotInstalledError(Exception):
    """A peer that cannot be had here, and why."""


class _Needs(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def venv(self) -> str: ...
    @property
    def requirements(self) -> tuple[str, ...]: ...


def python_of(contender: _Needs, folder: Path, *, timeout_s: float = 1_200) -> Path:
    """The Python that runs the contender. Raises NotInstalledError."""
    if not contender.requirements:
        return Path(sys.executable)
    home = folder / (contender.venv or contender.name).replace(" ", "-")
    python, mark = home / "bin" / "python", home / "installed"
    wanted = hashlib.sha256("\n".join((sys.version, *contender.requirements)).encode()).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return python
    print(f"  installing {', '.join(contender.requirements)} for {contender.name}", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    _call([sys.executable, "-m", "venv", str(home)], timeout_s)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([*pip, *contender.requirements], timeout_s)
    mark.write_text(wanted)
    return python


def _call(command: list[str], timeout_s: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalledError(f"pip was not done after {timeout_s:,.0f} s") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.lower().startswith("error")] or said[-1:] or ["pip said nothing"]
        raise NotInstalledError(errors[-1][:200])
