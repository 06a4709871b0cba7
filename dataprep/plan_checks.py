"""Checks of recipes, plans and runs: everything a recipe or journal states, counted again.

In:  recipes, their plans, journals and checkpoints. Out: findings, PASS or FAIL by name.
Holds: counts come from the plan's own lines and from checkpoints, never from the recipe under test.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from dataprep import intervals, packing
from dataprep.bins import FileFact, open_bin, open_document_ends, open_loss, read_receipt
from dataprep.checks import Finding, file_faults, finding
from dataprep.errors import QuernError
from dataprep.harvest import journal_files
from dataprep.ledger import Journal, read_journal, rows_in_weights, steps_with_weights
from dataprep.packing import Segments
from dataprep.paths import Paths
from dataprep.plan import hash_rows, open_plan
from dataprep.publish import read_json
from dataprep.recipe import Recipe, RecipeShard, read_recipe, recipe_names
from dataprep.rows import ShardText, documents_ended
from dataprep.sql import ask


def check_plans(paths: Paths, *, full: bool) -> Iterator[Finding]:
    """Findings about every recipe and its plan, and about every run."""
    recipes, faults = [], []
    for name in sorted(recipe_names(paths)):
        try:
            recipes.append(read_recipe(paths.recipes / f"{name}.toml"))
        except QuernError as error:
            faults.append(f"{name}: {error.what} ({error.seen})")
    yield finding("recipes are as packed", f"{len(recipes) + len(faults):,} recipes", faults)
    yield _each(paths, recipes, "planned shards are unchanged", _shards_unchanged)
    yield _each(paths, recipes, "plans hold what their recipes say", _plan_recounted)
    yield _each(paths, recipes, "every prefix is within one row of its share", _prefixes)
    yield _each(paths, recipes, "no token is planned twice in a pass", _repeats)
    yield _conservation(paths)
    yield _ledgers(paths, full=full)


def _each(paths: Paths, recipes: list[Recipe], name: str, check: Callable[[Paths, Recipe], list[str]]) -> Finding:
    faults = []
    for recipe in recipes:
        try:
            faults += [f"{recipe.name}: {fault}" for fault in check(paths, recipe)]
        except QuernError as error:
            faults.append(f"{recipe.name}: {error.what}")
    return finding(name, f"{sum(recipe.plan_rows for recipe in recipes):,} rows", faults)


def _shards_unchanged(paths: Paths, recipe: Recipe) -> list[str]:
    faults = []
    for shard in recipe.shards:
        wanted = {"tokens": shard.tokens, "bin_sha256": shard.bin_sha256}
        try:
            open_bin(paths, recipe.tokenizer, shard.source, shard.shard, **wanted)
        except QuernError as error:
            faults.append(error.what)
    return faults


def _plan_recounted(paths: Paths, recipe: Recipe) -> list[str]:
    """Rows, tokens, padding and loss tokens counted again from the plan, and the rows' own hash."""
    segments = _all_segments(paths, recipe)
    lines = _lines(paths, recipe, segments)
    rows = lines.group_by("row", maintain_order=True).agg(
        pl.col("length", "loss").sum(), pl.col("source").n_unique().alias("sources")
    )
    by_source = lines.group_by("source").agg(pl.col("row").n_unique(), pl.col("length", "loss").sum())
    found = {line["source"]: (line["row"], line["length"], line["loss"]) for line in by_source.iter_rows(named=True)}
    wanted = {s.source: (s.plan_rows, s.tokens, s.loss_tokens) for s in recipe.sources if s.plan_rows}
    covered = intervals.covered_tokens(segments, len(recipe.shards)).sum()
    comparisons = {
        "(rows, tokens, loss tokens) by source": (found, wanted),
        "row numbers": (rows["row"].to_list() == list(range(recipe.plan_rows)), True),
        "sources in a row": (rows["sources"].max(), 1),
        "tokens": (lines["length"].sum(), recipe.tokens),
        "segments": (len(segments), recipe.segments),
        "documents that end here": (lines["documents"].sum(), recipe.documents),
        "split documents": (_split_documents(paths, recipe, segments), recipe.split_documents),
        "tokens, each once": (int(covered), sum(source.unique_tokens for source in recipe.sources)),
        "padding": (len(rows) * recipe.seq_len - lines["length"].sum(), recipe.pad_tokens),
        "rows longer than seq_len": (rows.filter(pl.col("length") > recipe.seq_len).height, 0),
        "rows without a loss target": (rows.filter(pl.col("loss") == 0).height, 0),
        "rows' hash": (hash_rows(segments, recipe.shards), recipe.rows_sha256),
    }
    return [f"{what}: {seen}, wanted {want}" for what, (seen, want) in comparisons.items() if seen != want]


def _split_documents(paths: Paths, recipe: Recipe, segments: Segments) -> int:
    numbers = np.unique(segments.shard).tolist()
    ends = {i: _read(paths, recipe, recipe.shards[i]).ends for i in numbers}
    return sum(packing.count_documents(segments[segments.shard == i], ends[i])[1] for i in numbers)


def _prefixes(paths: Paths, recipe: Recipe) -> list[str]:
    """After every row of an epoch, each share is within one row of its part, in the unit asked, in integers."""
    lines = _lines(paths, recipe, _all_segments(paths, recipe))
    unit = {"tokens": pl.lit(1), "loss-tokens": pl.col("loss").sum(), "documents": pl.col("documents").sum()}
    rows = lines.group_by("row", maintain_order=True).agg(pl.col("source").first(), unit[recipe.unit].alias("units"))
    share_of = {source: i for i, share in enumerate(recipe.shares) for source in share}
    shares = np.array([share_of[source] for source in rows["source"].to_list()])
    units, faults = rows["units"].to_numpy().astype(np.int64), []
    n_rows = recipe.plan_rows // recipe.epochs
    for first in range(0, recipe.plan_rows, n_rows):
        epoch = slice(first, first + n_rows)
        faults += _off_share(recipe, shares[epoch], units[epoch])
    return faults


def _off_share(recipe: Recipe, shares: np.ndarray, units: np.ndarray) -> list[str]:
    total, everything, one_row = sum(recipe.mix), np.cumsum(units), int(units.max())
    faults = []
    for i, part in enumerate(recipe.mix):
        off = np.abs(np.cumsum(units * (shares == i)) * total - everything * part)
        if (off > total * one_row).any():
            rows_off = off.max() / (total * one_row)
            faults.append(f"{'+'.join(recipe.shares[i])} is {rows_off:.2f} rows off at row {int(off.argmax())}")
    return faults


def _repeats(paths: Paths, recipe: Recipe) -> list[str]:
    """No token is in two places of one pass: none occurs more often than there are passes."""
    segments = _all_segments(paths, recipe)
    allowed = recipe.epochs * (recipe.max_passes if recipe.on_short == "repeat" else 1)
    faults = []
    for source in recipe.sources:
        numbers = [i for i, shard in enumerate(recipe.shards) if shard.source == source.source]
        found = intervals.max_cover(segments[np.isin(segments.shard, numbers)])
        if found > allowed or max(1, found) != source.passes:
            faults.append(
                f"a token of {source.source} occurs {found} times, {source.passes} passes of {allowed} stated"
            )
    return faults


def _conservation(paths: Paths) -> Finding:
    lines = ask(paths, "SELECT recipe, source, tokens, difference FROM conservation")[1]
    faults = [f"{recipe}, {source}: {off} tokens unaccounted for" for recipe, source, _, off in lines if off != 0]
    return finding(
        "tokens = planned + excluded + held out + left over + dropped", f"{len(lines):,} sources of recipes", faults
    )


def _ledgers(paths: Paths, *, full: bool) -> Finding:
    faults, n_runs = [], 0
    for file in journal_files(paths):
        n_runs += 1
        try:
            faults += [
                f"{file.parent.name}: {fault}" for fault in _ledger_faults(read_journal(file), file.parent, full)
            ]
        except QuernError as error:
            faults.append(error.what)
    return finding("ledgers agree with checkpoints", f"{n_runs:,} runs", faults)


def _ledger_faults(journal: Journal, folder: Path, full: bool) -> Iterator[str]:
    """The rows in the weights are one stretch from the start, and newest checkpoint says the same."""
    ranges = rows_in_weights(journal.records)
    for earlier, later in pairwise(ranges):
        if earlier.row_to != later.row_from:
            yield f"rows {earlier.row_to:,} to {later.row_from:,} are in no attempt"
    checkpoints = [record for record in journal.of_kind("checkpoint") if (folder / record["path"]).exists()]
    if not checkpoints:
        return
    newest = checkpoints[-1]
    state = read_json(folder / newest["path"] / "state.json") or {}
    if not {"rows_done", "tokens_done"} <= state.keys():
        yield f"{newest['path']}/state.json cannot be read"
        return
    rows_done = ranges[-1].row_to if ranges else 0
    if not state["rows_done"] == newest["rows_done"] == rows_done:
        yield f"journal has {rows_done:,} rows in the weights, {newest['path']} says {state['rows_done']:,}"
    in_weights = sum(step["tokens"] for step in steps_with_weights(journal.records) if step["in_weights"])
    if in_weights != state["tokens_done"]:
        yield f"journal has {in_weights:,} tokens in the weights, {newest['path']} says {state['tokens_done']:,}"
    weights = FileFact(name="model.safetensors", bytes=newest["bytes"], sha256=newest["sha256"])
    yield from file_faults(
        f"{newest['path']}/{weights.name}", folder / newest["path"] / weights.name, weights, full=full
    )


def _all_segments(paths: Paths, recipe: Recipe) -> Segments:
    return open_plan(paths, recipe).segments(0, recipe.plan_rows)


def _lines(paths: Paths, recipe: Recipe, segments: Segments) -> pl.DataFrame:
    """The plan's lines with what each gives: loss tokens and documents that end in it."""
    texts = [_read(paths, recipe, shard) for shard in recipe.shards]
    masked = recipe.loss == "assistant"
    loss = intervals.loss_counts(segments, lambda i: texts[i].loss) if masked else segments.length
    names = pl.DataFrame({"source": [shard.source for shard in recipe.shards]})
    numbers = {
        "row": segments.row,
        "length": segments.length,
        "loss": loss,
        "documents": documents_ended(segments, texts),
    }
    columns = pl.DataFrame({name: values.astype(np.int64) for name, values in numbers.items()})
    return pl.concat([columns, names[segments.shard]], how="horizontal")


def _read(paths: Paths, recipe: Recipe, shard: RecipeShard) -> ShardText:
    folder = paths.bins(recipe.tokenizer, shard.source)
    receipt = read_receipt(folder / f"{shard.shard}.json")
    loss = open_loss(folder, receipt) if recipe.loss == "assistant" else None
    return ShardText(tokens=shard.tokens, ends=open_document_ends(folder, receipt), loss=loss)
