"""Attention: what each position of a row sees, and mixing it in. The only file that knows masks and positions.

In:  x_BTD, and a `View`: rotary tables by position, and what says who sees whom where rows hold several documents.
Out: y_BTD. Documents are numbers_BT (int64), equal inside a document; padding has a number of its own.
Holds: with documents a position sees its own document up to itself and nothing else, and positions restart in each;
       every position sees itself, so that no softmax is over nothing and padding is never NaN.
Two ways to the same values: a mask for torch's own attention anywhere; on a GPU the documents' bounds for its varlen
       kernel, which skips what the mask would only zero. Which one: docs/decisions/0009.
Suffixes: B rows, T positions, D width, H heads, K key/value heads, E head size, N = B·T, S documents.
    documents  0 0 0 1 1 2     positions  0 1 2 0 1 0     bounds  0 3 5 6
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from dataprep.shapes import ModelShape

_ROPE_BASE = 10_000.0


@dataclass(frozen=True, kw_only=True)
class View:
    """What the positions of a batch see; made once per forward pass, the same in every layer.

    Without documents: every position up to itself, one table_TE for all rows. With them: tables_B1TE, and one of the
    mask_B1TT and the cumulative bounds (int32, S + 1).
    """

    cos: Tensor
    sin: Tensor
    mask_B1TT: Tensor | None = None
    bounds: Tensor | None = None
    # One layer's memory of the rows so far: new keys and values in, all of them out. The mask is B1TC then.
    remember: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None


def causal_view(cos_TE: Tensor, sin_TE: Tensor, n_positions: int) -> View:
    """Every position sees the whole row up to itself."""
    return View(cos=cos_TE[:n_positions], sin=sin_TE[:n_positions])


def document_view(cos_TE: Tensor, sin_TE: Tensor, documents_BT: Tensor, *, varlen: bool = False) -> View:
    """Every position sees its own document up to itself. A mask costs B·T² bytes, once for all layers."""
    positions_BT = positions_within(documents_BT)
    cos, sin = cos_TE[positions_BT][:, None], sin_TE[positions_BT][:, None]
    if varlen:
        return View(cos=cos, sin=sin, bounds=document_bounds(positions_BT))
    same_B1TT = (documents_BT[:, :, None] == documents_BT[:, None, :])[:, None]
    return View(cos=cos, sin=sin, mask_B1TT=same_B1TT.tril())


def positions_within(documents_BT: Tensor) -> Tensor:
    """Each position's distance from its document's first, int64."""
    row_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    begins_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    first_BT = torch.where(begins_BT, row_T, 0).cummax(dim=1).values
    return row_T - first_BT


def document_bounds(positions_BT: Tensor) -> Tensor:
    """Where documents begin in all rows laid end to end, and the end: int32. A GPU waits once here, to count them."""
    begins = (positions_BT.flatten() == 0).nonzero().flatten()
    bounds = F.pad(begins, (0, 1), value=positions_BT.numel()).int()
    torch._dynamo.mark_dynamic(bounds, 0)  # noqa: SLF001 -- documented; or each number of documents would compile
    return bounds


class Attention(nn.Module):
    """Causal self-attention over what the view shows."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = shape.n_heads, shape.n_kv_heads, shape.head_dim
        self.query = nn.Linear(shape.width, shape.n_heads * shape.head_dim, bias=False)
        self.key = nn.Linear(shape.width, shape.n_kv_heads * shape.head_dim, bias=False)
        self.value = nn.Linear(shape.width, shape.n_kv_heads * shape.head_dim, bias=False)
        self.out = nn.Linear(shape.n_heads * shape.head_dim, shape.width, bias=False)
        self.query_norm = nn.RMSNorm(shape.head_dim, eps=1e-6)
        self.key_norm = nn.RMSNorm(shape.head_dim, eps=1e-6)

    def forward(self, x_BTD: Tensor, view: View) -> Tensor:
        """Mix positions with the ones they see."""
        n_rows, n_positions, _ = x_BTD.shape
        q_BTHE = self.query(x_BTD).view(n_rows, n_positions, self.n_heads, self.head_dim)
        k_BTKE = self.key(x_BTD).view(n_rows, n_positions, self.n_kv_heads, self.head_dim)
        v_BTKE = self.value(x_BTD).view(n_rows, n_positions, self.n_kv_heads, self.head_dim)
        q_BHTE = rotate(self.query_norm(q_BTHE).transpose(1, 2), view.cos, view.sin)
        k_BKTE = rotate(self.key_norm(k_BTKE).transpose(1, 2), view.cos, view.sin)
        v_BKTE = v_BTKE.transpose(1, 2)
        if view.remember is not None:
            k_BKTE, v_BKTE = view.remember(k_BKTE, v_BKTE)
        y_BHTE = attend(q_BHTE, k_BKTE, v_BKTE, view)
        return self.out(y_BHTE.transpose(1, 2).reshape(n_rows, n_positions, -1))


def attend(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, view: View) -> Tensor:
    """Values mixed by softmax(q·k/√E) over what is seen."""
    n_shared = q_BHTE.shape[1] // k_BKTE.shape[1]
    if view.mask_B1TT is None and view.bounds is None:
        return F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=n_shared > 1)
    # With a mask no fused GPU kernel takes shared heads, and varlen's first versions neither: they are repeated.
    k_BHTE, v_BHTE = (shared.repeat_interleave(n_shared, dim=1) for shared in (k_BKTE, v_BKTE))
    if view.bounds is None:
        return F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, attn_mask=view.mask_B1TT)
    n_rows, _, n_positions, _ = q_BHTE.shape
    q_NHE, k_NHE, v_NHE = (x_BHTE.transpose(1, 2).flatten(0, 1) for x_BHTE in (q_BHTE, k_BHTE, v_BHTE))
    y_NHE = _attend_varlen(q_NHE, k_NHE, v_NHE, view.bounds, n_positions)
    return y_NHE.unflatten(0, (n_rows, n_positions)).transpose(1, 2)


def _attend_varlen(q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, bounds: Tensor, longest: int) -> Tensor:
    """Torch's flash kernel for rows of any lengths (GPU, bf16); `longest` may be more than any document has."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x_NHE.to(torch.bfloat16) for x_NHE in (q_NHE, k_NHE, v_NHE))  # autocast does not reach in there
    y_NHE = varlen_attn(q, k, v, bounds, bounds, longest, longest, window_size=(-1, 0))  # (-1, 0): causal
    assert isinstance(y_NHE, Tensor), "the kernel's own statistics were not asked for"
    return y_NHE.to(v_NHE.dtype)


def rotary_tables(seq_len: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos_TE and sin_TE; pair i turns by position · base^(-2i/E)."""
    frequency = _ROPE_BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(seq_len, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos().float(), angle.sin().float()


def rotate(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + E/2) by its position's angle; tables_TE, or tables_B1TE where positions differ by row."""
    first, second = x_BHTE.chunk(2, dim=-1)
    turned = x_BHTE * cos + torch.cat((-second, first), dim=-1) * sin
    return turned.to(x_BHTE.dtype)
