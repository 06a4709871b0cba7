"""`dataprep.pack`: what is packed, what is refused, what stays as it was."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import run_in

from dataprep import pack
from dataprep.errors import BudgetError, DataError, UsageError
from dataprep.paths import Paths
from dataprep.plan import open_plan
from dataprep.recipe import load_recipe


@pytest.fixture
def root(packed_root: Path, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    shutil.copytree(packed_root, root)
    return root


def everything(root: Path) -> dict[str, bytes]:
    kept = [file for file in root.rglob("*") if file.is_file() and not file.name.startswith((".", "tokens.db"))]
    return {str(file.relative_to(root)): file.read_bytes() for file in kept}


def packed(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    capsys.readouterr()
    assert run_in(root, pack.main, "--seq-len", "64", "--json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_the_plan_has_the_columns_and_types_that_others_rely_on(root: Path) -> None:
    schema = pq.read_schema(root / "manifests/plans/mix.parquet")
    types = {field.name: str(field.type) for field in schema}
    assert types == {"row": "int64", "source": "string", "shard": "string", "start": "int64", "length": "int32"}


def test_a_budget_gives_whole_rows_in_the_exact_ratio(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = packed(root, capsys, "--mix", "30:70", "--sources", "alpha,beta", "--tokens", "6.4K")
    assert (got["plan_rows"], got["tokens"], got["pad_tokens"]) == (100, 6400, 0)
    assert [source["plan_rows"] for source in got["sources"]] == [30, 70]  # type: ignore[index]


def test_the_same_request_is_the_same_plan_and_another_seed_is_not(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--mix", "1:1", "--sources", "alpha,beta", "--tokens", "4K"]
    first, again, other = (packed(root, capsys, *asked, "--seed", seed) for seed in ("7", "7", "8"))
    assert (first["made"], again["made"], other["made"]) == (True, False, True)
    assert first["rows_sha256"] == again["rows_sha256"] != other["rows_sha256"]


def test_shuffled_documents_are_a_plan_of_the_same_tokens(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, documents = (
        packed(root, capsys, "--mix", "1", "--sources", "alpha", "--shuffle", s) for s in ("rows", "documents")
    )
    assert rows["tokens"] == documents["tokens"] == 46_386
    assert rows["rows_sha256"] != documents["rows_sha256"]


def test_held_out_shards_can_be_packed_and_never_mix_with_train(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = packed(root, capsys, "--mix", "1", "--sources", "alpha", "--split", "holdout", "--name", "held")
    assert got["tokens"] == 16_113
    shards = set(pq.read_table(root / "manifests/plans/held.parquet")["shard"].to_pylist())
    assert shards == {"shard_00003"}
    assert "shard_00003" not in {shard.shard for shard in load_recipe(Paths(root=root), "mix").shards}


REFUSALS = {
    "more than supply": (
        ["--mix", "1", "--sources", "alpha", "--tokens", "1M"],
        BudgetError,
        "the most this ratio allows",
    ),
    "less than a row": (["--mix", "1", "--sources", "alpha", "--tokens", "63"], BudgetError, "smaller than one row"),
    "a share without a source": (["--mix", "1:2:3"], UsageError, "every share needs one source"),
    "an unknown source": (["--mix", "1:2", "--sources", "alpha,gamma"], UsageError, "no bins of gamma"),
    "a source twice": (["--mix", "1:2", "--sources", "alpha,alpha"], UsageError, "every share needs one source"),
    "a taken name": (["--mix", "1", "--sources", "alpha", "--name", "mix"], UsageError, "is taken by another recipe"),
    "an unknown tokenizer": (["--mix", "1", "--tokenizer", "nobody"], DataError, "no vocabulary 'nobody'"),
}


@pytest.mark.parametrize(("arguments", "error", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_is_refused_and_changes_nothing(
    root: Path, arguments: list[str], error: type[Exception], words: str
) -> None:
    before = everything(root)
    with pytest.raises(error, match=words):
        run_in(root, pack.main, "--seq-len", "64", *arguments)
    assert everything(root) == before


def test_the_nearest_feasible_budget_is_really_feasible_and_the_largest(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--mix", "30:70", "--sources", "alpha,beta"]
    with pytest.raises(BudgetError) as refusal:
        run_in(root, pack.main, "--seq-len", "64", *asked, "--tokens", "1M")
    nearest = int(refusal.value.fix.split()[1])
    assert packed(root, capsys, *asked, "--tokens", str(nearest))["plan_rows"] == nearest // 64
    with pytest.raises(BudgetError):
        run_in(root, pack.main, "--seq-len", "64", *asked, "--tokens", str(nearest + 64))


@pytest.mark.parametrize("mix", ["30:0", "thirty", "30:-1", "1.5:2", "", ":", "\u0663:\u0667"])
def test_a_mix_that_is_no_ratio_exits_2_in_three_lines(
    root: Path, mix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_in(root, pack.main, f"--mix={mix}")
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_damaged_plan_is_refused_and_packing_again_mends_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths(root=root)
    before = everything(root)
    plan = root / "manifests/plans/mix.parquet"
    content = bytearray(plan.read_bytes())
    content[100] ^= 1
    plan.write_bytes(content)
    with pytest.raises(DataError, match="not the one its recipe names"):
        open_plan(paths, load_recipe(paths, "mix"))
    packed(root, capsys, "--mix", "70:30", "--sources", "alpha,beta", "--name", "mix", "--seed", "1")
    assert everything(root) == before


def test_a_recipe_edited_by_hand_is_refused(root: Path) -> None:
    file = root / "manifests/recipes/mix.toml"
    file.write_text(file.read_text().replace("seed = 1", "seed = 2"))
    with pytest.raises(DataError, match="not as it was packed"):
        load_recipe(Paths(root=root), "mix")


def test_the_same_request_gives_the_same_recipe_after_another_shard_arrived(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, asked = Paths(root=root), ["--mix", "1", "--sources", "alpha", "--name", "early"]
    folder = paths.bins("tiny-bpe", "alpha")
    held = {file: file.read_bytes() for file in folder.glob("shard_00002.*")}
    for file in held:
        file.unlink()
    first = packed(root, capsys, *asked)
    for file, content in held.items():
        file.write_bytes(content)
    (paths.plans / "early.parquet").unlink()
    again = packed(root, capsys, *asked)
    assert (again["made"], again["sha256"], again["plan_sha256"]) == (True, first["sha256"], first["plan_sha256"])
    assert packed(root, capsys, "--mix", "1", "--sources", "alpha")["plan_rows"] > again["plan_rows"]
