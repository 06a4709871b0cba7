"""Fetch: a source's shards onto this disk, verified, without tokenizing them. A verb.

In:  a catalogue entry and N. Out: data/raw/<source>/ with a receipt per file; exit 3 naming each gap.
     An evaluation bundle is one file: data/bundles/<source>.zip, and no N.
Holds: what is done stays done; `make shards` does the same and tokenizes on the way.
Run: python -m dataprep.fetch --source fineweb-edu --n 3: three train shards and the held-out one
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

from dataprep import hub
from dataprep.bundle_fetch import fetch_bundle
from dataprep.console import print_json, print_next, size
from dataprep.errors import DataError, Parser, UsageError, run
from dataprep.listing import ListedFile, Listing, list_source, select
from dataprep.paths import Paths, find_paths
from dataprep.raw import ENGINES, check_space, fetch_shard, find_held
from dataprep.sources import Source, fetch_command, find_bundle, find_source, load_catalogue, make_shards


def main(argv: list[str] | None = None) -> int:
    """Fetch, say one line per shard, exit 3 naming each gap."""
    asked = _parse(argv)
    paths = find_paths()
    catalogue = load_catalogue(asked.catalogue)
    if bundle := find_bundle(catalogue, asked.source):
        return _bring_bundle(bundle, paths, asked)
    source = find_source(catalogue, asked.source)
    listing = list_source(source, paths, offline=asked.offline, refresh=asked.refresh)
    n_train = sum(file.split == "train" for file in listing.files) if asked.n is None else asked.n
    files = select(listing, n_train)
    check_space(listing, files, paths)
    if not asked.json:
        print(
            f"{source.name}: {len(files):,} shards, {size(sum(file.bytes or 0 for file in files))} listed", flush=True
        )
    outcomes = [_fetch_and_say(listing, file, paths, asked) for file in files]
    any_gone = True in [outcome.pop("gone") for outcome in outcomes]  # the same listing would name them again
    if asked.json:
        print_json({"source": source.name, "revision": listing.revision, "files": outcomes})
    if gaps := [str(outcome["shard"]) for outcome in outcomes if outcome["reason"]]:
        raise DataError(
            f"{len(gaps)} of {len(files)} shards of {source.name} are missing",
            seen="no " + ", ".join(gaps),
            wanted=f"{len(files)} shards",
            fix=fetch_command(source.name, n=n_train) + (" --refresh" if any_gone else ""),
        )
    if not asked.json:
        print_next(make_shards(source.name, n=n_train))
    return 0


def _parse(argv: list[str] | None) -> Namespace:
    parser = Parser(prog="python -m dataprep.fetch", description="Fetch and verify a source's shards.")
    parser.add_argument("--source", required=True, help="a name in the catalogue")
    parser.add_argument("--n", type=int, help="train shards, beside the held-out ones (default: all)")
    parser.add_argument("--catalogue", type=Path, help="a TOML file with more sources")
    parser.add_argument("--offline", action="store_true", help="use what is held, name what is not")
    parser.add_argument("--refresh", action="store_true", help="resolve the Hub revision again")
    parser.add_argument("--engine", choices=ENGINES, default="hub", help="how bytes of a Hub source come")
    parser.add_argument("--json", action="store_true", help="exact numbers for machines")
    return parser.parse_args(argv)


def _bring_bundle(bundle: Source, paths: Paths, asked: Namespace) -> int:
    if asked.n is not None or asked.refresh or asked.engine != "hub":
        raise UsageError(
            f"{bundle.name} is an evaluation bundle: one file, at one address",
            seen="--n, --refresh or --engine",
            wanted="none of them",
            fix=f"python -m dataprep.fetch --source {bundle.name}",
        )
    file, held = fetch_bundle(bundle, paths, offline=asked.offline, quiet=asked.json)
    outcome = {"path": paths.shown(file), "bytes": file.stat().st_size, "held": held}
    if asked.json:
        print_json({"source": bundle.name, "files": [outcome]})
        return 0
    print(f"{'held' if held else 'fetched'}  {outcome['path']}  {size(outcome['bytes'])}")
    shown = outcome["path"] if Path(outcome["path"]).exists() else file  # from elsewhere than DATAPREP_ROOT
    print_next(f"python -m dataprep.contamination --bundle {shown}")
    return 0


def _fetch_and_say(listing: Listing, file: ListedFile, paths: Paths, asked: Namespace) -> dict[str, Any]:
    held = find_held(listing, file, paths) is not None
    outcome: dict[str, Any] = {"shard": file.shard, "split": file.split, "path": None, "bytes": None, "reason": None}
    outcome["gone"] = False
    try:
        path = fetch_shard(listing, file, paths, offline=asked.offline, engine=asked.engine)
    except hub.RepositoryError:
        raise  # the other files would say the same
    except DataError as error:
        outcome |= {"reason": f"{error.what}: {error.seen}", "gone": isinstance(error, hub.GoneError)}
    else:
        outcome |= {"path": paths.shown(path), "bytes": path.stat().st_size}
    if not asked.json:
        verb = "missing" if outcome["reason"] else "held" if held else "fetched"
        print(f"{verb:8}{file.shard}  {file.split}  {outcome['reason'] or size(outcome['bytes'])}", flush=True)
    return outcome


if __name__ == "__main__":
    run(main)
