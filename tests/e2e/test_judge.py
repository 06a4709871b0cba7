"""Runs that are asked as they go: what they say, by journal, table and queries; without a trace in the weights."""

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_maker import write_bundle
from masked import publish_variant, write_mask
from training import by_name, here, journal_of, losses, main, records, weights

from dataprep import manifest
from dataprep.errors import UsageError
from dataprep.paths import SHIPPED_MANIFESTS, Paths
from dataprep.sql import ask
from train.judge import Judge
from train.loop import Attempt
from train.prompt_file import Fact

SIX_STEPS, NINE = ("--tokens", "3072"), ("--validate-rows", "9")
PROMPTS = """
openings = ["the mill", "every shard"]
facts = [
    { ask = "rows of", question = "what of?", expect = ["tokens", "text"] },
    { ask = "grinds every", question = "grinds?", expect = "nothing that is there" },
]
"""
KEYS = ("step", "prompt", "temperature")


@pytest.fixture
def asked(root: Path) -> tuple[str, ...]:
    """Flags of a run that is asked two openings and two facts every two steps."""
    (root / "mine.toml").write_text(PROMPTS)
    return (*NINE, "--prompts", str(root / "mine.toml"), "--sample-every", "2")


def said(root: Path, run: str) -> list[dict[str, Any]]:
    """A run's samples, but for the attempt that made them."""
    return [{**record, "attempt": 0} for record in records(root, run, "sample")]


def query(root: Path, name: str) -> list[dict[str, Any]]:
    paths = Paths(root=root)
    assert manifest.rebuild(paths).notes == ()
    header, lines = ask(paths, (SHIPPED_MANIFESTS / "queries" / f"{name}.sql").read_text())
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_asking_changes_no_loss_weight_or_random_number_and_is_told_as_it_goes(
    root: Path, asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(root)
    states: list[bytes] = []
    honest = Attempt._step

    def watched(self: Attempt, *given: Any) -> Any:
        states.append(bytes(torch.get_rng_state().numpy()))
        assert self.model.training
        assert all(weight.grad is None for weight in self.model.parameters())
        return honest(self, *given)

    monkeypatch.setattr(Attempt, "_step", watched)
    core = ("--core", str(bundle), "--core-every", "4", "--core-max-per-task", "4")
    printed = here("--run", "asked", *asked, *core, *SIX_STEPS, "--prompt", "the mill grinds")
    here("--run", "silent", *NINE, *SIX_STEPS)
    assert states[:6] == states[6:]
    assert losses(root, "asked") == losses(root, "silent")
    for name, tensor in weights(root, "silent").items():
        assert torch.equal(weights(root, "asked")[name], tensor), name

    assert "ask    every 2 steps and at the end: 2 beginnings, 2 facts" in printed
    assert "core   every 4 steps and at the end: 5 tasks of " in printed
    told = [line.split(" | ")[0] for line in printed.splitlines() if line.startswith(("facts", "core step", "heldout"))]
    assert told == ["facts step 2", "facts step 4", "core step 4", "heldout step 6", "facts step 6", "core step 6"]
    ends = [line.split("|")[0] for line in printed.splitlines() if line.startswith("sample")]
    assert ends == ["sample: the mill", "sample: every shard", "sample: the mill grinds"]
    counted = Counter(tuple(record[key] for key in KEYS) for record in records(root, "asked", "sample"))
    prompts = ("the mill", "every shard", "rows of", "grinds every")
    wanted = [(step, prompt, heat) for step in (2, 4, 6) for prompt in prompts for heat in (0.0, 0.8)]
    assert counted == Counter([*wanted, (6, "the mill grinds", 0.8)])
    tasks = [(r["step"], r["task"]) for r in records(root, "asked", "eval") if r["suite"] == "core"]
    assert [step for step, task in tasks if task == "CORE"] == [4, 6]
    assert len(tasks) == 2 * 6


def test_killed_and_resumed_a_run_says_the_same_and_nothing_twice(
    root: Path, asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = (*asked, *SIX_STEPS, "--checkpoint-every", "2")
    here("--run", "whole", *flags)
    honest = Judge._ask

    def killed_at_four(self: Judge, cursor: Any, told: Any) -> None:
        honest(self, cursor, told)
        if cursor.step == 4:
            raise MemoryError

    with monkeypatch.context() as dying:
        dying.setattr(Judge, "_ask", killed_at_four)
        with pytest.raises(MemoryError):
            here("--run", "killed", *flags)
    by_name("killed", "--prompts", flags[3], "--tokens", "3072")
    assert losses(root, "killed") == losses(root, "whole")
    assert said(root, "killed") == said(root, "whole"), "step 4 was asked before the kill, and is not asked again"

    # Killed in the midst of writing: what is not whole is asked again, and counts once.
    journal = root / "runs" / "whole" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if json.loads(line)["kind"] == "sample")
    before = said(root, "whole")
    journal.write_bytes(b"".join(lines[: last - 2]))
    here("--run", "whole", *flags)
    assert len(said(root, "whole")) > len(before)
    manifest.rebuild(Paths(root=root))
    table = ask(Paths(root=root), "SELECT step, prompt, temperature, completion FROM samples WHERE run = 'whole'")[1]
    wanted = [tuple(record[key] for key in (*KEYS, "completion")) for record in before]
    assert sorted(table) == sorted(wanted)


def test_a_run_that_goes_back_says_its_last_word_anew(root: Path) -> None:
    flags = ("--run", "back", *NINE, "--tokens", "1024", "--checkpoint-every", "1")
    here(*flags)
    (root / "runs/back/checkpoints/step_00000002/optimizer.pt").unlink()
    here(*flags, "--learning-rate", "1e-2")
    old, new = records(root, "back", "sample")
    assert (old["attempt"], new["attempt"], old["step"], new["step"]) == (1, 2, 2, 2)
    manifest.rebuild(Paths(root=root))
    assert ask(Paths(root=root), "SELECT completion FROM samples")[1] == [(new["completion"],)]


def test_two_ranks_say_what_one_says_and_a_run_remembers_what_it_is_asked(root: Path, asked: tuple[str, ...]) -> None:
    core = ("--core", str(write_bundle(root)), "--core-every", "6", "--core-max-per-task", "4")
    here("--run", "one", *asked, *core, *SIX_STEPS)
    done = main("--run", "two", *asked, *core, "--tokens", "1536", ranks=2)
    assert done.returncode == 0, done.stderr
    here("--run", "two", *asked, *core, *SIX_STEPS)
    assert losses(root, "two") == pytest.approx(losses(root, "one"), abs=1e-4)
    of_step_2 = {run: [r for r in said(root, run) if r["step"] == 2] for run in ("one", "two")}
    told = [tuple(record[key] for key in KEYS) for record in of_step_2["two"]]
    assert told == [tuple(record[key] for key in KEYS) for record in of_step_2["one"]]
    core_at_six = {
        run: {r["task"]: r["n"] for r in records(root, run, "eval") if r["step"] == 6 and r["suite"] == "core"}
        for run in ("one", "two")
    }
    assert core_at_six["one"] == core_at_six["two"] != {}
    routine = records(root, "two", "start")[-1]["routine"]
    assert routine["prompts"] == str(root / "mine.toml")
    assert (routine["sample_every"], routine["core_every"], routine["core_max_per_task"]) == (2, 6, 4)


def test_a_run_of_conversations_is_asked_as_an_assistant(root: Path, asked: tuple[str, ...]) -> None:
    write_mask(root, "beta", "shard_00000")
    publish_variant(root, "sft", loss="assistant", attention="document")
    printed = here("--run", "chat", "--recipe", "sft", *asked, "--tokens", "1024", "--prompt", "Hi")
    texts = {(record["prompt"], record["fact"]) for record in records(root, "chat", "sample")[:-1]}
    facts = {("what of?", "rows of"), ("grinds?", "grinds every")}
    assert texts == {("the mill", None), ("every shard", None), *facts}
    ends = [line for line in printed.splitlines() if line.startswith("user: ")]
    assert ends == ["user: what of?", "user: grinds?", "user: Hi"]
    assert "0/2 right at temperature 0" in printed


def test_who_is_told_to_stop_waits_for_one_task_of_core_at_most(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Judge._judge_core

    def struck(self: Judge, cursor: Any, told: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        honest(self, cursor, told)

    monkeypatch.setattr(Judge, "_judge_core", struck)
    core = ("--core", str(write_bundle(root)), "--core-max-per-task", "4")
    printed = here("--run", "struck", *core, "--core-every", "2", *SIX_STEPS)
    assert "core step 2 | left off after 0 tasks: told to stop" in printed
    assert records(root, "struck", "end")[-1]["step"] == 2
    assert not [record for record in records(root, "struck", "eval") if record["suite"] == "core"]
    assert records(root, "struck", "sample") == [], "the run goes on later: it has no last word yet"
    printed = here("--run", "late", *core, "--core-every", "100", "--tokens", "1024")
    assert "core step 2 | left off after 0 tasks: told to stop" in printed
    assert len(records(root, "late", "sample")) == 1


def test_what_cannot_be_asked_is_refused_before_training_and_leaves_no_run(root: Path) -> None:
    (root / "bad.toml").write_text('openings = [""]')
    with pytest.raises(UsageError, match=r"bad\.toml has no text"):
        here("--prompts", str(root / "bad.toml"), *SIX_STEPS)
    with pytest.raises(UsageError):
        here("--core", str(root / "nowhere.zip"), *SIX_STEPS)
    assert not list((root / "runs").glob("*"))


def test_the_queries_follow_facts_and_bits_along_the_ancestry(
    root: Path, asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def learnt_at_step(step: int) -> None:
        """From this step on "tokens" or "text" is right, whatever is said."""
        right = {"now": False}

        def noted(self: Judge, cursor: Any, told: Any) -> None:
            right["now"] = cursor.step >= step
            honest(self, cursor, told)

        monkeypatch.setattr(Judge, "_ask", noted)
        monkeypatch.setattr(Fact, "is_hit", lambda fact, _: right["now"] and "tokens" in fact.expect)

    honest = Judge._ask
    learnt_at_step(4)
    here("--run", "base", *asked, *SIX_STEPS, "--checkpoint-every", "2", "--keep", "9", "--validate-every", "2")
    child = (*asked, "--stage", "midtrain", "--tokens", "1024", "--validate-every", "2")
    here("--run", "late", "--parent", "base@4", *child)
    learnt_at_step(1)
    printed = here("--run", "early", "--parent", "base@2", *child)
    assert "facts step 2 | 1/2 right at temperature 0 | 1 new: rows of tokens" in printed

    first = query(root, "first_right")
    keys = ("run", "fact", "first_right_in", "first_right_at", "tokens_in_weights", "right_now")
    assert [tuple(line[key] for key in keys) for line in first] == [
        ("base", "rows of", "base", 4, 2_048, True),
        ("base", "grinds every", None, None, None, False),
        ("early", "rows of", "early", 2, 2_048, True),  # base knew it at 4, after this one had left
        ("early", "grinds every", None, None, None, False),
        ("late", "rows of", "base", 4, 2_048, False),  # and has forgotten it
        ("late", "grinds every", None, None, None, False),
    ]

    ability = [line for line in query(root, "ability_by_tokens") if line["run"] == "late"]
    facts = [(line["tokens_in_weights"], line["by_run"], line["value"]) for line in ability if line["suite"] == "facts"]
    assert facts == [(1_024, "base", 0.0), (2_048, "base", 0.5), (2_048, "late", 0.0), (3_072, "late", 0.0)]
    assert {line["suite"] for line in ability} == {"facts", "heldout", "heldout-bpb"}
    assert all(line["recipe"] == "mix" for line in ability)

    stages = [line for line in query(root, "bits_per_byte_by_stage") if line["run"] == "late"]
    keys = ("stage", "stage_run", "source", "counted", "from_step", "to_step", "tokens_in_weights")
    assert [tuple(line[key] for key in keys) for line in stages] == [
        ("pretrain", "base", "alpha", "all", 2, 4, 2_048),
        ("pretrain", "base", "beta", "all", 2, 4, 2_048),
        ("midtrain", "late", "alpha", "all", 0, 2, 3_072),
        ("midtrain", "late", "beta", "all", 0, 2, 3_072),
    ]
    bits = {(r["step"], r["task"]): r["value"] for r in records(root, "base", "eval") if r["suite"] == "heldout-bpb"}
    assert stages[0]["bits_to"] == pytest.approx(bits[4, "alpha"], abs=1e-4)
    assert stages[2]["bits_from"] == pytest.approx(bits[4, "alpha"], abs=1e-4), "the same weights, by the same rows"
    assert journal_of(root, "base").torn is None
