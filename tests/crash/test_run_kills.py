"""A run killed again and again, at random moments, ends with the weights and the ledger of one left alone."""

import json
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from training import FLAGS, journal_of, start

from dataprep import manifest
from dataprep.ledger import steps_with_weights
from dataprep.paths import Paths
from dataprep.plan_checks import _ledgers
from dataprep.recipe import load_recipe
from dataprep.sql import ask
from train.checkpoint import read_checkpoint
from train.step_folders import list_checkpoints

ZYGOTE = Path(__file__).with_name("zygote.py")
SAVED = ("--checkpoint-every", "2", "--keep", "2", "--keep-every", "30")


def attempts(kills: dict[str, int], *, world_size: int) -> list[dict[str, Any]]:
    """Train each run to its end through that many SIGKILLs; what became of each attempt."""
    asked = {"flags": [*FLAGS, *SAVED], "kills": kills, "seed": 5, "world_size": world_size}
    done = start(str(ZYGOTE), json.dumps(asked))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("world_size", "n_kills"), [(1, 20), (2, 7)])
def test_random_kills_change_neither_the_weights_nor_the_ledger(root: Path, world_size: int, n_kills: int) -> None:
    whole, *killed, last = attempts({"whole": 0, "killed": n_kills}, world_size=world_size)
    assert whole["codes"] == last["codes"] == [0] * world_size
    assert all(set(attempt["codes"]) == {-signal.SIGKILL} for attempt in killed)
    hit = Counter("before the start" if each["steps"] < 0 else each["save"] for each in killed)
    print(f"world {world_size}: {dict(hit)}")
    assert sum(hit.values()) == n_kills
    assert n_kills - hit["before the start"] - hit["no save"] >= n_kills // 7, "none met a save on its way"

    recipe = load_recipe(Paths(root=root), "mix")
    newest = {run: list_checkpoints(root / "runs" / run / "checkpoints")[-1] for run in ("whole", "killed")}
    states = {run: json.loads((folder / "state.json").read_text()) for run, folder in newest.items()}
    assert read_checkpoint(newest["killed"]).cursor.rows_done == recipe.plan_rows
    assert states["killed"] == states["whole"]  # cursor, randomness, sha256 of weights and of moments: bit for bit

    records = journal_of(root, "killed").records
    steps = steps_with_weights(records)
    rows = [row for step in steps if step["in_weights"] for row in range(step["row_from"], step["row_to"])]
    assert rows == list(range(recipe.plan_rows)), "every row once, none left out"
    lost = sum(step["row_to"] - step["row_from"] for step in steps if not step["in_weights"])
    assert lost == lost_by_hand(records) > 0
    paths = Paths(root=root)
    assert manifest.rebuild(paths).notes == ()
    _, seen = ask(paths, "SELECT run, source, shard, tokens_seen FROM seen ORDER BY ALL")
    by_run = {run: [line[1:] for line in seen if line[0] == run] for run in newest}
    assert by_run["killed"] == by_run["whole"]
    assert sum(tokens for *_, tokens in by_run["killed"]) == recipe.tokens
    assert _ledgers(paths, full=True).passed


def lost_by_hand(records: Sequence[dict[str, Any]]) -> int:
    """Rows that an attempt computed and the next one began before: nothing here looks at a checkpoint."""
    lost = reached = 0
    for record in records:
        if record["kind"] == "start":
            lost += reached - record["rows_done"]
            reached = record["rows_done"]
        elif record["kind"] == "step":
            reached = record["row_to"]
    return lost
