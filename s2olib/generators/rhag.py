"""The Residual Hybrid Attention Group: the block that HAT and S2OFormer are built of.

After "Activating More Pixels in Image Super-Resolution Transformer" (Chen et al., CVPR 2023), whose formulas are kept
weight for weight, and Swin Transformer (Liu et al., ICCV 2021). Features are (B, H, W, C) throughout, so that linear
layers and channels-last convolutions follow each other without a copy; attention is PyTorch's fused
`scaled_dot_product_attention`; shift masks and position indices are made once per size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from einops import rearrange
from timm.layers import DropPath, Mlp, trunc_normal_
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from s2olib.project import InputError

MASKED = -100.0  # Swin's logit between regions that the cyclic shift brought together; finite in half precision


def overlapping_size(window_size: int, overlap_ratio: float) -> int:
    """The width of OCAB's key windows in pixels, e.g. 12 for window 8 and overlap 0.5."""
    return window_size + int(window_size * overlap_ratio)


def check_groups(
    embed_dim: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    window_size: int,
    overlap_ratio: float,
    drop_path_rate: float,
) -> None:
    """Raise `InputError` for windows, overlaps, heads and rates that no sequence of RHAGs can have."""
    if len(depths) != len(num_heads):
        raise InputError(
            f"depths has {len(depths)} entries and num_heads {len(num_heads)}: give one of each per group."
        )
    for heads in num_heads:
        if embed_dim % heads:
            raise InputError(f"num_heads {heads} does not divide embed_dim {embed_dim}: choose one of its divisors.")
    if window_size < 2:
        raise InputError(f"window_size {window_size} leaves nothing to attend to: give at least 2.")
    if not 0 <= overlap_ratio <= 2:
        raise InputError(f"overlap_ratio {overlap_ratio} is outside 0..2: 0.5 is the published value.")
    if not 0 <= drop_path_rate < 1:
        raise InputError(f"drop_path_rate {drop_path_rate} is outside 0..1: 0.1 is the published value.")
    overlap = overlapping_size(window_size, overlap_ratio) - window_size
    if overlap % 2:
        raise InputError(
            f"window_size {window_size} with overlap_ratio {overlap_ratio} overlaps by {overlap} pixels, which cannot "
            "be halved between two sides: choose values whose product is even."
        )


def drop_path_rates(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Stochastic depth that grows linearly from 0 in the first block to `last` in the last, for each group's blocks."""
    total, rates = sum(depths), []
    for depth in depths:
        before = sum(map(len, rates))
        rates.append([last * i / max(1, total - 1) for i in range(before, before + depth)])
    return rates


class RHAG(nn.Module):
    """`depth` hybrid attention blocks, every second one shifted; overlapping cross-attention; a 3x3 convolution.

    Maps (B, H, W, C) to the same shape; H and W must be multiples of `window_size`. With `checkpointing`, activations
    inside blocks are computed again in the backward pass instead of being kept.

    Parameters
    ----------
    drop_path : stochastic depth, one probability for all blocks or one for each
    conv_scale : weight of the convolutional branch beside attention
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        window_size: int = 8,
        compress_ratio: int = 3,
        squeeze_factor: int = 30,
        conv_scale: float = 0.01,
        overlap_ratio: float = 0.5,
        mlp_ratio: float = 2.0,
        drop_path: Sequence[float] = (),
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        hidden = int(dim * mlp_ratio)
        rates = drop_path or [0.0] * depth
        self.blocks = nn.ModuleList(
            HAB(
                dim,
                WindowAttention(dim, num_heads, window_size, shift=window_size // 2 * (i % 2)),
                CAB(dim, compress_ratio, squeeze_factor),
                conv_scale,
                hidden,
                rates[i],
            )
            for i in range(depth)
        )
        self.overlap = OCAB(dim, num_heads, window_size, overlapping_size(window_size, overlap_ratio), hidden)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block in (*self.blocks, self.overlap):
            again = self.checkpointing and torch.is_grad_enabled()
            y = checkpoint(block, y, use_reentrant=False) if again else block(y)
        return x + convolve(self.conv, y)


class HAB(nn.Module):
    """Hybrid attention block: window attention beside a channel-attention branch, then an MLP."""

    def __init__(
        self, dim: int, attention: WindowAttention, conv: CAB, conv_scale: float, hidden: int, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.conv = conv
        self.conv_scale = conv_scale
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.drop_path(self.attention(y)) + self.conv_scale * self.conv(y)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class WindowAttention(nn.Module):
    """Swin's (shifted) window attention with a learned bias per relative position."""

    def __init__(self, dim: int, num_heads: int, window_size: int, shift: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift = shift
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))

    def forward(self, y: Tensor) -> Tensor:
        batch, height, width, _ = y.shape
        size, shift = self.window_size, self.shift
        bias = position_bias(self.bias, size, size)  # (heads, T, T)
        if shift:
            y = y.roll((-shift, -shift), (1, 2))
            mask = shift_mask(height, width, size, shift, y.device)  # (windows, 1, T, T)
            bias = (bias + mask).repeat(batch, 1, 1, 1)
        else:
            bias = bias[None]
        windows = "b (h i) (w j) (s m d) -> s (b h w) m (i j) d"
        q, k, v = rearrange(self.qkv(y), windows, s=3, m=self.num_heads, i=size, j=size)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        y = self.proj(join_windows(y, height, width))
        return y.roll((shift, shift), (1, 2)) if shift else y


class CAB(nn.Module):
    """Channel attention block: two 3x3 convolutions through fewer channels, then squeeze and excitation."""

    def __init__(self, dim: int, compress_ratio: int, squeeze_factor: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, max(1, dim // compress_ratio), 3, padding=1)
        self.conv2 = nn.Conv2d(max(1, dim // compress_ratio), dim, 3, padding=1)
        self.squeeze = nn.Linear(dim, max(1, dim // squeeze_factor))
        self.excite = nn.Linear(max(1, dim // squeeze_factor), dim)

    def forward(self, y: Tensor) -> Tensor:
        y = convolve(self.conv2, F.gelu(convolve(self.conv1, y)))
        gate = self.excite(F.relu(self.squeeze(y.mean((1, 2), keepdim=True)))).sigmoid()  # (B, 1, 1, C)
        return y * gate


class OCAB(nn.Module):
    """Overlapping cross-attention: queries of a window see keys of a larger one around it, zeros beyond the border."""

    def __init__(self, dim: int, num_heads: int, window_size: int, overlap_size: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.overlap_size = overlap_size
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros((window_size + overlap_size - 1) ** 2, num_heads))
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        _, height, width, dim = x.shape
        size, wide, heads = self.window_size, self.overlap_size, self.num_heads
        q, kv = self.qkv(self.norm1(x)).split((dim, 2 * dim), -1)
        q = rearrange(q, "b (h i) (w j) (m d) -> (b h w) m (i j) d", m=heads, i=size, j=size)
        k, v = rearrange(overlapping_windows(kv, size, wide), "b h w i j (s m d) -> s (b h w) m (i j) d", s=2, m=heads)
        bias = position_bias(self.bias, size, wide)[None].to(q.dtype)  # (1, heads, size², wide²)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.proj(join_windows(y, height, width))
        return x + self.mlp(self.norm2(x))


def overlapping_windows(x: Tensor, size: int, wide: int) -> Tensor:
    """(B, H, W, C) → a view (B, H/size, W/size, wide, wide, C): windows share pixels, zeros lie beyond the border."""
    batch, height, width, channels = x.shape
    border = (wide - size) // 2
    x = F.pad(x, (0, 0, border, border, border, border)).contiguous()
    image, row, column, channel = x.stride()
    shape = (batch, height // size, width // size, wide, wide, channels)
    return x.as_strided(shape, (image, size * row, size * column, row, column, channel))


def join_windows(y: Tensor, height: int, width: int) -> Tensor:
    """Attention's result (B·windows, heads, size², d) → (B, height, width, C)."""
    size = math.isqrt(y.shape[2])
    return rearrange(y, "(b h w) m (i j) d -> b (h i) (w j) (m d)", h=height // size, w=width // size, i=size)


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution on (B, H, W, C), which is what channels-last memory is: nothing is copied."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def initialise(model: nn.Module) -> None:
    """HAT's initialisation: linear layers and position biases N(0, 0.02), convolutions as PyTorch makes them."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, WindowAttention | OCAB):
            trunc_normal_(module.bias, std=0.02)


def position_bias(table: Tensor, size: int, wide: int) -> Tensor:
    """The learned bias of every (query, key) pair: table (entries, heads) → (heads, size², wide²)."""
    index = position_index(size, wide, table.device)
    return table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def position_index(size: int, wide: int, device: torch.device) -> Tensor:
    """Row of the bias table for each query of a `size` window and key of a `wide` one, (size², wide²).

    Where the two windows are the same, Swin's order (query − key); else HAT's (key − query), whose offset leaves
    negative numbers that count from the table's end.
    """
    query, key = (torch.arange(side**2, device="cpu") for side in (size, wide))
    row, column, key_row, key_column = query // size, query % size, key // wide, key % wide
    down, right = key_row - row[:, None], key_column - column[:, None]
    span = size + wide - 1
    if size == wide:
        down, right, offset = -down, -right, size - 1
    else:
        offset = size - wide + 1
    return (((down + offset) * span + right + offset) % span**2).to(device)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def shift_mask(height: int, width: int, size: int, shift: int, device: torch.device) -> Tensor:
    """0 between pixels that are neighbours in the image, `MASKED` where the cyclic shift joined opposite sides.

    (windows, 1, size², size²) for windows of a (height, width) map rolled by −`shift`.
    """
    edges_down = [(i >= height - size) + (i >= height - shift) for i in range(height)]
    edges_right = [(j >= width - size) + (j >= width - shift) for j in range(width)]
    down, right = (torch.tensor(edges, device="cpu") for edges in (edges_down, edges_right))
    region = 3 * down[:, None] + right  # (H, W): Swin's nine regions
    region = rearrange(region, "(h i) (w j) -> (h w) (i j)", i=size, j=size)
    return ((region[:, :, None] != region[:, None, :]) * MASKED)[:, None].to(device)
