"""Recipes: read back as packed; anything that decides the rows cannot be edited unnoticed."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataprep.errors import DataError
from dataprep.paths import Paths
from dataprep.recipe import (
    Recipe,
    RecipeShard,
    RecipeSource,
    load_recipe,
    newest_recipe,
    publish_recipe,
    read_recipe,
    recipe_names,
)

SOURCE = RecipeSource(
    source="alpha",
    share=0,
    asked=3,
    plan_rows=9,
    tokens=570,
    unique_tokens=570,
    loss_tokens=570,
    pad_tokens=6,
    documents=10,
    split_documents=4,
    passes=1,
    excluded_tokens=0,
    held_out_tokens=50,
    left_over_tokens=7,
    dropped_tokens=0,
)
RECIPE = Recipe(
    name="mix",
    mix=(3,),
    shares=(("alpha",),),
    unit="tokens",
    budget_tokens=576,
    budget_loss_tokens=None,
    budget_source_tokens=None,
    split="train",
    seq_len=64,
    strategy="concat",
    shuffle="rows",
    long="split",
    loss="all",
    attention="full",
    on_short="error",
    max_passes=4,
    epochs=1,
    seed=1,
    packer=1,
    tokenizer="tiny",
    fingerprint="f" * 64,
    vocab_size=272,
    end_id=260,
    pad_id=271,
    plan_rows=9,
    segments=12,
    largest_row=1,
    tokens=570,
    loss_tokens=570,
    pad_tokens=6,
    dropped_tokens=0,
    documents=10,
    split_documents=4,
    plan_bytes=999,
    plan_sha256="a" * 64,
    rows_sha256="b" * 64,
    sources=(SOURCE,),
    shards=(RecipeShard(source="alpha", shard="shard_00000", tokens=577, bin_sha256="c" * 64),),
)
SHARD = RECIPE.shards[0]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(root=tmp_path)


def edited(paths: Paths, pattern: str, replacement: str) -> Path:
    """The recipe's file with its first match of `pattern` changed."""
    publish_recipe(paths, RECIPE)
    file = paths.recipes / "mix.toml"
    text, n_changes = re.subn(pattern, replacement, file.read_text(), count=1, flags=re.MULTILINE)
    assert n_changes == 1
    file.write_text(text)
    return file


@pytest.mark.parametrize("budget_tokens", [None, 576])
def test_a_recipe_is_read_back_as_it_was_published(paths: Paths, budget_tokens: int | None) -> None:
    recipe = replace(RECIPE, budget_tokens=budget_tokens)
    publish_recipe(paths, recipe)
    assert load_recipe(paths, "mix") == recipe


@pytest.mark.parametrize(
    "changes",
    [
        {"mix": (4,)},
        {"unit": "documents"},
        {"budget_tokens": None},
        {"split": "holdout"},
        {"seq_len": 65},
        {"strategy": "pad"},
        {"shuffle": "documents"},
        {"loss": "assistant"},
        {"attention": "document"},
        {"on_short": "repeat"},
        {"seed": 2},
        {"packer": 2},
        {"fingerprint": "0" * 64},
        {"shares": (("beta",),)},
        {"long": "truncate"},
        {"epochs": 2},
        {"max_passes": 2},
        {"budget_loss_tokens": 7},
        {"shards": (replace(SHARD, loss_sha256="0" * 64),)},
        {"shards": (replace(SHARD, bin_sha256="0" * 64),)},
        {"shards": (replace(SHARD, tokens=1),)},
        {"shards": ()},
    ],
)
def test_the_hash_covers_everything_that_decides_the_rows(changes: dict[str, Any]) -> None:
    assert replace(RECIPE, **changes).sha256 != RECIPE.sha256


def test_the_hash_does_not_depend_on_the_name_it_goes_by() -> None:
    assert replace(RECIPE, name="other").sha256 == RECIPE.sha256


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"^seed = 1", "seed = 2"),
        (r"^seq_len = 64", "seq_len = 128"),
        (r"bin_sha256 = .c", 'bin_sha256 = "d'),
        (r"^sha256 = .", 'sha256 = "x'),
        (r'^name = "mix"', 'name = "mox"'),
        (r"^seed = 1", ""),
        (r"^seed = 1", "seed = 1\nmore = 2"),
        (r"^asked = 3", "asked = 3\nmore = 2"),
        (r"^asked = 3", ""),
        (r"^mix = ", "mux = "),
        (r"^sha256 = ", "sha = "),
        (r"^seed = 1", "seed = ="),
    ],
)
def test_a_recipe_that_was_edited_is_refused(paths: Paths, pattern: str, replacement: str) -> None:
    with pytest.raises(DataError, match=r"the recipe mix\.toml is not as it was packed"):
        read_recipe(edited(paths, pattern, replacement))


@pytest.mark.parametrize(
    ("pattern", "replacement"), [(r"^sha256 = .*", "sha256 = 5"), (r"^seed = 1", "seed = 2026-11-23")]
)
def test_a_value_of_another_type_is_refused(paths: Paths, pattern: str, replacement: str) -> None:
    with pytest.raises(DataError):
        read_recipe(edited(paths, pattern, replacement))


@pytest.mark.parametrize("key", ["plan_rows", "pad_id", "end_id", "vocab_size"])
def test_a_count_that_was_edited_is_refused(paths: Paths, key: str) -> None:
    with pytest.raises(DataError):
        read_recipe(edited(paths, rf"^{key} = .*", f"{key} = 7"))


@pytest.mark.parametrize("content", [b"", b"\xff", b"[", b"sources = 3\n", b'sha256 = "x"\nmix = 3\n'])
def test_a_file_that_is_no_recipe_is_refused(paths: Paths, content: bytes) -> None:
    publish_recipe(paths, RECIPE)
    (paths.recipes / "mix.toml").write_bytes(content)
    with pytest.raises(DataError):
        load_recipe(paths, "mix")


def test_a_recipe_under_another_name_than_its_own_is_refused(paths: Paths) -> None:
    publish_recipe(paths, RECIPE)
    (paths.recipes / "mix.toml").rename(paths.recipes / "copy.toml")
    with pytest.raises(DataError, match="is not as it was packed"):
        load_recipe(paths, "copy")


def test_the_newest_recipe_is_the_one_packed_last(paths: Paths) -> None:
    for number, name in enumerate(["b", "c", "a"]):
        publish_recipe(paths, replace(RECIPE, name=name))
        os.utime(paths.recipes / f"{name}.toml", ns=(number, number))
    (paths.recipes / ".c.toml.x.part").write_bytes(b"")
    (paths.recipes / ".hidden.toml").write_bytes(b"")
    assert recipe_names(paths) == ["b", "c", "a"]
    assert newest_recipe(paths) == "a"


def test_the_newest_recipe_is_none_of_held_out_shards(paths: Paths) -> None:
    publish_recipe(paths, replace(RECIPE, name="judge", split="holdout"))
    with pytest.raises(DataError, match="only held-out ones: judge"):
        newest_recipe(paths)
    publish_recipe(paths, RECIPE)
    os.utime(paths.recipes / "mix.toml", ns=(1, 1))
    assert newest_recipe(paths) == "mix"


def test_a_recipe_that_is_not_there_is_refused_with_those_there_are(paths: Paths) -> None:
    with pytest.raises(DataError, match="seen: no recipes"):
        load_recipe(paths, "mix")
    with pytest.raises(DataError, match="there is no recipe yet"):
        newest_recipe(paths)
    publish_recipe(paths, RECIPE)
    with pytest.raises(DataError, match="there is no recipe 'mox'\n  seen: mix"):
        load_recipe(paths, "mox")
