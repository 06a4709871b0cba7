"""torch's DataLoader over a memory map: one window per item, shuffled without replacement.

Measured: a Dataset whose map is opened once per process; the default collate; 0 or 2 workers.
          The collated windows are split into inputs and targets.
Left out: a mixture (the sources lie in one file). A resume replays the sampler: the seed's permutation, cut.
"""

import torch
from loading import BATCH_ROWS, SEQ_LEN, Stream, arguments, measure, split, tokens
from torch.utils.data import DataLoader, Dataset

args = arguments()


class Windows(Dataset):
    def __init__(self) -> None:
        self.tokens = tokens(args.root)

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // SEQ_LEN

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.tokens[index * SEQ_LEN : (index + 1) * SEQ_LEN + 1].astype("int64"))


def stream(skipped: float = 0.0) -> Stream:
    windows = Windows()
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0)).tolist()
    order = order[int(len(order) * skipped) :]
    while True:
        for batch in DataLoader(windows, BATCH_ROWS, sampler=order, num_workers=args.workers, drop_last=True):
            yield split(batch)


measure(stream, args, ("torch", "numpy"), resume=stream)
