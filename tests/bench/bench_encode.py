"""Bench `encode`: parquet to bins with everything on, beside six ways that people use.

In:  bytes of text, or a folder of parquet files. Out: a `Report`: MB of text per second, ratios, peak memory.
Holds: all contenders read the same documents with the same ranks: gpt2's where they are held under data/vocab, else
       as many trained once on the bench's own text, so that no network is needed.
Run: make bench ONLY=encode SIZE=250M
"""

import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from encoded import differs, oracle, read_tokens
from harness import FOLDER, Contender, Options, Report, compare
from hf_tokenizer import tokenizer_json
from text import text_files

from dataprep.documents import count_bytes, read_texts
from dataprep.errors import DataError
from dataprep.merges import RawShard, train_ranks
from dataprep.paths import Paths, find_paths
from dataprep.rank_file import format_ranks, parse_ranks
from dataprep.sources import Source
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab, publish_vocab

OURS = "Quern"
SLOW_FILES = 2  # one per core: a peer that takes minutes for the whole text shows its steady rate on these
N_RANKS = (50_256, 8_000)  # gpt2's number, and what little text has enough pairs for
TRAIN_BYTES = 130_000_000
_SLOW = ("--files", str(SLOW_FILES))
_PART = f"reads the first {SLOW_FILES} files only, one per core"
_GIGATOKEN = ("gigatoken>=0.10", "awkward>=2.8", "numpy", "pyarrow")
_TIKTOKEN = ("datasets", "tiktoken", "numpy", "pyarrow")

CONTENDERS = (
    Contender(name=OURS, script="encode_quern.py", note="hashes, fsync, census, oracle sample and receipts included"),
    Contender(
        name="plain gigatoken",
        script="encode_gigatoken.py",
        requirements=_GIGATOKEN,
        venv="gigatoken",
        note="encode_files, numpy.insert, tofile; no hash, fsync, document ends or check; holds all tokens in memory",
    ),
    Contender(
        name="gigatoken by file",
        script="encode_gigatoken.py",
        requirements=_GIGATOKEN,
        venv="gigatoken",
        arguments=("--by-file",),
        note="the same with a mask instead of numpy.insert, file by file: as fast as such a script gets",
    ),
    Contender(
        name="tiktoken pool",
        script="encode_tiktoken_pool.py",
        requirements=_TIKTOKEN,
        venv="tiktoken",
        arguments=_SLOW,
        note=f"llm.c's script, end token first; {_PART}",
    ),
    Contender(
        name="nanogpt",
        script="encode_nanogpt.py",
        requirements=_TIKTOKEN,
        venv="tiktoken",
        arguments=_SLOW,
        note=f"datasets.map and a memmap, without datasets' own copy of the parquet files; {_PART}",
    ),
    Contender(
        name="datatrove",
        script="encode_datatrove.py",
        requirements=("datatrove[io,processing]",),
        arguments=_SLOW,
        note=f"DocumentTokenizer, unshuffled; {_PART}",
    ),
    Contender(
        name="dolma",
        script="encode_dolma.py",
        requirements=("dolma", "boto3==1.26.76"),  # the one its s3fs allows: pip looks for it a long time
        arguments=_SLOW,
        note=f"reads .json.gz, made from the parquet files before the clock starts; strips and "
        f"shuffles documents, so it is held to tiktoken's multiset of stripped texts; {_PART}",
    ),
)


def run(options: Options) -> Report:
    """Prepare, measure, compare."""
    folder = FOLDER / "data"
    files = text_files(options.size_bytes, options.text, folder)
    vocab = bench_vocab(files, folder)
    wanted = oracle(files, vocab, folder)
    wanted_stripped = oracle(files[:SLOW_FILES], vocab, folder, strip=True)
    jsonl = _as_jsonl(files[:SLOW_FILES], folder / f"{files[0].parent.name}-jsonl")

    def judge(name: str, reply: dict[str, Any], work: Path) -> str | None:
        n_files = SLOW_FILES if _is_slow(name) else len(files)
        if name == OURS:
            names = [work / "data" / "bins" / "bench" / "bench" / f"{file.stem}.bin" for file in files]
            reply = reply | {"tokens": [str(bin_file) for bin_file in names]}
        tokens = read_tokens(reply, work, vocab.end_id)
        is_dolma = name == "dolma"
        reference = wanted_stripped if is_dolma else wanted[:n_files]
        return differs(tokens, reference, vocab.end_id, ordered=not is_dolma)

    hf_file = vocab.ranks_file.with_suffix(".tokenizer.json")
    arguments = ["--text", str(files[0].parent), "--ranks", str(vocab.ranks_file)]
    arguments += ["--tokenizer-json", str(hf_file), "--jsonl", str(jsonl)]
    n_bytes = [sum(count_bytes(texts) for texts in read_texts(file, ("text",), "text")) for file in files]
    arguments += ["--text-bytes", ",".join(map(str, n_bytes))]
    comparison = compare(CONTENDERS, arguments, rounds=options.rounds, judge=judge)
    title = f"Text to bins: {sum(n_bytes) / 1e6:,.0f} MB in {len(files)} files, {sum(map(len, wanted)):,} tokens"
    return Report(
        tables=[comparison.table(f"{title}, vocabulary {vocab.name}", "MB/s", scale=1e6)],
        figures=_figures(comparison),
        notes=["every token of every round was compared with tiktoken's"],
        raw={"contenders": comparison.raw(), "text_bytes": sum(n_bytes), "fingerprint": vocab.fingerprint},
    )


def _figures(comparison: Any) -> dict[str, float]:
    ours = comparison.rate(OURS)
    found = {f"times {c.name}": comparison.ratio(c.name) for c in CONTENDERS if c.name != OURS}
    found["MB per second"] = ours / 1e6 if ours else None
    found["peak MB"] = comparison.lines[0].peak_bytes / 1e6 if ours else None
    return {key: value for key, value in found.items() if value is not None}


def _is_slow(name: str) -> bool:
    return any(contender.name == name and contender.arguments == _SLOW for contender in CONTENDERS)


def bench_vocab(files: Sequence[Path], folder: Path) -> Vocab:
    """gpt2's ranks where they are held, else ranks of the text's own; with tokenizer.json beside them."""
    paths = Paths(root=folder / "vocab-root")
    held = find_paths().vocab / "gpt2.tiktoken"
    if held.exists():
        publish_vocab(paths, "gpt2", held.read_bytes(), held.name)
        name = "gpt2"
    else:
        name = _train(paths, files)
    vocab = load_vocab(paths, name)
    hf_file = vocab.ranks_file.with_suffix(".tokenizer.json")
    if not hf_file.exists():
        hf_file.write_text(tokenizer_json(parse_ranks(vocab.ranks_file.read_bytes(), name)), encoding="utf-8")
    return vocab


def _train(paths: Paths, files: Sequence[Path]) -> str:
    name = f"bench-{files[0].parent.name}"
    if (paths.vocab / f"{name}.json").exists():
        return name
    source = Source(name="bench", kind="local", layout="text", columns=("text",))
    shards, n_bytes = [], 0
    for file in files:
        if n_bytes < TRAIN_BYTES:
            shards.append(RawShard(source=source, file=file))
            n_bytes += sum(count_bytes(texts) for texts in shards[-1].texts())
    for n_ranks in N_RANKS:
        try:
            ranks = train_ranks(shards, n_ranks)
        except DataError:
            if n_ranks == N_RANKS[-1]:
                raise
            continue
        publish_vocab(paths, name, format_ranks(ranks), "trained on the bench's text")
        break
    return name


def _as_jsonl(files: Sequence[Path], home: Path) -> Path:
    """The text as dolma reads it: {"id", "text"} per line, gzipped."""
    if home.exists():
        return home
    part = home.with_name(f".{home.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "documents").mkdir(parents=True)
    for file in files:
        with gzip.open(part / "documents" / f"{file.stem}.json.gz", "wt", compresslevel=1, encoding="utf-8") as out:
            for row, text in enumerate(pq.read_table(file, columns=["text"])["text"].to_pylist()):
                out.write(json.dumps({"id": f"{file.stem}-{row}", "text": text or "", "source": "bench"}) + "\n")
    part.rename(home)
    return home
