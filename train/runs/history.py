"""History: a training history written down as TOML, entry by entry, in the order it happened.

In:  FILE.toml. Out: `History`: supplies that are only counted, and entries.
Holds: a key that is missing, unknown or of another kind is refused by name; nothing is read or written but FILE.

    [[supply]]                            # text that is known by its size alone; leave it out for packed recipes
    name = "web"                          # what an entry calls its recipe
    shards = 178
    tokens-per-shard = 53_500_000         # or instead of both: tokens = 9_523_000_000
    recipe = "mix"                        # optional: supplies of one recipe are mixed,
    share = 70                            # … in the ratio of their shares (default: 1)

    [[entry]]
    run = "base"
    recipe = "web"                        # a supply, or a packed recipe; one that is the only supply may be left out
    parent = "other@5000"                 # optional: whose weights a new run began with
    stage = "pretrain"                    # optional: pretrain (default), midtrain, sft
    gpus = 4
    micro-batch = 18
    accumulation = 8                      # tokens of a step = gpus × micro-batch × accumulation × seq-len
    seq-len = 2048
    from-step = 0                         # where its weights stood; below the run's last step it is a rewind
    to-step = 5000
    saved = [1000, 5000]                  # optional: steps with a checkpoint (default: to-step); later ones were lost
    reread = true                         # optional: read from row 0 again (default: goes on where the weights stood)
    from-row = 64                         # optional instead: read from this row of the recipe
    deleted = true                        # optional: the run was deleted then; or a step: its checkpoints after it were
    params = 500_000_000                  # optional
"""

import hashlib
import tomllib
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from dataprep import quantity
from dataprep.errors import UsageError
from train.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class Supply:
    """Tokens that are only counted."""

    name: str
    tokens: int | None = None
    shards: int | None = None
    tokens_per_shard: int | None = None
    recipe: str | None = None
    share: int = 1

    @property
    def n_tokens(self) -> int:
        """All of them."""
        return self.tokens or (self.shards or 0) * (self.tokens_per_shard or 0)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One stretch of training: steps (from_step, to_step] of a run."""

    run: str
    gpus: int
    micro_batch: int
    accumulation: int
    seq_len: int
    from_step: int
    to_step: int
    recipe: str | None = None
    parent: str | None = None
    stage: str = "pretrain"
    saved: tuple[int, ...] | None = None
    reread: bool = False
    from_row: int | None = None
    deleted: bool | int = False
    params: int | None = None

    @property
    def batch_rows(self) -> int:
        """Rows of a step."""
        return self.gpus * self.micro_batch * self.accumulation

    @property
    def saved_steps(self) -> tuple[int, ...]:
        """Steps with a checkpoint."""
        return (self.to_step,) if self.saved is None else self.saved


@dataclass(frozen=True, kw_only=True)
class History:
    """A whole file. `sha256` is the file's: runs that were written from it are known by it."""

    file: Path
    sha256: str
    supplies: tuple[Supply, ...]
    entries: tuple[Entry, ...]


# Beyond these a number is a slip of the keyboard, and would fill memory or leave BIGINT.
_MOST_STEPS, _MOST_TOKENS = 10**7, 10**18


def _is_count(value: Any, lowest: int = 1) -> bool:
    return type(value) is int and lowest <= value <= _MOST_TOKENS  # true is a bool, and no 1


def _is_spelled(value: Any, parse: Callable[[str], object]) -> bool:
    try:
        return isinstance(value, str) and bool(parse(value))
    except ArgumentTypeError:
        return False


# What a key wants, in words, and whether a value is that. Every other key is a count.
Kind = tuple[str, Callable[[Any], bool]]
_COUNT: Kind = ("a whole number from 1 to 10^18", _is_count)
_PLACE: Kind = ("a whole number from 0 to 10^18", lambda value: _is_count(value, 0))
_NAME: Kind = ("a name", lambda value: _is_spelled(value, quantity.name))
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("name", "run", "recipe", "stage"), _NAME),
    **dict.fromkeys(("from-step", "from-row"), _PLACE),
    "parent": ("RUN@STEP", lambda value: _is_spelled(value, lambda text: quantity.run_at_step(text)[1] is not None)),
    "saved": ("a list of steps", lambda value: isinstance(value, list) and all(_is_count(step) for step in value)),
    "reread": ("true or false", lambda value: isinstance(value, bool)),
    "deleted": ("true, or a saved step", lambda value: isinstance(value, bool) or _is_count(value)),
}


def read_history(file: Path) -> History:
    """The history in `file`. Raises UsageError naming the entry and the key."""
    try:
        content = file.read_bytes()
        value = tomllib.loads(content.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            "the history cannot be read", seen=error, wanted="a TOML file", fix="look at docs/formats.md"
        ) from None
    unknown = value.keys() - {"supply", "entry"}
    supplies, entries = value.get("supply", []), value.get("entry", [])
    if unknown or not (entries and _is_tables(supplies) and _is_tables(entries)):
        raise UsageError(
            f"{file.name} is not a training history",
            seen=", ".join(value) or "nothing",
            wanted="[[entry]] tables, and [[supply]] tables where no recipe was packed",
            fix="look at docs/formats.md",
        )
    return History(
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        supplies=_distinct([_supply(f"supply {i}", table) for i, table in enumerate(supplies, 1)]),
        entries=tuple(_entry(f"entry {i}", table) for i, table in enumerate(entries, 1)),
    )


def refusal(where: str, problem: str, *, seen: object, wanted: str) -> UsageError:
    """What is wrong with one entry; nothing of the file is written then."""
    return UsageError(
        f"{where}: {problem}; nothing was written", seen=seen, wanted=wanted, fix=f"mend {where}, then replay again"
    )


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(table, dict) for table in value)


def _distinct(supplies: list[Supply]) -> tuple[Supply, ...]:
    """The supplies, where no two have one name: one table pasted twice would be twice the tokens."""
    names = [supply.name for supply in supplies]
    for i, supply in enumerate(supplies, 1):
        if supply.name in names[: i - 1]:
            raise refusal(f"supply {i}", "another one has its name", seen=supply.name, wanted="a name of its own")
    return tuple(supplies)


def _supply(where: str, table: dict[str, Any]) -> Supply:
    supply = Supply(**_checked(where, table, Supply))
    sizes = (supply.tokens, supply.shards, supply.tokens_per_shard)
    if [size is not None for size in sizes] not in ([True, False, False], [False, True, True]):
        wanted = "tokens, or shards and tokens-per-shard"
        raise refusal(where, "its size is not clear", seen=_shown(table), wanted=wanted)
    if supply.n_tokens > _MOST_TOKENS:
        raise refusal(
            where, "that is more text than there is", seen=f"{supply.n_tokens:,}", wanted="up to 10^18 tokens"
        )
    return supply


def _entry(where: str, table: dict[str, Any]) -> Entry:
    entry = Entry(**_checked(where, table, Entry))
    steps = range(entry.from_step + 1, entry.to_step + 1)
    if not steps:
        seen = f"{entry.from_step} to {entry.to_step}"
        raise refusal(where, "it goes backwards", seen=seen, wanted="a later to-step")
    n_tokens = (entry.to_step - entry.from_step) * entry.batch_rows * entry.seq_len
    if entry.to_step - entry.from_step > _MOST_STEPS or n_tokens > _MOST_TOKENS:
        seen = f"{entry.to_step - entry.from_step:,} steps, {n_tokens:,} tokens"
        raise refusal(where, "nobody trained that", seen=seen, wanted="up to 10^7 steps and 10^18 tokens")
    saved = list(entry.saved_steps)
    if saved != sorted(set(saved)) or any(step not in steps for step in saved):
        wanted = f"steps from {steps[0]} to {steps[-1]}, ascending"
        raise refusal(where, "it cannot have saved these", seen=f"saved = {saved}", wanted=wanted)
    if entry.stage not in STAGES:
        raise refusal(where, "there is no such stage", seen=entry.stage, wanted=", ".join(STAGES))
    if entry.reread and entry.from_row:
        seen = f"reread, from-row {entry.from_row}"
        raise refusal(where, "two rows to read on from", seen=seen, wanted="one of them")
    return entry


def _checked(where: str, table: dict[str, Any], kind: type[Supply | Entry]) -> dict[str, Any]:
    """The table's values by field name, each of the kind its key promises."""
    known = {field.name.replace("_", "-"): field for field in fields(kind)}
    needed = {key for key, field in known.items() if field.default is MISSING}
    if wrong := sorted(table.keys() - known.keys()):
        raise refusal(where, f"unknown key {', '.join(wrong)}", seen=_shown(table), wanted=", ".join(known))
    if missing := sorted(needed - table.keys()):
        raise refusal(where, f"no {', '.join(missing)}", seen=_shown(table), wanted=", ".join(sorted(needed)))
    return {known[key].name: _value(where, key, value) for key, value in table.items()}


def _value(where: str, key: str, value: Any) -> Any:
    wanted, fits = _KINDS.get(key, _COUNT)
    if not fits(value):
        raise refusal(where, f"{key} cannot be that", seen=repr(value), wanted=wanted)
    return tuple(value) if isinstance(value, list) else value


def _shown(table: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value!r}" for key, value in table.items()) or "nothing"
