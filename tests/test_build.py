"""Builds of tiny data sets: what is on disk, the split's geometry, judgement, and that nothing half-made stays."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform
from scipy import ndimage
from test_archive import ORIGIN, tif, write_scene
from torch.utils.data import default_collate

from s2olib.data import SPLITS, archive, export, landcover, rasters, splits, store
from s2olib.data import build as module
from s2olib.data.build import build
from s2olib.data.datasheet import datasheet
from s2olib.data.export import export_geotiffs
from s2olib.data.labels import pseudo_labels
from s2olib.data.landcover import merge_codes, merge_table
from s2olib.data.rasters import Grid, Scene
from s2olib.data.splits import check_separation
from s2olib.data.triplets import Triplets
from s2olib.project import InputError

KAGA, FAR = ORIGIN, 20_000  # metres between the made-up regions
STEP = 1 / 12000


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five scenes of 256 x 384 px, the first at Kaga; the second is another season 3 km from the third."""
    root = tmp_path_factory.mktemp("world")
    offsets = {1: 0, 2: FAR, 3: FAR + 3840 + 1000, 4: 3 * FAR, 5: 4 * FAR}
    arrays = {}
    for scene, east in offsets.items():
        season = "ROIs1970_fall" if scene == 2 else "ROIs1158_spring"
        arrays[scene] = write_scene(
            root / "archive", scene, corner=(KAGA[0] + east, KAGA[1]), season=season, seed=scene
        )
    codes = np.random.default_rng(0).integers(1, 13, (1800, 24000), dtype=np.uint8)
    west, north = 135.3, 36.4
    for i in range(2):
        part = codes[None, :, i * 12000 : (i + 1) * 12000]
        tif(root / f"lulc/LC_{i}.tif", part, (west + i, north), crs="EPSG:4326", pixel=STEP)
    return root, arrays, (codes, west, north)


@pytest.fixture
def options(world):
    root = world[0]
    places = {"archive_root": root / "archive", "lulc_root": root / "lulc", "test_places": (lonlat(*KAGA),)}
    return {"source": "sen12ms", **places, "legend": "hrlulc-v21.11", "patch_size": 128, "stride": 64}


def lonlat(x, y):
    (lon,), (lat,) = transform("EPSG:32653", "EPSG:4326", [x + 100], [y - 100])
    return lon, lat


def read(root, split):
    text = {"id": str, "scene": str, "group": str}
    index = pd.read_csv(root / split / "index.csv", dtype=text, keep_default_na=False)
    return index, {path.stem: np.load(path, mmap_mode="r") for path in sorted((root / split).glob("*.npy"))}


def test_what_is_on_disk_is_what_the_archive_holds(tmp_path, world, options):
    info = build(tmp_path / "set", **options)
    _, arrays, (codes, west, north) = world
    for split in SPLITS:
        index, stored = read(tmp_path / "set", split)
        assert {name: len(array) for name, array in stored.items()} == dict.fromkeys(stored, len(index))
        assert info["counts"][split] == len(index) > 0
        for i, row in index.iterrows():
            sar, opt = arrays[int(row["scene"].split("_")[-1])]
            cut = (slice(None), slice(row["row"], row["row"] + 128), slice(row["col"], row["col"] + 128))
            np.testing.assert_array_equal(stored["sar"][i], sar[cut].astype(np.float16))
            np.testing.assert_array_equal(stored["opt"][i], opt[[3, 2, 1]][cut])
            a, _, c, _, e, f = map(float, row["transform"].split())
            x, y = c + a * (np.arange(128) + 0.5), f + e * (np.arange(128) + 0.5)
            lons, lats = transform(row["crs"], "EPSG:4326", *(v.ravel() for v in np.meshgrid(x, y)))
            place = np.floor((north - np.array(lats)) / STEP), np.floor((np.array(lons) - west) / STEP)
            expected = codes[place[0].astype(int), place[1].astype(int)].reshape(128, 128)
            np.testing.assert_array_equal(stored["lulc"][i], expected)
            shares = (
                np.bincount(merge_codes(expected, merge_table("hrlulc-v21.11", "four")).ravel(), minlength=4)[:4]
                / expected.size
            )
            np.testing.assert_allclose(row.filter(like="share_").astype(float), shares, atol=1e-4)
    assert info["lulc"]["categories"] == ["water", "built-up", "farmland and grass", "forest"]
    assert (info["pixel_size_m"], info["synthetic"], info["sar"]["limits"]) == (10, False, [[-25, 0], [-32, -5]])
    assert info == json.loads((tmp_path / "set/dataset.json").read_text())


def test_what_is_synthetic_says_so_by_whatever_source_it_is_read(tmp_path, options, world, dataset):
    info = json.loads((dataset / "dataset.json").read_text())
    assert info["parameters"]["source"] == "sen12ms"
    assert info["synthetic"] and info["source"] == "embedded" and info["lulc"]["epoch"] == ""
    text = datasheet(dataset)
    assert "SYNTHETIC" in text and "Schmitt" not in text and "Land cover: " not in text, "the labels are drawn, too"
    root = shutil.copytree(dataset.parent / "sen12ms", tmp_path / "archive")
    shutil.copytree(world[0] / "archive", root, dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"mixes synthetic scenes, as 'ROIs\w+' is, with others, as 'ROIs\w+'"):
        build(tmp_path / "set", **options | {"archive_root": root})


def test_geotiffs_of_a_synthetic_set_are_synthetic_as_pairs_of_ones_own(tmp_path, dataset):
    export_geotiffs(dataset, tmp_path / "tif")
    for split in SPLITS:
        name = read(dataset, split)[0]["id"][0]
        for kind, layer in (("s1", "sar"), ("s2", "opt")):
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(tmp_path / f"tif/{split}/{name}_{layer}.tif", tmp_path / f"{kind}/{split}.tif")
    (tmp_path / "split.csv").write_text("id,split\n" + "".join(f"{split},{split}\n" for split in SPLITS))
    given = {"source": "folder", "sar_dir": tmp_path / "s1", "opt_dir": tmp_path / "s2", "buffer_m": 0}
    size = json.loads((dataset / "dataset.json").read_text())["patch_size"]
    info = build(tmp_path / "set", **given, split_file=tmp_path / "split.csv", patch_size=size, max_cloud=1)
    assert info["synthetic"] and "SYNTHETIC" in datasheet(tmp_path / "set")


@pytest.mark.parametrize("size", [128, 256])
def test_tar_archives_give_the_data_set_of_the_unpacked_archive(tmp_path, world, options, size):
    """The map begins within each scene, so that its first columns of patches are not unpacked."""
    whole = tmp_path / "archive"
    for scene, east in ((1, 0), (2, FAR), (3, 2 * FAR)):
        write_scene(whole, scene, rows=1, columns=8, corner=(KAGA[0] + east, KAGA[1]), seed=scene)
        codes = np.random.default_rng(scene).integers(1, 13, (1, 512, 320), dtype=np.uint8)
        tif(tmp_path / f"map/{scene}.tif", codes, (KAGA[0] + east + 8000, KAGA[1]))
    (tmp_path / "tars").mkdir()
    for kind in ("s1", "s2"):
        with tarfile.open(tmp_path / f"tars/ROIs1158_spring_{kind}.tar.gz", "w:gz", compresslevel=1) as tar:
            for path in sorted(whole.glob(f"*/{kind}_*/*.tif")):
                tar.add(path, arcname=path.relative_to(whole))
    (tmp_path / "split.csv").write_text(
        "id,split\n" + "".join(f"ROIs1158_spring_{n},{split}\n" for n, split in enumerate(SPLITS, 1))
    )
    given = options | {"lulc_root": tmp_path / "map", "patch_size": size, "split_file": tmp_path / "split.csv"}
    given |= {"max_unlabelled": 0.9, "stride": size // 2}
    unpacked = build(tmp_path / "a", **given | {"archive_root": whole})
    for target in ("b", "c"):  # from the tar archives, and once more from what they have left
        tars = {"tar_root": tmp_path / "tars"} if target == "b" else {}
        streamed = build(tmp_path / target, **given | tars | {"archive_root": tmp_path / "kept"})
        assert streamed["fingerprint"] == unpacked["fingerprint"] and streamed["counts"] == unpacked["counts"]
    assert len(list((tmp_path / "kept").rglob("*_s2_*.tif"))) < len(list(whole.rglob("*_s2_*.tif")))


def test_regions_stay_whole_and_the_talks_place_is_tested(tmp_path, options):
    info = build(tmp_path / "set", **options)
    scenes = {split: set(read(tmp_path / "set", split)[0]["scene"]) for split in SPLITS}
    assert "ROIs1158_spring_1" in scenes["test"]
    (together,) = [split for split in SPLITS if "ROIs1970_fall_2" in scenes[split]]
    assert "ROIs1158_spring_3" in scenes[together]  # one kilometre apart, under the buffer of two
    assert sum(map(len, scenes.values())) == 5
    for split in ("validation", "test"):
        index = read(tmp_path / "set", split)[0]
        assert not (index["row"] % 128).any() and not (index["col"] % 128).any()
    assert len(read(tmp_path / "set", "train")[0]) == 15 * len(scenes["train"])  # 3 x 5 windows at stride 64
    for split in SPLITS:  # every scene is seen whole: 2.56 km x 3.84 km, but for UTM's scale
        assert info["unique_area_km2"][split] == pytest.approx(len(scenes[split]) * 2.56 * 3.84, rel=2e-3)


def fingerprint(root):
    """Of a data set as it lies on disk, as `store` says."""
    lines = []
    for path in sorted(path for split in SPLITS for path in (root / split).iterdir()):
        digest = hashlib.sha256(path.read_bytes() if path.suffix == ".csv" else b"")
        for patch in [] if path.suffix == ".csv" else np.load(path):
            middle = patch.shape[-1] // 2
            upper, lower = patch[..., :middle, :], patch[..., middle:, :]
            quarters = [of[..., side] for of in (upper, lower) for side in (slice(middle), slice(middle, None))]
            hashes = b"".join(hashlib.sha256(quarter.tobytes()).digest() for quarter in quarters)
            digest.update(hashlib.sha256(hashes).digest())
        lines.append(f"{digest.hexdigest()}  {path.relative_to(root)}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_same_bytes_twice_and_nothing_twice(tmp_path, options, monkeypatch):
    build(tmp_path / "a", **options)
    build(tmp_path / "b", **options)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    monkeypatch.setattr(module, "_coarser", None)  # reading a scene again would fail
    info = build(tmp_path / "a", **options)
    assert info["fingerprint"] == fingerprint(tmp_path / "a")
    monkeypatch.undo()
    odd = build(tmp_path / "odd", **options | {"patch_size": 65, "stride": 30})
    assert odd["fingerprint"] == fingerprint(tmp_path / "odd")
    monkeypatch.setattr(module, "_coarser", None)
    with pytest.raises(TypeError):
        build(tmp_path / "a", **options | {"max_nodata": 0.5})


def test_workers_that_see_another_disk_are_told_of(tmp_path, options, monkeypatch):
    monkeypatch.setattr(module, "_work", lambda *_: None)
    with pytest.raises(InputError, match="is not here: workers must see the builder's dataset_root"):
        build(tmp_path / "set", **options)


def test_a_scene_outside_the_map_counts_with_all_its_windows():
    refused = [{"reason": "guard gap"}, {"reason": "outside the map", "windows": 3}, {"reason": "guard gap"}]
    assert module.by_reason(refused).most_common() == [("outside the map", 3), ("guard gap", 2)]


def test_an_array_has_all_its_patches_in_whatever_order_they_come(tmp_path):
    layer = np.arange(24, dtype=np.uint8).reshape(4, 6)
    np.save(tmp_path / "0_lulc.npy", layer)
    for split in SPLITS:
        (tmp_path / split).mkdir()
        (tmp_path / split / "index.csv").write_text("")
    path = tmp_path / "train/lulc.npy"
    path.touch()
    corners = [(0, 0, 0), (0, 0, 2), (0, 2, 1)]
    late = [store.Stretch(path, 0, corners[:2]), store.Stretch(path, 2, corners[2:])]
    last, first = (store.fill(tmp_path, "lulc", [stretch], 2)[0] for stretch in reversed(late))
    digest = hashlib.sha256(first + last).hexdigest()
    assert store.finish(tmp_path, {path.parent.name: len(corners)}, {path: digest}) == fingerprint(tmp_path)
    np.testing.assert_array_equal(np.load(path), [layer[r : r + 2, c : c + 2] for _, r, c in corners])


def test_resolution_factor_averages_power_and_takes_majorities(tmp_path, world, options):
    info = build(tmp_path / "set", **options | {"resolution_factor": 2, "patch_size": 64, "stride": 32})
    index, stored = read(tmp_path / "set", "test")
    sar, opt = world[1][1]
    row, column = index.loc[0, ["row", "col"]] * 2
    power = 10 ** (sar[:, row : row + 128, column : column + 128].astype(float).reshape(2, 64, 2, 64, 2) / 10)
    np.testing.assert_allclose(stored["sar"][0], 10 * np.log10(power.mean((2, 4))), atol=0.02)
    means = opt[[3, 2, 1], row : row + 128, column : column + 128].reshape(3, 64, 2, 64, 2).mean((2, 4))
    assert np.abs(stored["opt"][0] - means).max() <= 0.5
    assert info["pixel_size_m"] == 20 and index.loc[0, "transform"].startswith("20.0 ")


def test_resolution_factor_averages_eight_bits_as_they_are(tmp_path, images):
    build(tmp_path / "set", **images | {"patch_size": 16, "resolution_factor": 2}, group_column="event")
    index, stored = read(tmp_path / "set", "test")
    sar = np.array(Image.open(tmp_path / f"s1/{index.loc[0, 'id']}.png"), float)
    np.testing.assert_array_equal(stored["sar"][0, 0], np.rint(sar.reshape(16, 2, 16, 2).mean((1, 3))))


def test_a_grey_picture_of_eight_bits_is_no_haze_and_a_white_one_is_cloud(tmp_path, images):
    grey = np.random.default_rng(0).integers(165, 175, (32, 32, 3), np.uint8)
    Image.fromarray(grey).save(tmp_path / "s2/00.png")
    white = np.random.default_rng(0).integers(205, 255, (32, 32, 3), np.uint8)
    Image.fromarray(white).save(tmp_path / "s2/01.png")
    refused = build(tmp_path / "set", **images, group_column="event")["refused"]
    assert [(r["id"], r["reason"]) for r in refused] == [("01", "cloud")]


def test_refused_patches_carry_their_reason(tmp_path):
    root, opt = tmp_path / "pairs", np.full((3, 64, 64), 900, np.uint16)
    sar, codes = np.full((2, 64, 64), -12.5, np.float32), np.full((1, 64, 64), 4, np.uint8)
    cases = {
        name: (sar.copy(), opt.copy(), codes.copy()) for name in ("a", "b", "c", "cloud", "sea", "nan", "edge", "off")
    }
    cases["cloud"][1][:, :32] = np.array([4000, 3600, 3120])[:, None, None]  # which differ by 22 % of the brightest
    cases["sea"][2][:] = 1
    cases["nan"][0][1, :8] = np.nan
    cases["edge"][1][:, :, :4] = 0
    cases["off"][2][:] = 0
    cases["a"][2][:, :16] = 0
    cases["small"] = (sar[:, :32], opt[:, :32], codes[:, :32])
    for i, (name, arrays) in enumerate(cases.items()):
        for folder, pixels in zip(("s1", "s2", "lulc"), arrays, strict=True):
            tif(root / folder / f"{name}.tif", pixels, (ORIGIN[0] + i * 10_000, ORIGIN[1]))
    split = {"a": "validation", "b": "test"}
    pd.DataFrame({"id": list(cases), "split": [split.get(n, "train") for n in cases]}).to_csv(
        root / "split.csv", index=False
    )
    folders = {"sar_dir": root / "s1", "opt_dir": root / "s2", "lulc_dir": root / "lulc", "legend": "hrlulc-v21.11"}
    folders |= {"source": "folder", "split_file": root / "split.csv", "patch_size": 64}
    info = build(tmp_path / "set", **folders)
    refused = {r["id"]: (r["reason"], r["value"]) for r in info["refused"]}
    assert refused == {
        "cloud": ("cloud", 0.5),
        "edge": ("no data", 0.0625),
        "nan": ("no data", 0.125),
        "off": ("unlabelled", 1.0),
        "sea": ("open sea", 1.0),
        "small": ("smaller than a patch", "64 x 32"),
    }
    assert info["counts"] == {"train": 1, "validation": 1, "test": 1}
    assert info["fingerprint"] == fingerprint(tmp_path / "set"), "which refused patches have no part in"
    index = read(tmp_path / "set", "validation")[0]
    assert index.filter(like="share_").sum(axis=1).tolist() == [0.75], "a quarter of a is of no category"
    bright = build(tmp_path / "bright", **folders, cloud_brightness=0.45)
    assert {r["id"] for r in bright["refused"]} == {*refused} - {"cloud"}


def test_neighbours_across_a_split_are_guarded_and_overlap_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    for i, name in enumerate(("left", "right", "east")):
        corner = (ORIGIN[0] + i * 1280, ORIGIN[1])
        tif(tmp_path / f"s1/{name}.tif", rng.integers(0, 255, (1, 128, 128), np.uint8), corner, names=("VH",))
        tif(tmp_path / f"s2/{name}.tif", rng.integers(1, 180, (3, 128, 128), np.uint8), corner)
    rows = {"left": "train", "right": "test", "east_0000_0064": "validation", "east_0064_0064": "validation"}
    folders = {
        "source": "folder",
        "sar_dir": tmp_path / "s1",
        "opt_dir": tmp_path / "s2",
        "split_file": tmp_path / "split.csv",
    }
    folders |= {"sar_units": "8-bit", "opt_units": "8-bit", "patch_size": 64, "stride": 32, "buffer_m": 100}

    def split(rows):
        pd.DataFrame(rows.items(), columns=["id", "split"]).to_csv(tmp_path / "split.csv", index=False)

    split(rows)
    info = build(tmp_path / "set", **folders)
    assert info["counts"] == {"train": 6, "validation": 2, "test": 4} and info["sar"]["bands"] == ["VH"]
    guarded = {r["id"]: r["value"] for r in info["refused"] if r["reason"] == "guard gap"}
    assert guarded == {f"left_{row:04d}_0064": 0.0 for row in (0, 32, 64)}
    check_separation(tmp_path / "set")
    unlisted = {r["id"] for r in info["refused"] if r["reason"] == "not in the split file"}
    assert unlisted == {f"east_{row:04d}_{column:04d}" for row in (0, 32, 64) for column in (0, 32, 64)} - set(rows)
    moves = (  # the check sees patches that overlap by 360 m, and those that share but an edge
        ("train", 0, 1000, "test patch 'right_.*' touches train patch 'left_"),
        ("train", 0, 640, "test patch 'right_.*' touches train patch 'left_"),
        ("train", 0, 3840, "validation patch 'east_.*' touches train patch 'left_"),
        ("validation", 3200, 2560, "test patch 'right_.*' touches validation patch 'east_"),
    )
    for moved, of, to, says in moves:
        index = tmp_path / "set" / moved / "index.csv"
        written = index.read_text()
        index.write_text(written.replace(repr(ORIGIN[0] + of), repr(ORIGIN[0] + to)))
        with pytest.raises(InputError, match=says):
            check_separation(tmp_path / "set")
        index.write_text(written)
    check_separation(tmp_path / "set")
    split({"left": "train", "right": "validation", "east_0000_0064": "test", "east_0064_0064": "test"})
    beside_validation = build(tmp_path / "other", **folders)["refused"]
    assert {r["id"]: r["value"] for r in beside_validation if r["reason"] == "guard gap"} == guarded
    split({"left": "validation", "right": "test", "east": "train"})
    in_a_row = build(tmp_path / "another", **folders)["refused"]
    guarded = {f"left_{row:04d}_0064" for row in (0, 64)} | {f"east_{row:04d}_0000" for row in (0, 32, 64)}
    assert {r["id"] for r in in_a_row if r["reason"] == "guard gap"} == guarded
    split({"left": "train", "right": "test", "east": "validation", "left_0000_0064": "test", "lost": "test"})
    with pytest.raises(InputError, match="lists 'lost'"):
        build(tmp_path / "other", **folders)
    split({"left": "train", "right": "test", "east": "validation", "left_0000_0064": "test"})
    with pytest.raises(InputError, match="train patch 'left_0000_0032' overlaps test patch 'left_0000_0064'"):
        build(tmp_path / "other", **folders)
    split({"left": "train", "right": "test"})
    with pytest.raises(InputError, match="does not list scene 'east'"):
        build(tmp_path / "other", **folders)


@pytest.fixture
def images(tmp_path):
    """Twelve PNG pairs of three events, without geography."""
    rng = np.random.default_rng(1)
    for folder in ("s1", "s2"):
        (tmp_path / folder).mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(tmp_path / f"s1/{i:02d}.png")
        Image.fromarray(rng.integers(1, 150, (32, 32, 3), np.uint8)).save(tmp_path / f"s2/{i:02d}.png")
    pairs = {"id": [f"{i:02d}" for i in range(12)], "event": ["one", "two", "three"] * 4}
    pd.DataFrame(pairs).to_csv(tmp_path / "pairs.csv", index=False)
    folders = {"source": "folder", "sar_dir": tmp_path / "s1", "opt_dir": tmp_path / "s2", "patch_size": 32}
    return {**folders, "pairs_csv": tmp_path / "pairs.csv", "sar_units": "8-bit", "opt_units": "8-bit"}


def test_images_split_by_group_and_pseudo_categories_for_training_alone(tmp_path, images):
    given = images | {"group_column": "event", "legend": "pseudo-false-colour", "pixel_size_m": 10}
    info = build(tmp_path / "set", **given)
    written = (tmp_path / "set/train/opt.npy").stat().st_mtime_ns
    build(tmp_path / "set", **given)
    assert (tmp_path / "set/train/opt.npy").stat().st_mtime_ns == written, "built again"
    groups = [set(read(tmp_path / "set", split)[0]["group"]) for split in SPLITS]
    assert sorted(map(len, groups)) == [1, 1, 1] and len(set.union(*groups)) == 3
    assert [(tmp_path / "set" / split / "lulc.npy").is_file() for split in SPLITS] == [True, False, False]
    assert info["lulc"]["kind"] == "pseudo-categories" and info["sar"]["bands"] == ["SAR"]
    assert info["unique_area_km2"] == dict.fromkeys(SPLITS) and info["pixel_size_m"] == 10
    text = datasheet(tmp_path / "set")
    assert "no geography. Groups: one, three, two." in text and "Images: not stated by the files." in text
    assert "SAR is scaled to 8 bits" in text and "pseudo-categories follow colour, not land cover" in text
    train, test = (Triplets(tmp_path / "set", split) for split in ("train", "test"))
    items = default_collate([*train])
    assert torch.equal(pseudo_labels(train, items["opt"]), items["lulc"]), (
        "a DSD is judged by them where none are stored"
    )
    narrow = Triplets(tmp_path / "set", "train", limits={"opt": [[-1, 300], [-2, 255], [0, 999]]})
    assert torch.equal(pseudo_labels(narrow, default_collate([*narrow])["opt"]), items["lulc"])
    assert pseudo_labels(test, test[0]["opt"][None]).unique().tolist() and "lulc" not in test[0]
    index, stored = read(tmp_path / "set", "test")
    assert index.loc[0, "crs"] == index.loc[0, "transform"] == "" and stored["sar"].dtype == np.uint8
    assert index.loc[0, "id"] in pd.read_csv(images["pairs_csv"], dtype=str)["id"].values
    with pytest.raises(InputError, match="cannot be split by region"):  # empty text means not given, as in a profile
        build(tmp_path / "other", **images, group_column="", legend="", lulc_root="", lulc_dir="", split_file="")


def test_a_list_in_another_order_gives_the_same_data_set(tmp_path, images):
    first = build(tmp_path / "set", **images, group_column="event")
    header, *rows = images["pairs_csv"].read_text().splitlines()
    images["pairs_csv"].write_text("\n".join([header, *rows[::-1]]))
    assert build(tmp_path / "set", **images, group_column="event")["fingerprint"] == first["fingerprint"]


@pytest.mark.parametrize("at_once", [splits.LOOKED_FOR, 1])
def test_copies_of_coarse_images_are_found_and_alike_squares_are_no_copies(tmp_path, images, monkeypatch, at_once):
    """Pictures that were enlarged by repeating pixels; and different ones that have a hatch and a smooth half alike."""
    monkeypatch.setattr(splits, "LOOKED_FOR", at_once)
    rng = np.random.default_rng(3)
    given = images | {"patch_size": 64, "split_file": tmp_path / "split.csv"}
    rows = {f"{i:02d}": ("train", "validation", "test")[i % 3] for i in range(12)}
    pd.DataFrame(rows.items(), columns=["id", "split"]).to_csv(tmp_path / "split.csv", index=False)
    coarse = [(rng.integers(0, 256, (16, 16)), rng.integers(1, 150, (16, 16, 3))) for _ in range(12)]
    for copied in (False, True):
        coarse[3] = coarse[2] if copied else coarse[3]
        for i, pair in enumerate(coarse):
            for folder, pixels in zip(("s1", "s2"), pair, strict=True):
                large = pixels.repeat(4, 0).repeat(4, 1).astype(np.uint8)
                if not copied:
                    large[:, :40] = (40 + 5 * (np.arange(40) // 8)).reshape(1, 40, *[1] * (large.ndim - 2))
                Image.fromarray(large).save(tmp_path / folder / f"{i:02d}.png")
        if copied:
            with pytest.raises(InputError, match="train patch '03' shares pixels with test patch '02'"):
                build(tmp_path / "set", **given)
            assert not (tmp_path / ".set.parts").exists(), "which hold what was not meant"
        else:
            assert build(tmp_path / "set", **given)["counts"] == {"train": 4, "validation": 4, "test": 4}


def test_a_copy_is_found_behind_a_patch_that_has_its_squares_in_another_order():
    patch = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    turned = patch.reshape(3, 4, 16, 4, 16)[:, ::-1, :, ::-1].reshape(3, 64, 64)
    squares = splits.Squares([turned, patch, patch].__getitem__, (0, 1), 16, 2)
    assert squares.twin(2) == 1


def test_one_image_without_geography_may_be_split_by_patch(tmp_path, images):
    rows = {f"00_0000_{column:04d}": split for column, split in ((0, "train"), (16, "train"), (32, "test"))}
    rows |= {f"{i:02d}": "validation" if i < 5 else "guard" for i in range(1, 12)}
    for folder, shape in (("s1", (16, 48)), ("s2", (16, 48, 3))):
        Image.fromarray(np.full(shape, 9, np.uint8)).save(tmp_path / folder / "00.png")
    pd.DataFrame(rows.items(), columns=["id", "split"]).to_csv(tmp_path / "split.csv", index=False)
    info = build(tmp_path / "set", **images | {"patch_size": 16}, split_file=tmp_path / "split.csv")
    assert info["counts"] == {"train": 1, "validation": 16, "test": 1}
    assert {"id": "00_0000_0016", "reason": "guard gap", "value": 0.0} in info["refused"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"source": "sen12"}, "unknown source 'sen12'"),
        ({"sar_units": "decibel"}, "unknown sar_units 'decibel'"),
        ({"legend": "corine"}, "unknown land-cover legend 'corine'"),
        ({"merge": "five"}, "has no merge 'five'"),
        ({"legend": None}, "both a legend and lulc_root"),
        ({"archive_root": None}, "needs archive_root"),
        ({"patch_size": 0}, "patch_size must be a whole number of at least 1"),
        ({"patch_size": None}, "patch_size must be a whole number of at least 1, not None"),
        ({"resolution_factor": None}, "resolution_factor must be a whole number of at least 1, not None"),
        ({"sar_dir": 2021}, "sar_dir must be a file or folder, not the int 2021"),
        ({"split_file": 5}, "split_file must be a file or folder, not the int 5"),
        ({"stride": 16.5}, "stride must be a whole number of at least 1, not 16.5"),
        ({"max_sea": "0.1"}, "max_sea must be a number, not '0.1'"),
        ({"cloud_brightness": "0.25"}, "cloud_brightness must be a number, not '0.25'"),
        ({"cloud_brightness": 2500}, "cloud_brightness is reflectance: above 0 and at most 2.*not 2500"),
        ({"haze_brightness": 0}, "haze_brightness is reflectance: above 0 .*not 0"),
        ({"buffer_m": float("nan")}, "buffer_m must be a number, not nan"),
        ({"test_places": (138.8, 36.1)}, "test_places must be pairs"),
        ({"test_places": 5}, "test_places must be pairs"),
        ({"test_places": [("east", "north")]}, "test_places must be pairs"),
        ({"test_places": [(36.3, 136.3)]}, r"test_places must be pairs \(longitude, latitude\)"),
        ({"shares": 0.7}, "shares must be three numbers above 0"),
        ({"opt_bands": [4, 3, 2]}, "opt_bands must be a list of bands' names"),
        ({"sar_bands": [1, 2]}, "sar_bands must be a list of bands' names"),
        ({"pixel_size_m": -3}, "pixel_size_m must be metres above 0"),
        ({"pixel_size_m": "10"}, "pixel_size_m must be metres above 0"),
        ({"legend": 5}, "legend must be a name or a YAML file, not 5"),
        ({"sar_limits": 5}, "sar_limits must be 2 pairs"),
        ({"lulc_dir": "/nowhere", "lulc_root": None}, "lulc_dir is for source 'folder'"),
        ({"group_column": "event"}, "group_column is for source 'folder'"),
        ({"merge": ["four"]}, "merge must be text, not the list"),
        ({"workers": -1}, "workers must be a whole number of at least 1"),
        ({"executor": "dask"}, "executor must be one of concurrent.futures or like it, not 'dask'"),
        ({"shares": [0.8, 0.2]}, "shares must be three numbers above 0"),
        ({"shares": [0.9, -0.1, 0.2]}, "shares must be three numbers above 0"),
        ({"split_file": "/nowhere.csv"}, "'/nowhere.csv' does not exist"),
        ({"buffer_m": 1e6}, "1 separate regions"),
        ({"border_noise_db": 40.0}, "no patch is left for train"),
        ({"max_unlabelled": 5}, "max_unlabelled must be a share from 0 to 1, not 5"),
        ({"buffer_m": -100}, "buffer_m must be metres of at least 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"patch_size": True}, "patch_size must be a whole number"),
        ({"sar_bands": "VV"}, r"sar_bands must be a list of bands, such as \['VV'\]"),
        ({"opt_bands": "RGB"}, "opt_bands must be a list of bands"),
        ({"shares": ["a", "b", "c"]}, "shares must be three numbers above 0"),
        ({"sar_limits": [-25, 0]}, "sar_limits must be 2 pairs"),
        ({"sar_limits": [[-25, 0]]}, "sar_limits must be 2 pairs"),
        ({"workers": 0}, "workers must be a whole number of at least 1, not 0"),
        ({"pixel_size_m": 0}, "pixel_size_m must be metres above 0, not 0"),
        ({"shares": [0.9, 0.1, 0]}, "shares must be three numbers above 0"),
        ({"haze_brightness": 2.5}, "haze_brightness is reflectance: above 0 and at most 2.*not 2.5"),
        ({"sar_units": "linear"}, "source 'sen12ms' holds dB and reflectance x 10000"),
        ({"legend": "pseudo-false-colour", "lulc_root": None}, "is made from 8-bit images, and opt_units is 'refl"),
        (
            {"source": "folder", "sar_dir": "/nowhere", "opt_dir": "/nowhere", "lulc_dir": "/nowhere"},
            "lulc_root and lulc_dir are both given",
        ),
    ],
)
def test_bad_parameters_are_named_and_leave_nothing(tmp_path, options, change, says):
    with pytest.raises(InputError, match=says):
        build(tmp_path / "set", **options | change)
    assert not list(tmp_path.iterdir())


def test_input_that_lies_in_the_data_set_behind_a_link_is_refused(tmp_path, options):
    (tmp_path / "archive").symlink_to(tmp_path / "set/archive")
    with pytest.raises(InputError, match=r"archive' lies in dataset_root"):
        build(tmp_path / "set", **options | {"archive_root": tmp_path / "archive"})


def test_scenes_outside_the_map_are_listed_and_none_inside_is_an_error(tmp_path, world, options):
    codes, west, north = world[2]
    part = codes[None, :, : int((lonlat(KAGA[0] + 3.5 * FAR, KAGA[1])[0] - west) / STEP)]
    tif(tmp_path / "lulc/west.tif", part, (west, north), crs="EPSG:4326", pixel=STEP)
    info = build(tmp_path / "set", **options | {"lulc_root": tmp_path / "lulc"})
    outside = [r for r in info["refused"] if r["id"] == "ROIs1158_spring_5"]
    assert [r["reason"] for r in outside] == ["outside the map"] and "LC_N36E136.tif" in outside[0]["value"]
    assert outside[0]["windows"] == 3 * 5, "of 256 x 384 px in steps of 64"
    assert "15 outside the map" in datasheet(tmp_path / "set")
    with rasterio.open(tmp_path / "lulc/west.tif", "r+") as tile:
        tile.transform = tile.transform.translation(10, 50) @ tile.transform.scale(STEP, -STEP)
    with pytest.raises(InputError, match=r"LC_N36E135.tif"):
        build(tmp_path / "set", **options | {"lulc_root": tmp_path / "lulc"})


def test_an_interrupted_build_leaves_the_old_one(tmp_path, options, monkeypatch):
    before = build(tmp_path / "set", **options)
    calls, real = [], module._coarser

    def fails_later(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(module, "_coarser", fails_later)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "set", **options | {"seed": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert json.loads((tmp_path / "set/dataset.json").read_text()) == before


def _bytes(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_any_executor_writes_the_same_bytes(tmp_path, options, monkeypatch):
    monkeypatch.setattr(module, "PART", 1)  # a part for each scene
    build(tmp_path / "alone", **options, workers=1)
    build(tmp_path / "pool", **options, workers=2)
    with ThreadPoolExecutor(3) as threads:
        build(tmp_path / "threads", **options, executor=threads)
    assert _bytes(tmp_path / "alone") == _bytes(tmp_path / "pool") == _bytes(tmp_path / "threads")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "pool", "threads"]


def test_no_worker_waits_for_the_last_part(tmp_path, options, monkeypatch):
    monkeypatch.setattr(module, "PART", 1)
    whole, joined, read, fill = build(tmp_path / "whole", **options), threading.Event(), module._coarser, store.fill
    last = archive.scan(options["archive_root"])[-1].id

    def reads(scene, *args):
        assert scene.id != last or joined.wait(20), "the others are put in their places meanwhile"
        return read(scene, *args)

    monkeypatch.setattr(module, "_coarser", reads)
    monkeypatch.setattr(store, "fill", lambda *args: joined.set() or fill(*args))
    with ThreadPoolExecutor(2) as threads:
        assert build(tmp_path / "set", **options, executor=threads) == whole


def test_an_error_of_any_part_is_said_at_once(tmp_path, options, monkeypatch):
    monkeypatch.setattr(module, "PART", 1)
    first, second, *others = (scene.id for scene in archive.scan(options["archive_root"]))
    failed, read, made = threading.Event(), module._coarser, []

    def reads(scene, *args):
        if scene.id == second:
            failed.set()
            raise InputError("it is broken")
        assert failed.wait(20)
        time.sleep(1 if scene.id == first else 0.3)
        made.append(scene.id)
        return read(scene, *args)

    monkeypatch.setattr(module, "_coarser", reads)
    with ThreadPoolExecutor(2) as threads:
        with pytest.raises(InputError, match="it is broken"):
            build(tmp_path / "set", **options, executor=threads)
        assert first in made, "what had begun has ended, and writes nothing where the next build does"
    assert len(made) <= 1 + len(others) / 2, "those that had not begun are not made"


class Quick(ThreadPoolExecutor):
    """Is done with each call before anybody can ask."""

    def submit(self, fn, /, *args):
        future = super().submit(fn, *args)
        wait([future])
        return future


def test_a_part_that_failed_before_it_was_asked_for_is_not_called_damaged(tmp_path, options, monkeypatch):
    monkeypatch.setattr(module, "PART", 1)
    last, read = archive.scan(options["archive_root"])[-1].id, module._coarser

    def reads(scene, *args):
        if scene.id == last:
            raise InputError("it is broken")
        return read(scene, *args)

    monkeypatch.setattr(module, "_coarser", reads)
    with Quick(1) as executor, pytest.raises(InputError, match="it is broken"):
        build(tmp_path / "set", **options, executor=executor)
    assert len([*(tmp_path / ".set.parts").glob("*/windows.json")]) == 4


def test_the_height_of_what_is_judged_at_once_changes_nothing(tmp_path, options, monkeypatch):
    build(tmp_path / "whole", **options)
    monkeypatch.setattr(module, "IN_CACHE", 10 * 256)  # strips of 10 rows, which divide no window
    build(tmp_path / "set", **options)
    assert _bytes(tmp_path / "set") == _bytes(tmp_path / "whole")


def test_a_dask_cluster_of_two_processes_writes_the_same_bytes(tmp_path, options, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(module, "PART", 1)
    build(tmp_path / "alone", **options)
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with distributed.LocalCluster(**settings, silence_logs=50) as cluster, distributed.Client(cluster) as client:
        build(tmp_path / "dask", **options, executor=client.get_executor())
        shutil.copytree(options["archive_root"], tmp_path / "broken")
        path = next(tmp_path.glob("broken/ROIs1158_spring/s2_1/*.tif"))
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(InputError, match=rf"'{path}' cannot be read"):
            broken = options | {"archive_root": tmp_path / "broken"}
            build(tmp_path / "set", **broken, executor=client.get_executor())
    assert _bytes(tmp_path / "alone") == _bytes(tmp_path / "dask") and not (tmp_path / "set").exists()


class Remembering(ThreadPoolExecutor):
    """Takes equal calls for one, as a Dask cluster does."""

    def __init__(self, workers):
        super().__init__(workers)
        self.known = {}

    def submit(self, fn, /, *args):
        name = repr((fn, args))
        if name not in self.known:
            self.known[name] = super().submit(fn, *args)
        return self.known[name]


def test_a_second_build_is_not_taken_for_the_first(tmp_path, options):
    with Remembering(2) as executor:
        build(tmp_path / "set", **options, executor=executor)
        before = _bytes(tmp_path / "set")
        shutil.rmtree(tmp_path / "set")
        build(tmp_path / "set", **options, executor=executor)
    assert _bytes(tmp_path / "set") == before


def test_a_damaged_part_is_said_and_made_again(tmp_path, options, monkeypatch):
    whole, real = build(tmp_path / "whole", **options), store.fill
    monkeypatch.setattr(module.store, "fill", lambda *args: 1 / 0)
    for name in ("0_opt.npy", "0_sar.npy", "0_lulc.npy, gone", "windows.json", "windows.json, gone"):
        with pytest.raises(ZeroDivisionError):
            build(tmp_path / "set", **options)
        path = next((tmp_path / ".set.parts").glob(f"*/{name.split(',')[0]}"))
        if name.endswith("gone"):
            path.unlink()  # as it is where a build was killed while it removed its parts
        else:
            os.truncate(path, 0 if name == "0_sar.npy" else 200)
        with monkeypatch.context() as context:
            context.setattr(module.store, "fill", real)
            with pytest.raises(InputError, match=r"\.set\.parts' held parts .* damaged, and is removed: build again"):
                build(tmp_path / "set", **options)
        assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    monkeypatch.setattr(module.store, "fill", real)
    assert build(tmp_path / "set", **options) == whole


class Refusing(ThreadPoolExecutor):
    """Fails when it is asked to fill an array, as a cluster may that is lost."""

    def submit(self, fn, /, *args):
        if args[1] is store.fill:
            raise ValueError("no scheduler")
        return super().submit(fn, *args)


def test_what_is_not_damage_costs_no_finished_part(tmp_path, options, monkeypatch):
    monkeypatch.setattr(module, "PART", 1)
    whole = build(tmp_path / "whole", **options)
    with Refusing(5) as executor, pytest.raises(ValueError, match="no scheduler"):
        build(tmp_path / "set", **options, executor=executor)
    parts = [path for path in (tmp_path / ".set.parts").iterdir() if path.is_dir()]
    assert len(parts) == 5 and not (tmp_path / "set").exists()
    monkeypatch.setattr(module, "_coarser", None)  # reading a scene again would fail
    assert build(tmp_path / "set", **options, workers=2) == whole
    assert _bytes(tmp_path / "set") == _bytes(tmp_path / "whole")


def test_processes_say_of_a_damaged_part_and_of_a_full_disk(tmp_path, options, monkeypatch):
    monkeypatch.setattr(module, "PART", 1)
    with Refusing(2) as executor, pytest.raises(ValueError):
        build(tmp_path / "set", **options, executor=executor)
    part = next(path for path in (tmp_path / ".set.parts").iterdir() if path.is_dir())
    os.truncate(part / "0_opt.npy", 200)
    with pytest.raises(InputError, match=r"\.set\.parts' held parts .* damaged"):
        build(tmp_path / "set", **options, workers=2)
    assert not list(tmp_path.iterdir())
    with Refusing(2) as executor, pytest.raises(ValueError):
        build(tmp_path / "set", **options, executor=executor)
    for path in (tmp_path / ".set.parts").glob("*/0_sar.npy"):
        path.unlink()
        path.symlink_to("/dev/full/no")  # an error of the disk, in a worker
    with pytest.raises(InputError, match=r"dataset_root '.*set' cannot be written"):
        build(tmp_path / "set", **options, workers=2)
    assert (tmp_path / ".set.parts").is_dir()


def test_an_interrupted_build_goes_on_where_it_was(tmp_path, options, monkeypatch):
    monkeypatch.setattr(module, "PART", 1)
    whole = build(tmp_path / "whole", **options)
    calls, real = [], module._coarser

    def fails_at(number):
        def wrapped(*args):
            calls.append(args[0].id)
            if len(calls) == number:
                raise KeyboardInterrupt
            return real(*args)

        return wrapped

    monkeypatch.setattr(module, "_coarser", fails_at(4))
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()
    (tmp_path / ".set.99999.part/train").mkdir(parents=True)  # of a build that was killed
    (tmp_path / ".set.99999.old.part/train").mkdir(parents=True)  # and of one while it took the old one's place
    done, calls[:] = calls[:3], []
    monkeypatch.setattr(module, "_coarser", fails_at(99))
    assert build(tmp_path / "set", **options) == whole
    assert len(calls) == 2 and not set(calls) & set(done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "whole"]


def test_what_a_build_left_that_was_killed_at_its_very_end_is_removed_by_the_next(tmp_path, options, monkeypatch):
    whole = build(tmp_path / "set", **options)
    (tmp_path / ".set.99999.old.part/train").mkdir(parents=True)
    (tmp_path / ".set.parts/1234").mkdir(parents=True)
    (tmp_path / ".set.lock").touch()
    assert build(tmp_path / "set", **options) == whole and (tmp_path / ".set.parts/1234").is_dir(), "of another build"
    (tmp_path / ".set.parts" / module.ENDED).touch()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_written", None)  # nothing is built
        with module.alone(tmp_path / "set", "dataset_root"):  # another process is at it
            held = {path.name for path in tmp_path.iterdir()}
            assert build(tmp_path / "set", **options) == whole and {path.name for path in tmp_path.iterdir()} == held
        assert build(tmp_path / "set", **options) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_that_other_code_has_made_are_made_again(workers, tmp_path, options, monkeypatch):
    monkeypatch.setattr(module, "PART", 1)
    with monkeypatch.context() as context:
        context.setattr(module, "_code", lambda: "older")
        with ThreadPoolExecutor(workers) as executor, pytest.raises(ZeroDivisionError):
            context.setattr(module.store, "fill", lambda *_: 1 / 0)
            build(tmp_path / "set", **options, executor=executor if workers > 1 else None, workers=1)
    made, real = [], module._work
    monkeypatch.setattr(module, "_work", lambda *of: made.append(of[-1]) or real(*of))
    with monkeypatch.context() as context, pytest.raises(ZeroDivisionError):
        context.setattr(module.store, "fill", lambda *_: 1 / 0)
        build(tmp_path / "set", **options, workers=1)
    assert len(made) == 5  # all
    build(tmp_path / "set", **options, workers=1)
    assert len(made) == 5  # none


def test_parts_that_say_another_group_are_made_again(tmp_path, options, monkeypatch):
    """Which region a scene is in hangs on all others."""
    rng = np.random.default_rng(0)

    def write(name, east):
        for folder, kind, pixels in (("s1", np.float32, rng.normal(-12, 2, (2, 64, 64))), ("s2", np.uint16, None)):
            pixels = rng.integers(300, 1500, (3, 64, 64)) if pixels is None else pixels
            tif(tmp_path / folder / f"{name}.tif", pixels.astype(kind), (400_000 + east, 4_000_000))

    for number in range(6):
        write(f"p{number}", 20_000 * number)
    given = {"source": "folder", "sar_dir": tmp_path / "s1", "opt_dir": tmp_path / "s2", "patch_size": 32}
    given |= {"split_file": tmp_path / "split.csv"}
    splits = dict(zip((f"p{number}" for number in range(6)), ["train"] * 4 + ["validation", "test"], strict=True))
    (tmp_path / "split.csv").write_text("id,split\na,train\n" + "".join(f"{k},{v}\n" for k, v in splits.items()))
    monkeypatch.setattr(module, "PART", 1)
    calls, real = [], module._work

    def stops(*args):
        calls.append(args)
        if len(calls) == 7:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(module, "_work", stops)
    write("a", 100_000 + 60_000)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "set", **given)
    write("a", 60_000 + 700)  # beside p3
    resumed = build(tmp_path / "set", **given)
    index = pd.read_csv(tmp_path / "set/train/index.csv")
    assert set(index["group"][index["scene"].isin(["a", "p3"])]) == {"a"}
    assert build(tmp_path / "fresh", **given)["fingerprint"] == resumed["fingerprint"]


def test_parameters_may_be_numpys(tmp_path, options):
    whole = build(tmp_path / "set", **options)
    given = options | {"seed": np.int64(0), "buffer_m": np.float32(2000), "patch_size": np.int64(options["patch_size"])}
    given |= {"shares": np.array([0.75, 0.14, 0.11])}
    assert build(tmp_path / "numpy", **given) == whole


def test_workers_end_with_a_builder_that_is_killed(tmp_path, options):
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()} | {"stride": 8}
    script = tmp_path / "script.py"
    script.write_text(
        "from s2olib.data.build import build\n"
        f"if __name__ == '__main__':\n    build({str(tmp_path / 'set')!r}, **{plain!r}, workers=2)\n"
    )

    def family() -> list[str]:
        fields = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended
                fields.append(path.read_text().rpartition(")")[2].split())
        return [state for state, _, _, session, *_ in fields if int(session) == process.pid and state != "Z"]

    process = subprocess.Popen([sys.executable, script], start_new_session=True, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob(".set.parts/*/windows.json")):
        time.sleep(0.01)
    assert len(family()) >= 4, "it, the process that workers are forked from, and two of these"
    process.kill()
    process.wait()
    for _ in range(200):
        if not family():
            break
        time.sleep(0.1)
    assert not family()


def test_a_patch_on_180_degrees_has_the_area_of_any_other():
    (x,), (y,) = transform("EPSG:4326", "EPSG:32660", [180], [10])
    grid = Grid(CRS.from_epsg(32660), Affine(10, 0, x - 160, 0, -10, y + 160), 32, 32)
    windows = splits.Windows.within(["a"], [grid], 32, 32)
    windows.assign(np.array([0]), "train", 32)
    assert splits.unique_area(windows, "train") == pytest.approx(0.32**2, rel=0.01)
    assert splits.unique_area(windows, "test") is None


def test_what_other_builds_write_beside_is_left_alone(tmp_path):
    (tmp_path / ".set.2020.7.part.v1").mkdir()  # set.2020.v1's
    (tmp_path / ".set.7.part.v1").mkdir()
    with module._space_for(tmp_path / "set.v1"):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".set.2020.7.part.v1", ".set.v1.parts"]


def test_a_disk_that_is_full_at_the_end_costs_no_finished_part(tmp_path, options, monkeypatch):
    whole, real = build(tmp_path / "whole", **options), store.fill

    def fails(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.store, "fill", fails)
    with pytest.raises(InputError, match=r"dataset_root '.*set' cannot be written \(No space left on device\)"):
        build(tmp_path / "set", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".set.parts", "whole"]
    monkeypatch.setattr(module.store, "fill", real)
    monkeypatch.setattr(module, "_coarser", None)  # reading a scene again would fail
    assert build(tmp_path / "set", **options) == whole
    assert _bytes(tmp_path / "set") == _bytes(tmp_path / "whole")


@pytest.fixture
def pairs(tmp_path):
    """Writes GeoTIFF pairs so many units of the CRS east of `ORIGIN`, or degrees of 136° E, and says where they are."""
    rng = np.random.default_rng(1)

    def write(east: dict[str, float], crs: str = "EPSG:32653", pixel: float = 10, size: int = 32) -> dict:
        origin = (136, 36) if crs == "EPSG:4326" else ORIGIN
        for name, x in east.items():
            place = {"corner": (origin[0] + x, origin[1]), "crs": crs, "pixel": pixel}
            sar = rng.normal([[[-12]], [[-19]]], 3, (2, size, size)).clip(-30, -1)
            tif(tmp_path / f"s1/{name}.tif", sar.astype(np.float32), **place)
            tif(tmp_path / f"s2/{name}.tif", rng.integers(300, 2500, (3, size, size), np.uint16), **place)
        return {"source": "folder", "sar_dir": tmp_path / "s1", "opt_dir": tmp_path / "s2", "patch_size": 32}

    return write


def _large(tmp_path, case):
    """Options for one pair of images of 400 x 420 pixels, split by patch: columns to the west are training."""
    rng, folders = np.random.default_rng(2), {"sar_dir": tmp_path / "s1", "opt_dir": tmp_path / "s2"}
    options = {"source": "folder", **folders, "patch_size": 32, "buffer_m": 0}
    if case == "8 bits":
        options |= {"sar_units": "8-bit", "opt_units": "8-bit", "max_nodata": 0.9, "max_cloud": 1}
        sar, opt = rng.integers(0, 256, (400, 420), np.uint8), rng.integers(20, 180, (400, 420, 3), np.uint8)
        opt[160:200, 60:140] = 255  # a wedge, of which less than a wedge is high lies below row 192
        codes = rng.integers(1, 13, (400, 420), np.uint8)
        for name, image in (("s1", sar), ("s2", opt), ("lulc", codes)):
            (tmp_path / name).mkdir()
            Image.fromarray(image).save(tmp_path / name / "a.png")
    else:
        noise = rng.normal([[[-12]], [[-19]]], 9, (2, 400, 420))
        sar, place = ndimage.gaussian_filter(noise, (0, 2, 2)).astype(np.float32), {"corner": ORIGIN}
        if case in ("another grid", "finer"):
            sar, options["sar_units"] = 10 ** (sar / 10), "linear"
            place = {"corner": (ORIGIN[0] - 13, ORIGIN[1] + 27), "pixel": 11}
        if case == "finer":  # over a part alone, so that GDAL would see another ratio in each part of that
            place["pixel"], options["max_nodata"] = 8, 0.9
        tif(tmp_path / "s1/a.tif", sar, **place)
        tif(tmp_path / "s2/a.tif", rng.integers(300, 2500, (3, 400, 420), np.uint16), ORIGIN)
        tif(tmp_path / "lulc/a.tif", rng.integers(1, 13, (1, 400, 420), np.uint8), ORIGIN)
        options["stride"] = 16
    options |= {"lulc_dir": tmp_path / "lulc", "legend": "hrlulc-v21.11"}
    factor = options["resolution_factor"] = 2 if case == "coarser" else 1
    stride, height, width = options.get("stride", 32), 400 // factor - 31, 420 // factor - 31
    west = 210 // factor // 32 * 32
    rows = [(row, column, "train") for row in range(0, height, stride) for column in range(0, west - 47, stride)]
    rows += [(row, west, "validation") for row in range(0, height, 32)]
    rows += [(row, column, "test") for row in range(0, height, 32) for column in range(west + 64, width, 32)]
    table = [(f"a_{row:04d}_{column:04d}", split) for row, column, split in rows]
    pd.DataFrame(table, columns=["id", "split"]).to_csv(tmp_path / "split.csv", index=False)
    return options | {"split_file": tmp_path / "split.csv"}


@pytest.mark.parametrize("case", ["archive", "own labels", "same grid", "another grid", "finer", "coarser", "8 bits"])
def test_a_large_scene_is_made_in_parts_as_it_would_be_whole(tmp_path, options, monkeypatch, case):
    if case == "own labels":
        labels = np.random.default_rng(3).integers(1, 17, (4, 256, 12_000), np.uint8)
        shutil.copytree(options["archive_root"], tmp_path / "archive")
        for path in (tmp_path / "archive").glob("*/s2_*/*.tif"):
            with rasterio.open(path) as file:
                corner = file.transform.c, file.transform.f
            left = round((corner[0] - KAGA[0]) / 10)
            tif(archive.partner(path, "lc"), labels[..., left : left + 256], corner)
        options |= {"archive_root": tmp_path / "archive", "lulc_root": None, "legend": "igbp"}
    elif case != "archive":
        options = _large(tmp_path, case)
    read, whole = [], build(tmp_path / "whole", **options, workers=1)
    monkeypatch.setattr(module, "AT_ONCE", 420 * 100)
    monkeypatch.setattr(module, "_coarser", lambda *args, real=module._coarser: read.append(real(*args)) or read[-1])
    assert build(tmp_path / "parts", **options, workers=1) == whole
    assert _bytes(tmp_path / "parts") == _bytes(tmp_path / "whole")
    heights = [opt.shape[1] * options.get("resolution_factor", 1) for _, opt, _ in read]
    assert len(heights) > 3 and max(heights) <= 130


@pytest.mark.parametrize(
    ("crs", "pixel", "metres"),
    [("EPSG:32653", 10, 10), ("EPSG:32653", 3.3, 3.3), ("EPSG:2263", 30, 30 * 0.3048006), ("EPSG:4326", 1e-4, 11.05)],
)
def test_blocks_are_cut_where_any_image_is(crs, pixel, metres):
    whole = Grid(CRS.from_string(crs), Affine(pixel, 0, 1234 * pixel, 0, -pixel, 5678 * pixel), 700, 900)
    part = whole.part(111, 222, 500, 600)
    found, again = (dict(rasters.blocks(grid, 100 * metres)) for grid in (whole, part))
    seen = np.zeros((700, 900), int)
    for grid in found.values():
        row, column = whole.position_of(grid)
        seen[row : row + grid.height, column : column + grid.width] += 1
    assert seen.max() == 1 and (seen == 0).mean() < (0.03 if pixel in (3.3, 30) else 1e-9)  # cuts go through pixels
    assert set(again) < set(found)
    for name, grid in again.items():
        assert found[name].position_of(grid) and max(grid.height, grid.width) <= 100
    inner = [name for name, grid in again.items() if min(grid.height, grid.width) >= 98]
    assert len(inner) > 10
    for name in inner:
        assert whole.position_of(again[name]) == whole.position_of(found[name])
        assert (again[name].height, again[name].width) == (found[name].height, found[name].width)


def test_one_large_pair_is_split_by_blocks(tmp_path):
    """Of two images of one place a block's ground stays in one split, and where there is no radar nothing is kept."""
    options = _large(tmp_path, "same grid") | {"block_m": 640, "buffer_m": 150, "split_file": None}
    for name in ("s1", "s2", "lulc"):
        shutil.copy(tmp_path / name / "a.tif", tmp_path / name / "b.tif")
    with rasterio.open(tmp_path / "s1/a.tif") as file:
        sar = file.read()
    tif(tmp_path / "s1/a.tif", sar[..., 200:], (ORIGIN[0] + 2000, ORIGIN[1]))
    info = build(tmp_path / "set", **options)
    table = pd.concat([read(tmp_path / "set", split)[0].assign(split=split) for split in SPLITS])
    table["block"] = table["scene"].str[2:]
    assert (table.groupby("block")["split"].nunique() == 1).all()
    first = table[table["scene"].str.startswith("a")]
    assert len(first) and first["transform"].str.split().str[2].astype(float).min() >= ORIGIN[0] + 2000
    windows = splits.check_separation(tmp_path / "set")
    boxes = [windows.boxes(np.flatnonzero(windows.split == split), True) for split in range(3)]
    for a, b in combinations(boxes, 2):
        assert splits._gaps(a, b, 1).min() > 150
    assert "blocks of the same images" in datasheet(tmp_path / "set") and info["counts"]["train"] > 50
    with rasterio.open(tmp_path / "s2/a.tif") as file:
        opt = file.read()
    for split in SPLITS:
        index, stored = read(tmp_path / "set", split)
        for place, patch in zip(index["transform"], stored["opt"], strict=True):
            x, y = (round(float(place.split()[i]) - ORIGIN[i // 3]) for i in (2, 5))
            np.testing.assert_array_equal(patch, opt[:, -y // 10 : -y // 10 + 32, x // 10 : x // 10 + 32])


def test_blocks_of_images_in_two_crs_are_regions(tmp_path):
    options = _large(tmp_path, "same grid") | {"block_m": 640, "buffer_m": 0, "split_file": None}
    for name, size in (("s1", 2), ("s2", 3), ("lulc", 1)):
        with rasterio.open(tmp_path / name / "a.tif") as file:
            tif(tmp_path / name / "b.tif", file.read(), (ORIGIN[0] - 3e5, ORIGIN[1]), crs="EPSG:32654")
            tif(tmp_path / name / "c.tif", file.read(), (ORIGIN[0] + 0.005, ORIGIN[1]))  # half a centimetre
        assert file.count == size
    build(tmp_path / "set", **options)
    table = pd.concat([read(tmp_path / "set", split)[0].assign(split=split) for split in SPLITS])
    table["block"] = table["scene"].str[2:] + "_" + table["crs"]
    assert table["group"].nunique() == table["block"].nunique() > 40
    assert (table.groupby("block")["split"].nunique() == 1).all()


def test_blocks_without_radar_count_for_nothing(tmp_path):
    """Else whole splits could be drawn of them."""
    options = _large(tmp_path, "same grid") | {"block_m": 640, "buffer_m": 0, "split_file": None}
    with rasterio.open(tmp_path / "s1/a.tif") as file:
        sar = file.read()
    tif(tmp_path / "s1/a.tif", sar[..., :130], ORIGIN)
    for seed in range(6):
        info = build(tmp_path / "set", **options, seed=seed)
        shares = np.array([info["counts"][split] for split in SPLITS]) / sum(info["counts"].values())
        assert np.abs(shares - [0.75, 0.14, 0.11]).max() < 0.2, seed


def test_blocks_that_cannot_be_are_refused(tmp_path, images):
    for change, says in (
        ({"split_file": "split.csv"}, "block_m splits pairs of your own .* give one of the three"),
        ({"group_column": "event"}, "block_m splits pairs of your own .* give one of the three"),
        ({}, r"'.*png' has no geography, and block_m cannot cut it"),
        ({"block_m": -1}, "block_m must be metres of at least 0, not -1"),
    ):
        with pytest.raises(InputError, match=says):
            build(tmp_path / "set", **images | {"block_m": 1000} | change)
    with pytest.raises(InputError, match="block_m 100 is less than 16 pixels"):
        list(rasters.blocks(Grid(CRS.from_epsg(32653), Affine(10, 0, 0, 0, -10, 0), 50, 50), 100))


def test_groups_of_scenes_with_geography_are_not_cut(tmp_path, pairs):
    options = pairs({f"{i}": i * FAR for i in range(9)})
    table = pd.DataFrame({"id": [f"{i}" for i in range(9)], "event": ["one", "two", "three"] * 3})
    table.to_csv(tmp_path / "pairs.csv", index=False)
    build(tmp_path / "set", **options, pairs_csv=tmp_path / "pairs.csv", group_column="event")
    groups = [set(read(tmp_path / "set", split)[0]["group"]) for split in SPLITS]
    assert sorted(map(len, groups)) == [1, 1, 1] and len(set.union(*groups)) == 3


def test_scenes_without_a_group_get_their_regions(tmp_path, pairs):
    given = pairs({f"{i}": i // 2 * FAR + i % 2 * 1000 for i in range(8)})
    build(tmp_path / "set", **given)
    index = pd.concat(read(tmp_path / "set", split)[0] for split in SPLITS)
    assert dict(zip(index["id"], index["group"], strict=True)) == {f"{i}": f"{i // 2 * 2}" for i in range(8)}
    given["pairs_csv"] = tmp_path / "list.csv"
    given["pairs_csv"].write_text("id,place\n0,Kaga\n" + "".join(f"{i},\n" for i in range(1, 8)))
    build(tmp_path / "set", **given, group_column="place")
    index = pd.concat(read(tmp_path / "set", split)[0] for split in SPLITS)
    groups = dict(zip(index["id"], index["group"], strict=True))
    assert groups["0"] == groups["1"] == "Kaga" and groups["2"] == groups["3"] == "2"
    given["pairs_csv"].write_text("id,place\n1,Kaga\n" + "".join(f"{i},\n" for i in range(8) if i != 1))
    build(tmp_path / "set", **given, group_column="place")
    index = pd.concat(read(tmp_path / "set", split)[0] for split in SPLITS)
    assert groups == dict(zip(index["id"], index["group"], strict=True))  # whichever of them comes first


def test_feet_are_no_metres(tmp_path, pairs):
    foot = 0.3048006096  # EPSG:2263's
    options = pairs({"a": 0, "b": 1500 / foot, "c": 1e6, "d": 2e6}, "EPSG:2263", 10 / foot)
    split = pd.DataFrame({"id": ["a", "b", "c", "d"], "split": ["test", "train", "train", "validation"]})
    split.to_csv(tmp_path / "split.csv", index=False)
    info = build(tmp_path / "set", **options, split_file=tmp_path / "split.csv", buffer_m=2000)
    assert info["pixel_size_m"] == 10
    assert [(r["id"], r["reason"]) for r in info["refused"]] == [("b", "guard gap")]
    assert info["refused"][0]["value"] == pytest.approx(1500 - 320, abs=1)
    assert read(tmp_path / "set", "refused")[0]["id"].tolist() == ["b"], "to be looked at, though nothing of b is used"


@pytest.mark.parametrize(("crs", "pixel"), [("EPSG:2263", 10 / 0.3048006096), ("EPSG:4326", 1e-4)])
def test_overlap_is_told_from_rounding_in_any_unit(tmp_path, pairs, crs, pixel):
    places = {"test": 0.0, "validation": 3000 * pixel}
    for name, apart in (("near", 31.8), ("over", 30.8)):  # of 32 pixels: what shares 0.2 is rounding, 1.2 are shared
        options = pairs(places | {name: apart * pixel}, crs, pixel)
        split = pd.DataFrame({"id": [*places, name], "split": [*places, "train"]})
        split.to_csv(tmp_path / "split.csv", index=False)
        says = "no patch is left for train" if name == "near" else "train patch 'over.*' overlaps test patch"
        with pytest.raises(InputError, match=says):
            build(tmp_path / "set", **options, split_file=tmp_path / "split.csv")
        for folder in ("s1", "s2"):
            (tmp_path / folder / f"{name}.tif").unlink()


def test_a_data_set_that_lost_an_array_is_made_again(tmp_path, pairs):
    options = pairs({f"{i}": i * FAR for i in range(6)})
    info = build(tmp_path / "set", **options, test_places=None)
    for name in ("test/sar.npy", "validation/index.csv", "refused/index.csv"):
        (tmp_path / "set" / name).unlink()
        assert build(tmp_path / "set", **options, test_places=None) == info and (tmp_path / "set" / name).is_file()
    array, index = (tmp_path / "set/train" / name for name in ("sar.npy", "index.csv"))
    for path, left in ((array, 1000), (index, 300), (index, index.stat().st_size - 30)):  # as an interrupted copy
        whole = path.read_bytes()
        os.truncate(path, left)
        assert build(tmp_path / "set", **options, test_places=None) == info and path.read_bytes() == whole
    lines = whole.splitlines(keepends=True)
    for content in (b"\0" * 200_000, b"".join([lines[0], *reversed(lines[1:])])):  # after a power cut; by a spreadsheet
        index.write_bytes(content)
        assert build(tmp_path / "set", **options, test_places=None) == info and index.read_bytes() == whole
    np.save(array, (pixels := np.load(array))[:, :1])
    assert build(tmp_path / "set", **options, test_places=None) == info
    np.testing.assert_array_equal(np.load(array), pixels)
    with pytest.raises(InputError, match=r"dataset_root '.*nowhere' holds no whole data set"):
        check_separation(tmp_path / "nowhere")


def test_patches_of_one_name_and_scenes_without_any_are_refused(tmp_path, pairs):
    options = pairs({"a": 0, "a_0000_0032": FAR, "b": 2 * FAR}, size=40)
    tif(tmp_path / "s1/a.tif", np.full((2, 40, 80), -9.5, "f4"))
    tif(tmp_path / "s2/a.tif", np.full((3, 40, 80), 999, "u2"))
    with pytest.raises(InputError, match="two patches would be called 'a_0000_0032'"):
        build(tmp_path / "set", **options)
    with pytest.raises(InputError, match="no scene holds a patch of 64 pixels, the largest one of 40"):
        build(tmp_path / "set", **options | {"patch_size": 64})


def test_windows_that_no_tile_covers_are_never_read(tmp_path, world, options):
    codes, west, north = world[2]
    east = lonlat(KAGA[0] + 4 * FAR + 1500, KAGA[1])[0]  # the map ends within the first half of the last scene
    tif(
        tmp_path / "lulc/west.tif",
        codes[None, :, : int((east - west) / STEP)],
        (west, north),
        crs="EPSG:4326",
        pixel=STEP,
    )
    info = build(tmp_path / "set", **options | {"lulc_root": tmp_path / "lulc"})
    outside = [r["id"] for r in info["refused"] if r["value"] == "no tile"]
    assert outside and all(
        name.startswith("ROIs1158_spring_5_") and name.endswith(("0256", "0192")) for name in outside
    )


def test_border_noise_haze_and_what_only_looks_like_them(tmp_path):
    rng = np.random.default_rng(2)
    looks = rng.gamma(4.4, 1 / 4.4, (2, 64, 64))
    sar = (np.array([-12, -19])[:, None, None] + 10 * np.log10(looks)).astype(np.float32)
    opt = rng.integers(300, 2600, (3, 64, 64)).astype(np.uint16)
    names = ("a", "b", "c", "border", "grainy", "calm", "still", "haze", "desert", "salt", "half")
    cases = {name: (sar.copy(), opt.copy()) for name in names}
    cases["border"][0][:, :, :6] -= 38
    cases["calm"][0][:] -= np.array([15, 12])[:, None, None]  # a calm lake: dark, but an echo
    cases["still"][0][:] -= np.array([21, 21])[:, None, None]  # which VH no longer hears, but VV
    cases["grainy"][0][:, :, :7] = -34.9  # noise of which but a sixth is below the limit, and yet the mean
    cases["grainy"][0][:, ::6, :7] = -60
    cases["haze"][1][:] = rng.integers(1700, 1900, (3, 64, 64))
    cases["half"][0][:, :20], cases["half"][1][:, :20] = np.nan, 1800  # veiled where there is no radar, dark below
    cases["half"][1][:, 20:40], cases["half"][1][:, 40:] = 900, 1800
    cases["desert"][1][:] = np.array([3200, 2500, 1700])[:, None, None]  # bright, but red
    cases["salt"][1][:], cases["salt"][1][:, :, :20] = cases["desert"][1], 1800  # nearly a third is grey
    for i, (name, arrays) in enumerate(cases.items()):
        for folder, pixels in zip(("s1", "s2"), arrays, strict=True):
            tif(tmp_path / folder / f"{name}.tif", pixels, (ORIGIN[0] + i * 10_000, ORIGIN[1]))
    split = {"a": "validation", "b": "test"}
    table = pd.DataFrame({"id": list(cases), "split": [split.get(name, "train") for name in cases]})
    table.to_csv(tmp_path / "split.csv", index=False)
    folders = {"sar_dir": tmp_path / "s1", "opt_dir": tmp_path / "s2", "split_file": tmp_path / "split.csv"}
    info = build(tmp_path / "set", source="folder", **folders, patch_size=64)
    refused = {"border": "border noise", "grainy": "border noise", "haze": "haze", "half": "no data"}
    assert {r["id"]: r["reason"] for r in info["refused"]} == refused
    loose = build(tmp_path / "loose", source="folder", **folders, patch_size=64, max_nodata=0.4)
    assert {r["id"] for r in loose["refused"]} == {"haze"}, "what has no radar does not count as veiled"
    bright = build(tmp_path / "bright", source="folder", **folders, patch_size=64, haze_brightness=0.2)
    assert {r["id"] for r in bright["refused"]} == {*refused} - {"haze"}
    examples = Triplets(tmp_path / "set", "refused")  # to be looked at
    (haze,) = [item for item, name in zip(examples, examples.index["id"], strict=True) if name == "haze"]
    np.testing.assert_allclose(haze["opt"], np.clip(cases["haze"][1] / 1500 - 1, -1, 1), atol=1e-6)


def test_test_patches_of_different_files_share_no_ground(tmp_path):
    rng = np.random.default_rng(0)
    for name, east in (("p1", 0), ("p2", 320), ("p3", 639.999999), ("far", 50_000), ("farther", 90_000)):
        corner = (ORIGIN[0] + east, ORIGIN[1])
        tif(tmp_path / f"s1/{name}.tif", rng.integers(1, 255, (1, 64, 64), np.uint8), corner)
        tif(tmp_path / f"s2/{name}.tif", rng.integers(1, 180, (3, 64, 64), np.uint8), corner)
    split = {"p1": "test", "p2": "test", "p3": "test", "far": "train", "farther": "validation"}
    pd.DataFrame(split.items(), columns=["id", "split"]).to_csv(tmp_path / "split.csv", index=False)
    folders = {"sar_dir": tmp_path / "s1", "opt_dir": tmp_path / "s2", "split_file": tmp_path / "split.csv"}
    given = {"source": "folder", **folders, "sar_units": "8-bit", "opt_units": "8-bit", "patch_size": 64}
    info = build(tmp_path / "set", **given)
    assert info["counts"]["test"] == 2
    assert info["refused"] == [{"id": "p2", "reason": "ground seen in test", "value": "p1"}]
    assert Triplets(tmp_path / "set", "refused").index["id"].tolist() == ["p2"], "to be looked at"


def test_own_legend_goes_with_the_data(tmp_path, options, monkeypatch):
    """Another machine has dataset.json, but not the legend's file."""
    (tmp_path / "own.yml").write_text(
        "product: own\nnames: {" + ", ".join(f"{i}: class {i}" for i in range(1, 13)) + "}\nmerges: {two: {low: "
        "[1, 2, 3, 4, 5, 6], high: [7, 8, 9, 10, 11, 12]}}\ncolours: {"
        + ", ".join(f"{i}: '#0000{i:02}'" for i in range(1, 13))
        + "}\n"
    )
    given = options | {"legend": str(tmp_path / "own.yml"), "merge": "two"}
    build(tmp_path / "set", **given)
    legend = (tmp_path / "own.yml").read_text()
    (tmp_path / "own.yml").unlink()
    data = Triplets(tmp_path / "set", "test")
    codes = np.load(tmp_path / "set/test/lulc.npy")[0]
    assert data.categories == ["low", "high"]
    np.testing.assert_array_equal(data[0]["lulc"], codes > 6)
    (tmp_path / "own.yml").write_text(
        legend.replace("[1, 2, 3, 4, 5, 6], high: [7, 8, 9,", "[1, 2], dry: [3, 4, 5, 9,")
    )
    assert build(tmp_path / "set", **given)["lulc"]["categories"] == ["low", "dry"], "the legend is a part of the input"
    changed = (tmp_path / "own.yml").read_text()
    with monkeypatch.context() as context, pytest.raises(ZeroDivisionError):
        context.setattr(module.store, "fill", lambda *_: 1 / 0)
        (tmp_path / "own.yml").write_text(legend)
        build(tmp_path / "stopped", **given)
    (tmp_path / "own.yml").write_text(changed)
    build(tmp_path / "stopped", **given)
    assert read(tmp_path / "stopped", "test")[0].equals(read(tmp_path / "set", "test")[0]), "and of finished parts"


def test_geotiffs_hold_the_patches_and_the_legends_colours(tmp_path, options):
    info = build(tmp_path / "set", **options)
    written = export_geotiffs(tmp_path / "set", tmp_path / "tif")
    assert len(written) == 3 * sum(info["counts"].values())
    index, stored = read(tmp_path / "set", "validation")
    name = tmp_path / "tif/validation" / index.loc[1, "id"]
    with rasterio.open(f"{name}_sar.tif") as file:
        np.testing.assert_array_equal(file.read(), stored["sar"][1].astype(np.float32))
        assert file.descriptions == ("VV", "VH") and file.units == ("dB", "dB") and np.isnan(file.nodata)
        assert file.scales == (1.0, 1.0)
        assert file.crs.to_string() == index.loc[1, "crs"]
        assert [*file.transform[:6]] == [float(x) for x in index.loc[1, "transform"].split()]
    with rasterio.open(f"{name}_opt.tif") as file:
        np.testing.assert_array_equal(file.read(), stored["opt"][1])
        assert (
            file.units == ("reflectance",) * 3
            and file.scales == (0.0001,) * 3
            and [c.name for c in file.colorinterp] == ["red", "green", "blue"]
        )
    with rasterio.open(f"{name}_lulc.tif") as file:
        np.testing.assert_array_equal(file.read(1), stored["lulc"][1])
        assert file.colormap(1)[9] == (0x00, 0x58, 0x3F, 255)  # evergreen needle-leaf forest
        assert file.descriptions == ("JAXA HRLULC Japan v21.11",)
    names = ElementTree.parse(f"{name}_lulc.tif.aux.xml").findall(".//Category")
    assert names[9].text == "evergreen needle-leaf forest"
    style = ElementTree.parse(f"{name}_lulc.qml").find("pipe/rasterrenderer")
    entries = {int(entry.get("value")): entry.attrib for entry in style.findall("colorPalette/paletteEntry")}
    assert style.attrib == {"type": "paletted", "band": "1"} and [*entries] == [*range(1, 13)], "classes alone"
    assert entries[9]["label"] == names[9].text and entries[9]["color"].upper() == "#00583F"
    for broken in ("[]", "{}", "{"):
        (tmp_path / "tif/export.json").write_text(broken)
        assert export_geotiffs(tmp_path / "set", tmp_path / "tif") == written
    written[0].write_bytes(b"kept")
    written[1].unlink()
    export_geotiffs(tmp_path / "set", tmp_path / "tif")
    assert written[0].read_bytes() == b"kept" and written[1].is_file()


def test_patches_without_geography_become_no_geotiffs(tmp_path, images, describe):
    build(tmp_path / "set", **images, group_column="event")
    for placed in (0, 1):  # of four in each split
        for path in (tmp_path / "set").glob("*/index.csv"):
            index = pd.read_csv(path, dtype=str)
            index.assign(crs=["EPSG:32653"] * placed + [""] * (len(index) - placed)).to_csv(path, index=False)
        describe(tmp_path / "set")
        with pytest.raises(InputError, match="has patches without geography: they cannot become GeoTIFFs"):
            export_geotiffs(tmp_path / "set", tmp_path / "tif")
        assert not (tmp_path / "tif").exists()


def test_sen12ms_own_labels_are_on_the_same_windows_as_a_maps(tmp_path, world, options):
    shutil.copytree(world[0] / "archive", tmp_path / "archive")
    for path in (tmp_path / "archive").glob("*/s2_*/*.tif"):
        with rasterio.open(path) as file:
            corner = file.transform.c, file.transform.f
        target = archive.partner(path, "lc")
        tif(target, np.full((4, 256, 256), 11, np.uint8), corner)
    codes, west, north = world[2]
    part = codes[None, :, : int((lonlat(KAGA[0] + 3.5 * FAR, KAGA[1])[0] - west) / STEP)]
    tif(tmp_path / "lulc/west.tif", part, (west, north), crs="EPSG:4326", pixel=STEP)
    given = options | {"archive_root": tmp_path / "archive", "lulc_root": tmp_path / "lulc"}
    of_map = build(tmp_path / "map", **given)
    own = build(tmp_path / "own", **given | {"legend": "igbp"})
    assert own["counts"] == of_map["counts"] and own["refused"] == of_map["refused"]
    for split in SPLITS:
        assert (read(tmp_path / "own", split)[1]["lulc"] == 11).all()
        assert read(tmp_path / "own", split)[0]["id"].equals(read(tmp_path / "map", split)[0]["id"])


def test_a_place_without_test_windows_is_said(tmp_path, options):
    far = (10.0, 50.0)
    info = build(tmp_path / "set", **options | {"test_places": (*options["test_places"], far)})
    assert info["tested_places"] == [True, False]


def test_a_place_whose_test_windows_are_all_refused_is_not_tested(tmp_path, pairs):
    given = pairs({"a": 0, "b": FAR, "c": 2 * FAR, "cloudy": 3 * FAR})
    tif(tmp_path / "s2/cloudy.tif", np.full((3, 32, 32), 6000, np.uint16), (ORIGIN[0] + 3 * FAR, ORIGIN[1]))
    (tmp_path / "split.csv").write_text("id,split\na,train\nb,validation\nc,test\ncloudy,test\n")
    places = np.array([lonlat(ORIGIN[0] + east + 160, ORIGIN[1] - 160) for east in (2 * FAR, 3 * FAR)])
    info = build(tmp_path / "set", **given, split_file=tmp_path / "split.csv", test_places=places, buffer_m=500)
    assert [(r["id"], r["reason"]) for r in info["refused"]] == [("cloudy", "cloud")]
    assert info["tested_places"] == [True, False]


def test_refused_windows_are_those_that_a_split_would_take(tmp_path, pairs):
    given = pairs({"a": 0, "b": FAR, "c": 2 * FAR, "d": 3 * FAR}, size=80) | {"stride": 24}
    (tmp_path / "split.csv").write_text("id,split\na,train\nb,validation\nc,test\nd,guard\n")
    info = build(tmp_path / "set", **given, split_file=tmp_path / "split.csv")
    assert info["counts"] == {"train": 9, "validation": 4, "test": 4}
    assert len([r for r in info["refused"] if r["reason"] == "guard gap"]) == 9  # those of d, as training takes them


def test_windows_refused_for_others_near_are_there_to_be_looked_at_but_what_is_not_used_is_not_read(tmp_path, pairs):
    given = pairs({"a": 0, "b": FAR, "c": 2 * FAR, "broken": 3 * FAR}, size=160)
    for kind in ("s1", "s2"):
        path = tmp_path / kind / "broken.tif"
        path.write_bytes(path.read_bytes()[:-2000])
    rows = ["a,train", "a_0128_0128,test", "a_0000_0000,guard", "b,validation", "c,train", "broken,guard"]
    rows += [f"a_{row:04d}_{column:04d},guard" for row, column in ((96, 96), (96, 128), (128, 96))]
    (tmp_path / "split.csv").write_text("\n".join(["id,split", *rows]) + "\n")
    info = build(tmp_path / "set", **given, split_file=tmp_path / "split.csv", buffer_m=500)
    reasons = {refusal["id"]: refusal for refusal in info["refused"]}
    assert len(reasons) == len(info["refused"]) > 25 + 4 + module.EXAMPLES
    index, stored = read(tmp_path / "set", "refused")
    assert len(index) == module.EXAMPLES and all(reasons[name]["value"] > 0 for name in index["id"])
    with rasterio.open(tmp_path / "s2/a.tif") as file:
        opt = file.read()
    for pixels, row, column in zip(stored["opt"], index["row"], index["col"], strict=True):
        np.testing.assert_array_equal(pixels, opt[:, row : row + 32, column : column + 32])


def test_a_window_outside_the_map_says_so_though_a_split_file_leaves_it_out(tmp_path, pairs):
    given = pairs({"a": 0, "b": FAR, "c": 2 * FAR, "d": 3 * FAR}, size=80)
    for name, east, width in (("a", 0, 80), ("b", FAR, 80), ("c", 2 * FAR, 80), ("d", 3 * FAR, 20)):
        codes = np.full((1, 80, width), 5, np.uint8)
        tif(tmp_path / f"map/{name}.tif", codes, (ORIGIN[0] + east, ORIGIN[1]))
    (tmp_path / "split.csv").write_text("id,split\na,train\nb,validation\nc,test\nd,guard\n")
    given |= {"lulc_root": tmp_path / "map", "legend": "hrlulc-v21.11"}
    refused = build(tmp_path / "set", **given, split_file=tmp_path / "split.csv")["refused"]
    assert {(r["reason"], r.get("value")) for r in refused} == {("guard gap", ""), ("outside the map", "no tile")}


def test_a_patch_that_shares_ground_and_is_dropped_drops_no_other(tmp_path, pairs):
    """S_10, the first by name, lies on S_2 and S_2 on S_3."""
    given = pairs({"S_2": 200, "S_3": 0, "S_10": 400, "a": FAR, "b": 2 * FAR})
    (tmp_path / "split.csv").write_text("id,split\nS_2,test\nS_3,test\nS_10,test\na,train\nb,validation\n")
    info = build(tmp_path / "set", **given, split_file=tmp_path / "split.csv")
    assert [(r["id"], r["value"]) for r in info["refused"]] == [("S_2", "S_10")]


def test_days_of_radar_and_optical_image_are_both_kept(tmp_path, pairs):
    given = pairs({f"{i}": i * FAR for i in range(6)})
    (tmp_path / "list.csv").write_text(
        "id,date,s1_date\n0,2020-05-05,2020-04-01\n" + "".join(f"{i},2020-05-05,\n" for i in range(1, 6))
    )
    info = build(tmp_path / "set", **given, test_places=None, pairs_csv=tmp_path / "list.csv")
    assert info["dates"] == ["2020-04-01", "2020-05-05"]
    assert {*pd.concat(read(tmp_path / "set", split)[0] for split in SPLITS)["date"]} == {"2020-05-05"}, "the optical"


def test_days_pixels_and_offsets_are_those_of_scenes_that_are_used(tmp_path, pairs):
    given = pairs({f"{i}": i * FAR for i in range(7)})
    for kind in ("s1", "s2"):
        path = tmp_path / kind / "6.tif"
        with rasterio.open(path) as file:
            pixels, corner = file.read(), (file.transform.c, file.transform.f)
        tif(path, pixels, corner, pixel=20)
    rows = [f"{i},{'1999-01-01,1000' if i == 6 else '2020-05-05,'}" for i in range(7)]
    (tmp_path / "list.csv").write_text("id,date,opt_offset\n" + "\n".join(rows))
    splits_of = {0: "test", 1: "validation", 6: "guard"}
    lines = [f"{i},{splits_of.get(i, 'train')}" for i in range(7)]
    (tmp_path / "split.csv").write_text("id,split\n" + "\n".join(lines))
    lists = {"pairs_csv": tmp_path / "list.csv", "split_file": tmp_path / "split.csv"}
    info = build(tmp_path / "set", **given, **lists)
    assert info["dates"] == ["2020-05-05", "2020-05-05"] and info["pixel_size_m"] == 10 and info["opt_offsets"] == [0]


def test_fine_pixels_are_not_rounded_away(tmp_path, pairs):
    info = build(tmp_path / "set", **pairs({f"{i}": i * FAR for i in range(6)}, pixel=0.25), test_places=None)
    assert info["pixel_size_m"] == 0.25
    info = build(tmp_path / "near", **pairs({f"{i}": i * FAR for i in range(6)}, pixel=9.9957), test_places=None)
    assert info["pixel_size_m"] == 10


@pytest.mark.parametrize("other", [(11, 11), (10, 20)])
def test_pixels_of_several_sizes_have_none(other):
    sizes = [(10, 10), (10, 10), (10, 10), other]
    grids = [Grid(CRS.from_epsg(32653), Affine(across, 0, 0, 0, -down, 0), 32, 32) for across, down in sizes]
    scenes = [Scene("a", grid, (), None, ("VV",)) for grid in grids]
    assert module._pixel_size(scenes[:3], None, 1) == 10
    assert module._pixel_size(scenes, None, 1) is None


def test_a_strange_file_in_a_data_set_is_named(tmp_path, options):
    build(tmp_path / "set", **options)
    (tmp_path / "set/README.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'README\.txt', which is no part of it"):
        build(tmp_path / "set", **options)
    assert (tmp_path / "set/README.txt").is_file()


def test_regions_are_found_in_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 200_000, (150, 2))
    grids = [Grid(rasterio.CRS.from_epsg(32653), Affine(10, 0, x, 0, -10, 4e6 + y), 64, 64) for x, y in corners]
    scenes = [Scene(str(i), g, "", None, ("VV",), group="one" if i % 50 == 0 else "") for i, g in enumerate(grids)]
    gaps = np.maximum(np.abs(corners[:, None] - corners) - 640, 0)  # (150, 150, 2), of boxes of 640 m
    near = np.hypot(gaps[..., 0], gaps[..., 1]) <= 8000
    near |= np.array([[a.group == b.group != "" for b in scenes] for a in scenes])
    expected = np.arange(150)
    for _ in range(150):
        expected = np.where(near, expected, 150).min(1)
    monkeypatch.setattr(splits, "CHUNK", 1000)
    np.testing.assert_array_equal(splits._regions(scenes, 8000), expected)
    assert 1 < len(set(expected)) < 150


def test_a_data_set_that_cannot_be_read_is_written_anew(tmp_path, options):
    info = build(tmp_path / "set", **options)
    (tmp_path / "set/dataset.json").write_text("{")
    assert build(tmp_path / "set", **options) == info


def test_geotiffs_that_cannot_be_written_are_said(tmp_path, options):
    build(tmp_path / "set", **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"geotiff_dir '.*file/below' cannot be written"):
        export_geotiffs(tmp_path / "set", tmp_path / "file/below")


def test_geotiffs_of_another_data_set_are_replaced(tmp_path, options):
    (tmp_path / "tif/train").mkdir(parents=True)
    (tmp_path / "tif/train/own.txt").write_text("kept")
    (tmp_path / "tif/train/.a_opt.29594.part.tif").write_text("begun by a process that was killed")
    for size in (64, 128):  # the names of the second are among those of the first
        build(tmp_path / "set", **options | {"patch_size": size})
        written = export_geotiffs(tmp_path / "set", tmp_path / "tif")
        if size == 64:
            styled = written[0].with_name(f"{written[0].stem.rpartition('_')[0]}_sar.qml")
            styled.write_text("a style of one's own")
    assert sorted((tmp_path / "tif").rglob("*.tif")) == sorted(written)
    for ending in ("*.aux.xml", "*_lulc.qml"):
        assert len([*(tmp_path / "tif").rglob(ending)]) == len(written) / 3
    assert styled.read_text() == "a style of one's own"
    assert (tmp_path / "tif/train/own.txt").is_file()
    index, stored = read(tmp_path / "set", "train")
    with rasterio.open(tmp_path / f"tif/train/{index.loc[0, 'id']}_opt.tif") as file:
        np.testing.assert_array_equal(file.read(), stored["opt"][0])


def test_geotiffs_of_bands_and_colours_that_are_called_otherwise_now_are_replaced(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        corner = (ORIGIN[0] + i * FAR, ORIGIN[1])
        tif(tmp_path / f"s1/{i}.tif", rng.normal([[[-8]], [[-15]]], 1, (2, 32, 32)).astype("f4"), corner)
        tif(tmp_path / f"s2/{i}.tif", rng.integers(300, 2500, (3, 32, 32), np.uint16), corner)
        tif(tmp_path / f"lulc/{i}.tif", np.ones((1, 32, 32), np.uint8), corner)
    given = {"source": "folder", "sar_dir": tmp_path / "s1", "opt_dir": tmp_path / "s2", "patch_size": 32}
    given |= {"lulc_dir": tmp_path / "lulc", "legend": tmp_path / "own.yml", "merge": "one", "test_places": None}
    others, infrared = ["HH", "HV"], ["B12", "B8", "B4"]
    for bands, colours, land in (
        (["VV", "VH"], list(rasters.RGB), "80"),
        (others, list(rasters.RGB), "80"),
        (others, infrared, "80"),
        (others, infrared, "ff"),
    ):
        text = f"product: own\nnames: {{1: <land>}}\nmerges: {{one: {{land: [1]}}}}\ncolours: {{1: '#00{land}00'}}\n"
        (tmp_path / "own.yml").write_text(text)
        info = build(tmp_path / "set", **given, sar_bands=bands, opt_bands=colours)
        export_geotiffs(tmp_path / "set", tmp_path / "tif")
        (path,) = (tmp_path / "tif/test").glob("*_sar.tif")
        with rasterio.open(path) as file, rasterio.open(str(path).replace("_sar", "_opt")) as opt:
            assert [*file.descriptions] == bands and [*opt.descriptions] == colours
    assert info["sar"]["limits"] == [[-25, 0], [-32, -5]], "across, an echo is weaker"
    with rasterio.open(str(path).replace("_sar", "_lulc")) as file:
        assert file.colormap(1)[1] == (0, 255, 0, 255)
        names = ElementTree.parse(f"{file.name}.aux.xml").findall(".//Category")
        assert [name.text for name in names] == [None, "<land>"]


def test_radar_of_bytes_has_no_colours_and_no_transparency_in_a_gis(tmp_path):
    rng, info = np.random.default_rng(0), {"synthetic": False}
    place = {"crs": CRS.from_epsg(32653), "transform": Affine(10, 0, 5e5, 0, -10, 4e6)}
    for bands in (["VV", "VH"], ["VV", "VH", "HH"], ["VV", "VH", "HH", "HV"]):
        info["sar"] = {"bands": bands, "units": "8-bit", "scale": 1.0}
        patch = rng.integers(0, 256, (len(bands), 16, 16), np.uint8)
        export._write(tmp_path / "a.tif", "sar", patch, place, info)
        with rasterio.open(tmp_path / "a.tif") as file:
            names = {colour.name for colour in file.colorinterp}
            assert names <= {"gray", "undefined"} and [*file.descriptions] == bands
            np.testing.assert_array_equal(file.read(), patch)


def test_the_datasheet_states_counts_places_and_reasons(tmp_path, options):
    info = build(tmp_path / "set", **options | {"lulc_epoch": "1999"})
    text = datasheet(tmp_path / "set")
    assert f"{sum(info['counts'].values())} patches of 128 x 128 px" in text and info["fingerprint"] in text
    assert "2017-03-01 to 2017-11-30" in text and "Land-cover map: 1999" in text and "JAXA" in text
    lon, lat = lonlat(*KAGA)
    west, south, east, north = map(float, text.split("| test | ")[1].split(" | ")[:4])
    assert west - 0.02 < lon < east + 0.02 and south - 0.05 < lat < north + 0.05


def test_a_datasheet_from_the_command_line_comes_with_a_map(tmp_path, dataset):
    call = [sys.executable, "-m", "s2olib.data.datasheet", str(dataset)]
    told = subprocess.run([*call, "--map", str(tmp_path / "map.png")], capture_output=True, text=True, check=True)
    assert told.stdout.startswith(datasheet(dataset)) and told.stdout.endswith(f"lie]({tmp_path / 'map.png'})\n")
    assert np.ptp(np.asarray(Image.open(tmp_path / "map.png"))) > 200
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == datasheet(dataset)


def test_the_datasheet_bounds_each_split(dataset):
    text = datasheet(dataset)
    for split in SPLITS:
        index = Triplets(dataset, split).index
        box = (index["lon"].min(), index["lat"].min(), index["lon"].max(), index["lat"].max())
        assert f"| {split} | {' | '.join(f'{degrees:.3f}' for degrees in box)} |" in text


def test_offsets_of_single_pairs_are_stated(tmp_path, pairs):
    options = pairs({f"{i}": i * FAR for i in range(6)})
    (tmp_path / "list.csv").write_text("id,opt_offset\n" + "".join(f"{i},{500 * (i == 2) or ''}\n" for i in range(6)))
    build(tmp_path / "set", **options, test_places=None, pairs_csv=tmp_path / "list.csv")
    assert "; 0 or 500 taken from the stored reflectance, for each pair as listed" in datasheet(tmp_path / "set")


def test_the_datasheet_counts_what_has_no_geography(tmp_path, pairs):
    given = pairs({name: i * FAR for i, name in enumerate("abcd")})
    for path in (tmp_path / "s1/d.tif", tmp_path / "s2/d.tif"):
        with rasterio.open(path) as file:
            pixels = file.read()
        tif(path, pixels, crs=None)
    (tmp_path / "split.csv").write_text("id,split\na,train\nb,validation\nc,test\nd,train\n")
    build(tmp_path / "set", **given, split_file=tmp_path / "split.csv")
    assert "1 of 4 patches have no geography. Groups: " in datasheet(tmp_path / "set")


def test_the_antimeridian_parts_no_neighbours(tmp_path, pairs):
    """a and b show the same ground, one as of zone 1 and one as of zone 60; c is elsewhere."""
    rng = np.random.default_rng(2)
    for name, crs, lon in (("a", "EPSG:32701", -179.999), ("b", "EPSG:32760", 179.999), ("c", "EPSG:32654", 141.0)):
        (x,), (y,) = transform("EPSG:4326", crs, [lon], [-17.0 if name != "c" else 36.0])
        sar = rng.normal([[[-12]], [[-19]]], 3, (2, 32, 32)).clip(-30, -1)
        place = {"corner": (x - 160, y + 160), "crs": crs}
        tif(tmp_path / f"s1/{name}.tif", sar.astype(np.float32), **place)
        tif(tmp_path / f"s2/{name}.tif", rng.integers(300, 2500, (3, 32, 32), np.uint16), **place)
    given = {"source": "folder", "sar_dir": tmp_path / "s1", "opt_dir": tmp_path / "s2", "patch_size": 32}
    (tmp_path / "split.csv").write_text("id,split\na,train\nb,test\nc,validation\n")
    says = r"no patch is left for train: 1 were refused, 1 for guard gap \(such as '.+'\); lower"
    with pytest.raises(InputError, match=says):
        build(tmp_path / "set", **given, split_file=tmp_path / "split.csv", buffer_m=0)
    for seed in range(4):
        with pytest.raises(InputError, match="2 separate regions"):
            build(tmp_path / "set", **given, test_places=None, seed=seed)
    for folder in ("s1", "s2"):
        shutil.copyfile(tmp_path / folder / "c.tif", tmp_path / folder / "d.tif")
    pixels = [tmp_path / folder / "c.tif" for folder in ("s1", "s2")]
    (x,), (y,) = transform("EPSG:4326", "EPSG:32654", [141.5], [36.0])
    for path in pixels:
        with rasterio.open(path, "r+") as file:
            file.transform = Affine(10, 0, x, 0, -10, y)
    (tmp_path / "split.csv").write_text("id,split\na,train\nb,train\nc,validation\nd,test\n")
    build(tmp_path / "set", **given, split_file=tmp_path / "split.csv", buffer_m=0)
    west, _, east = datasheet(tmp_path / "set").split("| train | ")[1].split(" | ")[:3]
    assert 179.9 < float(west) < 180 < float(east) < 180.1


def test_a_map_on_both_sides_of_the_antimeridian(tmp_path):
    place = {"crs": "EPSG:4326", "pixel": 0.001}
    tif(tmp_path / "east.tif", np.full((1, 100, 100), 1, np.uint8), (179.9, -16.95), **place)
    tif(tmp_path / "west.tif", np.full((1, 100, 100), 3, np.uint8), (-180, -16.95), **place)
    (x,), (y,) = transform("EPSG:4326", "EPSG:32701", [180.0], [-17.0])
    grid = Grid(CRS.from_epsg(32701), Affine(10, 0, x - 320, 0, -10, y + 320), 64, 64)
    tiles = landcover.Tiles(tmp_path, "hrlulc-v21.11")
    assert len(tiles.covering(grid)) == 2 and not tiles.covering(grid, whole=True)
    codes = tiles.read(grid)
    assert (codes[:, :31] == 1).all() and (codes[:, 33:] == 3).all()


def test_a_list_may_name_scenes_that_lie_outside_the_map(tmp_path, pairs):
    given = pairs({"a": 0, "b": 5000, "c": 10_000, "d": 300_000})
    codes = np.random.default_rng(0).integers(1, 9, (1, 400, 1400)).astype(np.uint8)
    tif(tmp_path / "map/LC.tif", codes, (ORIGIN[0] - 1000, ORIGIN[1] + 1000))
    (tmp_path / "split.csv").write_text("id,split\na,train\nb,validation\nc,test\nd_0000_0000,train\n")
    map_ = {"lulc_root": tmp_path / "map", "legend": "hrlulc-v21.11"}
    info = build(tmp_path / "set", **given, **map_, split_file=tmp_path / "split.csv", buffer_m=0)
    assert info["counts"] == {"train": 1, "validation": 1, "test": 1}
    assert [(r["id"], r["reason"]) for r in info["refused"]] == [("d", "outside the map")]


def test_area_is_true_in_degrees_and_distance_shrinks_towards_the_pole():
    grid = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 10, 0, -1e-4, 60), 100, 100)
    windows = splits.Windows.within(["a"], [grid], 100, 100)
    windows.assign(np.array([0]), "test", 100)
    area = splits.unique_area(windows, "test")
    assert area == pytest.approx(1.114 * 0.5577, rel=0.01)  # 0.01 degree each way, at 60 degrees north
    assert splits.metres_to(windows.boxes([0], False), (9.9, 59.995)).item() == pytest.approx(5538, rel=0.01)
    boxes = np.array([[10, 60, 10.01, 60.01], [10.02, 60, 10.03, 60.01]])
    apart = 0.01 * 111_300 * np.cos(np.radians(60))
    assert splits._gaps(boxes[:1], boxes[1:], None).item() == pytest.approx(apart, rel=0.02)


def test_distance_is_measured_over_the_antimeridian_where_that_is_nearer():
    degree = 111_300 * np.cos(np.radians(10))
    boxes = np.array([[179.99, 10, 180, 10.01], [-179.99, 10, -179.98, 10.01]])
    for one, other in (boxes, boxes[::-1]):
        assert splits._gaps(one[None], other[None], None).item() == pytest.approx(0.01 * degree, rel=0.02)
    for west, place in ((179.98, -179.99), (-179.99, 179.99)):
        grid = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, west, 0, -1e-4, 10.01), 100, 100)
        box = np.array([grid.lonlat_bounds])
        assert splits.metres_to(box, (place, 10.005)).item() == pytest.approx(0.02 * degree, rel=0.02)


def test_another_seed_draws_other_regions():
    found = set()
    for seed in range(6):
        grids = [Grid(CRS.from_epsg(32653), Affine(10, 0, 5e5 + 1e4 * i, 0, -10, 4e6), 16, 16) for i in range(12)]
        scenes = [Scene(f"s{i}", grid, "", None, ("VV",), f"s{i}") for i, grid in enumerate(grids)]
        windows = splits.Windows.within([scene.id for scene in scenes], grids, 16, 16)
        splits.split_by_region(scenes, windows, (), 100, 100, (0.75, 0.14, 0.11), 16, seed)
        found.add(tuple(windows.split))
    assert len(found) > 1


def test_regions_are_weighed_by_the_windows_that_do_not_overlap():
    """A square of four and five single ones of a group, which has more of them but fewer steps of eight pixels."""
    sides = {"square": 64, **{f"single {i}": 32 for i in range(5)}, "last": 32}
    grids = [
        Grid(CRS.from_epsg(32653), Affine(10, 0, 5e5 + 1e4 * i, 0, -10, 4e6), side, side)
        for i, side in enumerate(sides.values())
    ]
    scenes = [
        Scene(name, grid, "", None, ("VV",), group=name.split()[0]) for name, grid in zip(sides, grids, strict=True)
    ]
    windows = splits.Windows.within([*sides], grids, 32, 8)
    splits.split_by_region(scenes, windows, (), 100, 100, (0.5, 0.4, 0.1), 8, 0)
    first = np.unique(windows.scene, return_index=True)[1]
    found = {scene.group: windows[number].split for scene, number in zip(scenes, first, strict=True)}
    assert found == {"square": "validation", "single": "train", "last": "test"}


def test_kaga_and_mikuni_are_tested_unless_others_are_said(tmp_path):
    rng = np.random.default_rng(0)
    places = {"Kaga": (136.30, 36.30), "Mikuni": (136.15, 36.21), "a": (137, 36), "b": (138, 36), "c": (139, 36)}
    for name, corner in places.items():
        place = {"corner": corner, "crs": "EPSG:4326", "pixel": 1e-4}
        sar = rng.normal([[[-12]], [[-19]]], 3, (2, 32, 32)).clip(-30, -1)
        tif(tmp_path / f"s1/{name}.tif", sar.astype(np.float32), **place)
        tif(tmp_path / f"s2/{name}.tif", rng.integers(300, 2500, (3, 32, 32), np.uint16), **place)
    info = build(tmp_path / "set", source="folder", sar_dir=tmp_path / "s1", opt_dir=tmp_path / "s2", patch_size=32)
    assert info["tested_places"] == [True, True]
    assert {"Kaga", "Mikuni"} <= {*read(tmp_path / "set", "test")[0]["id"]}
