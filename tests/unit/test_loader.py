"""Rows against a naive reader of the plan's parquet; batches against their own suggestions."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import run_in
from hypothesis import given
from hypothesis import strategies as st
from masked import publish_variant, write_mask

from dataprep import pack, verify
from dataprep.batch import Batch, choose_batch, derive_batch
from dataprep.errors import DataError, UsageError
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from dataprep.shapes import PRESETS
from train.gathering import number_documents
from train.loader import Loader
from train.row_hash import handed_out, row_stream_hash


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


@pytest.fixture(scope="module")
def masked_root(packed_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed root, where beta's shard has a loss mask and alpha's have none."""
    root = tmp_path_factory.mktemp("masked") / "root"
    shutil.copytree(packed_root, root)
    write_mask(root, "beta", "shard_00000")
    return root


def naive_documents(root: Path, loader: Loader, row: int) -> list[int]:
    """Document numbers target by target: a new one after each end token, at each segment, and for the padding."""
    recipe = loader.recipe
    plan = pl.read_parquet(root / "manifests" / "plans" / "mix.parquet").filter(pl.col("row") == row)
    number, numbers = -1, []
    for _, source, shard, start, length in plan.iter_rows():
        tokens = np.fromfile(root / "data" / "bins" / recipe.tokenizer / source / f"{shard}.bin", dtype="<u2")
        new = True
        for token in tokens[start : start + length].tolist():
            number += new
            numbers.append(number)
            new = token == recipe.end_id
    return numbers + [number + 1] * (recipe.seq_len - len(numbers))


def test_a_masked_token_is_an_input_and_no_target_and_a_shard_without_a_mask_counts(masked_root: Path) -> None:
    loader = Loader(Paths(root=masked_root), publish_variant(masked_root, "sft", loss="assistant"))
    plain = Loader(Paths(root=masked_root), load_recipe(Paths(root=masked_root), "mix"))
    mask = np.fromfile(masked_root / "data/bins/tiny-bpe/beta/shard_00000.loss", dtype=np.uint8)
    is_beta = np.array([shard.source == "beta" for shard in loader.recipe.shards])
    everything = batch(1, loader.recipe.plan_rows + 2, 1)
    ours, theirs = (each.rank_rows(0, each.recipe.plan_rows, batch=everything, rank=0) for each in (loader, plain))
    assert (ours.inputs_AMT == theirs.inputs_AMT).all()
    differ = ours.targets_AMT != theirs.targets_AMT
    assert (ours.targets_AMT[differ] == -1).all()
    segments = ours.segments
    counted = [
        int(mask[start : start + length].sum()) if is_beta[shard] else length
        for shard, start, length in zip(segments.shard, segments.start.tolist(), segments.length.tolist(), strict=True)
    ]
    assert ours.n_loss_tokens == sum(counted) < theirs.n_loss_tokens
    assert ours.n_tokens == theirs.n_tokens == loader.recipe.tokens
    for i in np.flatnonzero(is_beta[segments.shard])[:20]:
        row, start, length = segments.row[i], segments.start[i], segments.length[i]
        if (segments.row == row).sum() == 1:
            wanted = mask[start : start + length] == 1
            assert ((ours.targets_AMT[0, row, :length] != -1) == wanted).all()


def test_the_policy_all_reads_no_mask(masked_root: Path) -> None:
    loader = Loader(Paths(root=masked_root), load_recipe(Paths(root=masked_root), "mix"))
    everything = loader.rank_rows(0, loader.recipe.plan_rows, batch=batch(1, loader.recipe.plan_rows, 1), rank=0)
    assert everything.n_loss_tokens == loader.recipe.tokens


def test_a_mask_that_was_cut_short_is_refused(packed_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(packed_root, root)
    write_mask(root, "beta", "shard_00000")
    file = root / "data/bins/tiny-bpe/beta/shard_00000.loss"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"shard_00000\.loss of beta is not what its receipt says"):
        Loader(Paths(root=root), publish_variant(root, "sft", loss="assistant"))


def test_documents_are_numbered_as_a_naive_reader_does(masked_root: Path, loader: Loader) -> None:
    recipe = publish_variant(masked_root, "inside", attention="document", loss="assistant")
    by_document = Loader(Paths(root=masked_root), recipe)
    n_rows = recipe.plan_rows
    got = by_document.rank_rows(0, n_rows, batch=batch(1, n_rows + 1, 1), rank=0).documents_AMT
    assert got is not None
    assert got.dtype == np.int64
    assert (got[0, n_rows] == 0).all()  # a row that is all padding is one document
    wanted = [naive_documents(masked_root, by_document, row) for row in range(n_rows)]
    assert got[0, :n_rows].tolist() == wanted
    assert max(map(max, wanted)) > 1
    assert loader.rank_rows(0, 1, batch=batch(1, 1, 1), rank=0).documents_AMT is None


def test_a_row_of_several_segments_and_padding_is_numbered_by_hand() -> None:
    end, pad = 9, 11
    inputs = np.array([[end, 1, 2, end, 3, 4, 5, 6, pad, pad], [7, 8, end, 1, 2, 3, 4, 5, 6, 7]])
    begins = np.zeros_like(inputs, dtype=bool)
    begins[0, [0, 6, 8]] = begins[1, 0] = True  # row 0: a segment, another that opens inside a document, the padding
    assert number_documents(inputs, begins, end).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 3, 3], [0, 0, *[1] * 8]]


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


def test_a_mask_other_than_the_planned_one_is_refused_by_trainer_and_verify(
    packed_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(packed_root, root)
    recipe = publish_variant(root, "chats", loss="assistant")
    write_mask(root, "alpha", "shard_00001")  # the same tokens, with roles of which the plan knows nothing
    with pytest.raises(DataError, match="loss mask of shard_00001 of alpha changed after the plan was made"):
        Loader(Paths(root=root), recipe)
    assert run_in(root, verify.main, "--json") == 3
    failed = {finding["name"] for finding in json.loads(capsys.readouterr().out) if not finding["passed"]}
    assert "planned shards are unchanged" in failed


@pytest.mark.parametrize("strategy", ["best-fit", "pad"])
def test_rows_of_many_segments_and_padding_are_what_a_naive_reader_finds(
    masked_root: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several segments a row, masks on some shards only, padding in between, and batches across row groups."""
    monkeypatch.setattr("dataprep.plan.ROWS_PER_GROUP", 7)
    asked = ["--mix", "70:30", "--sources", "alpha,beta", "--seq-len", "64", "--strategy", strategy]
    flags = ["--loss", "assistant", "--attention", "document", "--on-short", "shrink"]
    assert run_in(masked_root, pack.main, *asked, *flags, "--name", strategy) == 0
    paths = Paths(root=masked_root)
    loader = Loader(paths, load_recipe(paths, strategy))
    recipe, n_segments = loader.recipe, 0
    for row in range(0, recipe.plan_rows, 5):
        rows = loader.rank_rows(row, min(row + 5, recipe.plan_rows), batch=batch(1, 5, 1), rank=0)
        n_segments += len(rows.segments)
        for i in range(min(5, recipe.plan_rows - row)):
            inputs, targets, documents = naive_row_by_document(masked_root, loader, row + i)
            assert rows.inputs_AMT[0, i].tolist() == inputs
            assert rows.targets_AMT[0, i].tolist() == targets
            assert rows.documents_AMT is not None
            assert rows.documents_AMT[0, i].tolist() == documents
    assert n_segments == recipe.segments > recipe.plan_rows * (strategy == "best-fit")
    assert recipe.pad_tokens > 0


def naive_row_by_document(root: Path, loader: Loader, row: int) -> tuple[list[int], list[int], list[int]]:
    """One row under the policy `assistant`, token by token."""
    recipe, document = loader.recipe, -1
    inputs, targets, documents = [], [], []
    plan = pl.read_parquet(root / "manifests" / "plans" / f"{recipe.name}.parquet").filter(pl.col("row") == row)
    for _, source, shard, start, length in plan.iter_rows():
        file = root / "data" / "bins" / recipe.tokenizer / source / f"{shard}.bin"
        mask_file = file.with_suffix(".loss")
        tokens = [recipe.end_id, *np.fromfile(file, dtype="<u2").tolist()]
        mask = np.fromfile(mask_file, dtype="u1").tolist() if mask_file.exists() else [1] * len(tokens)
        for place in range(start, start + length):
            document += place == start or tokens[place] == recipe.end_id
            inputs.append(tokens[place])
            targets.append(tokens[place + 1] if mask[place] else -1)
            documents.append(document)
    lacking = recipe.seq_len - len(inputs)
    return inputs + [recipe.pad_id] * lacking, targets + [-1] * lacking, documents + [document + 1] * lacking
