"""HAT's published formulas (Chen et al., CVPR 2023) written down as plainly as PyTorch allows, for comparison.

One function over the state dictionary of `s2olib.generators.HAT`: tokens (B, L, C) as in the paper, windows by view and
permute, explicit softmax attention, `unfold` for the overlapping windows, the shift mask made in every forward pass.
It is what the library's fast version is timed against, and what its values are tested against.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]


def plain_hat(weights: Weights, config: Mapping[str, Any], sar: Tensor) -> tuple[Tensor, list[Tensor]]:
    """(image (B, out, H, W), the output of each group (B, H·W, C)); H and W must be multiples of the window."""
    size = (sar.shape[2], sar.shape[3])
    mask = _mask(*size, config["window_size"]).to(sar.device)
    shallow = _conv(weights, "stem", sar)
    x = _norm(weights, "norm_in", shallow.flatten(2).transpose(1, 2))  # (B, L, C)
    groups = []
    for g, (depth, heads) in enumerate(zip(config["depths"], config["num_heads"], strict=True)):
        y = x
        for b in range(depth):
            shift = config["window_size"] // 2 if b % 2 else 0
            y = _hab(weights, f"groups.{g}.blocks.{b}", y, size, heads, shift, mask, config)
        y = _ocab(weights, f"groups.{g}.overlap", y, size, heads, config)
        x = x + _tokens_conv(weights, f"groups.{g}.conv", y, size)
        groups.append(x)
    x = _tokens_conv(weights, "conv_out", _norm(weights, "norm_out", x), size)
    x = shallow + x.transpose(1, 2).reshape(shallow.shape)
    return _conv(weights, "head.2", F.leaky_relu(_conv(weights, "head.0", x), 0.01)), groups


def _hab(
    weights: Weights, at: str, x: Tensor, size: tuple, heads: int, shift: int, mask: Tensor, config: Mapping
) -> Tensor:
    batch, _, dim = x.shape
    window = config["window_size"]
    y = _norm(weights, f"{at}.norm1", x)

    z = y.transpose(1, 2).reshape(batch, dim, *size)
    z = _conv(weights, f"{at}.conv.conv2", F.gelu(_conv(weights, f"{at}.conv.conv1", z)))
    gate = F.relu(_linear(weights, f"{at}.conv.squeeze", z.mean((2, 3))))
    z = z * torch.sigmoid(_linear(weights, f"{at}.conv.excite", gate))[:, :, None, None]
    z = z.flatten(2).transpose(1, 2)

    a = torch.roll(y.view(batch, *size, dim), (-shift, -shift), (1, 2)) if shift else y.view(batch, *size, dim)
    a = _windows(a, window)  # (B·windows, window², C)
    qkv = _linear(weights, f"{at}.attention.qkv", a).view(len(a), window**2, 3, heads, dim // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    bias = weights[f"{at}.attention.bias"][_own_index(window)].permute(2, 0, 1)
    scores = q * (dim // heads) ** -0.5 @ k.transpose(-2, -1) + bias
    if shift:
        scores = scores.view(batch, len(mask), heads, window**2, window**2) + mask[:, None]
        scores = scores.view(-1, heads, window**2, window**2)
    a = (scores.softmax(-1) @ v).transpose(1, 2).reshape(len(a), window**2, dim)
    a = _image(_linear(weights, f"{at}.attention.proj", a), window, size)
    a = (torch.roll(a, (shift, shift), (1, 2)) if shift else a).reshape(batch, -1, dim)

    x = x + a + config["conv_scale"] * z
    return x + _mlp(weights, f"{at}.mlp", _norm(weights, f"{at}.norm2", x))


def _ocab(weights: Weights, at: str, x: Tensor, size: tuple, heads: int, config: Mapping) -> Tensor:
    batch, _, dim = x.shape
    window = config["window_size"]
    wide = window + int(window * config["overlap_ratio"])
    qkv = _linear(weights, f"{at}.qkv", _norm(weights, f"{at}.norm1", x)).view(batch, *size, 3, dim)
    q = _windows(qkv[..., 0, :], window)
    kv = qkv[..., 1:, :].permute(0, 3, 4, 1, 2).reshape(batch, 2 * dim, *size)
    kv = F.unfold(kv, wide, stride=window, padding=(wide - window) // 2)  # (B, 2C·wide², windows)
    k, v = kv.view(batch, 2, dim, wide**2, -1).permute(1, 0, 4, 3, 2).reshape(2, -1, wide**2, dim)
    q, k, v = (t.view(len(t), -1, heads, dim // heads).transpose(1, 2) for t in (q, k, v))
    bias = weights[f"{at}.bias"][_wide_index(window, wide)].permute(2, 0, 1)
    scores = q * (dim // heads) ** -0.5 @ k.transpose(-2, -1) + bias
    a = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, window**2, dim)
    x = x + _linear(weights, f"{at}.proj", _image(a, window, size).reshape(batch, -1, dim))
    return x + _mlp(weights, f"{at}.mlp", _norm(weights, f"{at}.norm2", x))


def _mask(height: int, width: int, window: int) -> Tensor:
    """Swin's mask, (windows, window², window²): nine regions painted one by one, −100 between different ones."""
    region, shift, count = torch.zeros(1, height, width, 1), window // 2, 0
    for rows in (slice(0, -window), slice(-window, -shift), slice(-shift, None)):
        for columns in (slice(0, -window), slice(-window, -shift), slice(-shift, None)):
            region[:, rows, columns] = count
            count += 1
    region = _windows(region, window)[..., 0]
    return (region[:, None, :] - region[:, :, None]).ne(0) * -100.0


@lru_cache
@torch.inference_mode(False)
def _own_index(window: int) -> Tensor:
    """Entry of the bias table for (query, key), by how far the query lies behind the key."""
    pixels = [(i, j) for i in range(window) for j in range(window)]
    span = 2 * window - 1
    return torch.tensor([[(i - k + window - 1) * span + (j - m + window - 1) for k, m in pixels] for i, j in pixels])


@lru_cache
@torch.inference_mode(False)
def _wide_index(window: int, wide: int) -> Tensor:
    """The same for a key window that is larger; HAT's offset makes some entries negative: counted from the end."""
    span, offset = window + wide - 1, window - wide + 1
    keys = [(k, m) for k in range(wide) for m in range(wide)]
    queries = [(i, j) for i in range(window) for j in range(window)]
    return torch.tensor([[(k - i + offset) * span + (m - j + offset) for k, m in keys] for i, j in queries])


def _windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) → (B·windows, window², C)."""
    batch, height, width, dim = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, dim)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window**2, dim)


def _image(x: Tensor, window: int, size: tuple) -> Tensor:
    """(B·windows, window², C) → (B, H, W, C)."""
    height, width = size
    x = x.view(-1, height // window, width // window, window, window, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x.shape[-1])


def _linear(weights: Weights, at: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{at}.weight"], weights[f"{at}.bias"])


def _conv(weights: Weights, at: str, x: Tensor) -> Tensor:
    return F.conv2d(x, weights[f"{at}.weight"], weights[f"{at}.bias"], padding=1)


def _tokens_conv(weights: Weights, at: str, x: Tensor, size: tuple) -> Tensor:
    image = x.transpose(1, 2).reshape(len(x), -1, *size)
    return _conv(weights, at, image).flatten(2).transpose(1, 2)


def _norm(weights: Weights, at: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{at}.weight"], weights[f"{at}.bias"])


def _mlp(weights: Weights, at: str, x: Tensor) -> Tensor:
    return _linear(weights, f"{at}.fc2", F.gelu(_linear(weights, f"{at}.fc1", x)))
