"""The same ground in two splits without geography: found at another time and moved, and nowhere else."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from s2olib.data.build import build
from s2olib.data.ground import same_ground

SIZE = 64


def make(root, radar_shift=(0, 0)):
    """Blocks of land that a camera and a radar see in their own ways; two are in test and, moved, in another split.

    Of a third that is in both the radar sees noise. The radar of those in test may be shifted against the camera.
    """
    rng = np.random.default_rng(0)
    lands = [np.kron(rng.normal(size=(20, 20)), np.ones((5, 5))) for _ in range(14)]
    lands[13] *= 0  # and one is flat
    shown = {f"train{i}": (lands[i], 0, 0) for i in range(10)}
    shown |= {"validation0": (lands[10], 0, 0), "test0": (lands[11], 0, 0), "test1": (lands[3], 9, 4)}
    shown |= {"test2": (lands[13], 0, 0), "test3": (lands[10], 2, 3)}
    shown["test4"] = lands[5], 0, 0
    for name, (land, top, left) in shown.items():
        crop = land[top : top + SIZE, left : left + SIZE]
        moved = np.roll(crop, radar_shift if name.startswith("test") else 0, (0, 1))
        noise = rng.normal(0, 0.2, (2, SIZE, SIZE)) * (name != "test2")
        radar = 5 * noise[0] if name == "test4" else 0.5 * (noise[0] - moved)
        for folder, seen in (("s1", radar), ("s2", crop + noise[1])):
            (root / folder).mkdir(exist_ok=True)
            grey = (128 + 30 * seen).clip(1, 190).astype(np.uint8)
            picture = grey if folder == "s1" else np.stack([grey] * 3, -1)
            Image.fromarray(picture).save(root / folder / f"{name}.png")
    pd.DataFrame({"id": [*shown], "split": [name.rstrip("0123456789") for name in shown]}).to_csv(root / "split.csv")
    folders = {"sar_dir": root / "s1", "opt_dir": root / "s2", "split_file": root / "split.csv"}
    build(root / "set", source="folder", **folders, sar_units="8-bit", opt_units="8-bit", patch_size=SIZE)
    return root / "set"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make(tmp_path_factory.mktemp("ground"))


def test_the_same_ground_is_found_on_another_day_and_moved(dataset, monkeypatch):
    pairs = same_ground(dataset)
    shifts = {("test1", "train3", "train"): (9, 4), ("test3", "validation0", "validation"): (2, 3)}
    assert {(pair["test"], pair["other"], pair["split"]) for pair in pairs} == shifts.keys() and len(pairs) == 2
    for pair in pairs:
        shift = shifts[pair["test"], pair["other"], pair["split"]]
        assert np.abs(np.array(pair["shift"]) - shift).max() <= 1 and pair["peak"] > 2
    assert pairs[0]["peak"] > pairs[1]["peak"], "the clearest first, and not the one that is found first"
    monkeypatch.setattr("s2olib.data.ground.AT_ONCE", 3)
    assert same_ground(dataset) == pairs


def test_what_the_two_kinds_of_images_do_not_lay_alike_is_not_the_same_ground(tmp_path):
    assert same_ground(make(tmp_path, radar_shift=(0, 8))) == []


def test_where_geometry_has_proved_it_nothing_is_searched(dataset, describe, tmp_path):
    shutil.copytree(dataset, tmp_path / "set")
    for path in (tmp_path / "set").glob("*/index.csv"):
        pd.read_csv(path).assign(crs="EPSG:32653").to_csv(path, index=False)
    describe(tmp_path / "set")
    assert same_ground(tmp_path / "set") == []
    for path in (tmp_path / "set").glob("*/index.csv"):
        index = pd.read_csv(path)
        if path.parent.name != "test":
            index.loc[1:, "crs"] = ""
        index.to_csv(path, index=False)
    describe(tmp_path / "set")
    assert len(same_ground(tmp_path / "set")) == 2, "not all have a place, though some of each split and all of one do"


@pytest.mark.parametrize(("heights", "peak"), [((12, 9), 3), ((9, 12), 3), ((9, 9), None)])
def test_the_peak_is_the_weaker_of_two_in_multiples_of_what_chance_made(dataset, monkeypatch, heights, peak):
    """Eleven others: the first is laid alike over the first test patch, all the rest by chance, the radar by 3 or 0."""
    chance = (3 if peak else 0, 20)
    answers = iter([(apart, kind, first) for first in (True, *[False] * 4) for kind, apart in enumerate((0, 50))])

    def laid_over(*_):
        apart, kind, first = next(answers)
        shifts, peaks = np.full((11, 2), apart), np.full(11, chance[kind], float)
        if first:
            shifts[0], peaks[0] = 7, heights[kind]
        return shifts, peaks

    monkeypatch.setattr("s2olib.data.ground.laid_over", laid_over)
    assert [(pair["shift"], pair["peak"]) for pair in same_ground(dataset)] == [([7, 7], peak)]
