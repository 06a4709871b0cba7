"""The pages of `python -m train.evaluate`: what is judged, and in which order.

In:  the parsed command line. Out: tables or JSON on the first rank's stdout; findings and outcomes on the disk.
Holds: each suite's records are kept as soon as it is done: what ends a later one costs no earlier one.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dataprep.bundle import Bundle, open_bundle
from dataprep.console import print_json, print_next
from dataprep.errors import UsageError
from dataprep.ledger import Record
from dataprep.paths import Paths, find_paths
from train.core.compare import compare_outcomes
from train.core.outcomes import Outcomes, kept_outcomes
from train.evaluate_tables import compared, core_table, held_out_table, samples_table, seen_lines
from train.evaluation import evaluate_core, evaluate_held_out, evaluate_samples, known_outcomes, open_together
from train.findings import record_findings
from train.prompts import read_prompts, right_facts, shown_facts
from train.ranks import Ranks, joined
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
            print_next("python -m dataprep.index; " + _ABILITY if bundle else _FETCH)
    return 0


def compare_page(args: argparse.Namespace) -> int:
    """Say whether the second checkpoint knows more than the first."""
    paths = find_paths()
    with joined(args.device) as ranks:
        bundle = ranks.agree(partial(_find_bundle, paths, args, wanted=False))
        before, after = (_outcomes(paths, ranks, bundle, args, which) for which in args.compare)
        differences = ranks.agree(lambda: compare_outcomes(before, after))
        if ranks.is_first and args.json:
            asked = {"before": before.label, "after": after.label, "bundle_sha256": before.bundle_sha256}
            parts = [asdict(of) | {"delta": of.delta, "verdict": of.verdict} for of in differences]
            print_json(asked | {"max_per_task": before.max_per_task, "differences": parts})
        elif ranks.is_first:
            print(compared(before.label, after.label, differences))
            print_next(f"python -m train.evaluate --run {after.label} --suite samples")
    return 0


# ---- the suites: each says its table and gives its records


def _held_out(task: Task) -> tuple[str, list[Record]]:
    made = evaluate_held_out(task.paths, task.opened, task.ranks, batch_size=task.args.batch_size)
    if made.scores:
        task.say(f"\n{held_out_table(made.scores)}")
    for note in made.notes:
        task.say(f"note: {note}")
    return "eval", made.records


def _core(task: Task) -> tuple[str, list[Record]]:
    assert task.bundle, "asked for by name it is there, or refused"
    how = {"max_per_task": task.args.max_per_task, "batch_size": task.args.batch_size}
    made = evaluate_core(task.paths, task.opened, task.bundle, task.ranks, say=task.say, **how)
    task.say(f"\n{core_table(made.scores)}")
    for score in made.scores:
        for note in score.notes:
            task.say(f"note: {score.label}: {note}")
    for line in seen_lines(made, task.args.bundle or task.paths.shown(_fetched(task.paths))):
        task.say(line)
    return "eval", made.records


def _samples(task: Task) -> tuple[str, list[Record]]:
    file = task.args.prompts or task.opened.start.get("routine", {}).get("prompts")
    prompts = task.ranks.agree(lambda: read_prompts(file))
    first = task.ranks.is_first  # an answer takes a token after the other, and there are few of them
    made = task.ranks.agree(lambda: evaluate_samples(task.paths, task.opened, prompts) if first else [])
    if made:
        task.say(f"\n{samples_table(made)}")
        task.say(shown_facts(task.opened.checkpoint.cursor.step, prompts, right_facts(made), {}))
    if not prompts.asked(chat=False):
        task.say("note: this run asks no prompts; --prompts FILE asks some")
    return "sample", made


_SUITES: dict[str, Callable[[Task], tuple[str, list[Record]]]] = {
    "heldout": _held_out,
    "core": _core,
    "samples": _samples,
}
_ABILITY = "python -m dataprep.sql --file manifests/queries/ability_by_tokens.sql"
_FETCH = "python -m dataprep.fetch --source core-eval"


# ---- what they are judged by


def _find_bundle(paths: Paths, args: argparse.Namespace, *, wanted: bool) -> Bundle | None:
    """The bundle named, or the one fetched; None where none is there and none is wanted."""
    file = args.bundle or _fetched(paths)
    return open_bundle(file) if args.bundle or wanted or file.exists() else None


def _fetched(paths: Paths) -> Path:
    return paths.bundles / "core-eval.zip"


def _outcomes(
    paths: Paths, ranks: Ranks, bundle: Bundle | None, args: argparse.Namespace, which: tuple[str, int | None]
) -> Outcomes:
    """One checkpoint's answers: as they were kept, or asked for now."""
    opened = open_together(paths, ranks, *which)
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


def _where(opened: Opened) -> dict[str, Any]:
    cursor = opened.checkpoint.cursor
    counted = {"rows_done": cursor.rows_done, "tokens_done": cursor.tokens_done}
    where = {"run": opened.run, "step": cursor.step, **counted, "recipe": opened.recipe}
    return where | {"weights_sha256": opened.checkpoint.weights_sha256}
