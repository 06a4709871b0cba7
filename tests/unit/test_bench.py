"""The GPU bench, as far as a machine without one can run it; and what the README says of the benches."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_readme_shows_the_targets_of_the_page_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "tests" / "bench"))
    page = importlib.import_module("page")
    text = page.PAGE.read_text()
    shown = page.README.read_text().partition(page.README_BEGIN)[2].partition(page.README_END)[0]
    assert shown == page.targets_of(text)
    assert shown.count("| met |") + shown.count("| missed |") == text.count("| met |") + text.count("| missed |") > 20
