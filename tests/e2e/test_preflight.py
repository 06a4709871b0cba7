"""The preflight in real processes: ranks that hang leave in time with one message; trials find the cure."""

import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from training import REPOSITORY, start

from dataprep.errors import EnvironmentProblem
from train import ranks
from train.preflight import CURES, Trial, Variables, find_cure, try_in_children
from train.ranks import joined

# Limits a test can wait for, and a last rank that stops where the test says.
HUNG = """
import sys, time
from train import ranks
where, ranks._ARRIVAL_S, ranks._ANSWER_S = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
import os
if os.environ["RANK"] == "1":
    def sleep(*_, **__):
        time.sleep(60)
    if where == "at the sum":
        ranks._first_sum = sleep
    elif where == "at the door":
        ranks._join_group = sleep
def refused(*_):
    raise RuntimeError("NCCL error: unhandled system error\\nLast error: ...")
if where == "refused":
    ranks._first_sum = refused
before = time.monotonic()
with ranks.joined("cpu") as joined:
    sys.stdout.write(f"joined {joined.rank} {time.monotonic() - before:.3f}\\n")  # in one write: two ranks share a pipe
    sys.stdout.flush()
    assert joined.sum_counts(1) == [2]
"""
# A rank that never answers unless it is cured, and that has a child of its own, as a real one may.
SLEEPER = """
if [ "$(printenv "$1")" != 1 ]; then
    sleep 60 &
    echo $! >> "$2"
    sleep 60
fi
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def two_ranks(
    folder: Path, where: str, *, arrival_s: float = 60, answer_s: float = 20
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Two ranks by torchrun, and the seconds they took."""
    script = folder / "hung.py"
    script.write_text(HUNG)
    started = time.monotonic()
    done = start(str(script), where, str(arrival_s), str(answer_s), ranks=2)
    return done, time.monotonic() - started


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The message, which must be there once; torchrun's report of exit code 5 must follow it."""
    assert done.returncode != 0
    assert done.stderr.count("error: the 2 ranks do not answer each other by gloo") == 1, done.stderr
    assert re.search(r"exitcode\s*: 5 ", done.stderr), done.stderr
    lines = done.stderr.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("error: the 2 ranks"))
    assert re.fullmatch(
        r"  fix:  python -m train.doctor --nccl   # finds which .* GLOO_SOCKET_IFNAME=lo", lines[first + 2]
    )
    return lines[first : first + 3]


def test_a_rank_that_never_adds_to_the_first_sum_ends_the_run_in_time_with_one_message(tmp_path: Path) -> None:
    done, seconds = two_ranks(tmp_path, "at the sum", answer_s=2)
    assert "seen: no sum within 2 s, wanted: a first all-reduce that comes back" in told(done)[1]
    assert "joined" not in done.stdout
    assert seconds < 30


def test_a_rank_that_never_comes_ends_the_run_in_time_with_one_message(tmp_path: Path) -> None:
    done, seconds = two_ranks(tmp_path, "at the door", arrival_s=2)
    assert "seen: not all came within 2 s" in told(done)[1]
    assert "joined" not in done.stdout
    assert seconds < 30


def test_an_all_reduce_that_raises_is_told_in_three_lines_and_not_by_a_traceback(tmp_path: Path) -> None:
    done, _ = two_ranks(tmp_path, "refused")
    assert "error: the 2 ranks do not answer each other by gloo" in done.stderr
    assert "  seen: NCCL error: unhandled system error, wanted:" in done.stderr
    assert 'raise RuntimeError("NCCL error' not in done.stderr


def test_two_ranks_that_answer_begin_without_a_noticeable_wait(tmp_path: Path) -> None:
    done, _ = two_ranks(tmp_path, "nowhere")
    assert done.returncode == 0, done.stderr
    waits = [float(line.split()[2]) for line in done.stdout.splitlines()]
    assert len(waits) == 2
    assert min(waits) < 2, waits  # the later rank's own; the earlier waits for the later


def test_ranks_that_are_not_told_where_to_meet_are_refused_by_the_missing_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(EnvironmentProblem, match="MASTER_ADDR expected, but not set"), joined("cpu"):
        pass


def trials_of(tmp_path: Path, backend: str, curing: str) -> tuple[list[Trial], list[int]]:
    """Try in sleeping children; the trials, and the process ids of the grandchildren."""
    pids = tmp_path / "pids"
    pids.touch()
    command = ["sh", "-c", SLEEPER, "sh", curing, str(pids)]  # starts at once, however busy the machine is
    diagnosis = find_cure(backend, partial(try_in_children, command, world_size=2, timeout_s=1.5))
    return list(diagnosis.trials), [int(line) for line in pids.read_text().split()]


def is_running(pid: int) -> bool:
    """Whether the process lives; one that is dead but not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def are_gone(pids: list[int]) -> bool:
    """Whether all end within seconds of a kill, which a busy machine carries out when it gets to it."""
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(is_running(pid) for pid in pids)


def test_ranks_that_answer_at_once_need_no_cure() -> None:
    diagnosis = find_cure("nccl", partial(try_in_children, [sys.executable, "-c", ""], world_size=2, timeout_s=20))
    assert diagnosis.is_healthy
    assert diagnosis.cure is None
    assert [trial.answered for trial in diagnosis.trials] == [True]


def test_ranks_that_hang_until_a_variable_is_set_are_cured_by_it(tmp_path: Path) -> None:
    trials, grandchildren = trials_of(tmp_path, "nccl", "NCCL_P2P_DISABLE")
    assert [(dict(trial.variables), trial.answered) for trial in trials] == [
        ({}, False),
        ({"NCCL_P2P_DISABLE": "1"}, True),
    ]
    assert trials[0].said == "no answer within 1.5 s"
    assert trials[0].seconds < 15
    assert grandchildren
    assert are_gone(grandchildren), "what a trial started outlived it"


def test_ranks_that_hang_whatever_is_set_are_tried_with_each_cure_and_leave_nothing_behind(tmp_path: Path) -> None:
    trials, grandchildren = trials_of(tmp_path, "gloo", "NO_SUCH_VARIABLE")
    assert [dict(trial.variables) for trial in trials] == [{}, {"GLOO_SOCKET_IFNAME": "lo"}]
    assert not any(trial.answered for trial in trials)
    assert grandchildren
    assert are_gone(grandchildren), "what a trial started outlived it"


def test_a_rank_that_fails_ends_its_trial_at_once_and_its_last_words_are_kept() -> None:
    code = (
        "import os, sys, time\nif os.environ['RANK'] == '0': sys.exit('error: no kernel\\n  fix:  x')\ntime.sleep(60)"
    )
    trial = try_in_children([sys.executable, "-c", code], {}, world_size=2, timeout_s=30)
    assert not trial.answered
    assert trial.said == "error: no kernel"
    assert trial.seconds < 15


@pytest.mark.parametrize(
    ("works_with", "cure", "n_trials"),
    [
        ({}, None, 1),
        ({"NCCL_NET": "Socket"}, {"NCCL_NET": "Socket"}, 5),
        ({"NCCL_P2P_DISABLE": "1", "NCCL_NET": "Socket"}, "all", 7),
        ({"NOTHING": "HELPS"}, None, 7),
    ],
)
def test_the_first_setting_that_works_is_the_cure(
    works_with: Variables, cure: Variables | str | None, n_trials: int
) -> None:
    def simulated(variables: Variables) -> Trial:
        return Trial(variables=variables, answered=works_with.items() <= variables.items(), seconds=0, said="")

    diagnosis = find_cure("nccl", simulated)
    assert len(diagnosis.trials) == n_trials
    assert diagnosis.is_healthy is (works_with == {})
    assert diagnosis.cure == ({k: v for each in CURES["nccl"] for k, v in each.items()} if cure == "all" else cure)


def test_real_ranks_answer_each_other_on_the_processor() -> None:
    code = "from train.ranks import answer_once; answer_once('cpu')"
    for world_size in (1, 2):
        trial = try_in_children([sys.executable, "-c", code], {}, world_size=world_size, timeout_s=60)
        assert trial.answered, trial.said


def test_a_message_nobody_can_read_does_not_keep_the_process() -> None:
    code = (
        "import time\nfrom dataprep.errors import EnvironmentProblem\nfrom train.waiting import limited\n"
        "with limited(0.2, EnvironmentProblem('hung', seen='a', wanted='b', fix='c')):\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as child:
        assert child.stderr
        child.stderr.close()
        assert child.wait(timeout=20) == 5


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("[pair.cc:553] Connection closed by peer [127.0.0.1]:8334. GLHF!", SystemExit, "another rank is gone"),
        ("[buffer.cc:78] Timed out waiting 600000ms for recv operation", SystemExit, "has not answered for as long"),
        ("a defect", RuntimeError, ""),
    ],
)
def test_a_rank_whose_peer_is_gone_or_silent_says_so_in_three_lines_and_hides_no_other_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: str,
    kind: type[BaseException],
    told: str,
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "_join_group", lambda *_: None)
    monkeypatch.setattr(ranks.dist, "destroy_process_group", lambda: None)
    with pytest.raises(kind, match="5" if told else said), joined("cpu"):
        raise RuntimeError(said)
    written = capsys.readouterr().err
    assert told in written
    assert written.count("\n") == (3 if told else 0)
