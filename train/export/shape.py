"""Shape: config.json and generation_config.json, from the model's shape and the vocabulary.

In:  a `ModelShape`, a `Vocab`, the longest context. Out: plain values for JSON.
Holds: what transformers 5 calls rope_parameters and dtype is also said in the words of version 4 (rope_theta,
       torch_dtype), which servers and converters still read.
Stops: a conversation's answer ends with <|assistant_end|>, a document with <|endoftext|>; generation stops at either.
"""

from typing import Any

from dataprep.rank_file import END
from dataprep.shapes import ModelShape
from dataprep.vocab import Vocab
from train.sampling import Sampling

ANSWER_END = "<|assistant_end|>"
_ROPE_BASE, _NORM_EPS, _INIT_STD = 10_000.0, 1e-6, 0.02  # of train.attention and train.model; the logits prove them
_OURS = Sampling()


def closing_special(*, talked: bool) -> str:
    """What ends an answer: where there was no conversation, the document's end."""
    return ANSWER_END if talked else END


def model_config(shape: ModelShape, vocab: Vocab, *, seq_len: int, dtype: str, talked: bool) -> dict[str, Any]:
    """config.json."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": _NORM_EPS,
        "initializer_range": _INIT_STD,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_cache": True,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": shape.n_layers,
        "layer_types": ["full_attention"] * shape.n_layers,
        "max_position_embeddings": seq_len,
        "rope_parameters": {"rope_type": "default", "rope_theta": _ROPE_BASE},
        "rope_theta": _ROPE_BASE,
        "tie_word_embeddings": shape.tied,
        "dtype": dtype,
        "torch_dtype": dtype,
        **_ids(vocab),
        "eos_token_id": vocab.specials[closing_special(talked=talked)],
    }


def generation_config(vocab: Vocab) -> dict[str, Any]:
    """generation_config.json: both stops whatever was trained, and the sampling that our own engine begins with."""
    stops = [vocab.specials[ANSWER_END], vocab.end_id]
    return {
        **_ids(vocab),
        "eos_token_id": stops,
        "do_sample": True,
        "temperature": _OURS.temperature,
        "top_k": _OURS.top_k,
    }


def _ids(vocab: Vocab) -> dict[str, int]:
    return {"bos_token_id": vocab.end_id, "pad_token_id": vocab.pad_id}
