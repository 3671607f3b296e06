"""The Dataset: scaling, crops that depend on seed, epoch and item alone, workers, and a set without land cover."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from s2olib.data.landcover import IGNORE, merge_table
from s2olib.data.triplets import REQUIRED, Triplets
from s2olib.project import InputError

COLUMNS = "id,scene,group,season,crs,transform,lon,lat,row,col,date"


@pytest.fixture
def root(tmp_path, describe):
    """Six patches of 32 px in each split, written by hand as the format says."""
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        folder = tmp_path / split
        folder.mkdir()
        np.save(folder / "sar.npy", rng.uniform(-40, 5, (6, 2, 32, 32)).astype(np.float16))
        np.save(folder / "opt.npy", rng.integers(0, 6000, (6, 3, 32, 32), dtype=np.uint16))
        np.save(folder / "lulc.npy", rng.integers(0, 16, (6, 32, 32), dtype=np.uint8))
        (folder / "index.csv").write_text("\n".join([COLUMNS, *(f"00{i},s,,,,,,,0,0," for i in range(6))]) + "\n")
    sar = {"bands": ["VV", "VH"], "units": "dB", "scale": 1.0, "limits": [[-25, 0], [-32, -5]]}
    opt = {"bands": ["red", "green", "blue"], "units": "reflectance", "scale": 0.0001, "limits": [[0, 0.3]] * 3}
    categories = ["water", "built-up", "farmland and grass", "forest"]
    codes = {name: merge_table("hrlulc-v21.11", "four")[name] for name in categories}
    lulc = {"legend": "hrlulc-v21.11", "merge": "four", "kind": "land cover", "categories": categories, "codes": codes}
    places = {"opt_offsets": [0], "dates": [], "tested_places": [], "unique_area_km2": {}, "refused": []}
    sizes = {"patch_size": 32, "resolution_factor": 1, "pixel_size_m": None}
    counts = dict.fromkeys(("train", "validation", "test"), 6)
    named = {"schema": 1, "source": "folder", "synthetic": False, "parameters": {}, "fingerprint": "0"}
    describe(tmp_path, **named, **sizes, sar=sar, opt=opt, lulc=lulc, counts=counts, **places)
    return tmp_path


def test_an_empty_cell_is_no_number_and_a_word_stays_a_word(root, describe):
    index = root / "train" / "index.csv"
    lines = index.read_text().splitlines()
    lines[0], lines[1:] = f"{lines[0]},share_forest", [f"{line}," for line in lines[1:]]
    lines[1] = "NA,s,,,,,,,0,0,,0.5"
    index.write_text("\n".join(lines) + "\n")
    describe(root)
    table = Triplets(root, "train").index
    assert table["share_forest"].tolist()[0] == 0.5 and table["share_forest"].isna().sum() == 5
    assert table["id"][0] == "NA" and table["season"][0] == "" and table["lon"].isna().all()


def test_scaled_by_limits_and_merged(root):
    data = Triplets(root, "train")
    assert (len(data), data.sar_channels, data.opt_channels, data.num_classes) == (6, 2, 3, 4)
    assert data.index["id"].tolist() == [f"00{i}" for i in range(6)]
    item = data[2]
    vh = np.load(root / "train/sar.npy")[2, 1].astype(float)
    np.testing.assert_allclose(item["sar"][1], np.clip((vh + 32) / 27 * 2 - 1, -1, 1), atol=1e-5)
    red = np.load(root / "train/opt.npy")[2, 0]
    np.testing.assert_allclose(item["opt"][0], np.minimum(red / 1500 - 1, 1), atol=1e-5)
    codes = np.load(root / "train/lulc.npy")[2]
    assert item["lulc"].dtype == torch.int64 and item["sar"].dtype == item["opt"].dtype == torch.float32
    for code, category in ((0, IGNORE), (1, 0), (12, 1), (10, 2), (11, 3), (14, IGNORE)):
        assert (item["lulc"].numpy()[codes == code] == category).all()
    wider = Triplets(root, "train", limits={"opt": [[0, 1]] * 3})
    np.testing.assert_allclose(wider[2]["opt"][0], red / 5000 - 1, atol=1e-5)
    torch.testing.assert_close(wider[2]["sar"], item["sar"])


def test_not_a_number_never_leaves(root):
    sar = np.load(root / "test/sar.npy")
    sar[0, :, :9] = np.nan
    np.save(root / "test/sar.npy", sar)
    opt = np.load(root / "test/opt.npy").astype(np.float32)
    opt[0, :, :7] = np.nan
    np.save(root / "test/opt.npy", opt)
    item = Triplets(root, "test")[0]
    assert (item["sar"][:, :9] == -1).all() and torch.isfinite(item["sar"]).all()
    assert (item["opt"][:, :7] == -1).all() and torch.isfinite(item["opt"]).all()


def test_negative_numbers_count_from_the_end(root):
    data = Triplets(root, "train", crop_size=8)
    torch.testing.assert_close(data[-1], data[5], rtol=0, atol=0)
    assert [item["item"] for item in data] == [*range(6)]


def test_crops_depend_on_seed_epoch_and_item_alone(root):
    def crops(seed=0, epoch=0, order=range(6)):
        data = Triplets(root, "train", crop_size=8, seed=seed)
        data.set_epoch(epoch)
        return {i: data[i] for i in order}

    first, backwards = crops(), crops(order=reversed(range(6)))
    whole = Triplets(root, "train")
    for i, item in first.items():
        assert item["sar"].shape == (2, 8, 8) and item["lulc"].shape == (8, 8)
        torch.testing.assert_close(item, backwards[i])
        found = whole[i]["sar"].unfold(1, 8, 1).unfold(2, 8, 1)  # (2, 25, 25, 8, 8)
        row, column = (found == item["sar"][:, None, None]).all(-1).all(-1).all(0).nonzero()[0].tolist()
        cut = (..., slice(row, row + 8), slice(column, column + 8))
        for name in ("opt", "lulc"):  # the same window of all three
            torch.testing.assert_close(item[name], whole[i][name][cut])
    for other in (crops(seed=1), crops(epoch=1)):
        assert any(not torch.equal(item["sar"], other[i]["sar"]) for i, item in first.items())


def test_radar_is_shifted_anew_each_epoch_all_bands_alike_and_nothing_else(root):
    stored = np.load(root / "train/sar.npy")  # a third of it outside the limits
    stored[..., ::4, ::4] = np.nan
    np.save(root / "train/sar.npy", stored)
    low, high = np.float32([[-25, -32], [0, -5]])[:, :, None, None]
    plain, data = Triplets(root, "train", crop_size=8), Triplets(root, "train", crop_size=8, sar_shift=0.3)
    shifts = {}
    for epoch in range(20):
        plain.set_epoch(epoch)
        data.set_epoch(epoch)
        for i in range(len(data)):
            item, as_it_is = data[i], plain[i]
            sar, _ = item.pop("sar"), as_it_is.pop("sar")
            torch.testing.assert_close(item, as_it_is, rtol=0, atol=0)  # the same crop, too
            before = torch.from_numpy((stored[i, ..., *data.window(i)] - low) / (high - low) * 2 - 1)
            inside = sar.abs() < 1
            shift = (sar - before)[inside].median()
            expected = (before + shift).clamp(-1, 1)  # before it is clipped: a dark pixel is no brighter than it was
            torch.testing.assert_close(sar, expected.where(~before.isnan(), torch.tensor(-1.0)))
            shifts[epoch, i] = shift.item() / 2
    found = np.array(list(shifts.values()))
    assert abs(found).max() <= 0.3 and found.min() < -0.2 and found.max() > 0.2 and abs(found.mean()) < 0.1
    again = Triplets(root, "train", crop_size=8, sar_shift=0.3)
    again.set_epoch(19)
    torch.testing.assert_close(again[2], data[2], rtol=0, atol=0)


def test_how_bright_an_item_is_says_nothing_of_where_it_is_cut(root):
    data, zero = Triplets(root, "train", crop_size=31, sar_shift=0.3), torch.zeros(1, 1, 1)
    found = []
    for epoch in range(100):
        data.set_epoch(epoch)
        found += [(*(part.start for part in data.window(i)), data.shifted(i, zero).item()) for i in range(6)]
    row, column, shift = np.array(found).T
    assert abs(np.corrcoef(row, shift)[0, 1]) < 0.15 and abs(np.corrcoef(column, shift)[0, 1]) < 0.15


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_that_outlive_an_epoch_give_the_same_items(root, start):
    data = Triplets(root, "train", crop_size=8)
    loader = DataLoader(data, batch_size=2, num_workers=1, persistent_workers=True, multiprocessing_context=start)
    for epoch in range(2):
        data.set_epoch(epoch)
        for batch in loader:
            expected = torch.stack([data[int(i)]["sar"] for i in batch["item"]])
            torch.testing.assert_close(batch["sar"], expected, rtol=0, atol=0)


def test_only_paths_are_pickled(root):
    data = Triplets(root, "train")
    size = len(pickle.dumps(data))
    data[0]
    assert abs(len(pickle.dumps(data)) - size) < 100


def test_without_land_cover_everything_else_is_identical(root):
    before = [Triplets(root, "test", crop_size=16)[i] for i in range(6)]
    (root / "test/lulc.npy").unlink()
    data = Triplets(root, "test", crop_size=16)
    assert not data.has_lulc and data.num_classes == 4 and Triplets(root, "train").has_lulc
    for i, old in enumerate(before):
        old.pop("lulc")
        torch.testing.assert_close(data[i], old, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"dataset_root": "/nowhere"}, "no data set at '/nowhere'"),
        ({"crop_size": 64}, "crop_size 64 is no whole number within 1..32"),
        ({"crop_size": 0}, "crop_size 0 is no whole number within 1..32"),
        ({"crop_size": 8.5}, "crop_size 8.5 is no whole number within 1..32"),
        ({"sar_shift": -0.1}, "sar_shift is -0.1"),
        ({"sar_shift": 1.1}, "sar_shift is 1.1"),
        ({"limits": {"sar": [[-25, 0]]}}, r"limits\['sar'\] must be one"),
        ({"limits": {"opt": [[1, 0]] * 3}}, r"limits\['opt'\] must be one"),
        ({"limits": {"opt": [[1, 1]] * 3}}, r"limits\['opt'\] must be one"),
        ({"limits": {"sar": [[-25, 0], [-32, float("nan")]]}}, r"limits\['sar'\] must be one"),
        ({"limits": {"sar": [[-25, 0], [-32, float("inf")]]}}, r"limits\['sar'\] must be one"),
        ({"limits": {"sar": [-25, 0]}}, r"limits\['sar'\] must be one"),
        ({"limits": {"SAR": [[-25, 0], [-32, -5]]}}, "limits must be of 'sar', 'opt' or both"),
        ({"limits": [[-25, 0], [-32, -5]]}, "limits must be of 'sar', 'opt' or both"),
        ({"limits": {"opt": [["dark", "bright"]] * 3}}, r"limits\['opt'\] must be one"),
    ],
)
def test_bad_input_is_named(root, options, says):
    with pytest.raises(InputError, match=says):
        Triplets(**{"dataset_root": root, "split": "train", **options})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dataset.json", b"{}"),
        ("dataset.json", b"[]"),
        ("dataset.json", b"\xff"),
        ("train/index.csv", b""),
        ("train/index.csv", b"\xff\xfe"),
        ("train/opt.npy", b""),
        ("train/sar.npy", b"no array"),
    ],
)
def test_a_damaged_file_is_named(root, file, content):
    (root / file).write_bytes(content)
    with pytest.raises(InputError, match=rf"{root / file} (cannot be read|is not as)"):
        Triplets(root, "train")


@pytest.mark.parametrize("name", REQUIRED)
def test_a_description_that_lacks_something_is_refused_before_any_work(root, describe, name):
    describe(root, **{name: "of another kind" if name not in ("source", "fingerprint") else 1})
    with pytest.raises(InputError, match=rf"dataset\.json is not as this version writes it .*'{name}' is missing"):
        Triplets(root, "train")


@pytest.mark.parametrize(
    ("name", "key"), [("sar", "scale"), ("opt", "limits"), ("opt", "bands"), ("lulc", "codes"), ("counts", "test")]
)
def test_a_part_of_the_description_that_lacks_something_is_refused(root, describe, name, key):
    info = json.loads((root / "dataset.json").read_text())
    del info[name][key]
    describe(root, **info)
    with pytest.raises(InputError, match=f"'{name}.{key}' is missing"):
        Triplets(root, "test")


def test_a_description_of_another_version_is_refused(root, describe):
    describe(root, schema=2)
    with pytest.raises(InputError, match="schema 2"):
        Triplets(root, "train")


def test_an_index_whose_lines_were_sorted_is_refused(root):
    """Patches would bear each other's names, and blocks of neighbours would be others."""
    index = root / "test" / "index.csv"
    first, *lines = index.read_text().splitlines()
    index.write_text("\n".join([first, *reversed(lines)]) + "\n")
    with pytest.raises(InputError, match=r"test/index\.csv is not as it was built"):
        Triplets(root, "test")
    Triplets(root, "train")


@pytest.mark.parametrize("name", ["sar", "opt", "lulc"])
@pytest.mark.parametrize(
    "change",
    [
        lambda stored: stored[:5],
        lambda stored: np.concatenate([stored, stored])[:7],
        lambda stored: stored[:, :1],  # one band for several, or a line of a map: as many numbers fit by broadcasting
        lambda stored: stored[..., :16],
        lambda stored: stored[..., :16, :16],
        lambda stored: stored > 0,
        lambda stored: stored.astype("U4"),
    ],
)
def test_arrays_are_what_the_description_says(root, name, change):
    np.save(root / f"train/{name}.npy", change(np.load(root / f"train/{name}.npy")))
    with pytest.raises(InputError, match=rf"train/{name}\.npy holds .* dataset\.json says \(6, "):
        Triplets(root, "train")


def test_training_needs_no_rasterio():
    code = "import sys; sys.modules['rasterio'] = None; import s2olib.data.triplets"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_crops_reach_each_corner_and_rows_are_not_columns(root):
    data, found = Triplets(root, "train", crop_size=31), set()
    for epoch in range(40):
        data.set_epoch(epoch)
        found |= {(rows.start, columns.start) for rows, columns in map(data.window, range(6))}
    assert found == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_items_of_an_epoch_are_cropped_apart(root):
    data = Triplets(root, "train", crop_size=8)
    assert len({(rows.start, columns.start) for rows, columns in map(data.window, range(6))}) > 3
