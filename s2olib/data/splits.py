"""Regions into splits, and the geometry that proves it: no two patches of different splits touch.

Scenes closer together than a buffer form a region, and so does each block of a large image that is cut; a region lies
in one split. Training windows may overlap each other (the talk's only augmentation is a sliding window); validation and
test windows of a scene never do.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, reduce
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import numpy as np
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform

from s2olib.data import SPLITS, store
from s2olib.data.rasters import METRES_PER_DEGREE, Grid, Scene, crs_of, metres_of
from s2olib.project import InputError, resolve

UNUSED = -1  # instead of a number in SPLITS
CHUNK = 2**20  # distances, or regions drawn, at a time
LOOKED_FOR = 2**13  # patches whose squares are in memory at a time
DRAWS = 8192  # of regions into splits, of which the nearest to the shares is taken
SQUARE = 16  # pixels: an overlap of 31 or more, wherever it lies, holds one of the squares that a patch is cut into
TOUCH = 0.001  # metres: patches that share an edge touch, whatever the last digits say
AROUND = 34_735_060.89  # metres around the equator in EPSG:6933
STRONGER = (("test", "validation"), ("test", "train"), ("validation", "train"))


@dataclass(slots=True)
class Window:
    """A patch: where it is in its scene, and its split, empty for none, and why that is so: a reason and its value."""

    id: str
    row: int
    column: int
    split: str
    refused: tuple[str, float | str] | None
    grid: Grid


@dataclass
class Windows:
    """Candidate patches by scene, row and column, and what became of each.

    They are rows of arrays, some 50 bytes each whatever the scenes, so that a hundred thousand are no matter. `split`
    is a number in `SPLITS`, or less than none where a patch is not used, for the reason given. A patch is called by its
    scene and, where that is cut into several, by its row and column.
    """

    scenes: list[str]  # their ids
    grids: list[Grid]  # of each scene, whose CRS and pixels its patches have
    cut: np.ndarray  # (S,) bool: is the scene more than one patch?
    size: int  # pixels
    scene: np.ndarray  # (N,) number of the scene
    row: np.ndarray
    column: np.ndarray
    x: np.ndarray  # (N,) of the upper left corner, in the CRS
    y: np.ndarray
    split: np.ndarray  # (N,) int8
    reason: np.ndarray  # (N,) text, empty for none
    value: np.ndarray  # (N,) what was measured, a number or text

    @classmethod
    def within(cls, scenes: list[str], grids: list[Grid], size: int, stride: int) -> Windows:
        """Every patch that fits its scene and whose row and column are both multiples of the stride, or of the size."""
        found = [places(grid.height, grid.width, size, stride) for grid in grids]
        counts = np.array([len(of) for of in found], int)
        scene = np.repeat(np.arange(len(scenes), dtype=np.int32), counts)
        row, column = np.concatenate([np.empty((0, 2), np.int32), *found]).T
        a, c, e, f = np.array([(t.a, t.c, t.e, t.f) for t in (grid.transform for grid in grids)]).reshape(-1, 4).T
        x, y = column * a[scene] + c[scene], row * e[scene] + f[scene]
        reason, value = np.full((2, len(scene)), "", object)
        unused = np.full(len(scene), UNUSED, np.int8)
        return cls(scenes, grids, counts > 1, size, scene, row, column, x, y, unused, reason, value)

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, number: int) -> Window:
        row, column, split = int(self.row[number]), int(self.column[number]), self.split[number]
        refused = (self.reason[number], self.value[number]) if self.reason[number] else None
        name = "" if split == UNUSED else SPLITS[split]
        return Window(self.id(number), row, column, name, refused, self.grid(number))

    def id(self, number: int) -> str:
        """What a patch is called."""
        scene = self.scene[number]
        place = f"_{self.row[number]:04d}_{self.column[number]:04d}" if self.cut[scene] else ""
        return self.scenes[scene] + place

    def twice(self) -> str | None:
        """A name that two patches have: one's scene is called as a place in another one."""
        numbers = {scene: number for number, scene in enumerate(self.scenes)}
        for name, number in numbers.items():
            match = re.fullmatch(r"(.+)_(\d{4,})_(\d{4,})", name)
            other = numbers.get(match[1]) if match and not self.cut[number] else None
            if other is not None and self.cut[other] and (self.scene == number).any():
                there = self.scene == other
                there &= (self.row == int(match[2])) & (self.column == int(match[3]))
                if name in (self.id(twin) for twin in np.flatnonzero(there)):
                    return name
        return None

    def grid(self, number: int) -> Grid:
        """A patch's own grid."""
        grid = self.grids[self.scene[number]]
        x, y = float(self.x[number]), float(self.y[number])
        return Grid(grid.crs, Affine(grid.transform.a, 0.0, x, 0.0, grid.transform.e, y), self.size, self.size)

    def of(self, numbers: np.ndarray) -> Windows:
        """Some of the patches, with nothing of other scenes."""
        kept, scene = np.unique(self.scene[numbers], return_inverse=True)
        arrays = (self.row, self.column, self.x, self.y, self.split, self.reason, self.value)
        scenes, grids = ([of[i] for i in kept] for of in (self.scenes, self.grids))
        return Windows(scenes, grids, self.cut[kept], self.size, scene, *(array[numbers] for array in arrays))

    def by_scene(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Some of the patches, scene by scene."""
        numbers = numbers[self.scene[numbers].argsort(kind="stable")]
        edges = np.flatnonzero(np.diff(self.scene[numbers], prepend=-1, append=-1))
        yield from (numbers[start:stop] for start, stop in pairwise(edges))

    def on_lattice(self, split: str, stride: int) -> np.ndarray:
        """(N,) whether the split would take a patch: if it begins at multiples of the stride (train), or the size."""
        step = stride if split == "train" else self.size
        return (self.row % step == 0) & (self.column % step == 0)

    def assign(self, numbers: np.ndarray, split: str, stride: int) -> np.ndarray:
        """Give patches their split, but where there is a reason against it; which of them are that split's at all."""
        taken = self.on_lattice(split, stride)[numbers]
        self.split[numbers] = np.where(taken & (self.reason[numbers] == ""), SPLITS.index(split), UNUSED)
        self.reason[numbers[~taken]] = ""
        return taken

    def refuse(self, number: int | np.ndarray, reason: str, value: float | str) -> None:
        """Not use a patch, or several."""
        self.split[number], self.reason[number], self.value[number] = UNUSED, reason, value

    @property
    def placed(self) -> np.ndarray:
        """(N,) bool: has a patch geography?"""
        return np.array([grid.crs is not None for grid in self.grids], bool)[self.scene]

    @cached_property
    def _pixels(self) -> np.ndarray:
        """Width, and height (negative), of each scene's pixels (S, 2)."""
        return np.array([(grid.transform.a, grid.transform.e) for grid in self.grids])

    def boxes(self, numbers: np.ndarray, flat: bool) -> np.ndarray:
        """West, south, east, north (N, 4) of patches, in their CRS or in degrees."""
        if not flat:
            return _boxes([self.grid(number) for number in numbers], False)
        a, e = self._pixels[self.scene[numbers]].T
        x, y = self.x[numbers], self.y[numbers]
        return np.stack([x, self.size * e + y, self.size * a + x, y], 1)


@lru_cache
def places(height: int, width: int, size: int, stride: int) -> np.ndarray:
    """Rows and columns (N, 2) of the patches that `Windows.within` finds in an image."""
    lattices = []
    for step in (stride, size):
        axes = (np.arange(0, length - size + 1, step, dtype=np.int32) for length in (height, width))
        lattices.append(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2))
    return np.unique(np.concatenate(lattices), axis=0)


def split_by_file(windows: Windows, path: Path, stride: int, left_out: AbstractSet[str]) -> None:
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
    train = windows.on_lattice("train", stride)
    edges = np.searchsorted(windows.scene, np.arange(len(windows.scenes) + 1))
    for scene, (start, stop) in zip(windows.scenes, pairwise(edges), strict=True):
        numbers = np.arange(start, stop)
        names = [windows.id(number) for number in numbers]
        if scene not in listed and listed.keys().isdisjoint(names):
            raise InputError(
                f"split_file '{path}' does not list scene '{scene}': add it, as guard if it is not to be used"
            )
        used |= {scene} & listed.keys()
        own = np.array([name in listed and name != scene for name in names], bool)  # named themselves
        splits = np.array([listed.get(name, listed.get(scene, "")) for name in names], object)
        for split in {*splits}:
            members = splits == split
            if split in SPLITS:
                taken = windows.assign(numbers[members], split, stride)
                used.update(names[i] for i in np.flatnonzero(members)[taken] if names[i] in listed)
            else:
                refused = members & (own | train[numbers])
                without = numbers[refused & (windows.reason[numbers] == "")]
                windows.reason[without] = "guard gap" if split else "not in the split file"
                windows.reason[numbers[members & ~refused]] = ""
                used.update(names[i] for i in np.flatnonzero(members) if names[i] in listed)
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
            unit = _unit(grids)
            boxes = _boxes(grids, unit is not None)
            for rows, columns, _ in _near(boxes, boxes, unit, metres):
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
    windows: Windows,
    test_places: Sequence[tuple[float, float]],
    buffer_m: float,
    metres: float,
    shares: Sequence[float],
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
    if all(geographic) and test_places:
        boxes = _boxes([scene.grid for scene in scenes], False)
        for place in test_places:
            forced[region[metres_to(boxes, place) <= buffer_m]] = True
    counted = windows.on_lattice("test", stride) & (windows.reason == "")
    weights = np.bincount(region[windows.scene[counted]], minlength=len(names)).astype(float)
    shares = np.asarray(shares, float) / np.sum(shares)
    random, best, least = np.random.default_rng(seed), None, np.inf
    many = max(1, CHUNK // len(names))  # draws at a time
    for start in range(0, DRAWS, many):
        draws = random.choice(3, (min(many, DRAWS - start), len(names)), p=shares)
        draws[:, forced] = 2
        parts = np.stack([(draws == split) @ weights for split in range(3)], 1) / max(weights.sum(), 1)  # (D, 3)
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
    split = best[region][windows.scene]
    for number, name in enumerate(SPLITS):
        windows.assign(np.flatnonzero(split == number), name, stride)


def tested(windows: Windows, places: Sequence[tuple[float, float]], buffer_m: float) -> list[bool]:
    """For each place (lon, lat) whether a test window lies at most so many metres from it."""
    test = windows.split == SPLITS.index("test")
    boxes = windows.boxes(np.flatnonzero(test & windows.placed), False) if places else None
    return [bool((metres_to(boxes, place) <= buffer_m).any()) for place in places]


def metres_to(boxes: np.ndarray, place: Sequence[float]) -> np.ndarray:
    """Distances from a place (lon, lat) to boxes of longitude and latitude (N, 4), zero inside."""
    west, south, east, north = boxes.T
    turns = (place[0] - 360, place[0], place[0] + 360)
    dx = reduce(np.minimum, (np.maximum(np.maximum(west - x, x - east), 0) for x in turns))
    dx *= np.cos(np.radians(place[1]))
    return np.hypot(dx, np.maximum(np.maximum(south - place[1], place[1] - north), 0)) * METRES_PER_DEGREE


def _near(
    boxes: np.ndarray, others: np.ndarray, unit: float | None, metres: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Which boxes (A, 4) and others (B, 4) are within so many metres: rows, columns (N,) and their `_gaps`, so many at
    a time as memory holds whatever the number of boxes."""
    order, order_b = (of[:, 1].argsort(kind="stable") for of in (boxes, others))
    boxes, others = boxes[order], others[order_b]  # from south to north: what is far in latitude is never compared
    reach = metres / (METRES_PER_DEGREE if unit is None else unit)
    reach += 1e-6 * max(1, abs(reach))  # rounding
    highest = (others[:, 3] - others[:, 1]).max(initial=0)
    first = np.searchsorted(others[:, 1], boxes[:, 1] - reach - highest)
    last = np.maximum.accumulate(np.searchsorted(others[:, 1], boxes[:, 3] + reach, "right"))
    start = 0
    while start < len(boxes):
        stop = min(len(boxes), start + max(1, CHUNK // max(1, last[start] - first[start])))
        while stop > start + 1 and (stop - start) * (last[stop - 1] - first[start]) > CHUNK:
            stop = (start + stop) // 2
        part = slice(first[start], last[stop - 1])
        gaps = _gaps(boxes[start:stop], others[part], unit)
        rows, columns = np.nonzero(gaps <= metres)
        yield order[start:stop][rows], order_b[part][columns], gaps[rows, columns]
        start = stop


def _unit(grids: Sequence[Grid]) -> float | None:
    """Metres of a unit of the plane that grids lie in, of one projected CRS or none; else None: they are compared as
    boxes of longitude and latitude, which errs to the near side."""
    crs = grids[0].crs
    return metres_of(crs) if crs is None or (crs.is_projected and all(grid.crs == crs for grid in grids)) else None


def _boxes(grids: Sequence[Grid], flat: bool) -> np.ndarray:
    """West, south, east, north (N, 4), in the grids' plane or in degrees."""
    return np.array([grid.bounds if flat else grid.lonlat_bounds for grid in grids]).reshape(-1, 4)


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


def guard(windows: Windows, buffer_m: float) -> None:
    """Take windows too close to test's, then to validation's, out of the other splits; overlap is an error.

    Of windows of test, or of validation, that share ground although they are of different scenes, the first is kept, in
    the scenes' order.
    """
    for split in ("test", "validation"):
        scene = windows.scene
        pairs = [(a[0], b[0], a, b) for a, b in _close(windows, split, split, 0) if scene[a[0]] < scene[b[0]]]
        for *_, first, second in sorted(pairs, key=itemgetter(0, 1)):
            first, second = (numbers[windows.split[numbers] >= 0] for numbers in (first, second))
            for number, other, metres in _nearest(windows, second, first, 0):
                if metres < -half_pixel(windows.grids[windows.scene[number]]):
                    windows.refuse(number, f"ground seen in {split}", windows.id(other))
    for strong, weak in STRONGER:
        nearest: dict[int, float] = {}
        for kept, others in _close(windows, strong, weak, buffer_m):
            for number, other, metres in _nearest(windows, others, kept, buffer_m):
                grid, grid_b = (windows.grids[windows.scene[i]] for i in (number, other))
                if metres < -half_pixel(grid) and grid.crs == grid_b.crs:
                    raise InputError(
                        f"{weak} patch '{windows.id(number)}' overlaps {strong} patch '{windows.id(other)}': "
                        "put both in one split, or one in guard"
                    )
                if metres <= max(buffer_m if grid.crs else 0, TOUCH):
                    nearest[number] = min(metres, nearest.get(number, np.inf))
        for number, metres in nearest.items():
            windows.refuse(number, "guard gap", metres)


def half_pixel(grid: Grid) -> float:
    """In metres; of degrees as at the equator. Less is rounding and no overlap."""
    flat = grid.crs is None or grid.crs.is_projected
    return grid.transform.a / 2 * (metres_of(grid.crs) if flat else METRES_PER_DEGREE)


def _close(windows: Windows, strong: str, weak: str, metres: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Windows of two splits, by scene, of scenes within so many metres; without geography only of one scene."""
    placed = windows.placed
    of = [windows.split == SPLITS.index(split) for split in (strong, weak)]
    plain, plain_b = (np.flatnonzero(split & ~placed) for split in of)
    both = np.intersect1d(windows.scene[plain], windows.scene[plain_b])
    sides = (windows.by_scene(side[np.isin(windows.scene[side], both)]) for side in (plain, plain_b))
    yield from zip(*sides, strict=True)
    kept, others = ([*windows.by_scene(np.flatnonzero(split & placed))] for split in of)
    if kept and others:
        hulls, hulls_b = ([_hull(windows, numbers) for numbers in side] for side in (kept, others))
        unit = _unit(hulls + hulls_b)
        boxes = (_boxes(side, unit is not None) for side in (hulls, hulls_b))
        for rows, columns, _ in _near(*boxes, unit, max(metres, TOUCH)):
            yield from ((kept[i], others[j]) for i, j in zip(rows, columns, strict=True))


def _hull(windows: Windows, numbers: np.ndarray) -> Grid:
    """The grid of some windows of a scene."""
    grid = windows.grids[windows.scene[numbers[0]]]
    left, bottom, right, top = windows.boxes(numbers, True).T
    shape = round((top.max() - bottom.min()) / -grid.transform.e), round((right.max() - left.min()) / grid.transform.a)
    return Grid(grid.crs, Affine(grid.transform.a, 0, left.min(), 0, grid.transform.e, top.max()), *shape)


def _nearest(
    windows: Windows, numbers: np.ndarray, others: np.ndarray, metres: float
) -> Iterator[tuple[int, int, float]]:
    """Of windows of a scene those that are within so many metres of others, of another one: each with the nearest of
    these, and the distance, which is negative (how deep) where they overlap."""
    if not (len(numbers) and len(others)):
        return
    unit = _unit([windows.grids[windows.scene[of[0]]] for of in (numbers, others)])
    boxes = (windows.boxes(of, unit is not None) for of in (numbers, others))
    found = [np.stack(pairs) for pairs in _near(*boxes, unit, max(metres, TOUCH))]
    rows, columns, gaps = np.concatenate(found, 1)
    order = np.lexsort((columns, gaps, rows))
    for i in order[np.unique(rows[order], return_index=True)[1]]:
        yield int(numbers[int(rows[i])]), int(others[int(columns[i])]), float(gaps[i])


def _on_disk(dataset_root: Path) -> Windows:
    """The windows of all three splits, one after another, from their indexes alone."""
    scenes: dict[str, int] = {}
    grids, cut, rows = [], [], array("d")
    for number, split in enumerate(SPLITS):
        size = np.load(dataset_root / split / "sar.npy", mmap_mode="r").shape[-1]
        with open(dataset_root / split / "index.csv", encoding="utf-8", newline="") as lines:
            for item in csv.DictReader(lines):
                crs, row, column = crs_of(item["crs"]) if item["crs"] else None, int(item["row"]), int(item["col"])
                place = Affine(*map(float, item["transform"].split())) if crs else Affine(1, 0, column, 0, -1, -row)
                scene = scenes.setdefault(item["scene"], len(scenes))
                if scene == len(grids):
                    grids.append(Grid(crs, place, size, size))
                    cut.append(item["id"] != item["scene"])
                rows.extend((scene, row, column, place.c, place.f, number))
    scene, row, column, x, y, split = np.array(rows).reshape(-1, 6).T
    scene, row, column, split = (of.astype(np.int32) for of in (scene, row, column, split))
    nothing = np.full(len(scene), "", object)
    return Windows([*scenes], grids, np.array(cut, bool), size, scene, row, column, x, y, split, nothing, nothing)


def check_separation(dataset_root: str | Path) -> Windows:
    """Prove from what was written that no two patches of different splits touch; returns the windows of all three.

    Patches without geography are compared by row and column within their scene, and by content: benchmarks repeat
    images, or cut them with an overlap, so no two of different splits, radar or optical, may be equal all over where
    they could overlap, by at least 2 · `SQUARE` − 1 pixels each way. (Images that were averaged or warped apart share
    no value, and are not found.) Raises InputError naming two patches.
    """
    try:
        windows = _on_disk(resolve(dataset_root))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"dataset_root '{dataset_root}' holds no whole data set ({error}): build it again") from None
    for strong, weak in STRONGER:
        for kept, others in _close(windows, strong, weak, 0):
            for number, other, _ in _nearest(windows, kept, others, 0):
                raise InputError(
                    f"{strong} patch '{windows.id(number)}' touches {weak} patch '{windows.id(other)}': the split leaks"
                )
    _check_content(resolve(dataset_root), windows)
    return windows


def _check_content(root: Path, windows: Windows) -> None:
    """Look for patches without geography that are cut, overlapping, from images of another split, radar or optical.

    A square of one patch that lies somewhere in another says how they might overlap; they do if all that would be
    common is equal. So many are looked for at a time as memory holds.
    """
    members = [np.flatnonzero(windows.split == split) for split in range(len(SPLITS))]
    first = np.searchsorted(windows.split, range(len(SPLITS)))  # in the arrays' order
    plain = ~windows.placed
    train, validation, test = (numbers[plain[numbers]] for numbers in members)
    for layer, least in (("opt", 2), ("sar", 0.1)):
        stored = [store.reader(root / split / f"{layer}.npy") for split in SPLITS]

        def patch(number: int, stored: list[Callable] = stored) -> np.ndarray:
            split = windows.split[number]
            return stored[split](number - first[split])  # (C, P, P)

        side = min(SQUARE, 2 ** windows.size.bit_length() // 4)
        if side < 4:  # so few pixels are equal by chance
            continue
        for weak, strong in ((validation, test), (train, np.concatenate([validation, test]))):
            for start in range(0, len(strong) if len(weak) else 0, LOOKED_FOR):
                squares = Squares(patch, strong[start : start + LOOKED_FOR], side, least)
                for number, twin in _in_threads(squares.twin, weak):
                    if twin is not None:
                        of, other = SPLITS[windows.split[number]], SPLITS[windows.split[twin]]
                        raise InputError(
                            f"{of} patch '{windows.id(number)}' shares pixels with {other} patch "
                            f"'{windows.id(twin)}': the split leaks, put both in one split"
                        )


def _in_threads(function: Callable[[int], int | None], numbers: np.ndarray) -> Iterator[tuple[int, int | None]]:
    """Each number with what a function says of it, in order."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(numbers), 256):  # what waits in a pool takes memory
            some = numbers[start : start + 256]
            yield from zip(some, pool.map(function, some), strict=True)


class Squares:
    """The squares that patches are cut into, by a hash of their values, to be looked for in other patches.

    Patches (C, P, P) are what `patch` gives for a number. Squares of `side` pixels whose standard deviation is below
    `least` are left out: they are even, and equal to anything even.
    """

    def __init__(self, patch: Callable[[int], np.ndarray], numbers: Sequence[int], side: int, least: float) -> None:
        self.patch, self.side = patch, side
        hashes, places = [np.empty(0, np.uint64)], [np.empty((0, 3), np.int32)]
        for number in numbers:
            pixels = patch(number)
            count = pixels.shape[-1] // side
            blocks = pixels[:, : count * side, : count * side].reshape(len(pixels), count, side, count, side)
            rows, columns = side * np.array(np.nonzero(blocks.std((0, 2, 4), dtype=np.float32) >= least))
            hashes.append(hashes_of_squares(pixels, side)[rows, columns])
            places.append(np.stack([np.full_like(rows, number), rows, columns], 1).astype(np.int32))
        found = np.concatenate(hashes)
        order = found.argsort(kind="stable")
        self.hashes, self.places = found[order], np.concatenate(places)[order]  # (N,) and (N, 3): patch, row, column
        self.likely = np.zeros(2**20, bool)  # by the first 20 bits
        self.likely[self.hashes >> np.uint64(44)] = True

    def twin(self, number: int) -> int | None:
        """The first of the patches that overlaps the one of this number."""
        patch = self.patch(number)
        hashes = hashes_of_squares(patch, self.side)
        rows, columns = np.nonzero(self.likely[hashes >> np.uint64(44)])
        first, last = (np.searchsorted(self.hashes, hashes[rows, columns], side) for side in ("left", "right"))
        tried = set()
        for i in np.flatnonzero(last > first):
            for which, row, column in self.places[first[i] : min(last[i], first[i] + 16)]:  # of what occurs everywhere
                overlap = (which, rows[i] - row, columns[i] - column)
                if overlap not in tried and self._equal(patch, *overlap):
                    return int(which)
                tried.add(overlap)
        return None

    def _equal(self, patch: np.ndarray, which: int, down: int, right: int) -> bool:
        """Is all equal that is common, if this patch lies so far up and left of the other?"""
        ours, theirs = (
            one.view(f"u{one.itemsize}")[:, max(0, y) :, max(0, x) :][:, : len(one[0]) - abs(y), : len(one[0]) - abs(x)]
            for one, y, x in ((patch, down, right), (self.patch(which), -down, -right))
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


def unique_area(windows: Windows, split: str) -> float | None:
    """Ground area in km² under a split's patches, each place counted once per CRS; None without geography.

    The union of the boxes in their CRS, times the true area of a pixel (by the equal-area EPSG:6933) over its area in
    the CRS.
    """
    placed = (windows.split == SPLITS.index(split)) & windows.placed
    if not placed.any():
        return None
    total = 0.0
    for crs in {grid.crs.to_string(): grid.crs for grid in windows.grids if grid.crs}.values():
        of = np.array([grid.crs == crs for grid in windows.grids], bool)
        boxes = windows.boxes(np.flatnonzero(placed & of[windows.scene]), True)
        if len(boxes):
            ratios = [_true_to_flat(boxes[start : start + 2**12], crs) for start in range(0, len(boxes), 2**12)]
            total += _union(boxes) * np.concatenate(ratios).mean()
    return round(float(total) / 1e6, 4)


def _true_to_flat(boxes: np.ndarray, crs: CRS) -> np.ndarray:
    """The true area of boxes (N, 4), left, bottom, right, top, in m², over that in their CRS."""
    left, bottom, right, top = boxes.T
    corners = np.stack([left, right, right, left], 1), np.stack([bottom, bottom, top, top], 1)
    x, y = (np.reshape(v, (-1, 4)) for v in transform(crs, "EPSG:6933", corners[0].ravel(), corners[1].ravel()))
    x -= AROUND * np.round((x - x[:, :1]) / AROUND)  # a patch may lie on 180 degrees
    true = np.abs((x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1)) / 2  # the shoelace formula
    return true / ((right - left) * (top - bottom))


def _union(boxes: np.ndarray) -> float:
    """Area of a union of boxes (N, 4), by sweeping from left to right."""
    area, edges = 0.0, np.unique(boxes[:, [0, 2]])
    for left, right in pairwise(edges):
        end = -np.inf
        for bottom, top in sorted(map(tuple, boxes[(boxes[:, 0] <= left) & (boxes[:, 2] >= right)][:, [1, 3]])):
            area += (right - left) * max(top - max(bottom, end), 0)
            end = max(end, top)
    return float(area)
