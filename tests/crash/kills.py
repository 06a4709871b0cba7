"""Kill a command again and again until it finishes, and compare what it published with an undisturbed run.

In:  names of commands, how many kills each, a seed. Out: a line of JSON per command and kind of strike.
Holds: after each kill every published file is whole, as it was before or as it will be; after the last attempt all are
       there, equal to the byte, the database to its last line, and no temp is left.
python tests/crash/kills.py '{"commands": ["pack"], "kills": 30, "seed": 1}'
"""

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from crash.commands import COMMANDS, Command, copy_of, make_root, preload
from crash.mortal import Strike, asked_of_a_child, attempt
from crash.published import differences, exported, published, temps

KINDS = ("moment", "step", "change")
# Threads that libraries start as they are imported: both allocators mend themselves in a fork, the third tidies up.
_BORN_WITH = {"jemalloc_bg_thd", "polars-ooc-clea"}
_MOST_RESTARTS = 30  # of one command, before it is left to finish


@dataclass
class Told:
    """What became of the kills of one kind."""

    command: str
    kind: str
    kills: int = 0
    restarts: int = 0
    finished: int = 0
    done_already: int = 0  # of the finished: those that ended by saying so
    kills_done_already: int = 0
    kills_lost: int = 0
    differences: list[str] = field(default_factory=list)
    undisturbed_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)


class Undisturbed:
    """A command's root before, and what a run that nobody disturbs makes of it."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.command = command
        self.before = make_root(command, folder / "before")
        self.was = published(self.before)
        first, second = (copy_of(self.before, folder / name) for name in ("first", "second"))
        self.ended = [attempt(command.main(root), root) for root in (first, second)]
        assert all(ended.code == 0 for ended in self.ended), self.ended
        self.seconds = min(ended.wall_s for ended in self.ended)
        self.counts = self.ended[1].counts
        self.wanted = self.told(first)
        noise = differences(self.told(second), self.wanted)
        assert not noise, f"two undisturbed runs differ, so nothing can be said of {command.name}: {noise}"

    def told(self, root: Path) -> dict[str, Any]:
        """All that is compared."""
        tables = asked_of_a_child(lambda: exported(root, rebuilt=not self.command.indexes))
        return published(root) | tables

    def broken(self, root: Path) -> list[str]:
        """Published files that are neither what they were nor what they shall be."""
        return [
            f"{name}: neither as before nor as after"
            for name, value in published(root).items()
            if not name.endswith(".jsonl") and value not in (self.was.get(name), self.wanted.get(name))
        ]


def kill(undisturbed: Undisturbed, kind: str, n_kills: int, rng: random.Random, folder: Path) -> Told:
    """That many kills of one kind, in as many lives of the command as that takes."""
    told = Told(undisturbed.command.name, kind, undisturbed_s=undisturbed.seconds, counts=undisturbed.counts)
    first_turns = list(range(1, undisturbed.counts.get(kind, 0) + 1))
    rng.shuffle(first_turns)  # with enough kills each turn is the first one of some life
    while told.kills < n_kills:
        first = first_turns.pop() if first_turns else None
        _one_life(undisturbed, kind, rng, told, folder, n_left=n_kills - told.kills, first=first)
    return told


def _one_life(
    undisturbed: Undisturbed, kind: str, rng: random.Random, told: Told, folder: Path, *, n_left: int, first: int | None
) -> None:
    """Kill the command until it finishes, and judge."""
    command, root = undisturbed.command, copy_of(undisturbed.before, folder / "root")
    wrong: list[str] = []
    n_kills = 0
    while True:
        enough = n_kills >= min(n_left, _MOST_RESTARTS)
        strike = None if enough else _strike(undisturbed, kind, rng, first if n_kills == 0 else None)
        ended = attempt(command.main(root), root, strike)
        if ended.code != -9:
            break
        n_kills += 1
        wrong += undisturbed.broken(root)
    already = n_kills > 0 and ended.code in command.done_already
    if ended.code != 0 and not already:
        wrong.append(f"ended with {ended.code}: {ended.said.strip()[-400:]}")
    else:
        wrong += differences(undisturbed.told(root), undisturbed.wanted)
        wrong += [f"{temp}: a temp is left" for temp in temps(root)]
    told.kills, told.restarts, told.finished = told.kills + n_kills, told.restarts + n_kills, told.finished + 1
    told.kills_lost += n_kills if wrong else 0
    told.done_already += already and not wrong
    told.kills_done_already += n_kills if already and not wrong else 0
    told.differences += wrong
    shutil.rmtree(root)


def _strike(undisturbed: Undisturbed, kind: str, rng: random.Random, first: int | None) -> Strike:
    if kind == "moment":
        return Strike(kind, rng.random() * undisturbed.seconds)
    return Strike(kind, first or rng.randint(1, max(1, undisturbed.counts[kind])))


def told_of(asked: dict[str, Any], folder: Path) -> Iterator[Told]:
    """Every command and every kind of strike."""
    preload(asked["commands"])
    threads = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    assert threads <= _BORN_WITH | {Path("/proc/self/comm").read_text().strip()}, f"forks would miss threads: {threads}"
    for name in asked["commands"]:
        undisturbed = Undisturbed(COMMANDS[name], folder / name)
        kinds = asked.get("kinds", KINDS)
        for kind in kinds:
            n_kills = -(-asked["kills"] // len(kinds))
            yield kill(undisturbed, kind, n_kills, random.Random(f"{asked['seed']} {name} {kind}"), folder)


def main() -> int:
    """Tell of each on a line."""
    asked = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="quern-kills-", ignore_cleanup_errors=True) as folder:
        for told in told_of(asked, Path(folder)):
            print(json.dumps(asdict(told)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
