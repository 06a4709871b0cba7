"""One fetch from a Hub or a file server that misbehaves, and what became of it: survived, reported, or lost.

In:  a way to fetch (hub, hf_transfer, url), a root, a loopback with its faults set. Out: the verdict and what was said.
Holds: "survived" is said only of a file with the origin's bytes, "reported" only of a three-line error with exit
       code 3 that left nothing but whole files; everything else is lost, or raises.
"""

import contextlib
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import pytest
from loopback import Loopback, shard_bytes

from dataprep import fetch, patience, retry, urls
from dataprep.errors import QuernError
from dataprep.paths import Paths
from dataprep.raw import ENGINES

WAYS = (*ENGINES, "url")
SHARD = "shard_00000.parquet"
FILES = {f"shard_{i:05d}.parquet": shard_bytes(i) for i in range(2)}
HUB_ENTRY = (
    '[texts]\nkind = "hub"\nrepo = "someone/texts"\nfiles = "*.parquet"\ntext = "text"\nholdout = ["shard_00001"]\n'
)


def patient_for_tests(patch: pytest.MonkeyPatch) -> None:
    """Two attempts, and limits of a second where people have a minute."""
    from huggingface_hub import constants

    patch.setattr(retry, "ATTEMPTS", 2)
    patch.setattr(patience, "WINDOW_S", 0.5)
    patch.setattr(urls, "STALL_S", 1)
    patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)


class Verdict(NamedTuple):
    """What became of one try, and what was said about it."""

    outcome: str
    said: str


def write_entry(paths: Paths, way: str, origin: Loopback) -> Path:
    """The catalogue of a source that is fetched in this way."""
    file = paths.root / "my.toml"
    if way != "url":
        file.write_text(HUB_ENTRY)
        return file
    sha256 = ", ".join(f'{Path(name).stem} = "{hashlib.sha256(FILES[name]).hexdigest()}"' for name in FILES)
    urls = ", ".join(f'"{origin.url(name)}"' for name in FILES)
    file.write_text(
        f'[texts]\nkind = "url"\nurls = [{urls}]\ntext = "text"\nholdout = ["shard_00001"]\nsha256 = {{{sha256}}}\n'
    )
    return file


def bring(way: str, paths: Paths, origin: Loopback, *flags: str, entry: Path | None = None) -> Verdict:
    """Fetch one train shard and the held-out one, and look at what lies there now."""
    entry = entry or write_entry(paths, way, origin)
    engine = ["--engine", way] if way != "url" else []
    said, outcome = io.StringIO(), "survived"
    with contextlib.redirect_stdout(said):
        try:
            code = fetch.main(["--source", "texts", "--catalogue", str(entry), "--n", "1", *engine, *flags])
        except QuernError as error:
            code = error.exit_code
            print(error)
    raw = paths.raw("texts")
    held = {file.name: file.read_bytes() for file in raw.glob("*") if file.suffix != ".json"} if raw.exists() else {}
    if any(FILES.get(name) != content for name, content in held.items()):
        outcome = "lost"  # a wrong file under a right name, or a temp
    elif code == 3 and len(held) < len(FILES):
        outcome = "reported"
    elif code != 0 or len(held) < len(FILES):
        outcome = "lost"
    return Verdict(outcome, said.getvalue())
