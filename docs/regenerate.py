"""Regenerate: run the demo's commands for real and put their output into README.md.

In:  the Makefile's `demo` target and a query. Out: README.md between its markers.
Holds: nothing in those blocks is typed by hand; tests/e2e/test_readme.py runs them again.
Run: make readme   (in a folder without data/ and runs/ for the numbers of a first run)
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUERY = "SELECT source, split, count(*) AS shards, sum(tokens)::BIGINT AS tokens FROM shards GROUP BY ALL ORDER BY ALL"


def demo_commands() -> list[str]:
    """The lines of the Makefile's demo target, as a person would type them."""
    target = (ROOT / "Makefile").read_text().split("\ndemo: ")[1].split("\n\n")[0]
    return [line.strip().replace("$(PY)", ".venv/bin/python") for line in target.splitlines()[1:]]


def run(command: str, root: Path = ROOT) -> str:
    """The output of one command; a failure ends the script."""
    bin_folder = Path(sys.executable).parent
    real = re.sub(r"^\.venv/bin/", f"{bin_folder}/", command)
    environment = os.environ | {
        "DATAPREP_ROOT": str(root),
        "PYTHONUNBUFFERED": "1",
        "VIRTUAL_ENV": "",  # not activated: commands are printed as a newcomer must type them
    }
    done = subprocess.run(["bash", "-c", real], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout.replace(str(bin_folder), ".venv/bin")


def shorten(output: str) -> str:
    """Keep the first two and the last two step lines, and say that there were others."""
    lines = [line.rstrip() for line in output.splitlines()]
    steps = [number for number, line in enumerate(lines) if line.startswith("step ") and "| loss" in line]
    dropped = steps[2:-2]
    if dropped:
        lines[dropped[0] : dropped[-1] + 1] = ["…"]
    return "\n".join(lines)


def transcript(commands: list[str], root: Path = ROOT) -> str:
    """Commands behind a prompt, each with its output."""
    return "\n".join(f"$ {command}\n{shorten(run(command, root))}" for command in commands)


def put(readme: str, marker: str, text: str) -> str:
    """`readme` with the block between `<!-- marker: … -->` and `<!-- /marker -->` replaced."""
    pattern = re.compile(rf"(<!-- {marker}: .*? -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}```\n{text}\n```\n{match[2]}", readme)


def main() -> None:
    """Write README.md anew."""
    file = ROOT / "README.md"
    readme = put(file.read_text(), "demo", transcript(demo_commands()))
    file.write_text(put(readme, "query", transcript([f'.venv/bin/python -m dataprep.sql "{QUERY}"'])))


if __name__ == "__main__":
    main()
