"""Row documents: rows of a plan cut into the documents their tokens are of.

In:  segments, and the shards they are of with their document ends, masks and receipts. Out: a `Part` per document.
Holds: each token of the segments is in one part; document i is row i of the shard's file, so an origin is exact.
Documents of 3, 0 and 4 tokens, a row of tokens 2 to 6: document 0 from 2 to 3, document 2 from 3 to 6
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dataprep.bins import Receipt, open_bin, open_document_ends, open_planned_loss, read_receipt
from dataprep.packing import Segments
from dataprep.paths import Paths
from dataprep.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one row has of one document: tokens [start, stop) of the shard, `loss_tokens` of them count."""

    row: int
    source: str
    kind: str
    repo: str | None
    revision: str | None
    shard: str
    file: str
    document: int  # the row of the file
    document_tokens: int
    start: int
    stop: int
    loss_tokens: int


@dataclass(frozen=True, kw_only=True)
class PlannedShard:
    """One planned shard, opened. `mask` is None where every token counts."""

    receipt: Receipt
    tokens: np.ndarray  # uint16[tokens]
    ends: np.ndarray  # int64[documents]
    mask: np.ndarray | None  # uint8[tokens]

    def loss(self, start: int, stop: int) -> list[int]:
        """Whether each token counts."""
        return [1] * (stop - start) if self.mask is None else self.mask[start:stop].tolist()


def open_shard(paths: Paths, recipe: Recipe, number: int) -> PlannedShard:
    """A shard with the bytes it was planned with. Raises DataError when it has others or is gone."""
    planned = recipe.shards[number]
    where = (paths, recipe.tokenizer, planned.source, planned.shard)
    tokens = open_bin(*where, tokens=planned.tokens, bin_sha256=planned.bin_sha256)
    folder = paths.bins(recipe.tokenizer, planned.source)
    receipt = read_receipt(folder / f"{planned.shard}.json")
    masked = recipe.loss == "assistant"
    return PlannedShard(
        receipt=receipt,
        tokens=tokens,
        ends=open_document_ends(folder, receipt).astype(np.int64),
        mask=open_planned_loss(*where, loss_sha256=planned.loss_sha256) if masked else None,
    )


def cut_documents(segments: Segments, shards: dict[int, PlannedShard]) -> Iterator[tuple[int, Part]]:
    """Every segment cut where a document ends, with its shard's number; empty documents have no part."""
    columns = (segments.row, segments.shard, segments.start, segments.length)
    for row, number, start, length in zip(*(column.tolist() for column in columns), strict=True):
        shard, place = shards[number], start
        while place < start + length:
            document = int(np.searchsorted(shard.ends, place, side="right"))
            stop = min(int(shard.ends[document]), start + length)
            yield number, _part(shard, row, document, place, stop)
            place = stop


def _part(shard: PlannedShard, row: int, document: int, start: int, stop: int) -> Part:
    receipt = shard.receipt
    return Part(
        row=row,
        source=receipt.source,
        kind=receipt.origin.kind,
        repo=receipt.origin.repo,
        revision=receipt.origin.revision,
        shard=receipt.shard,
        file=receipt.file.name,
        document=document,
        document_tokens=int(shard.ends[document] - (shard.ends[document - 1] if document else 0)),
        start=start,
        stop=stop,
        loss_tokens=sum(shard.loss(start, stop)),
    )
