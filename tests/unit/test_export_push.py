"""Pushing an export: the real client against a hub on this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from taking_hub import REPO, TOKEN, TakingHub, taking

from dataprep.errors import EnvironmentProblem, UsageError
from train.export.push import push


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[TakingHub]]:
    with taking(monkeypatch) as handler:
        yield handler


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    (tmp_path / "README.md").write_text("---\nlibrary_name: transformers\n---\n")
    return tmp_path


def test_every_file_goes_to_a_private_repository(
    hub: type[TakingHub], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address = push(folder, REPO, label="base@5", public=False)
    assert address.endswith(f"/{REPO}")
    assert hub.private is True
    assert hub.taken == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert TOKEN not in "".join(capfd.readouterr())


def test_a_public_repository_is_filled_only_when_that_was_said(hub: type[TakingHub], folder: Path) -> None:
    hub.private = False
    with pytest.raises(UsageError, match="is public"):
        push(folder, REPO, label="base@5", public=False)
    assert hub.taken == {}
    push(folder, REPO, label="base@5", public=True)
    assert len(hub.taken) == 2


def test_a_refusal_names_the_status_and_never_the_token(hub: type[TakingHub], folder: Path) -> None:
    hub.refuse_with = 403
    with pytest.raises(EnvironmentProblem, match="HTTP 403") as refused:
        push(folder, REPO, label="base@5", public=False)
    assert TOKEN not in str(refused.value)
    with pytest.raises(UsageError, match="is no name"):
        push(folder, "a/b/c", label="base@5", public=False)


def test_without_a_token_nothing_is_sent(hub: type[TakingHub], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(EnvironmentProblem, match="no token"):
        push(folder, REPO, label="base@5", public=False)
    assert (hub.private, hub.taken) == (None, {})


def test_the_password_of_a_mirror_is_not_printed(
    hub: type[TakingHub], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", os.environ["HF_ENDPOINT"].replace("//", "//me:secretplanted@"))
    hub.refuse_with = 403
    with pytest.raises(EnvironmentProblem, match="http://127") as refused:
        push(folder, REPO, label="base@5", public=False)
    assert "secretplanted" not in str(refused.value)
