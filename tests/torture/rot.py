"""Rot: a byte flipped, cut off or added in every kind of file, and what `verify --full` and the trainer say of it.

In:  a folder to work in. Out: a line per kind of file and kind of damage.
Holds: `verify --full` names the file and prints a command; or, where the damage says nothing (a comment of a recipe),
       what is read is what was written. Restored, everything passes again.
"""

import contextlib
import io
import json
import os
import random
import subprocess
from collections.abc import Iterable
from pathlib import Path

from conftest import run_in
from loopback import Loopback, shard_bytes
from torture import verbs
from torture.disk import counted
from torture.table import Line

from dataprep import shards, verify
from dataprep.errors import DataError
from dataprep.ledger import read_journal
from dataprep.recipe import read_recipe
from train.lines import append_line

# Kind of file: a pattern below the root. The first file that matches, oldest name first, is damaged.
KINDS = {
    "raw parquet": "data/raw/*/*.parquet",
    "raw receipt": "data/raw/*/*.parquet.json",
    "bin": "data/bins/*/*/*.bin",
    "docs": "data/bins/*/*/*.docs",
    "loss": "data/bins/*/*/*.loss",
    "receipt": "data/bins/*/*/*.json",
    "source record": "data/sources/*.json",
    "vocabulary": "data/vocab/*.tiktoken",
    "vocabulary's record": "data/vocab/*.json",
    "recipe": "manifests/recipes/*.toml",
    "plan": "manifests/plans/*.parquet",
    "journal": "runs/*/journal.jsonl",
    "findings": "runs/*/findings.jsonl",
    "weights": "runs/*/checkpoints/step_*/model.safetensors",
    "moments": "runs/*/checkpoints/step_*/optimizer.pt",
    "state": "runs/*/checkpoints/step_*/state.json",
}
DAMAGES = ("flipped", "cut", "added")


def damaged(content: bytes, damage: str, rng: random.Random) -> bytes:
    """One byte of it flipped, its last one cut off, or one more."""
    if damage == "cut":
        return content[:-1]
    if damage == "added":
        return content + bytes([rng.randrange(256)])
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def file_of(root: Path, kind: str) -> Path:
    """The file of a kind that is damaged."""
    return next(file for file in sorted(root.glob(KINDS[kind])) if not file.name.startswith("."))


def judged(root: Path, kind: str, damage: str, rng: random.Random) -> str:
    """Damage a file, ask `verify --full`, put it back: "reported", "survived" or what was lost."""
    file = file_of(root, kind)
    whole, meant = file.read_bytes(), meaning(root, kind)
    file.write_bytes(damaged(whole, damage, rng))
    try:
        code, findings, fixes = verified(root)
        said = " ".join([*findings])
        if code == 0:
            # A comment, a blank: nobody reads it. A journal's torn last line is ignored, with a note.
            torn = kind in ("journal", "findings") and damage != "flipped"
            return "survived" if torn or (meant is not None and meaning(root, kind) == meant) else "lost: not noticed"
        if file.stem not in said and file.parent.name not in said:
            return f"lost: {file} is not named: {said}"
        if not fixes:
            return f"lost: no command mends it: {said}"
        pasted = [
            fix for fix in fixes if subprocess.run(["bash", "-nc", fix], capture_output=True, check=False).returncode
        ]
        return f"lost: no shell takes {pasted[0]!r}" if pasted else "reported"
    finally:
        file.write_bytes(whole)
        os.utime(file.parent)  # as a publication does: tokens.db, made without the file, is stale


def verified(root: Path) -> tuple[int, list[str], list[str]]:
    """`verify --full`: its exit code, the faults it names, the commands it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run_in(root, verify.main, "--full", "--json")
    findings = json.loads(printed.getvalue())
    return (
        code,
        [fault for finding in findings for fault in finding["faults"]],
        [fix for finding in findings for fix in finding["fixes"]],
    )


def meaning(root: Path, kind: str) -> object:
    """What is read of a file in which not every byte says something; None of all others."""
    if kind != "recipe":
        return None
    try:
        return read_recipe(file_of(root, kind))
    except DataError:
        return None


def begin(work: Path) -> Path:
    """A root with a file of every kind, made by the real verbs; the fetched ones come from a server of our own."""
    work.mkdir(parents=True, exist_ok=True)
    roots = verbs.begin(work, ["shards", "pack", "train"], n_documents=40)
    root = roots["train"]
    assert verbs.started("train", root, "--tokens", "4096").returncode == 0
    (root / "talks").mkdir()
    talk = json.dumps({"messages": [{"role": role, "content": f"{role} says"} for role in ("user", "assistant")]})
    for number in range(2):
        (root / f"talks/shard_{number:05d}.jsonl").write_text(f"{talk}\n" * 30)
    with Loopback({f"shard_{number:05d}.parquet": shard_bytes(number) for number in range(2)}) as origin:
        urls = [origin.url(f"shard_{number:05d}.parquet") for number in range(2)]
        with (root / "my.toml").open("a") as catalogue:
            catalogue.write('[talks]\nkind = "local"\npath = "talks"\nmessages = "messages"\n')
            catalogue.write('holdout = ["shard_00001"]\n')
            catalogue.write(f'[web]\nkind = "url"\nurls = {urls}\ntext = "text"\nholdout = ["shard_00001"]\n')
        for source in ("talks", "web"):
            asked = ["--source", source, "--n", "1", "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
            with contextlib.redirect_stdout(io.StringIO()):
                assert run_in(root, shards.main, *asked) == 0
    _find_something_out(root)
    return root


def torture(work: Path, *, kills: int) -> Iterable[Line]:
    """Every kind of file and of damage; flipped at as many places as a twentieth of `kills`."""
    root, rng = begin(work), random.Random(7)
    for kind in KINDS:
        for damage in DAMAGES:
            n_tries = max(3, kills // 20) if damage == "flipped" else 1
            yield counted(f"rot: {kind}, a byte {damage}", [judged(root, kind, damage, rng) for _ in range(n_tries)])


def _find_something_out(root: Path) -> None:
    """A line of findings, as an evaluation after training leaves it."""
    saved = read_journal(root / "runs/run/journal.jsonl").of_kind("checkpoint")[-1]
    about = {"step": saved["step"], "rows_done": saved["rows_done"], "tokens_done": saved["tokens_done"]}
    about |= {"recipe": "mix", "weights_sha256": saved["sha256"]}
    score = {"suite": "core", "task": "all", "n": 3, "value": 0.5, "stderr": 0.1}
    file = root / "runs/run/findings.jsonl"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o644)
    for number in range(2):
        append_line(descriptor, file, {"kind": "eval", **score, "task": f"task {number}", **about})
    os.close(descriptor)
