"""Tokens per second of the trainer's own step on one GPU, beside a plain baseline, in the same call.

In:  nothing: a model of the presets, a bin of random tokens. Out: a markdown table, and the same numbers as JSON.
Holds: before anything is timed, ours must give the baseline's loss and gradients; what does not fit into the
       time or the memory has a line that says so. MFU by 6N, and by 6N + 12 · layers · heads · head size · seq_len.
Run: bash tests/bench/gpu_train.sh   (imports train and dataprep.{shapes,batch,errors} alone: torch and numpy suffice)
"""

import argparse
import gc
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from gpu_step import PARTS, Rows, train
from head_loss import full_logits, torchs_own

from dataprep.batch import Batch
from dataprep.shapes import PRESETS, count_parameters
from train.gradients import precision
from train.head import summed_loss
from train.kernels import compile_trouble, varlen_trouble
from train.model import GPT
from train.optim import make_optimizer, set_learning_rate
from train.ranks import Ranks

RATE = 3e-4
HEADS = {"full logits": full_logits, "ours": summed_loss, "torch": torchs_own}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One line of the table."""

    model: str
    micro_batch: int
    head: str = "ours"
    compiled: bool = True
    optimizer: str = "adamw"  # "plain": torch's AdamW as it comes
    attention: str = "full"  # or documents, by "mask" or "varlen"

    @property
    def name(self) -> str:
        words = ["compiled" if self.compiled else "eager", self.optimizer, f"head: {self.head}"]
        return ", ".join(words + [f"documents: {self.attention}"] * (self.attention != "full"))


def variants(model: str, sizes: tuple[int, ...]) -> list[Variant]:
    """The most telling ones first: time may run out."""
    small, best = sizes[0], sizes[1]
    lines = [
        Variant(model=model, micro_batch=small, head="full logits", compiled=False, optimizer="plain"),
        Variant(model=model, micro_batch=best),
        Variant(model=model, micro_batch=best, compiled=False),
        Variant(model=model, micro_batch=best, optimizer="muon"),
        Variant(model=model, micro_batch=best, attention="varlen"),
        Variant(model=model, micro_batch=best, attention="mask"),
        *(Variant(model=model, micro_batch=size) for size in (*sizes[2:], small)),
    ]
    if hasattr(torch.nn.functional, "linear_cross_entropy"):
        lines.append(Variant(model=model, micro_batch=best, head="torch"))
    return lines


def measure(
    variant: Variant, ranks: Ranks, file: Path, *, vocab_size: int, seq_len: int, step_rows: int, backend: str
) -> dict:
    """One line's numbers."""
    shape, device = PRESETS[variant.model].shape, ranks.device
    by_document = variant.attention != "full"
    batch = Batch(
        seq_len=seq_len, world_size=1, micro_batch=variant.micro_batch, accumulation=step_rows // variant.micro_batch
    )
    torch.manual_seed(0)
    model = GPT(shape, vocab_size=vocab_size, seq_len=seq_len).to(device)
    if variant.attention == "varlen":
        trouble = varlen_trouble(model, device)
        if trouble:
            return {"failed": trouble}
        model.varlen = True
    started = time.perf_counter()
    if variant.compiled:
        trouble = compile_trouble(model, batch, by_document=by_document, backend=backend)
        if trouble:
            return {"failed": trouble}
    if variant.head != "ours":
        model.head_loss = HEADS[variant.head]
    compile_seconds = time.perf_counter() - started
    plain = variant.optimizer == "plain"
    optimizer = torch.optim.AdamW(model.parameters()) if plain else make_optimizer(model, variant.optimizer)
    set_learning_rate(optimizer, RATE)

    rows = Rows(file, seq_len, batch.micro_batch, batch.accumulation, documents=by_document)
    train(model, optimizer, rows, ranks, n_steps=2, apart=False)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    whole = train(model, optimizer, rows, ranks, n_steps=4, apart=False)
    apart = train(model, optimizer, rows, ranks, n_steps=2, apart=True)
    tokens_per_s = batch.rows * seq_len / whole["step"]
    n_parameters = count_parameters(shape, vocab_size)
    attention = 12 * shape.n_layers * shape.n_heads * shape.head_dim * seq_len
    peak = ranks.peak_flops
    return {
        "tokens_per_s": round(tokens_per_s),
        "mfu_6n": 6 * n_parameters * tokens_per_s / peak if peak else None,
        "mfu_with_attention": (6 * n_parameters + attention) * tokens_per_s / peak if peak else None,
        "vram_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
        "compile_s": compile_seconds if variant.compiled else None,
        "step_ms": 1e3 * whole["step"],
        **{f"{name}_ms": 1e3 * apart[name] for name in PARTS},
        "parameters": n_parameters,
        "step_tokens": batch.rows * seq_len,
    }


def equality(
    ranks: Ranks, file: Path, *, model_name: str, vocab_size: int, seq_len: int, backend: str
) -> dict[str, float | str]:
    """How far ours, eager and compiled, is from the baseline, relative; and whether varlen gives the mask's values."""
    found: dict[str, tuple[float, torch.Tensor]] = {}
    rows = Rows(file, seq_len, 2, 1, documents=False).take()
    inputs_BT, targets_BT = (torch.from_numpy(array[0]).to(ranks.device) for array in rows)
    torch.manual_seed(0)
    model = GPT(PRESETS[model_name].shape, vocab_size=vocab_size, seq_len=seq_len).to(ranks.device)
    distances: dict[str, float | str] = {"varlen": varlen_trouble(model, ranks.device) or "as the mask"}
    for name in ("baseline", "ours", "compiled"):
        model.head_loss = full_logits if name == "baseline" else summed_loss
        if name == "compiled":
            batch = Batch(seq_len=seq_len, world_size=1, micro_batch=2, accumulation=1)
            trouble = compile_trouble(model, batch, by_document=False, backend=backend)
            distances["compiler"] = trouble or "works"
            if trouble:
                break
        with precision(ranks.device):
            loss = model(inputs_BT, targets_BT) / targets_BT.numel()
        loss.backward()
        gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
        found[name] = loss.item(), gradient
        model.zero_grad()
    wanted_loss, wanted = found.pop("baseline")
    for name, (loss, gradient) in found.items():
        distances |= {f"{name}: loss": abs(loss / wanted_loss - 1)}
        distances |= {f"{name}: gradients": ((gradient - wanted).norm() / wanted.norm()).item()}
    return distances


def attempt(variant: Variant, ranks: Ranks, file: Path, **sizes: int | str) -> dict:
    """A line's numbers, or why there are none; memory is given back either way."""
    try:
        numbers = measure(variant, ranks, file, **sizes)  # pyright: ignore[reportArgumentType]
    except torch.OutOfMemoryError:
        numbers = {"failed": "out of memory"}
    torch._dynamo.reset()
    gc.collect()
    if ranks.device.type == "cuda":
        torch.cuda.empty_cache()
    return asdict(variant) | {"name": variant.name} | numbers


def line(numbers: dict) -> str:
    """One line of the table."""
    begin = f"| {numbers['model']} | {numbers['name']} | {numbers['micro_batch']} "
    if "failed" in numbers:
        return f"{begin}| {numbers['failed']} | | | | | | | | |"
    share = " / ".join(f"{x:.1%}" if x else "–" for x in (numbers["mfu_6n"], numbers["mfu_with_attention"]))
    rest = (numbers[name] for name in ("vram_gib", "compile_s", "step_ms", *(f"{part}_ms" for part in PARTS)))
    return (
        f"{begin}| {numbers['tokens_per_s']:,} | {share} | " + " | ".join(f"{x:.1f}" if x else "–" for x in rest) + " |"
    )


def main() -> None:
    """Compare, then time one variant after the other while there is time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, default=Path("gpu_train.json"))
    parser.add_argument("--seconds", type=int, default=430, help="no variant begins later")
    parser.add_argument("--smoke", action="store_true", help="a CPU and a tiny model: does the script work?")
    args = parser.parse_args()
    ends = time.perf_counter() + args.seconds
    device = torch.device("cpu" if args.smoke else "cuda")
    torch.set_float32_matmul_precision("high")
    ranks = Ranks(rank=0, world_size=1, device=device)
    vocab_size, seq_len, backend = (500, 32, "eager") if args.smoke else (50_268, 2_048, "inductor")
    # A quarter of the presets' step on a GPU: there the optimizer weighs four times what it does in a run.
    sizes = {"vocab_size": vocab_size, "seq_len": seq_len, "backend": backend, "step_rows": 4 if args.smoke else 64}
    todo = variants("nano", (1, 2, 4)) if args.smoke else variants("500m", (8, 16, 32)) + variants("124m", (16, 32, 64))
    print(f"torch {torch.__version__}, {ranks.hardware}, {sizes}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "random.bin")
        np.random.default_rng(0).integers(0, vocab_size, 1 << 23, dtype=np.uint16).tofile(file)
        same = equality(ranks, file, model_name=todo[0].model, vocab_size=vocab_size, seq_len=seq_len, backend=backend)
        print("\n".join(f"{name}: {distance}" for name, distance in same.items()), flush=True)
        print(
            "\n| model | variant | micro-batch | tok/s | MFU 6N / with attention | VRAM GiB | compile s | step ms |",
            end="",
        )
        print(" data | forward+backward | clip | optimizer |\n|" + "---|" * 12, flush=True)
        lines = []
        for variant in todo:
            late = {**asdict(variant), "name": variant.name, "failed": "not measured: no time was left"}
            lines.append(late if time.perf_counter() > ends else attempt(variant, ranks, file, **sizes))
            print(line(lines[-1]), flush=True)
            report = {"torch": torch.__version__, "hardware": ranks.hardware, "equality": same, "lines": lines}
            args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
