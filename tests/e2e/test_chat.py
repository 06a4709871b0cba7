"""Talking to a run: from a script, on a terminal that is real, and what a model may not do to it."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from masked import write_mask
from training import REPOSITORY, here, settle

from dataprep import decoded
from dataprep.errors import UsageError
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from train import chat
from train.engine import Engine
from train.talk import Talk
from train.terminal import read_message, safe
from train.weights import has_talked, open_model

ASK = ("--run", "base", "--device", "cpu", "--max-tokens", "8")


@pytest.fixture(scope="module")
def talking_root(packed_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run `base` of four steps, two checkpoints."""
    root = tmp_path_factory.mktemp("talk") / "root"
    shutil.copytree(packed_root, root)
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root)
        here("--run", "base", "--tokens", "2048", "--checkpoint-every", "2")
    return root


@pytest.fixture
def root(talking_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settle(monkeypatch, talking_root)
    return talking_root


def say(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert chat.main([*ASK, *flags]) == 0
    return capsys.readouterr().out


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> None:
    """Let these be what a person types, then Ctrl-D."""
    left = iter([*lines, EOFError])

    def ask(_: str = "") -> str:
        line = next(left)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", ask)


def asked_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model is asked from here on, as text."""
    seen: list[str] = []
    honest = Talk.prompt

    def prompt(self: Talk, text: str) -> Any:
        made = honest(self, text)
        seen.append(self._vocab.decode(made.ids).replace("<|", "<").replace("|>", ">"))
        return made

    monkeypatch.setattr(Talk, "prompt", prompt)
    return seen


def answering(monkeypatch: pytest.MonkeyPatch, *answers: str | type[BaseException]) -> None:
    """Let the model say these, one answer after another; an exception strikes after "half "."""
    left = iter(answers)
    honest = Engine.stream

    class Said:
        def __init__(self, stream: Any, text: str | type[BaseException]) -> None:
            self.answer, self._text = stream.answer, text
            object.__setattr__(self.answer, "text", text if isinstance(text, str) else "half ")

        def __iter__(self) -> Iterator[str]:
            yield self.answer.text
            if not isinstance(self._text, str):
                raise self._text

    monkeypatch.setattr(Engine, "stream", lambda *given: Said(honest(*given), next(left)))


@pytest.mark.usefixtures("root")
def test_a_script_gets_the_answer_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "train.chat", *ASK, "--prompt", "the mill", "--temperature", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(say(capsys, "--prompt", "the mill", "--temperature", "0", "--json"))
    assert safe(told["text"]) + "\n" == done.stdout
    assert [told[key] for key in ("run", "prompt", "n_tokens", "finish")] == ["base@4", "the mill", 8, "length"]


@pytest.mark.usefixtures("root")
def test_a_step_a_seed_and_the_mode_decide_the_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of(monkeypatch)
    first = say(capsys, "--prompt", "the mill", "--seed", "3")
    assert say(capsys, "--prompt", "the mill", "--seed", "3") == first
    assert say(capsys, "--prompt", "the mill", "--seed", "4") != first
    assert say(capsys, "--run", "base@2", "--prompt", "the mill", "--seed", "3") != first
    assert asked == ["<endoftext>the mill"] * 4  # it learnt no conversation
    say(capsys, "--prompt", "Hi", "--chat", "--system", "be")
    turns = "<system_start>be<system_end><user_start>Hi<user_end><assistant_start>"
    assert asked[4] == f"<endoftext>{turns}"


def test_a_model_that_learnt_conversations_is_asked_as_one(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    settle(monkeypatch, copy)
    write_mask(copy, "beta", "shard_00000")
    asked = asked_of(monkeypatch)
    say(capsys, "--prompt", "Hi")
    say(capsys, "--prompt", "Hi", "--base")
    assert asked == ["<endoftext><user_start>Hi<user_end><assistant_start>", "<endoftext>Hi"]


def test_a_model_taken_along_without_its_bins_is_still_asked_as_one_that_talks(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    settle(monkeypatch, copy)
    opened = open_model(Paths(root=copy), "base", None, device=torch.device("cpu"))
    masked = replace(load_recipe(Paths(root=copy), opened.recipe), loss="assistant")
    shutil.rmtree(copy / "data" / "bins")
    assert not has_talked(Paths(root=copy), opened)
    monkeypatch.setattr("train.weights.load_recipe", lambda *_: masked)
    assert has_talked(Paths(root=copy), opened)


@pytest.mark.usefixtures("root")
def test_a_talk_remembers_forgets_and_obeys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of(monkeypatch)
    answering(monkeypatch, "A", KeyboardInterrupt, "", "D", "E")
    commands = ("/system be", "/temp 0", "/temp warm", "/temp -1", "/nothing", "", KeyboardInterrupt)
    typed(monkeypatch, "a", "b", *commands, "c", "d", "/reset", "/system", "e", "/quit", "never")
    printed = say(capsys, "--chat")
    user, assistant, before = "<user_start>{}<user_end>", "<assistant_start>{}<assistant_end>", "<endoftext>"
    told = "<system_start>be<system_end>"
    a, b = user.format("a") + assistant.format("A"), user.format("b") + assistant.format("half ")
    assert asked == [
        before + user.format("a") + "<assistant_start>",
        before + a + user.format("b") + "<assistant_start>",
        before + told + a + b + user.format("c") + "<assistant_start>",
        before + told + a + b + user.format("d") + "<assistant_start>",  # c got no answer: it is forgotten
        before + user.format("e") + "<assistant_start>",
    ]
    assert "half \n0 tokens" in printed
    assert printed.count("· stopped") == 1
    assert printed.count("nothing was said\n") == 1
    assert "(temperature 0)" in printed
    assert "temperature is a number: warm" in printed
    assert "temperature cannot be this: -1.0" in printed
    assert "no such command: /nothing" in printed
    assert "(Ctrl-D or /quit leaves)" in printed
    assert "\x1b" not in printed  # no colours off a terminal
    assert printed.splitlines()[-1].endswith("python -m train.runs show base")


@pytest.mark.usefixtures("root")
def test_a_message_too_long_ends_a_script_with_2_and_a_talk_not_at_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="too long for this model") as refused:
        say(capsys, "--chat", "--prompt", "a" * 99)
    assert refused.value.exit_code == 2
    typed(monkeypatch, "a" * 99, "a")
    printed = say(capsys, "--chat")
    assert "too long for this model: 102 tokens" in printed
    assert printed.count("tok/s") == 1


@pytest.mark.usefixtures("root")
def test_what_a_model_writes_never_steers_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, "red \x1b[31m\x9b2J\x07\r\u202e back\tn\n", "red \x1b[31m")
    typed(monkeypatch, "a")
    assert "red \\x1b[31m\\x9b2J\\x07\\r\\u202e back\tn\n" in say(capsys)
    assert say(capsys, "--prompt", "a") == "red \\x1b[31m\n"


def test_letters_of_every_script_stay_as_they_are() -> None:
    text = "é 你好\u3000 שלום \U0001f468\u200d\U0001f469 a\u00a0b\t\n"
    assert safe(text) == text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one"], "one"),
        (["one\\", "two\\", "three"], "one\ntwo\nthree"),
        (['"""', "one", "", "two", '"""'], "one\n\ntwo"),
        (['"""one', 'two"""'], "one\ntwo"),
        (['"""one"""'], "one"),
        (['"""', "a\\", '"""'], "a\\"),
    ],
)
def test_a_message_may_have_several_lines(lines: list[str], message: str) -> None:
    left = iter(lines)
    assert read_message(lambda _: next(left), "> ") == message
    assert not list(left)


def test_without_an_input_it_says_how_to_ask_before_a_model_is_loaded() -> None:
    command = [sys.executable, "-m", "train.chat", "--run", "nobody"]
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    done = subprocess.run(closed, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False)
    assert done.returncode == 2
    assert "standard input is closed" in done.stderr


def test_flags_that_contradict_each_other_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--json"], ["--base", "--system", "be"], ["--chat", "--base"], ["--top-k", "x"]):
        with pytest.raises(SystemExit):
            chat.main(["--run", "base", *wrong])
    with pytest.raises(UsageError, match="top_p"):
        chat.main(["--run", "base", "--top-p", "2"])
    assert "--json needs --prompt" in capsys.readouterr().err


def test_help_is_printed_without_torch() -> None:
    code = "import runpy, sys; sys.argv = ['x', '--help']; runpy.run_module('train.chat', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.stdout.startswith("usage: python -m train.chat")
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "train.sampling" in loaded
    assert "torch" not in loaded


class Terminal:
    """`python -m train.chat` on a terminal of its own."""

    def __init__(self, *flags: str) -> None:
        self._master, self._slave = pty.openpty()
        command = [sys.executable, "-m", "train.chat", "--run", "base", "--device", "cpu", *flags]
        # The first terminal that a new session opens becomes its own: Ctrl-C typed there is a signal here.
        opening = ["sh", "-c", f'exec "$@" <>{os.ttyname(self._slave)} >&0 2>&0', "sh", *command]
        environment = os.environ | {"TERM": "xterm"}
        self.process = subprocess.Popen(opening, env=environment, cwd=REPOSITORY, start_new_session=True)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> str:
        """What is shown from here to the pattern's end, which is used up."""
        until = time.monotonic() + 100
        while not (found := re.search(pattern, self.shown, re.DOTALL)):
            assert time.monotonic() < until, self.shown
            if select.select([self._master], [], [], 1)[0]:
                self.shown += os.read(self._master, 4096).decode(errors="replace")
            else:
                assert self.process.poll() is None, self.shown
        shown, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return shown

    def leave(self) -> int:
        code = self.process.wait(timeout=60)
        os.close(self._master)
        os.close(self._slave)
        return code


@pytest.mark.usefixtures("root")
def test_on_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_leaves() -> None:
    terminal = Terminal("--max-tokens", "1000000")
    terminal.wait_for(r"base@4 · completion.*64 tokens in sight.*> ")
    terminal.type("the mill\n")
    terminal.wait_for(r"the mill\r\n.{200}")  # it would go on for hours
    terminal.type("\x03")
    remark = terminal.wait_for(r"tokens · [\d,.]+ tok/s · stopped.*> ")
    assert decoded.DIM in remark
    time.sleep(1)  # readline shows its prompt a moment before it listens for signals: no finger is as quick
    terminal.type("\x03")
    terminal.wait_for(r"Ctrl-D or /quit leaves.*> ")
    assert terminal.process.poll() is None
    terminal.type("/help\n")
    terminal.wait_for(r"/reset .*> ")
    terminal.type("\x04")
    terminal.wait_for(r"next: .*train\.runs show base\r\n")
    assert terminal.leave() == 0
