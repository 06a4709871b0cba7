"""nanoGPT's way (data/openwebtext/prepare.py): `datasets.map` with tiktoken, then batches into a memory map.

Measured: the map on all cores and the writing of one .bin. Left out: imports, and `datasets`' own copy of the
parquet files into Arrow files, which it makes once and keeps.
"""

import os

from encode_common import N_WORKERS, Clock, arguments, say, tiktoken_encoding

asked = arguments()
os.environ |= {"HF_HOME": str(asked.work / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import numpy as np
from datasets import load_dataset

encoding = tiktoken_encoding(asked.ranks)
end_id = encoding.n_vocab - 1


def process(example: dict) -> dict:
    """One document, the end token last."""
    ids = encoding.encode_ordinary(example["text"])
    ids.append(end_id)
    return {"ids": ids, "len": len(ids)}


def main() -> None:
    """Map, then write 1,024 pieces."""
    files = [str(file) for file in asked.files]
    dataset = load_dataset("parquet", data_files=files, split="train", cache_dir=str(asked.work / "hf"))
    clock = Clock()
    tokenized = dataset.map(process, remove_columns=dataset.column_names, num_proc=N_WORKERS)
    total = np.sum(tokenized["len"], dtype=np.uint64)
    tokens = np.memmap(asked.work / "train.bin", dtype=np.uint16, mode="w+", shape=(int(total),))
    place, n_pieces = 0, min(1024, len(tokenized))
    for number in range(n_pieces):
        piece = tokenized.shard(num_shards=n_pieces, index=number, contiguous=True).with_format("numpy")
        ids = np.concatenate(piece["ids"])
        tokens[place : place + len(ids)] = ids
        place += len(ids)
    tokens.flush()
    clock.stop()
    say(clock, asked.text_bytes, ["datasets", "tiktoken"], tokens=["train.bin"])


if __name__ == "__main__":
    main()
