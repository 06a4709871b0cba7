"""A Qwen3-shaped GPT: RMSNorm, rotary positions, QK-norm, SwiGLU, grouped heads, no biases, tied head.

In:  inputs_BT and targets_BT (int64; target -1 does not count). Out: the *sum* of the counted losses.
Holds: position t sees inputs 0..t and no others; a batch in which nothing counts gives exactly 0.
Suffixes: B rows, T positions, D width, H heads, K key/value heads, E head size, V vocabulary, N = B·T.
"""

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from train.head import summed_loss
from train.shapes import ModelShape, padded_vocab_size

_ROPE_BASE = 10_000.0
_INIT_STD = 0.02


class Attention(nn.Module):
    """Causal self-attention over whole rows."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = shape.n_heads, shape.n_kv_heads, shape.head_dim
        self.query = nn.Linear(shape.width, shape.n_heads * shape.head_dim, bias=False)
        self.key = nn.Linear(shape.width, shape.n_kv_heads * shape.head_dim, bias=False)
        self.value = nn.Linear(shape.width, shape.n_kv_heads * shape.head_dim, bias=False)
        self.out = nn.Linear(shape.n_heads * shape.head_dim, shape.width, bias=False)
        self.query_norm = nn.RMSNorm(shape.head_dim, eps=1e-6)
        self.key_norm = nn.RMSNorm(shape.head_dim, eps=1e-6)

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        """Mix positions with the ones before them."""
        n_rows, n_positions, _ = x_BTD.shape
        q_BTHE = self.query(x_BTD).view(n_rows, n_positions, self.n_heads, self.head_dim)
        k_BTKE = self.key(x_BTD).view(n_rows, n_positions, self.n_kv_heads, self.head_dim)
        v_BTKE = self.value(x_BTD).view(n_rows, n_positions, self.n_kv_heads, self.head_dim)
        q_BHTE = rotate(self.query_norm(q_BTHE).transpose(1, 2), cos_TE, sin_TE)
        k_BKTE = rotate(self.key_norm(k_BTKE).transpose(1, 2), cos_TE, sin_TE)
        y_BHTE = F.scaled_dot_product_attention(
            q_BHTE, k_BKTE, v_BTKE.transpose(1, 2), is_causal=True, enable_gqa=self.n_heads != self.n_kv_heads
        )
        return self.out(y_BHTE.transpose(1, 2).reshape(n_rows, n_positions, -1))


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

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        """One layer."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), cos_TE, sin_TE)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class GPT(nn.Module):
    """The model. `forward` gives the summed loss, `next_logits` what sampling needs."""

    cos_TE: Tensor
    sin_TE: Tensor

    def __init__(self, shape: ModelShape, *, vocab_size: int, seq_len: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(padded_vocab_size(vocab_size), shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.final_norm = nn.RMSNorm(shape.width, eps=1e-6)
        cos_TE, sin_TE = rotary_tables(seq_len, shape.head_dim)
        self.register_buffer("cos_TE", cos_TE, persistent=False)
        self.register_buffer("sin_TE", sin_TE, persistent=False)
        self._initialise(shape.n_layers)

    def forward(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Sum of cross-entropy over the targets that count, a float32 scalar."""
        hidden_ND = self._hidden(inputs_BT).flatten(0, 1)
        return summed_loss(hidden_ND, self.embedding.weight, targets_BT.flatten())

    def next_logits(self, inputs_BT: Tensor) -> Tensor:
        """Logits_BV of the token that follows each row."""
        return F.linear(self._hidden(inputs_BT)[:, -1], self.embedding.weight).float()

    def _hidden(self, inputs_BT: Tensor) -> Tensor:
        n_positions = inputs_BT.shape[1]
        x_BTD = self.embedding(inputs_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, self.cos_TE[:n_positions], self.sin_TE[:n_positions])
        return self.final_norm(x_BTD)

    def _initialise(self, n_layers: int) -> None:
        for name, weight in self.named_parameters():
            if weight.ndim < 2:  # noqa: PLR2004 -- norms are vectors and start at one
                continue
            # Two additions per layer: scaled so that the stream's variance does not grow with depth.
            adds_to_stream = name.endswith((".out.weight", ".down.weight"))
            nn.init.normal_(weight, std=_INIT_STD / (2 * n_layers) ** 0.5 if adds_to_stream else _INIT_STD)


def rotary_tables(seq_len: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos_TE and sin_TE; pair i turns by position · base^(-2i/E)."""
    frequency = _ROPE_BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(seq_len, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos().float(), angle.sin().float()


def rotate(x_BHTE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    """Turn each pair (i, i + E/2) by its position's angle."""
    first, second = x_BHTE.chunk(2, dim=-1)
    turned = x_BHTE * cos_TE + torch.cat((-second, first), dim=-1) * sin_TE
    return turned.to(x_BHTE.dtype)
