"""The Deep Semantic Discriminator: a dual-modal segmentation network that names the land cover of a SAR-optical pair.

The talk's is SNUNet-CD (Fang et al., GRSL 2022): UNet++ with a dense decoder and an ensemble channel attention head.
The change-detection original passes only one image to its deepest node; here each modality has an encoder of its own
and the two are fused at every scale, the deepest included, because the generator's feature loss is measured there and
would be blind to the optical image otherwise. Any encoder of timm with feature maps can take the place of SNUNet's.
"""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2olib.generators.padding import pad_to_multiple
from s2olib.patchgan import check_counts, check_pair, check_values
from s2olib.project import InputError

SCALES = 5  # full size, 1/2, 1/4, 1/8, 1/16
ERRORS = (AssertionError, RuntimeError, ValueError, TypeError, IndexError)  # of models at sizes that they do not take


class DSD(nn.Module):
    """(sar (B, Cs, H, W), opt (B, Co, H, W)) → (logits (B, num_classes, H, W), deepest (B, D, H/m, W/m)).

    With `encoder` "snunet", D is 16·width and m is 16. Otherwise `encoder` names a timm model with ``features_only``,
    e.g. "resnet18" or "swin_tiny_patch4_window7_224": D and m are those of its last feature map, and `width` is
    the decoder's. The inputs are padded by their mirror image to multiples of m, at least 2m, and the logits cropped.
    """

    def __init__(
        self,
        sar_channels: int = 2,
        opt_channels: int = 3,
        num_classes: int = 4,
        width: int = 32,
        encoder: str = "snunet",
    ) -> None:
        super().__init__()
        channels = {"sar_channels": sar_channels, "opt_channels": opt_channels}
        check_counts("DSD", **channels, num_classes=num_classes, width=width)
        self.channels = (sar_channels, opt_channels)
        if encoder == "snunet":
            widths, self.multiple = [width * 2**scale for scale in range(SCALES)], 2 ** (SCALES - 1)
            self.sar_encoder, self.opt_encoder = Encoder(sar_channels, widths), Encoder(opt_channels, widths)
        else:
            self.sar_encoder = TimmEncoder(encoder, sar_channels)
            self.opt_encoder = TimmEncoder(encoder, opt_channels)
            widths, self.multiple = self.sar_encoder.widths, self.sar_encoder.multiple
        self.deepest_channels = widths[-1]
        self.fuse = nn.ModuleList(Block(2 * c, c) for c in widths)
        self.decoder = (DenseDecoder if encoder == "snunet" else SumDecoder)(widths, width, num_classes)

    def forward(self, sar: Tensor, opt: Tensor) -> tuple[Tensor, Tensor]:
        check_pair(sar, opt, self.channels)
        check_values(self, sar, opt)
        height, width = sar.shape[-2:]
        fused = self._encode(sar, opt)
        logits = self.decoder(fused)
        padded = tuple(self.multiple * size for size in fused[-1].shape[-2:])
        if logits.shape[-2:] != padded:
            logits = F.interpolate(logits, padded, mode="bilinear")
        return logits[..., :height, :width], fused[-1]

    def deepest(self, sar: Tensor, opt: Tensor) -> Tensor:
        """The deepest fused map alone, (B, D, H/m, W/m): encoders run, the decoder does not."""
        check_pair(sar, opt, self.channels)
        return self._encode(sar, opt, deepest_only=True)[-1]

    def _encode(self, sar: Tensor, opt: Tensor, deepest_only: bool = False) -> list[Tensor]:
        sar, opt = (pad_to_multiple(image, self.multiple, 2 * self.multiple) for image in (sar, opt))
        scales = zip(self.fuse, self.sar_encoder(sar), self.opt_encoder(opt), strict=True)
        return [fuse(torch.cat([s, o], 1)) for fuse, s, o in list(scales)[-1 if deepest_only else 0 :]]


class Encoder(nn.Module):
    """Feature maps of one modality at five scales, by max-pooling."""

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(before, c) for before, c in zip([channels, *widths], widths, strict=False))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for block in self.blocks:
            maps.append(block(F.max_pool2d(maps[-1], 2) if maps else x))
        return maps


class TimmEncoder(nn.Module):
    """Feature maps (B, C, H/r, W/r) of one modality from the timm model `name`, by its own reductions r.

    A model that is made for one size of image gets the image brought to that size, and maps that come in another size
    than is asked for, those or of convolutions without padding, are brought to it: both by bilinear interpolation.
    """

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()
        try:
            try:  # transformers that are made for one size of image take others with this
                self.model = timm.create_model(name, in_chans=channels, features_only=True, dynamic_img_size=True)
            except TypeError:
                self.model = timm.create_model(name, in_chans=channels, features_only=True)
        except (RuntimeError, AttributeError, ValueError, OSError) as error:
            raise InputError(
                f"dsd_encoder {name!r} is neither 'snunet' nor a timm model with feature maps ({error})."
            ) from None
        self.reductions, self.widths = self.model.feature_info.reduction(), self.model.feature_info.channels()
        self.multiple = max(self.reductions)
        self.name, self.channels_last = name, getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        self.size: tuple[int, int] | None = None  # of the images that it takes, if it takes no others
        made_for = timm.models.get_pretrained_cfg(name)
        self.eval()
        try:
            self._probe(channels)
        except ERRORS as error:
            self.size = tuple(made_for.input_size[-2:]) if made_for else None
            try:
                self._probe(channels)
            except ERRORS:
                raise InputError(
                    f"dsd_encoder {name!r} makes no feature maps of images of {2 * self.multiple} pixels ({error})."
                ) from None
        self.train()

    @torch.no_grad()
    def _probe(self, channels: int) -> None:
        maps = self(torch.zeros(1, channels, 2 * self.multiple, 4 * self.multiple))
        if [m.shape[1] for m in maps] != self.widths:
            raise ValueError(f"{[tuple(m.shape) for m in maps]} for {self.widths} channels")

    def forward(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[-2:]
        try:
            maps = self.model(x if self.size is None else F.interpolate(x, self.size, mode="bilinear"))
        except ValueError as error:  # BatchNorm over a single number
            raise InputError(
                f"dsd_encoder {self.name!r} cannot take {len(x)} x {height} x {width} pixels ({error}): give it more "
                "images at once, or choose another."
            ) from None
        maps = [m.movedim(-1, 1) for m in maps] if self.channels_last else maps
        sizes = [(height // r, width // r) for r in self.reductions]
        return [
            m if m.shape[-2:] == size else F.interpolate(m, size, mode="bilinear")
            for m, size in zip(maps, sizes, strict=True)
        ]


class DenseDecoder(nn.Module):
    """UNet++ with SNUNet's ensemble channel attention: fused maps of five scales → logits of the first one's size."""

    def __init__(self, widths: list[int], width: int, num_classes: int) -> None:
        super().__init__()
        # Node (scale, j) of UNet++ sees the j earlier nodes of its scale and the one below, brought up.
        self.up, self.node = nn.ModuleDict(), nn.ModuleDict()
        for j in range(1, SCALES):
            for scale in range(SCALES - j):
                self.up[f"{scale}_{j}"] = nn.ConvTranspose2d(widths[scale + 1], widths[scale + 1], 2, 2)
                self.node[f"{scale}_{j}"] = Block(j * widths[scale] + widths[scale + 1], widths[scale])
        self.attend_all = ChannelAttention((SCALES - 1) * width, 16)
        self.attend_each = ChannelAttention(width, 4)
        self.classify = nn.Conv2d((SCALES - 1) * width, num_classes, 1)

    def forward(self, fused: list[Tensor]) -> Tensor:
        rows = [[x] for x in fused]  # rows[scale][j]
        for j in range(1, SCALES):
            for scale in range(SCALES - j):
                below = self.up[f"{scale}_{j}"](rows[scale + 1][j - 1])
                rows[scale].append(self.node[f"{scale}_{j}"](torch.cat([*rows[scale], below], 1)))
        nodes = rows[0][1:]  # four full-size maps of different depth
        each = self.attend_each(torch.stack(nodes).sum(0)).repeat(1, len(nodes), 1, 1)
        every = torch.cat(nodes, 1)  # (B, 4·width, H, W)
        return self.classify(self.attend_all(every) * (every + each))


class SumDecoder(nn.Module):
    """Fused maps of any scales, each brought to `width` channels and the first one's size, summed → logits there."""

    def __init__(self, widths: list[int], width: int, num_classes: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(c, width, 1) for c in widths)
        self.classify = nn.Sequential(Block(width, width), nn.Conv2d(width, num_classes, 1))

    def forward(self, fused: list[Tensor]) -> Tensor:
        size = fused[0].shape[-2:]
        maps = [F.interpolate(r(x), size, mode="bilinear") for r, x in zip(self.reduce, fused, strict=True)]
        return self.classify(torch.stack(maps).sum(0))


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm, the second added to the first."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return F.relu(x + self.second(x))


class ChannelAttention(nn.Module):
    """A weight in (0, 1) per channel from its mean and its maximum, (B, C, 1, 1)."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(x.amax((2, 3), keepdim=True))).sigmoid()
