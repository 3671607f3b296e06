"""A data set on disk: the layers of scenes that workers leave, and the arrays of patches that become of them.

Both are NumPy's files, to be memory-mapped. Workers write an array together, each the patches of its own parts, and
hash them. The fingerprint of a data set is SHA-256 over a line for each index and each array of the three splits,
sorted by their paths: hash, two spaces, path. The hash of an index is its SHA-256; of an array it is SHA-256 over its
patches' hashes, one after another, and of a patch over the SHA-256 of the pixels of its quarters: upper left, upper
right, lower left, lower right, of which the first has half the rows and columns, rounded down. Windows of a scene that
overlap by half have quarters in common, which are then hashed once.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby, pairwise, product
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import numpy as np

from s2olib.data import SPLITS

SCHEMA = 1  # of dataset.json


class Damaged(Exception):
    """A part is not as it was written."""


class Layers:
    """Writes a scene's layers, some rows at a time, as arrays (H, W) or (H, C, W)."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number, self.streams = folder, number, {}

    def write(self, start: int, strip: dict[str, np.ndarray]) -> None:
        """Rows from `start` of each layer, (H, W) or (C, H, W)."""
        for name, pixels in strip.items():
            if name not in self.streams:
                self.streams[name] = open(self.folder / f"{self.number}_{name}.npy", "wb")  # noqa: SIM115 (in __exit__)
            rows = np.ascontiguousarray(np.moveaxis(pixels, -2, 0))
            _header(self.streams[name], rows.dtype, (start + len(rows), *rows.shape[1:]))
            self.streams[name].seek(start * rows[0].nbytes, os.SEEK_CUR)
            self.streams[name].write(rows.data)

    def __enter__(self) -> Layers:
        return self

    def __exit__(self, *_) -> None:
        for stream in self.streams.values():
            stream.close()


@dataclass(frozen=True)
class Stretch:
    """Windows of a part's layer, (lot's number, row, column), that follow each other in an array from `first` on."""

    path: Path  # of the array
    first: int
    windows: list[tuple[int, int, int]]


def fill(part: Path, layer: str, stretches: Sequence[Stretch], size: int) -> list[bytes]:
    """Write windows of a part's layer where they belong; returns of each stretch its patches' hashes, joined.

    The arrays are (N, H, W) or (N, C, H, W), in files that are there, if only empty. Whoever comes first gives one a
    header, which is as long for any number of patches; `finish` writes the true number.
    """
    return [_fill(part, layer, stretch, size) for stretch in stretches]


def _fill(part: Path, layer: str, stretch: Stretch, size: int) -> bytes:
    digests = []
    # for writing alone: a page that is read first, on a disk of several machines, could undo what another wrote
    with open(os.open(stretch.path, os.O_WRONLY), "wb") as stream:
        for number, members in groupby(stretch.windows, key=itemgetter(0)):
            pixels = np.moveaxis(_loaded(part / f"{number}_{layer}.npy"), 0, -2)  # (H, W) or (C, H, W)
            quarter = cache(partial(_digest, pixels))
            for _, row, column in members:
                patch = pixels[..., row : row + size, column : column + size]
                if not digests:
                    _header(stream, patch.dtype, (stretch.first + len(stretch.windows), *patch.shape))
                    stream.seek(stretch.first * patch.nbytes, os.SEEK_CUR)
                stream.write(patch.tobytes())
                halves = (pairwise((start, start + size // 2, start + size)) for start in (row, column))
                quarters = b"".join(quarter(*rows, *columns) for rows, columns in product(*halves))
                digests.append(hashlib.sha256(quarters).digest())
    return b"".join(digests)


def _digest(pixels: np.ndarray, top: int, bottom: int, left: int, right: int) -> bytes:
    return hashlib.sha256(pixels[..., top:bottom, left:right].tobytes()).digest()


def finish(root: Path, counts: Mapping[str, int], digests: Mapping[Path, str]) -> str:
    """Have arrays of the data set in `root` say how many patches they have; returns the data set's fingerprint.

    `counts` has the patches of each folder, `digests` the SHA-256, in hexadecimal, of what `fill` returned for each
    array, in the patches' order.
    """
    indexes = [root / split / "index.csv" for split in SPLITS]
    contents = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in indexes}
    for path, digest in digests.items():
        with open(path, "r+b") as stream:
            np.lib.format.read_magic(stream)
            (_, *shape), _, dtype = np.lib.format.read_array_header_1_0(stream)
            _header(stream, dtype, (counts[path.parent.name], *shape))
        if path.parent.name in SPLITS:
            contents[path] = digest
    lines = [f"{contents[path]}  {path.relative_to(root)}\n" for path in sorted(contents)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def reader(path: Path) -> Callable[[int], np.ndarray]:
    """What gives an array's patches, (C, H, W) or (H, W), by their number. It maps no memory, of which a process that
    reads all would have the whole array."""
    array = np.load(path, mmap_mode="r")
    shape, dtype, start = array.shape[1:], array.dtype, array.offset
    size = math.prod(shape)
    return lambda number: np.fromfile(path, dtype, size, offset=start + number * size * dtype.itemsize).reshape(shape)


def shapes(info: dict, split: str) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a split, by the content of dataset.json."""
    count, patch = info["counts"][split], (info["patch_size"], info["patch_size"])
    found = {name: (count, len(info[name]["bands"]), *patch) for name in ("sar", "opt")}
    if info["lulc"] and (split == "train" or info["lulc"]["kind"] == "land cover"):
        found["lulc"] = (count, *patch)
    return found


def is_array(stored: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether an array has its shape, and numbers in it as `fill` writes them."""
    return stored.shape == shape and stored.dtype.kind in ("u" if len(shape) == 3 else "uf")


def _loaded(layer: Path) -> np.ndarray:
    try:
        return np.load(layer, mmap_mode="r")
    except (ValueError, EOFError, FileNotFoundError) as error:
        raise Damaged(f"'{layer.name}': {error}") from error


def _header(stream: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """A NumPy header at a stream's start; it is as long for every number of rows."""
    stream.seek(0)
    described = {"shape": shape, "fortran_order": False, "descr": np.lib.format.dtype_to_descr(dtype)}
    np.lib.format.write_array_header_1_0(stream, described)
