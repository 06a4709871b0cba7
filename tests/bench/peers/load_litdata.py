"""litdata's TokensLoader: blocks out of optimized chunks, shuffled, in a StreamingDataLoader.

Measured: blocks of 2,049 tokens as stored (uint16), widened once per batch; 0 or 2 workers.
Left out: a mixture (one optimized folder; CombinedStreamingDataset would add to the time), making the chunks.
          Resuming is not measured: its state_dict needs a loader that got there first.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from litdata import StreamingDataLoader, StreamingDataset, TokensLoader, optimize
from loading import BATCH_ROWS, SEQ_LEN, Stream, arguments, measure, prepared, split, tokens

BLOCK = SEQ_LEN + 1
_PART = 1_024 * BLOCK


def blocks(part: tuple[Path, int]) -> Iterator[np.ndarray]:
    root, number = part
    held = tokens(root)[number * _PART : (number + 1) * _PART]
    yield np.array(held[: len(held) // BLOCK * BLOCK])


def make(root: Path, folder: Path) -> None:
    optimize(
        fn=blocks,
        inputs=[(root, number) for number in range(-(-len(tokens(root)) // _PART))],
        output_dir=str(folder),
        num_workers=1,
        chunk_size=4 * _PART,
        item_loader=TokensLoader(block_size=BLOCK),
        verbose=False,
    )


def main() -> None:
    args = arguments()
    folder = prepared(args, "litdata", lambda into: make(args.root, into))

    def stream() -> Stream:
        held = StreamingDataset(str(folder), item_loader=TokensLoader(block_size=BLOCK), shuffle=True, drop_last=True)
        loader = StreamingDataLoader(held, batch_size=BATCH_ROWS, num_workers=args.workers, drop_last=True)
        while True:
            for batch in loader:
                wide = batch.long() if hasattr(batch, "long") else np.asarray(batch).astype(np.int64)
                yield split(wide)

    measure(stream, args, ("litdata", "torch"))


if __name__ == "__main__":
    main()
