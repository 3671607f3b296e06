"""A search for test patches without geography whose ground another split shows as well, at another time or moved.

What was cut from one scene at two dates, or with an overlap, can be copied into two splits of a benchmark without a
pixel in common, and `splits.check_separation` then finds nothing. Here each test patch is laid over each patch of
training and validation at every shift, by phase correlation (Kuglin & Hines, 1975) of edges, the radar and the optical
images apart. Chance lays the two kinds of images in different ways. So a pair of patches shows the same ground if both
kinds say the same shift, to `NEAR` pixels, and if the weaker of the two peaks is `CLEAR` times as high as that of any
pair for which they do not: two wide rivers can be laid over each other, too, and both kinds show them. Patches that
share less than about a third of their ground are not found so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import fft, ndimage
from tqdm import tqdm

from s2olib.data.triplets import Triplets

NEAR = 2  # pixels
CLEAR = 2
WHITENED = 0.7  # exponent of the spectrum's magnitude that is divided by; 1 is phase alone, which noise rules
AT_ONCE = 100  # patches whose spectra are in memory
OTHERS = ("train", "validation")
KINDS = ("sar", "opt")


def same_ground(dataset_root: str | Path) -> list[dict]:
    """Pairs of a test patch and one of another split that show the same ground, the clearest first.

    Each is a dict: `test` and `other` (ids), the other's `split`, the other's `shift` from the test patch (rows,
    columns), and `peak`, the weaker of its two in multiples of the highest that chance made (None: it made none).
    Empty where every patch has its place: geometry has compared those. It takes a minute for 100 test patches of 128
    pixels and 500 others.
    Raises `InputError` as `Triplets` does.
    """
    splits = {split: Triplets(dataset_root, split) for split in (*OTHERS, "test")}
    if all((data.index["crs"] != "").all() for data in splits.values()):
        return []
    test = splits["test"]
    others = [(split, number) for split in OTHERS for number in range(len(splits[split]))]
    chunks = [others[start : start + AT_ONCE] for start in range(0, len(others), AT_ONCE)]
    chance, alike = 0.0, []
    with tqdm(total=len(others) * len(test), desc="ground", unit="pair") as bar:
        for chunk in chunks:
            items = [splits[split][number] for split, number in chunk]
            theirs = [np.stack([spectrum(item[kind].numpy()) for item in items]) for kind in KINDS]
            for number in range(len(test)):
                ours = [spectrum(test[number][kind].numpy()) for kind in KINDS]
                (by_sar, sar), (by_opt, opt) = (laid_over(a, b) for a, b in zip(ours, theirs, strict=True))
                agree, peaks = (np.abs(by_sar - by_opt) <= NEAR).all(1), np.minimum(sar, opt)
                chance = max(chance, peaks[~agree].max(initial=0))
                alike += [(float(peaks[i]), number, *chunk[i], by_opt[i].tolist()) for i in np.flatnonzero(agree)]
                bar.update(len(chunk))
    return [
        {
            "test": test.index["id"][number],
            "other": splits[split].index["id"][other],
            "split": split,
            "shift": shift,
            "peak": round(peak / float(chance), 2) if chance else None,
        }
        for peak, number, split, other, shift in sorted(alike, key=lambda pair: -pair[0])
        if peak > CLEAR * chance
    ]


def edges(image: np.ndarray) -> np.ndarray:
    """Of (C, P, P) what is between half a pixel and four pixels wide, (P, P), fading out towards the border."""
    grey = image.astype(np.float32).mean(0)
    found = ndimage.gaussian_filter(grey, 0.7) - ndimage.gaussian_filter(grey, 4)
    window = np.hanning(len(grey))
    return (found / (found.std() + 1e-6)).clip(-3, 3) * np.sqrt(np.outer(window, window))


def spectrum(image: np.ndarray) -> np.ndarray:
    """Of the edges of (C, P, P), padded to twice the size, so that shifts do not wrap around."""
    size = 2 * image.shape[-1]
    return fft.rfft2(edges(image), (size, size)).astype(np.complex64)


def laid_over(one: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each of `others` is shifted from `one`, spectra all: (N, 2) pixels; and the peaks, in deviations."""
    cross = others * one.conj()
    cross /= np.abs(cross) ** WHITENED + 1e-6
    size = 2 * (cross.shape[-1] - 1)
    fit = fft.irfft2(cross, (size, size)).reshape(len(others), -1)
    shift = np.stack(np.divmod(fit.argmax(1), size), 1)
    deviation = np.maximum(fit.std(1), 1e-12)  # nothing is to be seen in a flat image, and no peak either
    return (shift + size // 2) % size - size // 2, fit.max(1) / deviation
