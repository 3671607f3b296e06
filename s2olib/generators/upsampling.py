"""How U-Net and S2OFormer bring coarse maps up to twice the size: by weights that learn it, or by interpolation.

A pixel shuffle and a transposed convolution give neighbouring pixels different weights, so that a grid can be painted
with them; interpolation does not (Odena, Dumoulin & Olah, "Deconvolution and checkerboard artifacts", Distill 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2olib.project import InputError


def check_upsampling(upsampling: str, learned: str) -> None:
    """Raise `InputError` unless `upsampling` is a network's own step up, `learned`, or "bilinear"."""
    if upsampling not in (learned, "bilinear"):
        raise InputError(f"upsampling is {upsampling!r}: it must be one of {learned}, bilinear.")


def doubled(x: Tensor, *dims: int) -> Tensor:
    """`x` at twice as many points along each of `dims`, a quarter of a pixel to either side, by linear interpolation.

    The border is repeated. Unlike PyTorch's own this gives the same gradient every time on a GPU.
    """
    for dim in dims:
        size = x.shape[dim]
        before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, size - 1)], dim)
        after = torch.cat([x.narrow(dim, 1, size - 1), x.narrow(dim, size - 1, 1)], dim)
        x = torch.stack([x.lerp(before, 0.25), x.lerp(after, 0.25)], dim + 1).flatten(dim, dim + 1)
    return x


class Doubled(nn.Module):
    """A map (B, C, H, W) → (B, C, 2H, 2W) by bilinear interpolation."""

    def forward(self, x: Tensor) -> Tensor:
        return doubled(x, 2, 3)
