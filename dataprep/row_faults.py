r"""Row faults: which row of a shard's file cannot be read, and why, found the slow and plain way.

In:  values that could not be made documents, or a JSONL file that Arrow refused. Out: the first bad row, and its fault.
Holds: it runs only after the fast path failed, so what is whole costs nothing.
       lines '{"text": "a"}' and '{"text": "\ud800"}'  →  row 1 (line 2), "half a surrogate pair"
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_SURROGATE = "half of a surrogate pair, \\ud800 to \\udfff, which is no character"


class Fault(NamedTuple):
    """Where and why. A row counts documents from 0; a line counts lines from 1, blank ones too."""

    where: str
    why: str


def find_in_values(columns: Sequence[Any], first_row: int, read: Callable[[Sequence[Any]], object]) -> Fault | None:
    """The first row of these columns that `read` refuses by itself."""
    for row in range(len(columns[0])):
        try:
            read([column[row : row + 1] for column in columns])
        except UnicodeEncodeError:
            return Fault(f"row {first_row + row:,}", _SURROGATE)
        except (ValueError, TypeError, RecursionError) as error:
            return Fault(f"row {first_row + row:,}", _short(error))
    return None


def find_in_lines(file: Path, column: str, block_bytes: int) -> Fault | None:
    """The first line of a JSONL file of texts that holds none, else the first that is longer than a block."""
    row, long = 0, None
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f"row {row:,} (line {number:,})"
                if why := _why(line, column, is_first=number == 1):
                    return Fault(where, why)
                if len(line) > block_bytes and long is None:
                    long = Fault(where, f"a line of {len(line):,} bytes; {block_bytes:,} can always be read")
                row += 1
    return long


def read_object(line: bytes, *, is_first: bool) -> dict[str, Any] | str:
    """The object of one line of JSON, or why it is none. A first line may begin with a byte order mark."""
    try:
        value = json.loads(line.decode("utf-8-sig" if is_first else "utf-8"))
    except (ValueError, RecursionError) as error:
        return f"{_short(error)}: {line[:60]!r}"
    return value if isinstance(value, dict) else f"no JSON object: {line[:60]!r}"


def _why(line: bytes, column: str, *, is_first: bool) -> str | None:
    found = read_object(line, is_first=is_first)
    if isinstance(found, str):
        return found
    text = found.get(column)
    if not isinstance(text, str | None):
        return f"{column} = {text!r:.60}, which is no text"
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return _SURROGATE
    return None


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
