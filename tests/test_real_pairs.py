"""The book's real pairs, laid out from folders like those that their authors publish."""

import errno
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from PIL import Image

from s2olib.data.build import build
from s2olib.project import InputError

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("real_pairs", ROOT / "notebooks" / "real_pairs.py")
real_pairs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real_pairs)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """An empty source, and a project beside it that has the book's profiles and no data."""
    project, source = tmp_path / "project", tmp_path / "source"
    (project / "notebooks").mkdir(parents=True)
    (project / "notebooks/profiles").symlink_to(ROOT / "notebooks/profiles")
    (project / "pyproject.toml").touch()
    monkeypatch.chdir(project)
    source.mkdir()
    return source


def image(path: Path, value: int | tuple[int, ...], size: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size, size, 3), value, np.uint8)
    pixels[0] //= 2  # there is an upper side
    Image.fromarray(pixels).save(path)


def ids(profile: str) -> list[str]:
    return list(pd.read_csv(ROOT / f"notebooks/profiles/{profile}.split.csv", dtype=str)["id"])


def value_of(path: Path) -> int:
    return np.asarray(Image.open(path)).max()


def test_floods(source):
    for name in ids("ombria"):
        place, _, number = name.rpartition("_")
        for kind in (1, 2):
            older = f"OmbriaS{kind}/train/BEFORE/S{kind}_before_{number}.png"
            newer = f"2021/{place.upper()}/Sentinel{kind}/BEFORE/imbefore_{int(number)}.png"
            image(source / (newer if place else older), 10 * kind if place else 100 * kind + int(number) % 50)
    folder = real_pairs.lay_out("ombria", source)
    table = pd.read_csv(folder / "pairs.csv", dtype=str, keep_default_na=False)
    assert folder == Path.cwd() / "data/ombria" and sorted(table["id"]) == sorted(ids("ombria"))
    assert dict(table["event"].value_counts()) == {"": 624, "france": 88, "albania": 22}
    assert [value_of(folder / name) for name in ("s1/0007.png", "s2/0007.png", "s2/france_007.png")] == [107, 207, 20]
    assert len([*folder.glob("s?/*.png")]) == 2 * 734
    with pytest.raises(InputError, match=r"data/ombria' is there already: remove it"):
        real_pairs.lay_out("ombria", source)


def write_benchmark(source: Path) -> None:
    for name in ids("sen12"):
        season, scene, patch = name.rsplit("_", 2)
        for kind, value in (("s1", 50), ("s2", 90)):
            image(source / season / f"{kind}_{scene}" / f"{season}_{kind}_{scene}_{patch}.png", value)


def test_scenes_of_the_benchmark(source):
    write_benchmark(source)
    folder = real_pairs.lay_out("sen12", source)
    row = pd.read_csv(folder / "pairs.csv").iloc[0]
    assert value_of(folder / "s1" / row["s1"]) == 50 and value_of(folder / "s2" / row["s2"]) == 90
    assert row["scene"] == row["id"].rpartition("_")[0]


def test_pairs_are_written_whole_or_not_at_all(source, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_benchmark(source)
    with monkeypatch.context() as patched, pytest.raises(InputError, match="No space left on device"):
        patched.setattr(real_pairs.shutil, "copyfile", full)
        real_pairs.lay_out("sen12", source)
    assert not [*Path("data").iterdir()]
    lost = sorted(source.rglob("*.png"))[-1]
    lost.unlink()
    with pytest.raises(InputError, match=rf"^1 of {2 * len(ids('sen12'))} files are not there, such as .*{lost.name}'"):
        real_pairs.lay_out("sen12", source)


def test_towns_lie_where_their_corners_say(source):
    (source / "dataset").mkdir()
    tiles = []
    for number, name in enumerate(ids("socal")):
        west, north = (-13_000_000 if number < 8 else -11_000_000) + 10_240 * number, 4_000_000
        corners = [[west, north], [west + 10_240, north], [west + 10_240, north - 10_240], [west, north - 10_240]]
        tiles.append(
            {
                "fragment_filename": f"{name}.png",
                "opt_tile_name": f"S2A_{'T11SLT' if number < 8 else 'T14RNT'}_X.SAFE",
                "opt_tile_sensing_date": "04.11.2020",
                "sar_tile_sensing_date": "07.11.2020",
                "corners_EPSG:3395": corners,
            }
        )
        image(source / f"dataset/sar/{name}.png", 70, 1024)
        image(source / f"dataset/opt/{name}.png", (140, 150, 160), 1024)
    (source / "dataset/metadata.json").write_text(json.dumps(tiles))
    folder = real_pairs.lay_out("socal", source)
    with rasterio.open(folder / "s1" / f"{ids('socal')[1]}.tif") as file:
        assert file.bounds == (-13_000_000 + 10_240, 4_000_000 - 10_240, -13_000_000 + 2 * 10_240, 4_000_000)
        assert file.crs.to_epsg() == 3395 and file.descriptions == ("VH",)
        assert (file.read(1)[:2, 5] == [35, 70]).all()
    with rasterio.open(folder / "s2" / f"{ids('socal')[1]}.tif") as file:
        assert dict(zip(file.descriptions, file.read()[:, 1, 5], strict=True)) == dict(red=140, green=150, blue=160)
    profile = yaml.safe_load((ROOT / "notebooks/profiles/socal.yml").read_text())
    first, *_, last = pd.read_csv(folder / Path(profile["pairs_csv"]).name).itertuples()
    assert (first.region, last.region) == ("LosAngeles", "SanAntonioTX")  # in the zones 11 and 14 of UTM
    assert (first.s1_date, first.s2_date) == ("07.11.2020", "04.11.2020")
    names = {"source", "sar_dir", "opt_dir", "pairs_csv", "group_column", "split_file", "sar_units", "opt_units"}
    info = build("built", **{k: profile[k] for k in names}, patch_size=1024, stride=1024, max_cloud=1, buffer_m=100)
    assert info["dates"] == ["2020-11-04", "2020-11-07"] and info["pixel_size_m"] == 10


@pytest.mark.parametrize("profile", real_pairs.SETS)
def test_what_is_not_there_is_named_and_nothing_written(source, profile):
    with pytest.raises(InputError, match=rf"(not there, such as '{source}|'{source}.* does not exist)"):
        real_pairs.lay_out(profile, source)
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", r"lists no tiles \(JSONDecodeError"),
        ("[{}]", "lists no tiles .KeyError 'fragment_filename'"),
        ("[]", "does not tell where and when tile .* was taken .KeyError"),
        (
            json.dumps([{"fragment_filename": f"{ids('socal')[0]}.png", "opt_tile_name": "S2A_T53SPA_X.SAFE"}]),
            r"does not tell where and when tile .* was taken \(StopIteration\)",
        ),
    ],
)
def test_a_broken_list_of_towns_is_named(source, content, says):
    (source / "dataset").mkdir()
    (source / "dataset/metadata.json").write_text(content)
    with pytest.raises(InputError, match=rf"dataset/metadata.json' {says}"):
        real_pairs.lay_out("socal", source)
    assert not Path("data").exists()


def test_the_command_line_takes_its_source_from_where_the_user_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["real_pairs.py", "socal", "source"])
    with pytest.raises(SystemExit) as end:
        real_pairs.main()
    said = capsys.readouterr().err
    missing = f"error: '{tmp_path}/source/dataset/metadata.json' does not exist"
    assert end.value.code == 2 and (missing in said or f"error: '{ROOT}/data/socal-texas' is there already" in said)
