"""The torch Dataset over triplets that `s2olib.data.build` wrote: SAR, optical and, where there is one, land cover.

Arrays stay on disk, memory-mapped. Nothing here needs rasterio, so a bare machine with a GPU can train.
"""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from types import NoneType

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from s2olib.data import SPLITS, store
from s2olib.data.landcover import merge_codes
from s2olib.project import InputError, resolve

REQUIRED = {
    "schema": int,
    "source": str,
    "synthetic": bool,
    "parameters": dict,
    "patch_size": int,
    "resolution_factor": int,
    "pixel_size_m": (int, float, NoneType),
    "sar": dict,
    "opt": dict,
    "opt_offsets": list,
    "lulc": (dict, NoneType),
    "dates": list,
    "tested_places": list,
    "counts": dict,
    "unique_area_km2": dict,
    "refused": list,
    "indexes": dict,
    "fingerprint": str,
}
BANDS = ("bands", "units", "scale", "limits")
INSIDE = {"sar": BANDS, "opt": BANDS, "lulc": ("codes", "kind"), "counts": SPLITS}  # keys of these


def clipped(scaled: torch.Tensor) -> torch.Tensor:
    """To [−1, 1], not-a-number to −1."""
    return scaled.clamp(-1, 1).nan_to_num(-1)


class Triplets(Dataset):
    """Aligned patches of one split, scaled to [−1, 1] by limits per band.

    Args:
        dataset_root: the folder that `build` wrote.
        split: "train", "validation", "test", or "refused": examples of the patches that were turned away.
        crop_size: side of a random crop in pixels; None gives whole patches.
        sar_shift: most by which an item's radar, all bands alike, is made brighter or darker, as a share of its range;
            what is not-a-number stays so.
        limits: ``{"sar": [[low, high], …], "opt": […]}`` in the bands' units; default: those of dataset.json.
        seed: with the epoch (`set_epoch`) and the item it decides where the crop is and how much is shifted, whatever
            worker makes it.

    An item is a dict: "sar" (Cs, P, P) and "opt" (3, P, P) float32 in [−1, 1], clipped, not-a-number at −1 (integer
    types store no data as 0, which is scaled as any 0 is); "lulc" (P, P) int64 categories with `IGNORE` for no data
    (only if `has_lulc`); "item" its index. Raises InputError for a missing folder, files that are not as they were
    built, an unknown split, a crop larger than the patch, or limits that do not fit the bands.
    """

    def __init__(
        self,
        dataset_root: str | Path,
        split: str,
        *,
        crop_size: int | None = None,
        sar_shift: float = 0.0,
        limits: dict[str, list] | None = None,
        seed: int = 0,
    ) -> None:
        root = resolve(dataset_root)
        if split not in (*SPLITS, "refused"):
            raise InputError(f"unknown split '{split}': choose one of {', '.join(SPLITS)}")
        if not (root / "dataset.json").is_file():
            raise InputError(f"no data set at '{dataset_root}' (dataset.json is missing): build it first")
        self.folder = root / split
        try:
            self.info: dict = json.loads((root / "dataset.json").read_bytes())
            wrong = [name for name, kind in REQUIRED.items() if not isinstance(self.info.get(name), kind)]
            parts = {name: self.info[name] or keys for name, keys in INSIDE.items() if name not in wrong}
            wrong += [f"{name}.{key}" for name, part in parts.items() for key in INSIDE[name] if key not in part]
            if wrong or self.info["schema"] != store.SCHEMA:
                raise ValueError(f"'{wrong[0]}' is missing or wrong" if wrong else f"schema {self.info['schema']}")
            bands = {name: self.info[name]["bands"] for name in ("sar", "opt")}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{root}/dataset.json is not as this version writes it ({error!r}): build or copy the data set again"
            ) from None
        text = {"id": str, "scene": str, "group": str, "season": str, "crs": str, "transform": str, "date": str}
        path = self.folder / "index.csv"
        if not path.is_file():
            raise InputError(f"{path} does not exist: build or copy the data set again")
        lines = path.read_bytes()
        if hashlib.sha256(lines).hexdigest() != self.info["indexes"].get(split):  # patches would bear others' names
            raise InputError(f"{path} is not as it was built: undo the change, or build or copy the data set again")
        numbers = [name for name in pd.read_csv(BytesIO(lines), nrows=0) if name not in text]
        empty = {"keep_default_na": False, "na_values": dict.fromkeys(numbers, "")}
        self.index = pd.read_csv(BytesIO(lines), dtype=text, **empty)
        if limits is not None and not (isinstance(limits, dict) and limits.keys() <= bands.keys()):
            raise InputError(f"limits must be of 'sar', 'opt' or both, not {limits}")
        self.limits: dict[str, list] = {}
        for name in bands:
            pairs = (limits or {}).get(name, self.info[name]["limits"])
            try:
                fit = [[float(low), float(high)] for low, high in pairs]
                good = len(fit) == len(bands[name]) and all(-np.inf < low < high < np.inf for low, high in fit)
            except (TypeError, ValueError):
                good = False
            if not good:
                raise InputError(f"limits['{name}'] must be one (low, high) per band of {bands[name]}, not {pairs}")
            self.limits[name] = fit
        if crop_size is not None and not (
            isinstance(crop_size, int | np.integer) and 0 < crop_size <= self.info["patch_size"]
        ):
            size = self.info["patch_size"]
            raise InputError(f"crop_size {crop_size} is no whole number within 1..{size}, the patches' own size")
        if not 0 <= sar_shift <= 1:
            raise InputError(f"sar_shift is {sar_shift}: it must be a share of the radar's range, from 0 to 1")
        self.crop_size, self.sar_shift, self.seed = crop_size, sar_shift, seed
        self.sar_channels, self.opt_channels = len(self.info["sar"]["bands"]), len(self.info["opt"]["bands"])
        self._merge: dict[str, list[int]] = self.info["lulc"]["codes"] if self.info["lulc"] else {}
        self.categories = list(self._merge)
        self.num_classes = len(self.categories)
        shapes = store.shapes(self.info | {"counts": self.info["counts"] | {"refused": len(self.index)}}, split)
        self.has_lulc = "lulc" in shapes and (self.folder / "lulc.npy").is_file()  # what tests needs none
        shapes = {name: shape for name, shape in shapes.items() if name != "lulc" or self.has_lulc}
        for name, shape in shapes.items() if len(self.index) else ():  # nothing may be refused
            try:
                stored = np.load(self.folder / f"{name}.npy", mmap_mode="r")
            except (OSError, EOFError, ValueError) as error:
                raise InputError(f"{self.folder}/{name}.npy cannot be read ({error}): build or copy it again") from None
            if not store.is_array(stored, shape):
                raise InputError(
                    f"{self.folder}/{name}.npy holds {stored.shape} of {stored.dtype}, dataset.json says {shape}: "
                    "build or copy the data set again"
                )
        self._arrays: dict[str, np.ndarray] = {}
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that outlive an epoch see it change

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_arrays": {}}  # a worker opens the files itself instead of receiving their bytes

    def __len__(self) -> int:
        return len(self.index)

    def set_epoch(self, epoch: int) -> None:
        """Move the random crops, and shift anew: both depend on (seed, epoch, item) and on nothing else."""
        self._epoch.fill_(epoch)

    def window(self, i: int) -> tuple[slice, slice]:
        """Rows and columns of the crop that item `i` is in this epoch."""
        size, top, left = self.info["patch_size"], 0, 0
        if self.crop_size is not None and self.crop_size < size:
            top, left = (int(x) for x in self._random(i).integers(0, size - self.crop_size + 1, 2))
            size = self.crop_size
        return slice(top, top + size), slice(left, left + size)

    def shifted(self, i: int, sar: torch.Tensor) -> torch.Tensor:
        """Item `i`'s radar, scaled alone, as bright as it is in this epoch, in [−1, 1]."""
        if self.sar_shift:
            sar = sar + 2 * self._random(i, 1).uniform(-self.sar_shift, self.sar_shift)
        return clipped(sar)

    def _random(self, i: int, stream: int = 0) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(counter=[0, stream, 0, 0], key=[self.seed, (int(self._epoch) << 32) + i])
        )

    def _patch(self, name: str, i: int, rows: slice, columns: slice) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return np.array(self._arrays[name][i, ..., rows, columns])

    def scaled(self, i: int, rows: slice = slice(None), columns: slice = slice(None)) -> dict:
        """Item `i` in these rows and columns, its radar scaled alone: neither shifted nor `clipped`."""
        item: dict = {"item": i}
        for name in ("sar", "opt"):
            low, high = np.array(self.limits[name], np.float32).T[:, :, None, None]  # (C, 1, 1) each
            value = self._patch(name, i, rows, columns).astype(np.float32) * np.float32(self.info[name]["scale"])
            item[name] = torch.from_numpy((value - low) / (high - low) * 2 - 1)
        item["opt"] = clipped(item["opt"])
        if self.has_lulc:
            merged = merge_codes(self._patch("lulc", i, rows, columns), self._merge)
            item["lulc"] = torch.from_numpy(merged.astype(np.int64))
        return item

    def __getitem__(self, i: int) -> dict:
        i = range(len(self))[i]  # negative indices count from the end; IndexError ends a plain for loop
        item = self.scaled(i, *self.window(i))
        item["sar"] = self.shifted(i, item["sar"])
        return item
