"""Chat: talk to a run's model in the terminal, or ask it one thing from a script. A verb.

In:  RUN[@STEP], its newest weights by default. Out: answers as they are said; with --prompt one answer alone.
Holds: what a model writes never steers the terminal; a model that learnt no conversation completes text, unless --chat.
Run: python -m train.chat --run demo-chat
     python -m train.chat --run demo-chat@200 --prompt "What does json.loads do?" --temperature 0
"""

import argparse
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from dataprep import quantity
from dataprep.console import print_json, print_next
from dataprep.errors import Parser, run
from dataprep.paths import find_paths
from train.sampling_flags import add_sampling, read_sampling

if TYPE_CHECKING:
    from train.engine import Engine
    from train.talk import Talk
    from train.weights import Opened


def main(argv: list[str] | None = None) -> int:
    """Open the model; answer once, or talk until the person leaves."""
    args = _parse(argv)
    sampling = read_sampling(args)
    from train.engine import Engine
    from train.ranks import choose_device
    from train.talk import Talk
    from train.terminal import never_fail_on_text
    from train.weights import has_talked, open_model

    never_fail_on_text()
    paths = find_paths()
    opened = open_model(paths, *args.run, device=choose_device(args.device))
    is_chat = args.chat or (not args.base and has_talked(paths, opened))
    engine = Engine(opened.model, opened.vocab)
    talk = Talk(engine, opened.vocab, sampling, is_chat=is_chat, system=args.system)
    if args.prompt is None:
        return _talk(talk, opened, is_chat=is_chat)
    return _ask(engine, talk, opened, args)


def _talk(talk: "Talk", opened: "Opened", *, is_chat: bool) -> int:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 -- arrow keys and the lines before, by being there
    mode = "chat" if is_chat else "completion: it goes on from what you write"
    print(
        f"{opened.label} · {mode} · {opened.seq_len:,} tokens in sight · /help · Ctrl-C stops an answer, Ctrl-D leaves"
    )
    while talk.go_on():
        pass
    print_next(f"python -m train.runs show {opened.run}")
    return 0


def _ask(engine: "Engine", talk: "Talk", opened: "Opened", args: argparse.Namespace) -> int:
    from train.terminal import safe

    began = time.monotonic()
    stream = engine.stream(talk.prompt(args.prompt), read_sampling(args))
    for piece in stream:
        if not args.json:
            print(safe(piece), end="", flush=True)
    if args.json:
        seconds = time.monotonic() - began
        told = {"run": opened.label, "prompt": args.prompt} | vars(stream.answer)
        print_json(told | {"seconds": seconds, "tokens_per_s": stream.answer.n_tokens / seconds})
    else:
        print()
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m train.chat", description="Talk to a run's model; /help says how.")
    add = parser.add_argument
    add(
        "--run",
        type=quantity.run_at_step,
        required=True,
        metavar="RUN[@STEP]",
        help="whose weights, the newest or a step's",
    )
    add("--prompt", type=quantity.unicode_text, metavar="TEXT", help="answer this and leave")
    add("--system", type=quantity.unicode_text, metavar="TEXT", help="what it is told before everything else")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--chat", action="store_true", help="as a conversation, even if it learnt none")
    mode.add_argument("--base", action="store_true", help="as a text to go on from, even if it learnt conversations")
    add("--device", choices=("cpu", "cuda"), help="(default: cuda where there is one)")
    add("--json", action="store_true", help="with --prompt: the answer, its counts and speed for machines")
    add_sampling(parser)
    args = parser.parse_args(argv)
    if args.json and args.prompt is None:
        parser.error("--json needs --prompt: a talk is for people")
    if args.prompt is None and sys.stdin is None:
        parser.error("standard input is closed, and a talk reads from it: --prompt TEXT asks without")
    if args.system and args.base:
        parser.error("--system needs a conversation: not with --base")
    return args


if __name__ == "__main__":
    run(main)
