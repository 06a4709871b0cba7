"""Clocks: the time of day is written down and never counted with, so a clock that jumps changes nothing."""

import ast
from pathlib import Path

from training import REPOSITORY

# Where the time of day is read: for people, in records; and where a server names the date to come back at, which is
# waited for ten minutes at most. Whatever is measured is monotonic.
TIME_OF_DAY = {("train/journal.py", "now"), ("dataprep/patience.py", "wait_asked")}
NAMES = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}


def test_the_time_of_day_is_read_in_two_places_and_everything_is_measured_by_monotonic_clocks() -> None:
    found = set()
    for file in [*(REPOSITORY / "train").rglob("*.py"), *(REPOSITORY / "dataprep").rglob("*.py")]:
        found |= {(str(file.relative_to(REPOSITORY)), function) for function in readers(file)}
    assert found == TIME_OF_DAY


def readers(file: Path) -> set[str]:
    """The functions of a file that read the time of day."""
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {
        function.name
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if (node.value.id, node.attr) in NAMES
    }
