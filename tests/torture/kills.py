"""Kills: every command is killed with SIGKILL, again and again, until it finishes; what it leaves is compared.

In:  how many kills. Out: a line per command and kind of strike; its note counts restarts and differences.
Holds: the commands run in forks of a process that has only imported them, or (as typed) in interpreters of their own.
Run: make torture KILLS=1000 ONLY=kills
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torture.table import Line

DRIVER = Path(__file__).resolve().parents[1] / "crash" / "kills.py"
SEED = 7
# Hundredths of all kills, of each command; a driver of its own for those that need torch.
SHARES = {
    ("shards", "shards of talks", "shards from a hub", "pack"): {"moment": 4, "step": 4, "change": 4, "as typed": 0.5},
    ("bpe", "index", "export to nanogpt", "export to datatrove", "import"): {"moment": 1, "step": 1, "change": 2},
    ("runs trash", "runs restore", "runs purge", "an export, replaced"): {"moment": 1, "step": 1, "change": 1},
    ("train",): {"moment": 6, "step": 4, "change": 5, "as typed": 1},
    ("export of weights", "export of weights over another"): {"moment": 1, "step": 1, "change": 1},
}
AT = {
    "moment": "at a moment",
    "step": "at a step of a publication",
    "change": "before a change to the disk",
    "as typed": "as typed, at a moment or a step",
}


def torture(work: Path, *, kills: int) -> Iterable[Line]:
    """All of them, in shares."""
    for commands, shares in SHARES.items():
        n_kills = {kind: max(1, round(share * kills / 100)) for kind, share in shares.items()}
        yield from map(line_of, killing(work, commands, n_kills))


def killing(work: Path, commands: Sequence[str], n_kills: Mapping[str, int], **more: Any) -> Iterator[Any]:
    """What the driver tells of each, as it comes."""
    asked = {"commands": commands, "kills": n_kills, "seed": SEED, "folder": str(work), **more}
    with subprocess.Popen(
        [sys.executable, str(DRIVER), json.dumps(asked)], stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout
        for line in driver.stdout:
            yield json.loads(line)
    if driver.returncode:
        raise RuntimeError(f"the driver of {', '.join(commands)} left with {driver.returncode}")


def line_of(told: Mapping[str, Any]) -> Line:
    """A line of the table. A command that a kill left finished says so, with exit 2: that is reported, not survived."""
    for difference in told["differences"]:
        print(f"{told['command']}, {told['kind']}: {difference}", file=sys.stderr)
    lost, reported = told["kills_lost"], told["kills_done_already"]
    return Line(
        fault=f"{told['command']}, killed {AT[told['kind']]}",
        tries=told["kills"],
        survived=told["kills"] - lost - reported,
        reported=reported,
        lost=lost,
        note=f"{told['restarts']:,} restarts to {told['finished']:,} ends, {len(told['differences'])} differences",
    )
