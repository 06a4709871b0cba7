"""Row groups: a parquet file is judged by its footer before any page is read, and read in batches that fit in memory.

In:  a file's footer and the columns wanted. Out: arrays, batch by batch; or a DataError that says what to do.
Holds: a file that would take more memory than is free is refused by its footer: nothing of it is read.
       row group 0: 3,000,000,000,000 bytes in column text; 8,000,000,000 free  →  refused
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dataprep.errors import DataError, quoted

MAX_BATCH_BYTES = 1 << 30
_SHARE = 8  # one read may take this part of the free memory: an eighth
_MEMORY = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_ROWS_OF_A_SMALL_GROUP = 10_000


def check_row_groups(file: Path, footer: pq.FileMetaData, columns: Sequence[str]) -> None:
    """Raise DataError for a row group whose stated size is more than the memory that is free."""
    free = free_memory_bytes()
    if free is None:
        return  # no Linux: the footer is believed
    for number in range(footer.num_row_groups):
        if footer.row_group(number).total_byte_size <= free:
            continue
        stated = stated_bytes(file, footer, number, columns)
        if stated > free:
            cut = file.with_name(f"{file.stem}-cut{file.suffix}")
            here, there = (str(path).replace("'", "''") for path in (file, cut))
            copy = quoted(f"COPY (FROM '{here}') TO '{there}' (ROW_GROUP_SIZE {_ROWS_OF_A_SMALL_GROUP})")
            raise DataError(
                f"row group {number:,} of {file.name} is larger than the memory that is free",
                seen=f"{stated:,} bytes by its footer",
                wanted=f"at most the {free:,} bytes that are free",
                fix=f"duckdb -c {copy}; put that in its place, or use a larger machine",
            )


def stated_bytes(file: Path, footer: pq.FileMetaData, number: int, columns: Sequence[str]) -> int:
    """What the wanted columns of one row group take when they are unpacked, as the footer says.

    By DuckDB: pyarrow 26 ends the whole process where a damaged column's statistics are looked at (`group.column`).
    """
    import duckdb

    asked = "SELECT sum(total_uncompressed_size)::BIGINT FROM parquet_metadata($1) WHERE row_group_id = $2"
    of_columns = "AND split_part(path_in_schema, ', ', 1) IN (SELECT unnest($3))"
    try:
        found = duckdb.execute(f"{asked} {of_columns}", [str(file), number, list(columns)]).fetchone()
    except duckdb.Error:
        found = None
    return found[0] if found and found[0] is not None else footer.row_group(number).total_byte_size


def read_parts(file: Path, parquet: pq.ParquetFile, columns: Sequence[str], *, n_rows: int) -> Iterator[list]:
    """Yield the columns' arrays, `n_rows` (a power of two) at a time. Raises DataError for more than MAX_BATCH_BYTES.

    A dictionary stores a value once, however many rows repeat it: a file of 776 bytes held 10 MB of text in each of
    100,000 rows, 1 TB in all.
    """
    parts, n_bytes, n_held = [], 0, 0
    for part in parquet.iter_batches(_rows_at_once(parquet, n_rows), columns=list(columns), use_threads=False):
        parts.append(part)
        n_bytes, n_held = n_bytes + part.nbytes, n_held + len(part)
        if n_bytes > MAX_BATCH_BYTES:
            raise DataError(
                f"{file.name} unpacks to more at once than is read",
                seen=f"{n_bytes:,} bytes in {n_held:,} rows",
                wanted=f"at most {MAX_BATCH_BYTES:,} in {n_rows:,} rows",
                fix="cut its texts into shorter ones; or leave the file out, if it came from a stranger",
            )
        if n_held >= n_rows:
            yield _joined(parts, columns)
            parts, n_bytes, n_held = [], 0, 0
    if parts:
        yield _joined(parts, columns)


def _rows_at_once(parquet: pq.ParquetFile, n_rows: int) -> int:
    """How many rows may be read at once if each holds the longest possible value: a value is no larger than its group.

    Small reads cost little: 64 rows at once nothing that could be measured, 8 rows a tenth more time.
    """
    groups = (parquet.metadata.row_group(number) for number in range(parquet.metadata.num_row_groups))
    largest = max((group.total_byte_size for group in groups), default=0)
    budget = max(MAX_BATCH_BYTES, free_memory_bytes() or 0) // _SHARE
    return min(n_rows, max(1, _power_of_two_below(budget // max(1, largest))))


def _joined(parts: list[pa.RecordBatch], columns: Sequence[str]) -> list:
    if len(parts) == 1:
        return [parts[0].column(column) for column in columns]
    return [pa.concat_arrays([part.column(column) for part in parts]) for column in columns]


def _power_of_two_below(number: int) -> int:
    """The largest power of two that is not above `number`; 0 for 0."""
    return 1 << number.bit_length() >> 1


def free_memory_bytes() -> int | None:
    """Bytes of memory that are free: the machine's, or a container's where it has less; None where neither is known."""
    try:
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    machine = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return min([*machine, *_left_in_container()], default=None)


def _left_in_container() -> list[int]:
    """What the container's limit leaves; nothing where there is none.

    The pages of files that were read count as used until somebody needs the memory: after a download they fill it.
    """
    try:
        limit, used = (int((_CGROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        cached = int(stat["active_file"]) + int(stat["inactive_file"])
    except (OSError, ValueError, KeyError):
        return []  # no such file, or "max"
    return [max(0, limit - used + cached)]
