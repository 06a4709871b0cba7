"""Model shapes by name, and their exact parameter counts. Knows no torch.

In:  a preset's name and a vocabulary's size. Out: a `Preset`; the number of parameters.
Holds: the count is a formula of the shape; a test compares it with the built model, tensor by tensor.
count_parameters(PRESETS["124m"].shape, 50_268) == 124_768_512
"""

from dataclasses import dataclass

VOCAB_MULTIPLE = 64  # matrix kernels like round sizes; gpt2's 50,268 ids become 50,304 rows


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A Qwen3-shaped transformer. `n_heads` query heads share `n_kv_heads` key and value heads."""

    n_layers: int
    width: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    mlp_width: int
    tied: bool = True  # the embedding is the output head too


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A shape, and what trains it well when the command line does not say otherwise."""

    shape: ModelShape
    batch_tokens: int
    micro_batch_tokens: int  # what one forward pass holds at once
    learning_rate: float


def _preset(shape: tuple[int, int, int, int, int, int], batch: int, micro: int, rate: float) -> Preset:
    layers, width, heads, kv_heads, head_dim, mlp_width = shape
    return Preset(
        shape=ModelShape(
            n_layers=layers, width=width, n_heads=heads, n_kv_heads=kv_heads, head_dim=head_dim, mlp_width=mlp_width
        ),
        batch_tokens=batch,
        micro_batch_tokens=micro,
        learning_rate=rate,
    )


# name: (layers, width, heads, key/value heads, head size, MLP width), tokens per step, per micro-batch, peak rate
PRESETS = {
    "nano": _preset((2, 32, 2, 1, 16, 64), 512, 256, 3e-3),  # for tests
    "tiny": _preset((2, 128, 4, 2, 32, 384), 1_024, 1_024, 4e-3),  # for the demo: a minute on two CPU cores
    "124m": _preset((12, 768, 12, 4, 64, 2_432), 524_288, 32_768, 1e-3),
    "350m": _preset((24, 1_024, 16, 4, 64, 3_200), 524_288, 32_768, 8e-4),
    "500m": _preset((24, 1_280, 10, 5, 128, 3_456), 524_288, 32_768, 6e-4),
    "1b": _preset((28, 1_536, 12, 6, 128, 5_632), 1_048_576, 16_384, 4e-4),
}


def padded_vocab_size(vocab_size: int) -> int:
    """`vocab_size` rounded up to the embedding's number of rows."""
    return -(-vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


def count_parameters(shape: ModelShape, vocab_size: int) -> int:
    """Every trained number; an embedding that is the head too counts once."""
    queries, keys = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    attention = shape.width * (2 * queries + 2 * keys) + 2 * shape.head_dim
    mlp = 3 * shape.width * shape.mlp_width
    layers = shape.n_layers * (attention + mlp + 2 * shape.width)
    n_tables = 1 if shape.tied else 2
    return n_tables * padded_vocab_size(vocab_size) * shape.width + layers + shape.width
