"""Write: the files of an export, made from an opened run. No file here is final: the folder is published as a whole.

In:  an `Opened`, its `Provenance`, a dtype by name. Out: files in a folder.
    model.safetensors  config.json  generation_config.json  tokenizer.json  tokenizer_config.json  README.md
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from train.export.card import model_card
from train.export.provenance import Provenance
from train.export.shape import generation_config, model_config
from train.export.tensors import foreign_tensors
from train.export.tokenizer import tokenizer_config, tokenizer_json
from train.weights import Opened

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CARD = "README.md"


def write_export(folder: Path, opened: Opened, seen: Provenance, *, dtype: str, talked: bool) -> None:
    """Put every file there. The weights are those in memory, cut and named anew."""
    vocab, shape, seq_len = opened.vocab, opened.model.shape, opened.seq_len
    tensors = foreign_tensors(opened.model, vocab_size=vocab.vocab_size, dtype=DTYPES[dtype])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = model_config(shape, vocab, seq_len=seq_len, dtype=dtype, talked=talked)
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", generation_config(vocab))
    _write_json(folder / "tokenizer.json", tokenizer_json(vocab))
    _write_json(folder / "tokenizer_config.json", tokenizer_config(vocab, seq_len=seq_len, talked=talked))
    write_card(folder, opened, seen, dtype=dtype, talked=talked)


def write_card(folder: Path, opened: Opened, seen: Provenance, *, dtype: str, talked: bool) -> None:
    """README.md alone."""
    card = model_card(opened, seen, dtype=dtype, talked=talked)
    (folder / CARD).write_text(card, encoding="utf-8")


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
