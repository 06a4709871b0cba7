"""Serve: talk to runs in a browser, or from any program that speaks OpenAI's API. A verb.

In:  runs, by name or RUN@STEP. Out: http://127.0.0.1:8000: a page, /v1/chat/completions, /v1/completions, /v1/models.
Holds: only this machine is answered, unless another --host is given, and then only who has the key.
Run: python -m train.serve --run R [--run R2@STEP]
"""

import argparse
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from dataprep.console import print_next, table
from dataprep.errors import DataError, Parser, UsageError, quoted, run
from dataprep.paths import Paths, find_paths
from dataprep.quantity import count, run_at_step
from train.leaving import leaving_whole

if TYPE_CHECKING:
    from train.serve.desk import Desk

_BYTES = "K, M: powers of 1,000"
_MAKE_KEY = "openssl rand -hex 24 > serve.key; then the same command with --api-key-file serve.key"


def main(argv: list[str] | None = None) -> int:
    """Open the models, then answer until Ctrl-C."""
    args = _parse(argv)
    key = _key(args)
    from train.serve.listening import address_of, bind, listen

    with bind(args.host, args.port) as listener:
        from train.serve.app import create_app
        from train.serve.limits import LOOPBACK_NAMES, Limits

        limits = Limits(
            names=None if key else LOOPBACK_NAMES | {args.host},
            key=key,
            body_bytes=args.max_body,
            requests_per_minute=args.requests_per_minute,
            max_tokens=args.max_tokens,
        )
        desks = _open(find_paths(), args)
        _print(desks, address_of(listener), with_key=key is not None)
        listen(create_app(desks, limits), listener, on_end=lambda: _close(desks))
    print("ended")
    return 0


def _open(paths: Paths, args: argparse.Namespace) -> "list[Desk]":
    """A desk for each run asked for."""
    from train.ranks import choose_device
    from train.serve.desk import Desk
    from train.weights import has_talked, open_model

    device = choose_device(args.device)
    desks: dict[str, Desk] = {}
    for run_name, step in args.run:
        opened = open_model(paths, run_name, step, device=device)
        desks[opened.label] = Desk(opened, talks=has_talked(paths, opened), n_waiting=args.max_waiting)
    return list(desks.values())


def _close(desks: "list[Desk]") -> None:
    """Stop whatever is still being said."""
    for desk in desks:
        desk.close()


def _print(desks: "list[Desk]", address: str, *, with_key: bool) -> None:
    lines = [(desk.label, desk.talks, desk.facts()) for desk in desks]
    header = ["model", "answers", "parameters", "context"]
    print(
        table(
            header,
            [
                [label, "a chat" if talks else "by going on with a text", facts["parameters"], facts["context"]]
                for label, talks, facts in lines
            ],
        )
    )
    print(f"serving at {address}, {'to whoever has the key' if with_key else 'to this machine'}; Ctrl-C ends it")
    key = ' -H "Authorization: Bearer KEY"' if with_key else ""
    print_next(f"curl {address}/v1/models{key}   # or open {address} in a browser")


def _key(args: argparse.Namespace) -> str | None:
    """The key, of the flag or the file. Raises for one that is none, and where one is needed and not given."""
    if args.api_key_file is None:
        key, where = args.api_key, "--api-key"
    else:
        key, where = _read_key(args.api_key_file), str(args.api_key_file)
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise UsageError(
            f"{where} holds no key",
            seen=f"{len(key)} characters",  # never the key itself
            wanted="letters, digits and signs without blanks, in one line",
            fix=_MAKE_KEY,
        )
    if key is None and not _is_loopback(args.host):
        raise UsageError(
            f"--host {args.host} lets other machines ask, and nothing keeps strangers out",
            seen="no key",
            wanted="--api-key-file FILE, or --api-key KEY",
            fix=_MAKE_KEY,
        )
    return key


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_key(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(
            f"the key file {file} cannot be read",
            seen=type(problem).__name__,
            wanted="a text file with the key in it",
            fix=f"openssl rand -hex 24 > {quoted(file)}",
        ) from None


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m train.serve", description="Answer over HTTP, in OpenAI's words and on a page.")
    parser.add_argument(
        "--run",
        action="append",
        required=True,
        type=run_at_step,
        metavar="RUN[@STEP]",
        help="a run, its newest weights or those of a step; may be given several times",
    )
    parser.add_argument("--host", default="127.0.0.1", help="another address needs a key (%(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="0: any that is free (%(default)s)")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--api-key-file", type=Path, metavar="FILE", help="whoever asks must have the key in it")
    keys.add_argument("--api-key", metavar="KEY", help="the same, but every user of this machine can see it in ps")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU where there is one")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-tokens", type=count, default=2048, metavar="N", help="an answer's (%(default)s)")
    limits.add_argument("--max-waiting", type=_whole, default=8, metavar="N", help="askers in line (%(default)s)")
    limits.add_argument("--max-body", type=count, default=1_000_000, metavar="BYTES", help=f"{_BYTES} (%(default)s)")
    limits.add_argument(
        "--requests-per-minute", type=count, default=120, metavar="N", help="of one client address (%(default)s)"
    )
    return parser.parse_args(argv)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _whole(text: str) -> int:
    return 0 if text == "0" else count(text)


if __name__ == "__main__":
    with leaving_whole():
        run(main)
