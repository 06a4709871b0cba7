"""Rows against a naive reader of the plan's parquet; batches against their own suggestions."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataprep.errors import UsageError
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from train.batch import Batch, choose_batch, derive_batch
from train.loader import Loader, handed_out, row_stream_hash
from train.shapes import PRESETS


@pytest.fixture(scope="module")
def loader(packed_root: Path) -> Loader:
    paths = Paths(root=packed_root)
    return Loader(paths, load_recipe(paths, "mix"))


def batch(world_size: int, micro_batch: int, accumulation: int) -> Batch:
    return Batch(seq_len=64, world_size=world_size, micro_batch=micro_batch, accumulation=accumulation)


def naive_row(root: Path, loader: Loader, row: int) -> tuple[list[int], list[int]]:
    recipe = loader.recipe
    inputs, targets = [], []
    plan = pl.read_parquet(root / "manifests" / "plans" / "mix.parquet").filter(pl.col("row") == row)
    for _, source, shard, start, length in plan.iter_rows():
        file = root / "data" / "bins" / recipe.tokenizer / source / f"{shard}.bin"
        tokens = [recipe.end_id, *np.fromfile(file, dtype="<u2").tolist()]
        targets += tokens[start + 1 : start + 1 + length]
        inputs += tokens[start : start + length]
    lacking = recipe.seq_len - len(targets)
    return inputs + [recipe.pad_id] * lacking, targets + [-1] * lacking


def test_rows_are_what_a_naive_reader_finds(packed_root: Path, loader: Loader) -> None:
    n_rows = loader.recipe.plan_rows
    plan = pl.read_parquet(packed_root / "manifests" / "plans" / "mix.parquet")
    first_of_shard = plan.filter(pl.col("start") == 0)["row"].to_list()
    short = plan.group_by("row").agg(pl.col("length").sum()).filter(pl.col("length") < 64)["row"].to_list()
    for row in {0, 1, n_rows // 2, n_rows - 1, *first_of_shard, *short}:
        got = loader.rank_rows(row, row + 1, batch=batch(1, 1, 1), rank=0)
        inputs, targets = naive_row(packed_root, loader, row)
        assert got.inputs_AMT[0, 0].tolist() == inputs
        assert got.targets_AMT[0, 0].tolist() == targets
        assert got.inputs_AMT.dtype == got.targets_AMT.dtype == np.int64


@pytest.mark.parametrize(("world_size", "micro_batch"), [(1, 1), (1, 4), (2, 3), (3, 2), (4, 1)])
def test_the_row_stream_does_not_depend_on_ranks_or_micro_batch(
    loader: Loader, world_size: int, micro_batch: int
) -> None:
    split = batch(world_size, micro_batch, 2)
    of_ranks = [handed_out(loader, split, rank) for rank in range(world_size)]
    assert row_stream_hash(loader, of_ranks) == loader.recipe.rows_sha256
    swapped = [of_ranks[-1], *of_ranks[1:-1], of_ranks[0]]
    assert world_size == 1 or row_stream_hash(loader, swapped) != loader.recipe.rows_sha256


def test_an_uneven_step_fills_up_with_rows_that_do_not_count(loader: Loader) -> None:
    split = batch(2, 2, 2)
    first, second = (loader.rank_rows(0, 5, batch=split, rank=rank) for rank in range(2))
    assert first.n_tokens == first.n_loss_tokens == 4 * 64
    assert second.n_tokens == second.n_loss_tokens == 64
    assert second.inputs_AMT.shape == first.inputs_AMT.shape
    assert (second.targets_AMT[0, 1] == -1).all()
    assert (second.targets_AMT[1] == -1).all()
    assert (second.inputs_AMT[1] == loader.recipe.pad_id).all()


def test_one_pass_counts_the_plans_tokens_and_no_padding(loader: Loader) -> None:
    recipe = loader.recipe
    everything = loader.rank_rows(0, recipe.plan_rows, batch=batch(1, recipe.plan_rows + 3, 1), rank=0)
    assert everything.n_tokens == everything.n_loss_tokens == recipe.tokens
    assert recipe.tokens + recipe.pad_tokens == recipe.plan_rows * recipe.seq_len


def test_accumulation_is_derived_and_the_product_named() -> None:
    derived = derive_batch(batch_tokens=2_048, seq_len=64, world_size=2, micro_batch=4)
    assert (derived.accumulation, derived.rows) == (4, 32)
    assert derived.product == "world 2 x micro-batch 4 x accumulation 4 x seq_len 64 = 2,048 tokens"


@given(st.integers(1, 5_000), st.integers(1, 80), st.integers(1, 8), st.integers(1, 20))
def test_what_does_not_divide_is_refused_with_settings_that_do(
    batch_tokens: int, seq_len: int, world_size: int, micro_batch: int
) -> None:
    try:
        derived = derive_batch(
            batch_tokens=batch_tokens, seq_len=seq_len, world_size=world_size, micro_batch=micro_batch
        )
    except UsageError as refusal:
        tokens, _, micros = refusal.fix.partition(";")
        for suggested in re.findall(r"\d+", tokens):
            derive_batch(batch_tokens=int(suggested), seq_len=seq_len, world_size=world_size, micro_batch=micro_batch)
        for suggested in re.findall(r"\d+", micros):
            derive_batch(batch_tokens=batch_tokens, seq_len=seq_len, world_size=world_size, micro_batch=int(suggested))
    else:
        assert derived.rows * seq_len == batch_tokens


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seq_len", [64, 100, 256, 2_048])
def test_a_presets_own_batch_is_the_same_step_on_any_number_of_ranks(name: str, seq_len: int) -> None:
    def chosen(world_size: int) -> Batch:
        return choose_batch(PRESETS[name], seq_len=seq_len, world_size=world_size, batch_tokens=None, micro_batch=None)

    rows = chosen(1).rows
    assert all(chosen(world_size).rows == rows for world_size in (2, 4) if rows % world_size == 0)
