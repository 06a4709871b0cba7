"""The GPU bench, as far as a machine without one can run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_gpu_bench_runs_to_its_end_on_a_cpu(tmp_path: Path) -> None:
    script = ["bash", str(REPOSITORY / "tests/bench/gpu_train.sh"), "--smoke"]
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu_train.json").read_text())
    assert report["equality"]["compiled: gradients"] < 1e-5
    measured = [line for line in report["lines"] if "failed" not in line]
    assert all(line["tokens_per_s"] > 0 for line in measured)
    assert [line["name"] for line in report["lines"] if "failed" in line] == [
        "compiled, adamw, head: ours, documents: varlen"  # which no CPU has
    ]
    assert done.stdout.count("| nano |") == len(report["lines"])
