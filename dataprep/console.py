"""What people read: numbers with separators, small tables, and progress that fits its output.

In:  exact integers. Out: text on stdout; a bar on a terminal, one plain line per event elsewhere.
Holds: progress never hides a line that matters, and nothing here changes a number.
"""

import json
import math
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from dataprep.errors import as_typed, visible

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def size(n_bytes: float) -> str:
    """Bytes as people say them: 100.3 MB."""
    for factor, unit in _UNITS:
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.1f} {unit}"
    return f"{n_bytes:,.0f} bytes"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns: numbers to the right with separators, text to the left."""
    cells = [[visible(name) for name in header], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    numeric = [bool(rows) and all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def print_json(value: Any) -> None:
    """Exact numbers for machines, one document on stdout."""
    print(json.dumps(_plain(value), indent=2, default=str, allow_nan=False))


def print_next(command: str) -> None:
    """The last line of a verb: what to run next, ready to be pasted."""
    print(f"next: {visible(as_typed(command))}")


class Progress:
    """`with Progress("encode", total_bytes) as progress: progress.advance(n); progress.say("…")`.

    Safe to call from several threads. Off a terminal only `say` prints.
    """

    def __init__(self, what: str, total_bytes: int, *, quiet: bool = False) -> None:
        self._what, self._total, self._quiet = what, total_bytes, quiet
        self._bar: Any = None

    def __enter__(self) -> Self:
        if sys.stdout.isatty() and not self._quiet:
            from rich import progress

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=self._total or None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the terminal its cursor back."""
        if self._bar:
            self._bar.stop()

    def advance(self, n_bytes: int) -> None:
        """Move the bar."""
        if self._bar:
            self._bar.advance(self._task, n_bytes)

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._quiet:
            return
        line = visible(line, keep="\n")
        if self._bar:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, flush=True)


def _plain(value: Any) -> Any:
    """The value with null for what JSON has no word for: NaN and infinities."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return visible(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
