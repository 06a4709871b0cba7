"""datatrove's DatatroveFolderDataset over .ds files, which are our bins by another name, under a DataLoader.

Measured: files in order, as its documentation has it (the data is meant to be shuffled before); 0 or 2 workers.
Left out: shuffling of rows, a mixture (files lie one after another), positions. A resume begins at a later item.
"""

from pathlib import Path

from datatrove.utils.dataset import DatatroveFolderDataset
from loading import BATCH_ROWS, SEQ_LEN, Stream, arguments, measure, prepared, split
from torch.utils.data import DataLoader, Subset

args = arguments()


def make(folder: Path) -> None:
    for file in sorted(args.root.glob("data/bins/*/*/*.bin")):
        (folder / f"{file.parent.name}-{file.stem}.ds").symlink_to(file.resolve())


folder = prepared(args, "datatrove", make)


def stream(skipped: float = 0.0) -> Stream:
    held = DatatroveFolderDataset(str(folder), seq_len=SEQ_LEN, filename_pattern="*.ds", token_size=2, shuffle=True)
    items = Subset(held, range(int(len(held) * skipped), len(held)))
    while True:
        for batch in DataLoader(items, batch_size=BATCH_ROWS, num_workers=args.workers, drop_last=True):
            yield split(batch["input_ids"])


measure(stream, args, ("datatrove", "torch"), resume=stream)
