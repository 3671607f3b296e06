"""S2OFormer: a U of residual hybrid attention groups, from speckled SAR to a clear optical image.

The talk publishes the building block (RHAG, depths and heads (4, 4, 4, 4), window 8) and the name; the topology here is
our own, chosen on validation patches (``bench/topology.py``). Speckle can only be told from ground by looking around,
so the first groups work on coarser grids, where a window sees more of the scene; detail is needed once, at the end, so
only the last group runs at full resolution, which makes it cheaper than HAT of the same width. Stem and head are HAT's.
How a step up between scales is made is a parameter: a pixel shuffle can lay a grid over the image, where bilinear
interpolation did not (``bench/grid.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from s2olib.generators.padding import pad_to_multiple
from s2olib.generators.pretrained import Generator
from s2olib.generators.rhag import RHAG, check_groups, drop_path_rates, initialise
from s2olib.generators.upsampling import check_upsampling, doubled
from s2olib.project import InputError


class S2OFormer(Generator):
    """SAR (B, in_channels, H, W) → image (B, out_channels, H, W), both scaled to [-1, 1]; the output is not clipped.

    `depths` and `num_heads` have one entry per group in order of execution. Group i of n works at 1 / 2**min(i + 1,
    n − 1 − i) of the size: four groups at 1/2, 1/4, 1/2, 1/1; two at 1/2, 1/1. Any size works: the input is padded by
    its mirror image and the result cropped. `embed_dim` must divide by 4. `upsampling` is how a map comes to the next
    finer size, "shuffle" or "bilinear", at the same cost.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 3,
        *,
        embed_dim: int = 96,
        depths: Sequence[int] = (4, 4, 4, 4),
        num_heads: Sequence[int] = (4, 4, 4, 4),
        window_size: int = 8,
        compress_ratio: int = 3,
        squeeze_factor: int = 30,
        conv_scale: float = 0.01,
        overlap_ratio: float = 0.5,
        mlp_ratio: float = 2.0,
        drop_path_rate: float = 0.1,
        head_dim: int = 64,
        upsampling: str = "shuffle",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_groups(embed_dim, depths, num_heads, window_size, overlap_ratio, mlp_ratio, drop_path_rate)
        if embed_dim % 4:
            raise InputError(f"embed_dim {embed_dim} does not divide by 4, as S2OFormer's pixel shuffles need.")
        check_upsampling(upsampling, "shuffle")
        last = len(depths) - 1
        self.steps = [min(i + 1, last - i) for i in range(last + 1)]  # how often each group's size is halved
        self.multiple = window_size * 2 ** max(self.steps)
        self.stem = nn.Conv2d(in_channels, embed_dim, 3, padding=1)
        self.norm_in = nn.LayerNorm(embed_dim)
        rates = drop_path_rates(drop_path_rate, depths)
        up = Shuffle if upsampling == "shuffle" else Bilinear
        self.resample, self.groups = nn.ModuleList(), nn.ModuleList()
        levels = zip(self.steps, [0, *self.steps], depths, num_heads, rates, strict=False)
        for step, before, depth, heads, drop_path in levels:
            self.resample.append(
                nn.Linear(embed_dim, embed_dim // 4)
                if step > before
                else up(embed_dim)
                if step < before
                else nn.Identity()
            )
            self.groups.append(
                RHAG(
                    embed_dim,
                    depth,
                    heads,
                    window_size=window_size,
                    compress_ratio=compress_ratio,
                    squeeze_factor=squeeze_factor,
                    conv_scale=conv_scale,
                    overlap_ratio=overlap_ratio,
                    mlp_ratio=mlp_ratio,
                    drop_path=drop_path,
                    checkpointing=checkpointing,
                )
            )
        self.norm_out = nn.LayerNorm(embed_dim)
        self.proj_out = nn.Linear(embed_dim, embed_dim)
        self.head = nn.Sequential(
            nn.Conv2d(embed_dim, head_dim, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(head_dim, out_channels, 3, padding=1),
        )
        initialise(self)
        for layer in (*self.resample.modules(), self.proj_out):
            if isinstance(layer, nn.Linear):  # on the trunk; HAT's N(0, 0.02) is for layers beside it
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, sar: Tensor) -> Tensor:
        height, width = sar.shape[-2:]
        shallow = self.stem(pad_to_multiple(sar, self.multiple)).permute(0, 2, 3, 1).contiguous()  # (B, H, W, C)
        x, skips, before = self.norm_in(shallow), [], 0
        for step, resample, group in zip(self.steps, self.resample, self.groups, strict=True):
            if step > before:
                skips.append(x)
                x = rearrange(resample(x), "b (h i) (w j) c -> b h w (i j c)", i=2, j=2)
            elif step < before:
                x = resample(x, skips.pop())
            x, before = group(x), step
        x = shallow + self.proj_out(self.norm_out(x))
        return self.head(x.permute(0, 3, 1, 2))[..., :height, :width]


class Shuffle(nn.Linear):
    """A step up by pixel shuffle: coarse (B, H, W, C) and fine (B, 2H, 2W, C) maps → (B, 2H, 2W, C).

    The four pixels that one becomes hold different channels of it, so that nothing makes them alike.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim + dim // 4, dim)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        shuffled = rearrange(coarse, "b h w (i j c) -> b (h i) (w j) c", i=2, j=2)
        return super().forward(torch.cat([shuffled, fine], -1))


class Bilinear(nn.Module):
    """A step up by bilinear interpolation: coarse (B, H, W, C) and fine (B, 2H, 2W, C) maps → (B, 2H, 2W, C).

    A linear layer and interpolation commute, so the coarse map's is computed where it is cheap.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up, self.skip = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return doubled(self.up(coarse), 1, 2) + self.skip(fine)
