"""The commands that are killed: what each is given, what it runs on, and what it needs to have imported.

In:  a folder to work in. Out: `commands(work)`: each with a root as it is before, made by the real verbs.
Holds: everything here is made in forks, so that whoever forks next has used no library.
"""

import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conftest import byte_ranks, sentences, write_source
from crash.hub_apart import ENTRY as HUB_ENTRY
from crash.mortal import REPOSITORY, asked_of_a_child, attempt

from dataprep.paths import Paths

CORPUS = ("--catalogue", "{root}/my.toml", "--tokenizer", "tiny-bpe")
NANO = ("--manifest", "--recipe", "mix", "--model", "nano", "--device", "cpu", "--batch-tokens", "512")
SAVED = ("--run-name", "run", "--checkpoint-every", "2", "--keep", "2", "--validate-every", "4")
LIBRARIES = (
    "awkward",
    "duckdb",
    "gigatoken",
    "huggingface_hub",
    "huggingface_hub.file_download",
    "huggingface_hub.hf_api",
    "numpy",
    "polars",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "regex",
    "rich.progress",
    "tiktoken",
    "tomli_w",
)
TRAINER = ("torch", "torch._dynamo", "safetensors.torch", "train.loop")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command line. `made_by` are the commands that make its root; `indexes`: it leaves tokens.db as it must be."""

    name: str
    module: str
    arguments: tuple[str, ...]
    made_by: tuple[str, ...] = ()
    indexes: bool = True
    swaps: bool = False  # a folder for another, in two renames: for a moment neither has the name
    done_already: tuple[int, ...] = ()  # exit codes that say so: what was asked for is the case

    def main(self, root: Path) -> Callable[[], int | None]:
        """The command's main, with its arguments."""
        arguments = [argument.format(root=root) for argument in self.arguments]
        if self.module == "train.main":
            return lambda: _train(arguments)
        return lambda: importlib.import_module(self.module).main(arguments)

    def typed(self, root: Path) -> list[str]:
        """The same as the interpreter is given it."""
        arguments = [argument.format(root=root) for argument in self.arguments]
        script = (
            [str(REPOSITORY / "train/main.py")]
            if self.module == "train.main"
            else ["-m", self.module.removesuffix(".__main__")]
        )
        return [*script, *arguments]


COMMANDS = {
    command.name: command
    for command in (
        Command(name="shards", module="dataprep.shards", arguments=("--source", "notes", "--n", "2", *CORPUS)),
        Command(name="shards of talks", module="dataprep.shards", arguments=("--source", "talks", "--n", "1", *CORPUS)),
        Command(
            name="shards from a hub", module="dataprep.shards", arguments=("--source", "texts", "--n", "2", *CORPUS)
        ),
        Command(
            name="bpe",
            module="dataprep.bpe",
            arguments=("--name", "own", "--size", "300", "--sources", "notes", "--catalogue", "{root}/my.toml"),
            indexes=False,
        ),
        Command(
            name="pack",
            module="dataprep.pack",
            arguments=("--mix", "70:30", "--sources", "notes,talks", "--name", "mix", "--seq-len", "64"),
            made_by=("shards", "shards of talks"),
        ),
        Command(
            name="index", module="dataprep.index", arguments=(), made_by=("shards", "shards of talks", "pack", "no db")
        ),
        Command(
            name="export to nanogpt",
            module="dataprep.export",
            arguments=("--source", "talks", "--to", "nanogpt", "{root}/out/talks"),
            made_by=("shards of talks",),
        ),
        Command(
            name="export to datatrove",
            module="dataprep.export",
            arguments=("--source", "talks", "--to", "datatrove", "{root}/out/talks"),
            made_by=("shards of talks",),
        ),
        Command(
            name="import",
            module="dataprep.import",
            arguments=(*("--from", "nanogpt", "--source", "foreign", "--tokenizer", "tiny-bpe"), "{root}/out/talks"),
            made_by=("shards of talks", "export to nanogpt"),
        ),
        Command(
            name="an export, written",
            module="crash.replaced_export",
            arguments=("{root}/out/export", "before"),
            indexes=False,
        ),
        Command(
            name="an export, replaced",
            module="crash.replaced_export",
            arguments=("{root}/out/export", "after"),
            made_by=("an export, written",),
            indexes=False,
            swaps=True,
        ),
        Command(
            name="runs trash",
            module="train.runs.__main__",
            arguments=("trash", "run"),
            made_by=("shards", "shards of talks", "pack", "a run"),
            indexes=False,
            done_already=(2,),
        ),
        Command(
            name="runs restore",
            module="train.runs.__main__",
            arguments=("restore", "run"),
            made_by=("shards", "shards of talks", "pack", "a run", "runs trash"),
            indexes=False,
            done_already=(2,),
        ),
        Command(
            name="runs purge",
            module="train.runs.__main__",
            arguments=("purge", "run", "--yes", "--yes"),
            made_by=("shards", "shards of talks", "pack", "a run", "runs trash"),
            indexes=False,
        ),
        Command(
            name="train",
            module="train.main",
            arguments=(*NANO, *SAVED),
            made_by=("shards", "shards of talks", "pack"),
            indexes=False,
        ),
        Command(
            name="export of weights",
            module="train.export.__main__",
            arguments=("--run", "run", "--to", "hf", "--no-verify", "{root}/out/weights"),
            made_by=("shards", "shards of talks", "pack", "train"),
            indexes=False,
        ),
        Command(
            name="export of weights over another",
            module="train.export.__main__",
            arguments=(
                "--run",
                "run",
                "--to",
                "hf",
                "--dtype",
                "bfloat16",
                "--no-verify",
                "--force",
                "{root}/out/weights",
            ),
            made_by=("shards", "shards of talks", "pack", "train", "export of weights"),
            indexes=False,
            swaps=True,
        ),
    )
}


def preload(names: list[str]) -> None:
    """Import what these commands will, and no more: torch only for the trainer."""
    modules = [*LIBRARIES, *(COMMANDS[name].module for name in names if name != "train")]
    needs_torch = {"train", "export of weights", "export of weights over another"} & {*names}
    for module in [*modules, *TRAINER] if needs_torch else modules:
        importlib.import_module(module)


def make_root(made_by: tuple[str, ...], folder: Path) -> Path:
    """The root that a command finds, in `folder` with those it was made from: what is there already is taken."""
    root = folder / (", ".join(made_by) or "nothing")
    if root.exists():
        return root
    if not made_by:
        root.mkdir(parents=True)
        asked_of_a_child(lambda: _begin(root))
        return root
    *before, last = made_by
    copy_of(make_root(tuple(before), folder), root)
    if last == "no db":
        (root / "manifests/tokens.db").unlink()
    elif last == "a run":
        asked_of_a_child(lambda: _write_run(root))
    else:
        ended = attempt(COMMANDS[last].main(root), root)
        assert ended.code == 0, ended.said
    return root


def copy_of(root: Path, folder: Path) -> Path:
    """The same root elsewhere, with the times its files have."""
    return Path(shutil.copytree(root, folder, symlinks=True))


def _begin(root: Path) -> None:
    from dataprep.vocab_store import publish_vocab

    write_source(root, "notes", [sentences(f"notes{i}", 80) for i in range(3)])
    (root / "talks").mkdir()
    for shard in ("shard_00000", "shard_00001"):
        lines = [_talk(text) for text in sentences(f"talks {shard}", 60) if text]
        (root / "talks" / f"{shard}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with (root / "my.toml").open("a") as catalogue:
        catalogue.write('[talks]\nkind = "local"\npath = "talks"\nmessages = "messages"\nholdout = ["shard_00001"]\n')
        catalogue.write(HUB_ENTRY)
    publish_vocab(Paths(root=root), "tiny-bpe", byte_ranks(), origin="made by the tests")


def _talk(text: str) -> dict[str, list[dict[str, str]]]:
    asked, answered = {"role": "user", "content": text[:20]}, {"role": "assistant", "content": text}
    return {"messages": [asked, answered]}


def _write_run(root: Path) -> None:
    """A run as the trainer would leave it, with something in place of its weights."""
    from trained import Run

    from dataprep import manifest
    from dataprep.recipe import load_recipe

    paths = Paths(root=root)
    run = Run(paths, "run", load_recipe(paths, "mix"))
    run.start(batch_rows=8)
    for _ in range(4):
        run.take_step()
        run.save()
        folder = paths.checkpoints("run") / f"step_{run.step:08d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(f'{{"step": {run.step}}}')
    manifest.rebuild(paths)


def _train(arguments: list[str]) -> int:
    from train.config import parse_config
    from train.loop import train

    return train(parse_config(arguments))
