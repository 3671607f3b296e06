"""The embedded archive: what rasterio reads back, that one seed gives the same bytes, and that its physics holds."""

import shutil

import numpy as np
import pytest
import rasterio
from rasterio.warp import Resampling, reproject

from s2olib.data import embedded
from s2olib.project import InputError, fingerprint

KAGA, MIKUNI, TOKACHI = (next(s for s in embedded.scenes() if s.name == n) for n in ("Kaga", "Mikuni", "Tokachi"))
INNER = (..., slice(embedded.FRAME, -embedded.FRAME), slice(embedded.FRAME, -embedded.FRAME))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """One scene, Kaga, as files: the archive's root."""
    root = tmp_path_factory.mktemp("embedded") / "archive"
    embedded.write_scene(KAGA, root)
    return root


@pytest.fixture(scope="module")
def mikuni():
    """One scene in memory, with sea."""
    return embedded.make_scene(MIKUNI)


def patch(archive, kind, number):
    return archive / "ROIs1158_spring" / f"{kind}_124" / f"ROIs1158_spring_{kind}_124_p{number}.tif"


def test_files_have_the_layout_units_and_types_of_sen12ms(archive):
    assert len(list(archive.rglob("*.tif"))) == 3 * embedded.ROWS * embedded.COLS
    for kind, count, dtype in (("s1", 2, "float32"), ("s2", 13, "uint16"), ("lc", 4, "uint8")):
        with rasterio.open(patch(archive, kind, 6)) as file:
            assert (file.count, file.height, file.width, file.dtypes[0]) == (count, 256, 256, dtype)
            assert file.compression is None and file.interleaving.name == "pixel"
            assert file.block_shapes == [({"s1": 4, "s2": 1, "lc": 8}[kind], 256)] * count
            assert file.crs.to_epsg() == 32653
            assert (file.transform.a, file.transform.e) == (10.0, -10.0)
            assert file.transform.c % 10 and file.transform.f % 10, "origins lie off the 10 m lattice"
            assert "synthetic" in file.tags()["TIFFTAG_IMAGEDESCRIPTION"]
            pixels = file.read()
            if kind == "s1":
                assert file.descriptions == ("VV", "VH")
                assert np.isfinite(pixels).all() and pixels.min() > -40 and pixels.max() < 20
                assert 3 < pixels[0].mean() - pixels[1].mean() < 10
            if kind == "s2":
                assert [file.descriptions[i - 1] for i in (4, 3, 2)] == ["B4", "B3", "B2"]
                assert 0.02 < np.median(pixels[3]) / 10000 < 0.2
                assert np.median(pixels[7]) > 1.5 * np.median(pixels[3]), "vegetation is bright in the near infrared"
            if kind == "lc":
                assert set(np.unique(pixels[0])) <= set(range(1, 18)), "IGBP classes come first"


def test_neighbouring_patches_share_half_their_pixels_and_one_lattice(archive):
    for kind in ("s1", "s2", "lc"):
        first, right, below = (rasterio.open(patch(archive, kind, n)) for n in (1, 2, 1 + embedded.COLS))
        np.testing.assert_array_equal(first.read()[..., 128:], right.read()[..., :128])
        np.testing.assert_array_equal(first.read()[:, 128:], below.read()[:, :128])
        assert (right.transform.c - first.transform.c, first.transform.f - below.transform.f) == (1280, 1280)


def test_same_seed_same_bytes_another_seed_others(archive, tmp_path):
    written = fingerprint(archive / "ROIs1158_spring")
    embedded.write_scene(KAGA, tmp_path)
    assert fingerprint(tmp_path / "ROIs1158_spring") == written
    codes = [embedded.land_cover(KAGA, seed=seed)["codes"] for seed in (0, 1)]
    assert (codes[0] != codes[1]).mean() > 0.2


def test_what_is_there_is_kept_and_what_is_missing_is_made_again(archive, monkeypatch):
    written, kept, lost = fingerprint(archive), patch(archive, "s2", 1), patch(archive, "s1", 5)
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    embedded.write_scene(KAGA, archive)
    assert fingerprint(archive) == written
    assert kept.stat().st_mtime_ns == stamp
    monkeypatch.setattr(embedded, "make_scene", lambda *_, **__: pytest.fail("a scene was made again"))
    embedded.write_scene(KAGA, archive)
    with pytest.raises(pytest.fail.Exception, match="a scene was made again"):
        embedded.write_scene(KAGA, archive, seed=1)


def test_the_whole_archive_is_of_the_seed_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "scenes", lambda: [KAGA])
    seeds = []
    for name in ("write_scene", "write_tile"):
        monkeypatch.setattr(embedded, name, lambda *_, seed=0: seeds.append(seed))
    (tmp_path / "archive").mkdir()
    embedded.write_archive(tmp_path / "archive", tmp_path / "map", seed=3)
    assert seeds == [3, 3] and '"seed": 3' in (tmp_path / "archive/embedded.json").read_text()


def test_whole_archive_ends_with_a_manifest_and_costs_nothing_the_second_time(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "scenes", lambda: [KAGA])
    embedded.write_archive(archive, tmp_path)
    assert '"synthetic": true' in (archive / "embedded.json").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["LC_N36E136.tif"]
    monkeypatch.setattr(embedded, "land_cover", lambda *_, **__: pytest.fail("a complete archive was made again"))
    embedded.write_archive(archive, tmp_path)


def test_a_file_of_somebody_else_is_never_overwritten(tmp_path):
    grid = {"crs": "EPSG:4326", "transform": rasterio.Affine(1 / 12000, 0, 136, 0, -1 / 12000, 37)}
    theirs = tmp_path / "LC_N36E136.tif"
    with rasterio.open(theirs, "w", driver="GTiff", count=1, height=2, width=2, dtype="uint8", **grid) as file:
        file.write(np.ones((1, 2, 2), np.uint8))
    with pytest.raises(InputError, match=r"LC_N36E136\.tif"):
        embedded.write_tile(36, 136, tmp_path)


@pytest.mark.parametrize(
    "theirs", ["archive/ROIs1158_spring/s2_9/ROIs1158_spring_s2_9_p1.tif", "map/LC_N36E136.tif", "map/own.TIF"]
)
def test_nothing_synthetic_is_written_among_images_of_somebody_else(tmp_path, theirs):
    path = tmp_path / theirs
    path.parent.mkdir(parents=True)
    grid = {"crs": "EPSG:4326", "transform": rasterio.Affine(1 / 12000, 0, 136, 0, -1 / 12000, 37)}
    with rasterio.open(path, "w", driver="GTiff", count=1, height=2, width=2, dtype="uint8", **grid) as file:
        file.write(np.ones((1, 2, 2), np.uint8))
    with pytest.raises(InputError, match=f"{path.name} is not the embedded archive's"):
        embedded.write_archive(tmp_path / "archive", tmp_path / "map")
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


def test_what_a_killed_process_has_begun_is_not_in_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "scenes", lambda: [])
    for name in ("archive/ROIs1158_spring/s2_124/.p1.32758.part.tif", "map/.LC_N36E136.7.part.tif"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"II*")
    embedded.write_archive(tmp_path / "archive", tmp_path / "map")
    assert (tmp_path / "archive/embedded.json").is_file()


def test_the_parameter_and_the_file_that_are_wrong_are_named(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "scenes", lambda: [KAGA])
    root = shutil.copytree(archive, tmp_path / "archive")
    (tmp_path / "file").touch()
    for name, says in (("file", "File exists"), ("file/below", "Not a directory")):
        with pytest.raises(InputError, match=rf"lulc_root '.*{name}' cannot be written \({says}\)"):
            embedded.write_archive(root, tmp_path / name)
    broken = patch(root, "s1", 1)
    broken.write_bytes(b"")
    with pytest.raises(InputError, match=f"{broken} cannot be read as a raster: delete it"):
        embedded.write_archive(root, tmp_path / "tiles")


def test_land_cover_read_back_onto_the_scene_agrees_even_across_tiles(tmp_path):
    scene = next(s for s in embedded.scenes() if len(s.tiles) > 1)
    truth = embedded.land_cover(scene)["codes"][INNER]
    read = np.zeros_like(truth)
    for lat, lon in scene.tiles:
        with rasterio.open(embedded.write_tile(lat, lon, tmp_path)) as file:
            assert file.crs.to_epsg() == 4326 and file.dtypes == ("uint8",)
            assert file.transform.a == pytest.approx(1 / 12000, rel=1e-9)
            lattice = np.array([file.transform.c, file.transform.f]) * 12000
            np.testing.assert_allclose(lattice, np.rint(lattice), atol=1e-5)
            assert lon - 1e-9 <= file.bounds.left < file.bounds.right <= lon + 1 + 1e-9
            assert lat - 1e-9 <= file.bounds.bottom < file.bounds.top <= lat + 1 + 1e-9
            here = np.zeros_like(truth)
            grids = {"src_transform": file.transform, "src_crs": file.crs}
            grids |= {"dst_transform": scene.transform, "dst_crs": scene.crs}
            reproject(file.read(1), here, **grids, src_nodata=0, dst_nodata=0, resampling=Resampling.nearest)
            read = np.where(here > 0, here, read)
    assert (read == truth).mean() >= 0.97
    assert (read == 0).mean() == 0


def test_all_classes_occur_and_kaga_and_mikuni_are_apart(mikuni):
    found = np.bincount(embedded.land_cover(TOKACHI)["codes"].ravel(), minlength=13)
    found += np.bincount(mikuni["codes"].ravel(), minlength=13)
    assert (found[1:] > 200).all() and found[0] == 0 and found.size == 13
    west, south, east, north = embedded._bounds(KAGA)
    others = embedded._bounds(MIKUNI)
    assert others[2] < west or others[0] > east or others[3] < south or others[1] > north


def test_backscatter_and_reflectance_follow_the_classes(mikuni):
    codes, (vv, vh), red, nir = mikuni["codes"], mikuni["s1"], mikuni["s2"][3], mikuni["s2"][7]
    water, town, trees = codes == embedded.WATER, codes == embedded.BUILT, np.isin(codes, (6, 7, 8, 9))
    assert vv[water].mean() < vv[town].mean() - 6
    assert (vv - vh)[town].mean() > 5 and vh[trees].mean() > vh[water].mean() + 8
    assert nir[water].mean() < red[water].mean() and nir[trees].mean() > 3 * red[trees].mean()


def test_slopes_that_face_the_radar_are_brighter(mikuni):
    height = embedded.land_cover(MIKUNI)["height"]
    rise = np.gradient(height, 10.0, axis=1)  # the radar looks towards the east
    trees, vv = np.isin(mikuni["codes"], (6, 7, 8, 9)), mikuni["s1"][0]
    assert vv[trees & (rise > 0.2)].mean() > vv[trees & (rise < -0.2)].mean() + 2


def test_speckle_has_its_looks_and_is_correlated_between_neighbours(mikuni):
    field = embedded.speckle(np.random.default_rng(5), (400, 400))
    assert field.mean() == pytest.approx(1, abs=0.01)
    assert 4.2 < field.mean() ** 2 / field.var() < 4.6
    assert 0.1 < np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1] < 0.6
    assert abs(np.corrcoef(field[:, 6:].ravel(), field[:, :-6].ravel())[0, 1]) < 0.03
    # In the image itself: windows of open sea, small enough for an even wind, far larger than the correlation.
    sea = 10 ** (mikuni["s1"][0][20:180, 20:180].astype(float) / 10)
    windows = sea.reshape(8, 20, 8, 20).swapaxes(1, 2).reshape(64, -1)
    assert 3.5 < np.median(windows.mean(1) ** 2 / windows.var(1)) < 5.5


def test_a_last_bit_of_another_processor_changes_no_file(mikuni, monkeypatch):
    functions = {"exp", "sin", "cos", "arctan", "log10", "hypot", "sqrt", "irfft2", "gaussian_filter", "zoom"}

    class Otherwise:
        """A module whose functions err by a last bit, as those of vector units that round differently."""

        def __init__(self, module):
            self.module = module

        def __getattr__(self, name):
            found = getattr(self.module, name)
            return found if name not in functions else lambda *a, **k: np.nextafter(y := found(*a, **k), y + 1)

    for name in ("np", "fft", "ndimage"):
        monkeypatch.setattr(embedded, name, Otherwise(getattr(embedded, name)))
    other = embedded.make_scene(MIKUNI)
    assert {name: (other[name] != mikuni[name]).sum() for name in mikuni} == dict.fromkeys(mikuni, 0)


def test_a_tile_is_written_where_the_project_is(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert embedded.write_tile(36, 136, "lulc") == tmp_path / "lulc/LC_N36E136.tif"
    assert (tmp_path / "lulc/LC_N36E136.tif").is_file()
