"""Budget: what a run takes, before any GPU is rented: tokens, steps, shards, hours, dollars, memory. A verb.

In:  a model, and one of --ratio, --flops, --tokens, --steps, --usd, --hours, or a packed --recipe.
Out: three estimates side by side and everything that follows from them; --json has the exact numbers.
Holds: the trainer's header asks the same `estimate_run`, so its numbers are these; what is not known is not guessed.
Run: python -m dataprep.budget --model 500m --ratio 20 --gpus 4xH100
"""

import argparse
import math
from dataclasses import replace
from fractions import Fraction

from dataprep.allowance import tokens_by_flops, tokens_by_hours, tokens_by_ratio
from dataprep.batch import Batch, choose_batch
from dataprep.budget_flags import parse_asked
from dataprep.budget_page import Budget, page
from dataprep.console import print_json, print_next
from dataprep.errors import BudgetError, UsageError, run
from dataprep.estimate import Model, count_model, estimate_run, expected_speed
from dataprep.gpus import gpu_table
from dataprep.paths import Paths, find_paths
from dataprep.recipe import Recipe, load_recipe
from dataprep.shapes import PRESETS
from dataprep.stock import take_stock_of, vocabulary

_SEQ_LEN = 2048
_MOST_TOKENS = 10**18  # more than there is text: a slip of the keyboard


def main(argv: list[str] | None = None) -> int:
    """Decide, print."""
    args = parse_asked(argv)
    budget = _budget(args, find_paths())
    if args.json:
        print_json(budget.to_json())
    else:
        print(page(budget))
        print_next(budget.next_command)
    return 0


def _budget(args: argparse.Namespace, paths: Paths) -> Budget:
    recipe = load_recipe(paths, args.recipe) if args.recipe else None
    tokenizer, vocab_size = vocabulary(paths, args.tokenizer) if recipe is None else _of_recipe(args, recipe)
    model, preset_name = _model(args, vocab_size)
    batch = _batch(args, preset_name, recipe)
    targets = _targets(args, model, batch, recipe)
    settings = {"targets": targets, "batch": batch, "model": model, "mfu": args.mfu}
    given = {"usd_per_hour": args.usd_per_hour, "tokens_per_s": args.tokens_per_s}
    asked_run = estimate_run(**settings, **given, gpu=args.gpus.gpu)
    others = [(gpu, estimate_run(**settings, gpu=gpu)) for gpu in gpu_table().gpus]
    return Budget(
        asked=_asked(args),
        model=model,
        preset=preset_name,
        is_preset=args.model is not None,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        rented=args.gpus,
        batch=batch,
        run=asked_run,
        by_gpu=tuple((gpu, asked_run if gpu == args.gpus.gpu else run) for gpu, run in others),
        recipe=recipe,
        stocks=() if recipe else take_stock_of(paths, tokenizer, args.source, args.catalogue, targets),
        keep=args.keep,
    )


def _batch(args: argparse.Namespace, preset_name: str, recipe: Recipe | None) -> Batch:
    """Tokens per step, factor by factor. Raises UsageError naming settings that divide.

    Tokens per step that nobody asked for are the preset's, or the nearest number that these GPUs and rows divide.
    """
    preset, seq_len = PRESETS[preset_name], args.seq_len or (recipe.seq_len if recipe else _SEQ_LEN)
    unit = seq_len * args.gpus.count * (args.micro_batch or max(1, preset.micro_batch_tokens // seq_len))
    nearest = max(1, round(Fraction(preset.batch_tokens, unit))) * unit
    return choose_batch(
        preset,
        seq_len=seq_len,
        world_size=args.gpus.count,
        batch_tokens=args.batch_tokens or nearest,
        micro_batch=args.micro_batch,
    )


def _asked(args: argparse.Namespace) -> tuple[str, float | int | str]:
    """The one thing that decides the tokens, as a flag and its value."""
    flags = ("ratio", "flops", "tokens", "steps", "usd", "hours", "recipe")
    flag = next(flag for flag in flags if getattr(args, flag) is not None)
    value = getattr(args, flag)
    return flag, float(value) if isinstance(value, Fraction) else value


def _model(args: argparse.Namespace, vocab_size: int) -> tuple[Model, str]:
    """The model, and the preset that gives batch and memory what a size alone does not say: the nearest one."""
    if args.model:
        return count_model(replace(PRESETS[args.model].shape, tied=args.head == "tied"), vocab_size), args.model
    # In orders of magnitude: 200M is as far from 100M as from 400M.
    sizes = {name: count_model(preset.shape, vocab_size).parameters for name, preset in PRESETS.items()}
    return Model(parameters=args.params), min(sizes, key=lambda name: abs(math.log(sizes[name] / args.params)))


def _targets(args: argparse.Namespace, model: Model, batch: Batch, recipe: Recipe | None) -> int:
    """The targets that what was asked for pays for."""
    n_parameters, step_tokens = model.parameters, batch.rows * batch.seq_len
    if recipe:
        return recipe.plan_rows * recipe.seq_len
    if args.usd or args.hours:
        return _bought(args, model, step_tokens)
    if args.ratio:
        targets = tokens_by_ratio(args.ratio, parameters=n_parameters)
    elif args.flops:
        targets = tokens_by_flops(args.flops, parameters=n_parameters)
    else:
        targets = args.tokens or args.steps * step_tokens
    _check_tokens(targets)
    return targets


def _bought(args: argparse.Namespace, model: Model, step_tokens: int) -> int:
    """What --usd or --hours buy, in whole steps. Raises BudgetError where that is none."""
    gpu, count = args.gpus.gpu, args.gpus.count
    speed = args.tokens_per_s or expected_speed(model, gpu, n_gpus=count, mfu=args.mfu)
    price = args.usd_per_hour or (gpu.usd_per_hour if gpu else None)
    if speed is None:
        raise _not_known("speed", args.gpus.name, "--tokens-per-s N, as measured, or --gpus 1xH100")
    if args.usd and price is None:
        raise _not_known("price", args.gpus.name, "--usd-per-hour USD, or --gpus 1xH100")
    per_hour = 1.0 if args.hours else count * (price or 0)
    hours = Fraction(args.hours or args.usd) / Fraction(per_hour)
    targets = tokens_by_hours(hours, tokens_per_s=speed, step_tokens=step_tokens)
    flag, unit = ("--hours", "hours") if args.hours else ("--usd", "dollars")
    if targets == 0:
        least = 1.01 * step_tokens / speed / 3600 * per_hour
        raise BudgetError(
            f"{flag} cannot buy one step",
            seen=f"{args.hours or args.usd:g} {unit}",
            wanted=f"at least {least:.2g} {unit} for a step of {step_tokens:,} tokens",
            fix=f"{flag} {least:.2g}, or a smaller --batch-tokens",
        )
    _check_tokens(targets)
    return targets


def _not_known(what: str, device: str, fix: str) -> UsageError:
    return UsageError(f"the {what} of {device} is not known", seen="not in the table", wanted=f"a {what}", fix=fix)


def _check_tokens(targets: int) -> None:
    if not 1 <= targets <= _MOST_TOKENS:
        raise BudgetError(
            "that is not a number of tokens to train on",
            seen=f"{targets:,}" if targets < _MOST_TOKENS else "more than 10^18 tokens",
            wanted="1 to 10^18",
            fix="another --ratio, --flops, --tokens, --steps, --usd or --hours",
        )


def _of_recipe(args: argparse.Namespace, recipe: Recipe) -> tuple[str, int]:
    """The recipe's tokenizer and its size; other rows than the recipe's are refused."""
    wanted = {"seq_len": recipe.seq_len, "tokenizer": recipe.tokenizer}
    for name, value in wanted.items():
        if getattr(args, name) not in (None, value):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"recipe {recipe.name!r} was packed otherwise",
                seen=f"{flag} {getattr(args, name)}",
                wanted=f"{flag} {value}",
                fix=f"leave {flag} out",
            )
    return recipe.tokenizer, recipe.vocab_size


if __name__ == "__main__":
    run(main)
