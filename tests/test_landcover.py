"""Legends and merges against the products' own words, and tiles onto a scene's grid."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform
from test_archive import ORIGIN, tif

from s2olib.data import landcover
from s2olib.data.landcover import (
    CATEGORY_COLOURS,
    IGNORE,
    LEGENDS,
    Tiles,
    find_legend,
    jaxa_tile,
    majority,
    merge_codes,
    merge_table,
    pseudo_categories,
)
from s2olib.data.rasters import Grid, positions
from s2olib.project import InputError

STEP = 1 / 12000


def test_hrlulc_four_categories():
    codes = np.arange(256, dtype=np.uint8)
    expected = np.full(256, IGNORE)
    for category, members in enumerate([[1], [2, 12], [3, 4, 5, 10], [6, 7, 8, 9, 11]]):
        expected[members] = category
    np.testing.assert_array_equal(merge_codes(codes, merge_table("hrlulc-v21.11", "four")), expected)
    newer = merge_codes(codes, merge_table("hrlulc-v23.12", "four"))
    assert (newer[13], newer[14], newer[15]) == (2, 1, IGNORE)


def test_every_legend_is_complete():
    files = {path.stem for path in Path(landcover.__file__).with_name("legends").iterdir()}
    assert files == set(LEGENDS)
    for name in LEGENDS:
        legend = find_legend(name)
        assert set(legend.names) == set(legend.colours), name
        assert legend.no_data not in legend.names and 255 not in legend.names, name
        for merge in legend.merges.values():
            members = [code for group in merge.values() for code in group]
            assert len(members) == len(set(members)) and set(members) <= set(legend.names), name
        assert set(legend.merges["four"]) <= set(CATEGORY_COLOURS), name


def test_esri_and_terramesh_number_the_same_classes_differently():
    esri, terramesh = find_legend("esri"), find_legend("terramesh")
    assert {esri.names[code]: code for code in (5, 7, 8, 11)} == {
        "crops": 5, "built area": 7, "bare ground": 8, "rangeland": 11,
    }  # fmt: skip
    for category, codes in esri.merges["four"].items():
        of = {terramesh.names[code] for code in terramesh.merges["four"][category]}
        assert {esri.names[code] for code in codes} == of


def test_unknown_legend_and_merge_are_named():
    with pytest.raises(InputError, match="unknown land-cover legend 'corine'"):
        merge_table("corine", "four")
    with pytest.raises(InputError, match="has no merge 'five'"):
        merge_table("esri", "five")


def test_pseudo_categories_follow_the_look_of_things():
    water, desert, field, hay, fill = (5, 10, 40), (190, 130, 120), (60, 160, 30), (100, 105, 50), (0, 0, 0)
    image = np.array([water, desert, field, hay, fill], np.float32).T[:, None]  # (3, 1, 5)
    assert pseudo_categories(image, "pseudo-false-colour").tolist() == [[1, 2, 4, 3, 0]]
    lake, soil, meadow, roof = (12, 20, 39), (120, 90, 80), (60, 90, 40), (200, 205, 210)
    image = np.array([lake, soil, meadow, roof, fill], np.float32).T[:, None]
    assert pseudo_categories(image, "pseudo-natural-colour").tolist() == [[1, 2, 4, 3, 0]]


def _tile(path, west, north, codes, nodata=None):
    return tif(path, codes[None], (west, north), crs="EPSG:4326", pixel=STEP, nodata=nodata)


def test_tiles_are_read_by_nearest_and_seamless_over_an_edge(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(32653), Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), 40, 60)
    lon, lat = grid.lonlat(30, 20)
    west, north = np.round(lon / STEP) * STEP - 100 * STEP, np.round(lat / STEP) * STEP + 100 * STEP
    whole = np.random.default_rng(0).integers(0, 13, (200, 200), dtype=np.uint8)
    _tile(tmp_path / "west.tif", west, north, whole[:, :100])
    _tile(tmp_path / "east.tif", west + 100 * STEP, north, whole[:, 100:])
    found = Tiles(tmp_path, "hrlulc-v21.11").read(grid)
    column, row = np.meshgrid(np.arange(60) + 0.5, np.arange(40) + 0.5)
    x, y = ORIGIN[0] + 10 * column.ravel(), ORIGIN[1] - 10 * row.ravel()
    lons, lats = (np.array(v) for v in transform(grid.crs, "EPSG:4326", x, y))
    expected = whole[np.floor((north - lats) / STEP).astype(int), np.floor((lons - west) / STEP).astype(int)]
    np.testing.assert_array_equal(found.ravel(), expected)  # codes 0 among them: none may turn into 1, water


def test_no_data_of_a_tile_and_places_outside_are_zero(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(4326), Affine(STEP, 0, 136, 0, -STEP, 36), 4, 8)
    _tile(tmp_path / "half.tif", 136, 36, np.full((4, 4), 255, np.uint8), nodata=255)
    assert not Tiles(tmp_path, "hrlulc-v21.11").read(grid).any()


def test_no_data_that_a_tile_does_not_state_hides_no_other_tile(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(4326), Affine(STEP, 0, 136, 0, -STEP, 36), 4, 8)
    _tile(tmp_path / "a.tif", 136, 36, np.array([[255] * 4 + [3] * 4] * 4, np.uint8))
    _tile(tmp_path / "b.tif", 136, 36, np.full((4, 4), 5, np.uint8))
    np.testing.assert_array_equal(Tiles(tmp_path, "hrlulc-v21.11").read(grid), [[5] * 4 + [3] * 4] * 4)


def test_a_map_in_metres_and_one_in_degrees_are_two_of_one_place(tmp_path):
    _tile(tmp_path / "degrees.tif", 138.9, 36, np.ones((100, 100), np.uint8))
    x, y = transform("EPSG:4326", "EPSG:32654", [138.9], [36])
    apart = np.ones((1, 100, 76), np.uint8)
    tif(tmp_path / "metres.tif", apart, (x[0] + 760, y[0]), crs="EPSG:32654", pixel=10)
    assert len(Tiles(tmp_path, "hrlulc-v21.11").files) == 2
    tif(tmp_path / "metres.tif", apart, (x[0], y[0]), crs="EPSG:32654", pixel=9.3)
    with pytest.raises(InputError, match=r"metres.tif' and '.*degrees.tif' show the same place: keep one map of it"):
        Tiles(tmp_path, "hrlulc-v21.11")


def test_tiles_that_lie_apart_both_ways_are_of_two_places(tmp_path):
    for name, steps in (("a", 0), ("b", 200)):
        _tile(tmp_path / f"{name}.tif", 136 + steps * STEP, 36 + steps * STEP, np.ones((100, 100), np.uint8))
    assert len(Tiles(tmp_path, "hrlulc-v21.11").files) == 2


def test_a_tile_issued_anew_with_other_pixels_is_the_same_place(tmp_path):
    _tile(tmp_path / "old.tif", 136, 36, np.ones((100, 100), np.uint8))
    grid = {"crs": "EPSG:4326", "pixel": STEP * 100 / 93}
    tif(tmp_path / "v2/new.tif", np.ones((1, 93, 93), np.uint8), (136.00001, 36), **grid)
    with pytest.raises(InputError, match=r"new.tif' and '.*old.tif' show the same place"):
        Tiles(tmp_path, "hrlulc-v21.11")


@pytest.mark.parametrize("crs", [32760, 4326])
def test_a_map_of_the_world_goes_on_beyond_the_antimeridian(tmp_path, crs):
    world = np.where(np.arange(720) < 360, 10, 50).astype(np.uint8)  # by longitude: west, and east
    tif(tmp_path / "world.tif", np.tile(world, (360, 1))[None], (-180, 90), crs="EPSG:4326", pixel=0.5)
    (x,), (y,) = transform("EPSG:4326", f"EPSG:{crs}", [180.0], [-17.0])
    pixel = 10 if crs == 32760 else 1e-4
    grid = Grid(rasterio.CRS.from_epsg(crs), Affine(pixel, 0, x - 20 * pixel, 0, -pixel, y), 30, 64)
    found = Tiles(tmp_path, "worldcover").read(grid)
    assert (found[0, :20] == 50).all() and (found[0, 20:] == 10).all()
    assert set(np.unique(found)) == {10, 50}, "no pixel is without a class"


def test_a_projection_that_ends_at_the_antimeridian_is_asked_for_each_pixel(tmp_path):
    crs, pixel = "EPSG:3857", 50_000
    edge = 20_037_508.34
    world = np.full((1, 400, round(2 * edge / pixel)), 10, np.uint8)
    world[..., :10] = world[..., -10:] = 80  # water on both sides of 180 degrees
    tif(tmp_path / "world.tif", world, (-edge, 1e7), crs=crs, pixel=2 * edge / world.shape[-1])
    (x,), (y,) = transform("EPSG:4326", "EPSG:32701", [180.0], [-17.0])
    grid = Grid(rasterio.CRS.from_epsg(32701), Affine(10, 0, x - 1280, 0, -10, y), 256, 256)
    assert (Tiles(tmp_path, "worldcover").read(grid) == 80).all()


def test_a_fourth_band_of_bytes_hides_no_class_and_a_class_cannot_be_no_data(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(32653), Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), 8, 8)
    layers = np.zeros((4, 8, 8), np.uint8)  # GDAL takes the last of four for transparency
    layers[0] = 40
    for count in (1, 3, 4):
        tif(tmp_path / f"{count}/tile.tif", layers[:count])
        assert (Tiles(tmp_path / f"{count}", "worldcover").read(grid) == 40).all()
    layers[:, :4], layers[3, 4:] = 0, 255  # now it is transparency, and says where nothing is known
    tif(tmp_path / "clear/tile.tif", layers)
    found = Tiles(tmp_path / "clear", "worldcover").read(grid)
    assert (found[:4] == 0).all() and (found[4:] == 40).all()
    tif(tmp_path / "dw/tile.tif", layers[1:2], nodata=0)
    with pytest.raises(InputError, match=r"tile.tif' declares 0 as no data, which legend 'dynamic-world' calls water"):
        Tiles(tmp_path / "dw", "dynamic-world").read(grid)


def test_not_a_number_in_a_map_is_no_data(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(4326), Affine(STEP, 0, 136, 0, -STEP, 36), 4, 4)
    _tile(tmp_path / "float.tif", 136, 36, np.where(np.eye(4), np.nan, 7).astype(np.float32))
    np.testing.assert_array_equal(Tiles(tmp_path, "dynamic-world").read(grid), np.where(np.eye(4), 255, 7))


def test_names_the_tile_that_is_missing(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(32653), Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), 40, 60)
    with pytest.raises(InputError, match="no land-cover GeoTIFF under lulc_root"):
        Tiles(tmp_path, "hrlulc-v21.11")
    _tile(tmp_path / "LC_N10E010.tif", 10, 11, np.ones((4, 4), np.uint8))
    (tmp_path / "._LC_N10E010.tif").write_bytes(b"what macOS leaves beside a copied file")
    with pytest.raises(InputError, match=r"LC_N36E135.tif"):
        Tiles(tmp_path, "hrlulc-v21.11").read(grid)


@pytest.mark.parametrize("north", [-2, 2])
def test_a_tile_north_or_south_of_a_scene_does_not_cover_it(tmp_path, north):
    _tile(tmp_path / "tile.tif", 136, 36, np.ones((100, 100), np.uint8))
    grid = Grid(rasterio.CRS.from_epsg(4326), Affine(STEP, 0, 136, 0, -STEP, 36 + north), 40, 60)
    with pytest.raises(InputError, match=r"no land-cover tile under .* covers"):
        Tiles(tmp_path, "hrlulc-v21.11").read(grid)


def test_tile_names():
    assert jaxa_tile(136.3, 36.3) == "LC_N36E136.tif"
    assert jaxa_tile(-0.5, -12.5) == "LC_S13W001.tif"


def test_a_legend_of_your_own(tmp_path):
    (tmp_path / "own.yml").write_text(
        "product: own\nepoch: '1999'\nnames: {0: sea, 7: land, 8: ice}\nwater: [0]\nno_data: 99\n"
        "colours: {0: '#0072B2', 7: '#009E73', 8: '#FFFFFF'}\nmerges: {two: {wet: [0, 8], dry: [7]}}\n"
    )
    legend = find_legend(str(tmp_path / "own.yml"))
    assert (legend.epoch, legend.water, legend.no_data) == ("1999", (0,), 99)
    codes = np.array([0, 7, 8, 99, 255], np.uint8)
    merged = merge_codes(codes, merge_table(str(tmp_path / "own.yml"), "two"))
    assert merged.tolist() == [0, 1, 0, IGNORE, IGNORE]
    text = (tmp_path / "own.yml").read_text()  # edited while the process lives
    (tmp_path / "own.yml").write_text(text.replace("wet: [0, 8], dry: [7]", "wet: [0], dry: [7, 8]") + "\n")
    assert merge_table(str(tmp_path / "own.yml"), "two") == {"wet": (0,), "dry": (7, 8)}
    (tmp_path / "own.yml").write_text(text.replace("[0, 8], dry: [7]", "[0, 7], dry: [8]"))  # as long as at first
    os.utime(tmp_path / "own.yml", (1e9, 1e9))
    assert merge_table(str(tmp_path / "own.yml"), "two") == {"wet": (0, 7), "dry": (8,)}


def test_a_cell_takes_its_most_frequent_code():
    codes = np.array([[1, 1, 2, 3], [2, 1, 2, 2], [4, 5, 7, 7], [5, 4, 7, 6]], np.uint8)
    assert majority(codes, 2).tolist() == [[1, 2], [4, 7]]
    assert majority(codes[:3, :3], 2).tolist() == [[1, 2], [4, 7]]  # cells cut by the border


def test_dynamic_worlds_zero_is_water(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(4326), Affine(STEP, 0, 136, 0, -STEP, 36), 4, 8)
    _tile(tmp_path / "half.tif", 136, 36, np.zeros((4, 4), np.uint8))
    codes = Tiles(tmp_path, "dynamic-world").read(grid)
    assert (codes[:, :4] == 0).all() and (codes[:, 4:] == 255).all()
    merged = merge_codes(codes, merge_table("dynamic-world", "four"))
    assert (merged[:, :4] == 0).all() and (merged[:, 4:] == IGNORE).all()


def test_positions_are_those_of_a_projection_of_each_pixel():
    for crs, pixel, (x, y) in ((32653, 10, ORIGIN), (32601, 10, (166000, 9_000_000)), (3395, 100, (-1.3e7, 4e6))):
        grid = Grid(rasterio.CRS.from_epsg(crs), Affine(pixel, 0, x, 0, -pixel, y), 300, 4000)
        found = positions(grid, rasterio.CRS.from_epsg(4326), Affine(0.5, 0, 7, 0, -0.25, 3), 172, 128)
        found = found * np.reshape([0.5, -0.25], (2, 1, 1)) + np.reshape([7, 3], (2, 1, 1))
        column, row = np.meshgrid(np.arange(4000) + 0.5, np.arange(172, 300) + 0.5)
        exact = transform(grid.crs, "EPSG:4326", x + pixel * column.ravel(), y - pixel * row.ravel())
        np.testing.assert_allclose(found.reshape(2, -1), exact, rtol=0, atol=1e-9)  # degrees: a tenth of a millimetre


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("no_data: 99", ""), "no_data 0 is a class"),
        (("no_data: 99", "no_data: 300"), "codes must be whole numbers within 0..255"),
        (("7: land", "'7': land"), "codes must be whole numbers"),
        (("water: [0]", "water: [sea]"), "codes must be whole numbers"),
        (("dry: [7]", "dry: [7, 9]"), "merge 'two' has code 9 twice, or names does not have it"),
        (("epoch: '1999'", "epoch: 2021-06-01"), "'2021-06-01' must be text"),
        (("wet:", "yes:"), "'True' must be text"),
        (("'#009E73'", "green"), "'green' is no colour"),
        ((", 8: '#FFFFFF'", ""), "names and colours must have the same codes"),
        (("product: own", "product: \xe9t\xe9"), "cannot be read"),
    ],
)
def test_faults_of_a_legend_are_named(tmp_path, change, says):
    text = (
        "product: own\nepoch: '1999'\nnames: {0: sea, 7: land, 8: ice}\nwater: [0]\nno_data: 99\n"
        "colours: {0: '#0072B2', 7: '#009E73', 8: '#FFFFFF'}\nmerges: {two: {wet: [0, 8], dry: [7]}}\n"
    )
    (tmp_path / "own.yml").write_bytes(text.replace(*change).encode("latin-1"))
    with pytest.raises(InputError, match=rf"own\.yml'.*{says}"):
        find_legend(str(tmp_path / "own.yml"))


def test_a_map_of_signed_bytes_may_have_no_data_at_255(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(4326), Affine(STEP, 0, 136, 0, -STEP, 36), 4, 4)
    _tile(tmp_path / "signed.tif", 136, 36, np.where(np.eye(4), -1, 7).astype(np.int8), nodata=-1)
    np.testing.assert_array_equal(Tiles(tmp_path, "dynamic-world").read(grid), np.where(np.eye(4), 255, 7))


def test_tiles_in_linked_folders_are_found_and_unreadable_ones_named(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    tif(tmp_path / "elsewhere/LC_N36E136.tif", np.ones((1, 4, 4), np.uint8), (136, 37), crs="EPSG:4326", pixel=0.25)
    (tmp_path / "lulc").mkdir()
    (tmp_path / "lulc/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "lulc")
    assert [path.name for path in Tiles(tmp_path / "lulc", "hrlulc-v21.11").files] == ["LC_N36E136.tif"]

    def refuse(path, real=os.scandir):
        if str(path).endswith("linked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"linked' cannot be read \(Permission denied\)"):
        Tiles(tmp_path / "lulc", "hrlulc-v21.11")


WORDS = {"water": "^water$", "built-up": "built|urban|solar|greenhouse", "forest": "forest|tree|bamboo|mangrove|woody"}


@pytest.mark.parametrize("name", [name for name in landcover.LEGENDS if name not in landcover.PSEUDO])
def test_categories_are_of_what_their_classes_are_called(name):
    legend = landcover.find_legend(name)
    for category, words in WORDS.items():
        called = {code for code, text in legend.names.items() if re.search(words, text)}
        assert set(legend.merges["four"][category]) == called, category
    assert legend.water == tuple(legend.merges["four"]["water"])


def test_pseudo_categories_are_dark_where_every_band_they_ask_for_is():
    pixels = np.array([(49, 49, 200), (49, 50, 200)], np.float32).T[:, None]
    assert landcover.pseudo_categories(pixels, "pseudo-false-colour").tolist() == [[1, 3]]
    pixels = np.array([(39, 39, 39), (39, 40, 39), (40, 39, 39)], np.float32).T[:, None]
    assert landcover.pseudo_categories(pixels, "pseudo-natural-colour").tolist() == [[1, 3, 3]]


def test_a_colour_index_is_relative_however_dark_the_pixel():
    pixels = np.array([(20, 23, 60), (23, 20, 60)], np.float32).T[:, None]  # 3 of 43 are more than a twentieth
    assert landcover.pseudo_categories(pixels, "pseudo-natural-colour").tolist() == [[4, 2]]


def test_the_first_tile_by_name_gives_its_code(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(32653), Affine(10, 0, 5e5, 0, -10, 4e6), 8, 8)
    tif(tmp_path / "a.tif", np.full((1, 8, 8), 3, np.uint8), (5e5, 4e6), crs="EPSG:32653", pixel=10)
    (x,), (y,) = transform("EPSG:32653", "EPSG:4326", [5e5], [4e6])
    tif(tmp_path / "b.tif", np.full((1, 50, 50), 5, np.uint8), (x - 0.001, y + 0.001), crs="EPSG:4326", pixel=1e-4)
    assert (Tiles(tmp_path, "hrlulc-v21.11").read(grid) == 3).all()


def test_where_four_tiles_meet_each_gives_its_own_codes(tmp_path):
    grid = Grid(rasterio.CRS.from_epsg(4326), Affine(STEP, 0, 136 - 4 * STEP, 0, -STEP, 36 + 4 * STEP), 8, 8)
    codes = np.kron([[1, 2], [3, 4]], np.ones((9, 9))).astype(np.uint8)
    for row, column in np.ndindex(2, 2):
        part = codes[9 * row :, 9 * column :][:9, :9]
        _tile(tmp_path / f"{row}{column}.tif", 136 + 9 * (column - 1) * STEP, 36 + 9 * (1 - row) * STEP, part)
    np.testing.assert_array_equal(Tiles(tmp_path, "hrlulc-v21.11").read(grid), codes[5:13, 5:13])
