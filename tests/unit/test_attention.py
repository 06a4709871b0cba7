"""Attention inside documents: nothing of one reaches another, through the loader's numbers and the model's mask."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from masked import publish_variant

from dataprep.batch import Batch
from dataprep.paths import Paths
from dataprep.shapes import PRESETS
from train.attention import document_view, positions_within, rotary_tables
from train.loader import Loader
from train.model import GPT

SEQ_LEN = 64


@pytest.fixture(scope="module")
def row(packed_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, ...]:
    """Inputs, targets and documents of a row of two documents or more, as loaded; then its end made padding."""
    root = tmp_path_factory.mktemp("documents") / "root"
    shutil.copytree(packed_root, root)
    loader = Loader(Paths(root=root), publish_variant(root, "inside", attention="document"))
    batch = Batch(seq_len=SEQ_LEN, world_size=1, micro_batch=loader.recipe.plan_rows, accumulation=1)
    everything = loader.rank_rows(0, loader.recipe.plan_rows, batch=batch, rank=0)
    assert everything.documents_AMT is not None
    several = everything.documents_AMT[0, :, 40] >= 1
    chosen = int(np.flatnonzero(several)[0])
    inputs, targets, documents = (torch.from_numpy(array[0, chosen : chosen + 1]) for array in everything.arrays)
    inputs[:, 50:], targets[:, 50:], documents[:, 50:] = loader.recipe.pad_id, -1, 99
    return inputs, targets, documents


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(PRESETS["nano"].shape, vocab_size=272, seq_len=SEQ_LEN).double()


def loss_of(model: GPT, row: tuple[torch.Tensor, ...], document: int, *, full: bool = False) -> torch.Tensor:
    """The loss of one document's targets in the row."""
    inputs, targets, documents = row
    counted = torch.where(documents == document, targets, -1)
    return model(inputs, counted) if full else model(inputs, counted, documents)


def changed(row: tuple[torch.Tensor, ...], document: int) -> tuple[torch.Tensor, ...]:
    """The same row with every token of one document another one; ends stay where they are."""
    inputs, targets, documents = row
    mine = documents == document
    opens = mine & (positions_within(documents) == 0)
    others = torch.where(mine & ~opens, (inputs + 1) % 256, inputs)
    return others, torch.where(mine, (targets + 1) % 256, targets), documents


@pytest.mark.parametrize("other", [0, 1])
def test_changing_a_document_never_changes_the_loss_of_another(
    model: GPT, row: tuple[torch.Tensor, ...], other: int
) -> None:
    of_one = [loss_of(model, each, 1 - other) for each in (row, changed(row, other))]
    assert torch.equal(*of_one)
    own = [loss_of(model, each, other) for each in (row, changed(row, other))]
    assert not torch.equal(*own)


def test_with_full_attention_an_earlier_document_does_reach_a_later_one(
    model: GPT, row: tuple[torch.Tensor, ...]
) -> None:
    of_second = [loss_of(model, each, 1, full=True) for each in (row, changed(row, 0))]
    assert not torch.allclose(*of_second)


def test_gradients_of_one_documents_loss_do_not_reach_another(row: tuple[torch.Tensor, ...]) -> None:
    torch.manual_seed(0)
    fresh = GPT(PRESETS["nano"].shape, vocab_size=272, seq_len=SEQ_LEN).double()
    inputs, targets, documents = row
    inputs = torch.where(documents == 0, 265, inputs)  # an id that is nowhere else
    hidden = fresh._hidden(inputs, documents)
    hidden[documents == 1].sum().backward()
    assert torch.count_nonzero(fresh.embedding.weight.grad[265]) == 0
    assert torch.count_nonzero(fresh.embedding.weight.grad[targets[documents == 1]]) > 0


def test_a_documents_loss_is_the_same_alone_and_after_another(model: GPT, row: tuple[torch.Tensor, ...]) -> None:
    inputs, targets, documents = row
    second = documents == 1
    alone = model(inputs[second][None], targets[second][None], torch.zeros_like(documents[second][None]))
    torch.testing.assert_close(alone, loss_of(model, row, 1), rtol=0, atol=1e-10)
    # And one document that fills its row is what full attention makes of it.
    torch.testing.assert_close(model(inputs[second][None], targets[second][None]), alone, rtol=0, atol=1e-10)


def test_positions_restart_and_tables_with_them() -> None:
    documents = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1, 1]])
    positions = [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]
    assert positions_within(documents).tolist() == positions
    cos, sin = rotary_tables(6, 8)
    view = document_view(cos, sin, documents)
    for i, of_row in enumerate(positions):
        assert torch.equal(view.cos[i, 0], cos[of_row])
        assert torch.equal(view.sin[i, 0], sin[of_row])


def test_a_position_sees_its_own_document_up_to_itself() -> None:
    documents = torch.tensor([[0, 0, 1, 1, 1, 2]])
    view = document_view(*rotary_tables(6, 8), documents)
    assert view.mask_B1TT is not None
    for t in range(6):
        seen = [s for s in range(6) if s <= t and documents[0, s] == documents[0, t]]
        assert view.mask_B1TT[0, 0, t].nonzero().flatten().tolist() == seen


def test_padding_is_never_nan(model: GPT, row: tuple[torch.Tensor, ...]) -> None:
    inputs, targets, documents = row
    assert (targets[documents == documents.max()] == -1).all()
    rows = torch.cat([inputs, torch.full_like(inputs, 271)])
    none_counts = torch.cat([targets, torch.full_like(targets, -1)])
    loss = model(rows, none_counts, torch.cat([documents, torch.zeros_like(documents)]))
    loss.backward()
    torch.testing.assert_close(loss, model(inputs, targets, documents))
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())
