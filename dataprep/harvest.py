"""Harvest: every receipt, recipe and journal, read into the lines of tokens.db's tables.

In:  data/sources, data/bins, manifests/recipes, manifests/plans, runs. Out: plain lines by table.
Holds: nothing is invented: a line states what one file says. What is damaged, torn or missing
becomes a note, never silence.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dataprep.asked import Asked, asked_files, read_asked
from dataprep.bins import Receipt, find_receipts, read_receipt
from dataprep.errors import DataError
from dataprep.ledger import (
    TRASH,
    Journal,
    find_journals,
    read_journal,
    read_trashed_at,
    steps_with_weights,
    trace_lineage,
)
from dataprep.paths import FINDINGS, Paths
from dataprep.recipe import Recipe, read_recipe, recipe_names
from dataprep.seen_again import AgainRange, SeenRange, seen_again
from dataprep.standing import Findings, read_findings, standing_evals, standing_samples

Line = dict[str, Any]
_STEP_COLUMNS = (
    *("attempt", "step", "row_from", "row_to", "tokens", "loss_tokens", "loss", "lr", "grad_norm"),
    *("seconds", "tokens_per_s", "mfu", "vram_allocated", "vram_reserved", "in_weights"),
)

_EVAL_COLUMNS = ("step", "tokens_done", "recipe", "suite", "task", "n", "value", "stderr")
_SAMPLE_COLUMNS = ("step", "tokens_done", "recipe", "prompt", "completion", "fact", "expected", "hit", "temperature")


@dataclass(kw_only=True)
class Harvest:
    """Lines by table, ranges still to be counted, and notes for people."""

    tables: dict[str, list[Line]] = field(default_factory=dict)
    seen: list[SeenRange] = field(default_factory=list)
    again: list[AgainRange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, table: str, **line: Any) -> None:
        """One line of one table."""
        self.tables.setdefault(table, []).append(line)


def collect(paths: Paths) -> Harvest:
    """Read everything. A damaged file is left out with a note: one rotten recipe must not hide the rest."""
    harvest = Harvest()
    for file in asked_files(paths):
        with _left_out(harvest):
            _add_source(harvest, read_asked(file))
    _add_shards(harvest, paths)
    for name in sorted(recipe_names(paths)):
        with _left_out(harvest):
            _add_recipe(harvest, paths, read_recipe(paths.recipes / f"{name}.toml"))
    journals: dict[str, Journal] = {}
    files = find_journals(paths.runs)
    for run, file in files.items():
        with _left_out(harvest):
            journals[run] = read_journal(file)
    for journal in journals.values():
        with _left_out(harvest):
            if _add_run(harvest, journal, trashed_at=read_trashed_at(files[journal.run])):
                _add_lineage(harvest, paths, journals, journal.run)
                _add_judgements(harvest, journal, _findings_of(harvest, files[journal.run]))
    return harvest


@contextlib.contextmanager
def _left_out(harvest: Harvest) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        harvest.notes.append(f"left out: {error.what} ({error.seen})")
    except (ValueError, TypeError, KeyError) as error:  # a value of another kind than its key promises
        harvest.notes.append(f"left out: a file that says what cannot be ({type(error).__name__}: {error})")


def watched(paths: Paths) -> Iterator[Path]:
    """Folders and files whose change makes tokens.db stale. A publication changes its folder."""
    bins = (paths.all_bins, *paths.all_bins.glob("*"), *paths.all_bins.glob("*/*"))
    folders = [paths.source_record("").parent, paths.recipes, paths.plans, paths.runs, paths.runs / TRASH, *bins]
    yield from (folder for folder in folders if folder.is_dir())
    yield from paths.recipes.glob("*.toml")  # people edit them in place
    journals = journal_files(paths)
    yield from journals
    yield from (file for file in (journal.with_name(FINDINGS) for journal in journals) if file.exists())


def journal_files(paths: Paths) -> list[Path]:
    """Every run's journal, by run, those in the trash as well."""
    return list(find_journals(paths.runs).values())


def _add_source(harvest: Harvest, asked: Asked) -> None:
    columns = ("source", "kind", "repo", "revision", "licence")
    harvest.add("sources", **{key: getattr(asked, key) for key in columns}, holdout=", ".join(asked.holdout))
    for shard, split in asked.shards:
        harvest.add("asked_shards", source=asked.source, tokenizer=asked.tokenizer, shard=shard, split=split)


def _add_shards(harvest: Harvest, paths: Paths) -> None:
    tokenizers, shown_folders = set(), {}
    for file in find_receipts(paths):
        with _left_out(harvest):
            receipt = read_receipt(file)
            tokenizers.add(receipt.tokenizer)
            folder = file.parent
            if folder not in shown_folders:
                shown_folders[folder] = paths.shown(folder)
            _add_shard(harvest, shown_folders[folder], receipt)
    for fact in sorted(tokenizers, key=lambda fact: fact.name):
        columns = {"fingerprint": fact.fingerprint, "vocab_size": fact.vocab_size, "end_id": fact.end_id}
        harvest.add("tokenizers", tokenizer=fact.name, **columns)


def _add_shard(harvest: Harvest, folder: str, receipt: Receipt) -> None:
    columns = ("source", "shard", "split", "documents", "empty_documents", "unsupervised_documents")
    more = ("text_bytes", "tokens", "loss_tokens")
    harvest.add(
        "shards",
        **{key: getattr(receipt, key) for key in columns + more},
        excluded_documents=sum(receipt.excluded.values()),
        file=receipt.file.name,
        file_bytes=receipt.file.bytes,
        file_sha256=receipt.file.sha256,
        tokenizer=receipt.tokenizer.name,
        bin=f"{folder}/{receipt.bin.name}",
        bin_sha256=receipt.bin.sha256,
    )
    where = {"source": receipt.source, "tokenizer": receipt.tokenizer.name, "shard": receipt.shard}
    for reason, documents in receipt.excluded.items():
        harvest.add("excluded", **where, reason=reason, documents=documents)


def _add_recipe(harvest: Harvest, paths: Paths, recipe: Recipe) -> None:
    plan = paths.plans / f"{recipe.name}.parquet"
    if not plan.exists():
        harvest.notes.append(f"recipe {recipe.name} has no plan: python -m dataprep.pack makes it again")
    columns = ("tokenizer", "seq_len", "strategy", "loss", "attention", "unit", "epochs", "seed", "split", "documents")
    more = ("plan_rows", "tokens", "loss_tokens", "pad_tokens", "dropped_tokens", "split_documents", "sha256")
    stated = {key: getattr(recipe, key) for key in columns + more}
    excludes = ", ".join(recipe.exclude_seen)
    harvest.add("recipes", recipe=recipe.name, plan=paths.shown(plan), exclude_seen=excludes, **stated)
    for source in recipe.sources:
        harvest.add("recipe_sources", recipe=recipe.name, **asdict(source))
    for shard in recipe.shards:
        harvest.add("recipe_shards", recipe=recipe.name, **asdict(shard))


def _add_run(harvest: Harvest, journal: Journal, *, trashed_at: str | None) -> bool:
    """A run's own lines; False for one that never began."""
    starts, ends = journal.of_kind("start"), journal.of_kind("end")
    if journal.torn is not None:
        harvest.notes.append(f"run {journal.run}: a torn last line of its journal is not counted")
    if not starts:
        harvest.notes.append(f"run {journal.run} has no start record and is left out")
        return False
    first, last = starts[0], starts[-1]
    end = next((record for record in ends if record["attempt"] == last["attempt"]), None)
    columns = ("stage", "recipe", "parent_run", "parent_step", "params", "world_size", "batch_rows", "micro_batch")
    harvest.add(
        "runs",
        run=journal.run,
        **{key: last[key] for key in columns},
        accumulation=last["accumulation"],
        status=end["status"] if end else "open",
        started_at=_utc(first["time"]),
        ended_at=_utc(end["time"]) if end else None,
        trashed_at=_utc(trashed_at) if trashed_at else None,
    )
    for step in steps_with_weights(journal.records):
        harvest.add("steps", run=journal.run, **{key: step.get(key) for key in _STEP_COLUMNS})
    for record in journal.of_kind("checkpoint"):
        columns = ("step", "rows_done", "tokens_done", "path", "bytes", "sha256")
        harvest.add("checkpoints", run=journal.run, **{key: record[key] for key in columns})
    return True


def _add_lineage(harvest: Harvest, paths: Paths, journals: dict[str, Journal], run: str) -> None:
    """The rows in a run's weights, its ancestors' first, and the plans in which to count them by shard."""
    lineage = trace_lineage(journals, run)
    if lineage.gap:
        harvest.notes.append(f"run {run}: {lineage.gap}")
    packed = {recipe["recipe"]: recipe["sha256"] for recipe in harvest.tables.get("recipes", [])}
    uncounted: dict[str, str] = {}
    for place, rows in enumerate(lineage.rows):
        harvest.add("ancestor_rows", run=run, place=place, **vars(rows))
        plan = paths.plans / f"{rows.recipe}.parquet"
        if rows.row_tokens is not None:
            continue  # an abstract supply has no shards
        if packed.get(rows.recipe) != rows.recipe_sha256:
            uncounted[rows.recipe] = "gone" if rows.recipe not in packed else "packed anew, with other rows"
        elif not plan.exists():
            uncounted[rows.recipe] = "without its plan"
        else:
            where = {"row_from": rows.row_from, "row_to": rows.row_to}
            harvest.seen.append(SeenRange(run=run, ancestor=rows.ancestor, recipe=rows.recipe, plan=plan, **where))
    for again in seen_again(lineage.rows):
        where = {"run": run, "recipe": again.recipe, "row_from": again.row_from, "row_to": again.row_to}
        if again.row_tokens is None and again.recipe not in uncounted:
            plan = paths.plans / f"{again.recipe}.parquet"
            harvest.again.append(AgainRange(**where, plan=plan, times=again.times))
        else:
            n_rows = (again.row_to - again.row_from) * again.times
            tokens = n_rows * again.row_tokens if again.row_tokens else None
            harvest.add("reseen_rows", **where, times=again.times, tokens=tokens)
    for recipe, why in uncounted.items():
        harvest.notes.append(f"run {run}: recipe {recipe} is {why}, so its tokens per shard cannot be counted")


def _findings_of(harvest: Harvest, journal: Path) -> Findings:
    """What was found out later. A damaged file hides itself, not the run."""
    findings = Findings(records=(), torn=None)
    with _left_out(harvest):
        findings = read_findings(journal.with_name(FINDINGS))
    if findings.torn is not None:
        harvest.notes.append(f"run {journal.parent.name}: a torn last line of its findings is not counted")
    return findings


def _add_judgements(harvest: Harvest, journal: Journal, findings: Findings) -> None:
    """What the run's weights can do, as found during training and after it."""
    for record in standing_evals(journal.records, findings.records):
        harvest.add("evals", run=journal.run, **{key: record[key] for key in _EVAL_COLUMNS})
    for record in standing_samples(journal.records, findings.records):
        harvest.add("samples", run=journal.run, **{key: record.get(key) for key in _SAMPLE_COLUMNS})


def _utc(text: str) -> datetime:
    """A naive UTC time: DuckDB's TIMESTAMP, which needs no time zone tables."""
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
