"""Pack: a mixture asked for becomes a recipe and a plan of exact rows. A verb.

In:  a ratio, sources with bins, a budget. Out: manifests/recipes/<name>.toml and plans/<name>.parquet.
Holds: counts are integers taken from the plan itself; a recipe never changes under its name; the
plan is published first, so a recipe always has one.
Run: python -m dataprep.pack --mix 30:70 --sources python-docs,python-qa --tokens 1M --seq-len 256
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from dataprep import manifest, quantity
from dataprep.console import print_json, print_next, table
from dataprep.errors import DataError, Parser, UsageError, run
from dataprep.index import print_notes
from dataprep.packing import Segments
from dataprep.paths import Paths, find_paths
from dataprep.plan import open_plan, publish_plan
from dataprep.planner import Request, make_plan
from dataprep.publish import sweep
from dataprep.recipe import Recipe, publish_recipe, read_recipe
from dataprep.sources import load_catalogue
from dataprep.supply import choose_tokenizer, held_sources
from dataprep.vocab_store import load_vocab


def main(argv: list[str] | None = None) -> int:
    """Pack, publish, report."""
    args = _parse(argv)
    paths = find_paths()
    for folder in (paths.recipes, paths.plans):
        sweep(folder)
    vocab = load_vocab(paths, choose_tokenizer(paths, args.tokenizer))
    recipe, segments = make_plan(paths, vocab, _request(args, paths, vocab.name), args.name)
    recipe, made = _publish(paths, recipe, segments)
    print_notes(manifest.rebuild(paths))
    if args.json:
        print_json({"made": made, "sha256": recipe.sha256} | asdict(recipe) | {"shards": len(recipe.shards)})
    else:
        _report(paths, recipe, made=made)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m dataprep.pack", description="Mix sources into a plan of exact rows.")
    parser.add_argument(
        "--mix", type=quantity.ratio, required=True, help="integer shares, such as 30:70; 1 = one source"
    )
    parser.add_argument("--sources", help="comma-separated, in the order of --mix (default: those with bins)")
    parser.add_argument("--name", type=quantity.name, help="the recipe's name (default: made from the mixture)")
    parser.add_argument("--tokens", type=quantity.count, help="budget, such as 5B (default: all the ratio allows)")
    parser.add_argument("--seq-len", type=quantity.count, default=2048, help="targets in a row (default 2048)")
    parser.add_argument("--by", choices=["tokens"], default="tokens", help="the unit of the ratio")
    parser.add_argument("--strategy", choices=["concat"], default="concat", help="how rows are filled")
    parser.add_argument("--shuffle", choices=["rows", "documents"], default="rows", help="documents: those first")
    parser.add_argument("--loss", choices=["all"], default="all", help="which targets count")
    parser.add_argument("--attention", choices=["full"], default="full", help="how far a token sees")
    parser.add_argument("--on-short", choices=["error"], default="error", help="when a source has too little")
    parser.add_argument("--split", choices=["train", "holdout"], default="train", help="which shards to draw from")
    parser.add_argument("--tokenizer", help="whose bins (default: the only ones held)")
    parser.add_argument("--seed", type=int, default=0, help="of every shuffle (default 0)")
    parser.add_argument("--catalogue", type=Path, metavar="FILE", help="more sources, as TOML")
    parser.add_argument("--json", action="store_true", help="exact numbers for machines")
    return parser.parse_args(argv)


def _request(args: argparse.Namespace, paths: Paths, tokenizer: str) -> Request:
    catalogue = load_catalogue(args.catalogue)
    held = held_sources(paths, tokenizer, catalogue)
    sources = args.sources.split(",") if args.sources else held
    unknown = [source for source in sources if source not in held]
    if unknown or len(sources) != len(args.mix) or len(set(sources)) != len(sources):
        raise UsageError(
            f"no bins of {', '.join(unknown)}" if unknown else "every share needs one source of its own",
            seen=f"--mix {':'.join(map(str, args.mix))} for {', '.join(sources) or 'no source'}",
            wanted=f"{len(args.mix)} of: {', '.join(held) or 'nothing is held'}",
            fix=f"make shards SOURCE={unknown[0]} N=…" if unknown else f"--sources {','.join(held[: len(args.mix)])}",
        )
    return Request(
        mix=args.mix,
        sources=tuple(sources),
        budget_tokens=args.tokens,
        seq_len=args.seq_len,
        split=args.split,
        strategy=args.strategy,
        shuffle=args.shuffle,
        loss=args.loss,
        attention=args.attention,
        on_short=args.on_short,
        unit=args.by,
        seed=args.seed,
    )


def _publish(paths: Paths, recipe: Recipe, segments: Segments) -> tuple[Recipe, bool]:
    """Publish plan and recipe unless they are there already: (recipe, whether anything was made)."""
    file = paths.recipes / f"{recipe.name}.toml"
    if file.exists():
        earlier = read_recipe(file)
        if earlier.sha256 != recipe.sha256:
            raise UsageError(
                f"the name {recipe.name!r} is taken by another recipe",
                seen=f"{earlier.plan_rows:,} rows of {', '.join(s.source for s in earlier.sources)}",
                wanted="a new name: what was trained on it must stay known",
                fix="choose another --name",
            )
        if _is_whole(paths, earlier):
            return earlier, False
    plan_bytes, plan_sha256 = publish_plan(paths, recipe.name, segments, recipe.shards)
    recipe = replace(recipe, plan_bytes=plan_bytes, plan_sha256=plan_sha256)
    publish_recipe(paths, recipe)
    return recipe, True


def _is_whole(paths: Paths, recipe: Recipe) -> bool:
    try:
        open_plan(paths, recipe)
    except DataError:
        return False
    return True


def _report(paths: Paths, recipe: Recipe, *, made: bool) -> None:
    shown = paths.shown(paths.plans / f"{recipe.name}.parquet")
    print(f"{'packed' if made else 'already packed'}: recipe {recipe.name}, plan {shown}\n")
    rows = [
        [
            s.source,
            s.asked,
            s.plan_rows,
            f"{s.plan_rows / recipe.plan_rows:.2%}",
            s.tokens,
            s.documents,
            s.left_over_tokens,
        ]
        for s in recipe.sources
    ]
    print(table(["source", "asked", "rows", "share", "tokens", "documents", "tokens left over"], rows))
    print(
        f"\n{recipe.plan_rows:,} rows × {recipe.seq_len:,} = {recipe.plan_rows * recipe.seq_len:,} targets:"
        f" {recipe.tokens:,} tokens + {recipe.pad_tokens:,} padding"
    )
    if recipe.budget_tokens:
        print(
            f"budget {recipe.budget_tokens:,}: {recipe.budget_tokens % recipe.seq_len:,} tokens less than a row unused"
        )
    print_next(f"torchrun --standalone --nproc_per_node=1 train/main.py --manifest --recipe {recipe.name}")


if __name__ == "__main__":
    run(main)
