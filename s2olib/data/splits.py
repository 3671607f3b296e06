"""Regions into splits, and the geometry that proves it: no two patches of different splits touch.

Scenes closer together than a buffer form a region, and so does each block of a large image that is cut; a region lies
in one split. Training windows may overlap each other (the talk's only augmentation is a sliding window); validation and
test windows of a scene never do.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from rasterio.transform import Affine
from rasterio.warp import transform

from s2olib.data import SPLITS
from s2olib.data.rasters import METRES_PER_DEGREE, Grid, Scene, crs_of, metres_of
from s2olib.project import InputError, resolve

CHUNK = 2**20  # distances at a time
DRAWS = 8192  # of regions into splits, of which the nearest to the shares is taken
SQUARE = 16  # pixels: an overlap of 31 or more, wherever it lies, holds one of the squares that a patch is cut into
TOUCH = 0.001  # metres: patches that share an edge touch, whatever the last digits say
AROUND = 34_735_060.89  # metres around the equator in EPSG:6933
STRONGER = (("test", "validation"), ("test", "train"), ("validation", "train"))


@dataclass
class Window:
    """A candidate patch: where it is in its scene, and its split (None: not used, for the reason given)."""

    id: str
    scene: str
    row: int
    column: int
    grid: Grid
    split: str | None = None
    reason: str = ""
    value: float | str = ""


def candidate_windows(scene_id: str, grid: Grid, size: int, stride: int) -> list[Window]:
    """Every window that fits the scene and whose row and column are both multiples of the stride, or of the size."""
    rows, columns = (
        [[*range(0, length - size + 1, step)] for step in (stride, size)] for length in (grid.height, grid.width)
    )
    places = sorted({place for lattice in zip(rows, columns, strict=True) for place in product(*lattice)})
    names = [scene_id if len(places) == 1 else f"{scene_id}_{row:04d}_{column:04d}" for row, column in places]
    return [Window(name, scene_id, r, c, grid.window(r, c, size)) for name, (r, c) in zip(names, places, strict=True)]


def on_lattice(window: Window, split: str, size: int, stride: int) -> bool:
    """Would the split take this window: does it begin at multiples of the stride (train), or of the size?"""
    step = stride if split == "train" else size
    return window.row % step == 0 and window.column % step == 0


def _assign(window: Window, split: str, size: int, stride: int) -> bool:
    """Give a window its split, unless there is a reason against it; False if it is not one of that split's at all."""
    if taken := on_lattice(window, split, size, stride):
        window.split = None if window.reason else split
    else:
        window.reason = ""
    return taken


def split_by_file(
    scenes: list[Scene], candidates: list[list[Window]], path: Path, size: int, stride: int, left_out: AbstractSet[str]
) -> None:
    """The split as a CSV of scenes or patches says, with every entry used but those of scenes that are left out.

    A scene that is not used is refused in training's windows.
    """
    listed: dict[str, str] = {}
    for name, split in _entries(path):
        if split not in (*SPLITS, "guard"):
            raise InputError(
                f"split_file '{path}' gives '{name}' the unknown split '{split}': use {', '.join(SPLITS)} or guard"
            )
        if name in listed:
            raise InputError(f"split_file '{path}' lists '{name}' twice")
        listed[name] = split
    used: set[str] = set()
    for scene, windows in zip(scenes, candidates, strict=True):
        names = {scene.id, *(w.id for w in windows)} & set(listed)
        if not names:
            raise InputError(
                f"split_file '{path}' does not list scene '{scene.id}': add it, as guard if it is not to be used"
            )
        used |= {scene.id} & names
        for window in windows:
            name = window.id if window.id in listed else scene.id
            split = listed.get(name)
            if split in ("guard", None):
                used |= {name} if name in listed else set()
                refused = name != scene.id or on_lattice(window, "train", size, stride)
                reason = "guard gap" if split else "not in the split file"
                window.reason = (window.reason or reason) if refused else ""
            elif _assign(window, split, size, stride):
                used |= {name}
    for name in listed:
        parts = name.split("_")
        if name not in used and left_out.isdisjoint("_".join(parts[: i + 1]) for i in range(len(parts))):
            raise InputError(
                f"split_file '{path}' lists '{name}', which is no scene and no patch on its split's lattice"
            )


def _entries(path: Path) -> list[tuple[str, str]]:
    """What a split file says: names and their splits."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(filter(str.strip, lines), restval="", strict=True)
            table.fieldnames = [name.strip() for name in table.fieldnames or ["nothing"]]
            columns, rows = table.fieldnames, list(table)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"split_file '{path}' is no table ({error}): give a CSV with columns id and split") from error
    if not {"id", "split"} <= set(columns):
        raise InputError(f"split_file '{path}' needs the columns id and split; it has {', '.join(columns)}")
    entries = [(row["id"].strip(), row["split"].strip()) for row in rows]
    return [entry for entry in entries if any(entry)]  # a spreadsheet's last rows may hold commas alone


def _regions(scenes: list[Scene], metres: float) -> np.ndarray:
    """For each scene the number of the first of its region: its group, and with geography all within so many metres;
    less than none is how deep two of one CRS overlap."""
    first: dict[str, int] = {}
    region = _joined(np.array([first.setdefault(scene.group or f"/{i}", i) for i, scene in enumerate(scenes)]))
    if all(scene.grid.crs for scene in scenes):
        alike = np.zeros(len(scenes), int)
        if metres < 0:  # in degrees, neighbours would overlap that are turned against north
            alike = np.unique([scene.grid.crs.to_string() for scene in scenes], return_inverse=True)[1]
        for members in (np.flatnonzero(alike == kind) for kind in range(alike.max() + 1)):
            grids = [scenes[i].grid for i in members]
            for rows, columns in _near(grids, grids, metres):
                region = _joined(region, members[rows], members[columns])
    return region


def _joined(region: np.ndarray, rows: Sequence[int] = (), columns: Sequence[int] = ()) -> np.ndarray:
    """The regions (N,), each called by its lowest member, when those of `rows` and `columns` have become one."""
    from scipy.sparse import coo_array  # long to load, and not for workers
    from scipy.sparse.csgraph import connected_components

    own = np.arange(len(region))
    rows, columns = np.concatenate([own, rows]), np.concatenate([region, columns])
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(region), len(region)))
    part = connected_components(graph, directed=False)[1]
    return np.unique(part, return_index=True)[1][part]


def with_groups(scenes: list[Scene], metres: float) -> list[Scene]:
    """Scenes with geography and without a group get one: the first group of their region, else its first scene's id.

    Intervals are taken over groups: one for all would give none, one for each would take neighbours for independent.
    """
    if all(scene.group or scene.grid.crs is None for scene in scenes):
        return scenes
    first, groups = _regions(scenes, metres), {}
    for scene, i in zip(scenes, first, strict=True):
        groups[i] = groups.get(i) or scene.group
    return [replace(s, group=s.group or groups[i] or scenes[i].id) for s, i in zip(scenes, first, strict=True)]


def split_by_region(
    scenes: list[Scene],
    candidates: list[list[Window]],
    test_places: Sequence[tuple[float, float]],
    buffer_m: float,
    metres: float,
    shares: Sequence[float],
    size: int,
    stride: int,
    seed: int,
) -> None:
    """Whole regions and groups into splits: what is within the buffer of a test place first, then the seeded draw that
    comes nearest the shares. Scenes within so many metres are one region."""
    geographic = [scene.grid.crs is not None for scene in scenes]
    for scene in scenes:
        if scene.grid.crs is None and (any(geographic) or not scene.group):
            raise InputError(
                f"scene '{scene.id}' has no geography and cannot be split by region: give a split_file, or a "
                "group_column of pairs_csv that names a place for every pair"
            )
    names, region = np.unique(_regions(scenes, metres), return_inverse=True)
    forced = np.zeros(len(names), bool)
    if all(geographic):
        for i, scene in enumerate(scenes):
            forced[region[i]] |= any(_metres_to(scene.grid, place) <= buffer_m for place in test_places)
    weights = np.zeros(len(names))
    for i, windows in enumerate(candidates):
        weights[region[i]] += sum(not w.reason and on_lattice(w, "test", size, stride) for w in windows)
    shares = np.asarray(shares, float) / np.sum(shares)
    random, best, least = np.random.default_rng(seed), None, np.inf
    for _ in range(DRAWS // 256):  # so many at a time as memory holds whatever the number of regions
        draws = random.choice(3, (256, len(names)), p=shares)
        draws[:, forced] = 2
        parts = np.stack([(draws == split) @ weights for split in range(3)], 1) / max(weights.sum(), 1)  # (256, 3)
        off = np.where((parts == 0).any(1), np.inf, np.square(parts - shares).sum(1))
        if off.min() < least:
            best, least = draws[off.argmin()], off.min()
    if best is None:
        many = "add scenes, lower buffer_m, cut large pairs of your own (block_m)"
        raise InputError(
            f"{len(names)} separate regions ({int(forced.sum())} of them forced to test) do not fill the three splits: "
            f"{('lower block_m' if metres < 0 else many) if all(geographic) else 'name more groups'}, "
            "or give a split_file"
        )
    for i, windows in enumerate(candidates):
        split = SPLITS[best[region[i]]]
        for window in windows:
            _assign(window, split, size, stride)


def tested(candidates: list[list[Window]], places: Sequence[tuple[float, float]], buffer_m: float) -> list[bool]:
    """For each place (lon, lat) whether a test window lies at most so many metres from it."""
    grids = [w.grid for windows in candidates for w in windows if w.split == "test" and w.grid.crs]
    return [any(_metres_to(grid, place) <= buffer_m for grid in grids) for place in places]


def _metres_to(grid: Grid, place: Sequence[float]) -> float:
    """Distance from a place (lon, lat) to a grid's box, zero inside."""
    west, south, east, north = grid.lonlat_bounds
    dx = min(max(west - x, x - east, 0) for x in (place[0] - 360, place[0], place[0] + 360))
    dx *= np.cos(np.radians(place[1]))
    return float(np.hypot(dx, max(south - place[1], place[1] - north, 0)) * METRES_PER_DEGREE)


def _distances(a: list[Grid], b: list[Grid]) -> np.ndarray:
    """Metres between the boxes of grids (A, B): zero where they touch, negative (how deep) where they overlap.

    Boxes of one projected CRS are compared in its plane, others as boxes of longitude and latitude, which errs to
    the near side.
    """
    flat = _flat(a, b)
    return _gaps(_boxes(a, flat), _boxes(b, flat), metres_of(a[0].crs) if flat else None)


def _near(a: list[Grid], b: list[Grid], metres: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Which boxes of two lists are within so many metres, (N,) and (N,) places in them, so many at a time as memory
    holds whatever the length of the lists."""
    flat, many = _flat(a, b), max(1, CHUNK // len(b))
    boxes, others = _boxes(a, flat), _boxes(b, flat)
    for start in range(0, len(a), many):
        gaps = _gaps(boxes[start : start + many], others, metres_of(a[0].crs) if flat else None)
        rows, columns = np.nonzero(gaps <= metres)
        yield rows + start, columns


def _flat(a: list[Grid], b: list[Grid]) -> bool:
    return a[0].crs is None or (a[0].crs.is_projected and all(grid.crs == a[0].crs for grid in (*a, *b)))


def _boxes(grids: list[Grid], flat: bool) -> np.ndarray:
    """West, south, east, north (N, 4), in the grids' plane or in degrees."""
    return np.array([grid.bounds if flat else grid.lonlat_bounds for grid in grids])


def _gaps(boxes: np.ndarray, others: np.ndarray, unit: float | None) -> np.ndarray:
    """Metres between boxes (A, 4) and others (B, 4): (A, B); the `unit` of a plane in metres, None for degrees."""
    (west, south, east, north), (west_b, south_b, east_b, north_b) = boxes.T[:, :, None], others.T[:, None, :]
    turns = (0,) if unit else (-360, 0, 360)  # over the antimeridian is a way, too
    dx = reduce(np.minimum, (np.maximum(west, west_b + t) - np.minimum(east, east_b + t) for t in turns))
    # (A, B): the gap, negative where they share columns
    dy = np.maximum(south, south_b) - np.minimum(north, north_b)
    if unit is None:
        dx, dy = dx * np.cos(np.radians((south + north_b) / 2)) * METRES_PER_DEGREE, dy * METRES_PER_DEGREE
    apart = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.where((dx < 0) & (dy < 0), np.maximum(dx, dy), apart) * (1 if unit is None else unit)


def guard(candidates: list[list[Window]], buffer_m: float) -> None:
    """Take windows too close to test's, then to validation's, out of the other splits; overlap is an error.

    Of windows of test, or of validation, that share ground although they are of different scenes, the first is kept, in
    the order of `candidates`.
    """
    order = {windows[0].scene: number for number, windows in enumerate(candidates) if windows}
    for split in ("test", "validation"):
        close = _close(candidates, split, split, 0)
        for first, second in sorted(close, key=lambda pair: [order[windows[0].scene] for windows in pair]):
            if order[first[0].scene] < order[second[0].scene]:
                deep = _distances([w.grid for w in second], [w.grid for w in first])  # (second, first)
                for window, row in zip(second, deep, strict=True):
                    kept = [i for i, w in enumerate(first) if w.split]
                    if kept and row[kept].min() < -half_pixel(window.grid):
                        other = first[kept[row[kept].argmin()]]
                        window.split, window.reason, window.value = None, f"ground seen in {split}", other.id
    for strong, weak in STRONGER:
        for kept, others in _close(candidates, strong, weak, buffer_m):
            distances = _distances([w.grid for w in others], [w.grid for w in kept])  # (others, kept)
            for window, row in zip(others, distances, strict=True):
                nearest = kept[row.argmin()]
                if row.min() < -half_pixel(window.grid) and window.grid.crs == nearest.grid.crs:
                    raise InputError(
                        f"{weak} patch '{window.id}' overlaps {strong} patch '{nearest.id}': "
                        "put both in one split, or one in guard"
                    )
                if row.min() <= max(buffer_m if window.grid.crs else 0, TOUCH):
                    window.split, window.reason, window.value = None, "guard gap", float(row.min())


def half_pixel(grid: Grid) -> float:
    """In metres; of degrees as at the equator. Less is rounding and no overlap."""
    flat = grid.crs is None or grid.crs.is_projected
    return grid.transform.a / 2 * (metres_of(grid.crs) if flat else METRES_PER_DEGREE)


def _close(scenes: list[list[Window]], strong: str, weak: str, metres: float) -> Iterator[tuple[list, list]]:
    """Windows of two splits, by scene, of scenes within so many metres; without geography only of one scene."""
    kept, others = (
        [found for windows in scenes if (found := [w for w in windows if w.split == s])] for s in (strong, weak)
    )
    plain = {windows[0].scene: windows for windows in kept if windows[0].grid.crs is None}
    yield from ((plain[b[0].scene], b) for b in others if b[0].grid.crs is None and b[0].scene in plain)
    kept, others = ([windows for windows in side if windows[0].grid.crs] for side in (kept, others))
    if kept and others:
        for rows, columns in _near([_hull(a) for a in kept], [_hull(b) for b in others], max(metres, TOUCH)):
            yield from ((kept[i], others[j]) for i, j in zip(rows, columns, strict=True))


def _hull(windows: list[Window]) -> Grid:
    pixel = windows[0].grid.transform
    left, bottom, right, top = np.array([w.grid.bounds for w in windows]).T
    shape = round((top.max() - bottom.min()) / -pixel.e), round((right.max() - left.min()) / pixel.a)
    return Grid(windows[0].grid.crs, Affine(pixel.a, 0, left.min(), 0, pixel.e, top.max()), *shape)


def _on_disk(dataset_root: Path, split: str) -> list[list[Window]]:
    """The windows of a split by scene, from its index alone."""
    size = np.load(dataset_root / split / "sar.npy", mmap_mode="r").shape[-1]
    scenes: dict[str, list[Window]] = {}
    with open(dataset_root / split / "index.csv", encoding="utf-8", newline="") as lines:
        for item in csv.DictReader(lines):
            crs, row, column = crs_of(item["crs"]) if item["crs"] else None, int(item["row"]), int(item["col"])
            place = Affine(*map(float, item["transform"].split())) if crs else Affine(1, 0, column, 0, -1, -row)
            window = Window(item["id"], item["scene"], row, column, Grid(crs, place, size, size), split)
            scenes.setdefault(item["scene"], []).append(window)
    return list(scenes.values())


def check_separation(dataset_root: str | Path) -> dict[str, list[Window]]:
    """Prove from what was written that no two patches of different splits touch; returns each split's windows.

    Patches without geography are compared by row and column within their scene, and by content: benchmarks repeat
    images, or cut them with an overlap, so no two of different splits, radar or optical, may be equal all over where
    they could overlap, by at least 2 · `SQUARE` − 1 pixels each way. (Images that were averaged or warped apart share
    no value, and are not found.) Raises InputError naming two patches.
    """
    try:
        scenes = {split: _on_disk(resolve(dataset_root), split) for split in SPLITS}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"dataset_root '{dataset_root}' holds no whole data set ({error}): build it again") from None
    for strong, weak in STRONGER:
        for kept, others in _close(scenes[strong] + scenes[weak], strong, weak, 0):
            distances = _distances([w.grid for w in kept], [w.grid for w in others])
            if distances.min() <= TOUCH:
                i, j = np.unravel_index(distances.argmin(), distances.shape)
                raise InputError(
                    f"{strong} patch '{kept[i].id}' touches {weak} patch '{others[j].id}': the split leaks"
                )
    windows = {split: [w for scene in scenes[split] for w in scene] for split in SPLITS}  # in the arrays' order
    _check_content(resolve(dataset_root), windows)
    return windows


def _check_content(root: Path, windows: dict[str, list[Window]]) -> None:
    """Look for patches without geography that are cut, overlapping, from images of another split, radar or optical.

    A square of one patch that lies somewhere in another says how they might overlap; they do if all that would be
    common is equal.
    """
    numbers = {split: [n for n, window in enumerate(windows[split]) if window.grid.crs is None] for split in SPLITS}
    for layer, least in (("opt", 2), ("sar", 0.1)):
        pixels = {split: np.load(root / split / f"{layer}.npy", mmap_mode="r") for split in SPLITS}  # (N, C, P, P)
        side = min(SQUARE, 2 ** pixels["train"].shape[-1].bit_length() // 4)
        if side < 4:  # so few pixels are equal by chance
            continue
        squares = _Squares(side, least)
        for weak, strong in (("validation", "test"), ("train", "validation")):
            for number in numbers[strong]:
                squares.add(pixels[strong][number], windows[strong][number])
            squares.sort()
            with ThreadPoolExecutor() as pool:
                twins = pool.map(squares.twin, (pixels[weak][number] for number in numbers[weak]))
                for number, twin in zip(numbers[weak], twins, strict=True):
                    if twin:
                        raise InputError(
                            f"{weak} patch '{windows[weak][number].id}' shares pixels with {twin.split} patch "
                            f"'{twin.id}': the split leaks, put both in one split"
                        )


class _Squares:
    """The squares that patches are cut into, by a hash of their values, to be looked for in other patches."""

    def __init__(self, side: int, least: float) -> None:
        self.side, self.least = side, least  # pixels; standard deviation below which all is alike
        self.patches: list[tuple[np.ndarray, Window]] = []
        self.found: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, np.uint64), np.empty((0, 3), int))]

    def add(self, patch: np.ndarray, window: Window) -> None:
        """Cut a patch (C, P, P), but leave out squares that are even, and equal to anything even."""
        count, side = patch.shape[-1] // self.side, self.side
        blocks = patch[:, : count * side, : count * side].reshape(len(patch), count, side, count, side)
        rows, columns = np.nonzero(blocks.std((0, 2, 4), dtype=np.float32) >= self.least)
        rows, columns = side * rows, side * columns
        places = np.stack([np.full_like(rows, len(self.patches)), rows, columns], 1)
        self.found.append((hashes_of_squares(patch, side)[rows, columns], places))
        self.patches.append((patch, window))

    def sort(self) -> None:
        """Make what was added so far ready to be looked for."""
        hashes, places = map(np.concatenate, zip(*self.found, strict=True))
        order = hashes.argsort(kind="stable")
        self.hashes, self.places = hashes[order], places[order]  # (N,) and (N, 3): patch, row, column
        self.likely = np.zeros(2**20, bool)  # by the first 20 bits
        self.likely[self.hashes >> np.uint64(44)] = True

    def twin(self, patch: np.ndarray) -> Window | None:
        """The window of a patch that overlaps this one."""
        hashes = hashes_of_squares(patch, self.side)
        rows, columns = np.nonzero(self.likely[hashes >> np.uint64(44)])
        first, last = (np.searchsorted(self.hashes, hashes[rows, columns], side) for side in ("left", "right"))
        tried = set()
        for i in np.flatnonzero(last > first):
            for which, row, column in self.places[first[i] : min(last[i], first[i] + 16)]:  # of what occurs everywhere
                overlap = (which, rows[i] - row, columns[i] - column)
                if overlap not in tried and self._equal(patch, *overlap):
                    return self.patches[which][1]
                tried.add(overlap)
        return None

    def _equal(self, patch: np.ndarray, which: int, down: int, right: int) -> bool:
        """Is all equal that is common, if this patch lies so far up and left of the other?"""
        ours, theirs = (
            one.view(f"u{one.itemsize}")[:, max(0, y) :, max(0, x) :][:, : len(one[0]) - abs(y), : len(one[0]) - abs(x)]
            for one, y, x in ((patch, down, right), (self.patches[which][0], -down, -right))
        )
        return min(ours.shape[1:]) >= 2 * self.side - 1 and np.array_equal(ours, theirs)


def hashes_of_squares(patch: np.ndarray, side: int) -> np.ndarray:
    """A hash of the square of `side` (a power of two) at each place of a patch (C, P, P): (P − side + 1)², uint64.

    A polynomial of the values, modulo 2**64, as wide as a pixel first and then twice as wide at each step.
    """
    total = np.zeros(patch.shape[1:], np.uint64)
    for band in patch.view(f"u{patch.itemsize}"):
        total = (total ^ (total >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + band + np.uint64(1)
    total = (total ^ (total >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    for base in (0xD6E8FEB86659FD93, 0xA0761D6478BD642F):  # down, then across
        width = 1
        while width < side:
            factor = np.uint64(pow(base, width, 2**64))
            total = total[:-width] * factor + total[width:]
            width *= 2
        total = total.T
    return total


def unique_area(windows: list[Window]) -> float | None:
    """Ground area in km² under patches, each place counted once per CRS; None without geography.

    The union of the boxes in their CRS, times the true area of a pixel (by the equal-area EPSG:6933) over its area in
    the CRS.
    """
    windows = [w for w in windows if w.grid.crs]
    if not windows:
        return None
    total = 0.0
    for crs in {w.grid.crs.to_string(): w.grid.crs for w in windows}.values():
        boxes = np.array([w.grid.bounds for w in windows if w.grid.crs == crs])  # left, bottom, right, top
        corners = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
        x, y = (np.reshape(v, (-1, 4)) for v in transform(crs, "EPSG:6933", corners[0].ravel(), corners[1].ravel()))
        x -= AROUND * np.round((x - x[:, :1]) / AROUND)  # a patch may lie on 180 degrees
        true = np.abs((x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1)) / 2  # the shoelace formula
        flat = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        total += _union(boxes) * (true / flat).mean()
    return round(float(total) / 1e6, 4)


def _union(boxes: np.ndarray) -> float:
    """Area of a union of boxes (N, 4), by sweeping from left to right."""
    area, edges = 0.0, np.unique(boxes[:, [0, 2]])
    for left, right in pairwise(edges):
        end = -np.inf
        for bottom, top in sorted(map(tuple, boxes[(boxes[:, 0] <= left) & (boxes[:, 2] >= right)][:, [1, 3]])):
            area += (right - left) * max(top - max(bottom, end), 0)
            end = max(end, top)
    return float(area)
