"""The Residual Hybrid Attention Group: the block that HAT and S2OFormer are built of.

After "Activating More Pixels in Image Super-Resolution Transformer" (Chen et al., CVPR 2023), whose formulas are kept
weight for weight, and Swin Transformer (Liu et al., ICCV 2021). Features are (B, H, W, C) throughout, so that linear
layers and channels-last convolutions follow each other without a copy; attention is PyTorch's fused
`scaled_dot_product_attention`, but for training on a CPU; shift masks and position indices are made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, wraps

import torch
from einops import rearrange
from timm.layers import Mlp, trunc_normal_
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from s2olib.project import InputError

MASKED = -100.0  # Swin's logit between regions that the cyclic shift brought together; finite in half precision


def overlapping_size(window_size: int, overlap_ratio: float) -> int:
    """The width of OCAB's key windows in pixels, e.g. 12 for window 8 and overlap 0.5.

    Raises `InputError` for an overlap that has no two halves.
    """
    overlap = int(window_size * overlap_ratio)
    if overlap % 2:
        raise InputError(
            f"window_size {window_size} with overlap_ratio {overlap_ratio} overlaps by {overlap} pixels, which cannot "
            "be halved between two sides: choose values whose product is even."
        )
    return window_size + overlap


def check_groups(
    embed_dim: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    window_size: int,
    overlap_ratio: float,
    mlp_ratio: float,
    drop_path_rate: float,
) -> None:
    """Raise `InputError` for windows, overlaps, heads, ratios and rates that no sequence of RHAGs can have."""
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
    if int(embed_dim * mlp_ratio) < 1:  # timm's Mlp takes 0 for its default, which is a ratio of 1
        raise InputError(f"mlp_ratio {mlp_ratio} leaves no hidden channel of {embed_dim}: 2 is the published value.")
    if not 0 <= drop_path_rate < 1:
        raise InputError(f"drop_path_rate {drop_path_rate} is outside 0..1: 0.1 is the published value.")
    overlapping_size(window_size, overlap_ratio)


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
    inside blocks are computed again in the backward pass instead of being kept. With `compiled`, which is set on a
    group and is no part of a network's configuration, `torch.compile` makes one program of each kind of block.

    Parameters
    ----------
    drop_path : stochastic depth, one probability for each block; none is 0
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
        self.checkpointing, self.compiled = checkpointing, False
        self.drop_path = list(drop_path) or [0.0] * depth
        hidden = int(dim * mlp_ratio)
        self.blocks = nn.ModuleList(
            HAB(
                dim,
                WindowAttention(dim, num_heads, window_size, shift=window_size // 2 * (i % 2)),
                CAB(dim, compress_ratio, squeeze_factor),
                conv_scale,
                hidden,
            )
            for i in range(depth)
        )
        self.overlap = OCAB(dim, num_heads, window_size, overlapping_size(window_size, overlap_ratio), hidden)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block, rate in zip(self.blocks, self.drop_path, strict=True):
            y = self.run(block, y, *survival(y, rate) if self.training and any(self.drop_path) else ())
        return x + convolve(self.conv, self.run(self.overlap, y))

    def run(self, block: nn.Module, *given: Tensor) -> Tensor:
        """`block` of what it is `given`, compiled and checkpointed where that is asked for."""
        program = partial(PROGRAMS[type(block)], block) if self.compiled else block
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(program, *given, use_reentrant=False)
        return program(*given)


def survival(x: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Stochastic depth: the factors of each image's two branches of a block, 0 or 1 / (1 - rate), (B, 1, 1, 1) each."""
    whole = x.new_ones(len(x), 1, 1, 1)
    return tuple(torch.empty_like(whole).bernoulli_(1 - rate) / (1 - rate) if rate else whole for _ in range(2))


class HAB(nn.Module):
    """Hybrid attention block: window attention beside a channel-attention branch, then an MLP."""

    def __init__(self, dim: int, attention: WindowAttention, conv: CAB, conv_scale: float, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.conv = conv
        self.conv_scale = conv_scale
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor, *kept: Tensor) -> Tensor:
        """(B, H, W, C) to the same; `kept` multiplies attention and MLP, as `survival` says."""
        y = self.norm1(x)
        z, gate = self.conv(y)
        attended = self.attention(y) * kept[0] if kept else self.attention(y)
        x = torch.addcmul(x + attended, z, gate, value=self.conv_scale)
        seen = perceive(self.mlp, self.norm2, x)
        return x + (seen * kept[1] if kept else seen)


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
        _, height, width, _ = y.shape
        size, shift = self.window_size, self.shift
        bias = position_bias(self.bias, size)  # (heads, T, T)
        if not shift:
            return in_strips(lambda y: self.attend(y, bias[None]), size, y)
        last = edges(height // size, width // size, y.device)  # (1, H/size, W/size)
        masks = shift_masks(size, shift, y.device)  # (4, 1, T, T)
        y = in_strips(lambda y, at: self.attend(y, (bias + masks[at]).flatten(0, 2)), size, y.roll(-shift, 1), last)
        return y.roll(shift, 1)

    def attend(self, y: Tensor, bias: Tensor) -> Tensor:
        """Attention within the windows of (B, H, W, C); `bias` is (1 or windows of an image, heads, T, T)."""
        batch, height, width, _ = y.shape
        y = y.roll(-self.shift, 2) if self.shift else y
        y = rearrange(y, "b (h i) (w j) c -> (b h w) (i j) c", i=self.window_size, j=self.window_size)
        q, k, v = rearrange(linear(self.qkv, y), "n t (s m d) -> s n m t d", s=3, m=self.num_heads)
        if len(bias) > 1:
            bias = bias.repeat(batch, 1, 1, 1)
        y = join_windows(linear(self.proj, attention(q, k, v, bias)), self.window_size, height, width)
        return y.roll(self.shift, 2) if self.shift else y


class CAB(nn.Module):
    """Channel attention block: two 3x3 convolutions through fewer channels, and the weight of each by its mean."""

    def __init__(self, dim: int, compress_ratio: int, squeeze_factor: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, max(1, dim // compress_ratio), 3, padding=1)
        self.conv2 = nn.Conv2d(max(1, dim // compress_ratio), dim, 3, padding=1)
        self.squeeze = nn.Linear(dim, max(1, dim // squeeze_factor))
        self.excite = nn.Linear(max(1, dim // squeeze_factor), dim)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = convolve(self.conv2, F.gelu(convolve(self.conv1, y)))
        gate = self.excite(F.relu(self.squeeze(y.mean((1, 2), keepdim=True)))).sigmoid()  # (B, 1, 1, C)
        return y, gate


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
        qkv = in_strips(lambda x: linear(self.qkv, self.norm1(x)), 1, x)
        bias = position_bias(self.bias, self.window_size, self.overlap_size)[None]  # (1, heads, T, wide²)
        q, kv = qkv.split((x.shape[-1], 2 * x.shape[-1]), -1)
        kv = overlapping_windows(kv, self.window_size, self.overlap_size)
        x = x + in_strips(lambda q, kv: self.attend(q, kv, bias), self.window_size, q, kv)
        return x + perceive(self.mlp, self.norm2, x)

    def attend(self, q: Tensor, kv: Tensor, bias: Tensor) -> Tensor:
        """Attention of the windows of q (B, H, W, C) to those in kv (B, H/size, W/size, 2C, wide, wide)."""
        _, height, width, _ = q.shape
        size, heads = self.window_size, self.num_heads
        q = rearrange(q, "b (h i) (w j) (m d) -> (b h w) m (i j) d", m=heads, i=size, j=size)
        kv = rearrange(kv, "b h w c i j -> (b h w) (i j) c")
        k, v = rearrange(kv, "n t (s m d) -> s n m t d", s=2, m=heads)
        return join_windows(linear(self.proj, attention(q, k, v, bias)), size, height, width)


PROGRAMS = {kind: torch.compile(kind.forward, dynamic=False) for kind in (HAB, OCAB)}  # one for each size and shift
STRIP = 2**19  # elements; with what is computed from them they fit a processor's cache


def for_processor(x: Tensor) -> bool:
    """Whether to arrange the work on `x` for a CPU's cache and libraries: not where a compiler does it better, and not
    in training, where what strips and convolutions save on the way forward they cost on the way back."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def in_strips(function: Callable[..., Tensor], size: int, x: Tensor, *beside: Tensor) -> Tensor:
    """`function` of `x` (B, H, W, C), on a CPU in strips of rows, so that wide maps in between stay in its cache.

    Strips are as high as a multiple of `size`. `beside` (B or 1, H / size, …) are cut as `x` is.
    """
    batch, height, width, dim = x.shape
    rows = size * max(1, STRIP // (size * width * dim))
    if not for_processor(x) or rows >= batch * height:
        return function(x, *beside)
    images = max(1, rows // height)  # whole images in a strip, where they are small
    cuts = [b.split(images) if len(b) > 1 else [b] * -(-batch // images) for b in beside]
    strips = []
    for part, *others in zip(x.split(images), *cuts, strict=True):
        others = [other.split(max(1, rows // size), 1) for other in others]
        strips += [function(*strip) for strip in zip(part.split(rows, 1), *others, strict=True)]
    return torch.cat(strips, 0 if rows >= height else 1).view(batch, height, width, -1)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """`layer` of (N, ..., T, C), on a CPU as a 1x1 convolution.

    oneDNN's convolution is up to twice as fast there as the matrix product of MKL, whose best code is kept for the
    processors of its own maker.
    """
    if not for_processor(x):
        return layer(x)
    images = x.flatten(0, -3).unsqueeze(2).permute(0, 3, 1, 2)  # (N, C, T, 1), channels last
    return F.conv2d(images, layer.weight[:, :, None, None], layer.bias).permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def perceive(mlp: Mlp, norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """`mlp` of the normalised (B, H, W, C)."""
    return in_strips(lambda x: linear(mlp.fc2, mlp.act(linear(mlp.fc1, norm(x)))), 1, x)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q kᵀ / √d + bias) v for (N, heads, T, d), (N, T, heads·d).

    PyTorch's fused kernel, except for training on a CPU: that kernel has no gradient for a bias there.
    """
    if q.device.type == "cpu" and torch.is_grad_enabled():
        y = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1) + bias).softmax(-1).to(v.dtype) @ v
    else:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
    return y.transpose(1, 2).flatten(2)


def overlapping_windows(x: Tensor, size: int, wide: int) -> Tensor:
    """(B, H, W, C) → a view (B, H/size, W/size, C, wide, wide): windows share pixels, zeros lie beyond the border."""
    border = (wide - size) // 2
    return F.pad(x, (0, 0, border, border, border, border)).unfold(1, wide, size).unfold(2, wide, size)


def join_windows(y: Tensor, size: int, height: int, width: int) -> Tensor:
    """Windows (B·windows, size², C) → (B, height, width, C)."""
    return rearrange(y, "(b h w) (i j) c -> b (h i) (w j) c", h=height // size, w=width // size, i=size)


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution on (B, H, W, C), which is what channels-last memory is: nothing is copied.

    Except for training on a CPU, where oneDNN's way back is twice as fast through channels first.
    """
    x = x.permute(0, 3, 1, 2)
    if x.device.type == "cpu" and torch.is_grad_enabled():
        x = x.contiguous()
    return conv(x).permute(0, 2, 3, 1)


def initialise(model: nn.Module) -> None:
    """Linear layers and position biases N(0, 0.02), convolutions as PyTorch makes them.

    As in HAT, but for channel attention: its two layers are convolutions there and begin as such, here linear layers.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, WindowAttention | OCAB):
            trunc_normal_(module.bias, std=0.02)


def position_bias(table: Tensor, size: int, wide: int | None = None) -> Tensor:
    """The learned bias of every (query, key) pair: table (entries, heads) → (heads, size², wide²), or (…, size²)."""
    index = position_index(size, wide, table.device)
    return table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1).contiguous()


def once(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep what `make` gives for the same arguments; where a network is compiled, the compiler sees its formula."""
    kept = lru_cache(maxsize=8)(torch.inference_mode(False)(make))

    @wraps(make)
    def given(*arguments: int | torch.device) -> Tensor:
        if torch.compiler.is_compiling():
            return make(*arguments)
        found = kept(*arguments)
        if type(found) is not Tensor:  # of a network that is traced with tensors that hold no numbers
            kept.cache_clear()
        return found

    return given


@once
def position_index(size: int, wide: int | None, device: torch.device) -> Tensor:
    """Row of the bias table for each query of a `size` window and key of the same window, or of a `wide` one, (size²,
    wide²).

    In one window Swin's order (query − key); else HAT's (key − query), that of an overlap of 0 included, whose offset
    leaves negative numbers that count from the table's end.
    """
    side = wide or size
    query, key = (torch.arange(edge**2, device=device) for edge in (size, side))
    row, column, key_row, key_column = query // size, query % size, key // side, key % side
    down, right = key_row - row[:, None], key_column - column[:, None]
    span = size + side - 1
    if wide is None:
        down, right, offset = -down, -right, size - 1
    else:
        offset = size - wide + 1
    return ((down + offset) * span + right + offset) % span**2


@once
def shift_masks(size: int, shift: int, device: torch.device) -> Tensor:
    """0 between pixels that are neighbours in the image, `MASKED` where the cyclic shift joined opposite sides.

    (4, 1, size², size²): for a window inside the image, in its last column, in its last row, and in both.
    """
    moved = torch.arange(size, device=device) >= size - shift  # from the opposite side, where the window is a last one
    row, column = (side.flatten() for side in torch.meshgrid(moved, moved, indexing="ij"))  # (size²,)
    right, down = (side[:, None] != side for side in (column, row))  # (size², size²)
    return torch.stack([right & False, right, down, right | down])[:, None] * MASKED


def edges(rows: int, columns: int, device: torch.device) -> Tensor:
    """Which of `shift_masks` each of (rows, columns) windows needs, (1, rows, columns)."""
    down, right = (torch.arange(windows, device=device) == windows - 1 for windows in (rows, columns))
    return (2 * down[:, None] + right.long())[None]
