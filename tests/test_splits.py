"""Windows and the distances between them: against all pairs compared one by one, and what they take of memory."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine

from s2olib.data import SPLITS, splits
from s2olib.data.rasters import PIXELS, Grid
from s2olib.data.splits import Windows, guard

UTM = CRS.from_epsg(32653)


def grid(x: float, y: float, side: int, pixel: float = 10.0, crs: CRS = UTM) -> Grid:
    """A square of so many pixels."""
    return Grid(crs, Affine(pixel, 0, x, 0, -pixel, y), side, side)


def gap(a: tuple, b: tuple) -> float:
    """Between two boxes of a plane, or how deep they overlap, less than none."""
    dx, dy = max(a[0], b[0]) - min(a[2], b[2]), max(a[1], b[1]) - min(a[3], b[3])
    return max(dx, dy) if dx < 0 and dy < 0 else np.hypot(max(dx, 0), max(dy, 0))


@pytest.mark.parametrize("metres", [-200.0, 0.0, 5000.0])
def test_boxes_that_are_near_are_those_that_all_pairs_say(monkeypatch, metres):
    monkeypatch.setattr(splits, "CHUNK", 50)  # in many pieces
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 60_000, (90, 2)), rng.uniform(100, 4000, (90, 2))
    boxes = np.concatenate([corners, corners + sides], 1)
    near = list(splits._near(boxes[:50], boxes[50:], 1.0, metres))
    found = {(i, 50 + j): of for part in near for i, j, of in zip(*(x.tolist() for x in part), strict=True)}
    gaps = {(i, j): gap(boxes[i], boxes[j]) for i, j in product(range(50), range(50, 90))}
    assert found == pytest.approx({pair: of for pair, of in gaps.items() if of <= metres})
    assert len(found) > 2 and len(near) > 5


def test_what_is_near_is_found_in_degrees_and_over_180_of_them(monkeypatch):
    monkeypatch.setattr(splits, "CHUNK", 50)
    rng = np.random.default_rng(1)
    west, south = rng.uniform(179, 181, 60), rng.uniform(-60, -58, 60)
    west -= 360 * (west > 180)
    boxes = np.stack([west, south, west + 0.02, south + 0.02], 1)
    pairs = {pair for part in splits._near(boxes, boxes, None, 9000.0) for pair in zip(*part[:2], strict=True)}
    dx = np.abs((west[:, None] - west + 180) % 360 - 180) - 0.02
    dy = np.abs(south[:, None] - south) - 0.02
    latitude = np.maximum(south[:, None], south) - 0.02  # about; what is at the limit is left out
    apart = np.hypot(dx.clip(0) * np.cos(np.radians(latitude)), dy.clip(0)) * 111_300
    assert {*zip(*np.nonzero(apart < 8700), strict=True)} <= pairs <= {*zip(*np.nonzero(apart < 9300), strict=True)}
    assert any(west[i] * west[j] < 0 for i, j in pairs)


def test_what_the_guard_takes_out_is_within_the_buffer_and_says_how_near():
    rng = np.random.default_rng(2)
    places = rng.uniform(0, 30_000, (40, 2))
    kept = []  # of scenes that do not overlap: an overlap would be an error
    for place in places:
        if all(np.abs(place - other).max() > 1300 for other in kept):
            kept.append(place)
    windows = Windows.within([f"s{i}" for i in range(len(kept))], [grid(*p, 128) for p in kept], 64, 32)
    split = np.arange(len(kept)) % 3
    for number, name in enumerate(SPLITS):
        windows.assign(np.flatnonzero(split[windows.scene] == number), name, 32)
    before = windows.split.copy()
    guard(windows, 1500)
    boxes = windows.boxes(np.arange(len(windows)), True)
    for n in np.flatnonzero(before >= 0):
        # test is kept whole, of validation what is far from it, and training is compared with test first
        stronger = [np.flatnonzero(before == 2), np.flatnonzero(windows.split == 1)][: 2 - before[n]]
        nearest = [min(gap(boxes[n], boxes[other]) for other in of) for of in stronger]
        close = [metres for metres in nearest if metres <= 1500]
        assert windows.split[n] == (-1 if close else before[n])
        assert (windows.reason[n], windows.value[n]) == (("guard gap", close[0]) if close else ("", ""))
    assert 10 < (windows.reason != "").sum() < (before >= 0).sum() - 10


def test_of_three_that_share_ground_the_first_is_kept_and_named():
    grids = [grid(x, 4e6, 64) for x in (5e5, 5e5 + 100, 5e5 + 200)]
    windows = Windows.within(["a", "b", "c"], grids, 64, 64)
    windows.assign(np.arange(3), "test", 64)
    guard(windows, 0)
    assert windows.split.tolist() == [2, -1, -1] and windows.value.tolist() == ["", "a", "a"]


def test_names_of_patches_are_looked_for_in_other_scenes():
    sides = {"a": 64, "a_0000_0032": 32, "b_0000_0032": 32}
    windows = Windows.within([*sides], [grid(1e4 * i, 4e6, side) for i, side in enumerate(sides.values())], 32, 32)
    assert windows.twice() == "a_0000_0032"
    assert [windows.id(n) for n in range(len(windows))].count("a_0000_0032") == 2
    windows = Windows.within([*sides], [grid(1e4 * i, 4e6, 32) for i in range(3)], 32, 32)
    assert windows.twice() is None, "of one patch alone, a scene has no places"
    windows = Windows.within([*sides], [grid(1e4 * i, 4e6, side) for i, side in enumerate((64, 20, 32))], 32, 32)
    assert windows.twice() is None, "without a patch, a scene gives no name"


def test_patches_are_where_rows_and_columns_of_their_scene_are():
    whole = grid(540_003.7, 4_019_996.2, 100)
    windows = Windows.within(["a"], [whole], 32, 24)
    rows = sorted({*range(0, 69, 24), *range(0, 69, 32)})
    lattices = {*product(range(0, 69, 24), repeat=2), *product(range(0, 69, 32), repeat=2)}
    assert sorted(zip(windows.row.tolist(), windows.column.tolist(), strict=True)) == sorted(lattices)
    assert {*windows.row.tolist()} == {*rows}
    windows.assign(np.arange(len(windows)), "train", 24)
    for number in np.flatnonzero(windows.split >= 0):
        window = windows[number]
        assert window.grid == whole.window(window.row, window.column, 32) and window.split == "train"
        assert windows.boxes([number], True)[0].tolist() == list(window.grid.bounds)
    some = windows.of(np.array([3, 5]))
    assert [some.id(n) for n in range(2)] == [windows.id(n) for n in (3, 5)]
    assert some.grid(1) == windows.grid(5)


def test_a_patch_takes_little_memory():
    side = 16 * 316
    tracemalloc.start()
    try:
        windows = Windows.within(["a", "b"], [grid(1e5 * i, 4e6, side) for i in range(2)], 16, 16)
        for number, name in enumerate(("train", "test")):
            windows.assign(np.flatnonzero(windows.scene == number), name, 16)
        guard(windows, 2000)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(windows) == 2 * 316**2
    assert kept / len(windows) < 60 and peak / len(windows) < 300


def test_without_geography_only_windows_of_one_scene_are_compared():
    windows = Windows.within(["a", "b"], [Grid(None, PIXELS, 32, 96)] * 2, 32, 32)
    windows.assign(np.array([0, 3]), "train", 32)
    windows.assign(np.array([2, 4]), "test", 32)
    guard(windows, 1000)
    assert windows.split.tolist() == [0, -1, 2, -1, 2, -1]
    assert windows.reason.tolist() == ["", "", "", "guard gap", "", ""]
