"""Pack: a mixture asked for becomes a recipe and a plan of exact rows. A verb.

In:  a ratio, sources with bins, a budget. Out: manifests/recipes/<name>.toml and plans/<name>.parquet.
Holds: counts are integers taken from the plan itself; a recipe never changes under its name; the
plan is published first, so a recipe always has one.
Run: python -m dataprep.pack --mix 30:70 --sources python-docs,python-qa --tokens 1M --seq-len 256
"""

import argparse
import functools
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from dataprep import manifest, quantity
from dataprep.console import print_json, print_next, table
from dataprep.errors import DataError, Parser, UsageError, run
from dataprep.flocks import locked
from dataprep.index import print_notes
from dataprep.mending import make_again
from dataprep.paths import Paths, find_paths
from dataprep.placing import PlacedRows
from dataprep.plan import PLAN_BYTES_PER_SEGMENT, open_plan, publish_plan
from dataprep.planner import decide_plan
from dataprep.recipe import Recipe, RecipeSource, publish_recipe, read_recipe
from dataprep.request import ATTENTIONS, LOSSES, ON_SHORT, UNITS, Request
from dataprep.seen import settle_runs
from dataprep.sources import load_catalogue, refuse_bundle
from dataprep.space import check_free
from dataprep.strategies import LONGS, STRATEGIES
from dataprep.supply import choose_tokenizer, held_sources
from dataprep.temps import sweep
from dataprep.vocab_store import load_vocab


def main(argv: list[str] | None = None) -> int:
    """Pack, publish, report."""
    args = _parse(argv)
    paths = find_paths()
    for folder in (paths.recipes, paths.plans):
        sweep(folder)
    vocab = load_vocab(paths, choose_tokenizer(paths, args.tokenizer))
    request = _request(args, paths, vocab.name)
    with locked(paths.recipes / ".pack.lock"):  # two packs of one name would publish over each other
        recipe, placed = decide_plan(paths, vocab, request, args.name, only=_packed_before(paths, args.name, request))
        recipe, made = _publish(paths, recipe, placed)
    print_notes(manifest.rebuild(paths))
    if args.json:
        print_json({"made": made, "sha256": recipe.sha256} | asdict(recipe) | {"shards": len(recipe.shards)})
    else:
        _report(paths, recipe, made=made)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m dataprep.pack", description="Mix sources into a plan of exact rows.")
    add = parser.add_argument
    add("--mix", type=quantity.ratio, required=True, help="integer shares, such as 30:70; 1 = one source")
    add("--sources", help="one per share, comma-separated; a+b shares one, by supply (default: those with bins)")
    add("--name", type=quantity.name, help="the recipe's name (default: made from the mixture)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--tokens", type=quantity.count, help="budget in rows × seq-len, such as 5B (default: all)")
    budget.add_argument("--source-tokens", type=quantity.count, help="budget without padding")
    budget.add_argument("--loss-tokens", type=quantity.count, help="budget in targets that count")
    add("--seq-len", type=quantity.count, default=2048, help="targets in a row (default 2048)")
    add("--by", choices=UNITS, default="tokens", help="the unit of the ratio (default tokens)")
    add("--strategy", choices=STRATEGIES, default="concat", help="how rows are filled (default concat)")
    add("--shuffle", choices=["rows", "documents"], default="rows", help="concat: documents are shuffled first")
    add("--long", choices=LONGS, default="split", help="best-fit, pad: documents longer than a row (default split)")
    add("--loss", choices=LOSSES, default="all", help="which targets count (default all)")
    add("--attention", choices=ATTENTIONS, default="full", help="document: a token sees its own document only")
    add("--on-short", choices=ON_SHORT, default="error", help="when a share has too little (default error)")
    add("--max-passes", type=quantity.count, default=4, help="--on-short repeat: passes at most (default 4)")
    add("--epochs", type=quantity.count, default=1, help="the whole plan so many times (default 1)")
    exclude_help = "leave out what these weights hold, with their ancestry; may be given again (default: none)"
    add("--exclude-seen", type=quantity.run_at_step, action="append", metavar="RUN[@STEP]", help=exclude_help)
    add("--split", choices=["train", "holdout"], default="train", help="which shards to draw from")
    add("--tokenizer", help="whose bins (default: the only ones held)")
    add("--seed", type=quantity.seed, default=0, help="of every shuffle (default 0)")
    add("--catalogue", type=Path, metavar="FILE", help="more sources, as TOML")
    add("--json", action="store_true", help="exact numbers for machines")
    return parser.parse_args(argv)


def _request(args: argparse.Namespace, paths: Paths, tokenizer: str) -> Request:
    held = held_sources(paths, tokenizer, load_catalogue(args.catalogue))
    return Request(
        mix=args.mix,
        shares=_shares(args, held, again=functools.partial(make_again, paths, tokenizer=tokenizer)),
        unit=args.by,
        budget_tokens=args.tokens,
        budget_loss_tokens=args.loss_tokens,
        budget_source_tokens=args.source_tokens,
        seq_len=args.seq_len,
        split=args.split,
        strategy=args.strategy,
        shuffle=args.shuffle,
        long=args.long,
        loss=args.loss,
        attention=args.attention,
        on_short=args.on_short,
        max_passes=args.max_passes,
        epochs=args.epochs,
        seed=args.seed,
        exclude_seen=settle_runs(paths, args.exclude_seen or (), _excluded_before(paths, args.name)),
    )


def _shares(args: argparse.Namespace, held: list[str], *, again: Callable[[str], str]) -> tuple[tuple[str, ...], ...]:
    asked = args.sources or ",".join(held)
    shares = tuple(tuple(share.split("+")) for share in asked.split(","))
    sources = [source for share in shares for source in share]
    unknown = [source for source in sources if source not in held]
    for source in unknown:
        refuse_bundle(load_catalogue(args.catalogue), source)
    if unknown or len(shares) != len(args.mix) or len(set(sources)) != len(sources):
        raise UsageError(
            f"no bins of {', '.join(unknown)}" if unknown else "every share needs one source of its own",
            seen=f"--mix {':'.join(map(str, args.mix))} for {asked or 'no source'}",
            wanted=f"{len(args.mix)} of: {', '.join(held) or 'nothing is held'}",
            fix=again(unknown[0]) if unknown else _shares_fix(held, len(args.mix)),
        )
    return shares


def _shares_fix(held: list[str], n_shares: int) -> str:
    if len(held) < n_shares:
        return f"a --mix of {len(held)} shares, or make shards of another source"
    return f"--sources {','.join(held[:n_shares])}"


def _publish(paths: Paths, recipe: Recipe, placed: PlacedRows) -> tuple[Recipe, bool]:
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
    check_free(
        paths.plans,
        recipe.segments * PLAN_BYTES_PER_SEGMENT,
        f"the plan of {recipe.name!r}, {recipe.segments:,} segments",
        fix="free space, fewer --tokens, or DATAPREP_ROOT on a larger disk",
    )
    plan_bytes, plan_sha256 = publish_plan(paths, recipe.name, placed, recipe.shards)
    recipe = replace(recipe, plan_bytes=plan_bytes, plan_sha256=plan_sha256)
    publish_recipe(paths, recipe)
    return recipe, True


def _excluded_before(paths: Paths, name: str | None) -> tuple[str, ...]:
    """The weights that a recipe of this name, if there is one, was packed without."""
    file = paths.recipes / f"{name}.toml"
    return read_recipe(file).exclude_seen if name is not None and file.exists() else ()


def _packed_before(paths: Paths, name: str | None, request: Request) -> frozenset[tuple[str, str]] | None:
    """The shards this very request was packed from under this name: later ones do not change a recipe."""
    file = paths.recipes / f"{name}.toml"
    if name is None or not file.exists():
        return None
    earlier = read_recipe(file)
    same = all(getattr(earlier, key) == value for key, value in vars(request).items())
    return frozenset((shard.source, shard.shard) for shard in earlier.shards) if same else None


def _is_whole(paths: Paths, recipe: Recipe) -> bool:
    try:
        open_plan(paths, recipe)
    except DataError:
        return False
    return True


def _report(paths: Paths, recipe: Recipe, *, made: bool) -> None:
    shown = paths.shown(paths.plans / f"{recipe.name}.parquet")
    print(f"{'packed' if made else 'already packed'}: recipe {recipe.name}, plan {shown}\n")
    print(
        table(["source", "asked", "rows", "tokens", "loss tokens", "documents", "passes", "left over"], _lines(recipe))
    )
    targets = recipe.plan_rows * recipe.seq_len
    epochs = f", {recipe.epochs} epochs" if recipe.epochs > 1 else ""
    print(
        f"\n{recipe.plan_rows:,} rows × {recipe.seq_len:,} = {targets:,} targets{epochs}:"
        f" {recipe.tokens:,} tokens + {recipe.pad_tokens:,} padding, {recipe.tokens / targets:.3%} full"
    )
    print(
        f"{recipe.strategy}: {recipe.documents:,} documents end here, {recipe.split_documents:,} split,"
        f" {recipe.dropped_tokens:,} tokens truncated; {recipe.loss_tokens:,} targets count in the loss"
    )
    if recipe.exclude_seen:
        each = ", ".join(f"{source.source} {source.seen_tokens:,}" for source in recipe.sources)
        print(f"excluded as seen: {each} tokens, held by {', '.join(recipe.exclude_seen)}")
    print_next(f"torchrun --standalone --nproc_per_node=1 train/main.py --manifest --recipe {recipe.name}")


def _lines(recipe: Recipe) -> list[list[object]]:
    """A line per source; beside each count, its share of the plan."""
    totals = (recipe.plan_rows, recipe.tokens, recipe.loss_tokens, recipe.documents)
    return [
        [
            s.source,
            s.asked,
            *(f"{count:,}  {count / (total or 1):7.2%}" for count, total in zip(_counts(s), totals, strict=True)),
            s.passes,
            s.left_over_tokens,
        ]
        for s in recipe.sources
    ]


def _counts(source: RecipeSource) -> tuple[int, int, int, int]:
    return source.plan_rows, source.tokens, source.loss_tokens, source.documents


if __name__ == "__main__":
    run(main)
