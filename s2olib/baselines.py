"""What a network has to beat: one colour, histogram matching, and a regression on local statistics.

Each is fitted on the training split alone and then called like a generator: ``sar`` (B, Cs, H, W) in [-1, 1] in,
``opt`` (B, 3, H, W) in [-1, 1] out, on the same device.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from s2olib.data.triplets import Triplets
from s2olib.project import InputError

PIXELS_PER_PATCH = 64
MOST_PIXELS = 20_000  # sampled for a fit; more change the result in the third digit
WINDOWS = (3, 9, 21)  # pixels: speckle, texture, surroundings


class MeanColour:
    """The training set's mean optical colour everywhere: the zero of `s2olib.metrics.skill`."""

    def __init__(self, colour: Tensor) -> None:
        self.colour = colour  # (3,) in [-1, 1]

    @classmethod
    def fit(cls, triplets: Triplets, *, seed: int = 0) -> MeanColour:
        """Mean over every pixel of every patch; `seed` changes nothing."""
        _check(triplets)
        total = sum(triplets[i]["opt"].double().mean((1, 2)) for i in range(len(triplets)))
        return cls((total / len(triplets)).float())

    def __call__(self, sar: Tensor) -> Tensor:
        return self.colour.to(sar).view(1, -1, 1, 1).repeat(len(sar), 1, *sar.shape[2:])


class HistogramMatching:
    """The bands' mean as a grey image, its distribution mapped channel by channel onto that of the optical images.

    One monotonic curve a channel, from the quantiles of the training set (Gonzalez & Woods, histogram specification):
    what contrast stretching can do without looking at structure. A grey level of several quantiles, as 8-bit images
    have them, is given the darkest of their colours.
    """

    def __init__(self, grey: np.ndarray, colours: np.ndarray) -> None:
        self.grey = grey  # (quantiles,)
        self.colours = colours  # (3, quantiles)

    @classmethod
    def fit(cls, triplets: Triplets, *, seed: int = 0) -> HistogramMatching:
        """256 quantiles of the pixels sampled with `seed`."""
        sar, opt = sample_pixels(triplets, lambda item: item["sar"].mean(0, keepdim=True), _colours, seed)
        sar, opt = sar.numpy(), opt.numpy()
        levels = np.linspace(0, 1, 256)
        grey = np.quantile(sar[:, 0], levels)
        rising = np.concatenate([[True], np.diff(grey) > 0])  # interpolation needs distinct abscissae
        return cls(grey[rising], np.quantile(opt, levels, axis=0).T[:, rising])

    def __call__(self, sar: Tensor) -> Tensor:
        grey = sar.detach().float().mean(1).cpu().numpy()
        opt = np.stack([np.interp(grey, self.grey, channel) for channel in self.colours], 1)
        return torch.from_numpy(opt).to(sar)


class Regression:
    """Gradient-boosted trees from each pixel's SAR values and their local mean and deviation in several windows.

    The best that can be said of a pixel without learning shapes; scikit-learn's ``HistGradientBoostingRegressor``, one
    for each colour. On one thread: its threads spin while they wait, and starve whatever else runs.
    """

    def __init__(self, models: list) -> None:
        self.models = models

    @classmethod
    def fit(cls, triplets: Triplets, *, seed: int = 0) -> Regression:
        """Fitted on at most 20,000 pixels, sampled with `seed`."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        x, y = sample_pixels(triplets, lambda item: local_statistics(item["sar"][None])[0], _colours, seed)
        settings = {"max_iter": 100, "early_stopping": False, "random_state": seed}
        with threadpool_limits(1):
            return cls([HistGradientBoostingRegressor(**settings).fit(x.numpy(), channel) for channel in y.T.numpy()])

    def __call__(self, sar: Tensor) -> Tensor:
        from threadpoolctl import threadpool_limits

        x = local_statistics(sar.detach().float()).movedim(1, -1).flatten(0, 2).cpu().numpy()
        with threadpool_limits(1):
            opt = np.stack([model.predict(x) for model in self.models], 1).clip(-1, 1)
        return torch.from_numpy(opt).to(sar).view(len(sar), *sar.shape[2:], -1).movedim(-1, 1)


BASELINES: dict[str, type[MeanColour | HistogramMatching | Regression]] = {
    "mean colour": MeanColour,
    "histogram matching": HistogramMatching,
    "regression": Regression,
}


def local_statistics(sar: Tensor) -> Tensor:
    """(B, Cs, H, W) → (B, Cs · 7, H, W): the values, then mean and deviation in windows of 3, 9 and 21 pixels.

    A window is cut at the border, its statistics taken over what is left.
    """
    images = torch.ones_like(sar[:1, :1]), sar, sar.square()
    integrals, features = [image.double().cumsum(2).cumsum(3) for image in images], [sar]
    for window in WINDOWS:
        area, *sums = (_local_sum(integral, window) for integral in integrals)
        mean, square = ((total / area).to(sar.dtype) for total in sums)
        features += [mean, (square - mean.square()).clamp(min=0).sqrt()]
    return torch.cat(features, 1)


def _local_sum(integral: Tensor, window: int) -> Tensor:
    """Sum in cut windows, from an integral image (B, C, H, W) (Crow 1984): as fast for any window."""
    integral = F.pad(F.pad(integral, (1, 0, 1, 0)), (window // 2,) * 4, mode="replicate")
    rows = integral[:, :, window:] - integral[:, :, :-window]
    return rows[..., window:] - rows[..., :-window]


def sample_pixels(triplets: Triplets, features: Callable, targets: Callable, seed: int) -> tuple[Tensor, Tensor]:
    """`features` (n, F) and `targets` (n, T) of pixels drawn from patches drawn over the whole split.

    Both functions take an item of `triplets` and give maps (F or T, H, W).
    """
    _check(triplets)
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(triplets))[: MOST_PIXELS // PIXELS_PER_PATCH]
    each = MOST_PIXELS // len(chosen)
    x, y = [], []
    for i in chosen:
        item = triplets[int(i)]
        target = targets(item).flatten(1)  # (T, pixels)
        pixels = generator.permutation(target.shape[1])[:each]
        x.append(features(item).flatten(1)[:, pixels].T)
        y.append(target[:, pixels].T)
    return torch.cat(x), torch.cat(y)


def _colours(item: dict[str, Tensor]) -> Tensor:
    return item["opt"]


def _check(triplets: Triplets) -> None:
    if len(triplets) == 0:
        raise InputError("triplets holds no patches: a baseline is fitted on the training split.")
