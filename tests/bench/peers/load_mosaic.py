"""MosaicML streaming: rows of 2,049 tokens in MDS files on a local disk, shuffled, in a StreamingDataLoader.

Measured: its default shuffle; samples stacked once and widened once per batch; 0 or 2 workers.
Left out: writing the MDS files, a mixture. Resuming is not measured: its state needs a loader that got there first.
"""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from loading import BATCH_ROWS, SEQ_LEN, Stream, arguments, measure, prepared, split, tokens

try:
    import torchvision  # noqa: F401 -- streaming imports it, for its image data sets only
except RuntimeError:  # it was built for another torch than the one that is here
    for name in ("", ".datasets", ".datasets.folder", ".transforms", ".transforms.functional"):
        sys.modules[f"torchvision{name}"] = MagicMock(__spec__=ModuleSpec(f"torchvision{name}", None))
    sys.modules["torchvision.datasets"].VisionDataset = type("VisionDataset", (), {})
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset
from streaming.base.util import clean_stale_shared_memory


def make(root: Path, folder: Path) -> None:
    held = tokens(root)
    with MDSWriter(out=str(folder / "mds"), columns={"tokens": f"ndarray:uint16:{SEQ_LEN + 1}"}) as out:
        for start in range(0, len(held) - SEQ_LEN, SEQ_LEN + 1):
            out.write({"tokens": np.array(held[start : start + SEQ_LEN + 1])})


def collate(rows: list[dict[str, np.ndarray]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([row["tokens"] for row in rows]).astype(np.int64))


def main() -> None:
    args = arguments()
    folder = prepared(args, "mosaic", lambda into: make(args.root, into))
    clean_stale_shared_memory()

    def stream() -> Stream:
        held = StreamingDataset(local=str(folder / "mds"), shuffle=True, batch_size=BATCH_ROWS)
        loader = StreamingDataLoader(held, batch_size=BATCH_ROWS, num_workers=args.workers, collate_fn=collate)
        while True:
            for batch in loader:
                yield split(batch)

    measure(stream, args, ("mosaicml-streaming", "torch"))


if __name__ == "__main__":
    main()
