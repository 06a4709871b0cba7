"""Tracking: the journal's numbers again, in trackio or wandb, for whoever wants curves. The journal stays the truth.

In:  --track, the run's name and settings, and each step's record. Out: what the tracker makes of them: trackio in its
own folder on this machine, wandb offline in runs/<run>/wandb unless WANDB_MODE says otherwise.
Holds: without --track nothing is imported; a tracker that cannot begin refuses the run, one that fails later is left
       behind with one warning: no training ends because a curve could not be drawn.
open_tracker("trackio", "base", {"seed": 1}, Path("runs/base")).log(7, {"loss": 2.9, "lr": 1e-3, "mfu": None})
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dataprep.errors import EnvironmentProblem

PROJECT = "quern"
METRICS = ("loss", "lr", "grad_norm", "tokens_per_s", "mfu", "tokens_done")  # spelled as in the journal
Numbers = Mapping[str, float | None]


class Tracker:
    """A run in somebody else's program, or in none."""

    def __init__(
        self, kind: str, log: Callable[[int, dict[str, float]], Any] | None, finish: Callable[[], Any] | None
    ) -> None:
        self._kind, self._log, self._finish = kind, log, finish

    def log(self, step: int, numbers: Numbers) -> None:
        """Hand over those of METRICS that were measured; what else is in `numbers` is the journal's alone."""
        if self._log:
            known = {name: float(value) for name in METRICS if (value := numbers.get(name)) is not None}
            self._shielded(self._log, step, known)

    def close(self) -> None:
        """End the tracked run: what it holds back is written."""
        if self._finish:
            self._shielded(self._finish)
        self._log = self._finish = None

    def _shielded(self, act: Callable[..., Any], *values: Any) -> None:
        try:
            act(*values)
        except Exception as error:  # noqa: BLE001 -- another program's failure, of whatever kind, is not the run's
            self._log = self._finish = None
            with contextlib.suppress(OSError):  # nobody may read stderr any more
                print(f"warning: {self._kind} failed and is left behind: {_said(error)}", file=sys.stderr, flush=True)


def open_tracker(kind: str, run: str, config: Mapping[str, Any], folder: Path) -> Tracker:
    """Begin, or go on with, the tracked run of this name. Raises EnvironmentProblem where that cannot be.

    `kind` is none, trackio or wandb; only the first rank tracks, so the others ask for none.
    """
    if kind == "none":
        return Tracker(kind, None, None)
    try:
        return _OPENERS[kind](run, dict(config), folder)
    except ImportError as error:
        raise EnvironmentProblem(
            f"--track {kind} needs a package that cannot be loaded",
            seen=_said(error),
            wanted=f"{kind}, which Quern does not install by itself",
            fix=f"python -m pip install {kind}",
        ) from None
    except Exception as error:  # noqa: BLE001 -- whatever it raises: it was asked for and cannot be had
        raise EnvironmentProblem(
            f"{kind} cannot begin the run {run!r}",
            seen=_said(error),
            wanted="a tracker that opens",
            fix="the same command with --track none" + (", or with WANDB_MODE=offline" if kind == "wandb" else ""),
        ) from None


def _open_trackio(run: str, config: dict[str, Any], _folder: Path) -> Tracker:
    """Local unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL is set; `trackio show --project quern` draws it."""
    import trackio  # pyright: ignore[reportMissingImports] -- an extra

    trackio.init(
        project=PROJECT,
        name=run,
        config=config,
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    # Its module-level functions: `Run.finish` alone leaves the run open, and it is finished once more at exit.
    return Tracker("trackio", lambda step, numbers: trackio.log(numbers, step=step), trackio.finish)


def _open_wandb(run: str, config: dict[str, Any], folder: Path) -> Tracker:
    """Offline, a resumed run is another folder with the same id: `wandb sync runs/<run>/wandb/*` joins them."""
    import wandb  # pyright: ignore[reportMissingImports] -- an extra

    tracked = wandb.init(
        project=PROJECT,
        name=run,
        id=run,
        config=config,
        dir=str(folder),
        mode=None if os.environ.get("WANDB_MODE") else "offline",
        resume="allow",
        settings=wandb.Settings(console="off", quiet=True),  # the terminal is ours
    )
    return Tracker("wandb", lambda step, numbers: tracked.log(numbers, step=step), tracked.finish)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


_OPENERS = {"trackio": _open_trackio, "wandb": _open_wandb}
