"""Imports: the data side never loads torch, and --help loads nothing heavy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dataprep

MODULES = sorted(file.stem for file in Path(dataprep.__file__).parent.glob("[a-z]*.py"))
VERBS = [
    *("shards", "show", "pack", "index", "sql", "verify", "fetch", "bpe", "budget", "explain", "contamination"),
    *("export", "import"),
]
HEAVY = {"torch", "polars", "huggingface_hub"}
PRINT_HELP = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__")
except SystemExit as stopped:
    loaded = ",".join(sorted({name.partition(".")[0] for name in sys.modules}))
    print(f"\\nexit {stopped.code}\\nloaded {loaded}")
"""


def run_python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter; returns its stdout. Warnings are errors there too."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def has_parser(verb: str) -> bool:
    source = (Path(dataprep.__file__).parent / f"{verb}.py").read_text(encoding="utf-8")
    return "run(main)" in source


def test_importing_every_module_of_dataprep_never_loads_torch() -> None:
    assert len(MODULES) > 20
    imports = "\n".join(f"importlib.import_module('dataprep.{module}')" for module in MODULES)  # one is called import
    assert run_python(f"import importlib, sys\n{imports}\nprint('torch' in sys.modules)") == "False\n"


def test_importing_the_package_loads_no_module_of_it() -> None:
    code = "import dataprep, sys\nprint([name for name in sys.modules if name.startswith('dataprep.')])"
    assert run_python(code) == "[]\n"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if has_parser(verb)])
def test_help_of_a_verb_is_printed_without_loading_anything_heavy(verb: str) -> None:
    help_text, _, rest = run_python(PRINT_HELP, f"dataprep.{verb}").partition("\nexit ")
    code, _, loaded = rest.partition("\nloaded ")
    assert help_text.startswith(f"usage: python -m dataprep.{verb}")
    assert code == "0"
    assert HEAVY.isdisjoint(loaded.strip().split(","))
