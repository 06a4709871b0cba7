"""What a GPU gets, as far as a CPU can tell: bounds against the mask, compiling, its fallback and what is said."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
import torch._dynamo.utils
import varlen_on_cpu  # noqa: F401 -- registers kernels
from torch.nn.attention import varlen

from dataprep.batch import Batch
from dataprep.shapes import PRESETS
from train import kernels
from train.attention import document_bounds, document_view, positions_within, rotary_tables
from train.kernels import choose_kernels, compile_trouble, varlen_trouble
from train.model import GPT
from train.ranks import Ranks

# Torch's tracer looks at .grad of what it traces, and would take the warning, here an error, for a failure to compile.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
CPU = torch.device("cpu")
BATCH = Batch(seq_len=32, world_size=1, micro_batch=2, accumulation=1)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    torch.compiler.set_stance("default")
    torch._dynamo.reset()


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(PRESETS["nano"].shape, vocab_size=70, seq_len=BATCH.seq_len)


def rows(n_documents: int) -> tuple[torch.Tensor, ...]:
    """Inputs, targets and documents of a micro-batch; each row holds that many documents."""
    drawn = torch.randint(70, (2, 33), generator=torch.Generator().manual_seed(n_documents))
    return drawn[:, :-1], drawn[:, 1:], (torch.arange(32) * n_documents // 32).expand(2, -1)


def test_bounds_are_where_documents_begin_and_the_end() -> None:
    documents = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 99, 99]])  # 99: padding is a document of its own
    bounds = document_bounds(positions_within(documents))
    assert bounds.tolist() == [0, 3, 5, 6, 10, 12]
    assert bounds.dtype == torch.int32
    view = document_view(*rotary_tables(6, 8), documents, varlen=True)
    assert view.mask_B1TT is None
    assert torch.equal(view.cos, document_view(*rotary_tables(6, 8), documents).cos)


def test_bounds_give_the_masks_loss_and_gradients(model: GPT) -> None:
    assert varlen_trouble(model, CPU) is None
    losses, gradients = [], []
    for model.varlen in (False, True):
        loss = model(*rows(3))
        gradients.append(torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(model.parameters()))]))
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[1] != losses[0]  # the other path was taken: it computes in bf16
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 0.02


def test_a_varlen_kernel_with_other_values_or_none_is_not_used(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = varlen.varlen_attn
    monkeypatch.setattr(varlen, "varlen_attn", lambda *args, **named: 1.1 * honest(*args, **named))
    assert "off the mask's values" in str(varlen_trouble(model, CPU))
    monkeypatch.setattr(varlen, "varlen_attn", lambda *_: None)  # of torch 2.10, which knew no window_size
    assert str(varlen_trouble(model, CPU)).startswith("TypeError")


@pytest.mark.parametrize("by_bounds", [False, True])
def test_blocks_compile_once_for_all_layers_and_numbers_of_documents(model: GPT, by_bounds: bool) -> None:
    names = list(model.state_dict())
    model.varlen = by_bounds
    wanted = [model(*rows(n)).item() for n in (1, 2, 5, 8)]
    torch._dynamo.utils.counters.clear()
    assert compile_trouble(model, BATCH, by_document=True, backend="aot_eager") is None
    found = []
    for n in (1, 2, 5, 8):
        loss = model(*rows(n))
        loss.backward()
        found.append(loss.item())
    assert found == pytest.approx(wanted, rel=1e-3)
    model.next_logits(rows(1)[0][:, :7])  # another length, and not compiled
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 2  # a block, and a chunk of the head
    assert not counters["graph_break"]
    assert list(model.state_dict()) == names


def test_where_the_compiler_fails_training_goes_on_without_and_says_so(
    model: GPT, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_compiler(*_: object) -> None:
        raise RuntimeError("no working C++ compiler\nand much more")

    honest = kernels.compile_trouble
    monkeypatch.setattr(kernels, "compile_trouble", lambda *args, **named: honest(*args, **named, backend=no_compiler))
    on_a_gpu = Ranks(rank=0, world_size=1, device=torch.device("cuda"))  # as it believes; the model is not
    choose_kernels(model, on_a_gpu, BATCH, compiled=True, by_document=False)
    said = capsys.readouterr().out
    assert said.endswith("not compiled, training goes on without: RuntimeError: no working C++ compiler\n")
    model(*rows(1)[:2]).backward()


def test_an_error_of_ones_own_is_not_taken_for_the_compilers(model: GPT) -> None:
    too_long = dataclasses.replace(BATCH, seq_len=33)
    with pytest.raises(RuntimeError, match=r"33.*32|32.*33"):
        compile_trouble(model, too_long, by_document=False, backend="eager")


def test_a_lack_of_memory_is_not_taken_for_the_compilers(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(kernels, "_rehearse", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        compile_trouble(model, BATCH, by_document=False, backend="eager")


def test_a_cpu_gets_plain_torch(model: GPT) -> None:
    choose_kernels(model, Ranks(rank=0, world_size=1, device=CPU), BATCH, compiled=True, by_document=True)
    assert not model.varlen
    assert all(block._compiled_call_impl is None for block in model.blocks)
