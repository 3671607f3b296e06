"""The discriminator of pix2pix (Isola et al., CVPR 2017): judges 70 x 70 pixel patches of a SAR-optical pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2olib.project import InputError

SMALLEST = 32  # pixels: of fewer, nothing is left to judge
WIDTH = 64  # channels of the first layer


class PatchGAN(nn.Module):
    """(sar (B, Cs, H, W), opt (B, Co, H, W)) → real-or-fake logits (B, 1, H/8 − 2, W/8 − 2).

    2.77 M parameters for 2 + 3 channels, initialised N(0, 0.02). Images below 32 pixels raise `InputError`.
    """

    def __init__(self, sar_channels: int = 2, opt_channels: int = 3) -> None:
        super().__init__()
        check_counts("PatchGAN", sar_channels=sar_channels, opt_channels=opt_channels)
        self.channels = (sar_channels, opt_channels)
        self.layers = nn.Sequential(
            nn.Conv2d(sar_channels + opt_channels, WIDTH, 4, 2, 1),
            nn.LeakyReLU(0.2),
            *_layer(WIDTH, 2 * WIDTH, 2),
            *_layer(2 * WIDTH, 4 * WIDTH, 2),
            *_layer(4 * WIDTH, 8 * WIDTH, 1),
            nn.Conv2d(8 * WIDTH, 1, 4, 1, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, sar: Tensor, opt: Tensor) -> Tensor:
        check_pair(sar, opt, self.channels)
        check_values(self, sar, opt)
        if min(opt.shape[-2:]) < SMALLEST:
            given = tuple(opt.shape[-2:])
            raise InputError(f"PatchGAN needs at least {SMALLEST} pixels a side, not {given}: use larger crops.")
        return self.layers(torch.cat([sar, opt], 1))


def check_counts(discriminator: str, **given: int) -> None:
    """Raise `InputError`, naming the parameter, for what is no whole number of at least 1."""
    for name, value in given.items():
        if type(value) is not int or value < 1:
            raise InputError(f"{name} is {value!r}: a {discriminator} needs a whole number of at least 1.")


def check_pair(sar: Tensor, opt: Tensor, channels: tuple[int, int]) -> None:
    """Raise `InputError` unless both (B, C, H, W) are the same patches and have their channels."""
    for name, image in (("sar", sar), ("opt", opt)):
        if not isinstance(image, Tensor):
            raise InputError(f"{name} is a {type(image).__name__}: a discriminator takes tensors (B, C, H, W).")
    if sar.shape[-2:] != opt.shape[-2:] or len(sar) != len(opt):
        raise InputError(f"sar {tuple(sar.shape)} and opt {tuple(opt.shape)} are not the same patches: align them.")
    for name, image, count in zip(("sar", "opt"), (sar, opt), channels, strict=True):
        if image.ndim != 4 or image.shape[1] != count or not all(image.shape):
            raise InputError(f"{name} has shape {tuple(image.shape)}: this discriminator takes (B, {count}, H, W).")
        if not image.is_floating_point():
            raise InputError(
                f"{name} is {image.dtype}: a discriminator takes numbers from -1 to 1, scale it by limits."
            )


def check_values(discriminator: nn.Module, sar: Tensor, opt: Tensor) -> None:
    """Raise `InputError` for another type than the weights' and, in eval mode, for values that are not finite; in
    training, where looking would make a GPU wait, the loss tells."""
    if torch.compiler.is_compiling() or sar.is_meta:
        return
    dtype = next(discriminator.parameters()).dtype
    for name, image in (("sar", sar), ("opt", opt)):
        if image.dtype != dtype and not torch.is_autocast_enabled(image.device.type):
            raise InputError(f"{name} is {image.dtype} and the weights are {dtype}: convert one of them.")
        if not (discriminator.training or image.isfinite().all()):
            raise InputError(f"{name} holds values that are not finite: fill what has no data first.")


def _layer(before: int, width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, width, 4, stride, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
