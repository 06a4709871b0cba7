"""Megatron-core: GPTDataset over an indexed dataset (.bin and .idx), documents shuffled, under a DataLoader.

Measured: its own document, sample and shuffle indices (built before the clock starts, by its compiled helper);
          position ids and loss masks are made per row, as it does; no attention mask; 0 or 2 workers.
Left out: a mixture (one dataset). A resume begins at a later sample, as its sampler does.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from loading import BATCH_ROWS, END_ID, SEQ_LEN, Stream, arguments, documents, measure, prepared, tokens
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from torch.utils.data import DataLoader, Subset


def make(root: Path, folder: Path) -> None:
    """The .idx as Megatron's IndexedDataset reads it: one sequence per document."""
    ends = documents(root)
    starts = np.concatenate(([0], ends[:-1]))
    (folder / "tokens.bin").symlink_to((root / "peers" / "tokens.bin").resolve())
    with (folder / "tokens.idx").open("wb") as out:
        out.write(b"MMIDIDX\x00\x00" + np.array([1], "<u8").tobytes() + np.array([8], "u1").tobytes())
        out.write(np.array([len(ends), len(ends) + 1], "<u8").tobytes())
        out.write((ends - starts).astype("<i4").tobytes() + (2 * starts).astype("<i8").tobytes())
        out.write(np.arange(len(ends) + 1, dtype="<i8").tobytes())


def opened(root: Path, folder: Path) -> GPTDataset:
    config = GPTDatasetConfig(
        random_seed=0,
        sequence_length=SEQ_LEN,
        blend=([str(folder / "tokens")], None),
        split="1",
        path_to_cache=str(folder / "cache"),
        tokenizer=SimpleNamespace(vocab_size=END_ID + 12, eod=END_ID, pad=END_ID + 11, unique_identifiers={}),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    n_samples = (len(tokens(root)) - 1) // SEQ_LEN // BATCH_ROWS * BATCH_ROWS
    return BlendedMegatronDatasetBuilder(GPTDataset, [n_samples, 0, 0], lambda: True, config).build()[0]


def main() -> None:
    args = arguments()
    folder = prepared(args, "megatron", lambda into: (make(args.root, into), opened(args.root, into)))

    def stream(skipped: float = 0.0) -> Stream:
        held = opened(args.root, folder)
        samples = Subset(held, range(int(len(held) * skipped), len(held)))
        while True:
            for batch in DataLoader(samples, batch_size=BATCH_ROWS, num_workers=args.workers, drop_last=True):
                yield batch["tokens"], batch["labels"]

    measure(stream, args, ("megatron-core", "torch"), resume=stream)


if __name__ == "__main__":
    main()
