"""Plans: the rows of a recipe in training order, one parquet line per segment.

In:  segments by row. Out: `manifests/plans/<name>.parquet`; any range of rows, read on its own.
Holds: plan row r is in row group r // 65,536, so a resume at any depth reads one group;
the rows' own hash does not depend on the parquet writer, and the trainer computes it again.
Columns: row int64, source text, shard text, start int64, length int32.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataprep.errors import DataError
from dataprep.hashing import sha256_file
from dataprep.packing import Segments, merge
from dataprep.paths import Paths
from dataprep.publish import publishing
from dataprep.recipe import Recipe, RecipeShard, pack_command

ROWS_PER_GROUP = 65_536
PLAN_BYTES_PER_SEGMENT = 8  # about, compressed
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("source", pa.string()),
        ("shard", pa.string()),
        ("start", pa.int64()),
        ("length", pa.int32()),
    ]
)
_HASHED = np.dtype([("row", "<i8"), ("shard", "<i4"), ("start", "<i8"), ("length", "<i4")])


class RowHash:
    """sha256 over rows in the order they are used: equal for equal segments of equal shards."""

    def __init__(self, shards: tuple[RecipeShard, ...]) -> None:
        names = "".join(f"{shard.source}/{shard.shard} {shard.bin_sha256}\n" for shard in shards)
        self._hash = hashlib.sha256(names.encode())

    def update(self, segments: Segments) -> None:
        """Take in the next segments."""
        packed = np.empty(len(segments), dtype=_HASHED)
        for name in ("row", "shard", "start", "length"):
            packed[name] = getattr(segments, name)
        self._hash.update(packed.tobytes())

    def hexdigest(self) -> str:
        """The hash of everything taken in so far."""
        return self._hash.hexdigest()


def hash_rows(segments: Segments, shards: tuple[RecipeShard, ...]) -> str:
    """The RowHash of a whole plan."""
    return hash_groups([segments], shards)[0]


def hash_groups(groups: Iterable[Segments], shards: tuple[RecipeShard, ...]) -> tuple[str, int]:
    """The RowHash of a plan in groups, and the number of its segments."""
    row_hash, n_segments = RowHash(shards), 0
    for group in groups:
        row_hash.update(group)
        n_segments += len(group)
    return row_hash.hexdigest(), n_segments


def publish_plan(
    paths: Paths, name: str, segments: Segments | Iterable[Segments], shards: tuple[RecipeShard, ...]
) -> tuple[int, str]:
    """Publish the plan, whole or in groups of ROWS_PER_GROUP rows; returns its (bytes, sha256)."""
    sources = pa.array([shard.source for shard in shards])
    names = pa.array([shard.shard for shard in shards])
    with publishing(paths.plans / f"{name}.parquet") as out:
        with pq.ParquetWriter(out, SCHEMA, compression="zstd", store_schema=False) as writer:
            for group in _groups(segments) if isinstance(segments, Segments) else segments:
                index = pa.array(group.shard)
                texts = [sources.take(index), names.take(index)]
                numbers = [pa.array(group.row), pa.array(group.start), pa.array(group.length)]
                columns = [numbers[0], *texts, *numbers[1:]]
                writer.write_table(pa.table(columns, schema=SCHEMA), row_group_size=max(1, len(group)))
        return out.bytes_written, out.sha256


def open_plan(paths: Paths, recipe: Recipe) -> "Plan":
    """The recipe's plan. Raises DataError when it is missing or not the one that was packed."""
    file = paths.plans / f"{recipe.name}.parquet"
    found = file.stat().st_size if file.exists() else None
    if found != recipe.plan_bytes or sha256_file(file) != recipe.plan_sha256:
        raise DataError(
            f"the plan of {recipe.name!r} is not the one its recipe names",
            seen="no file" if found is None else f"{found:,} bytes in {paths.shown(file)}",
            wanted=f"{recipe.plan_bytes:,} bytes, sha256 {recipe.plan_sha256[:12]}…",
            fix=pack_command(recipe),
        )
    return Plan(file, recipe)


class Plan:
    """Read access to a plan's rows. Only the row groups asked for are read; the last one stays."""

    def __init__(self, file: Path, recipe: Recipe) -> None:
        self.n_rows = recipe.plan_rows
        self._parquet = pq.ParquetFile(file, read_dictionary=["source", "shard"])
        self._index = {(shard.source, shard.shard): i for i, shard in enumerate(recipe.shards)}
        self._cached: tuple[int, Segments] | None = None

    def segments(self, row_from: int, row_to: int) -> Segments:
        """Segments of rows [row_from, row_to), ascending by row."""
        row_to = min(row_to, self.n_rows)
        if row_from >= row_to:
            return self._group(0)[:0]
        groups = range(row_from // ROWS_PER_GROUP, (row_to - 1) // ROWS_PER_GROUP + 1)
        parts = [self._within(self._group(group), row_from, row_to) for group in groups]
        return parts[0] if len(parts) == 1 else merge(parts)

    def _within(self, group: Segments, row_from: int, row_to: int) -> Segments:
        first, last = np.searchsorted(group.row, [row_from, row_to])
        return group[slice(first, last)]

    def _group(self, group: int) -> Segments:
        if self._cached is None or self._cached[0] != group:
            self._cached = (group, self._read(group))
        return self._cached[1]

    def _read(self, group: int) -> Segments:
        # Five short columns: starting pyarrow's threads costs more than they save, much more on a busy machine.
        table = self._parquet.read_row_group(group, use_threads=False)
        return Segments(
            row=table["row"].to_numpy(),
            shard=self._numbers(table["source"].combine_chunks(), table["shard"].combine_chunks()),
            start=table["start"].to_numpy(),
            length=table["length"].to_numpy(),
        )

    def _numbers(self, sources: pa.DictionaryArray, shards: pa.DictionaryArray) -> np.ndarray:
        """Each line's shard as the recipe counts them, int32: every pair of names that occurs is looked up once."""
        n_names = len(shards.dictionary)
        pairs = sources.indices.to_numpy() * np.int64(n_names) + shards.indices.to_numpy()
        numbers = np.full(len(sources.dictionary) * n_names, -1, dtype=np.int32)
        numbers[pairs] = 0
        occurring = np.flatnonzero(numbers == 0)
        source_names, shard_names = sources.dictionary.to_pylist(), shards.dictionary.to_pylist()
        named = ((source_names[pair // n_names], shard_names[pair % n_names]) for pair in occurring.tolist())
        numbers[occurring] = [self._index[pair] for pair in named]
        return numbers[pairs]


def _groups(segments: Segments) -> Iterator[Segments]:
    """Segments by row group; an empty plan still has one group, so that it has a schema."""
    n_rows = int(segments.row[-1]) + 1 if len(segments) else 0
    for first_row in range(0, max(1, n_rows), ROWS_PER_GROUP):
        first, last = np.searchsorted(segments.row, [first_row, first_row + ROWS_PER_GROUP])
        yield segments[slice(first, last)]
