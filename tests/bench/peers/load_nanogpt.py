"""nanoGPT's get_batch: random crops of one memory-mapped file, stacked into tensors (train.py, CPU branch).

Measured: the map is opened again for each batch, as it does; crops are drawn with replacement.
Left out: a mixture (the sources lie in one file), epochs, any record of what was read; it cannot resume.
"""

import numpy as np
import torch
from loading import BATCH_ROWS, SEQ_LEN, Stream, arguments, measure

args = arguments()


def get_batch() -> tuple[torch.Tensor, torch.Tensor]:
    data = np.memmap(args.root / "peers" / "tokens.bin", dtype=np.uint16, mode="r")
    ix = torch.randint(len(data) - SEQ_LEN, (BATCH_ROWS,))
    x = torch.stack([torch.from_numpy((data[i : i + SEQ_LEN]).astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy((data[i + 1 : i + 1 + SEQ_LEN]).astype(np.int64)) for i in ix])
    return x, y


def stream() -> Stream:
    while True:
        yield get_batch()


measure(stream, args, ("torch", "numpy"))
