"""Packages, as the doctor sees them: what pyproject.toml asks for against what is installed.

In:  pyproject.toml beside the code, the metadata of installed packages. Out: one finding.
Holds: nothing is imported to learn its version.
lacking("torch>=2.11", "2.10.0+cu130") → "torch 2.10.0+cu130, wanted >=2.11"
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from train.doctor.finding import FAIL, OK, Finding

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)>=([0-9.]+)")  # the only form ours has: a test insists


def check_packages() -> Iterable[Finding]:
    """Every dependency at or above its floor, and Python itself."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    python = ".".join(map(str, sys.version_info[:3]))
    wanted = {requirement: _installed(requirement) for requirement in project["dependencies"]}
    short = [lack for requirement, found in wanted.items() if (lack := lacking(requirement, found))]
    if older := lacking(f"Python{project['requires-python']}", python):
        short.append(older)
    yield Finding(
        name="packages",
        level=FAIL if short else OK,
        seen="; ".join(short) or f"Python {python}, {len(wanted)} packages as pyproject.toml wants them",
        advice="make install, or python -m pip install --editable ." if short else "",
    )


def lacking(requirement: str, found: str | None) -> str | None:
    """What is wrong with a package, in words; None where it is there and new enough."""
    match = _REQUIREMENT.fullmatch(requirement)
    assert match, f"{requirement} is not NAME>=VERSION"
    if found is None:
        return f"no {match[1]}, wanted >={match[2]}"
    return None if _numbers(found) >= _numbers(match[2]) else f"{match[1]} {found}, wanted >={match[2]}"


def _installed(requirement: str) -> str | None:
    try:
        return metadata.version(requirement.partition(">=")[0])
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> list[int]:
    """The release part of a version, without zeros at its end: 2.11.0+cu130 is [2, 11]."""
    match = re.match(r"\d+(\.\d+)*", version)
    return [int(part) for part in re.sub(r"(\.0+)+$", "", match[0]).split(".")] if match else []
