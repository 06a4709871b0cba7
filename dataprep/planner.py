"""Planner: from a request and what is held to the exact rows of a plan. Reads; writes nothing.

In:  a request, receipts, document ends, loss masks. Out: a recipe (asked and got) and its segments.
Holds: the same request over the same shards gives the same rows, on any machine; per source,
tokens = planned at least once + excluded + held out + left over + dropped.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dataprep import bins, intervals, packing, plan
from dataprep.drawing import Draws, draw
from dataprep.errors import DataError
from dataprep.packing import Segments
from dataprep.paths import Paths
from dataprep.recipe import Recipe, RecipeShard, RecipeSource
from dataprep.request import Request
from dataprep.rows import ShardText, SourceRows, fill_source
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
    sources = [fill_source(supply, _numbers(shards, supply), texts, request) for supply in supplies]
    for source in sources:
        _check_something(source, request)

    draws = draw(sources, request)
    parts = [_placed(source, draws, i) for i, source in enumerate(sources)]
    segments = packing.merge(parts)
    got = tuple(_counts(source, part, texts, request) for source, part in zip(sources, parts, strict=True))

    recipe = _recipe(vocab, request, shards=shards, got=got, segments=segments)
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
        raise DataError(
            f"{source.supply.source} has no {what} to give",
            seen=f"{source.supply.tokens:,} tokens in {len(source.supply.receipts)} shards",
            wanted=f"at least one {what}",
            fix="leave it out of --sources, or bring more of it: make shards with a larger N",
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


def _counts(source: SourceRows, part: Segments, texts: Sequence[ShardText], request: Request) -> RecipeSource:
    supply, drawn_rows = source.supply, len(np.unique(part.row))
    documents = [packing.count_documents(part[part.shard == i], texts[i].ends) for i in np.unique(part.shard)]
    tokens = int(part.length.sum(dtype=np.int64))
    unique_tokens = int(intervals.covered_tokens(part, len(texts)).sum())
    dropped_tokens = _cut_off(part, texts) if request.long == "truncate" and request.strategy != "concat" else 0
    loss = intervals.loss_counts(part, lambda i: texts[i].loss) if request.loss == "assistant" else part.length
    return RecipeSource(
        source=supply.source,
        share=request.share_of(supply.source),
        asked=request.mix[request.share_of(supply.source)],
        plan_rows=drawn_rows,
        tokens=tokens,
        unique_tokens=unique_tokens,
        loss_tokens=int(loss.sum(dtype=np.int64)),
        pad_tokens=drawn_rows * request.seq_len - tokens,
        documents=sum(ended for ended, _ in documents),
        split_documents=sum(split for _, split in documents),
        passes=max(1, intervals.max_cover(part)),
        excluded_tokens=source.excluded_tokens,
        held_out_tokens=supply.held_out_tokens,
        left_over_tokens=supply.tokens - unique_tokens - source.excluded_tokens - dropped_tokens,
        dropped_tokens=dropped_tokens,
    )


def _cut_off(part: Segments, texts: Sequence[ShardText]) -> int:
    """Tokens behind the cut of the truncated documents that are in the plan, each once."""
    dropped = 0
    for shard in np.unique(part.shard):
        stops = np.unique((part.start + part.length)[part.shard == shard])
        ends = texts[shard].ends.astype(np.int64)
        dropped += int((ends[np.searchsorted(ends, stops)] - stops).sum())
    return dropped


def _recipe(
    vocab: Vocab,
    request: Request,
    *,
    shards: tuple[RecipeShard, ...],
    got: tuple[RecipeSource, ...],
    segments: Segments,
) -> Recipe:
    """The recipe, all but its name and its plan's size and hash, which only publishing can tell."""
    return Recipe(
        name="",
        **vars(request),
        packer=packing.PACKER_VERSION,
        tokenizer=vocab.name,
        fingerprint=vocab.fingerprint,
        vocab_size=vocab.vocab_size,
        end_id=vocab.end_id,
        pad_id=vocab.pad_id,
        plan_rows=sum(source.plan_rows for source in got),
        segments=len(segments),
        tokens=sum(source.tokens for source in got),
        loss_tokens=sum(source.loss_tokens for source in got),
        pad_tokens=sum(source.pad_tokens for source in got),
        dropped_tokens=sum(source.dropped_tokens for source in got),
        documents=sum(source.documents for source in got),
        split_documents=sum(source.split_documents for source in got),
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
