"""N-grams: which runs of token ids occur in a stream, found by 64-bit hashes and then compared token by token.

In:  ids with the places where n-grams of some lengths begin; then a stream of ids in blocks. Out: where they stand.
Holds: no false positive (each hit is compared), no false negative (an index whose hashes collide is not used).
A window's hash is the sum of table[id] * BASE^place mod 2^64, put together from windows of 1, 2, 4, 8 …:
h4(i) = h2(i) * BASE^2 + h2(i + 2). A table by the hash's first and last bits lets few windows pass to the search.

    ids 5 6 7 8 with 2-grams at 0 and 2 → n-grams 56 and 78; the block 9 5 6 7 8 holds gram 0 at 1 and gram 1 at 3
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

MAX_N = 64
_N_IDS = 1 << 16
_FIRST_SEED, _N_SEEDS = 20_260_501, 8
_BLOCK = 1 << 16  # windows hashed at once: what they need fits a core's cache
_MIN_BITS, _MAX_BITS, _SPARE_BITS = 12, 27, 4  # 16 to 32 places for each n-gram, up to 128 MiB


@dataclass(frozen=True, kw_only=True)
class Hits:
    """N-grams of one length in a block: `gram[i]` begins at `position[i]`, ascending by position."""

    length: int
    position: np.ndarray  # int64[hits]
    gram: np.ndarray  # int64[hits]


class NgramIndex:
    """The distinct n-grams of some lengths, numbered from 0 to `n_grams`, and the way to find them in a stream."""

    def __init__(self, ids: np.ndarray, starts_by_length: Mapping[int, np.ndarray]) -> None:
        """`ids` uint16[tokens]; `starts_by_length[k]` int64[…] is where a k-gram begins: none leads out of `ids`."""
        self.lengths = tuple(sorted(length for length, starts in starts_by_length.items() if len(starts)))
        starts = {length: starts_by_length[length] for length in self.lengths}
        for seed in range(_FIRST_SEED, _FIRST_SEED + _N_SEEDS):
            self._hasher = _Hasher(seed)
            self._grams = {length: _Grams(self._hasher, ids, starts[length], length) for length in self.lengths}
            if not any(grams.collide for grams in self._grams.values()):
                break
        else:
            raise AssertionError("64-bit hashes collided under every seed: the hash is broken")
        sizes = [len(grams) for grams in self._grams.values()]
        self._first = dict(zip(self.lengths, np.cumsum([0, *sizes])[:-1].tolist(), strict=True))
        self.n_grams = sum(sizes)

    def grams_at(self, length: int) -> np.ndarray:
        """Which n-gram each of this length's starts begins: int64, in the order of the starts."""
        return self._grams[length].gram_of + self._first[length]

    def find(self, block: np.ndarray, n_starts: int) -> Iterator[Hits]:
        """The n-grams that begin in the first `n_starts` tokens of `block`, uint16[tokens], length by length."""
        for length, hashes in self._hasher.hash_windows(block, self.lengths):
            position, gram = self._grams[length].find(block, hashes[:n_starts])
            yield Hits(length=length, position=position, gram=gram + self._first[length])


class _Hasher:
    """The hash of every window of a block. Seeds are fixed: the same n-grams cost the same everywhere."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._table = rng.integers(0, 1 << 64, _N_IDS, dtype=np.uint64)
        base = int(rng.integers(0, 1 << 64, dtype=np.uint64)) | 1
        self._base_to = [np.uint64(pow(base, length, 1 << 64)) for length in range(MAX_N + 1)]

    def hash_windows(self, ids: np.ndarray, lengths: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """(length, uint64[len(ids) - length + 1]) for each of `lengths` that fits."""
        powers = [self._table.take(ids)]  # powers[i]: windows of 2^i
        for length in lengths:
            if length > len(ids):
                continue
            while 2 << (len(powers) - 1) <= length:
                half = 1 << (len(powers) - 1)
                powers.append(powers[-1][:-half] * self._base_to[half] + powers[-1][half:])
            yield length, self._join(powers, length, len(ids) - length + 1)

    def _join(self, powers: list[np.ndarray], length: int, n_windows: int) -> np.ndarray:
        """Windows of any length from those of the powers of two that it is the sum of."""
        joined, done = None, 0
        for bit in reversed(range(length.bit_length())):
            size = 1 << bit
            if length & size:
                part = powers[bit][done : done + n_windows]
                joined = part if joined is None else joined * self._base_to[size] + part
                done += size
        assert joined is not None
        return joined

    def hash_at(self, ids: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
        """The hashes of the windows that begin at `starts`: uint64[starts]."""
        hashes = np.empty(max(0, len(ids) - length + 1), dtype=np.uint64)
        for begin in range(0, len(hashes), _BLOCK):
            block = ids[begin : begin + _BLOCK + length - 1]
            hashes[begin : begin + _BLOCK] = next(self.hash_windows(block, [length]))[1]
        return hashes[starts]


class _Grams:
    """The distinct n-grams of one length, by their hashes."""

    def __init__(self, hasher: _Hasher, ids: np.ndarray, starts: np.ndarray, length: int) -> None:
        self._ids, self._length = ids, length
        hashes = hasher.hash_at(ids, starts, length)
        self._sorted, first, self.gram_of = np.unique(hashes, return_index=True, return_inverse=True)
        self._example = starts[first]
        self.collide = not all(
            self._equal(ids, starts[i : i + _BLOCK], self.gram_of[i : i + _BLOCK]).all()
            for i in range(0, len(starts), _BLOCK)
        )
        bits = min(_MAX_BITS, max(_MIN_BITS, len(self).bit_length() + _SPARE_BITS))
        self._shift, self._mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
        self._may_be = np.zeros(1 << bits, dtype=np.bool_)
        self._may_be[self._sorted >> self._shift] = True
        self._may_be[self._sorted & self._mask] = True

    def __len__(self) -> int:
        return len(self._sorted)

    def find(self, block: np.ndarray, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(position int64[hits], gram int64[hits]) of the windows whose hashes these are."""
        # Twice, by the first and by the last bits: the search costs a hundred times as much as a look into the table.
        position = np.flatnonzero(self._may_be.take((hashes >> self._shift).view(np.int64)))
        position = position[self._may_be.take((hashes[position] & self._mask).view(np.int64))]
        gram = np.searchsorted(self._sorted, hashes[position])
        gram[gram == len(self)] = 0
        alike = self._sorted[gram] == hashes[position]
        position, gram = position[alike], gram[alike]
        equal = self._equal(block, position, gram)
        return position[equal], gram[equal]

    def _equal(self, ids: np.ndarray, position: np.ndarray, gram: np.ndarray) -> np.ndarray:
        """Whether the very tokens at each position are those of the n-gram: bool[hits]."""
        places = np.arange(self._length)
        wanted = self._ids[self._example[gram][:, None] + places]
        return (ids[position[:, None] + places] == wanted).all(axis=1)
