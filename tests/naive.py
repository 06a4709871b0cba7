"""Runs of tokens spelt out one token at a time, and documents packed one by one: what vectorised code is held to."""

from dataprep.packing import Pieces, Segments


def tokens_of(segments: Segments) -> list[tuple[int, int, int]]:
    """Every target of the segments, one by one: (row, shard, token)."""
    runs = zip(*(getattr(segments, name).tolist() for name in ("row", "shard", "start", "length")), strict=True)
    return [(row, shard, start + i) for row, shard, start, length in runs for i in range(length)]


def tokens_in(pieces: Pieces) -> list[tuple[int, int]]:
    """Every token of the pieces, one by one: (shard, token)."""
    runs = zip(*(getattr(pieces, name).tolist() for name in ("shard", "start", "length")), strict=True)
    return [(shard, start + i) for shard, start, length in runs for i in range(length)]


def naive_best_fit_decreasing(lengths: list[int], seq_len: int) -> list[int]:
    """The room left in each row, one document at a time: the textbook's algorithm."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [i for i, room in enumerate(rooms) if room >= length]
        if fitting:
            tightest = min(fitting, key=lambda i: rooms[i])
            rooms[tightest] -= length
        else:
            rooms.append(seq_len - length)
    return rooms
