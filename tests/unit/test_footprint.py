"""Estimates of memory against what torch really keeps, as far as a CPU can tell."""

from dataclasses import replace

import pytest
import torch

from dataprep.batch import Batch
from dataprep.footprint import activation_bytes, estimate_checkpoints, estimate_vram
from dataprep.shapes import PRESETS, ModelShape, count_parameters
from train.model import GPT

SHAPE = replace(PRESETS["124m"].shape, n_layers=2)
N_POSITIONS = 256


def kept_for_backward(shape: ModelShape) -> int:
    """Bytes that autograd saves of one forward pass up to the head, weights and their bf16 copies left out."""
    model = GPT(shape, vocab_size=320, seq_len=N_POSITIONS)
    sizes = {tuple(weight.shape) for weight in model.parameters()} | {
        tuple(weight.shape)[::-1] for weight in model.parameters()
    }
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in sizes:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage  # held, so that no address is used again
        return tensor

    ids = torch.zeros(1, N_POSITIONS, dtype=torch.int64)
    keeping = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with keeping, torch.autocast("cpu", dtype=torch.bfloat16):
        model._hidden(ids)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch says that a norm of bf16 is not fused on a CPU
def test_a_layer_keeps_about_as_many_bytes_as_estimated() -> None:
    deeper = replace(SHAPE, n_layers=3)
    seen = kept_for_backward(deeper) - kept_for_backward(SHAPE)
    estimated = (activation_bytes(deeper) - activation_bytes(SHAPE)) * N_POSITIONS
    assert estimated == pytest.approx(seen, rel=0.2)


def test_every_term_is_the_arithmetic_it_is_named_for() -> None:
    parameters = count_parameters(PRESETS["500m"].shape, 50_268)
    batch = Batch(seq_len=2048, world_size=4, micro_batch=8, accumulation=4)
    vram = estimate_vram(PRESETS["500m"].shape, parameters=parameters, vocab_size=50_268, batch=batch)
    assert (vram.weights, vram.gradients, vram.moments) == (2_003_710_976, 2_003_710_976, 4_007_421_952)
    assert vram.head_chunk == (1 << 27) * 12 + 50_304 * 1280 * 4
    assert vram.total == sum(vars(vram).values())


def test_the_micro_batch_takes_memory_and_accumulation_does_not() -> None:
    shape = PRESETS["124m"].shape
    base = Batch(seq_len=1024, world_size=1, micro_batch=4, accumulation=2)

    def activations(**change: int) -> int:
        return estimate_vram(shape, parameters=1, vocab_size=512, batch=replace(base, **change)).activations

    assert activations(micro_batch=8) == 2 * activations()
    assert activations(accumulation=64, world_size=8) == activations()


def test_checkpoints_are_weights_and_two_moments_and_one_more_while_it_is_written() -> None:
    kept = estimate_checkpoints(1_000_000, keep=2)
    assert (kept.one, kept.total) == (12_000_000, 36_000_000)
