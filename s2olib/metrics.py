"""How near a generated optical image is to the real one: PSNR, SSIM, RMSE, spectral angle, skill, noise and clarity.

The field has no standard for SAR-to-optical translation, so the convention is stated once and kept: images are brought
to 8 bits as a saved file would be (`to_8bit`: clipped to [-1, 1], scaled to 0..255, rounded), computed in float64, one
value per image. SSIM is that of Wang et al. (2004), a Gaussian window of 11 pixels and sigma 1.5, per channel and then
averaged, equal to scikit-image's with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``.
`flat_deviation` and `edge_correlation` are plain measures of the claims "reduces noise" and "enhances clarity".
Every function takes floating `fake` and `real` (B, C, H, W), computes in float32 or better and gives (B,); shapes that
differ or hold nothing raise `InputError`. `patch_metrics` takes images in [-1, 1] and brings them to 8 bits; all others
take them as they are then, in 0..255, and say nothing if they are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s2olib.project import InputError

DATA_RANGE = 255.0  # of 8 bits, to which all images are brought
ROUNDING = 1 / 12  # mean squared error of rounding to whole numbers
SSIM_WINDOW = 11  # pixels: scikit-image's width for sigma 1.5, truncated at 3.5 sigma
SSIM_SIGMA = 1.5


def to_8bit(x: Tensor) -> Tensor:
    """An image in [-1, 1] as its saved 8-bit file would hold it: clipped, scaled to 0..255, rounded; float64."""
    return x.clamp(-1, 1).double().add_(1).mul_(127.5).round_()


def mse(fake: Tensor, real: Tensor) -> Tensor:
    """Mean squared error over channels and pixels, (B,), in the images' units squared."""
    fake, real = _pair(fake, real)
    return (fake - real).square().mean((1, 2, 3))


def rmse(fake: Tensor, real: Tensor) -> Tensor:
    """Root mean squared error over channels and pixels, (B,), in the images' units."""
    return mse(fake, real).sqrt()


def psnr(fake: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in 0..255, (B,); 58.9 for errors below that of rounding and for none,
    since one infinite value would be the mean of all."""
    return _decibels(mse(fake, real))


def offset_free_psnr(fake: Tensor, real: Tensor) -> Tensor:
    """PSNR in dB of images in 0..255, (B,), after each one's mean colour error is removed: season and haze forgiven,
    structure not."""
    fake, real = _pair(fake, real)
    difference = fake - real
    return _decibels((difference - difference.mean((2, 3), keepdim=True)).square().mean((1, 2, 3)))


def skill(fake: Tensor, real: Tensor, mean_colour: Tensor) -> Tensor:
    """1 − MSE / MSE of the training set's `mean_colour` (C,) everywhere, (B,): 1 is perfect, 0 is one colour.

    Minus infinity (or NaN for a perfect image) where the real image is that one colour throughout.
    """
    fake, real = _pair(fake, real)
    if mean_colour.numel() != real.shape[1]:
        raise InputError(
            f"mean_colour has {mean_colour.numel()} numbers, the images {real.shape[1]} bands: give one of each."
        )
    flat = mean_colour.to(real).view(1, -1, 1, 1).expand_as(real)
    return 1 - mse(fake, real) / mse(flat, real)


def sam(fake: Tensor, real: Tensor) -> Tensor:
    """Spectral angle between the pixels' colour vectors, in degrees, averaged over pixels, (B,).

    From its sine (Lagrange's identity) and cosine, which are exact for 8-bit colours; a cosine alone loses small
    angles. A black pixel has no direction: against another black pixel the angle is 0, against any other colour 90.
    """
    fake, real = _pair(fake, real)
    dot, uu, vv = (fake * real).sum(1), fake.square().sum(1), real.square().sum(1)  # (B, H, W)
    angle = torch.atan2((uu * vv - dot.square()).clamp(min=0).sqrt(), dot).rad2deg()
    return torch.where((uu == 0) != (vv == 0), 90.0, angle).mean((1, 2))


def ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Structural similarity of images in 0..255, (B,), differentiable; the 5 pixels at each border, where the window is
    cut, are left out."""
    fake, real = _pair(fake, real)
    if min(real.shape[-2:]) < SSIM_WINDOW:
        raise InputError(
            f"SSIM needs at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, not images of {tuple(real.shape)}."
        )
    mean_fake, mean_real = _gaussian(fake), _gaussian(real)  # (B, C, H - 10, W - 10)
    variances = _gaussian(fake.square() + real.square()) - mean_fake.square() - mean_real.square()
    covariance = _gaussian(fake * real) - mean_fake * mean_real
    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    luminance = (2 * mean_fake * mean_real + c1) / (mean_fake.square() + mean_real.square() + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean((1, 2, 3))


def category_mse(fake: Tensor, real: Tensor, lulc: Tensor, num_classes: int) -> Tensor:
    """Mean squared error inside each land-cover category, (B, K); NaN where a category is absent.

    `lulc` (B, H, W) holds categories 0..K-1; any other value (no data) counts nowhere.
    """
    fake, real = _pair(fake, real)
    if lulc.shape != (real.shape[0], *real.shape[2:]):
        raise InputError(
            f"lulc has shape {tuple(lulc.shape)}, the images {tuple(real.shape)}: give each pixel a category."
        )
    error = (fake - real).square().mean(1)  # (B, H, W)
    inside = torch.stack([lulc == category for category in range(num_classes)], 1)  # (B, K, H, W)
    return (error[:, None] * inside).sum((2, 3)) / inside.sum((2, 3))


def flat_deviation(image: Tensor, real: Tensor, window: int = 7) -> Tensor:
    """Noise: deviation inside what is homogeneous in reality, (B,), in the images' units.

    The local standard deviation of `image`'s grey in `window` x `window` windows, averaged over the quarter of the
    windows where the real image deviates least. Compare with the same of the real image itself.
    """
    return _flat_deviations((image,), real, window)[0]


def edge_correlation(fake: Tensor, real: Tensor) -> Tensor:
    """Clarity: Pearson correlation of the two greys' Sobel gradient magnitudes, (B,): 1 where edges coincide.

    A fake without any edge has 0; NaN where the real image has none.
    """
    fake, real = _pair(fake, real)
    a, b = _gradients(fake), _gradients(real)  # (B, pixels)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    norm_a, norm_b = a.norm(dim=1), b.norm(dim=1)
    correlation = (a * b).sum(1) / (norm_a * norm_b)
    return torch.where((norm_a == 0) & (norm_b > 0), 0.0, correlation)


@torch.no_grad()
def patch_metrics(
    fake: Tensor,
    real: Tensor,
    *,
    mean_colour: Tensor | Sequence[float],
    lulc: Tensor | None = None,
    categories: Sequence[str] = (),
) -> list[dict[str, float]]:
    """Every metric of every patch, one dictionary each: the rows of a run's ``patches.csv``.

    Parameters
    ----------
    fake, real : (B, 3, H, W) in [-1, 1], at least 11 x 11 pixels; both go through `to_8bit`
    mean_colour : the training set's mean colour, 3 numbers in [-1, 1]; ``mse_mean_colour`` is its error, by which
        ``skill`` is weighted when patches are averaged: 1 − ΣMSE / ΣMSE(mean colour)
    lulc : (B, H, W) categories, for ``psnr_<category>`` of each of `categories` (NaN where absent)
    """
    _pair(fake, real)
    colour = to_8bit(torch.as_tensor(mean_colour))
    if lulc is not None and not categories:
        raise InputError("lulc is given without categories: name them, or leave it out.")
    rows = []
    for i in range(len(real)):  # one image fits a processor's cache, a batch does not: three times faster
        one = slice(i, i + 1)
        rows.append(
            _row(to_8bit(fake[one]), to_8bit(real[one]), colour, None if lulc is None else lulc[one], categories)
        )
    return rows


def _row(
    fake: Tensor, real: Tensor, colour: Tensor, lulc: Tensor | None, categories: Sequence[str]
) -> dict[str, float]:
    """Every metric of one 8-bit pair (1, 3, H, W)."""
    deviations = _flat_deviations((fake, real), real)
    row = {
        "psnr": psnr(fake, real),
        "ssim": ssim(fake, real),
        "rmse": rmse(fake, real),
        "sam": sam(fake, real),
        "skill": skill(fake, real, colour),
        "mse_mean_colour": mse(colour.to(real).view(1, -1, 1, 1).expand_as(real), real),
        "offset_free_psnr": offset_free_psnr(fake, real),
        "edge_correlation": edge_correlation(fake, real),
        "flat_deviation": deviations[0],
        "flat_deviation_real": deviations[1],
    }
    if lulc is not None:
        errors = category_mse(fake, real, lulc, len(categories))
        per_category = _decibels(errors)
        row |= {f"psnr_{name}": per_category[:, k] for k, name in enumerate(categories)}
    return dict(zip(row, torch.cat(list(row.values())).tolist(), strict=True))


def _pair(fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Two images that can be compared, in float32 or better: in half precision squares are infinite, and the variances
    of nearly flat windows vanish."""
    if fake.shape != real.shape or fake.ndim != 4:
        raise InputError(
            f"fake has shape {tuple(fake.shape)}, real {tuple(real.shape)}: both must be one (B, C, H, W)."
        )
    if fake.numel() == 0:
        raise InputError(f"fake and real are empty, of shape {tuple(fake.shape)}: there is nothing to measure.")
    if not (fake.is_floating_point() and real.is_floating_point()):
        raise InputError(f"fake is {fake.dtype} and real {real.dtype}: integers wrap around, convert both to floats.")
    dtype = torch.float64 if torch.float64 in (fake.dtype, real.dtype) else torch.float32
    return fake.to(dtype), real.to(dtype)


def _decibels(error: Tensor) -> Tensor:
    return 10 * torch.log10(DATA_RANGE**2 / error.clamp(min=ROUNDING))


def _gaussian(x: Tensor) -> Tensor:
    """Gaussian mean of every full window: (B, C, H, W) → (B, C, H - 10, W - 10).

    Sums of shifted images, one axis after the other: many times faster on a CPU than a convolution by channel.
    """
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SSIM_SIGMA).square())
    weights = (weights / weights.sum()).tolist()
    return _moving_sum(_moving_sum(x, weights, 2), weights, 3)


def _moving_sum(x: Tensor, weights: Sequence[float], axis: int) -> Tensor:
    """Weighted sum of every full window along an axis, which becomes shorter by one less than there are weights."""
    length = x.shape[axis] - len(weights) + 1
    total = x.narrow(axis, 0, length) * weights[0]
    for shift, weight in enumerate(weights[1:], 1):
        total.add_(x.narrow(axis, shift, length), alpha=weight)  # in place: four times faster
    return total


def _flat_deviations(images: Sequence[Tensor], real: Tensor, window: int = 7) -> list[Tensor]:
    """`flat_deviation` of several images, (B,) each: the homogeneous windows are looked for once."""
    images, (real, *_) = zip(*(_pair(image, real) for image in images), strict=True)
    if min(real.shape[-2:]) < window:
        raise InputError(f"flat_deviation needs at least {window} x {window} pixels, not {tuple(real.shape)}.")
    reference = _local_deviation(real, window)  # (B, windows)
    quarter = reference.kthvalue(max(1, reference.shape[1] // 4), dim=1, keepdim=True).values
    flat = reference <= quarter
    local = (reference if image is real else _local_deviation(image, window) for image in images)
    return [(deviation * flat).sum(1) / flat.sum(1) for deviation in local]


def _local_deviation(image: Tensor, window: int) -> Tensor:
    """Standard deviation of the grey in every full window of (B, C, H, W), as (B, windows)."""
    grey = image.mean(1, keepdim=True)
    centred = grey - grey.mean((2, 3), keepdim=True)  # the variance of large equal numbers would lose its digits
    moments = torch.cat([centred, centred.square()], 1)
    for axis in (2, 3):
        moments = _moving_sum(moments, [1.0] * window, axis).div_(window)
    return (moments[:, 1] - moments[:, 0].square()).clamp(min=0).sqrt().flatten(1)


def _gradients(x: Tensor) -> Tensor:
    """Sobel gradient magnitude of the grey of (B, C, H, W) away from the border, as (B, pixels)."""
    grey = x.mean(1)  # (B, H, W)
    across, down = grey[:, :, 2:] - grey[:, :, :-2], grey[:, 2:] - grey[:, :-2]
    across = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    down = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return torch.hypot(across, down).flatten(1)
