"""dolma's `tokens` verb: one .json.gz file per process, an end token behind each document, .npy without a header.

Measured: the call that the verb makes, from .json.gz to memory maps with their document table. Left out: imports.
The workers read tokenizer.json inside the timed part, once each. dolma strips every text
and shuffles documents; neither can be turned off.
"""

from dolma.tokenizer import tokenize_in_parallel
from encode_common import N_WORKERS, Clock, arguments, say


def main() -> None:
    """Only the files asked for."""
    asked = arguments()
    sources = [str(asked.jsonl / "documents" / f"{file.stem}.json.gz") for file in asked.files]
    out = asked.work / "out"
    end_id = sum(1 for line in asked.ranks.read_bytes().splitlines() if line)
    clock = Clock()
    tokenize_in_parallel(
        sources=sources,
        destination=str(out),
        num_writers=N_WORKERS,
        tokenizer_name_or_path=str(asked.tokenizer_json),
        eos_token_id=end_id,
        pad_token_id=end_id,
        dtype="uint16",
        metadata_dir=str(asked.work / "done"),  # what it remembers here it would skip next time
    )
    clock.stop()
    names = sorted(str(file.relative_to(asked.work)) for file in out.glob("*.npy"))
    say(clock, asked.text_bytes, ["dolma", "tokenizers"], tokens=names)


if __name__ == "__main__":
    main()
