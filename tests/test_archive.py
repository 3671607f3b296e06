"""SEN12MS folders: patches back into scenes, and every fault an archive can have."""

import json
import os
import re
import shutil
import tarfile
import threading
import time
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from s2olib.data import archive, rasters
from s2olib.data.archive import DATES, SIZE, extract, partner, scan
from s2olib.project import InputError

ORIGIN = (540003.7, 4019996.2)  # Kaga, off the round 10 m as SEN12MS's patches are


def tif(
    path: Path, pixels: np.ndarray, corner=ORIGIN, *, crs="EPSG:32653", pixel=10.0, names=None, nodata=None
) -> Path:
    """A small GeoTIFF of pixels (C, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(pixel, 0, corner[0], 0, -pixel, corner[1]) if crs else Affine.identity()
    shape = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, nodata=nodata, **shape) as file:
        file.write(pixels)
        if names:
            file.descriptions = names
    return path


def world(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """SAR (2, H, W) dB and 13 optical bands (13, H, W) of a made-up scene; band b holds values around 1000 + 10 b."""
    rng = np.random.default_rng(seed)
    sar = rng.normal(-12, 3, (2, height, width)).clip(-30, -1).astype(np.float32)
    opt = (1000 + 10 * np.arange(1, 14)[:, None, None] + rng.integers(0, 9, (13, height, width))).astype(np.uint16)
    return sar, opt


def write_scene(root: Path, scene: int, rows=1, columns=2, corner=ORIGIN, season="ROIs1158_spring", seed=0):
    """Patches that overlap by half, cut from one made-up world."""
    sar, opt = world((rows + 1) * 128, (columns + 1) * 128, seed)
    for number, (row, column) in enumerate(np.ndindex(rows, columns)):
        place = (corner[0] + column * 1280, corner[1] - row * 1280)
        cut = (slice(None), slice(row * 128, row * 128 + SIZE), slice(column * 128, column * 128 + SIZE))
        for kind, pixels in (("s1", sar), ("s2", opt)):
            tif(root / season / f"{kind}_{scene}" / f"{season}_{kind}_{scene}_p{number + 30}.tif", pixels[cut], place)
    return sar, opt


def test_mosaic_gives_the_scene_back(tmp_path):
    sar, opt = write_scene(tmp_path, 7, rows=2, columns=2)
    (scene,) = scan(tmp_path)
    read_sar, read_opt, codes = scene.read()
    assert scene.id == "ROIs1158_spring_7" and scene.season == "spring" and codes is None
    assert (scene.grid.transform.c, scene.grid.transform.f) == ORIGIN
    np.testing.assert_array_equal(read_sar, sar)
    np.testing.assert_array_equal(read_opt, opt[[3, 2, 1]])  # red, green, blue are bands 4, 3, 2


def test_level_2a_and_named_bands(tmp_path):
    write_scene(tmp_path, 7, columns=1)
    path = tmp_path / "ROIs1158_spring/s2_7/ROIs1158_spring_s2_7_p30.tif"
    opt = world(SIZE, SIZE)[1][:12]
    tif(path, opt)
    np.testing.assert_array_equal(scan(tmp_path)[0].read()[1], opt[[3, 2, 1]])
    tif(path, opt, names=("B2", "B3", "B4", *(f"X{i}" for i in range(9))))
    np.testing.assert_array_equal(scan(tmp_path)[0].read()[1], opt[[2, 1, 0]])


def test_partner_changes_only_the_sensor():
    path = Path("/data/s1_copy/s1_/ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p31.tif")
    assert partner(path, "s2") == Path("/data/s1_copy/s1_/ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p31.tif")
    assert partner(partner(path, "lc"), "s1") == path


def _rewrite(root: Path, kind: str, change, east=1280, **options) -> str:
    name = f"ROIs1158_spring_{kind}_7_p31.tif"
    pixels = dict(zip(("s1", "s2"), world(SIZE, SIZE), strict=True))[kind]
    tif(root / f"ROIs1158_spring/{kind}_7" / name, change(pixels), (ORIGIN[0] + east, ORIGIN[1]), **options)
    return name


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("s2", lambda x: x[:10], "10 bands"),
        ("s1", lambda x: x[:1], "1 bands"),
        ("s1", lambda x: x.astype(np.int16), "int16"),
        ("s2", lambda x: x[:, :200], "200 x 256"),
    ],
)
def test_refuses_files_that_are_not_sen12ms(tmp_path, kind, change, says):
    write_scene(tmp_path, 7)
    name = _rewrite(tmp_path, kind, change)
    with pytest.raises(InputError, match=says) as error:
        scan(tmp_path)
    assert name in str(error.value)


def test_refuses_a_patch_without_its_partner_or_twice_there(tmp_path):
    write_scene(tmp_path, 7)
    folder = tmp_path / "ROIs1158_spring/s1_7"
    double = folder / "ROIs1158_spring_s1_7_p031.tif"
    double.write_bytes((folder / "ROIs1158_spring_s1_7_p31.tif").read_bytes())
    with pytest.raises(InputError, match="same patch"):
        scan(tmp_path)
    (folder / "ROIs1158_spring_s1_7_p31.tif").unlink()
    with pytest.raises(InputError, match=r"s1_7_p031.tif' has no partner .*s2_7_p031.tif'"):
        scan(tmp_path)
    double.unlink()
    with pytest.raises(InputError, match=r"s2_7_p31.tif' has no partner .*s1_7_p31.tif'"):
        scan(tmp_path)


def test_refuses_contradictory_grids_and_pixels(tmp_path):
    write_scene(tmp_path, 7)
    for kind in ("s1", "s2"):
        _rewrite(tmp_path, kind, lambda x: x + x.dtype.type(1))
    with pytest.raises(InputError, match=r"p31.tif' differs from its neighbours"):
        scan(tmp_path)[0].read()
    for other in ({"crs": "EPSG:32654"}, {"east": 1283}):
        for kind in ("s1", "s2"):
            _rewrite(tmp_path, kind, lambda x: x, **other)
        with pytest.raises(InputError, match=r"p31.tif' is off the lattice"):
            scan(tmp_path)
    _rewrite(tmp_path, "s1", lambda x: x)
    with pytest.raises(InputError, match="lie on different grids"):
        scan(tmp_path)


def test_refuses_a_missing_or_an_empty_archive(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="archive_root"):
            scan(root)


def test_not_a_number_stays_and_a_neighbour_fills_it(tmp_path):
    sar, _ = write_scene(tmp_path, 7)
    path = tmp_path / "ROIs1158_spring/s1_7/ROIs1158_spring_s1_7_p30.tif"
    broken = sar[:, :, :SIZE].copy()
    broken[:, 5, 5] = broken[:, 5, 200] = np.nan  # the second place lies in the overlap
    tif(path, broken)
    read = scan(tmp_path)[0].read()[0]
    assert np.isnan(read[:, 5, 5]).all()
    np.testing.assert_array_equal(read[:, 5, 200], sar[:, 5, 200])


@pytest.mark.parametrize(("kind", "nothing"), [("s1", np.nan), ("s2", 0)])
def test_a_patch_below_others_fills_what_they_lack_in_one_kind_of_image(tmp_path, kind, nothing):
    """The middle patch adds nothing else."""
    whole = write_scene(tmp_path, 7, columns=3)
    broken = whole[kind == "s2"][:, :, :SIZE].copy()
    broken[:, 5, 200] = nothing
    tif(tmp_path / f"ROIs1158_spring/{kind}_7/ROIs1158_spring_{kind}_7_p30.tif", broken)
    sar, opt, _ = scan(tmp_path)[0].read()
    np.testing.assert_array_equal(sar, whole[0])
    np.testing.assert_array_equal(opt, whole[1][[3, 2, 1]])


def test_polarisations_by_name_and_by_choice(tmp_path):
    sar, _ = write_scene(tmp_path, 7, columns=1)
    name = "ROIs1158_spring/s1_7/ROIs1158_spring_s1_7_p30.tif"
    np.testing.assert_array_equal(scan(tmp_path, polarisations=["VH"])[0].read()[0], sar[1:, :, :SIZE])
    tif(tmp_path / name, sar[::-1, :, :SIZE], names=("VH", "VV"))  # the file says that it is the other way round
    (scene,) = scan(tmp_path)
    assert scene.sar_bands == ("VV", "VH")
    np.testing.assert_array_equal(scene.read()[0], sar[:, :, :SIZE])


def test_each_patch_of_a_scene_is_read_by_the_names_of_its_bands(tmp_path):
    sar, _ = write_scene(tmp_path, 7)
    first, second = sorted(tmp_path.glob("*/s1_7/*.tif"))
    tif(first, sar[:, :, :SIZE], names=("VV", "VH"))
    tif(second, sar[::-1, :, SIZE // 2 :], (ORIGIN[0] + 1280, ORIGIN[1]), names=("VH", "VV"))
    np.testing.assert_array_equal(scan(tmp_path)[0].read()[0], sar)


def test_the_mask_beside_a_patch_that_is_like_the_one_before_it_is_read(tmp_path):
    sar, _ = write_scene(tmp_path, 7)
    path = sorted(tmp_path.glob("*/s1_7/*.tif"))[1]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        mask = np.full((SIZE, SIZE), 255, np.uint8)
        mask[:20] = 0
        file.write_mask(mask)
    expected = sar.copy()
    expected[:, :20, SIZE:] = np.nan
    np.testing.assert_array_equal(scan(tmp_path)[0].read()[0], expected)


def test_offset_of_level_2a_and_false_colour(tmp_path):
    _, opt = write_scene(tmp_path, 7, columns=1)
    (scene,) = scan(tmp_path, opt_offset=1000, colours=["B12", "B08", "red"])
    np.testing.assert_array_equal(scene.read()[1], opt[[12, 7, 3], :, :SIZE] - 1000.0)
    assert scene.opt_offset == 1000


def test_own_layer_is_read_with_its_scene(tmp_path):
    write_scene(tmp_path, 7)
    codes = np.random.default_rng(0).integers(1, 18, (4, SIZE, 384)).astype(np.uint8)
    for i in range(2):
        place = (ORIGIN[0] + i * 1280, ORIGIN[1])
        path = tmp_path / f"ROIs1158_spring/lc_7/ROIs1158_spring_lc_7_p{30 + i}.tif"
        tif(path, codes[:, :, i * 128 : i * 128 + SIZE], place)
    np.testing.assert_array_equal(scan(tmp_path, own_layer=True)[0].read()[2], codes[0])
    assert scan(tmp_path)[0].read()[2] is None


def test_headers_are_remembered_until_a_file_changes(tmp_path, monkeypatch):
    write_scene(tmp_path, 7)
    first = scan(tmp_path)
    opened, real = [], rasters.header
    monkeypatch.setattr(rasters, "header", lambda path: (opened.append(path.name), real(path))[1])
    (again,) = scan(tmp_path)
    assert not opened and again.grid == first[0].grid and again.read()[0].shape == first[0].read()[0].shape
    path = tmp_path / "ROIs1158_spring/s1_7/ROIs1158_spring_s1_7_p31.tif"
    path.write_bytes(path.read_bytes()[:-1])
    scan(tmp_path)
    assert opened == [path.name]
    (cache,) = (tmp_path / "headers").iterdir()
    cache.write_text("5")
    scan(tmp_path)
    cache.write_text("{broken")
    opened.clear()
    scan(tmp_path)
    assert len(opened) == 3  # the other patch of Sentinel-2 differs before its pixels in nothing but its place


def test_an_interrupted_scan_goes_on_where_it_was(tmp_path, monkeypatch):
    for number in (7, 8, 9):
        write_scene(tmp_path, number, columns=1)
    real, opened, stops = rasters.header, [], [KeyboardInterrupt]

    def header(path):
        if path.parent.name == "s2_8" and stops:
            raise stops.pop()
        opened.append(path.parent.name)
        return real(path)

    monkeypatch.setattr(rasters, "header", header)
    monkeypatch.setattr(archive, "_called", lambda calls: (call() for call in calls))  # a busy machine starts threads
    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path)
    assert len(scan(tmp_path)) == 3
    assert opened == ["s1_7", "s2_7", "s1_8", "s1_8", "s2_8", "s1_9", "s2_9"]


def test_a_link_that_leads_nowhere_and_two_levels_are_named(tmp_path):
    write_scene(tmp_path, 7, columns=1)
    write_scene(tmp_path, 8, columns=1)
    path = tmp_path / "ROIs1158_spring/s2_8/ROIs1158_spring_s2_8_p30.tif"
    tif(path, world(SIZE, SIZE)[1][:12])
    with pytest.raises(InputError, match=r"s2_8_p30.tif' has 12 bands: 13 are Level-1C"):
        scan(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere.tif")
    with pytest.raises(InputError, match=r"s2_8_p30.tif' cannot be read"):
        scan(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    write_scene(tmp_path, 7, columns=1)
    real = os.scandir

    def scandir(path):
        if str(path).endswith("s1_7"):
            raise OSError(5, "Input/output error", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"s1_7' cannot be listed \(Input/output error\)"):
        scan(tmp_path)


def test_a_slow_disk_is_read_by_several_threads(tmp_path, monkeypatch):
    for number in range(4):
        write_scene(tmp_path, number, columns=1, corner=(ORIGIN[0] + 10_000 * number, ORIGIN[1]))
    quickly, real, threads = scan(tmp_path), rasters._folder_headers, []

    def slow(*given):
        threads.append(threading.current_thread())
        time.sleep(0.2)
        return real(*given)

    monkeypatch.setattr(rasters, "_folder_headers", slow)
    shutil.rmtree(tmp_path / "headers")
    slowly = scan(tmp_path)
    assert len(threads) == 8 and len(set(threads)) > 2
    assert [(scene.id, scene.grid, scene.state) for scene in quickly] == [(s.id, s.grid, s.state) for s in slowly]


def test_headers_and_pixels_that_are_read_without_gdal_are_those_that_it_reads(tmp_path):
    sar, _ = write_scene(tmp_path, 7, columns=3)
    files = sorted(tmp_path.glob("*/s1_7/*.tif"))
    tif(files[1], sar[:, :, :SIZE], (ORIGIN[0] + 1280, ORIGIN[1]), nodata=-3.0)  # other bytes before its pixels
    found = rasters.headers([*map(str, files)], {}, tmp_path / "headers.json")
    heads = {path: found[str(path)] for path in files}
    assert heads == {path: rasters.header(path) for path in files}
    assert heads[files[1]].start is None and heads[files[0]].start == heads[files[2]].start > 0
    with rasterio.open(files[2]) as file:
        np.testing.assert_array_equal(rasters.read_bands(files[2], (2, 1), heads[files[2]]), file.read((2, 1)))


def test_a_remembered_header_is_the_one_that_was_read(tmp_path):
    crs = "+proj=utm +zone=53 +datum=WGS84 +towgs84=1,2,3 +units=m"
    for number in (1, 2):
        tif(tmp_path / f"{number}.tif", np.zeros((2, SIZE, SIZE), np.float32), crs=crs)
    files = sorted(map(str, tmp_path.glob("*.tif")))
    first, again = (rasters.headers(files, {}, tmp_path / "headers.json") for _ in range(2))
    assert first == again


def test_what_one_band_lacks_its_neighbour_gives_and_nothing_else_is_lost(tmp_path):
    _, opt = write_scene(tmp_path, 7, columns=2)
    paths = sorted(tmp_path.glob("*/s2_7/*.tif"))
    holes = [(3, slice(40, 60), slice(100, 140)), (3, slice(40, 60), slice(20, 40))]  # B4
    for path, left, hole in zip(paths, (0, 128), holes, strict=True):
        pixels = opt[:, :, left : left + SIZE].copy()
        pixels[hole] = 0
        tif(path, pixels, (ORIGIN[0] + 10 * left, ORIGIN[1]), names=None, nodata=0)
    found = scan(tmp_path)[0].read()[1]
    wanted = opt[[3, 2, 1]].astype(np.float32)
    wanted[0, 40:60, 100:128] = np.nan  # where the first is alone
    np.testing.assert_array_equal(found, wanted)


def test_versions_of_a_scene_are_told_apart_though_others_cover_all_of_a_patch(tmp_path):
    rows, columns = 5, 8
    write_scene(tmp_path, 7, rows=rows, columns=columns)
    scan(tmp_path)[0].read()
    for number, (row, column) in enumerate(np.ndindex(rows, columns)):
        if not (row % 2 and column % 2) or column == columns - 1:
            continue  # an odd one of an odd row adds nothing but at the end
        path = tmp_path / f"ROIs1158_spring/s2_7/ROIs1158_spring_s2_7_p{number + 30}.tif"
        with rasterio.open(path, "r+") as file:
            file.write(file.read() + np.uint16(1))
    with pytest.raises(InputError, match="the archive mixes versions of a scene"):
        scan(tmp_path)[0].read()


def test_only_what_meets_a_window_is_read(tmp_path):
    write_scene(tmp_path, 7, columns=3)
    (scene,) = scan(tmp_path)
    sar = scene.read([(0, 0, 128, 128)])[0]
    assert np.isfinite(sar[..., :SIZE]).all() and np.isnan(sar[..., SIZE:]).all()


def test_tar_archives_are_streamed_and_only_the_map_is_kept(tmp_path):
    for scene, east in ((7, 0), (8, 50_000)):
        write_scene(tmp_path / "whole", scene, corner=(ORIGIN[0] + east, ORIGIN[1]), seed=scene)
    (tmp_path / "tars").mkdir()
    for kind in ("s1", "s2"):
        with tarfile.open(tmp_path / f"tars/ROIs1158_spring_{kind}.tar.gz", "w:gz", compresslevel=1) as tar:
            for path in sorted((tmp_path / "whole").glob(f"*/{kind}_*/*.tif")):
                tar.add(path, arcname=path.relative_to(tmp_path / "whole"))

    def covers(grid):
        return grid.bounds[0] < ORIGIN[0] + 1000

    seen = []
    for _ in range(2):
        found = extract(tmp_path / "tars", tmp_path / "kept", lambda grid: (seen.append(grid), covers(grid))[1], "west")
        assert found == {"ROIs1158_spring_7": 1, "ROIs1158_spring_8": 2} and len(seen) == 8  # read once
    kept = sorted(path.name for path in (tmp_path / "kept").rglob("*.tif"))
    assert kept == ["ROIs1158_spring_s1_7_p30.tif", "ROIs1158_spring_s2_7_p30.tif"]
    assert json.loads((tmp_path / "kept/ROIs1158_spring_s1.tar.gz.json").read_text())["key"] == "west"
    tars = tmp_path / "tars"
    shutil.copy(tars / "ROIs1158_spring_s2.tar.gz", tars / "ROIs1158_spring_s2_copy.TAR.GZ")
    (tars / "._ROIs1158_spring_s2.tar.gz").write_bytes(b"what macOS leaves beside a copied file")
    for name in ("ROIs1158_spring_s2.tar.gz.md5", "ROIs1158_spring_s2.tar.json", "notes.tar.txt"):
        (tars / name).write_text("no archive")
    assert extract(tars, tmp_path / "kept", covers, "west") == found, "patches that two archives have count once"
    for name in ("rest.tar.xz", "all.zip", "ROIs1158_spring_s2.tar (1).gz"):
        (tars / name).touch()
        with pytest.raises(InputError, match=rf"{re.escape(name)}' would be left out"):
            extract(tars, tmp_path / "kept", covers, "west")
        (tars / name).unlink()
    patch = tmp_path / "kept" / f"ROIs1158_spring/s1_7/{kept[0]}"
    right = patch.read_bytes()
    patch.unlink()
    assert extract(tmp_path / "tars", tmp_path / "kept", covers, "west") == found and patch.read_bytes() == right
    patch.write_bytes(right[:-1] + b"?")  # as an archive has it that is then corrected: another byte, the same size
    extract(tmp_path / "tars", tmp_path / "kept", lambda grid: True, "all")
    for path in (tmp_path / "whole").rglob("*.tif"):
        assert (tmp_path / "kept" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


def test_two_tar_archives_with_other_versions_of_a_patch_are_named_whichever_is_read_first(tmp_path):
    (tmp_path / "tars").mkdir()
    paths = [tmp_path / f"tars/{name}.tar" for name in ("m", "z", "a")]  # of which the first is alone for a while
    for seed, path in enumerate(paths):
        write_scene(tmp_path / "whole", 7, columns=1, seed=seed)
        if seed:  # what is read before the contradiction is removed again
            write_scene(tmp_path / "whole", 6, columns=1, seed=seed)
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path / "whole/ROIs1158_spring", arcname="ROIs1158_spring")
        if seed:
            names = sorted((path.name, "m.tar"), key=lambda name: name == "m.tar")
            with pytest.raises(InputError, match=f"'.*{names[0]}' and '.*{names[1]}' have different files 'ROIs"):
                extract(path.parent, tmp_path / "kept", lambda grid: True, "")
            path.unlink()
        else:
            extract(path.parent, tmp_path / "kept", lambda grid: True, "")
            kept = {file: file.read_bytes() for file in (tmp_path / "kept").rglob("*.tif")}
        assert kept == {file: file.read_bytes() for file in (tmp_path / "kept").rglob("*.tif")}


def test_tar_archives_that_were_both_written_anew_are_not_held_against_each_other(tmp_path):
    (tmp_path / "tars").mkdir()
    for seed, numbers in enumerate(({"a": [1], "b": [2, 3]}, {"a": [1, 2], "b": [3, 4]})):
        for name, scenes in numbers.items():
            with tarfile.open(tmp_path / f"tars/{name}.tar", "w") as tar:
                for scene in scenes:
                    root = tmp_path / f"{seed}/{scene}"
                    write_scene(root, scene, columns=1, seed=seed)
                    tar.add(root / "ROIs1158_spring", arcname="ROIs1158_spring")
        extract(tmp_path / "tars", tmp_path / "kept", lambda grid: True, "")
    for path in (tmp_path / "1").rglob("*.tif"):
        kept = tmp_path / "kept" / path.relative_to(tmp_path / "1").relative_to(path.parts[-4])
        assert kept.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("content", ["null", "[]", '{"corners": {}}', "{"])
def test_what_is_remembered_of_a_tar_archive_is_made_again_where_it_is_damaged(tmp_path, content):
    write_scene(tmp_path / "whole", 7, columns=1)
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/m.tar", "w") as tar:
        tar.add(tmp_path / "whole", arcname=".")
    extract(tmp_path / "tars", tmp_path / "kept", lambda grid: True, "")
    state = tmp_path / "kept/m.tar.json"
    before = state.read_text()
    state.write_text(content)
    extract(tmp_path / "tars", tmp_path / "kept", lambda grid: True, "")
    assert state.read_text() == before


def test_a_tar_archive_of_the_same_size_that_was_written_anew_is_read_again(tmp_path):
    path = tmp_path / "tars/ROIs1158_spring_s1.tar"
    path.parent.mkdir()
    sizes = set()
    for seed in (0, 1):
        write_scene(tmp_path / "whole", 7, columns=1, seed=seed)
        (patch,) = (tmp_path / "whole").glob("*/s1_7/*.tif")
        with tarfile.open(path, "w") as tar:
            tar.add(patch, arcname=patch.relative_to(tmp_path / "whole"))
        os.utime(path, (seed, seed))
        extract(path.parent, tmp_path / "kept", lambda grid: True, "")
        assert (tmp_path / "kept" / patch.relative_to(tmp_path / "whole")).read_bytes() == patch.read_bytes()
        sizes.add(path.stat().st_size)
    assert len(sizes) == 1


def test_the_seasons_are_those_of_one_year():
    """As the data set's description says: winter of 2016/2017 first; spring ends on 30 May."""
    seasons = [[date.fromisoformat(day) for day in DATES[name]] for name in ("winter", "spring", "summer", "fall")]
    assert seasons[0][0] == date(2016, 12, 1) and seasons[-1][1] == date(2017, 11, 30)
    assert [(after[0] - before[1]).days for before, after in pairwise(seasons)] == [1, 2, 1]


@pytest.mark.parametrize("kind", ["s1", "s2"])
def test_a_patch_that_holds_nothing_is_no_data(tmp_path, kind):
    write_scene(tmp_path, 7, columns=1)
    pixels = np.zeros((2, SIZE, SIZE), np.float32) if kind == "s1" else np.zeros((13, SIZE, SIZE), np.uint16)
    tif(tmp_path / f"ROIs1158_spring/{kind}_7/ROIs1158_spring_{kind}_7_p30.tif", pixels)
    read = dict(zip(("s1", "s2"), scan(tmp_path)[0].read()[:2], strict=True))
    assert {name: np.isnan(values).all() for name, values in read.items()} == {"s1": kind == "s1", "s2": kind == "s2"}


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar"])
def test_a_damaged_bit_of_a_tar_archive_is_found(tmp_path, suffix):
    write_scene(tmp_path / "whole", 7, columns=2)
    path = tmp_path / f"tars/ROIs1158_spring_s1{suffix}"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz" if suffix == ".tar.gz" else "w") as tar:
        for patch in sorted((tmp_path / "whole").glob("*/s1_*/*.tif")):
            tar.add(patch, arcname=patch.relative_to(tmp_path / "whole"))
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
    right = bytearray(path.read_bytes())
    extract(path.parent, tmp_path / "kept", lambda grid: True, "")
    random = np.random.default_rng(0)
    # of a plain archive only headers have a sum
    for place in random.integers(20, len(right) - 8, 10) if suffix == ".tar.gz" else [second + 3, second + 150]:
        wrong = right.copy()
        wrong[place] ^= 1 << int(random.integers(8))
        path.write_bytes(wrong)
        with pytest.raises(InputError, match=rf"spring_s1{suffix}' is broken: fetch it again"):
            extract(path.parent, tmp_path / "other", lambda grid: True, "")
        assert not (tmp_path / f"other/{path.name}.json").exists()
