"""Loss masks and recipes that `pack` does not make: written by hand, published as the real ones are."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dataprep.bins import FileFact, read_receipt
from dataprep.hashing import sha256_file
from dataprep.paths import Paths
from dataprep.publish import publish_bytes
from dataprep.recipe import Recipe, RecipeShard, load_recipe, publish_recipe


def write_mask(root: Path, source: str, shard: str) -> np.ndarray:
    """Give a shard a loss mask, runs of 0 and 1 of 1 to 9 tokens; returns it, uint8[tokens]."""
    folder = Paths(root=root).bins("tiny-bpe", source)
    receipt = read_receipt(folder / f"{shard}.json")
    lengths = np.random.default_rng(7).integers(1, 10, size=receipt.tokens)
    mask = np.repeat(np.arange(len(lengths)) % 2, lengths)[: receipt.tokens].astype(np.uint8)
    file = folder / f"{shard}.loss"
    file.write_bytes(mask.tobytes())
    fact = FileFact(name=file.name, bytes=len(mask), sha256=sha256_file(file))
    told = replace(receipt, loss=fact, loss_tokens=int(mask.sum()))
    publish_bytes(folder / f"{shard}.json", json.dumps(told.to_json()).encode())
    return mask


def publish_variant(root: Path, name: str, **changes: Any) -> Recipe:
    """A recipe over the rows of `mix`, told otherwise."""
    paths = Paths(root=root)
    recipe = replace(load_recipe(paths, "mix"), name=name, **changes)
    if recipe.loss == "assistant":
        recipe = replace(recipe, shards=tuple(_with_mask(paths, shard) for shard in recipe.shards))
    shutil.copyfile(paths.plans / "mix.parquet", paths.plans / f"{name}.parquet")
    publish_recipe(paths, recipe)
    return recipe


def _with_mask(paths: Paths, shard: RecipeShard) -> RecipeShard:
    loss = read_receipt(paths.bins("tiny-bpe", shard.source) / f"{shard.shard}.json").loss
    return replace(shard, loss_sha256=loss.sha256 if loss else None)
