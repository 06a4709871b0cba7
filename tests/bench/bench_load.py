"""Bench `load`: batches of int64 inputs and targets, 16 rows of 2,048, beside the loaders people use.

In:  bins of two sources, 70:30, and shuffled plans over them (load_data.py). Out: rates, first batches, resumes.
Holds: ours is held to a naive reader and its resumed stream to the uninterrupted one in the same run; what a peer
       hands out is looked up in the bins, and its targets are its inputs one later; the ceiling is a plain copy.
Ours follows a plan and takes the sources in their ratio row by row; the peers are spared the mixture: they read both
sources as one file or folder, whose supply has that ratio.
"""

import mmap
import statistics
from pathlib import Path

import load_data
import numpy as np
from harness import FOLDER, Comparison, Contender, Options, Reply, Report, Table, compare

_END = load_data.N_RANKS
_TORCH = {"requirements": ("torch==2.13.0", "numpy", "litdata"), "venv": "load-torch"}


_NOTES = {
    "nanogpt": "random crops with replacement: no plan, no epoch, no resume",
    "litdata": "torch on one thread: with two, its small copies wait for each other; resuming is not measured: its"
    " state wants a loader that got there",
    "mosaic": "resuming is not measured: its state wants a loader that got there",
    "datatrove": "files one after another, rows in order: it wants data that was shuffled before",
    "olmo": "2,047 inputs and targets per row, counted as 2,048",
    "megatron": "its indices are built beforehand; position ids and loss masks are made per row",
}
_THREADS = {"litdata": {"OMP_NUM_THREADS": "1"}}


def _peer(name: str, package: str | None, n_workers: tuple[int, ...], *, batches: int = 400) -> list[Contender]:
    """A peer, once for each number of workers."""
    own = {"requirements": ("torch==2.13.0", "numpy", package), "venv": f"load-{name}"} if package else _TORCH
    return [
        Contender(
            name=f"{name}, {workers} workers" if len(n_workers) > 1 else name,
            script=f"load_{name}.py",
            arguments=("--batches", str(batches), "--workers", str(workers)),
            environment=_THREADS.get(name, {}),
            note="" if workers else _NOTES.get(name, ""),
            **own,
        )
        for workers in n_workers
    ]


_OURS = {
    "quern": "concat",
    "quern masked": "masked",
    "quern best-fit": "best-fit",
    "quern best-fit, masked, documents": "documents",
    "quern deep": "deep",
}
CONTENDERS = (
    *(
        Contender(name=name, script="load_quern.py", arguments=("--batches", "3200", "--recipe", recipe))
        for name, recipe in _OURS.items()
    ),
    Contender(
        name="quern, one step ahead",
        script="load_quern.py",
        arguments=("--batches", "3200", "--ahead"),
        note="through the trainer's prefetch thread, with nothing to compute meanwhile: what handing over costs",
    ),
    Contender(name="copy ceiling", script="load_ceiling.py", arguments=("--batches", "3200"), **_TORCH),
    *_peer("dataloader", None, (0, 2)),
    *_peer("litdata", None, (0, 2)),
    *_peer("nanogpt", None, (0,)),
    *_peer("datatrove", "datatrove", (0, 2)),
    *_peer("datasets", "datasets", (0,)),
    *_peer("olmo", "ai2-olmo-core", (0, 2)),
    *_peer("megatron", "megatron-core", (0, 2)),
    *_peer("mosaic", "mosaicml-streaming", (0, 2), batches=200),
)
_OWN_FORMAT = ("litdata", "datatrove", "datasets", "megatron", "mosaic")


def run(options: Options) -> Report:
    """Prepare, measure, compare."""
    root = FOLDER / "data" / f"load-{options.size_bytes // 10**6}M"
    load_data.prepare(root, options.size_bytes)
    arguments = ["--root", str(root)]
    converting = [
        each for each in CONTENDERS if each.name.partition(",")[0] in _OWN_FORMAT and "2" not in each.arguments
    ]
    compare(converting, [*arguments, "--prepare"], rounds=1)
    judge = _Judge(root)
    compared = compare(CONTENDERS, arguments, rounds=options.rounds, judge=judge)
    judge.close()

    rates = compared.table("batches of 16 rows of 2,048, int64 inputs and targets", "Mtok/s", scale=1e6)
    rates.notes.append("tokens are made up, documents as long as real ones: a loader does not care what tokens say")
    shares = {name: 1 / ratio for name in _OURS if (ratio := _times(compared, "copy ceiling", than=name))}
    figures = {"share of copy ceiling": shares["quern"]} if "quern" in shares else {}
    for peer in ("dataloader", "litdata", "datatrove", "nanogpt"):
        names = [each.name for each in CONTENDERS if each.name.partition(",")[0] == peer]
        times = [ratio for name in names if (ratio := compared.ratio(name))]
        figures |= {f"times {peer}": min(times)} if times else {}  # against the better number of workers
    if resumes := _of(compared, "quern deep", "resume_ms"):
        figures["resume ms"] = statistics.median(resumes)
    return Report(
        tables=[rates, _shares(compared, shares), _beginnings(compared)],
        figures=figures,
        raw={"load": compared.raw()},
    )


def _times(compared: Comparison, name: str, *, than: str) -> float | None:
    """How many times as fast `name` is."""
    theirs, ours = compared.rate(name), compared.rate(than)
    return theirs / ours if theirs and ours else None


def _of(compared: Comparison, name: str, key: str) -> list[float]:
    """One figure of a contender, round by round."""
    line = next(line for line in compared.lines if line.contender.name == name)
    return [reply[key] for reply in line.replies if key in reply] if line.rates else []


def _shares(compared: Comparison, shares: dict[str, float]) -> Table:
    rows = [[name, round((compared.rate(name) or 0) / 1e6), float(f"{share:.3g}")] for name, share in shares.items()]
    return Table(title="ours as a share of the copy ceiling", header=["plan", "Mtok/s", "share"], rows=rows)


def _beginnings(compared: Comparison) -> Table:
    """Milliseconds, medians: opening alone (ours hashes the plan), opening with the first batch, resuming."""
    keys = ("opened_ms", "first_ms", "resume_ms")
    rows = []
    for name in (line.contender.name for line in compared.lines):
        found = [_of(compared, name, key) for key in keys]
        if any(found):
            rows.append([name, *(float(f"{statistics.median(times):.3g}") if times else None for times in found)])
    notes = [
        "resume: from an opened loader for ours (its opening is told beside it), opening and skipping for the peers",
        "in a process that has read batches already; imports and starting Python are in no figure",
    ]
    header = ["contender", "opening ms", "opening and first batch ms", "first batch at 80 % ms"]
    return Table(title="time to the first batch", header=header, rows=rows, notes=notes)


class _Judge:
    """Looks a contender's first batches up in the bins; ours proves itself by its oracle."""

    def __init__(self, root: Path) -> None:
        self._file = (root / "peers" / "tokens.bin").open("rb")
        self._held = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def __call__(self, name: str, reply: Reply, work: Path) -> str | None:
        """What is wrong, if anything is."""
        failed = [check for check, passed in reply["check"].items() if not passed]
        if failed:
            return f"not {failed[0]}"
        batches = np.load(work / "batches.npz")
        inputs, targets = batches["inputs"], batches["targets"]
        if not inputs.dtype == targets.dtype == np.int64 or inputs.shape[1] != load_data.BATCH_ROWS:
            return f"{inputs.dtype} of shape {inputs.shape[1:]}"
        if (inputs[0] == inputs[1]).all():
            return "the second batch is the first again"
        if name.startswith("quern"):
            return None
        if not (inputs[:, :, 1:] == targets[:, :, :-1]).all():
            return "targets are not the inputs one later"
        rows = np.concatenate((inputs[:, ::4], targets[:, ::4, -1:]), axis=2)
        return None if all(map(self._is_held, rows.reshape(-1, rows.shape[-1]))) else "tokens that are in no bin"

    def _is_held(self, row: np.ndarray) -> bool:
        """Every run between end tokens occurs in the bins (a peer may put documents together in any order)."""
        runs = np.split(row.astype("<u2"), np.flatnonzero(row == _END) + 1)
        return all(self._held.find(run.tobytes()) >= 0 for run in runs if len(run))

    def close(self) -> None:
        """Let go of the bins."""
        self._held.close()
        self._file.close()
