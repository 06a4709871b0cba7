"""Shard space: about how many bytes a source's shards will take, told before any of them is fetched.

In:  the listed files that are missing, the receipts of those that are held. Out: bytes, an estimate.
Holds: once a source has a bin, the estimate is its own measured ratio; before, that of English web text.
100 MB of listed parquet: about 100 MB of tokens, and the parquet itself where it is fetched.
"""

from collections.abc import Iterable

from dataprep.bins import Receipt
from dataprep.listing import ListedFile, Listing

# Bytes of tokens per byte of file, for want of a measured one: compressed text is about as large as its tokens.
_PER_COMPRESSED, _PER_PLAIN = (1, 1), (1, 2)
_TOKEN_BYTES = 2


def estimate_bin_bytes(listing: Listing, files: Iterable[ListedFile], held: Iterable[Receipt]) -> int:
    """Bytes of the bins, ends and masks of `files`; those whose origin does not say their size count nothing."""
    facts = [(sum(fact.bytes for fact in receipt.files), receipt.file.bytes) for receipt in held]
    made, read = sum(fact[0] for fact in facts), sum(fact[1] for fact in facts)
    if made and read:
        return sum((file.bytes or 0) * made // read for file in files)
    with_mask = 0 if listing.source.layout == "text" else 1
    return sum(_estimate(file) * (_TOKEN_BYTES + with_mask) // _TOKEN_BYTES for file in files)


def _estimate(file: ListedFile) -> int:
    times, per = _PER_COMPRESSED if file.name.endswith(".parquet") else _PER_PLAIN
    return (file.bytes or 0) * times // per
