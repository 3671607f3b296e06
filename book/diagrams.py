"""Diagrams of the networks, drawn as SVG from the networks themselves.

Every diagram instantiates the module it shows on PyTorch's meta device and reads widths, scales and counts off it, so
that a change of the code changes the picture. Colours and type are those of the book's plots (`s2olib.figures`).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from s2olib import figures
from s2olib.dsd import DSD, SCALES
from s2olib.generators import create_generator

KINDS = {  # fill, line: light tints of the plots' colours, dark enough a line to be told apart
    "data": ("#f2f2f2", "#555555"),
    "conv": ("#cfe5f3", "#0072B2"),
    "attention": ("#f8dcc8", "#D55E00"),
    "resample": ("#cdeae0", "#009E73"),
    "fusion": ("#f3e0ec", "#a3527f"),
}
TALK = {"depths": (4, 4, 4, 4), "num_heads": (4, 4, 4, 4), "window_size": 8, "embed_dim": 96}


class Sheet:
    """A drawing in units of one text line: x to the right, y downwards."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = plt.figure(figsize=(figures.WIDTH, figures.WIDTH * height / width), layout="none")
        ax = self.ax = self.figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        ax.axis("off")

    def box(self, x: float, y: float, w: float, h: float, text: str, kind: str, size: float = 10) -> None:
        """A box around its centre."""
        fill, line = KINDS[kind]
        style = "round,pad=0,rounding_size=0.15"
        self.ax.add_patch(
            FancyBboxPatch((x - w / 2, y - h / 2), w, h, style, facecolor=fill, edgecolor=line, lw=1.2, zorder=3)
        )
        self.ax.text(x, y, text, ha="center", va="center", fontsize=size, linespacing=1.15, zorder=4)

    def arrow(self, *points: tuple[float, float], text: str = "", dashed: bool = False) -> None:
        """A line through the points with a head at the last; `text` stands beside its middle."""
        style = {"color": "#333333", "lw": 1.2, "ls": "--" if dashed else "-"}
        if len(points) > 2:
            self.ax.plot(*zip(*points[:-1], strict=True), solid_capstyle="butt", **style)
        head = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11, **style}
        self.ax.annotate("", points[-1], points[-2], arrowprops=head)
        if text:
            (x0, y0), (x1, y1) = points[len(points) // 2 - 1 : len(points) // 2 + 1]
            self.ax.text((x0 + x1) / 2, (y0 + y1) / 2 - 0.12, text, ha="center", va="bottom", fontsize=10)

    def joint(self, x: float, y: float, sign: str = "+") -> None:
        """Where two ways meet: ``+`` adds, ``c`` concatenates."""
        self.ax.text(x, y, sign, ha="center", va="center", fontsize=11, zorder=4)
        self.ax.add_patch(plt.Circle((x, y), 0.24, facecolor="white", edgecolor="#333333", lw=1.2, zorder=3))

    def note(self, x: float, y: float, text: str, **kwargs: object) -> None:
        self.ax.text(x, y, text, fontsize=10, **{"ha": "center", "va": "center", "color": "#333333"} | kwargs)

    def legend(self, y: float, kinds: dict[str, str]) -> None:
        """What the colours mean, in one line from the left."""
        x = 0.2
        for kind, text in kinds.items():
            self.box(x + 0.2, y, 0.4, 0.4, "", kind)
            self.note(x + 0.55, y, text, ha="left")
            x += 0.95 + 0.165 * len(text)


def scale_name(step: int) -> str:
    return f"1/{2**step}"


def unet() -> Figure:
    """pix2pix's U-Net: widths by level, halved on the way down, joined on the way up."""
    with torch.device("meta"):
        network = create_generator("unet", in_channels=2, out_channels=3)
    widths = [next(m for m in block if isinstance(m, torch.nn.Conv2d)).out_channels for block in network.down]
    sheet = Sheet(14, 1.1 * len(widths) + 3.2)
    sheet.box(2.2, 0.8, 3.2, 0.8, "SAR, 2 bands", "data")
    sheet.box(11.8, 0.8, 3.2, 0.8, "image, 3 bands", "data")
    for level, width in enumerate(widths):
        y, shift = 2.1 + 1.1 * level, 0.42 * level
        left, right, half = 2.2 + shift, 11.8 - shift, 1.35
        aside, top = (0.42, y - 0.74) if level else (0, 1.2)
        sheet.box(left, y, 2 * half, 0.72, f"{width}", "conv")
        sheet.arrow((left - aside, top), (left - aside, y - 0.36))
        if level < len(widths) - 1:
            sheet.box(right, y, 2 * half, 0.72, f"{width}", "resample")
            sheet.arrow((left + half, y), (right - half, y), dashed=True)
            sheet.note(7, y - 0.22, scale_name(level + 1))
            sheet.arrow((right + aside, y - 0.36), (right + aside, top))
        else:
            sheet.note(left + half + 0.5, y, scale_name(level + 1), ha="left")
            start, below = left + half * 0.3, y + 0.62
            sheet.arrow((start, y + 0.36), (start, below), (right + aside, below), (right + aside, top))
    sheet.legend(1.1 * len(widths) + 2.8, {"conv": "4×4 convolution, stride 2", "resample": "4×4 transposed"})
    sheet.note(13.9, 1.1 * len(widths) + 2.8, "dashed: concatenated", ha="right")
    return sheet.figure


def s2oformer() -> Figure:
    """S2OFormer: each RHAG at the scale that `steps` says, in order of execution, skips where the size returns."""
    with torch.device("meta"):
        network = create_generator("s2oformer", in_channels=2, out_channels=3, **TALK)
    steps, depths = list(network.steps), TALK["depths"]
    deepest, count = max(steps), len(steps)
    row, left, gap = 2.1, 3.6, 7.0 / max(1, count - 1)

    def at(step: int) -> float:
        return 1.9 + row * step

    sheet = Sheet(14, at(deepest) + 2.6)
    for step in range(deepest + 1):
        sheet.note(0.35, at(step) + (0.95 if step == 0 else 0), scale_name(step), ha="left", color="#666666")
    sheet.box(1.2, at(0), 1.5, 1.0, "SAR", "data")
    sheet.box(left - 0.55, at(0), 1.3, 1.0, "conv\n3×3", "conv", 9)
    sheet.arrow((1.95, at(0)), (left - 1.2, at(0)))
    x_before, step_before, skips = left - 0.55 + 0.65, 0, []
    for i, (step, depth) in enumerate(zip(steps, depths, strict=True)):
        x = left + 1.3 + i * gap * 0.72
        sheet.box(x, at(step), 1.5, 1.2, f"RHAG {i + 1}\n{depth} blocks", "attention", 9)
        if step == step_before:
            sheet.arrow((x_before, at(step)), (x - 0.75, at(step)))
        else:
            sheet.arrow(
                (x_before, at(step_before)), (x - 0.98, at(step_before)), (x - 0.98, at(step)), (x - 0.75, at(step))
            )
            middle = (at(step) + at(step_before)) / 2
            down = step > step_before
            sheet.box(x - 1.0, middle, 1.25, 0.62, "unshuffle" if down else "shuffle", "resample", 8.5)
            if down:
                skips.append(x_before + 0.1)
            else:
                sheet.joint(x - 0.98, at(step), "c")
                sheet.arrow((skips.pop(), at(step)), (x - 1.24, at(step)), dashed=True)
        x_before, step_before = x + 0.75, step
    sheet.box(13.3, at(0), 1.2, 1.0, "image", "data")
    sheet.box(12.0, at(0), 0.9, 1.0, "head", "conv", 9)
    sheet.arrow((x_before, at(steps[-1])), (10.86, at(0)))
    sheet.joint(11.1, at(0))
    sheet.arrow((11.34, at(0)), (11.55, at(0)))
    sheet.arrow((12.45, at(0)), (12.7, at(0)))
    sheet.arrow(
        (3.05, at(0) - 0.5),
        (3.05, 0.85),
        (11.1, 0.85),
        (11.1, at(0) - 0.24),
        text="shallow features, added",
    )
    sheet.legend(at(deepest) + 1.8, {"attention": "RHAG", "resample": "pixel (un)shuffle and a linear layer"})
    sheet.note(13.9, at(deepest) + 1.8, "dashed, c: concatenated", ha="right")
    return sheet.figure


def hat() -> Figure:
    """HAT: groups in a row at full resolution, one long residual."""
    with torch.device("meta"):
        network = create_generator("hat", in_channels=2, out_channels=3, **TALK)
    count = sum(type(module).__name__ == "RHAG" for module in network.modules())
    sheet = Sheet(14, 5.2)
    y = 2.6
    sheet.box(0.95, y, 1.5, 1.0, "SAR", "data")
    sheet.box(3.0, y, 1.3, 1.0, "conv\n3×3", "conv", 9)
    places = [4.75 + i * 4.9 / max(1, count - 1) for i in range(count)]
    for i, x in enumerate(places):
        sheet.box(x, y, 1.25, 1.3, f"RHAG\n{i + 1}", "attention", 9)
    sheet.box(11.2, y, 1.1, 1.0, "conv\n3×3", "conv", 9)
    sheet.box(13.3, y, 1.3, 1.0, "image", "data")
    stops = [
        (1.7, 2.35),
        (3.65, places[0] - 0.625),
        *((a + 0.625, b - 0.625) for a, b in pairwise(places)),
    ]
    for start, end in [*stops, (places[-1] + 0.625, 10.65), (11.75, 12.65)]:
        sheet.arrow((start, y), (end, y))
    sheet.arrow((3.9, y), (3.9, 1.2), (12.1, 1.2), (12.1, y - 0.24), text="shallow features, added")
    sheet.joint(12.1, y)
    sheet.note(12.4, y + 0.75, "head")
    sheet.legend(4.5, {"attention": "all at full resolution, width 96", "conv": "convolution"})
    return sheet.figure


def rhag() -> Figure:
    """A residual hybrid attention group, and one of its blocks opened."""
    sheet = Sheet(14, 9.8)
    window = TALK["window_size"]
    with torch.device("meta"):
        group = create_generator("s2oformer", in_channels=2, out_channels=3, **TALK).groups[0]
    depth = sum(type(module).__name__ == "HAB" for module in group.modules())
    y = 1.9
    xs = [2.0 + 1.75 * i for i in range(depth)]
    for i, x in enumerate(xs):
        sheet.box(x, y, 1.35, 1.1, f"HAB\n{'shifted' if i % 2 else 'plain'}", "attention", 9)
    ocab, conv = xs[-1] + 1.9, xs[-1] + 3.6
    sheet.box(ocab, y, 1.5, 1.1, "OCAB\noverlap", "fusion", 9)
    sheet.box(conv, y, 1.1, 1.1, "conv\n3×3", "conv", 9)
    edges = [
        0.3,
        *(edge for x in xs for edge in (x - 0.675, x + 0.675)),
        ocab - 0.75,
        ocab + 0.75,
        conv - 0.55,
        conv + 0.55,
        13.7,
    ]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        sheet.arrow((start, y), (end, y))
    sheet.arrow((0.75, y), (0.75, 0.85), (conv + 1.1, 0.85), (conv + 1.1, y - 0.24))
    sheet.joint(conv + 1.1, y)
    sheet.note(0.2, 0.2, "RHAG: blocks, one with overlapping windows, a convolution, and the input added", ha="left")
    # one block, opened
    sheet.ax.plot(
        [xs[0] - 0.675, 0.3], [y + 0.55, 3.4], [xs[0] + 0.675, 13.7], [y + 0.55, 3.4], color="#bbbbbb", lw=0.8
    )
    y = 6.0
    sheet.box(2.2, y, 1.2, 0.9, "LN", "data")
    sheet.box(5.2, y - 1.0, 3.4, 1.1, f"window attention\n{window}×{window} pixels", "attention", 9)
    sheet.box(5.2, y + 1.0, 3.4, 1.1, "channel attention\n× 0.01", "fusion", 9)
    sheet.box(10.3, y, 1.2, 0.9, "LN", "data")
    sheet.box(12.0, y, 1.3, 0.9, "MLP", "conv")
    sheet.arrow((0.3, y), (1.6, y))
    sheet.arrow((2.8, y), (3.1, y), (3.1, y - 1.0), (3.5, y - 1.0))
    sheet.arrow((2.8, y), (3.1, y), (3.1, y + 1.0), (3.5, y + 1.0))
    sheet.arrow((6.9, y - 1.0), (8.2, y - 1.0), (8.2, y - 0.24))
    sheet.arrow((6.9, y + 1.0), (8.2, y + 1.0), (8.2, y + 0.24))
    sheet.arrow((0.8, y), (0.8, y - 2.0), (8.6, y - 2.0), (8.6, y - 0.6), (8.32, y - 0.2))
    sheet.joint(8.2, y)
    sheet.arrow((8.44, y), (9.7, y))
    sheet.arrow((10.9, y), (11.35, y))
    sheet.arrow((12.65, y), (12.95, y))
    sheet.joint(13.2, y)
    sheet.arrow((9.1, y), (9.1, y - 1.4), (13.2, y - 1.4), (13.2, y - 0.24))
    sheet.arrow((13.44, y), (13.95, y))
    sheet.note(
        0.2,
        8.0,
        "HAB: two attentions side by side, then an MLP; every second one shifts its windows",
        ha="left",
    )
    sheet.legend(9.2, {"attention": "attention in windows", "fusion": "channels, overlap", "conv": "plain layers"})
    return sheet.figure


def dsd() -> Figure:
    """The DSD: an encoder for each modality, fusion at every scale, the dense decoder; the loss at the deepest map."""
    with torch.device("meta"):
        network = DSD(2, 3, 4)
    widths = [block.second[0].num_features for block in network.fuse]
    sheet = Sheet(14, 11.4)
    sheet.box(1.3, 0.7, 2.0, 0.8, "SAR", "data")
    sheet.box(3.7, 0.7, 2.0, 0.8, "optical", "data")
    fused_x = 6.1
    for scale, width in enumerate(widths):
        y = 2.0 + 1.65 * scale
        for x in (1.3, 3.7):
            sheet.box(x, y, 1.5, 0.85, f"{width}", "conv")
            sheet.arrow((x, y - 1.22 if scale else 1.1), (x, y - 0.43))
        sheet.box(fused_x, y, 1.4, 0.85, f"fuse\n{width}", "fusion", 8.5)
        sheet.arrow((2.05, y), (2.4, y), (2.4, y + 0.66), (5.0, y + 0.66), (5.4, y + 0.3))
        sheet.arrow((4.45, y), (5.4, y))
        sheet.note(0.1, y + 0.75, scale_name(scale), ha="left", color="#666666")
        for j in range(1, SCALES - scale):
            x = fused_x + 1.75 * j
            sheet.box(x, y, 1.1, 0.85, f"{scale},{j}", "resample", 9)
            sheet.arrow((x - (1.05 if j == 1 else 1.2), y), (x - 0.55, y))
            sheet.arrow((x - 1.75 + (0.4 if j > 1 else 0.5), y + 1.65 - 0.43), (x - 0.3, y + 0.43), dashed=True)
    top = fused_x + 1.75 * (SCALES - 1)
    sheet.box(9.5, 0.7, 4.4, 0.8, "attention head", "fusion")
    sheet.box(top - 0.1, 0.7, 1.6, 0.8, "land cover", "data", 8.5)
    sheet.arrow((11.7, 0.7), (top - 0.9, 0.7))
    for j in range(1, SCALES - 1):
        sheet.arrow((fused_x + 1.75 * j, 1.57), (fused_x + 1.75 * j, 1.1))
    sheet.arrow((top, 1.57), (top, 1.33), (11.6, 1.33), (11.6, 1.1))
    deep = 2.0 + 1.65 * (SCALES - 1)
    sheet.arrow((fused_x + 0.7, deep), (8.6, deep))
    sheet.box(10.9, deep, 4.6, 0.95, "deepest map: feature loss", "attention")
    sheet.legend(10.8, {"conv": "encoders", "fusion": "fusion", "resample": "dense decoder"})
    sheet.note(13.9, 10.8, "dashed: brought up", ha="right")
    return sheet.figure


DIAGRAMS = {"unet": unet, "hat": hat, "rhag": rhag, "s2oformer": s2oformer, "dsd": dsd}


def write(folder: Path) -> None:
    """Write every diagram into `folder` as ``diagram-<name>.svg``."""
    figures.use_style()
    for name, draw in DIAGRAMS.items():
        figures.save(draw(), folder / f"diagram-{name}.svg")
