"""Row groups: whether this machine can hold what a parquet file says of itself, asked before a page is read.

In:  a file's footer and the columns wanted. Out: nothing, or a DataError with the command that cuts the groups smaller.
Holds: a file that would take more memory than is free is refused by its footer: nothing of it is read.
       row group 0: 3,000,000,000,000 bytes in column text; 8,000,000,000 free  →  refused
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from dataprep.errors import DataError

_MEMORY = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_ROWS_OF_A_SMALL_GROUP = 10_000


def check_row_groups(file: Path, footer: pq.FileMetaData, columns: Sequence[str]) -> None:
    """Raise DataError for a row group whose stated size is more than the memory that is free."""
    free = free_memory_bytes()
    for number in range(footer.num_row_groups if free else 0):
        stated = stated_bytes(footer, number, columns)
        if free is not None and stated > free:
            cut = file.with_name(f"{file.stem}-cut{file.suffix}")
            copy = f"COPY (FROM '{file}') TO '{cut}' (ROW_GROUP_SIZE {_ROWS_OF_A_SMALL_GROUP})".replace("$", r"\$")
            raise DataError(
                f"row group {number:,} of {file.name} is larger than the memory that is free",
                seen=f"{stated:,} bytes by its footer",
                wanted=f"at most the {free:,} bytes that are free",
                fix=f'duckdb -c "{copy}"; put that in its place, or use a larger machine',
            )


def stated_bytes(footer: pq.FileMetaData, number: int, columns: Sequence[str]) -> int:
    """What the wanted columns of one row group take when they are unpacked, as the footer says."""
    group = footer.row_group(number)
    chunks = [group.column(place) for place in range(group.num_columns)]
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)


def free_memory_bytes() -> int | None:
    """Memory that can be had now: the machine's, or what is left of a container's; None where nobody says."""
    try:
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
    except OSError:
        return None  # no Linux: the footer is believed
    machine = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    left = [limit - used] if limit is not None and used is not None else []
    return min([*left, *([] if machine is None else [machine])], default=None)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # no such file, or "max"
