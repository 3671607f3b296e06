"""Your own pairs: pairing, units, warping and averaging."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject, transform
from scipy import ndimage
from test_archive import ORIGIN, tif

from s2olib.data import rasters
from s2olib.data.rasters import Grid, Header, area_mean, folder_scenes, header, optical_bands, sar_bands
from s2olib.project import InputError

RNG = np.random.default_rng(3)
SAR = RNG.normal(-12, 3, (2, 40, 50)).clip(-30, -1).astype(np.float32)
OPT = RNG.integers(300, 2500, (3, 40, 50)).astype(np.uint16)
BYTES = {"sar_units": "8-bit", "opt_units": "8-bit"}


def pair(root, name="a", sar=SAR, opt=OPT, corner=ORIGIN):
    tif(root / "s1" / f"{name}.tif", sar, corner)
    tif(root / "s2" / f"{name}.tif", opt, corner)
    return root / "s1", root / "s2"


def test_decibels_and_linear_power_are_the_same_scene(tmp_path):
    (scene,) = folder_scenes(*pair(tmp_path))
    np.testing.assert_array_equal(scene.read()[0], SAR)
    np.testing.assert_array_equal(scene.read()[1], OPT)
    pair(tmp_path, sar=(10 ** (SAR / 10)).astype(np.float32))
    (scene,) = folder_scenes(tmp_path / "s1", tmp_path / "s2", sar_units="linear")
    np.testing.assert_allclose(scene.read()[0], SAR, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "change", "says"),
    [
        ({}, lambda s, o: (10 ** (s / 10), o), "declared 'dB' but holds values from"),
        ({"sar_units": "linear"}, lambda s, o: (s, o), "declared 'linear' but holds values from -"),
        ({"sar_units": "linear"}, lambda s, o: (s + 60, o), "no calibrated sigma0"),
        ({"sar_units": "8-bit"}, lambda s, o: (s, o), "declared '8-bit'"),
        ({"opt_units": "8-bit"}, lambda s, o: (s, o), "whole numbers from 0 to 255"),
        ({}, lambda s, o: (s, (o / 10000).astype(np.float32)), "multiply reflectance"),
        ({}, lambda s, o: (s, (o / 30).astype(np.float32)), "or percent by 100"),
        ({}, lambda s, o: (s, np.clip(o // 8, 0, 255)), "8-bit image"),
        ({}, lambda s, o: (s, (o // 20).astype(np.uint8)), "8-bit image"),
    ],
)
def test_values_that_contradict_their_units_are_refused(tmp_path, options, change, says):
    sar, opt = change(SAR, OPT)
    (scene,) = folder_scenes(*pair(tmp_path, "kaga", sar.astype(np.float32), opt), **options)
    with pytest.raises(InputError, match=says) as error:
        scene.read()
    assert "kaga.tif" in str(error.value)


def test_units_are_judged_where_hardly_any_pixel_is_seen_at_first(tmp_path):
    """Every pixel that a regular sample of this image meets has no data: they are all in its first column."""
    power = np.random.default_rng(0).uniform(0.01, 0.2, (2, 2499, 1000)).astype(np.float32)
    power[..., 0] = np.nan
    with pytest.raises(InputError, match=r"'edge.tif' is declared 'dB' but holds values from 0.01 to 0.2: .* 'linear'"):
        rasters.check_units(power, "dB", Path("edge.tif"))


def test_bytes_are_no_power_however_dark():
    levels = np.full((2, 40, 50), 3, np.float32)
    rasters.check_units(levels, "linear", Path("a.tif"), "float32")
    with pytest.raises(InputError, match=r"'a.tif' is declared 'linear' but .* no calibrated sigma0"):
        rasters.check_units(levels, "linear", Path("a.tif"), "uint8")


def test_a_grid_is_part_of_another_only_pixel_by_pixel():
    grid = Grid(CRS.from_epsg(32653), Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), 40, 50)
    part = grid.part(3, 4, 20, 30)
    assert grid.position_of(part) == (3, 4)
    for shift in (Affine.translation(3, 0), Affine.translation(0, -3)):  # metres
        assert grid.position_of(replace(part, transform=shift @ part.transform)) is None
    finer = replace(part, transform=part.transform @ Affine.scale(0.99))  # its last pixel is off by a third of one
    assert grid.position_of(finer) is None


def test_single_values_decide_about_no_units(tmp_path):
    power = (10 ** (SAR / 10)).astype(np.float32)
    power[:, 3, 4] = -1e-5  # as noise removal leaves them
    dark = np.full_like(OPT, 200)
    dark[:, 5, 6] = 255
    (scene,) = folder_scenes(*pair(tmp_path, sar=power, opt=dark), sar_units="linear")
    sar, opt, _ = scene.read()
    assert np.isnan(sar[:, 3, 4]).all() and np.isfinite(sar).sum() == sar.size - 2
    np.testing.assert_array_equal(opt, dark)
    (scene,) = folder_scenes(tmp_path / "s1", tmp_path / "s2")
    with pytest.raises(InputError, match="set sar_units to 'linear'"):
        scene.read()


def test_a_file_that_goes_away_is_named(tmp_path):
    (scene,) = folder_scenes(*pair(tmp_path))
    (tmp_path / "s2/a.tif").unlink()
    with pytest.raises(InputError, match=r"s2/a.tif' cannot be read"):
        scene.read()


def test_sar_is_warped_in_power_onto_the_optical_grid(tmp_path):
    sar = np.full((1, 40, 50), -20, np.float32)
    sar[:, 0, 0] = -19.5  # all whole numbers would be a fault
    sar[:, :, 25:] = -10
    folders = pair(tmp_path, sar=sar)
    tif(tmp_path / "s2/a.tif", OPT, (ORIGIN[0] + 5, ORIGIN[1]))  # half a pixel to the east
    (scene,) = folder_scenes(*folders)
    read = scene.read()[0][0, 20]
    assert read[10] == pytest.approx(-20, abs=1e-3) and read[30] == pytest.approx(-10, abs=1e-3)
    assert read[24] == pytest.approx(10 * np.log10((0.01 + 0.1) / 2), abs=0.01)  # −12.6 dB; the mean of dB would be −15
    assert folder_scenes(*folders, grid="sar")[0].grid.transform.c == ORIGIN[0]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Sigma0_VH", "Sigma0_VV_dB"), {"VV": 2, "VH": 1}),
        (("hh", "hv"), {"HH": 1, "HV": 2}),
        ((None, "savvy"), {"VV": 1, "VH": 2}),
        (("VV", "vv/vh", "VH"), {"VV": 1, "VH": 3}),
        (("Gamma0_VH",), {"VH": 1}),
        (("VHdB", "VVdB"), {"VV": 2, "VH": 1}),
        (("intensity",), {"INTENSITY": 1}),
    ],
)
def test_polarisations_are_read_off_names(names, found):
    assert sar_bands(Path("a.tif"), Header(None, len(names), "float32", names)) == found


def test_wanted_polarisations_in_any_case_and_three_bands_that_are_no_grey_image():
    found = sar_bands(Path("a.tif"), Header(None, 2, "float32", (None, None)), ["vh", "vv"])
    assert [*found.items()] == [("VV", 1), ("VH", 2)], "as pictures and limits expect them"
    found = sar_bands(Path("a.tif"), Header(None, 2, "float32", (None, None)), ["HV", "HH"])
    assert [*found.items()] == [("HH", 2), ("HV", 1)]
    assert sar_bands(Path("a.tif"), Header(None, 1, "float32", (None,)), ["vh"]) == {"VH": 1}
    assert sar_bands(Path("a.tif"), Header(None, 3, "uint8", (None,) * 3)) == {"SAR": 1}
    with pytest.raises(InputError, match="has 3 bands without names"):
        sar_bands(Path("a.tif"), Header(None, 3, "float32", (None,) * 3))


def test_bands_with_other_names_are_not_taken_for_colours():
    found = Header(None, 3, "uint16", ("B12", "B8A", "B11"))
    assert optical_bands(Path("a.tif"), found, ["B11", "B12", "B8A"]) == (3, 1, 2)
    with pytest.raises(InputError, match="none is known as 'red'"):
        optical_bands(Path("a.tif"), found)


def test_transparency_is_no_band(tmp_path):
    for mode, bands in (("LA", 1), ("RGBA", 3)):
        Image.new(mode, (8, 8)).save(tmp_path / f"{mode}.png")
        assert header(tmp_path / f"{mode}.png").count == bands


def test_a_fourth_band_of_bytes_that_holds_measurements_hides_nothing(tmp_path):
    bands = RNG.integers(1, 250, (4, 40, 50)).astype(np.uint8)
    bands[3, :20] = 0  # of near infrared over water; GDAL takes the band for transparency
    path = tif(tmp_path / "a.tif", bands)
    assert header(path).count == 4
    for part in (None, rasters.Window(0, 0, 50, 20)):  # that of water alone, too
        read = rasters.read_bands(path, (1, 2, 3), header(path), part)
        np.testing.assert_array_equal(read, bands[:3, : read.shape[1]])
    bands[3] = np.where(bands[3] > 0, 255, 0)  # as transparency is,
    bands[3, 20, :9] = 128  # with a soft edge
    read = rasters.read_bands(tif(path, bands), (1, 2, 3), header(path))
    assert header(path).count == 3 and np.isnan(read[:, :20]).all() and (read[:, 20:] == bands[:3, 20:]).all()
    for name, count in (("Alpha", 3), ("NIR", 4)):
        with rasterio.open(path, "r+") as file:
            file.set_band_description(4, name)
        assert header(path).count == count
        assert np.isnan(rasters.read_bands(path, (1, 2, 3), header(path))).any() == (name == "Alpha")


def test_offset_of_newer_level_2a(tmp_path):
    opt = OPT.copy()
    opt[:, 0, 0], opt[:, 1, 1] = 0, 900
    (scene,) = folder_scenes(*pair(tmp_path, opt=opt), opt_offset=1000)
    read = scene.read()[1]
    assert np.isnan(read[:, 0, 0]).all() and not read[:, 1, 1].any()  # nothing stays nothing; darker than dark is 0
    np.testing.assert_array_equal(read[:, 2:], np.maximum(opt[:, 2:].astype(float) - 1000, 0))


def _png(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_images_without_geography_pair_by_a_list(tmp_path):
    grey, colour = RNG.integers(0, 256, (32, 32), np.uint8), RNG.integers(1, 250, (32, 32, 3), np.uint8)
    _png(tmp_path / "s1/x_s1.png", grey)
    _png(tmp_path / "s2/x_s2.png", colour)
    pairs = {"id": ["001"], "s1": ["x_s1.png"], "s2": ["x_s2.png"], "event": ["france"], "date": ["2021-02-03"]}
    pd.DataFrame(pairs).to_csv(tmp_path / "pairs.csv", index=False)
    options = {"pairs_csv": tmp_path / "pairs.csv", **BYTES}
    (scene,) = folder_scenes(tmp_path / "s1", tmp_path / "s2", group_column="event", **options)
    assert (scene.id, scene.group, scene.date, scene.grid.crs) == ("001", "france", "2021-02-03", None)
    assert scene.sar_date == scene.date
    np.testing.assert_array_equal(scene.read()[0], grey[None])
    np.testing.assert_array_equal(scene.read()[1], colour.transpose(2, 0, 1))
    with pytest.raises(InputError, match="no column 'place'"):
        folder_scenes(tmp_path / "s1", tmp_path / "s2", group_column="place", **options)
    _png(tmp_path / "s2/x_s2.png", colour[:30])
    with pytest.raises(InputError, match=r"cannot be laid over its partner"):
        folder_scenes(tmp_path / "s1", tmp_path / "s2", **options)


def test_wedges_are_no_data_but_bright_roofs_are_not(tmp_path):
    colour = RNG.integers(1, 250, (100, 100, 3), np.uint8)
    colour[:, :4], colour[:, 60:], colour[40:60, 20:40] = 0, 255, 255  # a black edge, a white wedge, a white roof
    _png(tmp_path / "s1/x.png", RNG.integers(0, 256, (100, 100), np.uint8))
    _png(tmp_path / "s2/x.png", colour)
    (scene,) = folder_scenes(tmp_path / "s1", tmp_path / "s2", **BYTES)
    empty = np.isnan(scene.read()[1][0])
    assert empty[:, :4].all() and empty[:, 60:].all() and not empty[:, 4:60].any()


def test_faults_of_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="sar_dir 'None' is not a folder"):
        folder_scenes(None, tmp_path)
    sar_dir, opt_dir = pair(tmp_path)
    tif(sar_dir / "lonely.tif", SAR)
    with pytest.raises(InputError, match=r"lonely.tif' has no partner"):
        folder_scenes(sar_dir, opt_dir)
    (sar_dir / "lonely.tif").unlink()
    tif(opt_dir / "a.tif", np.concatenate([OPT, OPT]))
    with pytest.raises(InputError, match="has 6 bands"):
        folder_scenes(sar_dir, opt_dir)
    (opt_dir / "a.tif").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"a.tif' cannot be read"):
        folder_scenes(sar_dir, opt_dir)


def test_area_mean_leaves_no_data_out():
    values = np.array([[[1, 3, np.nan, np.nan], [5, np.nan, np.nan, np.nan]]], np.float32)
    np.testing.assert_array_equal(area_mean(values, 2), [[[3, np.nan]]])


@pytest.mark.parametrize(
    "names",
    [
        ("B02_10m", "B03_10m", "B04_10m"),
        ("B2, central wavelength 490 nm", "B3, central wavelength 560 nm", "B4, central wavelength 665 nm"),
        ("blue band", "green band", "red band"),
        ("B", "G", "R"),
        ("b", "g", "r"),
    ],
)
def test_colours_are_words_of_names(names):
    assert optical_bands(Path("a.tif"), Header(None, 3, "uint16", names)) == (3, 2, 1)


def test_colours_in_another_order_say_themselves_which_they_are(tmp_path):
    path = tif(tmp_path / "a.tif", OPT)
    assert optical_bands(path, header(path)) == (1, 2, 3)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = ColorInterp.blue, ColorInterp.green, ColorInterp.red
    assert optical_bands(path, header(path)) == (3, 2, 1)
    with rasterio.open(path, "r+") as file:
        file.descriptions = "Band 1", "Band 2", "Band 3"
    assert optical_bands(path, header(path)) == (3, 2, 1)
    with rasterio.open(path, "r+") as file:
        file.descriptions = "red", "green", "blue"  # which says more
    assert optical_bands(path, header(path)) == (1, 2, 3)


def test_three_of_four_bands_say_that_they_are_colours(tmp_path):
    path = tif(tmp_path / "a.tif", np.concatenate([OPT, OPT[:1]]))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined
    assert optical_bands(path, header(path)) == (1, 2, 3)
    with rasterio.open(path, "r+") as file:
        file.descriptions = "SWIR", "NIR", "VRE", "PAN"  # which say more
    assert optical_bands(path, header(path), ["SWIR", "NIR", "VRE"]) == (1, 2, 3)


def test_four_bands_of_bytes_are_not_known_by_gdals_default(tmp_path):
    path = tif(
        tmp_path / "a.tif", np.concatenate([OPT, OPT[::-1][:1]]).astype(np.uint8), names=("SWIR", "NIR", "VRE", "PAN")
    )
    assert optical_bands(path, header(path), ["SWIR", "NIR", "VRE"]) == (1, 2, 3)
    path = tif(tmp_path / "b.tif", np.concatenate([OPT, OPT[::-1][:1]]).astype(np.uint8))
    with pytest.raises(InputError, match="has 4 bands and none is known as 'red'"):
        optical_bands(path, header(path))


@pytest.mark.parametrize("count", [12, 13])
def test_bands_of_sentinel_2_are_known_whatever_is_shown_of_them(tmp_path, count):
    path = tif(tmp_path / "a.tif", np.repeat(OPT[:1], count, 0))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = ColorInterp.red, ColorInterp.green, ColorInterp.blue, *[ColorInterp.undefined] * (count - 3)
    assert optical_bands(path, header(path)) == (4, 3, 2)


def test_numbers_of_colours_and_coloured_radar_are_refused(tmp_path):
    colours = Image.fromarray(np.moveaxis(OPT // 10, 0, -1).astype(np.uint8))
    for folder in ("s1", "s2", "palette"):
        (tmp_path / folder).mkdir()
        (colours.quantize(16) if folder == "palette" else colours).save(tmp_path / folder / "a.png")
    for sar, opt in (("palette", "s2"), ("s2", "palette")):
        with pytest.raises(InputError, match=r"palette/a\.png' holds numbers of a palette's colours"):
            folder_scenes(tmp_path / sar, tmp_path / opt, **BYTES)
    (scene,) = folder_scenes(tmp_path / "s1", tmp_path / "s2", **BYTES)
    with pytest.raises(InputError, match=r"s1/a\.png' is a coloured image"):
        scene.read()
    grey = np.repeat(np.asarray(colours)[..., :1], 3, -1)
    _png(tmp_path / "s1/a.png", grey)
    assert scene.read()[0].shape == (1, 40, 50)
    grey[5, 5, 2] += 1  # in one channel alone
    _png(tmp_path / "s1/a.png", grey)
    with pytest.raises(InputError, match=r"s1/a\.png' is a coloured image"):
        scene.read()
    (tmp_path / "s1/a.png").unlink()
    for names in (("R", "G", "B"), ("Band 1", "Band 2", "Band 3")):
        tif(tmp_path / "s1/a.tif", np.moveaxis(np.asarray(colours), -1, 0), crs=None, names=names)
        with pytest.raises(InputError, match=r"s1/a\.tif' is a coloured image"):
            folder_scenes(tmp_path / "s1", tmp_path / "s2", **BYTES)[0].read()


def test_coordinates_without_a_crs_are_compared_to_half_a_pixel(tmp_path):
    for off, same in ((4, True), (6, False)):
        for folder, pixels, west in (("s1", SAR, 0), ("s2", OPT, off)):
            path = tif(tmp_path / folder / "a.tif", pixels, crs=None)
            with rasterio.open(path, "r+") as file:
                file.transform = Affine(10, 0, 1000 + west, 0, -10, 2000)
        if same:
            assert len(folder_scenes(tmp_path / "s1", tmp_path / "s2")) == 1
        else:
            with pytest.raises(InputError, match="have different coordinates and no CRS"):
                folder_scenes(tmp_path / "s1", tmp_path / "s2")


def test_one_bright_pixel_makes_no_reflectance_of_a_fraction(tmp_path):
    for factor in (10_000, 100):
        opt = (OPT / factor).astype(np.float32)
        opt[:, 3, 3] = 230
        (scene,) = folder_scenes(*pair(tmp_path, opt=opt))
        with pytest.raises(InputError, match="multiply reflectance of 0 to 1 by 10000, or percent by 100"):
            scene.read()


def test_two_bands_of_a_polarisation_are_refused_and_nameless_ones_are_what_is_said():
    with pytest.raises(InputError, match=r"several bands of VV \(Amplitude_VV, Intensity_VV\)"):
        sar_bands(Path("a.tif"), Header(None, 3, "float32", ("Amplitude_VV", "Intensity_VV", "Intensity_VH")))
    assert sar_bands(Path("a.tif"), Header(None, 2, "float32", (None, None)), ["HH", "HV"]) == {"HH": 1, "HV": 2}


def test_no_power_in_one_band_is_as_dark_as_can_be(tmp_path):
    power = (10 ** (SAR / 10)).astype(np.float32)
    power[1, 3, 4] = 0
    (scene,) = folder_scenes(*pair(tmp_path, sar=power), sar_units="linear")
    assert scene.read()[0][:, 3, 4] == pytest.approx([SAR[0, 3, 4], -60], abs=1e-4)
    with np.errstate(divide="ignore"):
        decibels = 10 * np.log10(power)
    decibels[:, 5, 6] = -np.inf
    (scene,) = folder_scenes(*pair(tmp_path, sar=decibels))
    assert scene.read()[0][:, 3, 4] == pytest.approx([SAR[0, 3, 4], -60], abs=1e-4)
    assert np.isnan(scene.read()[0][:, 5, 6]).all()


@pytest.mark.parametrize("crs", ["EPSG:32654", "EPSG:3035"])
def test_a_turned_image_is_averaged_alike_whatever_its_shape(crs):
    (x,), (y,) = transform("EPSG:4326", crs, [136.3 if crs == "EPSG:32654" else -8.5], [36.3])
    zone = CRS.from_epsg(32653 if crs == "EPSG:32654" else 32629)
    source = Grid(CRS.from_string(crs), Affine(10, 0, x - 5e5, 0, -10, y + 5e5), 100_000, 100_000)
    (x,), (y,) = transform(crs, zone, [x], [y])
    for height, width in ((100, 100), (2000, 500), (64, 10_000)):
        target = Grid(zone, Affine(10, 0, x - 5 * width, 0, -10, y + 5 * height), height, width)
        assert rasters._scale(source, target) == (1, 1)
        coarse = replace(source, transform=source.transform @ Affine.scale(1 / 4))
        assert rasters._scale(coarse, target) == pytest.approx((0.25, 0.25), rel=0.02)


def test_what_no_echo_can_be_is_no_data(tmp_path):
    for units, values in (("dB", SAR), ("linear", 10 ** (SAR / 10))):
        sar = values.astype(np.float32)
        sar[:, :, :30] = -9999
        (scene,) = folder_scenes(*pair(tmp_path, sar=sar), sar_units=units)
        read = scene.read()[0]
        assert np.isnan(read[..., :30]).all() and np.isfinite(read[..., 30:]).all()


@pytest.mark.parametrize("band", [0, 1])
def test_what_no_value_can_be_is_no_data_though_one_band_alone_has_it(tmp_path, band):
    opt = OPT.astype(np.int16)
    opt[band, :, :20] = -9999
    for units, values in (("dB", SAR), ("linear", 10 ** (SAR / 10))):
        sar = values.astype(np.float32)
        sar[band, :, 30:] = -9999
        (scene,) = folder_scenes(*pair(tmp_path, sar=sar, opt=opt), sar_units=units)
        for read, good in zip(scene.read(), (slice(30), slice(20, None)), strict=False):
            valid = np.zeros(read.shape, bool)
            valid[..., good] = True
            np.testing.assert_array_equal(np.isfinite(read), valid)


def test_two_polarisations_in_a_png_are_no_grey_and_transparency(tmp_path):
    rng = np.random.default_rng(0)
    sar, folders = rng.integers(0, 256, (2, 40, 50), np.uint8), pair(tmp_path)
    for bands in (sar, np.stack([sar[0], np.where(sar[1] > 128, np.uint8(255), 0)])):
        with rasterio.open(
            folders[0] / "a.png", "w", driver="PNG", count=2, dtype="uint8", height=40, width=50
        ) as file:
            file.write(bands)
        head = header(folders[0] / "a.png")
        read = rasters.read_bands(folders[0] / "a.png", tuple(range(1, head.count + 1)), head)
        if bands is sar:
            np.testing.assert_array_equal(read, sar)
        else:  # clear or opaque all over, as transparency is
            assert head.count == 1 and (np.isnan(read[0]) == (bands[1] == 0)).all()


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir"), (6, 4, 2)),
        (("Coastal Blue", "Blue", "Green", "Yellow", "Red", "Red Edge", "NIR"), (5, 3, 2)),
        (("B02 (blue)", "B03_10m", "red (B4)", "B8"), (3, 2, 1)),
    ],
)
def test_a_colour_is_its_own_band_and_no_other_red_green_or_blue(names, places):
    assert optical_bands(Path("a.tif"), Header(None, len(names), "uint16", names)) == places


def test_two_bands_of_a_colour_and_one_that_is_no_colour_are_refused():
    with pytest.raises(InputError, match="several bands that are 'red'"):
        optical_bands(Path("a.tif"), Header(None, 4, "uint16", ("2019 red", "2020 red", "green", "blue")))
    with pytest.raises(InputError, match="none is known as 'red'"):
        optical_bands(Path("a.tif"), Header(None, 4, "uint16", ("Blue", "Green", "Red edge", "NIR")))
    assert rasters.band_name("B3_B4") == "B3_B4", "a ratio of two, say, and neither"


def test_a_list_names_files_with_or_without_suffix_and_their_own_folder_alone(tmp_path):
    folders = pair(tmp_path)
    table = tmp_path / "pairs.csv"
    for name in ("a", "a.tif", "s1/a.tif", f"{tmp_path.name}/s1/a"):
        table.write_text(f"ID,S1,Date,Opt_Offset\na,{name},2020-11-04,10\n")
        (scene,) = folder_scenes(*folders, pairs_csv=table)
        assert scene.date == "2020-11-04"
        np.testing.assert_array_equal(scene.read()[1], OPT - 10)
    for name in ("2019/a.tif", "a.v2"):
        table.write_text(f"id,s1\na,{name}\n")
        with pytest.raises(InputError, match=f"pair 'a' has no '{name}' in sar_dir"):
            folder_scenes(*folders, pairs_csv=table)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    folders = pair(tmp_path)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(InputError, match=r"sar_dir '.*s1' cannot be read \(Permission denied\)"):
        folder_scenes(*folders)


def test_values_far_below_zero_are_no_reflectance(tmp_path):
    opt = OPT.astype(np.int16)
    opt[:, :, :20], opt[0, 3, 40] = -9999, -30
    (scene,) = folder_scenes(*pair(tmp_path, opt=opt))
    read = scene.read()[1]
    assert np.isnan(read[..., :20]).all() and np.isfinite(read[..., 20:]).all() and read[0, 3, 40] == 0


@pytest.mark.parametrize(
    ("across", "down", "crs"),
    [(10, 10, "EPSG:32653"), (40, 40, "EPSG:32653"), (3, 3, "EPSG:32652"), (2.5, 5, "EPSG:32653")],
)
def test_of_a_large_image_only_what_lies_below_the_other_is_read(tmp_path, monkeypatch, across, down, crs):
    """And what comes out is what GDAL makes of all of it, given the pixels' ratio."""
    rng = np.random.default_rng(4)
    (x,), (y,) = transform("EPSG:32653", crs, [ORIGIN[0]], [ORIGIN[1]])
    smooth = ndimage.gaussian_filter(rng.normal(-12, 30, (700, 800)), 3)[None].astype(np.float32)
    large = tif(tmp_path / "s1/a.tif", smooth.clip(-30, -1), crs=crs)
    with rasterio.open(large, "r+") as file:
        file.transform = Affine(across, 0, x - 400 * across, 0, -down, y + 300 * down)
    tif(tmp_path / "s2/a.tif", OPT, ORIGIN, pixel=10)
    (scene,) = folder_scenes(tmp_path / "s1", tmp_path / "s2")
    read = []
    monkeypatch.setattr(rasters, "warp", lambda *args, real=rasters.warp: (read.append(args[0].shape), real(*args))[1])
    found, whole = scene.read()[0], np.full((1, 40, 50), np.nan, np.float32)
    with rasterio.open(large) as file:
        how = {"src_transform": file.transform, "src_crs": crs, "dst_crs": scene.grid.crs, "src_nodata": np.nan}
        how |= {"dst_transform": scene.grid.transform, "resampling": Resampling.bilinear}
        how |= {"XSCALE": min(across / 10, 1), "YSCALE": min(down / 10, 1)}
        reproject(10 ** (file.read() / 10), whole, **how)
    np.testing.assert_allclose(found, 10 * np.log10(whole), atol=0.03)
    assert read[0][1] < 300 and read[0][2] < 300


@pytest.mark.parametrize(
    ("west", "crs", "corner", "pixel"),
    [
        (179.5, "EPSG:32701", (190_000, 8_217_000), 100),  # just east of 180°
        (-180.5, "EPSG:32760", (800_000, 8_217_000), 100),  # just west of it
        (179.5, "EPSG:4326", (-179.8, -16.1), 0.001),
        (-180.5, "EPSG:4326", (179.8, -16.1), 0.001),
    ],
)
def test_an_image_reaches_beyond_the_antimeridian(tmp_path, west, crs, corner, pixel):
    rise = np.add.outer(np.linspace(0, 6, 500), np.linspace(-25, -7, 1000))[None].astype(np.float32)
    tif(tmp_path / "s1/a.tif", rise, (west, -15.9), crs="EPSG:4326", pixel=0.001)
    tif(tmp_path / "s2/a.tif", OPT, corner, crs=crs, pixel=pixel)
    (scene,) = folder_scenes(tmp_path / "s1", tmp_path / "s2")
    to_degrees = scene.grid.transform @ (np.arange(50) + 0.5, np.full(50, 20.5))
    lon, lat = (np.array(v) for v in transform(crs, "EPSG:4326", *to_degrees))
    wanted = -25 + 18 * (((lon - west) % 360) / 0.001 - 0.5) / 999 + 6 * ((-15.9 - lat) / 0.001 - 0.5) / 499
    np.testing.assert_allclose(scene.read()[0][0, 20], wanted, atol=0.02)


def test_a_few_pixels_decide_nothing(tmp_path):
    """Of a lot of rows at a slanted edge, say."""
    sar = np.full_like(SAR, np.nan)
    sar[:, 0, :9] = [[-14], [-12]]  # as if swapped
    (scene,) = folder_scenes(*pair(tmp_path, sar=sar))
    assert np.isfinite(scene.read()[0]).sum() == 18
    sar[:, :3] = [[[-14]], [[-12]]]
    (scene,) = folder_scenes(*pair(tmp_path, sar=sar))
    with pytest.raises(InputError, match="looks swapped"):
        scene.read()


@pytest.mark.parametrize(("kind", "nodata"), [(np.uint8, 0), (np.uint8, 255), (np.uint16, 0)])
def test_a_byte_that_is_declared_no_data_counts_where_all_bands_hold_it(tmp_path, kind, nodata):
    opt = RNG.integers(1, 250, (3, 40, 50)).astype(kind)
    opt[2, 5, 5], opt[:, 6, 6] = nodata, nodata
    path = tif(tmp_path / "a.tif", opt, nodata=nodata)
    read = rasters.read_bands(path, (1, 2, 3), header(path))
    assert np.isnan(read[:, 6, 6]).all()
    assert np.isnan(read[2, 5, 5]) == (kind == np.uint16)  # no reflectance is exactly 0: that band lacks it
    assert np.isnan(read).sum() == 3 + (kind == np.uint16)


def test_blank_rows_of_a_list_are_left_out(tmp_path):
    folders, table = pair(tmp_path), tmp_path / "pairs.csv"
    table.write_text("id,s1,s2\na,,\n,,\n\n , ,\n")
    assert [scene.id for scene in folder_scenes(*folders, pairs_csv=table)] == ["a"]


def test_names_of_columns_with_blanks(tmp_path):
    folders, table = pair(tmp_path), tmp_path / "pairs.csv"
    pair(tmp_path, "b", sar=SAR - 1, opt=OPT + np.uint16(1000))
    table.write_text("id , s1, opt_offset\na, b.tif,\nb, a.tif, 1000\n")
    first, second = folder_scenes(*folders, pairs_csv=table)
    assert first.read()[0].max() == SAR.max() - 1 and second.read()[1].max() == OPT.max()
    assert (first.opt_offset, second.opt_offset) == (0, 1000)


def test_the_first_column_may_be_the_group_as_well_as_the_name(tmp_path):
    folders, table = pair(tmp_path), tmp_path / "pairs.csv"
    table.write_text("place,s1\na,a\n")
    (scene,) = folder_scenes(*folders, pairs_csv=table, group_column="place")
    assert (scene.id, scene.group) == ("a", "a")


def test_lists_with_commas_at_the_end_blanks_and_paths(tmp_path):
    folders, table = pair(tmp_path), tmp_path / "pairs.csv"
    table.write_text("id,s1,s2,place,,\nx,a.tif,a.tif, Paris ,\n")
    (scene,) = folder_scenes(*folders, pairs_csv=table, group_column="place")
    assert (scene.id, scene.group) == ("x", "Paris")
    table.write_text("id,s1,s2\n../x,a.tif,a.tif\n")
    with pytest.raises(InputError, match=r"has the id '\.\./x'"):
        folder_scenes(*folders, pairs_csv=table)


def test_power_that_nobody_calibrated_is_no_fill():
    raw = np.random.default_rng(0).exponential(2e6, (2, 40, 40)).astype(np.float32)
    np.testing.assert_array_equal(rasters.sar_no_data(raw, "raw.tif"), raw)
    power = np.full((2, 40, 40), 0.1, np.float32)
    power[:, :5], power[0, 20, 20] = 65535, 65535  # in one band alone it is a value, to be refused by others
    assert np.isnan(found := rasters.sar_no_data(power, "power.tif")).sum() == 2 * 5 * 40 and found[0, 20, 20] == 65535
