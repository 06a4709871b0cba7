"""Footprint: an estimate of what a run takes of each GPU's memory and of the disk, every term by name.

In:  a shape, a batch, a vocabulary's size, tokens. Out: `Vram`, `Checkpoints`: bytes.
Holds: a term is one line of arithmetic that can be checked; totals are sums of terms. It is an estimate: of eager
       training in bf16 autocast with AdamW in fp32, all of the model on every GPU. torch.compile keeps fewer
       activations, Muon one moment instead of two for hidden matrices, and the allocator rounds up.
estimate_vram(PRESETS["500m"].shape, …).weights == 4 bytes × the parameters
"""

from dataclasses import asdict, dataclass

from dataprep.batch import Batch
from dataprep.gpus import GIB
from dataprep.shapes import ModelShape, padded_vocab_size

_FP32, _BF16 = 4, 2
_CHUNK_LOGITS = 1 << 27  # of one chunk of the head on a GPU: train/head.py
_LOGIT_BYTES = 12  # bf16 logits, their fp32 copy and its softmax, and the gradient in bf16
_CONTEXT = GIB  # CUDA's context, cuBLAS workspaces, NCCL's buffers


@dataclass(frozen=True, kw_only=True)
class Vram:
    """Bytes on each GPU at the fullest moment of a step."""

    weights: int
    gradients: int
    moments: int
    bf16_weights: int
    activations: int
    head_chunk: int
    context: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Bytes of one checkpoint (weights and two moments, fp32), and of those kept while one more is written."""

    one: int
    kept: int
    total: int


def estimate_vram(shape: ModelShape, *, parameters: int, vocab_size: int, batch: Batch) -> Vram:
    """The terms for one GPU; accumulation costs no memory, the micro-batch does."""
    positions = batch.micro_batch * batch.seq_len
    logits = min(positions * padded_vocab_size(vocab_size), _CHUNK_LOGITS)
    head_gradient = padded_vocab_size(vocab_size) * shape.width * _FP32
    return Vram(
        weights=parameters * _FP32,
        gradients=parameters * _FP32,
        moments=2 * parameters * _FP32,
        bf16_weights=parameters * _BF16,
        activations=positions * activation_bytes(shape),
        head_chunk=logits * _LOGIT_BYTES + head_gradient,
        context=_CONTEXT,
    )


def activation_bytes(shape: ModelShape) -> int:
    """What one position keeps for the backward pass; a test compares it with what autograd does keep.

    Per layer: two norms, each its input and its normalised copy, in fp32; five bf16 copies of what they gave, for the
    queries, keys, values, gate and up; queries and keys as their norms see them (two fp32 copies) and rotated, values
    and the mixed values, in bf16; gate, its silu, up and their product, in bf16. Then the last norm, and the gradient
    that the head hands back.
    """
    queries, keys = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    norm = 2 * shape.width * _FP32
    copies = 5 * shape.width * _BF16
    attention = 2 * (queries + keys) * _FP32 + (2 * queries + 2 * keys) * _BF16
    mlp = 4 * shape.mlp_width * _BF16
    return shape.n_layers * (2 * norm + copies + attention + mlp) + norm + shape.width * (_BF16 + _FP32)


def estimate_checkpoints(parameters: int, *, keep: int, optimizer: str = "adamw") -> Checkpoints:
    """The newest `keep` stay; the next one is whole before the oldest goes. Of Muon, the least it can be."""
    one = (3 if optimizer == "adamw" else 2) * parameters * _FP32
    return Checkpoints(one=one, kept=keep, total=(keep + 1) * one)
