"""Foreign pages: what the README in an exported folder says, and what a person is told.

In:  the export's record and its files. Out: Markdown; notes.
Holds: what the format cannot carry is said, and that a hard link is the bin itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dataprep.console import table
from dataprep.foreign_export import Published

_NANOGPT_VOCAB_SIZE = 50_304  # what its train.py takes where nothing says otherwise


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format, for people: how its own reader opens it, what of ours it has no place for."""

    title: str
    reading: str
    loss: bool = False
    own_notes: Callable[[dict[str, Any]], list[str]] = lambda _: []

    def notes(self, record: dict[str, Any]) -> list[str]:
        """What the person should know of this export."""
        masked = any("loss_sha256" in shard for shard in record["shards"])
        lost = ["the format has no loss mask: what a user said would be learned like an answer"]
        return [*(lost if masked and not self.loss else []), *self.own_notes(record)]


def _nanogpt_notes(record: dict[str, Any]) -> list[str]:
    """nanoGPT opens both splits, and has a vocabulary size of its own."""
    splits, vocab_size = {shard["split"] for shard in record["shards"]}, record["tokenizer"]["vocab_size"]
    missing = [f"there is no {name}: nanoGPT opens it too" for split, name in _FILES.items() if split not in splits]
    large = [f"{vocab_size:,} ids: set vocab_size in train.py"] if vocab_size > _NANOGPT_VOCAB_SIZE else []
    return missing + large


_FILES = {"train": "train.bin", "holdout": "val.bin"}
FORMATS = {
    "nanogpt": Format(
        title="nanoGPT",
        reading="Put the folder (or a link to it) at `data/NAME` and train with `--dataset=NAME`. Or:\n\n"
        '    np.memmap("train.bin", dtype=np.uint16, mode="r")\n\n'
        "Several shards stand in one file in name order; the end token closes each document.",
        own_notes=_nanogpt_notes,
    ),
    "llmc": Format(
        title="llm.c and modded-nanogpt",
        reading="Name the files by a pattern, such as `-i 'FOLDER/*_train_*.bin' -j 'FOLDER/*_val_*.bin'`.\n"
        "256 int32 of header, then uint16 tokens. The end token stands before each document, as they expect:\n"
        "the tokens are our bin's, one place later. A shard of 2³¹ tokens or more is several files.",
    ),
    "megatron": Format(
        title="Megatron (megatron.core IndexedDataset)",
        reading="Give each pair by its name without a suffix: `--train-data-path FOLDER/train/SHARD …`, with\n"
        "`--tokenizer-type NullTokenizer`. One document is one sequence, and ends with the end token.",
    ),
    "datatrove": Format(
        title="datatrove",
        reading='    DatatroveFolderDataset("FOLDER/train", seq_len=2048, filename_pattern="*.ds", token_size=2)\n\n'
        "`.ds.index` has the ends of documents, `.ds.loss` a byte per token (1: it is learned) where there are roles.",
        loss=True,
    ),
    "dolma": Format(
        title="dolma and OLMo",
        reading="`data: paths: [FOLDER/train/SHARD.npy]`, dtype uint16. Despite the name there is no NPY header:\n"
        '`np.memmap(file, dtype="<u2", mode="r")`. `.csv.gz`: start, end, id, src, loc (the row in src, from 1).',
    ),
}


def page(about: dict[str, Any], files: Sequence[Published]) -> str:
    """The README of an exported folder."""
    format_, tokenizer = FORMATS[about["format"]], about["tokenizer"]
    rows = [[file.name, file.bytes, "link" if file.linked else "own bytes"] for file in files]
    tokens, n_shards = sum(shard["tokens"] for shard in about["shards"]), len(about["shards"])
    counts = (
        f"{tokens:,} tokens in {n_shards:,} shard{'s' if n_shards > 1 else ''}; the vocabulary is `{tokenizer['name']}`"
    )
    counts += f" with {tokenizer['vocab_size']:,} ids."
    notes = "".join(f"\n- {note}\n" for note in format_.notes(about))
    warning = (
        "**Files marked `link` are hard links to bins of the training data they came from. Changing one in place\n"
        "changes that data.** Replace or delete them freely; to edit, export again with `--copy`.\n"
    )
    return f"""# {about["source"]} for {format_.title}

{counts}
The end token is {tokenizer["end_id"]}. Documents without text are left out. Hashes: `quern-export.json`.

## How to read it

{format_.reading}
{notes}
## Files

{warning if any(file.linked for file in files) else ""}
{_indented(table(["file", "bytes", "what"], rows))}
"""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
