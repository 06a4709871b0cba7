"""Exactness: rows, losses and ledger are those of one process, on any number of ranks, however often they change."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from training import FLAGS, here, kept_steps, records, settle, start, weights

from dataprep import manifest
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from dataprep.sql import ask

# 12 rows a step: whole shares for 1, 2, 3 and 4 ranks, whose last step is uneven for all of them.
BATCH = ("--batch-tokens", "768")
# Like train/main.py, and prints the row hash of these very ranks first.
HASHED = """
import sys
from dataprep.errors import run
from train.config import parse_config
from train.loop import Attempt, train
from train.row_hash import print_row_hash
honest = Attempt.run
def hashed(self):
    print_row_hash(self.job, self.ranks)
    return honest(self)
Attempt.run = hashed
run(lambda: train(parse_config(sys.argv[1:])))
"""


@pytest.fixture(scope="module")
def root(packed_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A root with the run `one`: the whole plan in one process."""
    copy = tmp_path_factory.mktemp("exact") / "root"
    shutil.copytree(packed_root, copy)
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, copy)
        here("--run", "one", *BATCH)
        yield copy


def on_ranks(n: int, root: Path, *flags: str) -> list[str]:
    """Train on `n` real processes; the lines that were printed, the row hash first."""
    script = root / "hashed.py"
    script.write_text(HASHED)
    done = start(str(script), *FLAGS, *BATCH, *flags, ranks=n)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def seen_by_shard(root: Path, run: str) -> dict[tuple[str, str], int]:
    paths = Paths(root=root)
    assert manifest.rebuild(paths).notes == ()
    _, lines = ask(paths, f"SELECT source, shard, tokens_seen FROM seen WHERE run = '{run}'")
    return {(source, shard): tokens for source, shard, tokens in lines}


def planned_by_shard(root: Path) -> dict[tuple[str, str], int]:
    plan = pl.read_parquet(root / "manifests" / "plans" / "mix.parquet")
    counted = plan.group_by("source", "shard").agg(pl.col("length").sum())
    return {(source, shard): tokens for source, shard, tokens in counted.iter_rows()}


def assert_same_training(root: Path, run: str) -> None:
    """Rows and counts to the last one; losses and weights as close as float32 sums in another order are."""
    ours, wanted = kept_steps(root, run), kept_steps(root, "one")
    for key in ("step", "row_from", "row_to", "tokens", "loss_tokens", "lr"):
        assert [step[key] for step in ours] == [step[key] for step in wanted], key
    off = max(abs(a["loss"] - b["loss"]) for a, b in zip(ours, wanted, strict=True))
    theirs, whole = weights(root, run), weights(root, "one")
    apart = max(float((theirs[name] - whole[name]).abs().max()) for name in whole)
    print(f"{run}: losses differ by {off:.1e} at most, weights by {apart:.1e}")
    assert off < 5e-6
    assert apart < 2e-5
    assert seen_by_shard(root, run) == seen_by_shard(root, "one") == planned_by_shard(root)


@pytest.mark.parametrize(("n_ranks", "micro_batch"), [(2, "3"), (3, "4"), (4, "1")])
def test_rows_losses_ledger_and_weights_are_those_of_one_process(root: Path, n_ranks: int, micro_batch: str) -> None:
    recipe = load_recipe(Paths(root=root), "mix")
    assert recipe.plan_rows % 12, "the last step is meant to be uneven"
    run = f"ranks-{n_ranks}"
    printed = on_ranks(n_ranks, root, "--run", run, "--micro-batch", micro_batch)
    assert printed[0] == recipe.rows_sha256
    accumulation = 12 // n_ranks // int(micro_batch)
    factors = f"world {n_ranks} x micro-batch {micro_batch} x accumulation {accumulation} x seq_len 64 = 768 tokens"
    assert f"step   {factors}" in printed
    (started,) = records(root, run, "start")
    told = [started[key] for key in ("world_size", "micro_batch", "accumulation", "batch_rows")]
    assert told == [n_ranks, int(micro_batch), accumulation, 12]
    assert_same_training(root, run)


def test_one_then_three_then_two_ranks_train_what_one_does(root: Path) -> None:
    here("--run", "elastic", *BATCH, "--tokens", "15360")
    on_ranks(3, root, "--run", "elastic", "--tokens", "38400", "--micro-batch", "2")
    printed = on_ranks(2, root, "--run", "elastic")
    assert printed[0] == load_recipe(Paths(root=root), "mix").rows_sha256
    starts = records(root, "elastic", "start")
    assert [(start["world_size"], start["rows_done"]) for start in starts] == [(1, 0), (3, 240), (2, 600)]
    assert_same_training(root, "elastic")
