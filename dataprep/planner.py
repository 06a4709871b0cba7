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
from dataprep.recipe import TOTALS, Recipe, RecipeShard, RecipeSource
from dataprep.request import Request
from dataprep.rows import ShardText, SourceRows, fill_source
from dataprep.seen import hash_seen, read_seen
from dataprep.supply import Supply, load_supply
from dataprep.vocab import Vocab


def make_plan(
    paths: Paths, vocab: Vocab, request: Request, name: str | None, *, only: frozenset[tuple[str, str]] | None = None
) -> tuple[Recipe, Segments]:
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
    parts = [_placed(source, draws, i) for i, source in enumerate(sources)]
    segments = packing.merge(parts)
    got = tuple(_counts(source, part, texts, request, seen) for source, part in zip(sources, parts, strict=True))

    # A row is the unit of `tokens`; in the others rows differ, and the largest of those held bounds every prefix.
    largest_row = 1 if request.unit == "tokens" else max(int(source.units(request.unit).max()) for source in sources)
    recipe = _recipe(vocab, request, shards=shards, got=got, segments=segments, largest_row=largest_row)
    recipe = replace(recipe, seen_sha256=hash_seen(seen, shards) if request.exclude_seen else None)
    return replace(recipe, name=name or _default_name(recipe)), segments


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


def _placed(source: SourceRows, draws: Draws, number: int) -> Segments:
    """One source's segments at its rows of the plan; a repeated row is there once per pass."""
    plan_rows = np.flatnonzero(draws.source == number)
    drawn = draws.row[plan_rows]
    passes = [
        packing.place(source.segments, drawn[first : first + source.n_rows], plan_rows[first : first + source.n_rows])
        for first in range(0, len(drawn), source.n_rows)
    ]
    return packing.merge(passes or [source.segments[:0]])


def _counts(
    source: SourceRows, part: Segments, texts: Sequence[ShardText], request: Request, seen: Pieces
) -> RecipeSource:
    supply, counts = source.supply, count_part(part, texts, request, seen)
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
    segments: Segments,
    largest_row: int,
) -> Recipe:
    """The recipe, all but its name and its plan's size and hash, which only publishing can tell."""
    totals: dict[str, Any] = {name: sum(getattr(source, name) for source in got) for name in TOTALS}
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
        segments=len(segments),
        largest_row=largest_row,
        plan_bytes=0,
        plan_sha256="",
        rows_sha256=plan.hash_rows(segments, shards),
        sources=got,
        shards=shards,
    )


def _default_name(recipe: Recipe) -> str:
    """Readable, and never taken by another recipe."""
    shares = "-".join("+".join(share) for share in recipe.shares)
    return f"{shares}-{'-'.join(map(str, recipe.mix))}-{recipe.sha256[:6]}"[-100:]
