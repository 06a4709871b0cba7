"""Memory: five hundred steps with a checkpoint every fifty hold no more at their end than after warming up."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FLAGS = ("--manifest", "--recipe", "mix", "--model", "nano", "--device", "cpu", "--batch-tokens", "128")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_is_flat_over_five_hundred_steps_and_ten_saves(packed_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(packed_root, root)
    env = os.environ | {"DATAPREP_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    script = REPOSITORY / "tests" / "bench" / "memory_slope.py"
    command = [sys.executable, str(script), *FLAGS, "--tokens", "64000", "--checkpoint-every", "50"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    slope = re.search(r"slope after step 100: (\S+) MiB per 100 steps over 500 steps", done.stdout)
    assert slope, done.stdout
    assert float(slope[1]) < 1.0, done.stdout
