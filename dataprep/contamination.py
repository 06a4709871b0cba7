"""Contamination: which evaluation items occur in the documents of a recipe's plan. A verb.

In:  an evaluation bundle and a recipe. Out: per task the share of items found; each with source, shard and file row.
     Kept as manifests/contamination/<recipe>-<bundle sha256[:12]>.json, from which evaluation leaves them out.
Holds: an item is found when n (13) token ids of it in a row, in the recipe's own tokenizer, stand in the plan inside
one document. Looked for is the text that the right answer makes, without shots, as it stands and with a space before
it; looked in is exactly what the plan's rows cover. A shorter item of 8 tokens or more must occur whole; below 8
tokens it is not judged, and counted so. What a task's items have in common is its own wording and no item's
(`judging` says from when on). An item that only its delimiter or its spelling parts from the document is
found by what lies on either side, if that is n tokens long: tokens at a piece's ends depend on what is beside it.
Run: python -m dataprep.contamination --bundle data/bundles/core-eval.zip --recipe mix
"""

from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dataprep.bundle import Bundle, open_bundle
from dataprep.console import Progress, print_json, print_next, table
from dataprep.contaminated import Contamination, TaskCount, publish_contamination
from dataprep.errors import DataError, Parser, UsageError, run
from dataprep.item_tokens import SHORTEST, encode_items
from dataprep.judging import FoundItem, count_unjudged, judge_items
from dataprep.ngrams import MAX_N, NgramIndex
from dataprep.overlap import find_overlap
from dataprep.paths import Paths, find_paths
from dataprep.recipe import Recipe, load_recipe, newest_recipe
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab

_TOKEN_BYTES = 2
_LISTED = 20


def main(argv: list[str] | None = None) -> int:
    """Look the plan through, keep what was found, print it."""
    args = _parse(argv)
    paths = find_paths()
    recipe = load_recipe(paths, args.recipe or newest_recipe(paths))
    bundle = open_bundle(args.bundle or paths.bundles / "core-eval.zip")
    found = look_through(paths, recipe, bundle, args.n, quiet=args.json)
    publish_contamination(paths, found)
    kept = paths.shown(paths.contamination(recipe.name, bundle.sha256))
    if args.json:
        print_json(asdict(found) | {"kept": kept})
    else:
        _print(found, kept, args.list, recipe.tokenizer)
    return 0


def look_through(paths: Paths, recipe: Recipe, bundle: Bundle, n: int, *, quiet: bool = True) -> Contamination:
    """Which items of the bundle occur in the recipe's plan. Raises DataError where a shard is not the planned one."""
    items = encode_items(bundle, _vocab(paths, recipe), n)
    index = NgramIndex(items.ids, items.starts_by_length())
    with Progress(f"look through {recipe.name}", recipe.tokens * _TOKEN_BYTES, quiet=quiet) as progress:
        overlap = find_overlap(paths, recipe, index, lambda tokens: progress.advance(tokens * _TOKEN_BYTES))
    judged, unjudged = judge_items(bundle, items, index, overlap.places, recipe.shards), count_unjudged(bundle, items)
    return Contamination(
        recipe=recipe.name,
        recipe_sha256=recipe.sha256,
        bundle=bundle.name,
        bundle_sha256=bundle.sha256,
        n=n,
        tokens=overlap.tokens,
        tasks=tuple(
            TaskCount(task=label, items=len(task.items), not_judged=unjudged[label], wording=judged.wording[label])
            for task in bundle.tasks
            for label in [task.label]
        ),
        found=tuple(judged.found),
    )


def _parse(argv: list[str] | None) -> Namespace:
    about = "Find the evaluation items that occur in the documents of a recipe's plan."
    parser = Parser(prog="python -m dataprep.contamination", description=about)
    add = parser.add_argument
    add("--bundle", type=Path, help="a .zip or a folder (default: the one that fetch --source core-eval brings)")
    add("--recipe", help="whose plan (default: the newest)")
    add("--n", type=int, default=13, help="tokens in a row that count as found (default 13)")
    add("--list", type=int, default=_LISTED, metavar="ITEMS", help=f"how many items to print (default {_LISTED})")
    add("--json", action="store_true", help="everything, exactly, for machines")
    args = parser.parse_args(argv)
    if not 1 <= args.n <= MAX_N:
        raise UsageError("--n is out of range", seen=args.n, wanted=f"1 to {MAX_N} tokens", fix="--n 13")
    return args


def _vocab(paths: Paths, recipe: Recipe) -> Vocab:
    vocab = load_vocab(paths, recipe.tokenizer)
    if vocab.fingerprint != recipe.fingerprint:
        raise DataError(
            f"recipe {recipe.name!r} was packed from bins of another vocabulary called {vocab.name!r}",
            seen=f"fingerprint {vocab.fingerprint[:12]}…",
            wanted=f"{recipe.fingerprint[:12]}…",
            fix=f"bring the old data/vocab/{vocab.name}.tiktoken back",
        )
    return vocab


def _print(found: Contamination, kept: str, n_listed: int, tokenizer: str) -> None:
    counts = Counter(item.task for item in found.found)
    tasks: list[tuple[Any, ...]] = [
        (task.task, task.items, task.not_judged, task.wording, counts[task.task]) for task in found.tasks
    ]
    tasks.append(("all", *(sum(column) for column in list(zip(*tasks, strict=True))[1:])))
    rows = [(*task, f"{task[4] / task[1]:.1%}") for task in tasks]
    print(
        f"{found.bundle} in the {found.tokens:,} tokens of {found.recipe}: {found.n} tokens in a row, or all of an item"
    )
    print(table(("task", "items", f"under {SHORTEST} tokens", "own wording", "contaminated", "share"), rows))
    most = sorted(found.found, key=lambda item: -item.n_matched / item.n_grams)[: max(0, n_listed)]
    if most:
        print(f"\nthe {len(most):,} most complete of {len(found.found):,}; all of them: {kept}")
        print(
            table(("task", "item", "n-grams", "found", "source", "shard", "row of file"), [_row(item) for item in most])
        )
        first = most[0].documents[0]
        where = f"--shard {first.shard} --document {first.document} --tokenizer {tokenizer}"
        print_next(f"python -m dataprep.show {first.source} {where}")
    else:
        print(f"kept: {kept}")
        print_next("python -m train.evaluate --help   # CORE tells of every run what its recipes were checked for")


def _row(item: FoundItem) -> tuple[object, ...]:
    document = item.documents[0]
    return (
        item.task,
        item.item,
        item.n_grams,
        item.n_matched,
        document.source,
        document.shard,
        document.document,
    )


if __name__ == "__main__":
    run(main)
