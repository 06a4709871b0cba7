"""datatrove's DocumentTokenizer: one task per parquet file, a worker per core, documents in order, an end token each.

Measured: the executor's run, from parquet to .ds files with their document ends. Left out: imports. The workers read
tokenizer.json inside the timed part, once each.
"""

import os

from encode_common import N_WORKERS, Clock, arguments, say

asked = arguments()
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(asked.work / "hf"), "DATATROVE_COLORIZE_LOGS": "0"}

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer


def main() -> None:
    """Only the files asked for."""
    listed = asked.work / "files.txt"
    listed.write_text("".join(f"{file.name}\n" for file in asked.files))
    executor = LocalPipelineExecutor(
        pipeline=[
            ParquetReader(str(asked.text), paths_file=str(listed), read_metadata=False, batch_size=1024, id_key="text"),
            DocumentTokenizer(
                str(asked.work / "out"),
                tokenizer_name_or_path=str(asked.tokenizer_json),
                eos_token="<|endoftext|>",
                shuffle_documents=False,
            ),
        ],
        tasks=len(asked.files),
        workers=N_WORKERS,
        logging_dir=str(asked.work / "logs"),
    )
    clock = Clock()
    executor.run()
    clock.stop()
    names = sorted(str(file.relative_to(asked.work)) for file in (asked.work / "out").glob("*.ds"))
    # Its workers are a server's children, not ours: what they worked cannot be asked for.
    say(clock, asked.text_bytes, ["datatrove", "tokenizers"], tokens=names, cpu_seconds=None)


if __name__ == "__main__":
    main()
