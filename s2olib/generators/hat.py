"""HAT, the Hybrid Attention Transformer (Chen et al., CVPR 2023), at scale 1: the talk's strong baseline.

Convolution into `embed_dim` channels, residual hybrid attention groups at full resolution, a global residual, and the
published head of two convolutions. Defaults are the published HAT's (embed_dim 180, six groups of six blocks with six
heads, window 16); the talk uses depths and heads (4, 4, 4, 4) and window 8.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from s2olib.generators.padding import pad_to_multiple
from s2olib.generators.pretrained import Generator
from s2olib.generators.rhag import RHAG, check_groups, convolve, drop_path_rates, initialise
from s2olib.project import InputError


class HAT(Generator):
    """SAR (B, in_channels, H, W) → image (B, out_channels, H, W), both scaled to [-1, 1]; the output is not clipped.

    Any size works: the input is padded to windows by its mirror image and the result cropped. With `checkpointing`, a
    training step keeps one activation per block instead of all of them, and computes about a third more.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 3,
        *,
        embed_dim: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6, 6, 6),
        window_size: int = 16,
        compress_ratio: int = 3,
        squeeze_factor: int = 30,
        conv_scale: float = 0.01,
        overlap_ratio: float = 0.5,
        mlp_ratio: float = 2.0,
        drop_path_rate: float = 0.1,
        head_dim: int = 64,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_groups(embed_dim, depths, num_heads, window_size, overlap_ratio, mlp_ratio, drop_path_rate)
        self.window_size = window_size
        self.stem = nn.Conv2d(in_channels, embed_dim, 3, padding=1)
        self.norm_in = nn.LayerNorm(embed_dim)
        rates = drop_path_rates(drop_path_rate, depths)
        self.groups = nn.ModuleList(
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
            for depth, heads, drop_path in zip(depths, num_heads, rates, strict=True)
        )
        self.norm_out = nn.LayerNorm(embed_dim)
        self.conv_out = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(embed_dim, head_dim, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(head_dim, out_channels, 3, padding=1),
        )
        initialise(self)

    def forward(self, sar: Tensor) -> Tensor:
        height, width = sar.shape[-2:]
        shallow = self.stem(pad_to_multiple(sar, self.window_size))
        x = self.norm_in(shallow.permute(0, 2, 3, 1).contiguous())  # (B, H, W, C)
        for group in self.groups:
            x = group(x)
        x = convolve(self.conv_out, self.norm_out(x)).permute(0, 3, 1, 2)
        return self.head(shallow + x)[..., :height, :width]


# From the published state dictionaries' names to ours, in order.
_RENAMED = (
    (r"^conv_first\.", "stem."),
    (r"^patch_embed\.norm\.", "norm_in."),
    (r"^layers\.", "groups."),
    (r"residual_group\.overlap_attn\.", "overlap."),
    (r"residual_group\.", ""),
    (r"\.attn\.", ".attention."),
    (r"relative_position_bias_table$", "bias"),
    (r"conv_block\.cab\.0\.", "conv.conv1."),
    (r"conv_block\.cab\.2\.", "conv.conv2."),
    (r"conv_block\.cab\.3\.attention\.1\.", "conv.squeeze."),
    (r"conv_block\.cab\.3\.attention\.3\.", "conv.excite."),
    (r"^norm\.", "norm_out."),
    (r"^conv_after_body\.", "conv_out."),
    (r"^conv_before_upsample\.0\.", "head.0."),
    (r"^conv_last\.", "head.2."),
)


def load_reference_weights(model: HAT, state_dict: Mapping[str, Any]) -> list[str]:
    """Fill `model` with published HAT weights; returns the names in `state_dict` that have no place in it.

    A checkpoint's ``params_ema``, ``params`` or ``state_dict`` is taken where there is one. Upsamplers of
    super-resolution models, and a first or last convolution of other channels, are left out; a warning names them and
    the layers that keep their values, a first or last convolution that the weights lack among them. Anything else that
    is missing, too much or of another shape raises `InputError`.
    """
    weights = state_dict
    if isinstance(state_dict, Mapping):
        entries = (state_dict[name] for name in ("params_ema", "params", "state_dict") if name in state_dict)
        weights = next(entries, state_dict)
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError("these are no weights: give a state dict, names with tensors, or a checkpoint that holds one.")
    own, found, names, ignored = model.state_dict(), {}, {}, []
    for name, value in weights.items():
        key = name = name.removeprefix("module.")  # as torch's DataParallel saves them
        for pattern, replacement in _RENAMED:
            key = re.sub(pattern, replacement, key)
        if key in own and value.shape in (own[key].shape, (*own[key].shape, 1, 1)):
            found[key], names[key] = value.reshape(own[key].shape), name  # 1x1 convolutions are linear layers here
        elif key in own and not key.startswith(("stem.", "head.")):
            shape = tuple(own[key].shape)
            raise InputError(
                f"weight {name} has shape {tuple(value.shape)}, this HAT needs {shape}: use its own config."
            )
        elif key.startswith(("stem.", "head.", "upsample.", "conv_before_upsample.")):
            ignored.append(name)
        elif not name.startswith("relative_position_index"):
            raise InputError(f"weight {name} has no place in this HAT: give it the groups and blocks of those weights.")
    missing = [key for key in own if key not in found and not key.startswith(("stem.", "head."))]
    if missing:
        raise InputError(
            f"the weights lack {missing[0]} and {len(missing) - 1} more: use the config they were made with."
        )
    kept = sorted({key.rpartition(".")[0] for key in own if key not in found})  # of whose weights some are missing
    ignored += [names.pop(key) for key in list(found) if key.rpartition(".")[0] in kept]
    if ignored or kept:
        warnings.warn(
            f"weights without a place in this HAT are left out: {', '.join(ignored) or 'none'}; "
            f"layers that keep their values: {', '.join(kept) or 'none'}",
            stacklevel=2,
        )
    model.load_state_dict({key: found[key] for key in names}, strict=False)
    return ignored
