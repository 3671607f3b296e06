"""Whole scenes: tiles leave no trace, the grid and the mask are the input's, a kill costs nothing, faults say why."""

import json
import re
import sys
from copy import deepcopy

import numpy as np
import pytest
import rasterio
import torch
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.shutil import copy
from rasterio.transform import Affine
from rio_cogeo import cog_validate
from safetensors.torch import save_file

from s2olib import translation
from s2olib.checkpoints import load_generator
from s2olib.data import rasters
from s2olib.data import sar as sar_module
from s2olib.generators import create_generator
from s2olib.project import InputError
from s2olib.translation import seam_ratio, translate

SMALL = {"tile_size": 192, "overlap": 64}
GRID = {"crs": "EPSG:32653", "transform": Affine(10, 0, 613520, 0, -10, 4020560)}


def make_weights(folder, network, bands=("VV", "VH"), units="dB", opt_limits=(0.0, 0.3)):
    """A run folder with an untrained network."""
    folder.mkdir(exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()}, folder / "generator.safetensors"
    )
    limits = [[-25.0, 0.0], [-32.0, -5.0]] if units == "dB" else [[0.0, 255.0]]
    config = {
        "generator": network.config,
        "sar": {"bands": list(bands), "units": units, "scale": 1.0, "limits": limits},
        "opt": {
            "bands": ["red", "green", "blue"],
            "units": "reflectance" if units == "dB" else "8-bit",
            "scale": 1e-4,
            "limits": [list(opt_limits)] * 3,
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write(path, pixels, names=("VV", "VH"), **profile):
    profile = {**GRID, "nodata": None, **profile}
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=count, dtype=pixels.dtype, **profile
    ) as file:
        file.write(pixels)
        file.descriptions = tuple(names) if names else (None,) * count
    return path


@pytest.fixture(scope="module")
def shallow():
    """A U-Net of two levels sees 11 pixels far: less than a quarter of the overlap of `SMALL`."""
    torch.manual_seed(0)
    network = create_generator("unet", in_channels=2, out_channels=3, embed_dim=4, levels=2).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return network


@pytest.fixture
def weights(tmp_path, shallow):
    return make_weights(tmp_path / "run", shallow)


@pytest.fixture
def sar():
    """Noise in dB, 500 x 430 pixels: the last row and column of tiles are narrower."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(2, 500, 430)) * 4 - [[[12]], [[19]]]).astype(np.float32)


@pytest.fixture
def scene(tmp_path, sar):
    return write(tmp_path / "scene.tif", sar)


def test_tiles_give_what_the_whole_image_gives(tmp_path, shallow, sar, scene):
    wide = make_weights(tmp_path / "wide", shallow, opt_limits=(0.0, 6.5))  # a step of 16 bits is 0.00003 of [-1, 1]
    report = translate(scene, tmp_path / "out.tif", wide, output="reflectance", **SMALL)
    network, config = load_generator(wide)
    low, high = np.array(config["sar"]["limits"], np.float32).T[:, :, None, None]
    with torch.no_grad():
        whole = network(torch.from_numpy(np.clip((sar - low) / (high - low) * 2 - 1, -1, 1))[None])[0].numpy()
    with rasterio.open(tmp_path / "out.tif") as file:
        tiled = file.read() * file.scales[0] / 6.5 * 2 - 1
    assert np.abs(tiled - whole).max() < 1e-4
    assert (report["width"], report["height"], report["valid"]) == (430, 500, 1.0)


@pytest.mark.parametrize("length", [1, 63, 192, 193, 320, 500, 4001])
@pytest.mark.parametrize(("size", "overlap"), [(192, 64), (512, 128), (256, 80)])
def test_blending_weights_sum_to_one_and_leave_margins_out(length, size, overlap):
    begin = translation.starts(length, size, overlap)
    weights, total = translation.ramps(length, size, begin), torch.zeros(length)
    for i, (start, weight) in enumerate(zip(begin, weights, strict=True)):
        total[start : start + size] += weight
        assert i == 0 or (weight[: overlap // 4] == 0).all()
        assert i == len(begin) - 1 or (weight[-(overlap // 4) :] == 0).all()
        assert (weight >= 0).all()
        assert (weight.diff().abs() < 4 / overlap).all(), "neighbours fade into each other"
    torch.testing.assert_close(total, torch.ones(length))


def test_the_result_is_a_cloud_optimized_geotiff_on_the_same_grid(tmp_path, weights, sar):
    sar[:, :40, :300] = np.nan
    source = write(tmp_path / "scene.tif", np.tile(sar, (1, 2, 2)), nodata=np.nan)
    report = translate(source, tmp_path / "deep" / "out.tif", weights, **SMALL)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.tif"]
    assert cog_validate(tmp_path / "deep" / "out.tif", strict=True) == (True, [], [])
    with rasterio.open(source) as given, rasterio.open(tmp_path / "deep" / "out.tif") as made:
        assert (made.crs, made.transform, made.shape, made.count) == (given.crs, given.transform, given.shape, 3)
        np.testing.assert_array_equal(made.dataset_mask(), given.dataset_mask())
        assert (made.read()[:, made.dataset_mask() == 0] == 0).all()
        assert made.overviews(1) and made.read(1, out_shape=(100, 86)).std() > 0
        half, means = made.read(1, out_shape=(500, 430)), made.read(1).reshape(500, 2, 430, 2).mean((1, 3))
        assert np.abs(half - means)[50:250].max() <= 1, "where there is data, each pixel is the mean of four"
        tags = made.tags()
        assert "not an observation" in tags["TIFFTAG_IMAGEDESCRIPTION"] and len(tags["WEIGHTS_SHA256"]) == 64
        assert tags["SOURCE"] == "scene.tif"
        assert json.loads(tags["NORMALISATION"])["sar"]["limits"] == [[-25.0, 0.0], [-32.0, -5.0]]
        assert report["valid"] == pytest.approx((made.dataset_mask() > 0).mean())


class Killed(BaseException):
    pass


@pytest.mark.parametrize(  # calls before the kill: in the first row of tiles, in later ones, in one that two reach into
    ("overlap", "survived"), [(64, 1), (64, 8), (64, 11), (48, 10)]
)
def test_killed_and_resumed_equals_never_killed(tmp_path, weights, scene, monkeypatch, overlap, survived):
    chosen = SMALL | {"overlap": overlap}
    translate(scene, tmp_path / "whole.tif", weights, **chosen)
    call, calls = translation._Engine.__call__, []

    def dies(self, tiles):
        calls.append(1)
        if len(calls) > survived:
            raise Killed
        return call(self, tiles)

    with monkeypatch.context() as patch:
        patch.setattr(translation._Engine, "__call__", dies)
        with pytest.raises(Killed):
            translate(scene, tmp_path / "out.tif", weights, **chosen)
    assert not (tmp_path / "out.tif").exists()
    translate(scene, tmp_path / "out.tif", weights, **chosen)
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_finished_row_is_not_translated_again_but_other_parameters_begin_anew(tmp_path, weights, scene, monkeypatch):
    monkeypatch.setattr(translation, "_finish", lambda *_: (_ for _ in ()).throw(OSError("no space left on device")))
    with pytest.raises(InputError, match=r"no space left on device.*goes on"):
        translate(scene, tmp_path / "out.tif", weights, **SMALL)
    monkeypatch.undo()
    translated = []
    call = translation._Engine.__call__
    monkeypatch.setattr(translation._Engine, "__call__", lambda self, tiles: translated.append(1) or call(self, tiles))
    work = tmp_path / ".out.tif.part"
    kept = {path.name: path.read_bytes() for path in work.iterdir()}
    # what a look at the scene leaves beside it
    write(tmp_path / "scene.tif.ovr", np.zeros((2, 250, 215), np.float32))
    (tmp_path / "scene.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    translate(scene, tmp_path / "out.tif", weights, **SMALL)
    assert not translated
    config, code = (weights / "config.json").read_text(), translation.code_fingerprint
    monkeypatch.setattr(translation._Engine, "__call__", _stop)
    for changed, options, version in (
        (config, {"tile_size": 192, "overlap": 48}, code),
        (config.replace("-25.0", "-24.0"), SMALL, code),
        (config, {**SMALL, "bands": ("1", "2")}, code),
        (config, {**SMALL, "sar_units": "dB"}, code),
        (config, SMALL, lambda *_: "another"),
    ):
        work.mkdir(exist_ok=True)
        for name, content in kept.items():
            (work / name).write_bytes(content)
        (weights / "config.json").write_text(changed)
        monkeypatch.setattr(translation, "code_fingerprint", version)
        with pytest.raises(KeyboardInterrupt):
            translate(scene, tmp_path / "out.tif", weights, overwrite=True, **options)


def test_a_translation_that_was_killed_at_its_very_end_begins_anew(tmp_path, weights, scene, monkeypatch):
    def killed(work, **_):
        if (work / "rows.tif").exists():
            (work / "rows.tif").unlink()
            raise KeyboardInterrupt

    translate(scene, tmp_path / "whole.tif", weights, **SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(translation.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            translate(scene, tmp_path / "out.tif", weights, **SMALL)
    translate(scene, tmp_path / "out.tif", weights, overwrite=True, **SMALL)
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_target_that_is_being_written_is_left_alone(tmp_path, weights, scene, monkeypatch):
    translate(scene, tmp_path / "whole.tif", weights, **SMALL)
    network = create_generator("unet", in_channels=2, out_channels=3, embed_dim=4, levels=2)
    other, fill, target = make_weights(tmp_path / "other", network), translation._fill, tmp_path / "out.tif"

    def meanwhile(*args):
        monkeypatch.undo()
        for second in (weights, other):
            with pytest.raises(InputError, match=r"^'.*out.tif' is being written by .* give another target$"):
                translate(scene, target, second, overwrite=True, **SMALL)
        fill(*args)

    monkeypatch.setattr(translation, "_fill", meanwhile)
    translate(scene, target, weights, **SMALL)
    assert target.read_bytes() == (tmp_path / "whole.tif").read_bytes() and not list(tmp_path.glob(".*"))
    translate(scene, target, other, overwrite=True, **SMALL)
    with rasterio.open(target) as a, rasterio.open(tmp_path / "whole.tif") as b:
        assert (a.read() != b.read()).mean() > 0.5


def test_a_target_that_another_process_has_finished_meanwhile_is_kept(tmp_path, weights, scene, monkeypatch):
    def slow(*args):
        (tmp_path / "out.tif").write_bytes(b"another's")
        return sar_module.describe(*args)

    monkeypatch.setattr(translation, "describe", slow)
    with pytest.raises(InputError, match="exists: give another name"):
        translate(scene, tmp_path / "out.tif", weights, **SMALL)
    assert (tmp_path / "out.tif").read_bytes() == b"another's" and not list(tmp_path.glob(".*"))


def test_linear_power_and_other_band_orders_give_the_same_file(tmp_path, weights, sar, scene):
    translate(scene, tmp_path / "db.tif", weights)
    power = write(tmp_path / "power.tif", 10 ** (sar[::-1].astype(np.float64) / 10), names=("Sigma0_VH", "Sigma0_VV"))
    report = translate(power, tmp_path / "power-out.tif", weights)
    assert report["units"] == "linear" and report["bands"] == ["Sigma0_VV", "Sigma0_VH"]
    numbered = write(tmp_path / "numbered.tif", sar[[1, 1, 0]], names=())
    translate(numbered, tmp_path / "numbered-out.tif", weights, bands=("3", "1"), sar_units="dB")
    with rasterio.open(tmp_path / "db.tif") as a, rasterio.open(tmp_path / "power-out.tif") as b:
        assert np.abs(a.read().astype(int) - b.read()).max() <= 1
        with rasterio.open(tmp_path / "numbered-out.tif") as c:
            np.testing.assert_array_equal(a.read(), c.read())


def test_power_with_a_negative_pixel_is_not_taken_for_decibels(tmp_path, weights, sar):
    power = 10 ** (sar / 10)
    power[:, 3, 4] = -1e-5  # as noise removal leaves them
    assert translate(write(tmp_path / "power.tif", power), tmp_path / "out.tif", weights)["units"] == "linear"


def test_border_noise_and_empty_pixels_are_masked_but_dark_water_is_not(tmp_path, weights, sar):
    power = 10 ** (sar / 10)
    power[:, :, :30] = 0  # not seen
    power[:, :, 30:50] = 1e-4  # border noise: -40 dB beside it
    power[:, 200, 60] = 1e-4  # one dark pixel near it
    power[:, 300:340, 300:340] = 1e-4  # a lake as dark, far from the border
    power[1, 400:420, 300:340] = 0  # no echo in one band alone
    power[:, 450, 400] = 0  # one pixel without echo in either
    power[0, 10, 400] = np.nan
    source = write(tmp_path / "power.tif", power)
    translate(source, tmp_path / "out.tif", weights, sar_units="linear", **SMALL)
    expected = np.full(power.shape[1:], 255, np.uint8)
    expected[:, :50] = expected[450, 400] = expected[10, 400] = 0
    with rasterio.open(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(file.dataset_mask(), expected)


def test_what_is_dark_in_one_band_alone_is_no_border_noise(tmp_path, weights, sar):
    sar[:, :, :30] = np.nan
    sar[:, :, 30:60] = np.array([-20, -33])[:, None, None]
    config = json.loads((weights / "config.json").read_text())
    with sar_module.opened(write(tmp_path / "scene.tif", sar)) as file:
        valid = sar_module.describe(file, config).rows(0, 500)[1]
    np.testing.assert_array_equal(valid, np.repeat(np.arange(430)[None] >= 30, 500, axis=0))


def test_border_noise_is_what_is_dark_within_64_pixels_of_solid_no_data(tmp_path, weights):
    sar = np.tile(np.array([-12.5, -19.5], np.float32)[:, None, None], (1, 300, 300))
    sar[:, :, :30] = sar[:, :, 280:] = np.nan
    sar[:, :, 30:130] = sar[:, :, 277:280] = -40  # a hundred pixels wide, and three
    sar[:, 100:140, 160:200] = -40
    sar[:, 120, 180] = np.nan  # which makes no border in a lake
    expected = np.ones((300, 300), bool)
    expected[:, : 30 + 64] = expected[:, 277:] = expected[120, 180] = False
    config = json.loads((weights / "config.json").read_text())
    with sar_module.opened(write(tmp_path / "scene.tif", sar)) as file:
        np.testing.assert_array_equal(sar_module.describe(file, config).rows(0, 300)[1], expected)


def test_the_mask_does_not_depend_on_where_rows_are_cut(tmp_path, weights):
    sar = np.tile(np.array([-12.5, -19.5], np.float32)[:, None, None], (1, 400, 100))
    sar[:, :80] = sar[:, -80:] = -40
    sar[:, :20] = sar[:, -20:] = np.nan
    expected = np.repeat([False, True, False], (80, 240, 80))[:, None].repeat(100, 1)
    config = json.loads((weights / "config.json").read_text())
    with sar_module.opened(write(tmp_path / "scene.tif", sar)) as file:
        scene = sar_module.describe(file, config)
        for height in (400, 50, 16):
            valid = np.concatenate([scene.rows(top, height)[1] for top in range(0, 400, height)])
            np.testing.assert_array_equal(valid, expected)


@pytest.mark.parametrize(("kind", "seen"), [("VH", True), ("HV", True), ("VV", False), ("HH", False)])
def test_calm_water_of_a_crossed_band_is_no_border_noise(tmp_path, kind, seen):
    """At -33 dB beside the edge of an image: in VH alone that is water, in VV nothing on Earth; as -45 is in both."""
    network = create_generator("unet", in_channels=1, out_channels=3, embed_dim=2, levels=2)
    one = make_weights(tmp_path / "one", network, bands=(kind,))
    config = json.loads((one / "config.json").read_text())
    config["sar"]["limits"] = config["sar"]["limits"][:1]
    (one / "config.json").write_text(json.dumps(config))
    scene = np.random.default_rng(0).normal(-12, 2, (1, 200, 300)).astype(np.float32)
    scene[:, :, :120] -= 21
    scene[:, :, :20], scene[:, :, 20:30] = np.nan, -45
    report = translate(write(tmp_path / "scene.tif", scene, names=(kind,)), tmp_path / "out.tif", one, **SMALL)
    assert (report["valid"] == pytest.approx(270 / 300)) == seen


def test_a_mask_is_no_band(tmp_path, weights, sar):
    opaque = np.concatenate([sar, np.full((1, 500, 430), 255, np.float32)])
    opaque[-1, :100] = 0
    visible = np.repeat(np.arange(500)[:, None] >= 100, 430, axis=1)
    for count in (2, 1):
        source = write(tmp_path / f"{count}.tif", opaque[-count - 1 :], names=None)
        with rasterio.open(source, "r+") as file:
            file.colorinterp = (*file.colorinterp[:count], ColorInterp.alpha)
        if count == 2:
            report = translate(source, tmp_path / "out.tif", weights, **SMALL)
            assert report["indexes"] == (1, 2) and report["valid"] == pytest.approx(0.8)
            for found in valid_of(source, weights):
                np.testing.assert_array_equal(found, visible)
        else:
            with pytest.raises(InputError, match=r"has 1 band \(unnamed\); the weights ask for 2"):
                translate(source, tmp_path / "other.tif", weights, **SMALL)


def test_a_palettes_numbers_are_no_grey_levels(tmp_path):
    network = create_generator("unet", in_channels=1, out_channels=3, embed_dim=2, levels=2)
    grey = make_weights(tmp_path / "grey", network, bands=("SAR",), units="8-bit", opt_limits=(0.0, 255.0))
    source = write(tmp_path / "colours.tif", np.arange(256, dtype=np.uint8).reshape(1, 16, 16), names=None)
    with rasterio.open(source, "r+") as file:
        file.write_colormap(1, {n: (n, 0, 0, 255) for n in range(256)})
    with pytest.raises(InputError, match=r"'colours\.tif' holds numbers of a palette's colours"):
        translate(source, tmp_path / "out.tif", grey)


def test_power_that_is_stored_as_reflectance_is_refused(tmp_path, weights, sar):
    path = write(tmp_path / "scene.tif", (10 ** (sar / 10) * 10_000).astype(np.uint16))
    with rasterio.open(path, "r+") as file:
        file.scales = (1e-4, 1e-4)
    with pytest.raises(InputError, match=r"declares values to be scaled by 0\.0001"):
        translate(path, tmp_path / "out.tif", weights)


def valid_of(path, weights):
    """Where a translation sees data, and where a data set that is built of the same file does."""
    config = json.loads((weights / "config.json").read_text())
    with sar_module.opened(path) as file:
        scene = sar_module.describe(file, config)
        _, translated = scene.rows(0, file.height)
    sar = rasters.read_bands(path, scene.indexes, rasters.header(path))
    sar = sar if scene.units == "8-bit" else rasters.sar_no_data(sar, path)
    sar = rasters.sar_db(sar) if scene.units == "linear" else sar
    return translated, np.isfinite(sar).all(0)


@pytest.mark.parametrize("units", ["dB", "linear"])
@pytest.mark.parametrize("fill", [-9999, 0, np.inf, 32767])
def test_a_fill_that_no_file_declares_is_no_data_as_for_a_data_set(tmp_path, weights, sar, units, fill):
    sar = sar if units == "dB" else 10 ** (sar / 10)
    sar[:, :, :300] = fill  # most of it
    sar[1, 400, 400] = -np.inf if units == "dB" else 0  # no power in one band alone
    expected = np.arange(430) >= np.full((500, 1), 300)
    for found in valid_of(write(tmp_path / "scene.tif", sar), weights):
        np.testing.assert_array_equal(found, expected)
    report = translate(tmp_path / "scene.tif", tmp_path / "out.tif", weights, **SMALL)
    assert report["units"] == units and report["valid"] == pytest.approx(130 / 430)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_grey_level_that_is_declared_no_data_counts_as_for_a_data_set(tmp_path, kind):
    network = create_generator("unet", in_channels=2, out_channels=3, embed_dim=2, levels=2)
    grey = make_weights(tmp_path / "grey", network, units="8-bit", opt_limits=(0.0, 255.0))
    config = json.loads((grey / "config.json").read_text())
    config["sar"]["limits"] *= 2
    (grey / "config.json").write_text(json.dumps(config))
    levels = np.random.default_rng(0).integers(1, 256, (2, 60, 50)).astype(kind)
    levels[1, :20], levels[:, 50:] = 0, 0  # a lake, dark in one band; outside
    expected = np.arange(60)[:, None] < np.full(50, 50)
    expected[:20] = kind == np.uint8  # no other number is a value by chance
    for found in valid_of(write(tmp_path / "levels.tif", levels, nodata=0), grey):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("scale", "offset"), [(0.01, 0.0), (1.0, -30.0)])
def test_numbers_that_are_declared_to_be_scaled_are_refused_as_for_a_data_set(tmp_path, weights, sar, scale, offset):
    path = write(tmp_path / "scene.tif", sar)  # which would pass for decibels
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (scale,) * 2, (offset,) * 2
    said = []
    for refuse in (rasters.header, lambda path: translate(path, tmp_path / "out.tif", weights)):
        with pytest.raises(
            InputError, match=rf"to be scaled by {scale:g} and moved by {offset:g}: write them"
        ) as error:
            refuse(path)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_the_uncertainty_band_is_the_spread_and_changes_no_colour(tmp_path, weights, scene):
    translate(scene, tmp_path / "plain.tif", weights, **SMALL)
    translate(scene, tmp_path / "spread.tif", weights, uncertainty=True, **SMALL)
    still = create_generator("unet", in_channels=2, out_channels=3, embed_dim=2, levels=2)
    for parameter in still.parameters():
        torch.nn.init.zeros_(parameter)  # always the same grey: no flip changes it
    translate(scene, tmp_path / "still.tif", make_weights(tmp_path / "still", still), uncertainty=True, **SMALL)
    files = [rasterio.open(tmp_path / f"{name}.tif") for name in ("plain", "spread", "still")]
    plain, spread, grey = (file.read() for file in files)
    np.testing.assert_array_equal(plain, spread[:3])
    assert files[1].scales == (1, 1, 1, 0.2), "a spread is seldom a whole grey level"
    assert files[1].descriptions[3] == "uncertainty" and spread[3].mean() * files[1].scales[3] > 1
    assert (grey[3] == 0).all() and cog_validate(tmp_path / "spread.tif", strict=True)[0]


def test_how_many_tiles_are_made_at_once_changes_nothing(tmp_path, weights, scene):
    images = []
    for count in (1, 2, 3):  # of four in a row, of which the last is narrower
        assert translate(scene, tmp_path / f"{count}.tif", weights, batch_size=count, **SMALL)["batch_size"] == count
        with rasterio.open(tmp_path / f"{count}.tif") as file:
            images.append(file.read().astype(int))
    assert all(np.abs(image - images[0]).max() <= 1 for image in images)


def test_reflectance_needs_twice_the_room(tmp_path, weights, scene, monkeypatch):
    free = 1.5 * 2.5 * 4 * 500 * 430  # bytes: three colours and what is valid, and the result beside them
    monkeypatch.setattr(translation.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free})())
    with pytest.raises(InputError, match="make room"):
        translate(scene, tmp_path / "out.tif", weights, output="reflectance", **SMALL)
    translate(scene, tmp_path / "out.tif", weights, **SMALL)


def test_what_lies_beside_an_overwritten_picture_does_not_stay(tmp_path, weights, scene):
    for overwrite in (False, True):
        translate(scene, tmp_path / "out.tif", weights, overwrite=overwrite, **SMALL)
        assert not [*tmp_path.glob("out.tif.*")]
        for ending, text in {"aux.xml": "<PAMDataset/>", "ovr": "a picture's", "msk": "a picture's"}.items():
            (tmp_path / f"out.tif.{ending}").write_text(text)  # as a viewer leaves it


def test_the_spread_is_that_of_eight_views_each_seen_once(shallow):
    seen = []
    hook = shallow.register_forward_hook(lambda network, given, image: seen.append(image))
    limits = [[0, 0.3], [0, 0.3], [0, 1.0]]
    config = {"sar": {"bands": ["VV", "VH"], "limits": [[-1, 1]] * 2}, "opt": {"limits": limits}}
    chosen = {"precision": "float32", "device": "cpu", "uncertainty": True, "output": "reflectance", "batch_size": 1}
    sar = torch.randn(1, 2, 32, 32)
    made = translation._Engine(shallow, config, chosen, 32)(sar)
    hook.remove()
    flips = ((), (), (2,), (2,), (3,), (3,), (2, 3), (2, 3))
    views = torch.stack([view[..., -32:, -32:].flip(flip) for view, flip in zip(seen, flips, strict=True)])
    torch.testing.assert_close(made[:, :3], views[0])
    halves = torch.tensor([0.15, 0.15, 0.5])[:, None, None]  # of the limits: reflectance of a step in [-1, 1]
    reflectance = (views.std(0, correction=0) * halves).mean(1)
    torch.testing.assert_close(made[:, 3] * halves.mean(), reflectance)


def test_ground_control_points_become_a_grid(tmp_path, weights, sar):
    """The points span a turned rectangle; a bright pixel must land where they say that it lies."""
    corners = [(0, 0, 136.00, 36.05), (0, 430, 136.05, 36.06), (500, 0, 135.99, 36.00), (500, 430, 136.04, 36.01)]
    source = write(tmp_path / "raw.tif", sar, crs=None, transform=None)
    with rasterio.open(source, "r+") as file:
        file.gcps = ([GroundControlPoint(*corner) for corner in corners], rasterio.CRS.from_epsg(4326))
    report = translate(source, tmp_path / "out.tif", weights, **SMALL)
    assert any("Ground control points" in note for note in report["notes"]) and 0.5 < report["valid"] < 0.95
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.crs.to_epsg() == 32653
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    assert (west, south, east, north) == pytest.approx((135.99, 36.00, 136.05, 36.06), abs=2e-3)
    with sar_module.opened(source) as file:
        expected = file.dataset_mask() > 0
        assert np.isin(file.read()[:, expected], sar).all(), "a mean of neighbours would have less speckle"
    levels = write(tmp_path / "levels.tif", np.zeros((1, 500, 430), np.uint8), names=("VH",), crs=None, transform=None)
    with rasterio.open(levels, "r+") as file:  # zero is a value there, but not outside
        file.gcps = ([GroundControlPoint(*corner) for corner in corners], rasterio.CRS.from_epsg(4326))
    with sar_module.opened(levels) as file:
        found = file.dataset_mask() > 0
        assert (found != expected).mean() < 1e-4 and not file.read(1)[found].any()


@pytest.mark.parametrize(
    ("longitude", "latitude", "epsg"),
    [(147.3, -42.9, 32755), (5.9, 61.0, 32631), (-179.9, 52.0, 32601), (-172.0, -20.0, 32702), (179.9, 52.0, 32660)],
)
def test_ground_control_points_take_their_utm_zone(tmp_path, weights, sar, longitude, latitude, epsg):
    config = json.loads((weights / "config.json").read_text())
    source = write(tmp_path / "raw.tif", sar, crs=None, transform=None)
    y, x = (latitude + 0.03, latitude - 0.03), (longitude - 0.03, longitude + 0.03)
    corners = [(row * 500, column * 430, x[column], y[row]) for row in (0, 1) for column in (0, 1)]
    points = [GroundControlPoint(*corner) for corner in corners]
    with rasterio.open(source, "r+") as file:
        file.gcps = (points, rasterio.CRS.from_epsg(4326))
    with sar_module.opened(source) as file:
        assert file.crs.to_epsg() == epsg and (file.dataset_mask() > 0).mean() > 0.5
        with pytest.raises(InputError, match=r"^'raw\.tif' is declared '8-bit'"):
            sar_module.describe(file, config, sar_units="8-bit")


def test_ground_control_points_on_both_sides_of_180_degrees(tmp_path, sar):
    source = write(tmp_path / "raw.tif", sar, crs=None, transform=None)
    for west, east in ((179.97, -179.98), (179.97, 180.02), (-180.03, -179.98)):
        corners = [(0, 0, west, -17.0), (0, 430, east, -17.0), (500, 0, west, -17.05), (500, 430, east, -17.05)]
        with rasterio.open(source, "r+") as file:
            file.gcps = ([GroundControlPoint(*corner) for corner in corners], rasterio.CRS.from_epsg(4326))
        with pytest.raises(InputError, match="lies on both sides of 180 degrees"), sar_module.opened(source):
            pass


def test_ground_control_points_in_metres_are_no_longitudes(tmp_path, sar):
    source = write(tmp_path / "raw.tif", sar, crs=None, transform=None)
    corners = [(0, 0, 20, 40), (0, 430, 24, 40), (500, 0, 20, 35), (500, 430, 24, 35)]  # which degrees could be, too
    for crs in (rasterio.CRS.from_epsg(32653), rasterio.CRS()):
        with rasterio.open(source, "r+") as file:
            file.gcps = ([GroundControlPoint(*corner) for corner in corners], crs)
        with pytest.raises(InputError, match="has ground control points but no longitudes"), sar_module.opened(source):
            pass


def test_the_order_of_bands_is_that_of_most_of_a_scene_and_not_of_its_corner(tmp_path, weights):
    pixels = np.random.default_rng(0).normal([[[-19]], [[-12]]], 2, (2, 600, 600)).astype(np.float32)
    pixels[:, :256, :256] = pixels[::-1, :256, :256]
    config = json.loads((weights / "config.json").read_text())
    for stored in (pixels, 10 ** (pixels / 10)):
        source = write(tmp_path / "scene.tif", stored)
        with sar_module.opened(source) as file, pytest.raises(InputError, match="looks swapped"):
            sar_module.describe(file, config)


def test_a_scene_is_judged_by_its_first_rows_with_data_where_the_samples_hold_none(tmp_path, weights):
    sar = np.full((2, 1100, 40), np.nan, np.float32)
    sar[:, 260:275] = np.array([-12.5, -19.5])[:, None, None]  # samples are of rows 0 to 255 and from 281 on
    config = json.loads((weights / "config.json").read_text())
    with sar_module.opened(write(tmp_path / "scene.tif", sar)) as file:
        assert sar_module.describe(file, config).notes == ("Units taken as dB: values from -19.5 to -12.5.",)


@pytest.mark.parametrize(("band", "value", "rows", "share"), [(1, -3, 50, "25%"), (0, -27, 44, "22%"), (1, -3, 20, "")])
def test_many_values_outside_the_limits_of_the_training_are_noted(tmp_path, weights, band, value, rows, share):
    sar = np.tile(np.array([-12.5, -19.5], np.float32)[:, None, None], (1, 100, 100))
    sar[band, :rows] = value
    config = json.loads((weights / "config.json").read_text())
    with sar_module.opened(write(tmp_path / "scene.tif", sar)) as file:
        _, *notes = sar_module.describe(file, config).notes
    said = f"{share} of the values lie outside the limits that the weights were trained with."
    assert notes == ([said] if share else [])


def test_seams_are_measured_whatever_grid_the_network_leaves():
    land = np.random.default_rng(0).normal(size=(3, 1000, 1000)) * np.linspace(0.2, 2, 1000)  # steeper to the right
    for grid in (0, 3 * (np.arange(1000) % 16 < 8), 3 * (np.arange(1000) % 4 == 1)):
        image = land + grid
        assert seam_ratio(image, 256, 64) == pytest.approx(1, abs=0.015)
        for start in translation.starts(1000, 256, 64)[1:]:
            image[:, :, start + 32 :] += 2
            image[:, start + 32 :] += 2
        assert seam_ratio(image, 256, 64) > 1.03
    assert np.isnan(seam_ratio(land[:, :200, :200], 256, 64))


def test_where_there_is_no_data_nothing_is_a_seam():
    land = np.random.default_rng(0).normal(50, 1, size=(3, 1000, 1000))
    valid = np.zeros((1000, 1000), bool)
    valid[224:900, 150:950] = True  # one side of which lies on an edge
    footprint = land * valid
    assert 224 in translation.tile_edges(1000, 256, 64)
    assert seam_ratio(footprint, 256, 64) > 1.1
    assert seam_ratio(footprint, 256, 64, valid) == pytest.approx(1, abs=0.015)
    assert np.isnan(seam_ratio(footprint, 256, 64, np.zeros_like(valid)))


NETWORKS = {
    "unet": {"embed_dim": 8, "levels": 4},
    "hat": {"embed_dim": 8, "depths": (1,), "num_heads": (2,)},
    "s2oformer": {"embed_dim": 8, "depths": (1, 1), "num_heads": (2, 2)},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_generator_leaves_seams(tmp_path, scene, name):
    torch.manual_seed(0)
    network = create_generator(name, in_channels=2, out_channels=3, **NETWORKS[name])
    for parameter in network.parameters():
        if parameter.ndim > 1:  # as they begin, the U-Net's image is flat
            torch.nn.init.xavier_normal_(parameter)
    translate(scene, tmp_path / "out.tif", make_weights(tmp_path / name, network), **SMALL)
    with rasterio.open(tmp_path / "out.tif") as file:
        image = file.read()
    assert image.std() > 5 and 0.98 < seam_ratio(image, **SMALL) <= 1.02


@pytest.mark.parametrize(
    ("raster", "options", "says"),
    [
        (
            {"pixels": np.full((1, 8, 8), -9.0, np.float32), "names": ("VV",)},
            [],
            "has 1 band .VV.; the weights ask for 2",
        ),
        ({"names": ("HH", "HV")}, [], "has 2 bands .HH, HV.; the weights ask for 2 .VV, VH."),
        ({"names": ("VV", "angle")}, [], "has 2 bands .VV, angle.; the weights ask for 2 .VV, VH."),
        ({"pixels": np.full((3, 8, 8), -9.0, np.float32), "names": ()}, [], "has 3 bands .unnamed, .*ask for 2"),
        ({"names": ("a", "b")}, ["--bands", "VV,VH"], "no band 'VV'"),
        ({"names": ("VV", "VV")}, [], "has 2 bands .VV, VV., several of them VV"),
        ({"names": ("a", "a")}, ["--bands", "a,2"], "several bands 'a': give its number"),
        ({"names": ("VH", "VV")}, [], "looks swapped: its VH is 7.* dB above VV"),
        ({}, ["--bands", "1"], "1 bands are given"),
        ({}, ["--sar-units", "linear"], "declared 'linear' but holds values from -.*set sar_units to 'dB'"),
        ({}, ["--sar-units", "decibel"], "'decibel' is unknown"),
        ({"pixels": np.full((2, 8, 8), 0.1, np.float32)}, ["--sar-units", "dB"], "declared 'dB' but holds.*'linear'"),
        ({"pixels": np.full((2, 8, 8), 400, np.uint16)}, [], "around 400: that is no sigma0"),
        ({"pixels": np.full((2, 8, 8), 40, np.uint16)}, [], "around 40: that is no sigma0"),
        ({"pixels": np.full((2, 8, 8), -1400, np.int16)}, [], "only .* below -90 or above 10000: .* rescaled first"),
        ({"pixels": np.full((2, 8, 8), 7, np.uint8)}, [], "grey levels"),
        ({"pixels": np.full((2, 8, 8), np.nan, np.float32)}, [], "no valid pixel"),
        ({"pixels": np.zeros((2, 8, 8), np.float32)}, ["--sar-units", "dB"], "no valid pixel"),
        ({}, ["--stretch", "-25", "0"], "stretch is for decibels and weights trained on 8-bit"),
        ({}, ["--tile-size", "100"], "multiples of 16"),
        ({}, ["--tile-size", "128", "--overlap", "48"], "overlap at most a third of a tile"),
        ({}, ["--output", "jpeg"], "'jpeg' is unknown"),
        ({}, ["--precision", "float8"], "'float8' is unknown"),
        ({}, ["--batch-size", "-1"], "batch_size is -1"),
        ({}, ["--device", "abacus"], "device 'abacus' cannot be used here"),
        ({}, ["--device", "meta"], "device 'meta' is not provided for"),
        ({}, ["--weights", "nowhere"], "nowhere/config.json does not exist"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    tmp_path, weights, sar, monkeypatch, capsys, raster, options, says
):
    raster = {"pixels": sar, **raster}
    source, target = write(tmp_path / "scene.tif", **raster), tmp_path / "out.tif"
    assert run(monkeypatch, source, target, "--weights", weights, *options) == 2
    message = capsys.readouterr().err.strip()
    assert re.search(says, message) and "\n" not in message
    assert not target.exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"tile_size": 512.0}, r"tile_size is 512\.0: give a whole number"),
        ({"overlap": "64"}, "overlap is '64': give a whole number"),
        ({"overlap": 40}, "overlap 40 must be multiples of 16"),
        ({"overlap": 0}, "overlap 0 must be multiples of 16"),
        ({"stretch": 5}, "stretch 5 must be a lower and a higher"),
        ({"stretch": (5.0, 5.0)}, "must be a lower and a higher"),
        ({"stretch": ("a", "b")}, "must be a lower and a higher"),
        ({"stretch": np.array([-25.0, 0.0])}, "must be a lower and a higher"),
        ({"bands": "VV"}, "bands is 'VV': give a list"),
        ({"bands": None}, "bands is None: give a list"),
        ({"uncertainty": "no"}, "uncertainty is 'no': give True or False"),
        ({"device": None}, "device is None: give a text"),
        ({"stretch": (-np.inf, 0.0)}, "stretch .* must be a lower and a higher"),
    ],
)
def test_arguments_that_no_work_can_be_done_with(tmp_path, weights, scene, given, says):
    with pytest.raises(InputError, match=says):
        translate(scene, tmp_path / "out.tif", weights, **given)
    with pytest.raises(InputError, match="source is None: give a file's or folder's path"):
        translate(None, tmp_path / "out.tif", weights)
    assert not [*tmp_path.glob(".*"), *tmp_path.glob("out.tif")]


@pytest.mark.parametrize("fill", [-9999, 32767])
def test_a_fill_that_the_file_does_not_declare_is_no_grey_level(tmp_path, fill):
    network = create_generator("unet", in_channels=1, out_channels=3, embed_dim=4, levels=2).eval()
    weights = make_weights(tmp_path / "run", network, bands=("VH",), units="8-bit")
    pixels = np.random.default_rng(0).integers(1, 256, (1, 300, 300)).astype(np.int16)
    pixels[:, :100] = fill
    scene = write(tmp_path / "scene.tif", pixels, ("VH",))
    with pytest.raises(InputError, match=f"holds 8-bit values and others, from .*{fill}|declare in the file"):
        translate(scene, tmp_path / "out.tif", weights, **SMALL)
    write(scene, pixels, ("VH",), nodata=fill)
    assert translate(scene, tmp_path / "out.tif", weights, **SMALL)["valid"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("count", "colours"),
    [(1, ["gray"]), (2, ["red", "green"]), (5, ["red", "green", "blue", "undefined", "undefined"])],
)
def test_a_generator_may_have_any_number_of_outputs(count, colours, tmp_path, scene):
    network = create_generator("unet", in_channels=2, out_channels=count, embed_dim=4, levels=2).eval()
    weights = make_weights(tmp_path / "run", network)
    config = json.loads((weights / "config.json").read_text())
    bands = ["red", "green", "blue", "near infrared", "SWIR"][:count]
    config["opt"] |= {"bands": bands, "limits": [[0, 0.3]] * count}
    (weights / "config.json").write_text(json.dumps(config))
    translate(scene, tmp_path / "out.tif", weights, uncertainty=True, **SMALL)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.descriptions == (*bands, "uncertainty")
        assert [colour.name for colour in file.colorinterp] == [*colours, "undefined"]


def test_a_mosaic_whose_image_has_changed_begins_anew(tmp_path, weights, scene, sar, monkeypatch):
    mosaic = tmp_path / "scene.vrt"
    copy(scene, mosaic, driver="VRT")
    with monkeypatch.context() as patched:
        patched.setattr(translation, "_fill", _stop)
        with pytest.raises(KeyboardInterrupt):
            translate(mosaic, tmp_path / "out.tif", weights, **SMALL)
    keys = [json.loads((tmp_path / ".out.tif.part/progress.json").read_text())["key"]]
    write(scene, sar[:, ::-1])
    with monkeypatch.context() as patched:
        patched.setattr(translation, "_fill", _stop)
        with pytest.raises(KeyboardInterrupt):
            translate(mosaic, tmp_path / "out.tif", weights, **SMALL)
    keys.append(json.loads((tmp_path / ".out.tif.part/progress.json").read_text())["key"])
    assert keys[0] != keys[1] and str(scene) in [name for name, *_ in keys[0]["files"]]


def _stop(*_) -> None:
    raise KeyboardInterrupt


def test_the_command_line_begins_where_the_user_stands(tmp_path, weights, scene, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert (
        run(monkeypatch, "../scene.tif", "out.tif", "--weights", "../run", "--tile-size", "192", "--overlap", "64") == 0
    )
    assert (tmp_path / "below/out.tif").is_file()


def test_weights_that_make_no_numbers_make_no_image(tmp_path, shallow, scene):
    broken = deepcopy(shallow)
    torch.nn.init.constant_([*broken.parameters()][-1], torch.nan)
    with pytest.raises(InputError, match="values that are not finite"):
        translate(scene, tmp_path / "out.tif", make_weights(tmp_path / "run", broken))
    assert not (tmp_path / "out.tif").exists()


def run(monkeypatch, *arguments):
    """The exit code of the command line."""
    monkeypatch.setattr(sys, "argv", ["translation", *map(str, arguments)])
    try:
        translation.main()
    except SystemExit as end:
        return end.code
    return 0


def test_who_interrupts_is_told_that_the_same_command_goes_on(tmp_path, weights, scene, monkeypatch, capsys):
    monkeypatch.setattr(translation, "_fill", _stop)
    assert run(monkeypatch, scene, tmp_path / "out.tif", "--weights", weights) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted: the same command goes on where it stopped"


def test_files_that_cannot_be_read_or_written_are_refused(tmp_path, weights, scene, monkeypatch, capsys):
    (tmp_path / "torn.tif").write_bytes(scene.read_bytes()[:100])
    copy(scene, tmp_path / "short.tif", driver="COG", compress="NONE")  # its directory comes first
    (tmp_path / "short.tif").write_bytes((tmp_path / "short.tif").read_bytes()[:400_000])
    (tmp_path / "taken.tif").write_bytes(b"mine")
    cases = {
        (tmp_path / "none.tif", tmp_path / "out.tif"): "does not exist",
        (tmp_path / "torn.tif", tmp_path / "out.tif"): "cannot be read as a raster",
        (tmp_path / "short.tif", tmp_path / "out.tif"): "cannot be read to its end",
        (scene, tmp_path / "taken.tif"): "--overwrite",
        (scene, scene): "is the source",
        (scene, tmp_path / "run" / ".." / "scene.tif"): "is the source",
        (scene, tmp_path): "is a folder",
        (scene, tmp_path / "out.png"): "is written as a GeoTIFF: give a name that ends with .tif",
        (weights, tmp_path / "out.tif"): "run' is a folder: give a GeoTIFF",
        (scene, tmp_path / "taken.tif" / "out.tif"): "no folder that you may write to",
    }
    for (source, target), says in cases.items():
        assert run(monkeypatch, source, target, "--weights", weights) == 2
        assert says in capsys.readouterr().err
    assert (tmp_path / "taken.tif").read_bytes() == b"mine"
    monkeypatch.setattr(translation.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    assert run(monkeypatch, scene, tmp_path / "out.tif", "--weights", weights) == 2
    assert "make room" in capsys.readouterr().err and not (tmp_path / "out.tif").exists()
    (weights / "generator.safetensors").write_bytes(b"no tensors")
    assert run(monkeypatch, scene, tmp_path / "out.tif", "--weights", weights) == 2
    assert "does not fit its config.json" in capsys.readouterr().err


def test_grey_levels_need_an_explicit_choice_where_decibels_are_given(tmp_path, sar, scene):
    network = create_generator("unet", in_channels=1, out_channels=3, embed_dim=2, levels=2)
    grey = make_weights(tmp_path / "grey", network, bands=("SAR",), units="8-bit", opt_limits=(0.0, 255.0))
    one = write(tmp_path / "one.tif", sar[:1], names=("VV",))
    with pytest.raises(InputError, match="choose the decibels"):
        translate(one, tmp_path / "out.tif", grey)
    with pytest.raises(InputError, match="'reflectance' is unknown"):
        translate(one, tmp_path / "out.tif", grey, output="reflectance")
    translate(one, tmp_path / "out.tif", grey, stretch=(-25, -5))
    with sar_module.opened(one) as file:
        described = sar_module.describe(file, json.loads((grey / "config.json").read_text()), stretch=(-25, -5))
        np.testing.assert_allclose(described.rows(0, 500)[0], (sar[:1] + 25) / 20 * 255, atol=0.001)
    levels = write(tmp_path / "levels.tif", np.clip((sar[:1] + 25) / 20 * 255, 0, 255).round(), names=("VV",))
    translate(levels, tmp_path / "levels-out.tif", grey)
    with pytest.raises(InputError, match=r"stretch is for decibels .* not for 'levels\.tif'"):
        translate(levels, tmp_path / "stretched.tif", grey, stretch=(-25, -5))
    with rasterio.open(tmp_path / "out.tif") as a, rasterio.open(tmp_path / "levels-out.tif") as b:
        assert np.abs(a.read().astype(int) - b.read()).max() <= 1
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.count == 3 and json.loads(file.tags()["TRANSLATION"])["stretch"] == [-25, -5]


def test_uncertainty_of_a_scene_smaller_than_its_shifts(tmp_path, weights):
    small = write(tmp_path / "small.tif", np.random.default_rng(0).normal(-12, 3, (2, 3, 2)).astype(np.float32))
    translate(small, tmp_path / "out.tif", weights, uncertainty=True)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.shape == (3, 2) and file.count == 4


def test_broken_progress_is_begun_anew(tmp_path, weights, scene):
    work = tmp_path / ".out.tif.part"
    for content in ("{", "{}", "[]"):
        work.mkdir()
        (work / "progress.json").write_text(content)
        translate(scene, tmp_path / "out.tif", weights, overwrite=True, **SMALL)


def test_another_scene_of_the_same_name_begins_anew(tmp_path, weights, sar, scene, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(translation, "_finish", lambda *_: (_ for _ in ()).throw(OSError("no space left on device")))
        with pytest.raises(InputError, match="no space left"):
            translate(scene, tmp_path / "out.tif", weights, **SMALL)
    write(scene, sar[..., ::-1])
    for name in ("out", "new"):
        translate(scene, tmp_path / f"{name}.tif", weights, **SMALL)
    with rasterio.open(tmp_path / "out.tif") as went_on, rasterio.open(tmp_path / "new.tif") as new:
        np.testing.assert_array_equal(went_on.read(), new.read())


def test_no_data_is_shown_to_the_network_as_in_training(tmp_path, weights, sar, monkeypatch):
    sar[:, :40] = np.nan
    seen, call = [], translation._Engine.__call__

    def watched(engine, tiles):
        seen.append(tiles.clone())
        return call(engine, tiles)

    monkeypatch.setattr(translation._Engine, "__call__", watched)
    translate(write(tmp_path / "holes.tif", sar, nodata=np.nan), tmp_path / "out.tif", weights, **SMALL)
    assert (seen[0][:, :, :40] == -1).all()


def test_reflectance_that_does_not_begin_at_0(tmp_path, shallow, scene):
    values = []
    for limits in ((0.0, 0.3), (0.1, 0.4)):
        weights = make_weights(tmp_path / f"run{limits[0]}", shallow, opt_limits=limits)
        translate(scene, tmp_path / f"{limits[0]}.tif", weights, output="reflectance", **SMALL)
        with rasterio.open(tmp_path / f"{limits[0]}.tif") as file:
            values.append(file.read().astype(int))
    assert abs(values[1] - values[0] - 1000).max() <= 1
