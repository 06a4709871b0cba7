"""Explain: where every token of a training step came from, document by document. A verb.

In:  a run, a step, perhaps one of its rows (by its number in the plan, as journals and messages have it).
Out: a line per document: source, file, row of the file, tokens; of one row also the text, its loss marked.
Holds: what is shown is read from the plan, the bins and their receipts: the very tokens the model was given.
Run: python -m dataprep.explain --run demo --step 24 --row 93
"""

import argparse
import sys
from dataclasses import asdict

import numpy as np

from dataprep import quantity
from dataprep.console import print_json, print_next, table
from dataprep.decoded import DIM, GREEN, PLAIN, Run, split_runs
from dataprep.errors import Parser, UsageError, run, visible
from dataprep.passes import split_passes
from dataprep.paths import Paths, find_paths
from dataprep.plan import open_plan
from dataprep.recipe import Recipe
from dataprep.row_documents import Part, PlannedShard, cut_documents, open_shard
from dataprep.seen import find_journal, refuse_counted, trained_recipe
from dataprep.step_rows import NOT_TAKEN, StepRows, find_step
from dataprep.supply import check_tokenizer
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab


def main(argv: list[str] | None = None) -> int:
    """Find the step's rows, cut them into documents, print them."""
    args = _parse(argv)
    paths = find_paths()
    taken = find_step(find_journal(paths, args.run), args.step, attempt=args.attempt)
    refuse_counted(taken.row_tokens, taken.recipe, where=f"run {taken.run}")
    recipe = trained_recipe(paths, taken.recipe, taken.recipe_sha256, where=f"run {taken.run}")
    stretches = _stretches(taken, recipe)
    asked = stretches if args.row is None else [_asked_row(taken, stretches, args.row)]
    plan = open_plan(paths, recipe)
    segments = [plan.segments(*rows) for rows in asked]
    numbers = np.unique(np.concatenate([some.shard for some in segments])).tolist()
    shards = {number: open_shard(paths, recipe, number) for number in numbers}
    cut = [document for some in segments for document in cut_documents(some, shards)]
    parts, texts = [part for _, part in cut], []
    if args.row is not None:
        vocab = _vocab(paths, recipe, shards)
        texts = [_runs(vocab, shards[number], part) for number, part in cut]
    if args.json:
        _print_json(taken, recipe, parts, texts)
    else:
        _print_head(taken, stretches)
        n_rows = 1 if texts else sum(last - first for first, last in stretches)
        _print(taken, parts, texts, n_rows=n_rows, seq_len=recipe.seq_len)
    return 0


def _stretches(taken: StepRows, recipe: Recipe) -> list[tuple[int, int]]:
    """The step's rows in the plan. Raises UsageError for a step that would begin after its end.

    A replayed run's steps may have read on beyond the end, which is from the plan's first row again.
    """
    if taken.state != NOT_TAKEN:
        passes = split_passes(taken.row_from, taken.row_to, recipe.plan_rows)
        return [(first - n * recipe.plan_rows, last - n * recipe.plan_rows) for n, first, last in passes]
    row_to = min(taken.row_to, recipe.plan_rows)
    if taken.row_from >= row_to:
        raise UsageError(
            f"the plan of run {taken.run!r} ends before step {taken.step}",
            seen=f"row {taken.row_from:,} would be the step's first",
            wanted=f"one of the {recipe.plan_rows:,} rows of {recipe.name}",
            fix='python -m dataprep.sql "SELECT run, max(step) FROM steps GROUP BY run"',
        )
    return [(taken.row_from, row_to)]


def _asked_row(taken: StepRows, stretches: list[tuple[int, int]], row: int) -> tuple[int, int]:
    """The one row. Raises UsageError where the step does not have it."""
    if not any(first <= row < last for first, last in stretches):
        raise UsageError(
            f"row {row:,} is not in step {taken.step} of run {taken.run!r}",
            seen=f"--row {row}",
            wanted=f"a row of the plan from {_listed(stretches)}",
            fix=f"python -m dataprep.explain --run {taken.run} --step {taken.step} --row {stretches[0][0]}",
        )
    return row, row + 1


def _listed(stretches: list[tuple[int, int]]) -> str:
    return ", then ".join(f"{first:,} to {last - 1:,}" for first, last in stretches)


def _vocab(paths: Paths, recipe: Recipe, shards: dict[int, PlannedShard]) -> Vocab:
    vocab = load_vocab(paths, recipe.tokenizer)
    for shard in shards.values():
        check_tokenizer(shard.receipt, vocab)
    return vocab


def _runs(vocab: Vocab, shard: PlannedShard, part: Part) -> list[Run]:
    return split_runs(vocab, shard.tokens[part.start : part.stop].tolist(), shard.loss(part.start, part.stop))


def _print_json(taken: StepRows, recipe: Recipe, parts: list[Part], texts: list[list[Run]]) -> None:
    """Documents in plan order; of one row each with its runs of text."""
    lines = [asdict(part) for part in parts]
    for line, runs in zip(lines, texts, strict=False):
        line["runs"] = [{"loss": run_.loss, "text": "".join(run_.tokens)} for run_ in runs]
    row_to = min(taken.row_to, recipe.plan_rows) if taken.state == NOT_TAKEN else taken.row_to
    step = {name: value for name, value in asdict(taken).items() if name != "row_tokens"}
    print_json(step | {"row_to": row_to, "documents": lines})


def _print_head(taken: StepRows, stretches: list[tuple[int, int]]) -> None:
    print(f"step {taken.step:,} of run {taken.run} ({taken.state}; attempt {taken.attempt}):", end=" ")
    print(f"rows {_listed(stretches)} of the plan of {taken.recipe}\n")


def _print(taken: StepRows, parts: list[Part], texts: list[list[Run]], *, n_rows: int, seq_len: int) -> None:
    header = ["row", "source", "file", "document", "of tokens", "from", "to", "tokens", "counted"]
    print(table(header, [_line(part) for part in parts]))
    tokens = sum(part.stop - part.start for part in parts)
    print(f"\n{n_rows:,} row{'s' if n_rows > 1 else ''} × {seq_len:,}: {tokens:,} tokens", end=", ")
    print(f"{sum(part.loss_tokens for part in parts):,} count; {n_rows * seq_len - tokens:,} padding")
    for origin in dict.fromkeys(_origin(part) for part in parts):
        print(visible(origin))
    for part, runs in zip(parts, texts, strict=False):
        place = f"document {part.document:,}, tokens {part.start:,} to {part.stop:,}"
        print(f"\n{part.source}, {visible(part.file)}, {place}:")
        print("".join(_shown(run_, coloured=sys.stdout.isatty()) for run_ in runs))
    if not texts:
        again = f" --attempt {taken.attempt}"
        print_next(f"python -m dataprep.explain --run {taken.run} --step {taken.step}{again} --row {parts[0].row}")


def _line(part: Part) -> list[object]:
    place = [part.document, part.document_tokens, part.start, part.stop, part.stop - part.start]
    return [part.row, part.source, part.file, *place, part.loss_tokens]


def _origin(part: Part) -> str:
    """Where a source's files came from."""
    revision = f" at {part.revision}" if part.revision else ""
    return f"{part.source}: {part.kind}{f' {part.repo}' if part.repo else ''}{revision}"


def _shown(run_: Run, *, coloured: bool) -> str:
    """Text as it is where it counts; else dim on a terminal, «in marks» elsewhere."""
    text = visible("".join(run_.tokens), keep="\n")
    if coloured:
        return f"{GREEN if run_.loss else DIM}{text}{PLAIN}"
    return text if run_.loss else f"«{text}»"


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m dataprep.explain", description="Say where every token of a step came from.")
    add = parser.add_argument
    add("--run", type=quantity.name, required=True, help="a run, in the trash or not")
    add("--step", type=quantity.count, required=True, help="a step it took, or takes next")
    add("--row", type=int, metavar="I", help="one row, by its number in the plan: its text too, the loss marked")
    add("--attempt", type=quantity.count, help="as this attempt took it (default: the last one that began before it)")
    add("--json", action="store_true", help="exact places for machines; with --row also the text")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
