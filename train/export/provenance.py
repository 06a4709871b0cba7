"""Provenance: what the weights have seen, from whom, and how well they did: what a stranger wants to know of them.

In:  journals, findings, recipes, plans, receipts. Out: `Provenance`.
Holds: nothing is estimated: tokens per source are counted in the rows that are in the weights; what can no longer
       be told (a plan that is gone, a parent's lost journal) is a note, never a smaller number without a word.
base rows 0–160 of `web`, then chat rows 0–80 of `talks`  →  web 10,240 tokens, talks 5,120
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from dataprep.bins import find_receipts, read_receipt
from dataprep.errors import DataError
from dataprep.ledger import AncestorRows, Record, trace_lineage
from dataprep.paths import Paths
from dataprep.plan import open_plan
from dataprep.seen import refuse_counted, trained_recipe
from dataprep.standing import read_findings, standing_evals
from train.runs.overview import read_all
from train.weights import Opened


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run's rows of one recipe that are in the weights."""

    run: str
    stage: str
    recipe: str
    rows: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class SourceSeen:
    """A source, and the tokens of it that are in the weights."""

    source: str
    tokens: int
    licence: str
    repo: str | None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Stages oldest first, sources by tokens, the evaluations of these very weights, and what cannot be told."""

    stages: tuple[Stage, ...]
    sources: tuple[SourceSeen, ...]
    evals: tuple[Record, ...]
    notes: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """Tokens in the weights along the lineage."""
        return sum(stage.tokens for stage in self.stages)


def trace(paths: Paths, opened: Opened) -> Provenance:
    """Follow the weights back to nothing."""
    journals, step = read_all(paths.runs), opened.checkpoint.cursor.step
    lineage = trace_lineage(journals, opened.run, step)
    notes = [lineage.gap] if lineage.gap else []
    by_source: Counter[str] = Counter()
    rows_of: dict[tuple[str, str], list[AncestorRows]] = {}
    for rows in lineage.rows:
        rows_of.setdefault((rows.ancestor, rows.recipe), []).append(rows)
        try:
            by_source += _tokens_by_source(paths, rows)
        except DataError as gone:
            notes.append(f"{rows.tokens:,} tokens of {rows.ancestor} cannot be told by source: {gone.what}")
    stages = [_stage(journals[run].of_kind("start"), rows) for (run, _), rows in rows_of.items()]
    records = journals[opened.run].records
    evals = [
        record
        for record in standing_evals(records, read_findings(paths.findings(opened.run)).records)
        if record["step"] == step
    ]
    return Provenance(
        stages=tuple(stages),
        sources=tuple(_source(paths, opened.vocab.name, *counted) for counted in by_source.most_common()),
        evals=tuple(sorted(evals, key=lambda record: (record["suite"], record["task"]))),
        notes=tuple(dict.fromkeys(notes)),
    )


def _tokens_by_source(paths: Paths, rows: AncestorRows) -> Counter[str]:
    refuse_counted(rows.row_tokens, rows.recipe, where=rows.ancestor)
    recipe = trained_recipe(paths, rows.recipe, rows.recipe_sha256, where=rows.ancestor)
    segments = open_plan(paths, recipe).segments(rows.row_from, rows.row_to)
    of_shard = np.bincount(segments.shard, weights=segments.length, minlength=len(recipe.shards)).astype(np.int64)
    tokens: Counter[str] = Counter()
    for shard, n_tokens in zip(recipe.shards, of_shard.tolist(), strict=True):
        tokens[shard.source] += n_tokens
    return +tokens


def _stage(starts: list[Record], rows: list[AncestorRows]) -> Stage:
    stage_by_attempt = {start["attempt"]: start["stage"] for start in starts}
    return Stage(
        run=rows[0].ancestor,
        stage=stage_by_attempt[rows[0].attempt],
        recipe=rows[0].recipe,
        rows=sum(each.row_to - each.row_from for each in rows),
        tokens=sum(each.tokens for each in rows),
    )


def _source(paths: Paths, tokenizer: str, source: str, tokens: int) -> SourceSeen:
    receipts = find_receipts(paths, tokenizer, source)[:1]
    origin = read_receipt(receipts[0]).origin if receipts else None
    return SourceSeen(
        source=source,
        tokens=tokens,
        licence=origin.licence if origin else "unknown: its receipts are gone",
        repo=origin.repo if origin and origin.kind == "hub" else None,
    )
