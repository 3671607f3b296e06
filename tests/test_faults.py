"""Everything that can be wrong with archives, folders, maps, lists, parameters and disks: one sentence that names the
culprit, and no half-written data set."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine
from test_archive import ORIGIN, tif

from s2olib.data import build as module
from s2olib.data.build import build
from s2olib.project import InputError

RNG = np.random.default_rng(5)
SAR = np.stack([RNG.normal(-10, 2, (256, 256)), RNG.normal(-17, 2, (256, 256))]).clip(-30, -1).astype(np.float32)
OPT = RNG.integers(400, 1400, (13, 256, 256)).astype(np.uint16)
CODES = RNG.integers(1, 13, (1, 100, 2000)).astype(np.uint8)
SPRING = "ROIs1158_spring"
P = f"sen12ms/{SPRING}/{{0}}_1/{SPRING}_{{0}}_1_p30.tif"
S1, S2 = P.format("s1"), P.format("s2")
SMALL = (slice(None), slice(64), slice(64))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An archive of three scenes of one patch with its map, folders of three pairs, and folders of three images."""
    root = tmp_path_factory.mktemp("faultless")
    for i in range(3):
        corner = (ORIGIN[0] + 30_000 * i, ORIGIN[1])
        for kind, pixels in (("s1", SAR), ("s2", OPT)):
            tif(root / f"sen12ms/{SPRING}/{kind}_{i + 1}/{SPRING}_{kind}_{i + 1}_p30.tif", pixels, corner)
            tif(root / f"pairs/{kind}/{'abc'[i]}.tif", pixels[SMALL][:3], corner)
            (root / f"images/{kind}").mkdir(parents=True, exist_ok=True)
            image = RNG.integers(1, 180, (64, 64, 3) if kind == "s2" else (64, 64), np.uint8)
            Image.fromarray(image).save(root / f"images/{kind}/{'abc'[i]}.png")
        tif(root / f"pairs/lulc/{'abc'[i]}.tif", CODES[:, :64, :64], corner)
    tif(root / "hrlulc/LC_N36E135.tif", CODES, (ORIGIN[0] - 5000, ORIGIN[1] + 5000), pixel=100.0)
    for name, ids in (("sen12ms", [f"{SPRING}_{i}" for i in (1, 2, 3)]), ("pairs", list("abc"))):
        table = pd.DataFrame({"id": ids, "split": ["train", "validation", "test"]})
        table.to_csv(root / f"{name}.csv", index=False)
    table.assign(place=list("xyz"), date="2020-11-04").to_csv(root / "list.csv", index=False)
    return root


@pytest.fixture
def root(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "in"))


def options(root: Path, source: str) -> dict:
    """What builds the faultless data set of a source."""
    if source == "sen12ms":
        roots = {"archive_root": root / "sen12ms", "lulc_root": root / "hrlulc"}
        return {"source": source, **roots, "legend": "hrlulc-v21.11", "split_file": root / "sen12ms.csv"}
    given = {"source": "folder", "sar_dir": root / source / "s1", "opt_dir": root / source / "s2", "patch_size": 64}
    if source == "images":
        given |= {"sar_units": "8-bit", "opt_units": "8-bit"}
    else:
        given |= {"lulc_dir": root / "pairs/lulc", "legend": "hrlulc-v21.11"}
    return given | {"split_file": root / "pairs.csv", "pairs_csv": root / "list.csv"}


@pytest.mark.parametrize("source", ["sen12ms", "pairs", "images"])
def test_the_faultless_ones_build(root, tmp_path, source):
    assert build(tmp_path / "set", **options(root, source))["counts"] == {"train": 1, "validation": 1, "test": 1}


def test_labels_that_were_lost_are_made_again(root, tmp_path):
    info = build(tmp_path / "set", **options(root, "pairs"))
    (tmp_path / "set/test/lulc.npy").unlink()
    assert build(tmp_path / "set", **options(root, "pairs")) == info and (tmp_path / "set/test/lulc.npy").is_file()


def test_pictures_of_what_was_refused_are_made_again_and_ones_own_file_is_left_alone(root, tmp_path):
    tif(root / "pairs/s2/d.tif", np.full((3, 64, 64), 6000, np.uint16), (X + 90_000, Y))
    for kind, pixels in (("s1", SAR[SMALL]), ("lulc", CODES[:, :64, :64])):
        tif(root / f"pairs/{kind}/d.tif", pixels, (X + 90_000, Y))
    (root / "pairs.csv").write_text("id,split\na,train\nb,validation\nc,test\nd,train\n")
    given = options(root, "pairs") | {"pairs_csv": None}
    info = build(tmp_path / "set", **given)
    assert [refusal["reason"] for refusal in info["refused"]] == ["cloud"]
    (tmp_path / "set/refused/opt.npy").unlink()
    assert build(tmp_path / "set", **given) == info and (tmp_path / "set/refused/opt.npy").is_file()
    (tmp_path / "set/train/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"set/train/notes.txt' is no part of a data set"):
        build(tmp_path / "set", **given)
    assert (tmp_path / "set/train/notes.txt").is_file()


def test_a_split_file_as_a_spreadsheet_leaves_it(root, tmp_path):
    (root / "pairs.csv").write_text("id , split,\na, train,\nb,validation,\n c,test,\n,,\n")
    assert build(tmp_path / "set", **options(root, "pairs"))["counts"] == {"train": 1, "validation": 1, "test": 1}


@pytest.mark.parametrize("source", ["sen12ms", "pairs"])
def test_a_mask_that_comes_to_lie_beside_a_file_is_read(root, tmp_path, source):
    (tmp_path / "first").mkdir()
    whole = build(tmp_path / "set", **options(root, source) | {"max_nodata": 0.9})
    path = root / (S1 if source == "sen12ms" else "pairs/s1/a.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        mask = np.full(file.shape, 255, np.uint8)
        mask[:20] = 0
        file.write_mask(mask)
    assert path.with_name(f"{path.name}.msk").is_file()
    masked = build(tmp_path / "set", **options(root, source) | {"max_nodata": 0.9})
    assert masked["fingerprint"] != whole["fingerprint"]
    assert np.isnan(np.load(tmp_path / "set/train/sar.npy")[0, 0, :20]).all()


def test_a_no_data_value_that_is_stated_beside_a_file_later_is_taken(root, tmp_path):
    before = build(tmp_path / "set", **options(root, "pairs") | {"max_nodata": 0.9})
    values = np.load(tmp_path / "set/train/opt.npy")[0]
    common = int(np.bincount(values[0].ravel()).argmax())
    bands = [f"<PAMRasterBand band='{i}'><NoDataValue>{common}</NoDataValue></PAMRasterBand>" for i in (1, 2, 3)]
    (root / "pairs/s2/a.tif.aux.xml").write_text(f"<PAMDataset>{''.join(bands)}</PAMDataset>")
    after = build(tmp_path / "set", **options(root, "pairs") | {"max_nodata": 0.9})
    assert after["fingerprint"] != before["fingerprint"]
    assert (np.load(tmp_path / "set/train/opt.npy")[0, 0][values[0] == common] == 0).all()


def test_what_macos_leaves_beside_a_copied_image_is_no_image(root, tmp_path):
    (root / "pairs/s1/._d.tif").write_bytes(b"Mac OS X")
    assert build(tmp_path / "set", **options(root, "pairs") | {"pairs_csv": None})["counts"]["test"] == 1


def cut(name, share=0.5):
    """Keep the first part of a file."""
    return lambda root: os.truncate(root / name, int((root / name).stat().st_size * share))


def text(name, content):
    return lambda root: (root / name).write_text(content)


def rewrite(name, pixels, corner=ORIGIN, **how):
    return lambda root: tif(root / name, pixels, corner, **how)


def moved(old, new):
    """Make a picture overlap another by 35 x 40 pixels: its upper right corner is that one's lower left."""

    def change(root):
        pixels, target = (np.array(Image.open(root / name)) for name in (old, new))
        target[:35, 24:] = pixels[-35:, :40]
        Image.fromarray(target).save(root / new)

    return change


def turned(name, place):
    def change(root):
        with rasterio.open(root / name, "r+") as file:
            file.transform = place

    return change


def scaled(name, scale, offset):
    def change(root):
        with rasterio.open(root / name, "r+") as file:
            file.scales, file.offsets = [scale] * file.count, [offset] * file.count

    return change


def move(old, new):
    def change(root):
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / old, root / new)

    return change


def copy(old, new):
    def change(root):
        (root / new).parent.mkdir(exist_ok=True)
        shutil.copy(root / old, root / new)

    return change


def camera(old, new):
    """The image as a camera keeps it that was held upright."""

    def change(root):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(root / old).save(root / new, exif=exif)
        (root / old).unlink()

    return change


def remove(name):
    return lambda root: (root / name).unlink()


def both(*changes):
    return lambda root: [change(root) for change in changes]


def add_patch(**how):
    """A second patch in the first scene."""
    return both(*(rewrite(P.format(k).replace("p30", "p31"), a, **how) for k, a in (("s1", SAR), ("s2", OPT))))


def legend(content):
    return text(
        "own.yml", f"product: own\nnames: {{1: sea, 2: land}}\ncolours: {{1: '#0072B2', 2: '#009E73'}}\n{content}"
    )


X, Y = ORIGIN
NO_RED = ("B1", "B8", "B9", *(f"X{i}" for i in range(10)))
ARCHIVE = {
    "zero bytes": (cut(S1, 0), {}, r"s1_1_p30.tif' cannot be read"),
    "truncated": (cut(S2), {}, r"s2_1_p30.tif' cannot be read"),
    "no raster": (text(S2, "<html>404</html>"), {}, r"s2_1_p30.tif' cannot be read"),
    "dtype of SAR": (rewrite(S1, SAR.astype(np.int16)), {}, r"s1_1_p30.tif' is int16, not float32"),
    "dtype of optical": (rewrite(S2, OPT.astype(np.float32)), {}, r"s2_1_p30.tif' is float32, not uint16"),
    "bands of SAR": (rewrite(S1, SAR[:1]), {}, r"s1_1_p30.tif' has 1 bands, not 2"),
    "bands of optical": (rewrite(S2, OPT[:10]), {}, r"s2_1_p30.tif' has 10 bands, not 12 or 13"),
    "red not among the names": (rewrite(S2, OPT, names=NO_RED), {}, r"s2_1_p30.tif' .* none is known as 'red'"),
    "unknown optical band": ({}, {"opt_bands": ["red", "green", "B99"]}, r"s2_1_p30.tif' .* none is known as 'B99'"),
    "polarisation not there": ({}, {"sar_bands": ["HH"]}, r"s1_1_p30.tif' has no SAR band 'HH'"),
    "size": (both(rewrite(S1, SAR[:, :200]), rewrite(S2, OPT[:, :200])), {}, r"p30.tif' is 200 x 256 pixels"),
    "no CRS": (rewrite(S2, OPT, crs=None), {}, r"s2_1_p30.tif' has no coordinate reference system"),
    "south up": (turned(S2, Affine(10, 0, X, 0, 10, Y)), {}, r"s2_1_p30.tif' is rotated or flipped"),
    "rotated": (turned(S1, Affine(9, 3, X, 3, -9, Y)), {}, r"s1_1_p30.tif' is rotated or flipped"),
    "grids differ": (
        turned(S1, Affine(10, 0, X + 10, 0, -10, Y)),
        {},
        r"s1_1_p30.tif' and '.*' lie on different grids",
    ),
    "no partner": (remove(S1), {}, r"s2_1_p30.tif' has no partner '.*s1_1_p30.tif'"),
    "twice": (copy(S2, S2.replace("p30", "p030")), {}, r"p30.tif' .*are the same patch"),
    "season misspelt": (move(f"sen12ms/{SPRING}", "sen12ms/ROIs1158_sping"), {}, r"ROIs1158_sping.* does not fit"),
    "season in another case": (move(f"sen12ms/{SPRING}", "sen12ms/ROIs1158_Spring"), {}, r"_Spring.* does not fit"),
    "kind in another case": (move(S1, S1.replace("s1_1_p", "S1_1_p")), {}, r"S1_1_p30.tif' does not fit its folder"),
    "another scene's folder": (move(S1, S1.replace("s1_1/", "s1_2/")), {}, r"s1_1_p30.tif' does not fit its folder"),
    "mixed zones": (add_patch(crs="EPSG:32654"), {}, r"s2_1_p31.tif' is off the lattice"),
    "off the lattice": (add_patch(corner=(X + 1283, Y)), {}, r"s2_1_p31.tif' is off the lattice"),
    "off the lattice to the south": (add_patch(corner=(X, Y - 1283)), {}, r"s2_1_p31.tif' is off the lattice"),
    "pixels of another size": (add_patch(pixel=20.0), {}, r"s2_1_p31.tif' is off the lattice"),
    "another version": (
        both(add_patch(corner=(X + 1280, Y)), rewrite(S2.replace("p30", "p31"), OPT + 1, (X + 1280, Y))),
        {},
        r"p31.tif' differs from its neighbours",
    ),
    "VV and VH swapped": (rewrite(S1, SAR[::-1]), {}, r"s1_1_p30.tif' looks swapped"),
    "dB times 100": (rewrite(S1, 100 * SAR), {}, r"s1_1_p30.tif' holds values from .* divide by what they were"),
    "name of bytes": (copy(S1, f"sen12ms/{SPRING}/s1_1/\udcff.tif"), {}, r"\\udcff.tif' does not fit its folder"),
    "tile of bytes": (copy("hrlulc/LC_N36E135.tif", "hrlulc/\udcff.tif"), {}, r"tile '.*\\udcff.tif' is no UTF-8"),
    "linear values": (rewrite(S1, 10 ** (SAR / 10)), {}, r"s1_1_p30.tif' is declared 'dB' but holds"),
    "dB cut to integers": (rewrite(S1, np.round(SAR)), {}, r"s1_1_p30.tif' .*whole numbers alone"),
    "8-bit optical": (rewrite(S2, OPT * 0 + 255), {}, r"s2_1_p30.tif' .*8-bit image"),
    "no offset there": ({}, {"opt_offset": 5000}, r"s2_1_p30.tif' has a median of .* give 0"),
    "no archive": ({}, {"archive_root": "/nowhere"}, r"archive_root '/nowhere' is not a folder"),
    "own layer missing": ({}, {"legend": "igbp", "lulc_root": None}, r"p30.tif' has no partner '.*lc_1_p30.tif'"),
    "tile missing": (move("hrlulc/LC_N36E135.tif", "hrlulc/x/LC.txt"), {}, r"no land-cover GeoTIFF under lulc_root"),
    "tile elsewhere": (turned("hrlulc/LC_N36E135.tif", Affine(9, 0, 0, 0, -9, 0)), {}, r"JAXA's would be LC_N36E13"),
    "tile issued anew": (copy("hrlulc/LC_N36E135.tif", "hrlulc/LC_N36E135_v2.tif"), {}, r"_v2.tif' and '.*same place"),
    "tile without CRS": (rewrite("hrlulc/LC_N36E135.tif", CODES, crs=None), {}, r"LC_N36E135.tif' has no coordinate"),
    "tile truncated": (cut("hrlulc/LC_N36E135.tif"), {}, r"LC_N36E135.tif' cannot be read"),
    "code unknown": (
        rewrite("hrlulc/LC_N36E135.tif", CODES + 60, (X - 5000, Y + 5000), pixel=100.0),
        {},
        r"LC_N36E135.tif' has the code 6\d, which legend 'hrlulc-v21.11' has not",
    ),
    "tar archives missing": ({}, {"tar_root": "/nowhere"}, r"tar_root '/nowhere' holds no archive"),
    "tar without a map": ({}, {"tar_root": "/nowhere", "lulc_root": None, "legend": None}, r"tar_root is for .*map"),
}
PAIRS = {
    "one without CRS": (rewrite("pairs/s1/a.tif", SAR[SMALL], crs=None), {}, r"s1/a.tif' cannot be laid over"),
    "pair incomplete": (remove("pairs/s1/b.tif"), {}, r"pair 'b' has no 'b' in sar_dir"),
    "map of another place": (
        rewrite("pairs/lulc/b.tif", CODES[:, :64, :64]),
        {},
        r"lulc/b.tif' and .*s2/b.tif' do not",
    ),
    "map incomplete": (remove("pairs/lulc/b.tif"), {}, r"pair 'b' has no 'b' in lulc_dir"),
    "list of nothing": (text("list.csv", "id,s1,s2\n"), {}, r"list.csv' lists no pair"),
    "other ground": (rewrite("pairs/s1/b.tif", SAR[SMALL], (X + 9e5, Y)), {}, r"s2/b.tif' do not show the same ground"),
    "ground to the south": (
        rewrite("pairs/s1/b.tif", SAR[SMALL], (X + 30_000, Y - 5000)),
        {},
        r"s2/b.tif' do not show the same ground",
    ),
    "ground to the north": (
        rewrite("pairs/s1/b.tif", SAR[SMALL], (X + 30_000, Y + 5000)),
        {},
        r"s2/b.tif' do not show the same ground",
    ),
    "scale declared": (scaled("pairs/s1/a.tif", 0.01, 0), {}, r"s1/a.tif' declares values to be scaled by 0.01"),
    "scale of reflectance": (scaled("pairs/s1/a.tif", 1e-4, 0), {}, r"s1/a.tif' declares .* scaled by 0.0001"),
    "offset declared": (scaled("pairs/s2/a.tif", 1e-4, -0.1), {}, r"s2/a.tif' declares .* moved by -0.1"),
    "CRS of no place": (
        rewrite("pairs/s1/a.tif", SAR[SMALL], crs='LOCAL_CS["mine",UNIT["metre",1]]'),
        {},
        r"s1/a.tif' has a coordinate reference system of no place",
    ),
    "place that is none": (rewrite("pairs/s1/a.tif", SAR[SMALL], (5e7, Y)), {}, r"s1/a.tif' has coordinates that its"),
    "metres for degrees": (
        rewrite("pairs/s1/a.tif", SAR[SMALL], crs="EPSG:4326"),
        {},
        r"s1/a.tif' has coordinates that",
    ),
    "degrees for metres": (
        rewrite("pairs/s1/a.tif", SAR[SMALL], (136, 36), pixel=1e-4),
        {},
        r"s1/a.tif' has coordinates that its CRS, EPSG:32653, cannot have",
    ),
    "decibels times 100": (
        rewrite("pairs/s1/a.tif", (100 * SAR[SMALL]).astype(np.int16)),
        {},
        r"s1/a.tif' .* divide by",
    ),
    "a comma in a field": (
        text("list.csv", "id,season\na,Kaga, spring\n"),
        {},
        r"more fields .* a,Kaga, spring: quote",
    ),
    "two columns of one name": (text("list.csv", "ID,Id\na,a\n"), {}, r"list.csv' has two columns 'id'"),
    "offset that is no number": (text("list.csv", "id, opt_offset\na,nan\n"), {}, r"opt_offset of 'a' must be a"),
    "offset in words": (text("list.csv", "id,opt_offset\na,n/a\n"), {}, r"opt_offset of 'a' must be a number"),
    "coordinates without CRS": (
        both(
            rewrite("pairs/s1/a.tif", SAR[SMALL], crs=None),
            turned("pairs/s1/a.tif", Affine(10, 0, X, 0, -10, Y)),
            rewrite("pairs/s2/a.tif", OPT[SMALL][:3], crs=None),
            turned("pairs/s2/a.tif", Affine(10, 0, X + 320, 0, -10, Y)),
        ),
        {"lulc_dir": None, "legend": None},
        r"s1/a.tif' and '.*s2/a.tif' have different coordinates and no CRS",
    ),
    "another pixel size": ({}, {"pixel_size_m": 20}, r"pixel_size_m is 20, and the files say 10"),
    "a polarisation twice": ({}, {"sar_bands": ["VV", "vv"]}, r"sar_bands names a band twice: VV, vv"),
    "a colour twice": ({}, {"opt_bands": ["red", "red", "blue"]}, r"opt_bands names a band twice"),
    "a band by two names": ({}, {"opt_bands": ["red", "B4", "B3"]}, r"opt_bands names a band twice: red, B4, B3"),
    "a list for a column": ({}, {"group_column": ["event"]}, r"group_column must be text, not the list \['event'\]"),
    "a list for a credit": ({}, {"credit": ["me", "you"]}, r"credit must be text, not the list"),
    "an image of another format": (
        text("pairs/s2/d.jp2", ""),
        {"pairs_csv": None},
        r"s2/d.jp2' would be left out: make it a GeoTIFF, PNG or JPEG, or move it out of opt_dir",
    ),
    "an image in a folder below": (
        copy("pairs/s1/a.tif", "pairs/s1/2020/d.tif"),
        {"pairs_csv": None},
        r"s1/2020/d.tif' would be left out: move it into sar_dir itself, or '2020' out of it",
    ),
    "complex": (rewrite("pairs/s1/a.tif", SAR[SMALL].astype(np.complex64)), {}, r"s1/a.tif' holds complex numbers"),
    "no list and no partner": (remove("pairs/s2/b.tif"), {"pairs_csv": None}, r"s1/b.tif' has no partner in opt_dir:"),
    "no list and several without": (
        both(copy("pairs/s2/b.tif", "pairs/s2/y.tif"), copy("pairs/s2/b.tif", "pairs/s2/z.tif")),
        {"pairs_csv": None},
        r"s2/y.tif' has no partner in sar_dir, nor has 1 other: add 'y' there, remove it here, or list",
    ),
    "two files of one name": (copy("images/s1/a.png", "pairs/s1/a.png"), {}, r"a.tif' and 'a.png' .*same id"),
    "folder missing": ({}, {"opt_dir": "/nowhere"}, r"opt_dir '/nowhere' is not a folder"),
    "id listed twice": (text("list.csv", "id\na\na\n"), {}, r"list.csv' lists id 'a' twice"),
    "limits in the files' numbers": (
        {},
        {"opt_units": "reflectance x 10000", "opt_limits": [[0, 3000]] * 3},
        r"opt_limits are of reflectance, such as \[0, 0.3\], .*divide \[\[0, 3000\].* by 10000",
    ),
    "list with semicolons": (text("list.csv", "id;s1;s2\na;a;a\n"), {}, r"list.csv' has one column, 'id;s1;s2'"),
    "row without id": (text("list.csv", "id,s1,s2\na,a,a\n,b,b\n"), {}, r"list.csv' has a row without an id: ,b,b"),
    "blank rows alone": (text("list.csv", "id,s1,s2\n,,\n"), {}, r"list.csv' lists no pair"),
    "name of bytes": (copy("pairs/s1/a.tif", "pairs/s1/\udcff.tif"), {}, r"'\\udcff.tif' in sar_dir .* no UTF-8"),
    "folder of bytes": ({}, {"sar_dir": "/nowhere/\udcff"}, r"sar_dir '/nowhere/\\udcff' is no UTF-8"),
    "list empty": (text("list.csv", ""), {}, r"list.csv' is no table"),
    "list missing": ({}, {"pairs_csv": "/nowhere.csv"}, r"pairs_csv '/nowhere.csv' does not exist"),
    "no such group": ({}, {"group_column": "event"}, r"list.csv' has no column 'event'"),
    "no date": (text("list.csv", "id,date\na,4th of May\n"), {}, r"list.csv' has the date '4th of May' for 'a'"),
    "bands differ": (rewrite("pairs/s1/b.tif", SAR[:1, :64, :64], names=("VH",)), {}, r"s1/b.tif' has .*VH where"),
    "SAR of four bands": (rewrite("pairs/s1/a.tif", np.tile(SAR, (2, 1, 1))), {}, r"s1/a.tif' has 4 bands"),
    "linear, says the list": ({}, {"sar_units": "linear"}, r"s1/a.tif' is declared 'linear' but holds values from -"),
    "8-bit, says the list": ({}, {"sar_units": "8-bit"}, r"s1/a.tif' is declared '8-bit'"),
    "reflectance from 0 to 1": (
        rewrite("pairs/s2/a.tif", (OPT[:3, :64, :64] / 10000).astype(np.float32)),
        {},
        r"s2/a.tif' .*multiply reflectance",
    ),
    "code beyond a byte": (
        rewrite("pairs/lulc/a.tif", CODES[:, :64, :64] + np.uint16(300)),
        {},
        r"lulc/a.tif' has the code 3\d\d",
    ),
    "unknown grid": ({}, {"grid": "utm"}, r"grid 'utm' is unknown"),
    "split misspelt": (text("pairs.csv", "id,split\na,training\n"), {}, r"'a' the unknown split 'training'"),
    "split given twice": (text("pairs.csv", "id,split\na,train\na,test\n"), {}, r"pairs.csv' lists 'a' twice"),
    "split without a scene": (text("pairs.csv", "id,split\na,train\nb,test\n"), {}, r"does not list scene 'c'"),
    "split of another set": (text("pairs.csv", "id,split\na,train\nb,test\nc,test\nd,test\n"), {}, r"lists 'd', which"),
    "split without columns": (text("pairs.csv", "a,b\n"), {}, r"pairs.csv' needs the columns id and split"),
    "split of bytes": (lambda root: (root / "pairs.csv").write_bytes(b"\xff\xfe\x00"), {}, r"pairs.csv' is no table"),
    "split with an open quote": (text("pairs.csv", 'id,split\na,"train\nb,test\n'), {}, r"pairs.csv' is no table"),
    "split empty": (text("pairs.csv", ""), {}, r"pairs.csv' needs the columns id and split; it has nothing"),
    "nothing to test on": (
        text("pairs.csv", "id,split\na,train\nb,train\nc,validation\n"),
        {},
        r"no patch is left for test",
    ),
    "splits overlap": (
        both(
            *(
                rewrite(f"pairs/{kind}/b.tif", of[:, :64, :64], (X + 320, Y))
                for kind, of in (("s1", SAR), ("s2", OPT[:3]), ("lulc", CODES))
            )
        ),
        {},
        r"patch '.' overlaps .*patch '.'",
    ),
    "legend missing": ({}, {"legend": "/nowhere.yml"}, r"legend '/nowhere.yml' cannot be read"),
    "legend without merges": (legend(""), {"legend": "own.yml"}, r"own.yml' cannot be read: it needs"),
    "legend whose sea is no class": (
        legend("merges: {four: {a: [1], b: [2]}}\nwater: [3]"),
        {"legend": "own.yml"},
        r"own.yml': water 3 is no code",
    ),
    "legend with a code twice": (legend("merges: {four: {a: [1, 2], b: [2]}}"), {"legend": "own.yml"}, r"code 2 twice"),
    "legend with a category twice": (
        legend("merges: {four: {a: [1], a: [2]}}"),
        {"legend": "own.yml"},
        r"own.yml' cannot be read: .*'a' is given twice",
    ),
    "legend without that merge": (legend("merges: {two: {a: [1]}}"), {"legend": "own.yml"}, r"no merge 'four'"),
}
IMAGES = {
    "sizes differ": (
        lambda root: Image.new("L", (64, 60), 9).save(root / "images/s1/a.png"),
        {},
        r"s1/a.png' cannot be laid",
    ),
    "the same image in two splits": (
        copy("images/s2/a.png", "images/s2/c.png"),
        {},
        r"patch 'a' shares pixels with test patch 'c'",
    ),
    "the same image in training and validation": (
        copy("images/s2/a.png", "images/s2/b.png"),
        {},
        r"train patch 'a' shares pixels with validation patch 'b'",
    ),
    "the same radar in two splits": (
        copy("images/s1/a.png", "images/s1/c.png"),
        {},
        r"patch 'a' shares pixels with test patch 'c'",
    ),
    "a part of an image, moved, in two splits": (
        moved("images/s2/a.png", "images/s2/c.png"),
        {},
        r"train patch 'a' shares pixels with test patch 'c'",
    ),
    "a part of a radar image, moved, in two splits": (
        moved("images/s1/b.png", "images/s1/c.png"),
        {},
        r"validation patch 'b' shares pixels with test patch 'c'",
    ),
    "cut": (cut("images/s2/a.png"), {}, r"s2/a.png' cannot be read"),
    "turned by a camera": (camera("images/s2/a.png", "images/s2/a.jpg"), {}, r"s2/a.jpg' is to be shown turned"),
    "no region and no group": ({}, {"split_file": None}, r"cannot be split by region"),
    "map over no geography": ({}, {"lulc_root": "hrlulc", "legend": "hrlulc-v21.11"}, r"'a' has no geography"),
    "pseudo-categories and a map": ({}, {"legend": "pseudo-false-colour", "lulc_root": "hrlulc"}, r"leave lulc_root"),
}
FAULTS = [
    pytest.param(source, *fault, id=f"{source}: {name}")
    for source, faults in (("sen12ms", ARCHIVE), ("pairs", PAIRS), ("images", IMAGES))
    for name, fault in faults.items()
]


@pytest.mark.parametrize(("source", "change", "given", "says"), FAULTS)
def test_a_fault_is_one_sentence_and_leaves_nothing(root, tmp_path, source, change, given, says):
    if change:
        change(root)
    inside = {"lulc_root": root / "hrlulc", "legend": root / "own.yml"}
    given = {k: str(inside[k]) if str(v) in ("hrlulc", "own.yml") else v for k, v in given.items()}
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=says) as error:
        build(tmp_path / "out/set", **options(root, source) | given)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").iterdir())


def test_coordinates_beside_a_file_are_part_of_it(root, tmp_path):
    given, corners = options(root, "pairs"), {}
    for path in (root / "pairs").rglob("*.tif"):
        with rasterio.open(path) as file:
            corners[path], pixels = (file.transform.c + 5, file.transform.f - 5), file.read()
        path.unlink()
        shape = {"count": len(pixels), "height": 64, "width": 64, "dtype": pixels.dtype}
        with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32653", **shape) as file:
            file.write(pixels)
    for north in (0, 1000):
        for path, (x, y) in corners.items():
            path.with_suffix(".tfw").write_text("".join(f"{number}\n" for number in (10, 0, 0, -10, x, y + north)))
        build(tmp_path / "set", **given)
        index = pd.read_csv(tmp_path / "set/train/index.csv")
        assert float(index["transform"][0].split()[5]) == pytest.approx(ORIGIN[1] + north)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_cannot_be_written_to(root, tmp_path, monkeypatch, number):
    def fails(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.store.Layers, "write", fails)
    with pytest.raises(InputError, match=rf"dataset_root '.*set' cannot be written \({os.strerror(number)}\)"):
        build(tmp_path / "set", **options(root, "pairs"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_target_below_a_file_or_where_nobody_may_write(root, tmp_path):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file/set", Path("/proc/set")):
        with pytest.raises(InputError, match=rf"dataset_root '{target}' cannot be written"):
            build(target, **options(root, "pairs"))


def test_two_builds_into_one_folder(root, tmp_path):
    with open(tmp_path / ".set.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"set' is being written by another process: .* another dataset_root"):
            build(tmp_path / "set", **options(root, "pairs"))
    assert build(tmp_path / "set", **options(root, "pairs"))["counts"]["test"] == 1


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_disk_that_knows_no_locks(root, tmp_path, monkeypatch, number):
    def fails(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fails)
    assert build(tmp_path / "set", **options(root, "pairs"))["counts"]["test"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "set"]


def test_targets_behind_a_link_and_on_a_disk_of_their_own(root, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "set").symlink_to(tmp_path / "scratch")
    build(tmp_path / "set", **options(root, "pairs"))
    assert (tmp_path / "scratch/dataset.json").is_file() and (tmp_path / "set").is_symlink()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    with pytest.raises(InputError, match=r"dataset_root '.*disk' is a mount point, .*: give a folder inside it"):
        build(tmp_path / "disk", **options(root, "pairs"))


def test_broken_tar_archives_are_named(root, tmp_path):
    (tmp_path / "tars").mkdir()
    path = tmp_path / "tars/ROIs1158_spring_s1.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(root / "sen12ms", arcname=".")
    given = options(root, "sen12ms") | {"tar_root": tmp_path / "tars", "archive_root": tmp_path / "unpacked"}
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"archive_root '.*file/unpacked' cannot be written \(Not a directory\)"):
        build(tmp_path / "set", **given | {"archive_root": tmp_path / "file/unpacked"})
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"spring_s1.tar.gz' is broken"):
        build(tmp_path / "set", **given)
    path.unlink()
    path = path.with_suffix("")
    with tarfile.open(path, "w") as tar:
        tar.add(root / "sen12ms", arcname=".")
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1].offset
    for size in (last, last + 100):  # where a file ends, and within a header
        os.truncate(path, size)
        with pytest.raises(InputError, match=r"spring_s1.tar' is broken: fetch it again \(it ends too early\)"):
            build(tmp_path / "set", **given)
        assert not (tmp_path / "unpacked" / f"{path.name}.json").exists()
        with tarfile.open(path, "w") as tar:
            tar.add(root / "sen12ms", arcname=".")
    with tarfile.open(path, "w") as tar:
        sparse = tarfile.TarInfo("sparse")
        sparse.pax_headers = {"GNU.sparse.map": "0,many"}
        tar.addfile(sparse)
    with pytest.raises(InputError, match=r"spring_s1.tar' is broken"):
        build(tmp_path / "set", **given)
    assert not (tmp_path / "set").exists()


def test_tar_archives_that_have_nothing_on_the_map_are_told_of(root, tmp_path):
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/ROIs1158_spring.tar", "w") as tar:
        tar.add(root / "sen12ms", arcname=".")
    tif(tmp_path / "map/LC.tif", CODES, (X + 500_000, Y))
    given = options(root, "sen12ms") | {"tar_root": tmp_path / "tars", "archive_root": tmp_path / "unpacked"}
    with pytest.raises(InputError, match=r"no tile in lulc_root '.*map' covers a patch of tar_root '.*tars'"):
        build(tmp_path / "set", **given | {"lulc_root": tmp_path / "map"})


@pytest.mark.parametrize("workers", [None, 2])
def test_a_script_from_standard_input_has_no_workers(root, tmp_path, workers):
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options(root, "pairs").items()}
    script = "from s2olib.data import build as module\nmodule.WORTH_A_PROCESS = 1\nif __name__ == '__main__':\n"
    script += f"    print(module.build({str(tmp_path / 'set')!r}, workers={workers}, **{given})['counts'])\n"
    told = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True)
    if workers:
        assert "workers cannot be 2 for a script that is no file: save it" in told.stderr
    else:
        assert "'test': 1" in told.stdout


def test_a_patch_without_a_crs_in_a_tar_archive_is_named(root, tmp_path):
    rewrite(S1, SAR, crs=None)(root)
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/ROIs1158_spring_s1.tar", "w") as tar:
        tar.add(root / "sen12ms", arcname=".")
    given = options(root, "sen12ms") | {"tar_root": tmp_path / "tars", "archive_root": tmp_path / "unpacked"}
    with pytest.raises(InputError, match=r"spring_s1.tar' is broken: .*s1_1_p30.tif' has no coordinate reference"):
        build(tmp_path / "set", **given)


def test_a_folder_that_holds_other_things_is_left_alone(root):
    given, before = options(root, "pairs"), sorted(root.rglob("*"))
    (root / "train").mkdir()
    for target in (root, root / "pairs", root / "train", root / "list.csv"):
        if target == root / "train":
            (target / "train").mkdir()  # one's own
        with pytest.raises(InputError, match=rf"dataset_root '{target}' is there and is no data set"):
            build(target, **given)
    with pytest.raises(InputError, match=r"set/unpacked' lies in dataset_root"):
        archives = {"tar_root": root / "sen12ms", "archive_root": root / "set/unpacked"}
        build(root / "set", **options(root, "sen12ms") | archives)
    with pytest.raises(InputError, match=r"dataset_root '.*s1/set' lies in '.*s1', all of which is read"):
        build(root / "pairs/s1/set", **given | {"pairs_csv": None})
    assert sorted(path for path in root.rglob("*") if path.name != "train") == before
