"""Shards: bring N train shards and the held-out ones, tokenize each once, account for all. A verb.

In:  a source, N, a tokenizer. Out: bins with receipts, tokens.db, exit 0; or exit 3 naming each gap.
Holds: what is done stays done; fetching and encoding overlap; the bytes do not depend on --workers.
Run: make shards N=178, or python -m dataprep.shards --source fineweb-edu --n 178
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dataprep import manifest, quantity
from dataprep.asked import publish_asked
from dataprep.bins import Receipt, check_files, read_receipt
from dataprep.console import Progress, print_json, print_next, size, table
from dataprep.encode import ENCODER_VERSION, encode_shard
from dataprep.errors import EXIT_INTERRUPTED, STOPPED, DataError, Parser, QuernError, run
from dataprep.hashing import sha256_file
from dataprep.index import print_notes
from dataprep.listing import REMOTE_KINDS, ListedFile, Listing, list_source, select
from dataprep.paths import Paths, find_paths
from dataprep.raw import ENGINES, MAKE_ROOM, bytes_to_fetch, fetch_shard, fetched_sha256
from dataprep.shard_space import estimate_bin_bytes
from dataprep.sources import find_source, load_catalogue
from dataprep.space import check_free
from dataprep.supply import check_tokenizer
from dataprep.temps import sweep
from dataprep.vocab import Vocab
from dataprep.vocab_store import obtain_vocab

_TOTALS = ("documents", "empty_documents", "unsupervised_documents", "text_bytes", "tokens", "loss_tokens")
FETCHERS = 4  # downloads under way at once


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a shard needs on its way from the origin to its receipt."""

    listing: Listing
    paths: Paths
    vocab: Vocab
    offline: bool
    engine: str
    strict: bool

    @property
    def folder(self) -> Path:
        """Where this source's bins are."""
        return self.paths.bins(self.vocab.name, self.listing.source.name)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it went for one shard: a receipt, or the error that left a gap."""

    file: ListedFile
    receipt: Receipt | None = None
    gap: QuernError | None = None
    made: bool = False


def main(argv: list[str] | None = None) -> int:
    """Fetch, encode, index, report."""
    args = _parse(argv)
    paths = find_paths()
    manifest.check_writable(paths)
    source = find_source(load_catalogue(args.catalogue), args.source)
    vocab = obtain_vocab(paths, args.tokenizer, vocab_file=args.vocab_file, offline=args.offline)
    listing = list_source(source, paths, offline=args.offline)
    files = select(listing, args.n)
    job = Job(listing=listing, paths=paths, vocab=vocab, offline=args.offline, engine=args.engine, strict=args.strict)
    for folder in (paths.raw(source.name), job.folder, paths.vocab, paths.source_record(source.name).parent):
        sweep(folder)
    publish_asked(paths, listing, files, vocab.name)
    outcomes = _bring(job, files, args.workers, quiet=args.json)
    rebuilt = manifest.rebuild(paths)
    gaps = [outcome for outcome in outcomes if outcome.gap]
    _report_json(job, outcomes) if args.json else _report(job, outcomes)
    print_notes(rebuilt)
    return DataError.exit_code if gaps else 0


def held_receipt(job: Job, file: ListedFile) -> Receipt | None:
    """The receipt of a shard that is done, or None. Raises DataError for bins of another tokenizer."""
    receipt_file = job.folder / f"{file.shard}.json"
    if not receipt_file.exists():
        return None
    try:
        receipt = read_receipt(receipt_file)
        check_files(job.folder, receipt)
    except DataError:
        return None  # damaged or cut short: it is made again, and published whole
    check_tokenizer(receipt, job.vocab)
    source = job.listing.source
    listed = (file.sha256 or receipt.file.sha256, receipt.encoder, receipt.split, source.layout, source.columns)
    made_from = (receipt.file.sha256, ENCODER_VERSION, file.split, receipt.origin.layout, receipt.origin.columns)
    if listed != made_from or (job.strict and receipt.excluded):
        return None  # --strict reads it again, to name the row
    return None if _changed_in_place(job, file, receipt, receipt_file) else receipt


def _changed_in_place(job: Job, file: ListedFile, receipt: Receipt, receipt_file: Path) -> bool:
    """Whether a local file is another one than was encoded. Hashed only if it is newer, as make does."""
    folder = job.listing.source.path
    if folder is None:
        return False
    local = folder / file.name
    if local.stat().st_size != receipt.file.bytes:
        return True
    return local.stat().st_mtime_ns > receipt_file.stat().st_mtime_ns and sha256_file(local) != receipt.file.sha256


def _bring(job: Job, files: Sequence[ListedFile], n_workers: int, *, quiet: bool) -> list[Outcome]:
    """Every file's outcome, in the order of `files`. Fetchers feed encoders as soon as a file is there."""
    held = {file: held_receipt(job, file) for file in files}
    outcomes = {file: Outcome(file=file, receipt=receipt) for file, receipt in held.items() if receipt}
    missing = [file for file in files if file not in outcomes]
    _check_space(job, missing, [receipt for receipt in held.values() if receipt])
    with Progress(job.listing.source.name, sum(file.bytes or 0 for file in missing), quiet=quiet) as progress:
        if outcomes:
            progress.say(f"{len(outcomes):,} of {len(files):,} shards are held already")
        try:
            for outcome in _fetch_and_encode(job, missing, n_workers, progress.advance):
                outcomes[outcome.file] = outcome
                progress.say(_line(outcome))
        except KeyboardInterrupt:
            # A download may hang for a minute; everything published is whole, so leave at once.
            progress.close()
            print(STOPPED, file=sys.stderr)
            os._exit(EXIT_INTERRUPTED)
    return [outcomes[file] for file in files]


def _check_space(job: Job, missing: Sequence[ListedFile], held: Sequence[Receipt]) -> None:
    """Refuse to begin what the disk cannot hold: files still to fetch, and about as much as their bins will take."""
    source = job.listing.source.name
    to_fetch, to_make = bytes_to_fetch(job.listing, missing, job.paths), estimate_bin_bytes(job.listing, missing, held)
    what = f"{source}: {to_fetch:,} bytes still to fetch and about {to_make:,} of bins"
    check_free(job.paths.data, to_fetch + to_make, what, fix=MAKE_ROOM)


def _fetch_and_encode(
    job: Job, files: Sequence[ListedFile], n_workers: int, advance: Callable[[int], None]
) -> Iterator[Outcome]:
    """Yield outcomes as they come: a file is encoded while others are still on their way.

    Threads are enough: downloads wait, and pyarrow, gigatoken and hashlib all leave the interpreter free.
    """
    fetchers, encoders = ThreadPoolExecutor(FETCHERS), ThreadPoolExecutor(n_workers)
    pending: dict[Future[Path] | Future[Receipt], ListedFile] = {
        fetchers.submit(_fetch, job, file, advance): file for file in files
    }
    try:
        while pending:
            finished, _ = wait(cast("list[Future[Any]]", list(pending)), return_when=FIRST_COMPLETED)
            for future in finished:
                file = pending.pop(future)
                try:
                    result = future.result()
                except QuernError as gap:
                    yield Outcome(file=file, gap=gap)
                    continue
                if isinstance(result, Receipt):
                    yield Outcome(file=file, receipt=result, made=True)
                else:
                    pending[encoders.submit(_encode, job, result)] = file
    finally:  # nothing new is begun: after an error what runs is waited for, after Ctrl-C the caller leaves
        fetchers.shutdown(wait=False, cancel_futures=True)
        encoders.shutdown(wait=False, cancel_futures=True)


def _fetch(job: Job, file: ListedFile, advance: Callable[[int], None]) -> Path:
    path = fetch_shard(job.listing, file, job.paths, offline=job.offline, engine=job.engine, report=advance)
    if job.listing.source.kind not in REMOTE_KINDS:
        advance(file.bytes or 0)  # nothing travelled: the whole file is here at once
    return path


def _encode(job: Job, file: Path) -> Receipt:
    about = {"revision": job.listing.revision, "vocab": job.vocab, "strict": job.strict}
    about["fetched_sha256"] = fetched_sha256(job.listing, file)
    return encode_shard(file, job.listing.source, **about, folder=job.folder)


def _line(outcome: Outcome) -> str:
    shard, receipt = outcome.file.shard, outcome.receipt
    if receipt is None:
        return f"{shard}  GAP: {outcome.gap.what if outcome.gap else 'unknown'}"
    text = size(receipt.text_bytes)
    return f"{shard}  {receipt.documents:>9,} documents  {text:>9} of text  {receipt.tokens:>11,} tokens"


def _report(job: Job, outcomes: Sequence[Outcome]) -> None:
    source, paths = job.listing.source.name, job.paths
    rows = []
    for split in ("train", "holdout"):
        receipts = [o.receipt for o in outcomes if o.receipt and o.file.split == split]
        asked = sum(o.file.split == split for o in outcomes)
        totals = (
            sum(r.documents for r in receipts),
            sum(r.text_bytes for r in receipts),
            sum(r.tokens for r in receipts),
        )
        rows.append([split, asked, len(receipts), *totals])
    print("\n" + table([source, "asked", "held", "documents", "text bytes", "tokens"], rows))
    _report_left_out([outcome.receipt for outcome in outcomes if outcome.receipt])
    gaps = [outcome for outcome in outcomes if outcome.gap]
    for outcome in gaps:
        print(f"\n{outcome.file.shard}: {outcome.gap}", file=sys.stderr)
    if gaps:
        names = ", ".join(outcome.file.shard for outcome in gaps)
        print(f"\n{len(gaps):,} of {len(outcomes):,} shards are missing: {names}", file=sys.stderr)
        print(f"next: the same command again fetches only what is missing ({source})", file=sys.stderr)
    else:
        print(f"complete: every shard asked for is in {paths.shown(job.folder)}")
        print_next(f"python -m dataprep.pack --mix 1 --sources {source} --tokenizer {job.vocab.name}")


def _report_left_out(receipts: Sequence[Receipt]) -> None:
    """Say how many documents are empty in the bins though their rows are not, and why."""
    excluded = _count_excluded(receipts)
    if excluded:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in excluded.most_common())
        print(f"left out: {excluded.total():,} documents ({counts})")


def _count_excluded(receipts: Sequence[Receipt]) -> Counter[str]:
    return sum((Counter(receipt.excluded) for receipt in receipts), Counter())


def _report_json(job: Job, outcomes: Sequence[Outcome]) -> None:
    held = [outcome.receipt for outcome in outcomes if outcome.receipt]
    gaps = [{"shard": o.file.shard, "reason": str(o.gap)} for o in outcomes if o.gap]
    counts = {"asked": len(outcomes), "held": len(held), "made": sum(outcome.made for outcome in outcomes)}
    totals = {key: sum(getattr(r, key) for r in held) for key in _TOTALS}
    about = {"source": job.listing.source.name, "tokenizer": job.vocab.name, "revision": job.listing.revision}
    print_json(about | counts | totals | {"excluded": _count_excluded(held), "gaps": gaps})


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m dataprep.shards", description="Fetch and tokenize a source's shards.")
    parser.add_argument("--source", required=True, help="a source of the catalogue, such as fineweb-edu")
    parser.add_argument("--n", type=int, required=True, help="train shards 0…N-1; held-out shards come as well")
    parser.add_argument("--catalogue", type=Path, metavar="FILE", help="more sources, as TOML")
    parser.add_argument("--tokenizer", type=quantity.name, default="gpt2", help="gpt2, or a trained one's name")
    parser.add_argument("--vocab-file", type=Path, metavar="FILE", help="ranks to use, as a .tiktoken file")
    parser.add_argument("--workers", type=quantity.count, default=os.cpu_count(), help="shards encoded at once")
    parser.add_argument("--engine", choices=ENGINES, default="hub", help="who downloads")
    parser.add_argument("--strict", action="store_true", help="a conversation that must be left out is an error")
    parser.add_argument("--offline", action="store_true", help="use only what is held already")
    parser.add_argument("--json", action="store_true", help="exact numbers for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
