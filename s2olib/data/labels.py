"""Land cover made worse on purpose, for the ablations: which part of a label is worth anything to the generator?

Other merges of the map's classes; the map at the resolution of a coarse product (SEN12MS's own land cover has cells of
500 m); or the map of another patch, which keeps the classes' frequencies and destroys what they say about the place.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s2olib.data.landcover import PSEUDO, majority, merge_codes, merge_table, pseudo_categories
from s2olib.data.triplets import Triplets
from s2olib.project import InputError


class LabelledTriplets(Triplets):
    """`Triplets` with other labels; without arguments its own.

    Args:
        label_merge: a merge of the legend's classes ("four", "twelve"); empty: the data set's.
        label_size_m: side of a cell that takes its most frequent class, in metres; 0: a pixel.
        label_permutation: whether each patch gets another patch's labels, drawn once from the seed.
    """

    def __init__(
        self,
        dataset_root: str | Path,
        split: str,
        *,
        label_merge: str = "",
        label_size_m: float = 0.0,
        label_permutation: bool = False,
        **arguments,
    ) -> None:
        super().__init__(dataset_root, split, **arguments)
        if (label_merge or label_size_m or label_permutation) and not self.has_lulc:
            raise InputError(f"{self.folder} has no lulc.npy: labels cannot be merged, coarsened or permuted.")
        if label_merge:
            self._merge = merge_table(self.info["lulc"]["legend"], label_merge)
            self.categories = list(self._merge)
            codes = {name: list(members) for name, members in self._merge.items()}
            self.info["lulc"] |= {"merge": label_merge, "categories": self.categories, "codes": codes}
            self.num_classes = len(self.categories)
        self.cell = 1  # pixels
        if label_size_m:
            if not self.info["pixel_size_m"]:
                raise InputError(f"label_size_m is {label_size_m:g}, but {dataset_root} does not say its pixels' size.")
            self.cell = max(1, round(label_size_m / self.info["pixel_size_m"]))
        self.label_of = np.arange(len(self))
        if label_permutation:  # a cycle through a random order: no patch keeps its own
            # a stream of its own: (seed,) and (seed, 0) are one, in which a patch would get its batch's labels at first
            order = np.random.default_rng((self.seed, 0, 1)).permutation(len(self))
            self.label_of[order] = np.roll(order, 1)

    def _patch(self, name: str, i: int, rows: slice, columns: slice) -> np.ndarray:
        if name != "lulc":
            return super()._patch(name, i, rows, columns)
        if self.cell == 1:
            return super()._patch(name, self.label_of[i], rows, columns)
        whole = super()._patch(name, self.label_of[i], slice(None), slice(None))  # a crop would cut cells
        return majority(whole, self.cell).repeat(self.cell, 0).repeat(self.cell, 1)[rows, columns]


def pseudo_labels(data: Triplets, opt: Tensor) -> Tensor | None:
    """What a DSD that learned pseudo-categories should say of optical images (B, 3, H, W) in [-1, 1]: (B, H, W) int64.

    By the rule that made those of the training patches (`landcover.pseudo_categories`), so that the DSD can be judged
    on patches that have none stored; never for a generator. None where the data set has other labels, or no labels.
    """
    lulc = data.info["lulc"]
    if lulc is None or lulc["legend"] not in PSEUDO:
        return None
    low, high = np.array(data.limits["opt"]).T[:, :, None, None]  # (3, 1, 1) each
    images = np.rint((opt.cpu().double().numpy() + 1) / 2 * (high - low) + low)
    codes = np.stack([pseudo_categories(image, lulc["legend"]) for image in images])
    return torch.from_numpy(merge_codes(codes, lulc["codes"]).astype(np.int64))
