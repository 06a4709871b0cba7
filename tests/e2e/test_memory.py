"""Memory: five hundred steps with a checkpoint every fifty hold no more at their end than after warming up."""

import re
from pathlib import Path

import pytest
from training import FLAGS, REPOSITORY, start


@pytest.mark.usefixtures("root")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_open_files_and_threads_are_flat_over_five_hundred_steps_and_ten_saves() -> None:
    script = REPOSITORY / "tests" / "bench" / "memory_slope.py"
    steps = ("--batch-tokens", "128", "--tokens", "64000", "--checkpoint-every", "50")
    done = start(str(script), *FLAGS, *steps)
    assert done.returncode == 0, done.stderr
    slope = re.search(r"slope after step 100: (\S+) MiB per 100 steps over 500 steps", done.stdout)
    assert slope, done.stdout
    assert float(slope[1]) < 1.0, done.stdout
    for name in ("open files", "threads"):
        held = re.search(rf"{name}: at most (\d+) in the first half after step 100, (\d+) in the second", done.stdout)
        assert held, done.stdout
        assert int(held[2]) <= int(held[1]) + 1, done.stdout  # a save in flight more
