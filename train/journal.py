"""The journal: what a run did, one JSON line per event, appended and never rewritten.

In:  records as the loop makes them. Out: runs/<run>/journal.jsonl, from which the manifest is built.
Holds: one os.write per record, so a killed writer tears the last line at most, and the next one cuts that off;
       one writer at a time, by a lock that dies with its process.
{"kind": "step", "attempt": 1, "step": 7, "row_from": 48, "row_to": 56, "tokens": 512, …}
"""

import contextlib
import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dataprep.errors import UsageError, disk_error
from dataprep.flocks import take_lock
from dataprep.ledger import Record, read_journal
from dataprep.publish import sync
from train.lines import append_line, cut_torn_line


class Journal:
    """An open journal and the attempt it writes for."""

    def __init__(self, file: Path | None) -> None:
        """Open for appending; None gives one that keeps nothing, for ranks that are not the first.

        Raises UsageError when another process writes it, DataError when it is damaged.
        """
        self._descriptor: int | None = None
        self._file = file
        self.torn_bytes, self.attempt = 0, 0
        self.records: list[Record] = []
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            _lock(self._descriptor, file)
            self.torn_bytes = cut_torn_line(self._descriptor, file)
            self.records = list(read_journal(file).records)
        except BaseException:
            os.close(self._descriptor)
            raise
        self.attempt = 1 + max((record["attempt"] for record in self.records), default=0)
        sync(file.parent)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one record."""
        if self._descriptor is None:
            return
        append_line(self._descriptor, self._named, {"kind": kind, "attempt": self.attempt, **fields})

    def make_durable(self) -> None:
        """Wait until every record is on the disk."""
        if self._descriptor is not None:
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                raise disk_error(error, self._named) from None

    @property
    def _named(self) -> Path:
        assert self._file is not None, "a journal with a descriptor has a file"
        return self._file

    def close(self) -> None:
        """Make everything durable and give up the lock. A journal in which nothing began is taken away again."""
        self.make_durable()
        if self._descriptor is not None:
            if self._file and not os.fstat(self._descriptor).st_size:
                self._file.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # checkpoints lie in it
                    self._file.parent.rmdir()
            os.close(self._descriptor)
            self._descriptor = None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lock(descriptor: int, file: Path) -> None:
    try:
        take_lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, file)
    except BlockingIOError:
        raise _in_use(file) from None
    # Taken away before we had the lock: by its writer, who found it empty, or with its run, to the trash.
    if not (file.exists() and os.path.samestat(os.fstat(descriptor), file.stat())):
        raise _in_use(file)


def _in_use(file: Path) -> UsageError:
    return UsageError(
        f"run {file.parent.name!r} is being trained by another process",
        seen="its journal is locked",
        wanted="one writer at a time",
        fix="wait for it, stop it, or give this one another name: --run-name NAME",
    )
