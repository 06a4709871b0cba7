"""Kill a command again and again until it finishes, and compare what it published with an undisturbed run.

In:  names of commands, how many kills each, a seed. Out: a line of JSON per command and kind of strike.
Holds: after each kill every published file is whole, as it was before or as it will be; after the last attempt all are
       there, equal to the byte, the database to its last line, and no temp is left.
python tests/crash/kills.py '{"commands": ["pack"], "kills": {"moment": 10, "step": 10}, "seed": 1, "folder": "made"}'
"""

import json
import os
import random
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from crash import hub_apart, sabotage
from crash.commands import COMMANDS, Command, copy_of, make_root, preload
from crash.mortal import Ended, Strike, asked_of_a_child, attempt, attempt_as_typed
from crash.published import CLAIM, differences, exported, published, temps

KINDS = ("moment", "step", "change")  # and "as typed": the real command line, at a moment or a step
# Threads that libraries start as they are imported: both allocators mend themselves in a fork, the third tidies up.
_BORN_WITH = {"jemalloc_bg_thd", "polars-ooc-clea"}
STEPS = ("opened", "written", "synced", "renamed", "published")
_AT_A_STEP = 0.5  # of those as typed: the others are struck by the clock
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
        self.command, self.folder = command, folder
        self.before = make_root(command.made_by, folder.parent / "made by")
        self.was = published(self.before)
        self._seconds_as_typed: float | None = None
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

    def attempt(self, kind: str, root: Path, strike: Strike | None = None) -> Ended:
        """Start the command, in a fork or as a person does."""
        if kind == "as typed":
            return attempt_as_typed(self.command.typed(root), root, strike)
        return attempt(self.command.main(root), root, strike)

    def seconds_of(self, kind: str) -> float:
        """How long it takes when nobody disturbs it; as it is typed, it must do the same as in a fork."""
        if kind != "as typed":
            return self.seconds
        if self._seconds_as_typed is None:
            root = copy_of(self.before, self.folder / "as typed")
            self._seconds_as_typed = self.attempt(kind, root).wall_s
            assert not differences(self.told(root), self.wanted), "a fork and the command line do not do the same"
        return self._seconds_as_typed

    def broken(self, found: Mapping[str, Any]) -> list[str]:
        """Published files that are neither what they were nor what they shall be. One that is neither may pass by."""
        gone = set() if self.command.swaps else ({*self.was} & {*self.wanted}) - {*found}
        return [f"{name}: gone" for name in gone] + [
            f"{name}: neither as before nor as after"
            for name in {*self.was, *self.wanted} & {*found}
            if not _is_on_its_way(found[name], self.was.get(name), self.wanted.get(name))
        ]


def _is_on_its_way(value: Any, before: Any, after: Any) -> bool:
    """A file is the one or the other, or claims a folder; a ledger has the first steps of the one it will be."""
    return value in (before, after, CLAIM) or (isinstance(value, list) and value == (after or before)[: len(value)])


def lost_steps(before: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Ledgers that a kill made shorter: what is trained again ends with the same bytes, and was lost all the same."""
    ledgers = [name for name, value in before.items() if isinstance(value, list) and isinstance(found.get(name), list)]
    shorter = {name: len(before[name]) - len(found[name]) for name in ledgers}
    return [f"{name}: {n_steps} steps less are in the weights" for name, n_steps in shorter.items() if n_steps > 0]


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
    found, n_kills = undisturbed.was, 0
    while True:
        enough = n_kills >= min(n_left, _MOST_RESTARTS)
        strike = None if enough else _strike(undisturbed, kind, rng, first if n_kills == 0 else None)
        ended = undisturbed.attempt(kind, root, strike)
        if ended.code != -9 or strike is None:  # one that nobody struck and that was killed has ended badly
            break
        n_kills += 1
        before, found = found, published(root)
        wrong += undisturbed.broken(found) + lost_steps(before, found)
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
    if kind == "as typed" and rng.random() < _AT_A_STEP:
        return Strike("step", f"{rng.choice(STEPS)}:{rng.randint(1, max(1, undisturbed.counts['step'] // len(STEPS)))}")
    if kind in ("moment", "as typed"):
        return Strike("moment", rng.random() * undisturbed.seconds_of(kind))
    return Strike(kind, first or rng.randint(1, max(1, undisturbed.counts[kind])))


def told_of(asked: dict[str, Any], folder: Path) -> Iterator[Told]:
    """Every command and every kind of strike."""
    os.environ["HF_HOME"] = str(folder / "hf")
    if any("hub" in name for name in asked["commands"]):
        _server, os.environ["HF_ENDPOINT"] = hub_apart.start()
    preload(asked["commands"])
    if "sabotage" in asked:
        sabotage.break_promise(asked["sabotage"])
    threads = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    assert threads <= _BORN_WITH | {Path("/proc/self/comm").read_text().strip()}, f"forks would miss threads: {threads}"
    for name in asked["commands"]:
        undisturbed = Undisturbed(COMMANDS[name], folder / name)
        for kind, n_kills in asked["kills"].items():
            yield kill(undisturbed, kind, n_kills, random.Random(f"{asked['seed']} {name} {kind}"), folder)


def main() -> int:
    """Tell of each on a line."""
    asked = json.loads(sys.argv[1])
    for told in told_of(asked, Path(asked["folder"])):
        print(json.dumps(asdict(told)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
