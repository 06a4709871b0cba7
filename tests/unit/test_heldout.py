"""The list of held-out rows, and scores over it, against naive readers and sums by hand."""

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from conftest import run_in
from masked import publish_variant, write_mask

from dataprep import pack
from dataprep.bins import find_receipts, read_receipt
from dataprep.errors import DataError
from dataprep.paths import Paths
from dataprep.publish import publish_bytes
from dataprep.recipe import load_recipe
from dataprep.shapes import PRESETS
from dataprep.standing import standing_evals
from dataprep.vocab_store import load_vocab
from train.checkpoint import Cursor
from train.heldout import HeldOutRows, open_held_out
from train.model import GPT
from train.ranks import Ranks
from train.validate import Score, eval_records, is_judged, ratio, validate

ALONE = Ranks(rank=0, world_size=1, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def shared_root(packed_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes `mix`, and `other`: of one source, with another seed, strategy and budget."""
    root = tmp_path_factory.mktemp("heldout") / "root"
    shutil.copytree(packed_root, root)
    asked = ["--mix", "1", "--sources", "beta", "--name", "other", "--seq-len", "64", "--seed", "9"]
    assert run_in(root, pack.main, *asked, "--strategy", "best-fit", "--tokens", "6400") == 0
    return root


@pytest.fixture
def root(shared_root: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(shared_root, copy)
    return copy


def opened(root: Path, recipe: str = "mix", n_rows: int = 16) -> HeldOutRows:
    paths = Paths(root=root)
    return open_held_out(paths, load_recipe(paths, recipe), load_vocab(paths, "tiny-bpe"), n_rows)


def bin_file(root: Path, source: str, shard: str) -> Path:
    return root / "data" / "bins" / "tiny-bpe" / source / f"{shard}.bin"


def change_receipt(root: Path, source: str, shard: str, **changes: object) -> None:
    file = bin_file(root, source, shard).with_suffix(".json")
    publish_bytes(file, json.dumps(replace(read_receipt(file), **changes).to_json()).encode())  # type: ignore[arg-type]


def test_the_rows_are_those_that_a_naive_reader_takes(shared_root: Path) -> None:
    held_out = opened(shared_root)
    assert [(held.source, held.row_from, held.row_to) for held in held_out.sources] == [
        ("alpha", 0, 16),
        ("beta", 16, 32),
    ]
    end_id = held_out.gatherer.recipe.end_id
    for held, shard in zip(held_out.sources, ("shard_00003", "shard_00001"), strict=True):
        stream = [end_id, *np.fromfile(bin_file(shared_root, held.source, shard), dtype="<u2").tolist()]
        n_held = -(-(len(stream) - 1) // 64)
        rows = held_out.rows(held.row_from, held.row_to, n_rows=16)
        for i in range(16):
            first = i * n_held // 16 * 64
            assert rows.targets_RT[i].tolist() == stream[first + 1 : first + 65]
            assert rows.inputs_RT[i].tolist() == stream[first : first + 64]


def test_another_recipe_of_the_tokenizer_has_the_same_rows_and_fewer_are_among_them(shared_root: Path) -> None:
    _, beta = opened(shared_root).sources
    (alone,) = opened(shared_root, "other").sources
    assert alone.rows_sha256 == beta.rows_sha256
    ours = opened(shared_root).rows(beta.row_from, beta.row_to, n_rows=16)
    theirs = opened(shared_root, "other", n_rows=8).rows(0, 8, n_rows=8)
    assert (ours.targets_RT[::2] == theirs.targets_RT).all()


def test_where_fewer_rows_are_held_all_of_them_are_taken_and_the_short_one_is_padded(shared_root: Path) -> None:
    held_out = opened(shared_root, "other", n_rows=10**6)
    tokens = read_receipt(bin_file(shared_root, "beta", "shard_00001").with_suffix(".json")).tokens
    assert held_out.n_rows == -(-tokens // 64)
    rows = held_out.rows(0, held_out.n_rows, n_rows=held_out.n_rows + 3)
    assert (rows.targets_RT != -1).sum() == tokens
    assert tokens % 64, "the last row is meant to be short"


def test_no_row_is_of_a_shard_in_the_plan_even_if_it_was_pinned_later(root: Path) -> None:
    held_out, recipe = opened(root), load_recipe(Paths(root=root), "mix")
    planned = {(shard.source, shard.shard) for shard in recipe.shards}
    before = {(shard.source, shard.shard) for shard in held_out.gatherer.shards}
    assert before == {("alpha", "shard_00003"), ("beta", "shard_00001")}
    assert not before & planned
    change_receipt(root, "alpha", "shard_00001", split="holdout")
    pinned = opened(root)
    assert {(shard.source, shard.shard) for shard in pinned.gatherer.shards} == before
    assert pinned.sources == held_out.sources
    assert "; shard_00001 of alpha is held out by now, but in the plan" in pinned.summary(250)


def test_a_source_without_a_held_out_shard_is_named_and_without_any_validation_is_off(root: Path) -> None:
    for suffix in (".bin", ".docs", ".json"):
        bin_file(root, "beta", "shard_00001").with_suffix(suffix).unlink()
    held_out = opened(root)
    assert [held.source for held in held_out.sources] == ["alpha"]
    wanted = "every 250 steps and at the end by held-out rows: 16 of alpha; no held-out shard of beta"
    assert held_out.summary(250) == wanted
    off = opened(root, "other")
    assert (off.sources, off.n_rows) == ((), 0)
    assert off.summary(250) == "validation is off; no held-out shard of beta"
    assert validate(model_of(off), off, ALONE, micro_batch=4) == []


def test_a_held_out_bin_cut_short_or_with_foreign_tokens_is_refused_by_name(root: Path) -> None:
    file = bin_file(root, "alpha", "shard_00003")
    whole = file.read_bytes()
    file.write_bytes(whole[:-2])
    with pytest.raises(DataError, match=r"shard_00003\.bin of alpha is not what its receipt says"):
        opened(root)
    tokens = np.frombuffer(whole, dtype="<u2").copy()
    tokens[5] = 60_000
    file.write_bytes(tokens.tobytes())
    with pytest.raises(DataError, match=r"shard_00003\.bin of alpha holds a token that is not in the vocabulary"):
        opened(root)


def test_a_held_out_bin_of_another_vocabulary_is_refused(root: Path) -> None:
    receipt = read_receipt(bin_file(root, "beta", "shard_00001").with_suffix(".json"))
    change_receipt(root, "beta", "shard_00001", tokenizer=replace(receipt.tokenizer, fingerprint="0" * 64))
    with pytest.raises(DataError, match="shard_00001 of beta was made with another vocabulary"):
        opened(root)


def test_the_assistants_targets_alone_count_where_a_recipe_says_so(root: Path) -> None:
    mask = write_mask(root, "beta", "shard_00001")
    publish_variant(root, "sft", loss="assistant", attention="document")
    held_out, plain = opened(root, "sft", n_rows=10**6), opened(root, n_rows=10**6)
    alpha, beta = held_out.sources
    assert beta.rows_sha256 == plain.sources[1].rows_sha256
    rows = held_out.rows(beta.row_from, beta.row_to, n_rows=beta.row_to - beta.row_from)
    assert (rows.targets_RT.flatten()[: len(mask)] != -1).tolist() == (mask == 1).tolist()
    assert rows.documents_RT is not None
    assert (held_out.rows(alpha.row_from, alpha.row_from + 1, n_rows=1).targets_RT != -1).all()


def test_a_source_in_whose_rows_nothing_counts_has_no_score(root: Path) -> None:
    mask = write_mask(root, "beta", "shard_00001")
    bin_file(root, "beta", "shard_00001").with_suffix(".loss").write_bytes(bytes(len(mask)))
    publish_variant(root, "sft", loss="assistant")
    held_out = opened(root, "sft")
    assert [held.source for held in held_out.sources] == ["alpha"]
    assert held_out.notes == ("no target counts in the held-out rows of beta",)
    assert [score.source for score in validate(model_of(held_out), held_out, ALONE, micro_batch=5)] == ["alpha"]


def test_the_bytes_of_a_shards_tokens_are_the_bytes_of_its_text(shared_root: Path) -> None:
    paths = Paths(root=shared_root)
    lengths = load_vocab(paths, "tiny-bpe").byte_lengths
    for receipt in map(read_receipt, find_receipts(paths)):
        tokens = np.fromfile(bin_file(shared_root, receipt.source, receipt.shard), dtype="<u2")
        assert int(lengths[tokens].sum()) == receipt.text_bytes > receipt.tokens
    assert not lengths[-12:].any()  # the end token and the chat specials


def model_of(held_out: HeldOutRows) -> GPT:
    torch.manual_seed(3)
    recipe = held_out.gatherer.recipe
    return GPT(PRESETS["nano"].shape, vocab_size=recipe.vocab_size, seq_len=recipe.seq_len)


@pytest.mark.parametrize("recipe", ["mix", "inside"])
def test_scores_are_those_of_plain_logits_whatever_the_micro_batch(root: Path, recipe: str) -> None:
    write_mask(root, "beta", "shard_00001")
    publish_variant(root, "inside", loss="assistant", attention="document")
    held_out = opened(root, recipe)
    model, vocab = model_of(held_out), load_vocab(Paths(root=root), "tiny-bpe")
    rows = held_out.rows(0, held_out.n_rows, n_rows=held_out.n_rows)
    inputs, targets, *documents = (torch.from_numpy(array) for array in rows.arrays)
    with torch.no_grad():
        logits = F.linear(model._hidden(inputs, *documents), model.embedding.weight)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none")
    losses = losses.view(targets.shape).double()
    n_bytes = torch.from_numpy(vocab.byte_lengths)[targets.clamp(min=0)] * (targets != -1)
    of_micro_batch = {size: validate(model, held_out, ALONE, micro_batch=size) for size in (1, 4, 7, 100)}
    for i, held in enumerate(held_out.sources):
        place = slice(held.row_from, held.row_to)
        counted, text = targets[place] != -1, n_bytes[place] > 0
        nats = float(losses[place].sum() / counted.sum())
        bits = float(losses[place][text].sum() / math.log(2) / n_bytes[place].sum())
        assert text.sum() < counted.sum()  # an end token is among them
        for scores in of_micro_batch.values():
            assert (scores[i].source, scores[i].n_rows) == (held.source, 16)
            assert scores[i].loss.value == pytest.approx(nats, rel=1e-6)
            assert scores[i].bits_per_byte.value == pytest.approx(bits, rel=1e-6)


@dataclass
class Watched:
    """Stands in for a model: every target costs as much as its row's first input; keeps what it was given."""

    cos_TE: torch.Tensor  # noqa: N815 -- the model's own name
    shapes: set[torch.Size]

    def token_losses(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.shapes.add(inputs.shape)
        return torch.where(targets == -1, 0.0, inputs[:, :1].float())


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 40])
def test_ranks_share_the_rows_one_micro_batch_at_a_time_and_give_the_very_same_scores(
    shared_root: Path, world_size: int
) -> None:
    held_out = opened(shared_root)
    parts: list[np.ndarray] = []

    class OneOf(Ranks):
        """A rank among others: gathers what those before it gave; only the last one's scores are whole."""

        def gather(self, value: object) -> list[object]:
            if isinstance(value, np.ndarray):
                parts.append(value)
                return [*parts, np.ones((held_out.n_rows, 4))]
            return [value] * self.world_size

    watched = Watched(torch.zeros(1), set())
    scores: list[Score] = []
    for rank in range(world_size):
        one = OneOf(rank=rank, world_size=world_size, device=torch.device("cpu"))
        scores = validate(watched, held_out, one, micro_batch=3)  # type: ignore[arg-type]
    assert watched.shapes == {torch.Size([3, 64])}
    assert sum(map(len, parts)) == held_out.n_rows
    first_inputs = held_out.rows(0, 32, n_rows=32).inputs_RT[:, 0]
    assert [score.loss.value for score in scores] == [first_inputs[:16].mean(), first_inputs[16:].mean()]
    assert scores[0].loss.stderr == pytest.approx(first_inputs[:16].std(ddof=1) / 4)


def test_a_ratio_and_its_standard_error_are_the_formulas_by_hand() -> None:
    of_two = ratio(np.array([6.0, 2.0]), np.array([2.0, 2.0]))
    assert (of_two.value, of_two.stderr) == (2.0, pytest.approx(math.sqrt((2**2 + 2**2) * 2 / 1) / 4))
    uneven = ratio(np.array([3.0, 10.0, 2.0]), np.array([1.0, 5.0, 0.0]))
    assert uneven.value == 2.5
    assert uneven.stderr == pytest.approx(math.sqrt((0.5**2 + 2.5**2 + 2.0**2) * 3 / 2) / 6)
    assert ratio(np.array([4.0]), np.array([2.0])).stderr is None


def test_a_score_that_is_not_finite_is_null_in_the_journal(shared_root: Path) -> None:
    held_out = opened(shared_root)
    broken = Watched(torch.zeros(1), set())
    broken.token_losses = lambda inputs, _targets: torch.full(inputs.shape, float("nan"))  # type: ignore[method-assign]
    records = eval_records(Cursor(), validate(broken, held_out, ALONE, micro_batch=8))  # type: ignore[arg-type]
    assert [(record["value"], record["stderr"]) for record in records] == [(None, None)] * 4
    json.dumps(records, allow_nan=False)


def test_weights_are_judged_once_all_their_scores_are_in_the_journal(shared_root: Path) -> None:
    held_out = opened(shared_root)
    scores = validate(model_of(held_out), held_out, ALONE, micro_batch=8)
    cursor = Cursor(step=10, rows_done=80, tokens_done=5_120, loss_tokens_done=5_120)
    judged = [{"kind": "eval", **record} for record in eval_records(cursor, scores)]
    start = {"kind": "start", "rows_done": 0}
    assert is_judged([start, *judged], held_out, cursor)
    assert not is_judged([start, *judged[:-1]], held_out, cursor)
    assert not is_judged([start, *judged], held_out, replace(cursor, rows_done=88))
    earlier = {"kind": "start", "rows_done": 72}  # the weights at row 80 were thrown away
    assert not is_judged([start, *judged, earlier], held_out, cursor)
    assert standing_evals([start, *judged, {"kind": "start", "rows_done": 80}]) == judged
    newest = [record | {"value": 0.0} for record in judged]
    assert standing_evals([start, *judged, earlier, *newest]) == newest
    assert standing_evals([start, *judged, *newest]) == newest
