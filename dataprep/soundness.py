"""Soundness: whether the bins of a plan still hold the bytes that their receipts name, asked before training.

In:  planned shards, and how closely to look. Out: nothing, or DataError naming the first file that changed.
Holds: `size` was compared when the bins were opened; `sampled` reads 4 KiB of every 8 MiB, and small files whole;
       `full` reads every byte. A large file whose receipt is from before there were sampled hashes is judged by size.
178 bins of 200 MB, sampled, cold: 4,450 reads, under 2 s.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dataprep.bins import FileFact, Receipt, mending_command, read_receipt
from dataprep.errors import DataError
from dataprep.hashing import sha256_file
from dataprep.paths import Paths
from dataprep.recipe import RecipeShard
from dataprep.sampled import WHOLE_BYTES, sampled_sha256

_READERS = 16  # reads of a few KiB wait for the disk, not for the processor


def check_sound(paths: Paths, tokenizer: str, shards: Iterable[RecipeShard], *, look: str) -> None:
    """Look at every bin, and at every mask that decides the rows. Raises DataError naming a file that changed."""
    if look == "size":
        return
    with ThreadPoolExecutor(_READERS) as readers:
        files = list(_files(paths, tokenizer, shards))
        changed = readers.map(lambda file: has_changed(file[0] / file[2].name, file[2], look=look), files)
        for (folder, receipt, fact), is_other in zip(files, changed, strict=True):
            if is_other:
                raise DataError(
                    f"{fact.name} of {receipt.source} changed after it was made",
                    seen=f"other bytes ({look} sha256) in {paths.shown(folder / fact.name)}",
                    wanted=f"the {fact.bytes:,} bytes that its receipt names",
                    fix=mending_command(paths, receipt),
                )


def has_changed(file: Path, fact: FileFact, *, look: str) -> bool:
    """Whether a file of the right size holds other bytes than `fact` names, as far as `look` can tell."""
    if look == "full" or fact.bytes <= WHOLE_BYTES:
        return sha256_file(file) != fact.sha256
    return fact.sampled_sha256 is not None and sampled_sha256(file) != fact.sampled_sha256


def _files(paths: Paths, tokenizer: str, shards: Iterable[RecipeShard]) -> Iterator[tuple[Path, Receipt, FileFact]]:
    for shard in shards:
        folder = paths.bins(tokenizer, shard.source)
        receipt = read_receipt(folder / f"{shard.shard}.json")
        yield folder, receipt, receipt.bin
        if receipt.loss and shard.loss_sha256:
            yield folder, receipt, receipt.loss
