"""Steps trained by real gloo processes: each rank's share by the trainer's own code; what gradients came of it."""

import gc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing

from dataprep.batch import Batch
from dataprep.shapes import PRESETS
from train.gradients import accumulate_gradients, among_ranks
from train.kernels import compile_trouble
from train.model import GPT
from train.ranks import Ranks

SEQ_LEN, VOCAB_SIZE, PAD = 16, 70, 69


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: all rows of all ranks, padding rows included, and how they fall on micro-batches."""

    arrays: tuple[np.ndarray, ...]  # of all rows: inputs, targets, and documents or not
    micro_batch: int
    compiled: bool = False
    times: int = 1  # taken so often from the same weights; the last time's gradients are the answer

    @property
    def loss_tokens(self) -> int:
        return int((self.arrays[1] != -1).sum())

    def share(self, ranks: Ranks) -> list[np.ndarray]:
        """This rank's arrays_AMT."""
        n_rows = len(self.arrays[0]) // ranks.world_size
        mine = slice(ranks.rank * n_rows, (ranks.rank + 1) * n_rows)
        return [array[mine].reshape(-1, self.micro_batch, SEQ_LEN) for array in self.arrays]


def make_model() -> GPT:
    torch.manual_seed(0)
    return GPT(PRESETS["nano"].shape, vocab_size=VOCAB_SIZE, seq_len=SEQ_LEN).double()


def trained_by(world_size: int, steps: list[Step], folder: Path) -> list[tuple[float, list[torch.Tensor]]]:
    """Each step's loss and gradients, as the last rank has them after that many processes computed together."""
    if world_size == 1:
        _rank(0, 1, steps, folder)
    else:
        torch.multiprocessing.spawn(_rank, args=(world_size, steps, folder), nprocs=world_size)
    return torch.load(folder / "gradients.pt")


def _rank(rank: int, world_size: int, steps: list[Step], folder: Path) -> None:
    torch.set_num_threads(1)
    if world_size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    ranks = Ranks(rank=rank, world_size=world_size, device=torch.device("cpu"))
    found = [_train(step, ranks) for step in steps]
    if rank == world_size - 1:
        torch.save(found, folder / "gradients.pt")
    if world_size > 1:
        dist.barrier()
        gc.collect()  # as in train.ranks.joined: models wrapped by DDP hold on to the group and its threads
        dist.destroy_process_group()


def _train(step: Step, ranks: Ranks) -> tuple[float, list[torch.Tensor]]:
    model, arrays = make_model(), step.share(ranks)
    batch = Batch(
        seq_len=SEQ_LEN, world_size=ranks.world_size, micro_batch=step.micro_batch, accumulation=len(arrays[0])
    )
    by_document = len(arrays) > 2
    if step.compiled:
        assert compile_trouble(model, batch, by_document=by_document, backend="aot_eager") is None
    trained, loss = among_ranks(model, ranks, batch, by_document=by_document), 0.0
    for _ in range(step.times):
        trained.zero_grad()
        loss = accumulate_gradients(trained, arrays, loss_tokens=step.loss_tokens, ranks=ranks)
    return loss, [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
