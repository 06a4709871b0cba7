"""Recipes: what a plan was asked to hold, from which shards, and what it got, as one TOML file.

In:  the asked mixture and the packed counts. Out: `manifests/recipes/<name>.toml`, and back.
Holds: `sha256` covers everything that decides the rows: the asked mixture, the tokenizer's
fingerprint, every shard's hash and the packer's version. Counts are recounted by `verify`.
"""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dataprep.errors import DataError, quoted
from dataprep.paths import Paths
from dataprep.publish import publish_bytes
from dataprep.request import Request


@dataclass(frozen=True, kw_only=True)
class RecipeShard:
    """A shard the plan may take tokens from. `loss_sha256` where its mask decided which rows there are."""

    source: str
    shard: str
    tokens: int
    bin_sha256: str
    loss_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class RecipeSource:
    """One source: the share it belongs to, asked and got, and where its other tokens are.

    unique_tokens + excluded_tokens + held_out_tokens + left_over_tokens + dropped_tokens = all its tokens.
    `tokens` counts repeats, `unique_tokens` each token once; `passes` is how often the most used one occurs.
    Of the excluded ones, `seen_tokens` are in the weights that `exclude_seen` names.
    """

    source: str
    share: int
    asked: int
    plan_rows: int
    tokens: int
    unique_tokens: int
    loss_tokens: int
    pad_tokens: int
    documents: int
    split_documents: int
    passes: int
    excluded_tokens: int
    held_out_tokens: int
    left_over_tokens: int
    dropped_tokens: int
    seen_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Recipe(Request):
    """A mixture: what was asked for, with what, and what it got."""

    name: str
    # with
    packer: int
    tokenizer: str
    fingerprint: str
    vocab_size: int
    end_id: int
    pad_id: int
    # got
    plan_rows: int
    segments: int
    largest_row: int  # what one row held gives at most, in the ratio's unit: how far a prefix may be off
    tokens: int
    loss_tokens: int
    pad_tokens: int
    dropped_tokens: int
    documents: int
    split_documents: int
    plan_bytes: int
    plan_sha256: str
    rows_sha256: str
    sources: tuple[RecipeSource, ...]
    shards: tuple[RecipeShard, ...]
    seen_sha256: str | None = None  # of the runs of tokens that `exclude_seen` came to

    @property
    def sha256(self) -> str:
        """The hash of what decides the rows."""
        decisive = {key: getattr(self, key) for key in (*_ASKED, "packer", "fingerprint")} | {
            "shards": [asdict(shard) for shard in self.shards],
            "seen_sha256": self.seen_sha256,
        }
        return _hash(_without_silent(decisive))

    @property
    def counts_sha256(self) -> str:
        """The hash of everything: what was got, the ids and the plan's own hash as well."""
        return _hash(_without_silent(asdict(self)))


# What a recipe states of all its sources together.
TOTALS = (
    *("plan_rows", "tokens", "loss_tokens", "pad_tokens", "dropped_tokens"),
    *("documents", "split_documents"),
)
_ASKED = tuple(field.name for field in fields(Request))
# Fields that recipes did not always have. One that says nothing is neither hashed nor written: a recipe that excludes
# nothing is the recipe it was before there was excluding, and the journals that name it still find it.
_SILENT: dict[str, Any] = {"exclude_seen": (), "seen_sha256": None, "seen_tokens": 0}
_FLAGS = ("strategy", "shuffle", "long", "loss", "attention", "on_short", "max_passes", "epochs", "split", "seed")
_BUDGETS = ("budget_tokens", "budget_loss_tokens", "budget_source_tokens")


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def publish_recipe(paths: Paths, recipe: Recipe) -> None:
    """Publish the recipe; its plan must be published before it."""
    import tomli_w

    hashes = {"sha256": recipe.sha256, "counts_sha256": recipe.counts_sha256}
    value = _without_none(hashes | _without_silent(asdict(recipe)))
    text = f"# Made by `python -m dataprep.pack`; the plan is plans/{recipe.name}.parquet.\n" + tomli_w.dumps(value)
    publish_bytes(paths.recipes / f"{recipe.name}.toml", text.encode())


def _without_silent(value: Any) -> Any:
    """The value without later fields that say nothing."""
    if isinstance(value, dict):
        said = {key: item for key, item in value.items() if key not in _SILENT or item != _SILENT[key]}
        return {key: _without_silent(item) for key, item in said.items()}
    return [_without_silent(item) for item in value] if isinstance(value, list | tuple) else value


def _without_none(value: Any) -> Any:
    """The value as TOML can say it, which has no word for None."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value


def load_recipe(paths: Paths, name: str) -> Recipe:
    """The recipe called `name`. Raises DataError when there is none or it was edited by hand."""
    file = paths.recipes / f"{name}.toml"
    if not file.exists():
        raise DataError(
            f"there is no recipe {name!r}",
            seen=", ".join(recipe_names(paths)) or "no recipes",
            wanted=paths.shown(file),
            fix="python -m dataprep.pack --mix A:B --name " + name,
        )
    return read_recipe(file)


def read_recipe(file: Path) -> Recipe:
    """The recipe at `file`. Raises DataError when it is damaged or was edited."""
    try:
        value: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        stated = (value.pop("sha256"), value.pop("counts_sha256"))
        value["mix"] = tuple(value["mix"])
        value["shares"] = tuple(tuple(share) for share in value["shares"])
        value["exclude_seen"] = tuple(value.get("exclude_seen", ()))
        value["sources"] = tuple(RecipeSource(**source) for source in value["sources"])
        value["shards"] = tuple(RecipeShard(**shard) for shard in value["shards"])
        no_budget: dict[str, Any] = dict.fromkeys(_BUDGETS)
        recipe = Recipe(**no_budget | value)
        found = (recipe.sha256, recipe.counts_sha256)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(file, f"{type(error).__name__}: {error}", "a recipe as pack wrote it") from None
    if found != stated or recipe.name != file.stem:
        settings_stand = found[0] == stated[0] and recipe.name == file.stem  # a count changed, nothing that was asked
        again = pack_command(recipe) if settings_stand else None
        raise _damaged(file, f"hashes {_short(found)} of {recipe.name!r}", f"{_short(stated)} of {file.stem!r}", again)
    return recipe


def pack_command(recipe: Recipe) -> str:
    """What packs this very recipe again: everything that was asked, spelled out."""
    budgets = {"tokens": "budget_tokens", "source-tokens": "budget_source_tokens", "loss-tokens": "budget_loss_tokens"}
    flags = {
        "mix": ":".join(map(str, recipe.mix)),
        "sources": ",".join("+".join(share) for share in recipe.shares),
        "name": recipe.name,
        "tokenizer": recipe.tokenizer,
        "seq-len": recipe.seq_len,
        "by": recipe.unit,
        **{flag.replace("_", "-"): getattr(recipe, flag) for flag in _FLAGS},
        **{flag: getattr(recipe, field) for flag, field in budgets.items() if getattr(recipe, field) is not None},
    }
    excluded = "".join(f" --exclude-seen {run}" for run in recipe.exclude_seen)
    return "python -m dataprep.pack " + " ".join(f"--{flag} {value}" for flag, value in flags.items()) + excluded


def recipe_names(paths: Paths) -> list[str]:
    """Every recipe's name, newest last."""
    files = sorted(paths.recipes.glob("*.toml"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    return [file.stem for file in files if not file.name.startswith(".")]


def newest_recipe(paths: Paths) -> str:
    """The recipe to train on that was packed last: none of held-out shards. Raises DataError when there is none."""
    names = recipe_names(paths)
    for name in reversed(names):
        if load_recipe(paths, name).split == "train":
            return name
    raise DataError(
        "there is no recipe to train on" if names else "there is no recipe yet",
        seen=f"only held-out ones: {', '.join(names)}" if names else f"no file in {paths.shown(paths.recipes)}",
        wanted="a recipe to train on",
        fix="python -m dataprep.pack --mix 30:70 --tokens 1B",
    )


def _short(hashes: tuple[Any, ...]) -> str:
    return ", ".join(f"{str(item)[:12]}…" for item in hashes)


def _damaged(file: Path, seen: str, wanted: str, again: str | None = None) -> DataError:
    removed = f"rm {quoted(file)}"
    return DataError(
        f"the recipe {file.name} is not as it was packed",
        seen=seen,
        wanted=wanted,
        fix=f"{removed}; {again}" if again else f"{removed}   # then python -m dataprep.pack with the same settings",
    )
