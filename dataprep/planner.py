"""Planner: from a request and what is held to the exact rows of a plan. Reads; writes nothing.

In:  a request, receipts and document ends. Out: a recipe (asked and got) and its segments.
Holds: the same request over the same shards gives the same rows, on any machine; a budget that
supply cannot meet is refused with the nearest one that it can.
"""

from dataclasses import dataclass, replace

import numpy as np

from dataprep import bins, mixing, packing, plan
from dataprep.errors import BudgetError, DataError
from dataprep.packing import Pieces, Segments
from dataprep.paths import Paths
from dataprep.recipe import Recipe, RecipeShard, RecipeSource
from dataprep.supply import Supply, load_supply
from dataprep.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for. `budget_tokens` None means all that the ratio allows."""

    mix: tuple[int, ...]
    sources: tuple[str, ...]
    budget_tokens: int | None
    seq_len: int
    split: str
    strategy: str
    shuffle: str
    loss: str
    attention: str
    on_short: str
    unit: str
    seed: int


def make_plan(paths: Paths, vocab: Vocab, request: Request, name: str | None) -> tuple[Recipe, Segments]:
    """Decide the rows. Raises DataError or BudgetError when supply does not allow them."""
    supplies = [load_supply(paths, vocab, source, request.split) for source in request.sources]
    receipts = [receipt for supply in supplies for receipt in supply.receipts]
    shards = tuple(
        RecipeShard(source=r.source, shard=r.shard, tokens=r.tokens, bin_sha256=r.bin.sha256) for r in receipts
    )
    ends = [bins.open_document_ends(paths.bins(vocab.name, r.source), r) for r in receipts]
    pieces = [_pieces(supply, shards, ends, request) for supply in supplies]
    n_rows = _n_rows(request, supplies, pieces)

    # One period of the mixing order, tiled; each source's rows fill its places in shuffled order.
    order = mixing.source_order(request.mix, n_rows)
    parts = [_draw(piece, np.flatnonzero(order == i), request, i) for i, piece in enumerate(pieces)]
    segments = packing.merge(parts)

    got = tuple(
        _source_counts(supply, weight, part, ends, request)
        for supply, weight, part in zip(supplies, request.mix, parts, strict=True)
    )
    rows_sha256 = plan.hash_rows(segments, shards)
    recipe = _recipe(vocab, request, shards=shards, got=got, segments=len(segments), rows_sha256=rows_sha256)
    return replace(recipe, name=name or _default_name(recipe)), segments


def _pieces(supply: Supply, shards: tuple[RecipeShard, ...], ends: list[np.ndarray], request: Request) -> Pieces:
    numbers = np.array([i for i, shard in enumerate(shards) if shard.source == supply.source], dtype=np.int32)
    if request.shuffle == "rows":
        return packing.whole_shards(numbers, np.array([shards[i].tokens for i in numbers], dtype=np.int64))
    documents = packing.join([packing.documents_of(i, ends[i]) for i in numbers])
    return documents[packing.shuffled(len(documents.length), request.seed, f"documents of {supply.source}")]


def _n_rows(request: Request, supplies: list[Supply], pieces: list[Pieces]) -> int:
    held = [packing.count_rows(piece, request.seq_len) for piece in pieces]
    if 0 in held:
        raise _no_tokens(supplies[held.index(0)])
    if request.budget_tokens is None:
        n_rows = mixing.feasible_rows(request.mix, held)
    else:
        n_rows = request.budget_tokens // request.seq_len
    shortage = mixing.find_shortage(request.mix, held, n_rows)
    if n_rows == 0 or shortage:
        raise _refusal(request, supplies, shortage)
    return n_rows


def _no_tokens(supply: Supply) -> DataError:
    return DataError(
        f"{supply.source} has no token to give",
        seen=f"{len(supply.receipts)} shards of empty documents",
        wanted="text",
        fix=f"make shards SOURCE={supply.source} N=… for more, or leave it out of --sources",
    )


def _refusal(request: Request, supplies: list[Supply], shortage: mixing.Shortage | None) -> BudgetError:
    if shortage is None:
        return BudgetError(
            "the budget is smaller than one row",
            seen=f"{request.budget_tokens or sum(supply.tokens for supply in supplies):,} tokens",
            wanted=f"at least {request.seq_len:,} tokens, one row",
            fix=f"--tokens {request.seq_len * sum(mixing.reduce_weights(request.mix))}, or a smaller --seq-len",
        )
    short = supplies[shortage.source]
    return BudgetError(
        f"{short.source} cannot supply its share of this budget",
        seen=f"{shortage.rows_held:,} rows ({short.tokens:,} tokens in {len(short.receipts)} shards)",
        wanted=f"{shortage.rows_wanted:,} rows of {request.seq_len:,}",
        fix=f"--tokens {shortage.feasible_rows * request.seq_len} is the most this ratio allows;"
        f" or make shards SOURCE={short.source} N=… for more",
    )


def _draw(pieces: Pieces, plan_rows: np.ndarray, request: Request, i: int) -> Segments:
    segments = packing.cut_rows(pieces, request.seq_len)
    drawn = packing.draw_order(
        packing.count_rows(pieces, request.seq_len),
        last_is_short=bool(pieces.length.sum() % request.seq_len),
        seed=request.seed,
        purpose=f"rows of {request.sources[i]}",
    )
    return packing.place(segments, drawn, plan_rows)


def _source_counts(
    supply: Supply, asked: int, part: Segments, ends: list[np.ndarray], request: Request
) -> RecipeSource:
    documents = [packing.count_documents(part[part.shard == i], ends[i]) for i in np.unique(part.shard)]
    plan_rows, tokens = len(np.unique(part.row)), int(part.length.sum(dtype=np.int64))
    return RecipeSource(
        source=supply.source,
        asked=asked,
        plan_rows=plan_rows,
        tokens=tokens,
        loss_tokens=tokens,
        pad_tokens=plan_rows * request.seq_len - tokens,
        documents=sum(ended for ended, _ in documents),
        split_documents=sum(split for _, split in documents),
        passes=1,
        excluded_tokens=0,
        held_out_tokens=supply.held_out_tokens,
        left_over_tokens=supply.tokens - tokens,
        dropped_tokens=0,
    )


def _recipe(
    vocab: Vocab,
    request: Request,
    *,
    shards: tuple[RecipeShard, ...],
    got: tuple[RecipeSource, ...],
    segments: int,
    rows_sha256: str,
) -> Recipe:
    """The recipe, all but its name and its plan's size and hash, which only publishing can tell."""
    asked = {key: value for key, value in vars(request).items() if key != "sources"}
    return Recipe(
        name="",
        **asked,
        packer=packing.PACKER_VERSION,
        tokenizer=vocab.name,
        fingerprint=vocab.fingerprint,
        vocab_size=vocab.vocab_size,
        end_id=vocab.end_id,
        pad_id=vocab.pad_id,
        plan_rows=sum(source.plan_rows for source in got),
        segments=segments,
        tokens=sum(source.tokens for source in got),
        loss_tokens=sum(source.loss_tokens for source in got),
        pad_tokens=sum(source.pad_tokens for source in got),
        dropped_tokens=sum(source.dropped_tokens for source in got),
        documents=sum(source.documents for source in got),
        split_documents=sum(source.split_documents for source in got),
        plan_bytes=0,
        plan_sha256="",
        rows_sha256=rows_sha256,
        sources=got,
        shards=shards,
    )


def _default_name(recipe: Recipe) -> str:
    """Readable, and never taken by another recipe."""
    sources, mix = "+".join(source.source for source in recipe.sources), "-".join(map(str, recipe.mix))
    return f"{sources}-{mix}-{recipe.sha256[:6]}"
