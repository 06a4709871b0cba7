"""Planner: from a request and what is held to the exact rows of a plan. Reads; writes nothing.

In:  a request, receipts, document ends, loss masks. Out: a recipe (asked and got) and its segments.
Holds: the same request over the same shards gives the same rows, on any machine; per source,
tokens = planned at least once + excluded (seen ones too) + held out + left over + dropped.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dataprep import bins, packing, plan
from dataprep.counting import count_part
from dataprep.drawing import Draws, draw
from dataprep.errors import DataError
from dataprep.packing import Pieces, Segments
from dataprep.paths import Paths
from dataprep.placing import PlacedRows
from dataprep.recipe import TOTALS, Recipe, RecipeShard, RecipeSource
from dataprep.request import Request
from dataprep.rows import ShardText, SourceRows, fill_source
from dataprep.seen import hash_seen, read_seen
from dataprep.supply import Supply, load_supply
from dataprep.vocab import Vocab


def make_plan(
    paths: Paths, vocab: Vocab, request: Request, name: str | None, *, only: frozenset[tuple[str, str]] | None = None
) -> tuple[Recipe, Segments]:
    """As `decide_plan`, with all segments in memory at once."""
    recipe, placed = decide_plan(paths, vocab, request, name, only=only)
    return recipe, placed.whole()


def decide_plan(
    paths: Paths, vocab: Vocab, request: Request, name: str | None, *, only: frozenset[tuple[str, str]] | None = None
) -> tuple[Recipe, PlacedRows]:
    """Decide the rows, from the (source, shard)s in `only` if given. Raises DataError or BudgetError."""
    supplies = [load_supply(paths, vocab, source, request.split, only=only) for source in request.source_names]
    receipts = [receipt for supply in supplies for receipt in supply.receipts]
    shards = tuple(
        RecipeShard(
            source=r.source,
            shard=r.shard,
            tokens=r.tokens,
            bin_sha256=r.bin.sha256,
            loss_sha256=r.loss.sha256 if r.loss and request.loss == "assistant" else None,
        )
        for r in receipts
    )
    texts = [_read(paths, vocab.name, receipt, request) for receipt in receipts]
    seen = read_seen(paths, request.exclude_seen, fingerprint=vocab.fingerprint, shards=shards)
    sources = [fill_source(supply, _numbers(shards, supply), texts, request, seen) for supply in supplies]
    for source in sources:
        _check_something(source, request)

    draws = draw(sources, request)
    got = tuple(_counts(source, _times(source, draws, i), texts, request, seen) for i, source in enumerate(sources))

    # A row is the unit of `tokens`; in the others rows differ, and the largest of those held bounds every prefix.
    largest_row = 1 if request.unit == "tokens" else max(int(source.units(request.unit).max()) for source in sources)
    segments = [source.segments for source in sources]
    sources.clear()  # PlacedRows lets each go as it takes it over
    placed = PlacedRows(segments, draws, plan.ROWS_PER_GROUP)
    recipe = _recipe(vocab, request, shards=shards, got=got, placed=placed, largest_row=largest_row)
    recipe = replace(recipe, seen_sha256=hash_seen(seen, shards) if request.exclude_seen else None)
    return replace(recipe, name=name or _default_name(recipe)), placed


def _read(paths: Paths, tokenizer: str, receipt: bins.Receipt, request: Request) -> ShardText:
    folder = paths.bins(tokenizer, receipt.source)
    loss = bins.open_loss(folder, receipt) if request.loss == "assistant" else None
    return ShardText(tokens=receipt.tokens, ends=bins.open_document_ends(folder, receipt), loss=loss)


def _numbers(shards: Sequence[RecipeShard], supply: Supply) -> list[int]:
    return [i for i, shard in enumerate(shards) if shard.source == supply.source]


def _check_something(source: SourceRows, request: Request) -> None:
    if source.n_rows == 0:
        what = "loss token" if request.loss == "assistant" else "token"
        what += f" that {', '.join(request.exclude_seen)} has not seen" if source.seen_tokens else ""
        cut = " --long split, or a larger --seq-len, or" if request.long == "truncate" else ""
        raise DataError(
            f"{source.supply.source} has no {what} to give",
            seen=f"{source.supply.tokens:,} tokens in {len(source.supply.receipts)} shards,"
            f" {source.excluded_tokens:,} of them excluded",
            wanted=f"at least one {what}",
            fix=f"leave it out of --sources, or{cut} bring more of it: make shards with a larger N",
        )


def _times(source: SourceRows, draws: Draws, number: int) -> np.ndarray:
    """How often each of the source's rows is in the plan: int64[n_rows]."""
    return np.bincount(draws.row[draws.source == number], minlength=source.n_rows)


def _counts(
    source: SourceRows, times: np.ndarray, texts: Sequence[ShardText], request: Request, seen: Pieces
) -> RecipeSource:
    supply, counts = source.supply, count_part(source.segments, texts, request, seen, times=times)
    share = request.share_of(supply.source)
    used = counts["unique_tokens"] + counts["dropped_tokens"] + source.excluded_tokens
    return RecipeSource(
        source=supply.source,
        share=share,
        asked=request.mix[share],
        excluded_tokens=source.excluded_tokens,
        seen_tokens=source.seen_tokens,
        held_out_tokens=supply.held_out_tokens,
        left_over_tokens=supply.tokens - used,
        **counts,
    )


def _recipe(
    vocab: Vocab,
    request: Request,
    *,
    shards: tuple[RecipeShard, ...],
    got: tuple[RecipeSource, ...],
    placed: PlacedRows,
    largest_row: int,
) -> Recipe:
    """The recipe, all but its name and its plan's size and hash, which only publishing can tell."""
    totals: dict[str, Any] = {name: sum(getattr(source, name) for source in got) for name in TOTALS}
    rows_sha256, n_segments = plan.hash_groups(placed, shards)
    return Recipe(
        name="",
        **vars(request),
        packer=packing.PACKER_VERSION,
        tokenizer=vocab.name,
        fingerprint=vocab.fingerprint,
        vocab_size=vocab.vocab_size,
        end_id=vocab.end_id,
        pad_id=vocab.pad_id,
        **totals,
        segments=n_segments,
        largest_row=largest_row,
        plan_bytes=0,
        plan_sha256="",
        rows_sha256=rows_sha256,
        sources=got,
        shards=shards,
    )


def _default_name(recipe: Recipe) -> str:
    """Readable, and never taken by another recipe."""
    shares = "-".join("+".join(share) for share in recipe.shares)
    return f"{shares}-{'-'.join(map(str, recipe.mix))}-{recipe.sha256[:6]}"[-100:]
