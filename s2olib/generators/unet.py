"""The generator of pix2pix (Isola et al., CVPR 2017): a U-Net, the talk's convolutional baseline."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2olib.generators.padding import pad_to_multiple
from s2olib.generators.pretrained import Generator
from s2olib.generators.upsampling import Doubled, check_upsampling
from s2olib.project import InputError


class UNet(Generator):
    """SAR (B, in_channels, H, W) → image (B, out_channels, H, W) in (-1, 1) by tanh.

    `levels` strided convolutions of `embed_dim` times 1, 2, 4, 8, 8, … channels and as many transposed ones, joined by
    skip connections; BatchNorm except outermost and innermost; dropout 0.5 in the inner up blocks (three of eight
    levels), only while training. The defaults have 54.41 M parameters. Any size works: the input is padded to a
    multiple of 2**levels by its mirror image, so take fewer levels for patches below 256 pixels. `upsampling` is how a
    map comes to the next finer size: "transposed", as in pix2pix, or "bilinear", interpolation and then a 3 × 3
    convolution, which has fewer weights (9 for 16) and more operations (9 for 4).
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 3,
        *,
        embed_dim: int = 64,
        levels: int = 8,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        check_upsampling(upsampling, "transposed")
        if levels < 2:
            raise InputError(f"levels is {levels}: a U-Net has at least 2, pix2pix 8.")
        widths = [embed_dim * min(2**level, 8) for level in range(levels)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            outermost, innermost = level == 0, level == levels - 1
            self.down.append(
                nn.Sequential(
                    *[] if outermost else [nn.LeakyReLU(0.2)],
                    nn.Conv2d(in_channels if outermost else widths[level - 1], width, 4, 2, 1, bias=False),
                    *[] if outermost or innermost else [nn.BatchNorm2d(width)],
                )
            )
            source, target = width if innermost else 2 * width, out_channels if outermost else widths[level - 1]
            self.up.append(
                nn.Sequential(
                    nn.ReLU(),
                    *[nn.ConvTranspose2d(source, target, 4, 2, 1, bias=outermost)]
                    if upsampling == "transposed"
                    else [Doubled(), nn.Conv2d(source, target, 3, padding=1, bias=outermost)],
                    nn.Tanh() if outermost else nn.BatchNorm2d(target),
                    *[nn.Dropout(0.5)] if 4 <= level < levels - 1 else [],
                )
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, sar: Tensor) -> Tensor:
        height, width = sar.shape[-2:]
        x, skips = pad_to_multiple(sar, 2 ** len(self.down)), []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = self.up[-1](skips.pop())
        for up in reversed(self.up[:-1]):
            x = up(torch.cat([skips.pop(), x], 1))
        return x[..., :height, :width]
