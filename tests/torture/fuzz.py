"""Hostile text and bytes at length: big documents, many examples of Hypothesis's kind, and atheris, guided by coverage.

In:  a work folder. Out: a line per large text, and one per target that atheris worked on for its seconds.
Holds: atheris is installed below the work folder and nowhere else; where it cannot be, its lines say why.
Run: make torture ONLY=fuzz, or by itself one target: python tests/torture/fuzz.py encode FOLDER SECONDS
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from torture.table import Line

SECONDS = int(os.environ.get("QUERN_FUZZ_SECONDS", "20"))  # of each target
_SEEDS = (
    b'{"kind": "start", "attempt": 1}\n',
    b'[{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]',
    b'["a", "b"]',
    b'[odd]\nkind = "local"\npath = "odd"\ntext = "text"\n',
    b"30:70",
    b"icl_tasks:\n- label: a\n",
    b"<|endoftext|> the mill\r\n\xe4\xb8\xad",
)


def torture(work: Path, *, kills: int) -> Iterable[Line]:
    """Large texts first, then every target under atheris."""
    del kills
    yield from _large_texts(work)
    yield from _guided(work)


def _large_texts(work: Path) -> Iterator[Line]:
    from conftest import write_parquet
    from odd import check_against_oracle, mill, write_lines

    line = "the mill grinds in the mill; "
    cases = {
        "one line of 100 MB": (lambda root: write_lines(root, [json.dumps({"text": line * 3_450_000})]), 0),
        "one line of 300 MB": (lambda root: write_lines(root, [json.dumps({"text": line * 10_350_000})]), 3),
        "1,000,000 empty documents": (lambda root: write_parquet(root / "odd/shard_0.parquet", [None] * 10**6), 0),
    }
    texts = {"one line of 100 MB": [line * 3_450_000], "1,000,000 empty documents": [None] * 10**6}
    for name, (write, wanted) in cases.items():
        root = work / name.replace(" ", "-")
        root.mkdir()
        write(root)
        with contextlib.redirect_stdout(sys.stderr):  # the table stays a table
            code = mill(root)
        if code == wanted == 0:
            check_against_oracle(root, texts[name])
        good = code == wanted
        yield Line(
            fault=name, tries=1, survived=int(good and not code), reported=int(good and code > 0), lost=int(not good)
        )


def _guided(work: Path) -> Iterator[Line]:
    from fuzzed import TARGETS

    packages = work / "packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), "atheris"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1][:100]
        yield Line(fault="atheris", tries=0, survived=0, reported=0, lost=0, note=f"not installed: {reason}")
        return
    for name in TARGETS:
        yield _guided_line(work, packages, name)


def _guided_line(work: Path, packages: Path, name: str) -> Line:
    """libFuzzer ends with 0 after its seconds; with a defect it ends otherwise, and leaves the input behind."""
    folder = work / f"fuzz-{name.replace(' ', '-')}"
    (folder / "corpus").mkdir(parents=True)
    for number, seed in enumerate(_SEEDS):
        (folder / f"corpus/seed{number}").write_bytes(seed)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(packages)])}
    command = [sys.executable, __file__, name, str(folder), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
    runs = [int(count) for count in re.findall(r"#(\d+)", done.stderr)]
    tries = max(runs, default=0)
    if done.returncode == 0 and tries:
        return Line(fault=f"fuzz: {name}", tries=tries, survived=tries, reported=0, lost=0)
    print(done.stderr[-3000:], file=sys.stderr)
    return Line(fault=f"fuzz: {name}", tries=tries + 1, survived=tries, reported=0, lost=1, note="see stderr")


def _fuzz(name: str, folder: Path, seconds: int) -> None:
    """This process is libFuzzer's from here on."""
    import atheris  # pyright: ignore[reportMissingImports]

    with atheris.instrument_imports(include=["dataprep"]):
        from fuzzed import TARGETS
    (folder / "files").mkdir()
    target = TARGETS[name](folder / "files")
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=60", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(folder / "corpus")], target)
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
