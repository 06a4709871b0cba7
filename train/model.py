"""A Qwen3-shaped GPT: RMSNorm, rotary positions, QK-norm, SwiGLU, grouped heads, no biases.

In:  inputs_BT and targets_BT (int64; target -1 does not count); documents_BT where attention stays inside documents.
Out: the *sum* of the counted losses. The embedding is the output head too, unless the shape says untied.
Holds: position t sees inputs 0..t (of its document) and no others; a batch in which nothing counts gives exactly 0.
Suffixes: B rows, T positions, D width, E head size, V vocabulary, N = B·T.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from dataprep.shapes import ModelShape, padded_vocab_size
from train.attention import Attention, View, causal_view, document_view, rotary_tables
from train.cache import Cache
from train.head import summed_loss, token_losses

_INIT_STD = 0.02
HeadLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # hidden_ND, weight_VD, targets_N -> the summed loss


class SwiGLU(nn.Module):
    """The gated MLP: down(silu(gate x) · up x)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.up = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.down = nn.Linear(shape.mlp_width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transform each position by itself."""
        return self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


class Block(nn.Module):
    """Attention, then MLP; each reads a normalised copy and adds to the stream."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.attention = Attention(shape)
        self.mlp_norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.mlp = SwiGLU(shape)

    def forward(self, x_BTD: Tensor, view: View) -> Tensor:
        """One layer."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), view)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class GPT(nn.Module):
    """The model. `forward` gives the summed loss, `token_losses` each target's, `next_logits` what sampling needs."""

    cos_TE: Tensor
    sin_TE: Tensor

    def __init__(self, shape: ModelShape, *, vocab_size: int, seq_len: int) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(padded_vocab_size(vocab_size), shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.final_norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.head = None if shape.tied else nn.Linear(shape.width, padded_vocab_size(vocab_size), bias=False)
        # What a GPU may do better than plain torch; train.kernels rehearses and sets both.
        self.head_loss: HeadLoss = summed_loss
        self.varlen = False
        cos_TE, sin_TE = rotary_tables(seq_len, shape.head_dim)
        self.register_buffer("cos_TE", cos_TE, persistent=False)
        self.register_buffer("sin_TE", sin_TE, persistent=False)
        self._initialise(shape.n_layers)

    @property
    def head_weight(self) -> Tensor:
        """The output head's weight_VD."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(self, inputs_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Sum of cross-entropy over the targets that count, a float32 scalar."""
        hidden_ND = self._hidden(inputs_BT, documents_BT).flatten(0, 1)
        return self.head_loss(hidden_ND, self.head_weight, targets_BT.flatten())

    def token_losses(self, inputs_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Cross-entropy of each target, losses_BT; 0 where it does not count. Eager: nothing compiles mid-run."""
        with torch.compiler.set_stance("force_eager"):
            hidden_ND = self._hidden(inputs_BT, documents_BT).flatten(0, 1)
            return token_losses(hidden_ND, self.head_weight, targets_BT.flatten()).view_as(targets_BT)

    def next_logits(self, inputs_BT: Tensor) -> Tensor:
        """Logits_BV of the token that follows each row. Every length is another one: eager, or each would compile."""
        with torch.compiler.set_stance("force_eager"):
            return F.linear(self._hidden(inputs_BT)[:, -1], self.head_weight).float()

    def cached_logits(self, inputs_BT: Tensor, cache: Cache) -> Tensor:
        """The same where only `inputs_BT` is new: the cache holds what came before, and these too from now on."""
        with torch.compiler.set_stance("force_eager"):
            x_BTD = self.embedding(inputs_BT)
            views = cache.views(self.cos_TE, self.sin_TE, inputs_BT.shape[1])
            for block, view in zip(self.blocks, views, strict=True):
                x_BTD = block(x_BTD, view)
            return F.linear(self.final_norm(x_BTD[:, -1]), self.head_weight).float()

    def hidden(self, inputs_BT: Tensor, view: View) -> Tensor:
        """Normalised hidden_BTD of positions that see what `view` shows; the head foretells from them."""
        x_BTD = self.embedding(inputs_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, view)
        return self.final_norm(x_BTD)

    def _hidden(self, inputs_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        if documents_BT is None:
            view = causal_view(self.cos_TE, self.sin_TE, inputs_BT.shape[1])
        else:
            view = document_view(self.cos_TE, self.sin_TE, documents_BT, varlen=self.varlen)
        return self.hidden(inputs_BT, view)

    def _initialise(self, n_layers: int) -> None:
        for name, weight in self.named_parameters():
            if weight.ndim < 2:  # noqa: PLR2004 -- norms are vectors and start at one
                continue
            # Two additions per layer: scaled so that the stream's variance does not grow with depth.
            adds_to_stream = name.endswith((".out.weight", ".down.weight"))
            nn.init.normal_(weight, std=_INIT_STD / (2 * n_layers) ** 0.5 if adds_to_stream else _INIT_STD)
