"""Runs of tokens spelt out one token at a time: what property tests hold the vectorised code to."""

from dataprep.packing import Pieces, Segments


def tokens_of(segments: Segments) -> list[tuple[int, int, int]]:
    """Every target of the segments, one by one: (row, shard, token)."""
    runs = zip(*(getattr(segments, name).tolist() for name in ("row", "shard", "start", "length")), strict=True)
    return [(row, shard, start + i) for row, shard, start, length in runs for i in range(length)]


def tokens_in(pieces: Pieces) -> list[tuple[int, int]]:
    """Every token of the pieces, one by one: (shard, token)."""
    runs = zip(*(getattr(pieces, name).tolist() for name in ("shard", "start", "length")), strict=True)
    return [(shard, start + i) for shard, start, length in runs for i in range(length)]
