"""Checks of recipes, plans and runs: everything a recipe or journal states, counted again.

In:  recipes, their plans, journals and checkpoints. Out: findings, PASS or FAIL by name.
Holds: counts come from the plan's own lines and from checkpoints, never from the recipe under test.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import polars as pl

from dataprep import intervals
from dataprep.bins import FileFact, Receipt, open_bin, open_document_ends, open_loss, open_planned_loss, read_receipt
from dataprep.checkpoint_checks import check_checkpoints, train_again
from dataprep.checks import Finding, file_faults, finding
from dataprep.counting import count_part
from dataprep.errors import QuernError
from dataprep.harvest import journal_files
from dataprep.ledger import Journal, read_journal, rows_in_weights, steps_with_weights
from dataprep.packing import Segments, no_pieces
from dataprep.paths import CHECKPOINTS, FINDINGS, Paths
from dataprep.plan import hash_rows, open_plan
from dataprep.recipe import TOTALS, Recipe, RecipeShard, read_recipe, recipe_names
from dataprep.rows import ShardText, documents_ended
from dataprep.sealed import read_json
from dataprep.seen_checks import check_seen, seen_of
from dataprep.sql import ask
from dataprep.standing import read_findings


def check_plans(paths: Paths, *, full: bool) -> Iterator[Finding]:
    """Findings about every recipe and its plan, and about every run."""
    recipes, faults, fixes = [], [], []
    for name in sorted(recipe_names(paths)):
        try:
            recipes.append(read_recipe(paths.recipes / f"{name}.toml"))
        except QuernError as error:
            faults.append(f"{name}: {error.what} ({error.seen})")
            fixes.append(error.fix)
    yield finding("recipes are as packed", f"{len(recipes) + len(faults):,} recipes", faults, fixes)
    yield _plans_unchanged(paths, recipes)
    yield _each(paths, recipes, "planned shards are unchanged", _shards_unchanged)
    yield _each(paths, recipes, "plans hold what their recipes say", _plan_recounted)
    yield _each(paths, recipes, "every prefix is within one row of its share", _prefixes)
    yield _each(paths, recipes, "no token is planned twice in a pass", _repeats)
    yield check_seen(paths, recipes)
    yield _conservation(paths)
    yield _ledgers(paths, full=full)
    yield check_checkpoints(paths, full=full)


def _plans_unchanged(paths: Paths, recipes: list[Recipe]) -> Finding:
    faults, fixes = [], []
    for recipe in recipes:
        try:
            open_plan(paths, recipe)
        except QuernError as error:
            faults.append(f"{paths.shown(paths.plans / recipe.name)}.parquet: {error.what}")
            fixes.append(error.fix)
    return finding("plans are as packed", f"{len(recipes):,} plans, every byte hashed", faults, fixes)


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
            if recipe.loss == "assistant":
                where = (paths, recipe.tokenizer, shard.source, shard.shard)
                open_planned_loss(*where, loss_sha256=shard.loss_sha256)
        except QuernError as error:
            faults.append(error.what)
    return faults


def _plan_recounted(paths: Paths, recipe: Recipe) -> list[str]:
    """Everything the recipe states that its plan can tell, counted again from the plan."""
    segments, texts = _all_segments(paths, recipe), _texts(paths, recipe)
    rows = _rows(recipe, segments, texts)
    seen = seen_of(paths, recipe)
    comparisons = {
        "row numbers": (rows["row"].to_list() == list(range(recipe.plan_rows)), True),
        "sources in a row": (rows["sources"].max(), 1),
        "rows longer than seq_len": (rows.filter(pl.col("length") > recipe.seq_len).height, 0),
        "rows without a loss target": (rows.filter(pl.col("loss") == 0).height, 0),
        "rows' hash": (hash_rows(segments, recipe.shards), recipe.rows_sha256),
        "segments": (len(segments), recipe.segments),
        "ids": (_ids(paths, recipe), (recipe.vocab_size, recipe.end_id, recipe.pad_id)),
    }
    for total in TOTALS:
        of_sources = sum(getattr(source, total) for source in recipe.sources)
        comparisons[f"{total} of all sources"] = (of_sources, getattr(recipe, total))
    for source in recipe.sources:
        found = count_part(_part(recipe, segments, source.source), texts, recipe, seen or no_pieces())
        if seen is None:
            del found["dropped_tokens"]  # a cut reaches to what was seen, and nobody knows any more what was
        share = recipe.share_of(source.source)
        found |= {"share": share, "asked": recipe.mix[share]}
        comparisons |= {f"{source.source}: {key}": (count, getattr(source, key)) for key, count in found.items()}
    return [f"{what}: {seen}, stated {want}" for what, (seen, want) in comparisons.items() if seen != want] + [
        f"{what} is over its budget" for what in _over_budget(recipe)
    ]


def _ids(paths: Paths, recipe: Recipe) -> tuple[int, int, int]:
    """Vocabulary size, end id and pad id, as the first planned shard's receipt has them."""
    tokenizer = _receipt(paths, recipe, recipe.shards[0]).tokenizer
    return tokenizer.vocab_size, tokenizer.end_id, tokenizer.vocab_size - 1


def _over_budget(recipe: Recipe) -> list[str]:
    spent = {
        "budget_tokens": recipe.plan_rows * recipe.seq_len,
        "budget_source_tokens": recipe.tokens,
        "budget_loss_tokens": recipe.loss_tokens,
    }
    return [key for key, count in spent.items() if count > (getattr(recipe, key) or count) * recipe.epochs]


def _prefixes(paths: Paths, recipe: Recipe) -> list[str]:
    """After every row of an epoch, each share is within one row of its part, in the unit asked, in integers."""
    rows = _rows(recipe, _all_segments(paths, recipe), _texts(paths, recipe))
    if rows.height == 0 or recipe.epochs < 1 or rows.height % recipe.epochs:
        return [f"{rows.height} rows are not {recipe.epochs} epochs"]
    columns = {"tokens": pl.lit(1), "loss-tokens": pl.col("loss"), "documents": pl.col("documents")}
    units = rows.select(columns[recipe.unit].alias("unit")).to_series().to_numpy().astype(np.int64)
    units = np.broadcast_to(units, rows.height)
    shares = np.array([recipe.share_of(source) for source in rows["source"].to_list()])
    n_rows = rows.height // recipe.epochs
    largest = int(units.max())
    faults = [f"a row gives {largest}, {recipe.largest_row} is stated"] if largest > recipe.largest_row else []
    for first in range(0, rows.height, n_rows):
        epoch = slice(first, first + n_rows)
        faults += _off_share(recipe, shares[epoch], units[epoch])
    return faults


def _off_share(recipe: Recipe, shares: np.ndarray, units: np.ndarray) -> list[str]:
    """Shares further off than the largest row held gives: the bound of `mixing`, whatever was drawn of it."""
    total, everything = sum(recipe.mix), np.cumsum(units)
    one_row, faults = max(1, recipe.largest_row), []
    for i, part in enumerate(recipe.mix):
        off = np.abs(np.cumsum(units * (shares == i)) * total - everything * part)
        if (off > total * one_row).any():
            rows_off = off.max() / (total * one_row)
            faults.append(f"{'+'.join(recipe.shares[i])} is {rows_off:.2f} rows off at row {int(off.argmax())}")
    return faults


def _repeats(paths: Paths, recipe: Recipe) -> list[str]:
    """No token is in two places of one pass; without repeats each occurs once an epoch, exactly."""
    segments, faults = _all_segments(paths, recipe), []
    allowed = recipe.epochs * (recipe.max_passes if recipe.on_short == "repeat" else 1)
    for source in recipe.sources:
        part = _part(recipe, segments, source.source)
        found, unique = intervals.max_cover(part), int(intervals.covered_tokens(part, len(recipe.shards)).sum())
        if found > allowed:
            faults.append(f"a token of {source.source} occurs {found} times, {allowed} passes were allowed")
        if recipe.on_short != "repeat" and int(part.length.sum()) != unique * recipe.epochs:
            faults.append(f"tokens of {source.source} do not occur once in each of {recipe.epochs} epochs")
    return faults


def _part(recipe: Recipe, segments: Segments, source: str) -> Segments:
    numbers = [i for i, shard in enumerate(recipe.shards) if shard.source == source]
    return segments[np.isin(segments.shard, numbers)]


def _conservation(paths: Paths) -> Finding:
    lines = ask(paths, "SELECT recipe, source, tokens, difference FROM conservation")[1]
    faults = [f"{recipe}, {source}: {off} tokens unaccounted for" for recipe, source, _, off in lines if off != 0]
    return finding(
        "tokens = planned + excluded + held out + left over + dropped", f"{len(lines):,} sources of recipes", faults
    )


def _ledgers(paths: Paths, *, full: bool) -> Finding:
    faults, fixes, torn, n_runs = [], [], [], 0
    for file in journal_files(paths):
        n_runs += 1
        try:
            saved = _saved_rows(file.parent)  # before the journal is read: a run that trains is ahead of what was read
            journal = read_journal(file)
            lost, others = _lost_lines(journal, saved), _ledger_faults(journal, file.parent, full)
            found = [f"{journal.run}: {fault}" for fault in chain(lost, others)]
            faults, fixes = faults + found, fixes + [train_again(journal.run)] * len(found)
            findings = read_findings(file.with_name(FINDINGS))
            torn += [journal.run] * (journal.torn is not None or findings.torn is not None)
        except QuernError as error:
            faults.append(f"{paths.shown(file)}: {error.what}")
            fixes.append(error.fix)
    ignored = f"; a torn last line is ignored: {', '.join(torn)}" if torn else ""
    return finding("ledgers agree with checkpoints", f"{n_runs:,} runs{ignored}", faults, fixes)


def _saved_rows(folder: Path) -> dict[str, int]:
    """The row up to which each checkpoint of a run was trained; of one that cannot be read others tell."""
    states = sorted((folder / CHECKPOINTS).glob("step_*/state.json"))
    said = {file.parent.name: (read_json(file) or {}).get("rows_done") for file in states}
    return {name: rows_done for name, rows_done in said.items() if isinstance(rows_done, int)}


def _lost_lines(journal: Journal, saved: Mapping[str, int]) -> Iterator[str]:
    """Every step is in the journal before its checkpoint is there."""
    known = max((step["row_to"] for step in journal.of_kind("step")), default=0)
    for name, rows_done in saved.items():
        if rows_done > known:
            yield f"lines of the journal are lost: it ends at row {known:,}, {name} holds row {rows_done:,}"


def _ledger_faults(journal: Journal, folder: Path, full: bool) -> Iterator[str]:
    """The rows in the weights are one stretch from the start, and newest checkpoint says the same."""
    ranges = rows_in_weights(journal.records)
    jumps = {start["attempt"]: start["weights_row"] for start in journal.of_kind("start") if "weights_row" in start}
    for earlier, later in pairwise(ranges):
        if earlier.row_to != jumps.get(later.attempt, later.row_from):
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


def _rows(recipe: Recipe, segments: Segments, texts: Sequence[ShardText]) -> pl.DataFrame:
    """A line per row: its source, and the tokens, loss tokens and documents that it gives."""
    masked = recipe.loss == "assistant"
    loss = intervals.loss_counts(segments, lambda i: texts[i].loss) if masked else segments.length
    names = pl.DataFrame({"source": [shard.source for shard in recipe.shards]})
    ended = documents_ended(segments, texts)
    numbers = {"row": segments.row, "length": segments.length, "loss": loss, "documents": ended}
    columns = pl.DataFrame({name: values.astype(np.int64) for name, values in numbers.items()})
    return (
        pl.concat([columns, names[segments.shard]], how="horizontal")
        .group_by("row", maintain_order=True)
        .agg(
            pl.col("length", "loss", "documents").sum(),
            pl.col("source").n_unique().alias("sources"),
            pl.col("source").first(),
        )
    )


def _texts(paths: Paths, recipe: Recipe) -> list[ShardText]:
    texts = []
    for shard in recipe.shards:
        receipt, folder = _receipt(paths, recipe, shard), paths.bins(recipe.tokenizer, shard.source)
        loss = open_loss(folder, receipt) if recipe.loss == "assistant" else None
        texts.append(ShardText(tokens=shard.tokens, ends=open_document_ends(folder, receipt), loss=loss))
    return texts


def _receipt(paths: Paths, recipe: Recipe, shard: RecipeShard) -> Receipt:
    return read_receipt(paths.bins(recipe.tokenizer, shard.source) / f"{shard.shard}.json")
