"""Tensors: our weights under the names of transformers' Qwen3ForCausalLM. The numbers are not touched.

In:  a model. Out: {name: tensor}, contiguous, in one dtype.
Holds: every weight is there once; a tied head is not written. The embedding's padding is cut (50,304 rows become
       gpt2's 50,268 ids): no text trained it, and an id that no tokenizer knows could otherwise be drawn.
blocks.0.attention.query.weight → model.layers.0.self_attn.q_proj.weight
"""

import re

import torch
from torch import Tensor

from train.model import GPT

_OUTER = {
    "embedding.weight": "model.embed_tokens.weight",
    "final_norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
_VOCABULARY_ROWS = ("embedding.weight", "head.weight")
_IN_LAYER = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}
_LAYER = re.compile(r"blocks\.(\d+)\.(.+)\.weight")


def foreign_name(name: str) -> str:
    """A weight's name in Qwen3ForCausalLM. A KeyError is a part of the model that this file was not told of."""
    found = _LAYER.fullmatch(name)
    return f"model.layers.{found[1]}.{_IN_LAYER[found[2]]}.weight" if found else _OUTER[name]


def foreign_tensors(model: GPT, *, vocab_size: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Every weight in `dtype`; the tables with `vocab_size` rows, one for each id of the tokenizer."""
    return {
        foreign_name(name): (weight[:vocab_size] if name in _VOCABULARY_ROWS else weight).to(dtype).contiguous()
        for name, weight in model.state_dict().items()
    }


def round_weights(model: GPT, dtype: torch.dtype) -> None:
    """Give `model` the very numbers that a file in `dtype` holds, so that what remains to differ is not rounding."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.to(dtype))
