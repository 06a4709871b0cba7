"""Lines: appending one JSON record to a file that a kill or a full disk may catch at any moment.

In:  an open descriptor, its file's name, a record. Out: a whole line more, or none and an OSError that says where.
Holds: one os.write per record, so a killed writer tears the last line at most; whoever holds the file's lock next cuts
       that off before it appends.
"""

import errno
import json
import os
from pathlib import Path

from dataprep.errors import disk_error
from dataprep.ledger import Record
from dataprep.sealed_lines import seal_line


def append_line(descriptor: int, file: Path, record: Record) -> None:
    """Append one record. Raises ValueError for numbers that JSON cannot say."""
    block = seal_line(json.dumps(record, ensure_ascii=False, allow_nan=False).encode()) + b"\n"
    try:
        written = os.write(descriptor, block)
    except OSError as error:
        raise disk_error(error, file, needed_bytes=len(block)) from None  # os.write does not say where
    if written != len(block):  # a full disk: no half line may stay, for another record comes after it
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), file, needed_bytes=len(block))


def cut_torn_line(descriptor: int, file: Path) -> int:
    """Remove what follows the last newline; returns how many bytes that was. Only for who holds the file's lock."""
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.ftruncate(descriptor, whole)
    return len(content) - whole
