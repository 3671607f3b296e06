"""Which test patches without geography show ground that another split shows as well, on another day or moved.

    python bench/ground.py data/ombria-20m [--record FILE.json]

A build compares such patches byte for byte, and so finds copies alone. Here each test patch is laid over each patch of
training and validation at every shift, by phase correlation of edges, the radar and the optical images apart. Chance
lays the two kinds of images in different ways. So a pair of patches shows the same ground if both kinds say the same
shift, to `NEAR` pixels, and if the weaker of the two peaks is `CLEAR` times as high as that of any pair for which they
do not: two wide rivers can be laid over each other, too, and both kinds show them. Patches that share less than about a
third of their ground are not found so.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import fft, ndimage
from tqdm import tqdm

from s2olib.project import resolve, write_json

NEAR = 2  # pixels
CLEAR = 2
WHITENED = 0.7  # exponent of the spectrum's magnitude that is divided by; 1 is phase alone, which noise rules
AT_ONCE = 100
OTHERS = ("train", "validation")


def edges(image: np.ndarray) -> np.ndarray:
    """Of (C, P, P) what is between half a pixel and four pixels wide, (P, P), fading out towards the border."""
    grey = image.astype(np.float32).mean(0)
    found = ndimage.gaussian_filter(grey, 0.7) - ndimage.gaussian_filter(grey, 4)
    window = np.hanning(len(grey))
    return (found / (found.std() + 1e-6)).clip(-3, 3) * np.sqrt(np.outer(window, window))


def spectra(images: np.ndarray) -> np.ndarray:
    """Of (N, C, P, P), padded to twice the size, so that shifts do not wrap around."""
    size = 2 * images.shape[-1]
    return np.stack([fft.rfft2(edges(image), (size, size)).astype(np.complex64) for image in images])


def laid_over(one: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each of `others` is shifted from `one`, spectra all: (N, 2) pixels; and the peaks, in deviations."""
    cross = others * one.conj()
    cross /= np.abs(cross) ** WHITENED + 1e-6
    size = 2 * (cross.shape[-1] - 1)
    fit = fft.irfft2(cross, (size, size)).reshape(len(others), -1)
    shift = np.stack(np.divmod(fit.argmax(1), size), 1)
    return (shift + size // 2) % size - size // 2, fit.max(1) / fit.std(1)


def same_ground(dataset_root: Path) -> list[dict]:
    """The pairs that show the same ground: names, split, shift (rows, columns) and the weaker peak, highest first."""
    splits = (*OTHERS, "test")
    index = {split: pd.read_csv(dataset_root / split / "index.csv", dtype={"id": str}) for split in splits}
    layers = {split: [np.load(dataset_root / split / f"{name}.npy") for name in ("sar", "opt")] for split in splits}
    patches = [(name, split) for split in OTHERS for name in index[split]["id"]]
    others = [np.concatenate([spectra(layers[split][kind]) for split in OTHERS]) for kind in range(2)]
    ones = [spectra(layer) for layer in layers["test"]]
    found = []
    for number, test in enumerate(tqdm(index["test"]["id"], desc="test patches")):
        for start in range(0, len(patches), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            (by_sar, sar), (by_opt, opt) = (laid_over(a[number], b[part]) for a, b in zip(ones, others, strict=True))
            alike, peaks = (np.abs(by_sar - by_opt) <= NEAR).all(1), np.minimum(sar, opt)
            found += list(zip(peaks, alike, [test] * len(peaks), patches[part], by_opt.tolist(), strict=True))
    chance = max((peak for peak, alike, *_ in found if not alike), default=0)
    pairs = sorted((pair for pair in found if pair[1] and pair[0] > CLEAR * chance), key=lambda pair: -pair[0])
    return [
        {"test": test, "other": name, "split": split, "shift": shift, "peak": round(float(peak / chance), 2)}
        for peak, _, test, (name, split), shift in pairs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_root", type=Path)
    parser.add_argument("--record", type=Path, help="also write the pairs to this JSON file")
    given = parser.parse_args()
    root = resolve(given.dataset_root)
    pairs = same_ground(root)
    for pair in pairs:
        print(*pair.values())
    print(f"{len({pair['test'] for pair in pairs})} test patches show ground of another split")
    if given.record:
        info = json.loads((root / "dataset.json").read_text())
        write_json(given.record, {"data": info["fingerprint"], "pairs": pairs})


if __name__ == "__main__":
    main()
