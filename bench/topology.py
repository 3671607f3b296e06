"""Which S2OFormer? Candidate topologies, trained alike and compared on validation patches alone.

The talk publishes S2OFormer's block (RHAG) but not how the blocks are wired. Every candidate here has the same four
groups of the same width; they differ in where the groups sit, how scales join, what the stem sees and what the head
adds. Each is trained with L1 on the same crops in the same order for each seed; the test split is never opened. One
JSON file per run makes the whole thing resumable:

    python bench/topology.py data/ombria-20m book/results/topology/ombria-20m --seeds 0 1
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from s2olib.data.triplets import Triplets
from s2olib.generators import complexity, create_generator
from s2olib.generators.padding import pad_to_multiple
from s2olib.generators.rhag import RHAG, convolve, drop_path_rates, initialise
from s2olib.metrics import psnr, ssim, to_8bit
from s2olib.project import resolve, told_in_a_sentence, write_json
from s2olib.training import EpochOrder


@dataclass(frozen=True)
class Candidate:
    """One wiring: `steps[i]` is how often group i's size is halved.

    `join`: "linear" (pixel shuffles with linear layers of HAT's small initialisation), "linear-fan-in" (the same,
    keeping the signal's variance), "convolution" (strided and transposed 2x2 convolutions). `stem`: "plain" sees the
    image alone; "statistics" adds local means and deviation to it, "log" its logarithm; "context" adds what two linear
    layers make of the whole image's mean and deviation to every pixel's features. `head`: "plain", or "residual", which
    adds the stem's features to the normalised ones as HAT does. `head_dim`: the head's inner channels; None is half of
    embed_dim.
    """

    steps: tuple[int, ...]
    join: str
    stem: str
    head: str
    head_dim: int | None = None


CANDIDATES = {
    "first": Candidate((1, 2, 1, 0), "linear", "statistics", "plain"),
    "fan-in": Candidate((1, 2, 1, 0), "linear-fan-in", "statistics", "plain"),
    "residual": Candidate((1, 2, 1, 0), "linear-fan-in", "statistics", "residual"),
    "residual, plain stem": Candidate((1, 2, 1, 0), "linear-fan-in", "plain", "residual"),
    "residual, convolutions": Candidate((1, 2, 1, 0), "convolution", "statistics", "residual"),
    "residual, detail first": Candidate((0, 1, 1, 0), "linear-fan-in", "statistics", "residual"),
    "residual, deeper": Candidate((1, 2, 2, 1), "linear-fan-in", "statistics", "residual"),
    "wide head": Candidate((1, 2, 1, 0), "linear-fan-in", "plain", "residual", 64),
    "wide head, detail first": Candidate((0, 1, 1, 0), "linear-fan-in", "plain", "residual", 64),
    "wide head, statistics": Candidate((1, 2, 1, 0), "linear-fan-in", "statistics", "residual", 64),
    "wide head, log": Candidate((1, 2, 1, 0), "linear-fan-in", "log", "residual", 64),
    "wide head, context": Candidate((1, 2, 1, 0), "linear-fan-in", "context", "residual", 64),
}


class Wired(nn.Module):
    """The network of a `Candidate`; SAR (B, in, H, W) → image (B, out, H, W)."""

    def __init__(
        self,
        wiring: Candidate,
        in_channels: int,
        out_channels: int,
        *,
        embed_dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_size: int = 8,
    ) -> None:
        super().__init__()
        self.wiring = wiring
        self.multiple = window_size * 2 ** max(wiring.steps)
        self.stem = nn.Conv2d(in_channels * {"statistics": 4, "log": 2}.get(wiring.stem, 1), embed_dim, 3, padding=1)
        if wiring.stem == "context":
            self.context = nn.Sequential(
                nn.Linear(2 * in_channels, embed_dim), nn.GELU(), nn.Linear(embed_dim, embed_dim)
            )
        self.norm_in = nn.LayerNorm(embed_dim) if wiring.head == "residual" else nn.Identity()
        self.groups = nn.ModuleList(
            RHAG(embed_dim, depth, heads, window_size=window_size, drop_path=rates)
            for depth, heads, rates in zip(depths, num_heads, drop_path_rates(0.1, depths), strict=True)
        )
        moves = zip((0, *wiring.steps), (*wiring.steps, 0), strict=True)
        self.moves = nn.ModuleList(self._move(before, after, embed_dim) for before, after in moves)
        if wiring.head == "residual":
            self.norm_out = nn.LayerNorm(embed_dim)
            self.conv_out = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        head_dim = wiring.head_dim or embed_dim // 2
        self.head = nn.Sequential(
            nn.Conv2d(embed_dim, head_dim, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(head_dim, out_channels, 3, padding=1),
        )
        initialise(self)
        if wiring.join == "linear-fan-in":
            for move in self.moves:
                for layer in move.modules():
                    if isinstance(layer, nn.Linear):
                        nn.init.xavier_uniform_(layer.weight)

    def _move(self, before: int, after: int, dim: int) -> nn.Module:
        if before == after:
            return nn.Identity()
        convolution = self.wiring.join == "convolution"
        if after > before:
            return nn.Conv2d(dim, dim, 2, stride=2) if convolution else nn.Linear(dim, dim // 4)
        if convolution:
            return nn.ModuleDict({"up": nn.ConvTranspose2d(dim, dim, 2, stride=2), "join": nn.Conv2d(2 * dim, dim, 1)})
        return nn.Linear(dim + dim // 4, dim)

    def forward(self, sar: Tensor) -> Tensor:
        height, width = sar.shape[-2:]
        sar = pad_to_multiple(sar, self.multiple)
        if self.wiring.stem == "statistics":
            sar = torch.cat([sar, *speckle_statistics(sar)], 1)
        elif self.wiring.stem == "log":  # of 8-bit numbers, scaled as these are
            sar = torch.cat([sar, torch.log1p((sar + 1) * 127.5) / math.log(256) * 2 - 1], 1)
        shallow = self.stem(sar).permute(0, 2, 3, 1).contiguous()  # (B, H, W, C)
        if self.wiring.stem == "context":
            shallow = shallow + self.context(torch.cat([sar.mean((2, 3)), sar.std((2, 3))], 1))[:, None, None]
        x, skips, step = self.norm_in(shallow), [], 0
        targets = [*self.wiring.steps, 0]
        for i, (move, target) in enumerate(zip(self.moves, targets, strict=True)):
            while step < target:
                skips.append(x)
                x = self._down(move, x)
                step += 1
            while step > target:
                x = self._up(move, x, skips.pop())
                step -= 1
            if i < len(self.groups):
                x = self.groups[i](x)
        if self.wiring.head == "residual":
            x = shallow + convolve(self.conv_out, self.norm_out(x))
        return self.head(x.permute(0, 3, 1, 2))[..., :height, :width]

    def _down(self, move: nn.Module, x: Tensor) -> Tensor:
        if isinstance(move, nn.Conv2d):
            return convolve(move, x)
        return rearrange(move(x), "b (h i) (w j) c -> b h w (i j c)", i=2, j=2)

    def _up(self, move: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
        if isinstance(move, nn.ModuleDict):
            return convolve(move["join"], torch.cat([convolve(move["up"], x), skip], -1))
        x = rearrange(x, "b h w (i j c) -> b (h i) (w j) c", i=2, j=2)
        return move(torch.cat([x, skip], -1))


def speckle_statistics(sar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Local means over 5 and 15 pixels and the deviation from the smaller one, each of `sar`'s shape.

    In decibels or stretched 8-bit numbers speckle is nearly additive, so that plain means are a multilook: these are
    the statistics that speckle filters since Lee (1980) are made of.
    """
    narrow, wide = (F.avg_pool2d(sar, size, 1, size // 2, count_include_pad=False) for size in (5, 15))
    deviation = F.avg_pool2d((sar - narrow).abs(), 5, 1, 2, count_include_pad=False)
    return narrow, wide, deviation


def build(name: str, in_channels: int, out_channels: int, crop: int) -> nn.Module:
    """A candidate, the chosen one as the library has it, HAT or U-Net, at the widths of the profile `ombria`."""
    if name == "hat":
        config = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2), "window_size": 8}
        return create_generator("hat", in_channels=in_channels, out_channels=out_channels, **config)
    if name == "unet":
        levels = int(math.log2(crop))
        return create_generator("unet", in_channels=in_channels, out_channels=out_channels, embed_dim=48, levels=levels)
    if name == "chosen":
        config = {"embed_dim": 16, "depths": (2,) * 4, "num_heads": (2,) * 4, "window_size": 8}
        return create_generator("s2oformer", in_channels=in_channels, out_channels=out_channels, **config)
    return Wired(CANDIDATES[name], in_channels, out_channels, embed_dim=16, depths=(2,) * 4, num_heads=(2,) * 4)


def run(dataset_root: Path, name: str, seed: int, *, steps: int, crop: int, batch: int, learning_rate: float) -> dict:
    """Train one candidate with L1 and a cosine from `learning_rate` to 0; validation PSNR and SSIM along the way."""
    data = Triplets(dataset_root, "train", crop_size=crop, seed=seed)
    validation = Triplets(dataset_root, "validation")
    torch.manual_seed(seed)
    network = build(name, data.sar_channels, data.opt_channels, crop)
    parameters, macs = complexity(network, (1, data.sar_channels, 128, 128))
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    order = EpochOrder(len(data), batch, seed)
    loader = DataLoader(data, batch_sampler=order)
    curve, done, started, bar = [], 0, time.time(), tqdm(total=steps, desc=f"{name} s{seed}")
    while done < steps:
        data.set_epoch(order.epoch)
        for sample in loader:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * done / steps))
            network.train()
            loss = F.l1_loss(network(sample["sar"]), sample["opt"])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
            bar.update()
            if done % 150 == 0 or done == steps:
                curve.append({"step": done, **score(network, validation)})
                bar.set_postfix(psnr=curve[-1]["psnr"])
            if done == steps:
                break
        order.epoch += 1
    conditions = {"steps": steps, "crop": crop, "batch": batch, "learning_rate": learning_rate}
    return {
        "name": name,
        "wiring": asdict(CANDIDATES[name]) if name in CANDIDATES else None,
        "seed": seed,
        "conditions": conditions,
        "data": data.info["fingerprint"],
        "validation_patches": len(validation),
        "parameters": parameters,
        "macs_per_pixel": macs / 128**2,
        "curve": curve,
        **curve[-1],
        "seconds": time.time() - started,
    }


@torch.no_grad()
def score(network: nn.Module, validation: Triplets) -> dict:
    """Mean PSNR and SSIM of the validation patches, 8-bit."""
    network.eval()
    values = []
    for sample in DataLoader(validation, 16):
        fake, real = to_8bit(network(sample["sar"])), to_8bit(sample["opt"])
        values.append(torch.stack([psnr(fake, real), ssim(fake, real)]))
    return dict(zip(("psnr", "ssim"), torch.cat(values, 1).mean(1).tolist(), strict=True))


def main() -> None:
    """Run what is missing and print each result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset_root", type=resolve)
    parser.add_argument("results", type=resolve)
    parser.add_argument("--names", nargs="+", default=[*CANDIDATES, "chosen", "hat", "unet"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    kwargs = {key: getattr(arguments, key) for key in ("steps", "crop", "batch", "learning_rate")}
    fingerprint = Triplets(arguments.dataset_root, "validation").info["fingerprint"]
    for seed in arguments.seeds:
        for name in arguments.names:
            path = arguments.results / f"{name.replace(', ', '-').replace(' ', '-')}-s{seed}.json"
            if not path.is_file():
                result = run(arguments.dataset_root, name, seed, **kwargs)
                write_json(path, result)
            result = json.loads(path.read_text())
            if result["conditions"] != kwargs or result["data"] != fingerprint:
                parser.error(f"{path} was run on other data or with other options: give another folder for results.")
            print(f"{name:25s} s{seed} {result['psnr']:.2f} dB {result['ssim']:.4f}", flush=True)


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
