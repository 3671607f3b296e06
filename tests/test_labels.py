"""Labels made worse on purpose: coarser, other merges, another patch's."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from s2olib.data.labels import LabelledTriplets, pseudo_labels
from s2olib.data.landcover import IGNORE
from s2olib.data.triplets import Triplets
from s2olib.project import InputError
from s2olib.training import EpochOrder


def test_labels_of_500_m_hold_one_class_a_cell_and_crops_cut_nothing(dataset):
    coarse = LabelledTriplets(dataset, "train", label_size_m=160.0)
    lulc, codes = coarse[0]["lulc"], np.load(dataset / "train/lulc.npy")[0]
    category = {code: number for number, of in enumerate(coarse.info["lulc"]["codes"].values()) for code in of}
    for row in range(0, 64, 16):
        for column in range(0, 64, 16):
            (found,) = lulc[row : row + 16, column : column + 16].unique().tolist()
            counts = np.bincount(codes[row : row + 16, column : column + 16].ravel())
            assert found in {category.get(code, IGNORE) for code in np.flatnonzero(counts == counts.max())}
    crop = LabelledTriplets(dataset, "train", label_size_m=160.0, crop_size=32, seed=5)
    rows, columns = crop.window(0)
    assert torch.equal(crop[0]["lulc"], lulc[rows, columns])
    assert torch.equal(coarse[0]["opt"], Triplets(dataset, "train")[0]["opt"])


def test_a_cells_size_is_in_metres_whatever_a_pixel_has(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "set")
    info = json.loads((dataset / "dataset.json").read_text())
    for pixel, cell in ((10.0, 16), (20.0, 8), (9.0, 18), (400.0, 1)):
        (tmp_path / "set/dataset.json").write_text(json.dumps(info | {"pixel_size_m": pixel}))
        assert LabelledTriplets(tmp_path / "set", "train", label_size_m=160.0).cell == cell
    (tmp_path / "set/dataset.json").write_text(json.dumps(info | {"pixel_size_m": None}))
    with pytest.raises(InputError, match=r"label_size_m is 160, but .* does not say its pixels' size"):
        LabelledTriplets(tmp_path / "set", "train", label_size_m=160.0)


def test_permuted_labels_are_all_there_and_none_at_home(dataset):
    plain, permuted = Triplets(dataset, "train"), LabelledTriplets(dataset, "train", label_permutation=True)
    order = permuted.label_of
    assert sorted(order) == list(range(len(plain))) and (order != np.arange(len(plain))).all()
    assert torch.equal(permuted[3]["lulc"], plain[int(order[3])]["lulc"])
    assert torch.equal(permuted[3]["sar"], plain[3]["sar"])
    coarse = LabelledTriplets(dataset, "train", label_size_m=160.0)
    both = LabelledTriplets(dataset, "train", label_size_m=160.0, label_permutation=True)
    assert torch.equal(both[3]["lulc"], coarse[int(order[3])]["lulc"])
    batches = np.array(list(EpochOrder(len(plain), 16, seed=0)))  # of the first epoch
    another = LabelledTriplets(dataset, "train", label_permutation=True, seed=1).label_of
    assert (another != order).any()
    inside = np.mean([np.isin(order[batch], batch).mean() for batch in batches])
    assert inside < 3 * 16 / len(plain)  # by chance it is 16 in so many


def test_twelve_classes_from_the_same_data(dataset):
    four, twelve = LabelledTriplets(dataset, "train"), LabelledTriplets(dataset, "train", label_merge="twelve")
    assert (four.info["lulc"]["merge"], twelve.info["lulc"]["merge"]) == ("four", "twelve")
    assert twelve.info["lulc"]["categories"] == twelve.categories == list(twelve.info["lulc"]["codes"])
    assert (four.num_classes, twelve.num_classes) == (4, 12) == (len(four.categories), len(twelve.categories))
    a, b = (torch.stack([data[i]["lulc"] for i in range(0, len(four), 5)]) for data in (four, twelve))
    assert ((a == IGNORE) == (b == IGNORE)).all()
    for kind in b.unique():  # each class lies within one category
        assert len(a[b == kind].unique()) == 1
    assert len(b.unique()) > len(a.unique())


def test_a_legend_of_your_own_can_be_merged_anew(build_synthetic, tmp_path):
    root = build_synthetic(32, 32)
    names = {code: f"class {code}" for code in range(1, 13)}
    own = {"product": "mine", "names": names, "colours": dict.fromkeys(names, "#0072B2")}
    own["merges"] = {"two": {"low": [1, 2, 3], "high": [*range(4, 13)]}}
    (tmp_path / "own.yml").write_text(yaml.safe_dump(own, sort_keys=False))
    info = json.loads((root / "dataset.json").read_text())
    info["lulc"]["legend"] = str(tmp_path / "own.yml")
    shutil.copytree(root, tmp_path / "set")
    (tmp_path / "set/dataset.json").write_text(json.dumps(info))
    data = LabelledTriplets(tmp_path / "set", "train", label_merge="two")
    codes = np.load(root / "train/lulc.npy")[0]
    assert data.categories == ["low", "high"] and np.array_equal(data[0]["lulc"], np.where(codes > 3, 1, 0))


def test_labels_that_cannot_be_had_are_named(build_synthetic):
    root = build_synthetic(32, 32)
    with pytest.raises(InputError, match="no merge 'three': choose one of four, twelve"):
        LabelledTriplets(root, "train", label_merge="three")
    (root / "train" / "lulc.npy").unlink()
    for change in ({"label_merge": "twelve"}, {"label_size_m": 160.0}, {"label_permutation": True}):
        with pytest.raises(InputError, match=r"no lulc\.npy"):
            LabelledTriplets(root, "train", **change)


def test_only_pseudo_categories_follow_from_the_image(dataset):
    data = Triplets(dataset, "test")
    assert data.has_lulc and pseudo_labels(data, data[0]["opt"][None]) is None
    data.info["lulc"] = None
    assert pseudo_labels(data, data[0]["opt"][None]) is None
