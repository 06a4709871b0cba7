"""Page: what a person reads after an export.

In:  the flags, the receipt. Out: a line, a table of what was compared, what to run next.
Holds: an export that was never loaded back says so last.
"""

import argparse
import shlex
from typing import Any

from dataprep.console import print_next, size, table
from dataprep.quantity import at_step
from train.export.write import CARD


def print_page(args: argparse.Namespace, receipt: dict[str, Any], *, was_there: bool, address: str | None) -> None:
    """All of it, on stdout."""
    label, verified = at_step(receipt["of"]["run"], receipt["of"]["step"]), receipt["verified"]
    n_bytes = sum(fact["bytes"] for fact in receipt["files"].values())
    where = "there already:" if was_there else "in"
    print(f"{label} is {where} {args.folder}: {size(n_bytes)}, {receipt['of']['dtype']}")
    if verified:
        print(table(("compared with our own model", "result"), _lines(verified)))
    if address:
        print(f"pushed to {address}, {'public' if args.public else 'private'}")
    again = f"python -m train.export --run {label} --to {args.to} {shlex.quote(str(args.folder))}"
    if not verified:
        print(f"NOT verified: {args.folder} was never loaded back")
        print_next(f"{again} --force   # with transformers installed: writes and verifies it")
    elif address:
        print_next(f"open {address}")
    else:
        print_next(f"{again} --push OWNER/NAME   # after reading {args.folder / CARD}")


def _lines(verified: dict[str, Any]) -> list[tuple[str, str]]:
    rounding = verified["rounding"]
    return [
        ("max |Δlogit|", f"{verified['max_logit_difference']:.2e} of {verified['logits']:,}"),
        *([] if rounding is None else [("of rounding the weights", f"{rounding:.2e}")]),
        ("greedy tokens", f"{verified['greedy_matched']} of {verified['greedy_steps']} the same"),
        ("token ids", f"{verified['text_tokens']:,} the same, {verified['texts']} texts"),
        ("conversations", f"{verified['conversations']} the same" if verified["conversations"] else "none: no chat"),
    ]
