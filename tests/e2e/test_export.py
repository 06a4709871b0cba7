"""Exports: what leaves the house is the same model, or nothing leaves it."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import byte_ranks, run_in, write_source, sentences
from safetensors.torch import load_file, save_file
from training import here, raising, settle

from dataprep import pack, shards
from dataprep.errors import DataError, EnvironmentProblem, UsageError
from dataprep.paths import Paths
from dataprep.publish import sha256_file
from dataprep.vocab_store import publish_vocab
from train.export import __main__ as export

pytest.importorskip("transformers")
TALK = '[talks]\nkind = "local"\npath = "talks"\nmessages = "messages"\nholdout = ["shard_00001"]\nlicence = "CC0 | mine"\n'


@pytest.fixture(scope="module")
def trained(packed_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run `base` (tied) of two checkpoints, `loose` (untied), and `talker`, which has seen conversations."""
    root = tmp_path_factory.mktemp("exported") / "root"
    shutil.copytree(packed_root, root)
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root)
        here("--run", "base", "--tokens", "8000", "--checkpoint-every", "8", "--learning-rate", "0.01")
        here("--run", "loose", "--tokens", "2000", "--head", "untied")
        _teach_to_talk(root)
        here("--run", "talker", "--recipe", "chat", "--parent", "base", "--stage", "sft", "--tokens", "2000")
    return root


def _teach_to_talk(root: Path) -> None:
    (root / "talks").mkdir()
    with (root / "my.toml").open("a") as catalogue:
        catalogue.write(TALK)
    for shard in ("shard_00000", "shard_00001"):
        talk = [{"role": "user", "content": "the mill?"}, {"role": "assistant", "content": "It grinds."}]
        (root / f"talks/{shard}.jsonl").write_text((json.dumps({"messages": talk}) + "\n") * 150)
    asked = ["--source", "talks", "--n", "1", "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
    assert run_in(root, shards.main, *asked) == 0
    assert run_in(root, pack.main, "--mix", "1", "--sources", "talks", "--name", "chat", "--seq-len", "64") == 0
