"""README.md tells the truth: its demo is run again, its links lead somewhere, its flags exist."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()

specification = importlib.util.spec_from_file_location("regenerate", ROOT / "docs" / "regenerate.py")
assert specification
assert specification.loader
regenerate = importlib.util.module_from_spec(specification)
specification.loader.exec_module(regenerate)


def block(marker: str) -> str:
    match = re.search(rf"<!-- {marker}: .*? -->\n```\n(.*?)\n```\n<!-- /{marker} -->", README, re.DOTALL)
    assert match, f"no output between the markers of {marker}: run make readme"
    return match[1]


def shape(text: str) -> list[str]:
    """The text without what differs between machines, Python versions and runs: numbers, hashes, free text."""
    text = re.sub(r"(?s)(sample|user): .*?(?=\n(finished|nothing|stopped))", "sample: …", text)
    text = re.sub(r"(?s)( -m train\.chat [^\n]*\n).*?(?=\n\$ |\Z)", r"\1…", text)
    text = re.sub(r"(?m)^(facts step .*? right at temperature 0).*$", r"\1", text)  # and which are new
    text = re.sub(r"(?m)^step .*$(\n…)?", "step", text)  # how many step lines there are depends on speed
    text = re.sub(r"─+", "─", re.sub(r"[0-9a-f]{12}…", "#…", text))
    text = re.sub(r"[\d][\d,.]*(e-\d)?(?: [kMG]?B| bytes|[KMB]\b)?", "#", text)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    # Shards are told as they end, in any order; equal neighbours count once.
    return [line for i, line in enumerate(lines) if i == 0 or line != lines[i - 1]]


@pytest.mark.timeout(600)
def test_the_demo_and_the_query_print_what_this_page_shows(tmp_path: Path) -> None:
    commands = regenerate.demo_commands()
    shown = [line[2:] for line in block("demo").splitlines() if line.startswith("$ ")]
    assert shown == commands
    # The real commands on the real corpus; only the budget is smaller, to spare a minute.
    quick = [
        command.replace("--tokens 600K", "--tokens 20K").replace("--tokens 300K", "--tokens 10K")
        for command in commands
    ]
    found = regenerate.transcript(quick, tmp_path).replace("--tokens 20K", "--tokens 600K")
    found = found.replace("--tokens 10K", "--tokens 300K")
    assert shape(found) == shape(block("demo"))
    query = regenerate.transcript([f'.venv/bin/python -m dataprep.sql "{regenerate.QUERY}"'], tmp_path)
    assert shape(query) == shape(block("query"))


def test_every_link_leads_to_a_file() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "manifests/README.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_flag_of_a_command_in_the_docs_exists() -> None:
    pages = "\n".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    commands = re.findall(r"(?:-m ((?:dataprep|train)\.[a-z_]+)\b|(train/main\.py))((?: +(?!#)[^\s`|#;]+)*)", pages)
    flags_by_program: dict[str, set[str]] = {}
    for module, script, arguments in commands:
        flags_by_program.setdefault(module or script, set()).update(re.findall(r"--[a-z-]+", arguments))
    assert len(flags_by_program) >= 6
    for program, flags in flags_by_program.items():
        start = [str(ROOT / program)] if program.endswith(".py") else ["-m", program]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        asked = [sys.executable, *start, "--help"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True, env=environment).stdout
        assert flags <= set(re.findall(r"--[a-z-]+", answer)), program


def test_every_file_of_the_packages_stands_in_the_tree() -> None:
    tree = README.split("## The tree")[1]
    words = set(re.findall(r"[a-z_]+", tree))
    names = {file.stem for folder in ("dataprep", "train") for file in (ROOT / folder).glob("*.py")}
    names |= {folder.parent.name for folder in (ROOT / "train").glob("*/__init__.py")}
    assert names - words <= {
        "__init__",
        "vocab_store",
        "checks",
        "plan_checks",
        "seen_checks",
        "budget_flags",
        "budget_page",
    }


@pytest.mark.parametrize("target", ["", "shards"])
def test_make_explains_itself(target: str) -> None:
    done = subprocess.run(
        ["make", "-s", "-o", "install", *target.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if target:
        assert (done.returncode, "make shards N=178" in done.stdout) == (2, True)
    else:
        assert "make demo" in done.stdout
