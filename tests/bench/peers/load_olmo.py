"""OLMo-core: NumpyFSLDataset over our bins as they are, in its NumpyFSLDataLoader.

Measured: rows of 2,048 tokens, shuffled, split into inputs and targets as its training step does; 0 or 2 workers,
          its default number of threads.
Left out: a mixture. A resume sets the number of batches done in its state_dict.
"""

import tempfile

from loading import BATCH_TOKENS, END_ID, SEQ_LEN, Stream, arguments, measure, split
from olmo_core.data import (
    DataLoaderBase,
    NumpyDataLoaderConfig,
    NumpyDatasetDType,
    NumpyFSLDatasetConfig,
    TokenizerConfig,
)


def main() -> None:
    args = arguments()
    work = tempfile.mkdtemp(dir=args.work)

    def opened() -> DataLoaderBase:
        held = NumpyFSLDatasetConfig(
            paths=[str(file) for file in sorted(args.root.glob("data/bins/*/*/*.bin"))],
            sequence_length=SEQ_LEN,
            tokenizer=TokenizerConfig(vocab_size=END_ID + 12, eos_token_id=END_ID, pad_token_id=END_ID + 11),
            dtype=NumpyDatasetDType.uint16,
            work_dir=work,
        ).build()
        held.prepare()
        config = NumpyDataLoaderConfig(global_batch_size=BATCH_TOKENS, seed=0, num_workers=args.workers)
        return config.build(held)

    def stream(skipped: float = 0.0) -> Stream:
        loader = opened()
        if skipped:
            loader.reshuffle(1)
            done = int(loader.total_batches * skipped)
            state = loader.state_dict() | {"batches_processed": done, "tokens_processed": done * BATCH_TOKENS}
            loader.load_state_dict(state)
        epoch = 1
        while True:
            loader.reshuffle(epoch)
            for batch in loader:
                yield split(batch["input_ids"])
            loader.reset()
            epoch += 1

    measure(stream, args, ("ai2-olmo-core", "torch"), resume=stream)


if __name__ == "__main__":
    main()
