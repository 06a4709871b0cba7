"""The real commands, started as a person starts them, on roots small enough to fill disks with.

In:  a folder to work in. Out: `begin(work)`: for each verb a root as it is before; how a run of it ended.
Holds: what is compared is every published file, and the lines of every table of tokens.db.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest import byte_ranks, sentences, write_source
from crash.published import exported

from dataprep.paths import Paths
from dataprep.vocab_store import publish_vocab

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = ("--source", "notes", "--n", "2", "--catalogue", "my.toml", "--tokenizer", "tiny-bpe", "--workers", "1")
RUN = ("--manifest", "--recipe", "mix", "--run-name", "run", "--model", "nano", "--device", "cpu")
STEPS = ("--batch-tokens", "512", "--checkpoint-every", "4", "--keep", "1", "--validate-rows", "2")
COMMANDS = {
    "shards": ("-m", "dataprep.shards", *SOURCE),
    "pack": ("-m", "dataprep.pack", "--mix", "1", "--sources", "notes", "--name", "mix", "--seq-len", "64"),
    "index": ("-m", "dataprep.index"),
    "train": (str(REPOSITORY / "train" / "main.py"), *RUN, *STEPS),
    "export": ("-m", "train.export", "--run", "run", "--to", "hf", "--no-verify", "exported"),
}


def begin(work: Path, verbs: Sequence[str] = tuple(COMMANDS), n_documents: int = 60) -> dict[str, Path]:
    """Roots as each of `verbs` finds them, the next made from the one before."""
    root, roots = work / "root", {}
    root.mkdir(parents=True)
    write_source(root, "notes", [sentences(f"notes{i}", n_documents) for i in range(3)])
    publish_vocab(Paths(root=root), "tiny-bpe", byte_ranks(), origin="made by the tests")
    for verb in COMMANDS:
        if verb in verbs:
            roots[verb] = Path(shutil.copytree(root, work / f"before-{verb}"))
        if verb == verbs[-1]:
            break
        done = started(verb, root)
        assert done.returncode == 0, done.stderr
    return roots


def started(
    verb: str, root: Path, *more: str, under: Sequence[str] = (), most_file_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a verb in `root`, perhaps under another program, perhaps with no file larger than so much."""
    limit = ("prlimit", f"--fsize={most_file_bytes}") if most_file_bytes is not None else ()
    return subprocess.run(
        [*limit, *under, sys.executable, *COMMANDS[verb], *more],
        cwd=root,
        env=environment(root),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def environment(root: Path) -> dict[str, str]:
    """What a command sees: its root, this checkout, one thread."""
    told = {"DATAPREP_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return os.environ | told | {"VIRTUAL_ENV": sys.prefix, "PYTHONDONTWRITEBYTECODE": "1"}


def published(root: Path) -> dict[str, bytes]:
    """Every file under a final name, but for what tells the time (journals) and the derived database."""
    skipped = (".", "tokens.db", "journal.jsonl", "filler", "damaged_")
    files = [file for file in root.rglob("*") if file.is_file()]
    kept = [file for file in files if not any(part.startswith(skipped) for part in file.relative_to(root).parts)]
    return {str(file.relative_to(root)): file.read_bytes() for file in kept}


def held(root: Path) -> dict[str, Any]:
    """All that a command leaves when it ends: what is published, and tokens.db as it says it."""
    return published(root) | exported(root, rebuilt=False)


def temps(root: Path) -> list[Path]:
    """What a writer left that nobody will ever read."""
    return [part for part in root.rglob(".*.part") if not part.name.endswith(".old.part")]


def complaint(done: subprocess.CompletedProcess[str], *, code: int = 5) -> str | None:
    """What is wrong with how a command refused; None where it is a clear error of three lines."""
    lines = done.stderr.strip().splitlines()
    said = [line for line in lines if line.startswith(("error: ", "  seen: ", "  fix:  "))]
    if done.returncode != code or "Traceback" in done.stderr or len(said) != 3:
        return f"exit {done.returncode}: {done.stderr[-1500:]}"
    return None
