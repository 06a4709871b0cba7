"""Tracking: the journal's numbers reach the tracker; one that is missing or fails is told, and ends no training."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataprep.errors import EnvironmentProblem
from train.stages import TRACKERS
from train.tracking import open_tracker

REPOSITORY = Path(__file__).resolve().parents[2]
MEASURED = {"loss": 2.5, "lr": 1e-3, "grad_norm": 0.8, "tokens_per_s": 76_712.0, "mfu": None, "tokens_done": 2048}
WANTED = {"loss": 2.5, "lr": 1e-3, "grad_norm": 0.8, "tokens_per_s": 76_712.0, "tokens_done": 2048.0}


class Fake:
    """Stands for the trackio or wandb module; keeps what it was told, and fails where it is told to."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.began, self.logged, self.finished = failing, {}, [], 0

    def init(self, **settings: Any) -> "Fake":
        self._fail("init")
        self.began = settings
        return self

    def log(self, numbers: dict[str, float], *, step: int) -> None:
        self._fail("log")
        self.logged.append((step, numbers))

    def finish(self) -> None:
        self._fail("finish")
        self.finished += 1

    def Settings(self, **settings: Any) -> SimpleNamespace:  # noqa: N802 -- wandb's name
        return SimpleNamespace(**settings)

    def _fail(self, where: str) -> None:
        if where == self.failing:
            raise KeyError(f"{where} is broken\nand more lines follow")


@pytest.fixture(params=[kind for kind in TRACKERS if kind != "none"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return request.param


def install(monkeypatch: pytest.MonkeyPatch, kind: str, module: Fake | None) -> Fake | None:
    monkeypatch.setitem(sys.modules, kind, module)
    return module


def test_a_tracker_gets_the_journals_names_by_step_and_is_closed_once(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = Fake()
    install(monkeypatch, kind, fake)
    tracker = open_tracker(kind, "base", {"seed": 1}, tmp_path)
    tracker.log(7, MEASURED | {"row_from": 3, "vram_reserved": None})
    tracker.close()
    tracker.close()
    assert (fake.began["name"], fake.began["config"], fake.began["resume"]) == ("base", {"seed": 1}, "allow")
    assert fake.logged == [(7, WANTED)]
    assert fake.finished == 1


def test_wandb_is_offline_unless_its_mode_was_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for chosen, mode in ((None, "offline"), ("online", None)):
        monkeypatch.setenv("WANDB_MODE", chosen) if chosen else monkeypatch.delenv("WANDB_MODE", raising=False)
        fake = Fake()
        install(monkeypatch, "wandb", fake)
        open_tracker("wandb", "base", {}, tmp_path)
        assert fake.began["mode"] == mode
        assert (fake.began["id"], fake.began["dir"]) == ("base", str(tmp_path))


def test_a_tracker_that_is_not_installed_is_refused_with_the_line_that_installs_it(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, kind, None)
    with pytest.raises(EnvironmentProblem) as refused:
        open_tracker(kind, "base", {}, tmp_path)
    assert str(refused.value).splitlines()[2] == f"  fix:  python -m pip install {kind}"


def test_a_tracker_that_cannot_begin_refuses_the_run_in_three_lines(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, kind, Fake(failing="init"))
    with pytest.raises(EnvironmentProblem, match=f"{kind} cannot begin the run 'base'") as refused:
        open_tracker(kind, "base", {}, tmp_path)
    assert len(str(refused.value).splitlines()) == 3
    assert "init is broken" in str(refused.value)


def test_a_tracker_that_fails_later_is_left_behind_with_one_warning(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake(failing="log")
    install(monkeypatch, kind, fake)
    tracker = open_tracker(kind, "base", {}, tmp_path)
    for step in range(3):
        tracker.log(step, MEASURED)
    tracker.close()
    told = capsys.readouterr().err
    assert told.count("warning:") == len(told.splitlines()) == 1
    assert f"{kind} failed and is left behind: KeyError: 'log is broken" in told
    assert fake.finished == 0

    install(monkeypatch, kind, Fake(failing="finish"))
    open_tracker(kind, "base", {}, tmp_path).close()
    assert "finish is broken" in capsys.readouterr().err


def test_without_a_tracker_nothing_is_imported_or_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for each in ("trackio", "wandb"):
        install(monkeypatch, each, None)
    tracker = open_tracker("none", "base", {}, tmp_path)
    tracker.log(1, MEASURED)
    tracker.close()
    assert not list(tmp_path.iterdir())


def test_the_real_tracker_keeps_a_run_and_its_resume_on_this_machine(kind: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed: pip install --editable '.[track]'")
    code = (
        "import sys\nfrom pathlib import Path\nfrom train.tracking import open_tracker\n"
        f"tracker = open_tracker({kind!r}, 'base', {{'seed': 1}}, Path({str(tmp_path)!r}))\n"
        "tracker.log(int(sys.argv[1]), {'loss': 2.5, 'tokens_done': 64})\ntracker.close()\n"
    )
    here = {"HOME": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": str(REPOSITORY)}
    for step in ("1", "2"):
        command = [sys.executable, "-c", code, step]
        done = subprocess.run(
            command, env=os.environ | here, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=100
        )
        assert done.returncode == 0, done.stderr
        assert "warning:" not in done.stderr
    assert list(tmp_path.rglob("quern.db" if kind == "trackio" else "run-base.wandb"))
