"""The pages of `python -m train.evaluate`: what is judged, in which order, and how it reads.

In:  the parsed command line. Out: tables or JSON on the first rank's stdout; findings and outcomes on the disk.
Holds: each suite's records are kept as soon as it is done: what ends a later one costs no earlier one.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from dataprep.bundle import Bundle, open_bundle
from dataprep.console import print_json, print_next, table
from dataprep.errors import UsageError
from dataprep.ledger import Record
from dataprep.paths import Paths, find_paths
from train.core.compare import Difference, compare_outcomes
from train.core.outcomes import Outcomes, kept_outcomes
from train.core.scores import GPT2_XL, TaskScore, core_mean, with_error
from train.evaluation import evaluate_core, evaluate_held_out, evaluate_samples, known_outcomes, open_together
from train.findings import record_findings
from train.ranks import Ranks, joined
from train.validate import Ratio, Score
from train.weights import Opened


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every suite needs: whose weights, by what, among whom, and where to say how it goes."""

    paths: Paths
    opened: Opened
    bundle: Bundle | None
    ranks: Ranks
    args: argparse.Namespace

    def say(self, line: str) -> None:
        """Print on the first rank, for a person."""
        if not self.args.json:
            self.ranks.say(line)


def evaluate_page(args: argparse.Namespace) -> int:
    """Judge one run's weights by every suite asked for."""
    paths = find_paths()
    with joined(args.device) as ranks:
        bundle = ranks.agree(partial(_find_bundle, paths, args, wanted="core" in (args.suite or ())))
        opened = open_together(paths, ranks, *args.run)
        task = Task(paths=paths, opened=opened, bundle=bundle, ranks=ranks, args=args)
        task.say(f"{opened.label}: {opened.checkpoint.cursor.tokens_done:,} tokens in the weights, on {ranks.hardware}")
        records: list[Record] = []
        for suite in args.suite or ("heldout", *(("core",) if bundle else ()), "samples"):
            kind, made = _SUITES[suite](task)
            if ranks.is_first:
                record_findings(paths, opened, kind, made)
            records += made
        if ranks.is_first and args.json:
            print_json(_where(opened) | {"records": records})
        elif ranks.is_first:
            print_next(f"python -m train.evaluate --compare {opened.run}@STEP {opened.label}" if bundle else _FETCH)
    return 0


def compare_page(args: argparse.Namespace) -> int:
    """Say whether the second checkpoint knows more than the first."""
    paths = find_paths()
    with joined(args.device) as ranks:
        bundle = ranks.agree(partial(_find_bundle, paths, args, wanted=False))
        before, after = (_outcomes(paths, ranks, bundle, args, *which) for which in args.compare)
        differences = ranks.agree(lambda: compare_outcomes(before, after))
        if ranks.is_first and args.json:
            asked = {"before": before.label, "after": after.label, "bundle_sha256": before.bundle_sha256}
            parts = [asdict(of) | {"delta": of.delta, "verdict": of.verdict} for of in differences]
            print_json(asked | {"max_per_task": before.max_per_task, "differences": parts})
        elif ranks.is_first:
            print(_compared(before.label, after.label, differences))
            print_next(f"python -m train.evaluate --run {after.label} --suite samples")
    return 0


# ---- the suites: each says its table and gives its records


def _held_out(task: Task) -> tuple[str, list[Record]]:
    made = evaluate_held_out(task.paths, task.opened, task.ranks, batch_size=task.args.batch_size)
    if made.scores:
        task.say(f"\n{_held_out_table(made.scores)}")
    for note in made.notes:
        task.say(f"note: {note}")
    return "eval", made.records


def _core(task: Task) -> tuple[str, list[Record]]:
    assert task.bundle, "asked for by name it is there, or refused"
    how = {"max_per_task": task.args.max_per_task, "batch_size": task.args.batch_size}
    made = evaluate_core(task.paths, task.opened, task.bundle, task.ranks, say=task.say, **how)
    task.say(f"\n{_core_table(made.scores)}")
    for score in made.scores:
        for note in score.notes:
            task.say(f"note: {score.label}: {note}")
    return "eval", made.records


def _samples(task: Task) -> tuple[str, list[Record]]:
    made = task.ranks.agree(lambda: evaluate_samples(task.paths, task.opened) if task.ranks.is_first else [])
    for record in made:
        task.say(f"{record['prompt']!r} → {record['completion']!r}")
    return "sample", made


_SUITES: dict[str, Callable[[Task], tuple[str, list[Record]]]] = {
    "heldout": _held_out,
    "core": _core,
    "samples": _samples,
}
_FETCH = "python -m dataprep.fetch --source core-eval"


# ---- what they are judged by


def _find_bundle(paths: Paths, args: argparse.Namespace, *, wanted: bool) -> Bundle | None:
    """The bundle named, or the one fetched; None where none is there and none is wanted."""
    fetched = paths.root / "data" / "bundles" / "core-eval.zip"
    file = args.bundle or fetched
    return open_bundle(file) if args.bundle or wanted or fetched.exists() else None


def _outcomes(
    paths: Paths, ranks: Ranks, bundle: Bundle | None, args: argparse.Namespace, run: str, step: int | None
) -> Outcomes:
    """One checkpoint's answers: as they were kept, or asked for now."""
    opened = open_together(paths, ranks, run, step)
    if bundle is None:
        return ranks.agree(lambda: _kept(paths, opened, args.max_per_task))
    known = known_outcomes(paths, opened, bundle, ranks, max_per_task=args.max_per_task)
    if known:
        return known
    task = Task(paths=paths, opened=opened, bundle=bundle, ranks=ranks, args=args)
    task.say(f"{opened.label} was not asked yet:")
    kind, made = _core(task)
    if ranks.is_first:
        record_findings(paths, opened, kind, made)
    asked = known_outcomes(paths, opened, bundle, ranks, max_per_task=args.max_per_task)
    assert asked, "it was just kept"
    return asked


def _kept(paths: Paths, opened: Opened, max_per_task: int | None) -> Outcomes:
    """What was kept by an earlier evaluation, where its bundle is not at hand now."""
    kept = [of for of in kept_outcomes(paths, opened) if max_per_task in {None, of.max_per_task}]
    if kept:
        return kept[-1]
    raise UsageError(
        f"{opened.label} was not asked yet, and there is no bundle to ask it",
        seen="no --bundle, and none fetched",
        wanted="a bundle of tasks",
        fix=_FETCH,
    )


# ---- how it reads


def _held_out_table(scores: Sequence[Score]) -> str:
    def shown(of: Ratio) -> str:
        return f"{of.value:.4f}" if of.stderr is None else f"{of.value:.4f} ± {of.stderr:.4f}"

    rows = [(score.source, score.n_rows, shown(score.loss), shown(score.bits_per_byte)) for score in scores]
    return table(["held out", "rows", "loss ±", "bits per byte ±"], rows)


def _core_table(scores: Sequence[TaskScore]) -> str:
    rows: list[list[Any]] = [
        [score.label, score.n_shots, score.n, with_error(score.accuracy), with_error(score.centered)]
        for score in scores
    ]
    rows.append(["CORE", None, sum(score.n for score in scores), "", with_error(core_mean(scores))])
    return f"{table(['task', 'shots', 'n', 'accuracy ±', 'centered ±'], rows)}\nGPT-2 XL's CORE is {GPT2_XL}"


def _compared(before: str, after: str, differences: Sequence[Difference]) -> str:
    rows = [
        [of.task, of.n, f"{of.before:.4f}", f"{of.after:.4f}", f"{of.delta:+.4f}", _interval(of), of.verdict]
        for of in differences
    ]
    core = differences[-1]
    header = ["centered", "n", before, after, "delta", "95 %", "verdict"]
    said = f"CORE from {before} to {after}: {core.delta:+.4f}, 95 % {_interval(core)}: {core.verdict}"
    return f"{table(header, rows)}\n{said}"


def _interval(of: Difference) -> str:
    return f"{of.low:+.4f} to {of.high:+.4f}"


def _where(opened: Opened) -> dict[str, Any]:
    cursor = opened.checkpoint.cursor
    counted = {"rows_done": cursor.rows_done, "tokens_done": cursor.tokens_done}
    where = {"run": opened.run, "step": cursor.step, **counted, "recipe": opened.recipe}
    return where | {"weights_sha256": opened.checkpoint.weights_sha256}
