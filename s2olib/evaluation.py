"""What a generator is worth on a split: every patch's metrics, and whether its images show the right land cover.

Semantic fidelity asks a judge that has nothing in common with the DSD: no convolutional network but a small perceptron
on local statistics, fitted to real optical images and the land-cover map, with a seed of its own. It then names the
land cover of real and of generated images alike; the share of pixels it names as the map does, on real images, is what
a perfect generator could reach. Pseudo-categories are made from the optical image, so they are never asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from s2olib.baselines import MeanColour, local_statistics, sample_pixels
from s2olib.data.landcover import IGNORE
from s2olib.data.triplets import Triplets
from s2olib.metrics import patch_metrics
from s2olib.project import InputError, resolve
from s2olib.records import PLACE

BATCH = 8  # patches that are evaluated at once


class Judge:
    """Land cover from an optical image alone: a perceptron on each pixel's colour and local statistics.

    Call it with ``opt`` (B, 3, H, W) in [-1, 1] for categories (B, H, W).
    """

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        self.network, self.mean, self.deviation = network, mean, deviation

    @classmethod
    def fit(cls, triplets: Triplets, *, seed: int = 1234) -> Judge:
        """Fitted to at most 20,000 labelled pixels of the training split; seconds on one core."""
        x, y = sample_pixels(
            triplets, lambda item: local_statistics(item["opt"][None])[0], lambda item: item["lulc"][None], seed
        )
        known = y[:, 0] != IGNORE
        x, y = x[known], y[known, 0]
        if not len(x):
            raise InputError("The training split has no labelled pixel: semantic fidelity cannot be judged.")
        mean, deviation = x.mean(0), x.std(0) + 1e-6
        x = (x - mean) / deviation
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            network = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
            network.append(nn.Linear(64, triplets.num_classes))
            optimizer = torch.optim.Adam(network.parameters(), 3e-3)
            for _ in range(10):
                for batch in torch.randperm(len(x)).split(512):
                    loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        return cls(network, mean, deviation)

    def __call__(self, opt: Tensor) -> Tensor:
        network, mean, deviation = self.network.to(opt.device), self.mean.to(opt.device), self.deviation.to(opt.device)
        named = []
        for image in opt.float().clamp(-1, 1).split(1):  # some rows of one fit a processor's cache: four times faster
            strips = local_statistics(image).movedim(1, -1).split(16, 1)  # (1, 16, W, 21)
            named.append(torch.cat([network((x - mean) / deviation).argmax(-1) for x in strips], 1))
        return torch.cat(named)

    def accuracy(self, opt: Tensor, lulc: Tensor) -> Tensor:
        """Share of the labelled pixels that are named as `lulc` (B, H, W) does, (B,); NaN where none is labelled."""
        known = lulc != IGNORE
        return ((self(opt) == lulc) & known).sum((1, 2)) / known.sum((1, 2))


@contextmanager
def _all_bits() -> Iterator[None]:
    """Convolutions on a GPU in float32 as on a CPU; of TF32, its default, ten bits of a number are left."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@_all_bits()
@torch.no_grad()
def evaluate(
    generator: Callable[[Tensor], Tensor],
    dataset_root: str | Path,
    split: str,
    device: torch.device | str = "cpu",
    *,
    limits: dict | None = None,
) -> pd.DataFrame:
    """Metrics of every patch of a split, a row each, from the generator alone in eval mode and float32.

    `generator` is a network or a fitted baseline: anything that maps SAR in [-1, 1] to optical in [-1, 1]. Land cover,
    where there is any, adds ``psnr_<category>`` and, where it is a map and no rule on colours, ``semantic_accuracy`` of
    the generated and of the real image (`Judge`); it changes nothing else.
    """
    root = resolve(dataset_root)
    triplets, train = (Triplets(root, name, limits=limits) for name in (split, "train"))
    if not len(triplets):
        raise InputError(f"{dataset_root}/{split} holds no patches: there is nothing to evaluate.")
    colour = MeanColour.fit(train).colour
    independent = train.has_lulc and triplets.has_lulc and triplets.info["lulc"]["kind"] == "land cover"
    judge = Judge.fit(train) if independent else None
    if isinstance(generator, nn.Module):
        generator.eval().to(device)
    rows = []
    for batch in DataLoader(triplets, BATCH):
        real, fake = batch["opt"].to(device), generator(batch["sar"].to(device)).float()
        for name, finite in zip(triplets.index["id"][len(rows) :], fake.isfinite().flatten(1).all(1), strict=False):
            if not finite:  # a mean would leave it out
                raise InputError(f"the generated image of patch {name} is not finite: train the network again.")
        lulc = batch["lulc"].to(device) if "lulc" in batch else None
        categories = triplets.categories if "lulc" in batch else ()
        measured = patch_metrics(fake, real, mean_colour=colour, lulc=lulc, categories=categories)
        if judge is not None:
            accuracies = zip(judge.accuracy(fake, lulc).tolist(), judge.accuracy(real, lulc).tolist(), strict=True)
            for row, (of_fake, of_real) in zip(measured, accuracies, strict=True):
                row |= {"semantic_accuracy": of_fake, "semantic_accuracy_real": of_real}
        rows += measured
    names = [name for name in PLACE if name in triplets.index]
    return pd.concat([triplets.index[names].reset_index(drop=True), pd.DataFrame(rows)], axis=1)
