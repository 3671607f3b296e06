"""Triplets to disk: scenes become windows, windows become a split, and what passes judgement becomes memory-mapped
arrays.

The split is cross-regional, as the talk behind the paper says, and made before any patch is judged: scenes closer
together than `buffer_m` form a region, and a region lies in one split. Training windows may overlap each other (the
talk's only augmentation is a sliding window); validation and test windows never do. Geometry proves it on every build
(`check_separation`).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform
from tqdm import tqdm

from s2olib.data import archive, landcover, rasters
from s2olib.data.landcover import IGNORE, LEGENDS, merge_codes
from s2olib.data.rasters import Grid, Scene
from s2olib.data.triplets import SPLITS
from s2olib.project import InputError, fingerprint, resolve, writing

SOURCES = ("sen12ms", "embedded", "folder")
PSEUDO = "pseudo-false-colour"
SAR_LIMITS = {"VH": [-32.0, -5.0]}  # dB; any other band has VV's
TEST_PLACES = ((136.30, 36.30), (136.15, 36.20))  # Kaga and Mikuni, which the talk compares by eye
METRES_PER_DEGREE = 111_320
TOUCH = 0.001  # metres: patches that share an edge touch, whatever the last digits say
COLUMNS = ("id", "scene", "group", "season", "crs", "transform", "lon", "lat", "row", "col", "date")


@dataclass
class Window:
    """A candidate patch: where it is in its scene, and its split (None: not used, for the reason given)."""

    id: str
    row: int
    column: int
    grid: Grid
    split: str | None = None
    reason: str = ""
    value: float | str = ""


def build(
    dataset_root: str | Path,
    *,
    source: str,
    archive_root: str | Path | None = None,
    lulc_root: str | Path | None = None,
    sar_dir: str | Path | None = None,
    opt_dir: str | Path | None = None,
    lulc_dir: str | Path | None = None,
    pairs_csv: str | Path | None = None,
    group_column: str | None = None,
    sar_units: str = "dB",
    opt_units: str = "reflectance x 10000",
    opt_offset: float = 0,
    sar_bands: Sequence[str] | None = None,
    opt_bands: Sequence[str] = ("red", "green", "blue"),
    grid: str = "optical",
    legend: str | None = None,
    merge: str = "four",
    lulc_epoch: str = "",
    split_file: str | Path | None = None,
    test_places: Sequence[tuple[float, float]] = TEST_PLACES,
    buffer_m: float = 2000,
    shares: Sequence[float] = (0.75, 0.14, 0.11),
    patch_size: int = 256,
    stride: int | None = None,
    resolution_factor: int = 1,
    pixel_size_m: float | None = None,
    max_nodata: float = 0.01,
    max_unlabelled: float = 0.5,
    max_sea: float = 0.99,
    max_cloud: float = 0.2,
    cloud_brightness: float | None = None,
    sar_limits: Sequence[Sequence[float]] | None = None,
    opt_limits: Sequence[Sequence[float]] | None = None,
    seed: int = 0,
) -> dict:
    """Write a data set that `Triplets` reads and return its dataset.json; one that is there already is returned at once.

    Args:
        dataset_root: the folder to write, whole or not at all.
        source: "sen12ms" (`archive_root`), "embedded" (the same, written there first, with its land cover in
            `lulc_root`), or "folder" (`sar_dir`, `opt_dir`, optional `lulc_dir`, `pairs_csv`, `opt_offset`, `grid`:
            see `rasters.folder_scenes`).
        lulc_root: folder of land-cover tiles of any CRS; scenes that no tile covers are left out and listed.
        sar_units: "dB", "linear" (written as dB) or "8-bit". opt_units: "reflectance x 10000" or "8-bit".
        sar_bands, opt_bands: the bands' names; default VV and VH (one band: what the file calls it, else SAR).
        legend, merge, lulc_epoch: how codes become categories (`landcover.LEGENDS`) and when the map was made; the
            legend "pseudo-false-colour" makes pseudo-categories from the optical image, for training patches only.
        split_file: CSV with `id,split`; id = scene or patch, split = train, validation, test or guard (not used).
            Without it, regions are drawn: `test_places` (lon, lat) and all within `buffer_m` of them are test, and
            the others come as close to `shares` (train, validation, test) as a seeded search finds. Scenes without
            geography are drawn by group.
        buffer_m: windows closer than this (in the CRS's metres) to one of test, or validation, are not used for
            another split.
        patch_size, stride: in pixels after `resolution_factor`; stride is training's (default: patch_size).
        resolution_factor: area average of so many pixels: SAR in power, land cover by majority.
        pixel_size_m: the pixels' size before averaging, where files do not say it.
        max_nodata, max_unlabelled, max_sea, max_cloud: shares of a patch's pixels above which it is refused. A pixel
            is cloud where its darkest band exceeds `cloud_brightness` (default 0.25 reflectance, 200 in 8 bits) and
            the bands differ by less than 30 %.
        sar_limits, opt_limits: per band (low, high), stored for the mapping to [−1, 1].
        seed: of the drawing of regions, and of the embedded archive.

    Raises InputError, and leaves nothing behind, for input that is missing, contradictory or gives an empty split.
    """
    parameters = json.loads(json.dumps({k: v for k, v in locals().items() if k != "dataset_root"}, default=str))
    _check(parameters)
    root, stride = resolve(dataset_root), stride or patch_size
    paths = {
        k: parameters[k] and resolve(parameters[k])
        for k in parameters
        if k.endswith(("_root", "_dir", "_csv", "_file"))
    }
    if source == "embedded":
        from s2olib.data.embedded import write_archive

        write_archive(paths["archive_root"], paths["lulc_root"], seed=seed)
    if source == "folder":
        options = {
            "pairs_csv": paths["pairs_csv"],
            "group_column": group_column,
            "sar_units": sar_units,
            "opt_units": opt_units,
        }
        folders = (paths["sar_dir"], paths["opt_dir"], paths["lulc_dir"])
        scenes = rasters.folder_scenes(*folders, **options, opt_offset=opt_offset, grid=grid)
    else:
        scenes = archive.scan(paths["archive_root"])
    tiles = landcover.Tiles(paths["lulc_root"]) if lulc_root else None

    extra = [path for name in ("pairs_csv", "split_file") if (path := paths[name])] + (tiles.files if tiles else [])
    inputs = _inputs(extra + [file for scene in scenes for file in scene.files])
    if (root / "dataset.json").is_file():
        info = json.loads((root / "dataset.json").read_text())
        if info.get("parameters") == parameters and info.get("inputs") == inputs:
            return info

    refused: list[dict] = []
    if tiles:
        scenes = _covered(scenes, tiles, refused)
    candidates = [_windows(scene.id, scene.grid.coarser(resolution_factor), patch_size, stride) for scene in scenes]
    for scene, windows in zip(scenes, candidates, strict=True):
        if not windows:
            size = f"{scene.grid.width // resolution_factor} x {scene.grid.height // resolution_factor}"
            refused.append({"id": scene.id, "reason": "smaller than a patch", "value": size})
    if paths["split_file"]:
        _split_by_file(scenes, candidates, paths["split_file"], patch_size, stride)
    else:
        _split_by_region(scenes, candidates, test_places, buffer_m, shares, patch_size, stride, seed)
    _guard(candidates, buffer_m)

    bands = list(sar_bands or _sar_bands(scenes[0]))
    units = ("8-bit" if sar_units == "8-bit" else "dB", "8-bit" if opt_units == "8-bit" else "reflectance")
    opt_scale = 1.0 if units[1] == "8-bit" else 0.0001
    categories = landcover.category_names(legend, merge) if legend else []
    brightness = (cloud_brightness or (200 if units[1] == "8-bit" else 0.25)) / opt_scale
    rules = (legend, merge, max_nodata, max_unlabelled, max_sea, max_cloud, brightness)
    with writing(root) as aside:
        counts = Counter()
        with ExitStack() as stack:
            out = {name: stack.enter_context(_Split(aside / name, categories)) for name in SPLITS}
            for scene, windows in tqdm(list(zip(scenes, candidates, strict=True)), desc="build", unit="scene"):
                refused += [_refusal(w.id, w.reason, w.value) for w in windows if w.split is None and w.reason]
                windows = [w for w in windows if w.split]
                if not windows:
                    continue
                sar, opt, codes = _coarser(scene, tiles, resolution_factor, units[0])
                if len(sar) != len(bands):
                    raise InputError(f"scene '{scene.id}' has {len(sar)} SAR bands where {bands} are expected")
                for window in windows:
                    rows, columns = (
                        slice(window.row, window.row + patch_size),
                        slice(window.column, window.column + patch_size),
                    )
                    patch = {"sar": sar[:, rows, columns], "opt": opt[:, rows, columns]}
                    if codes is not None:
                        patch["lulc"] = codes[rows, columns]
                    if verdict := _verdict(patch, *rules):
                        refused.append(_refusal(window.id, *verdict))
                        continue
                    if legend == PSEUDO and window.split == "train":
                        patch["lulc"] = landcover.pseudo_categories(patch["opt"])
                    shares_of = _category_shares(patch.get("lulc"), legend, merge)
                    out[window.split].add(_stored(patch, *units), _row(scene, window, patch_size) + shares_of)
                    counts[window.split] += 1
        for name in SPLITS:
            if not counts[name]:
                reasons = Counter(r["reason"] for r in refused).most_common(3)
                raise InputError(
                    f"no patch is left for {name}: {len(refused)} were refused, most for {reasons}; "
                    "loosen the limits or split otherwise"
                )
        check_separation(aside)
        physical = [SAR_LIMITS.get(band, [-25.0, 0.0]) for band in bands]
        info = {
            "schema": 1,
            "source": source,
            "synthetic": source == "embedded",
            "parameters": parameters,
            "patch_size": patch_size,
            "resolution_factor": resolution_factor,
            "pixel_size_m": _pixel_size(scenes, pixel_size_m, resolution_factor),
            "sar": {
                "bands": bands,
                "units": units[0],
                "scale": 1.0,
                "limits": _limits(
                    sar_limits, "sar_limits", [[0.0, 255.0]] * len(bands) if units[0] == "8-bit" else physical
                ),
            },
            "opt": {
                "bands": list(opt_bands),
                "units": units[1],
                "scale": opt_scale,
                "limits": _limits(opt_limits, "opt_limits", [[0.0, 255.0 if units[1] == "8-bit" else 0.3]] * 3),
            },
            "lulc": None,
            "counts": {name: counts[name] for name in SPLITS},
            "unique_area_km2": {name: unique_area(aside, name) for name in SPLITS},
            "refused": sorted(refused, key=lambda r: r["id"]),
            "inputs": inputs,
            "fingerprint": fingerprint(*(aside / name for name in SPLITS)),
        }
        if legend:
            kind = "pseudo-categories" if legend == PSEUDO else "land cover"
            info["lulc"] = {
                "legend": legend,
                "merge": merge,
                "kind": kind,
                "categories": categories,
                "epoch": lulc_epoch,
            }
        (aside / "dataset.json").write_text(json.dumps(info, indent=1))
    return info


def _check(p: dict) -> None:
    """Refuse parameters that cannot be meant, before any file is opened."""
    choices = {"source": SOURCES, "sar_units": rasters.SAR_UNITS, "opt_units": rasters.OPT_UNITS}
    for name, allowed in choices.items():
        if p[name] not in allowed:
            raise InputError(f"unknown {name} '{p[name]}': choose one of {', '.join(allowed)}")
    needed = {
        "folder": ("sar_dir", "opt_dir"),
        "sen12ms": ("archive_root",),
        "embedded": ("archive_root", "lulc_root", "legend"),
    }
    for name in needed[p["source"]]:
        if not p[name]:
            raise InputError(f"source '{p['source']}' needs {name}")
    if p["source"] != "folder" and (p["sar_units"], p["opt_units"]) != ("dB", "reflectance x 10000"):
        raise InputError(f"source '{p['source']}' holds dB and reflectance x 10000: leave sar_units and opt_units out")
    if p["legend"]:
        landcover.category_names(p["legend"], p["merge"])
    has_map = bool(p["lulc_root"] or p["lulc_dir"])
    if p["legend"] == PSEUDO and (has_map or p["opt_units"] != "8-bit"):
        raise InputError(
            f"legend '{PSEUDO}' is made from an 8-bit false-colour image: leave lulc_root and lulc_dir out"
        )
    if p["legend"] != PSEUDO and bool(p["legend"]) != has_map:
        raise InputError("land cover needs both a legend and lulc_root (or lulc_dir): give both or neither")
    if p["lulc_root"] and p["lulc_dir"]:
        raise InputError("lulc_root and lulc_dir are both given: land cover comes from tiles or from pairs, choose one")
    for name in ("patch_size", "resolution_factor", "stride"):
        if p[name] is not None and p[name] < 1:
            raise InputError(f"{name} must be at least 1, not {p[name]}")


def _inputs(files: list[Path]) -> str:
    """Fingerprint of the input files' names, sizes and times, and of the code that reads them."""
    digest = hashlib.sha256()
    for module in (archive, landcover, rasters):
        digest.update(Path(module.__file__).read_bytes())
    digest.update(Path(__file__).read_bytes())
    for file in files:
        if not file.is_file():
            raise InputError(f"'{file}' does not exist")
        stat = file.stat()
        digest.update(f"{file.parent.name}/{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _covered(scenes: list[Scene], tiles: landcover.Tiles, refused: list[dict]) -> list[Scene]:
    kept = []
    for scene in scenes:
        if scene.grid.crs is None:
            raise InputError(f"scene '{scene.id}' has no geography: lulc_root cannot be laid over it, use lulc_dir")
        if tiles.covering(scene.grid):
            kept.append(scene)
        else:
            lon, lat = scene.grid.lonlat(scene.grid.width / 2, scene.grid.height / 2)
            tile = landcover.jaxa_tile(lon, lat)
            refused.append({"id": scene.id, "reason": "outside the map", "value": f"no tile such as {tile}"})
    if not kept:
        raise InputError(
            f"no tile in lulc_root '{tiles.root}' covers a scene: the first one needs {refused[0]['value'][8:]}"
        )
    return kept


def _windows(scene_id: str, grid: Grid, size: int, stride: int) -> list[Window]:
    """Every window whose row and column are multiples of the stride, or of the size, and that fits the scene."""

    def starts(length: int) -> list[int]:
        return sorted({*range(0, length - size + 1, stride), *range(0, length - size + 1, size)})

    places = [(row, column) for row in starts(grid.height) for column in starts(grid.width)]
    names = [scene_id if len(places) == 1 else f"{scene_id}_{row:04d}_{column:04d}" for row, column in places]
    return [Window(name, r, c, grid.window(r, c, size)) for name, (r, c) in zip(names, places, strict=True)]


def _on_lattice(window: Window, split: str, size: int, stride: int) -> bool:
    step = stride if split == "train" else size
    return window.row % step == 0 and window.column % step == 0


def _split_by_file(scenes: list[Scene], candidates: list[list[Window]], path: Path, size: int, stride: int) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not {"id", "split"} <= set(table):
        raise InputError(f"split_file '{path}' needs the columns id and split; it has {', '.join(table)}")
    for row in table[~table["split"].isin([*SPLITS, "guard"])].itertuples():
        raise InputError(
            f"split_file '{path}' gives '{row.id}' the unknown split '{row.split}': use {', '.join(SPLITS)} or guard"
        )
    for name in table["id"][table["id"].duplicated()]:
        raise InputError(f"split_file '{path}' lists '{name}' twice")
    listed = dict(zip(table["id"], table["split"], strict=True))
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
            if split == "guard":
                window.reason, used = "guard gap", used | {name}
            elif split is None:
                window.reason = "not in the split file"
            elif _on_lattice(window, split, size, stride):
                window.split, used = split, used | {name}
    for name in listed:
        if name not in used:
            raise InputError(
                f"split_file '{path}' lists '{name}', which is no scene and no patch on its split's lattice"
            )


def _split_by_region(scenes, candidates, test_places, buffer_m, shares, size: int, stride: int, seed: int) -> None:
    """Whole regions into splits: test places first, then the seeded draw that comes closest to the shares."""
    geographic = [scene.grid.crs is not None for scene in scenes]
    if all(geographic):
        near = _distances([scene.grid for scene in scenes]) <= buffer_m
    elif any(geographic) or not all(scene.group for scene in scenes):
        raise InputError(
            "scenes without geography cannot be split by region: give a split_file, or a group_column of pairs_csv"
        )
    else:
        groups = np.array([scene.group for scene in scenes])
        near = groups[:, None] == groups[None, :]
    region = np.arange(len(scenes))
    while (lowest := np.where(near, region[None, :], len(scenes)).min(1)).tolist() != region.tolist():
        region = lowest  # each scene takes the lowest number among its neighbours until nothing changes
    names, region = np.unique(region, return_inverse=True)
    forced = np.zeros(len(names), bool)
    if all(geographic):
        for i, scene in enumerate(scenes):
            forced[region[i]] |= any(_metres_to(scene.grid, place) <= buffer_m for place in test_places)
    weights = np.zeros(len(names))
    for i, windows in enumerate(candidates):
        weights[region[i]] += sum(_on_lattice(w, "test", size, stride) for w in windows)
    shares = np.asarray(shares, float) / np.sum(shares)
    draws = np.random.default_rng(seed).choice(3, (8192, len(names)), p=shares)
    draws[:, forced] = 2
    parts = np.stack([(draws == split) @ weights for split in range(3)], 1) / max(weights.sum(), 1)  # (draws, 3)
    parts[(parts == 0).any(1)] = np.inf
    best = np.square(parts - shares).sum(1).argmin()
    if not np.isfinite(parts[best]).all():
        raise InputError(
            f"{len(names)} separate regions ({int(forced.sum())} of them forced to test) do not fill the three splits: "
            "add scenes, lower buffer_m, or give a split_file"
        )
    for i, windows in enumerate(candidates):
        split = SPLITS[draws[best, region[i]]]
        for window in windows:
            window.split = split if _on_lattice(window, split, size, stride) else None


def _metres_to(grid: Grid, place: Sequence[float]) -> float:
    """Distance from a place (lon, lat) to a grid's box, zero inside."""
    west, south, east, north = grid.lonlat_bounds
    dx = max(west - place[0], place[0] - east, 0) * np.cos(np.radians(place[1]))
    return float(np.hypot(dx, max(south - place[1], place[1] - north, 0)) * METRES_PER_DEGREE)


def _distances(a: list[Grid], b: list[Grid] | None = None) -> np.ndarray:
    """Metres between the boxes of grids (A, B): zero where they touch, negative (how deep) where they overlap.

    Boxes of one projected CRS are compared in its metres, others as boxes of longitude and latitude, which errs to
    the near side.
    """
    b = a if b is None else b
    projected = a[0].crs.is_projected and all(grid.crs == a[0].crs for grid in (*a, *b))
    boxes = [np.array([grid.bounds if projected else grid.lonlat_bounds for grid in grids]) for grids in (a, b)]
    (west, south, east, north), (west_b, south_b, east_b, north_b) = boxes[0].T[:, :, None], boxes[1].T[:, None, :]
    dx = np.maximum(west, west_b) - np.minimum(east, east_b)  # (A, B): the gap, negative where they share columns
    dy = np.maximum(south, south_b) - np.minimum(north, north_b)
    if not projected:
        dx, dy = dx * np.cos(np.radians((south + north_b) / 2)) * METRES_PER_DEGREE, dy * METRES_PER_DEGREE
    apart = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.where((dx < 0) & (dy < 0), np.maximum(dx, dy), apart)


def _guard(candidates: list[list[Window]], buffer_m: float) -> None:
    """Take windows too close to test's, then to validation's, out of the other splits. Overlap is the split's own
    fault.
    """
    for strong, weak in (("test", "validation"), ("test", "train"), ("validation", "train")):
        for kept, others in _close(candidates, strong, weak, buffer_m):
            metres = _distances([w.grid for w in others], [w.grid for w in kept])  # (others, kept)
            for window, row in zip(others, metres, strict=True):
                nearest = kept[row.argmin()]
                if row.min() < -window.grid.transform.a / 2 and window.grid.crs == nearest.grid.crs:
                    raise InputError(
                        f"{weak} patch '{window.id}' overlaps {strong} patch '{nearest.id}': "
                        "put both in one split, or one in guard"
                    )
                if row.min() <= max(buffer_m, TOUCH):
                    window.split, window.reason, window.value = None, "guard gap", float(row.min())


def _close(candidates: list[list[Window]], strong: str, weak: str, metres: float):
    """Pairs of lists of windows of two splits, of scenes that lie within so many metres of each other."""
    groups = {}
    for split in (strong, weak):
        found = ([w for w in windows if w.split == split and w.grid.crs] for windows in candidates)
        groups[split] = [windows for windows in found if windows]
    if not (groups[strong] and groups[weak]):
        return
    boxes = {split: [_hull(windows) for windows in groups[split]] for split in groups}
    for i, j in np.argwhere(_distances(boxes[strong], boxes[weak]) <= max(metres, TOUCH)):
        yield groups[strong][i], groups[weak][j]


def _hull(windows: list[Window]) -> Grid:
    first = windows[0].grid
    left, bottom, right, top = np.array([w.grid.bounds for w in windows]).T
    shape = (top.max() - bottom.min()) / -first.transform.e, (right.max() - left.min()) / first.transform.a
    corner = Affine(first.transform.a, 0, left.min(), 0, first.transform.e, top.max())
    return Grid(first.crs, corner, round(shape[0]), round(shape[1]))


def _on_disk(dataset_root: Path, split: str) -> list[list[Window]]:
    """The windows of a split by scene, from its index alone."""
    index = pd.read_csv(dataset_root / split / "index.csv", dtype=str, keep_default_na=False)
    size = np.load(dataset_root / split / "sar.npy", mmap_mode="r").shape[-1]
    scenes: dict[str, list[Window]] = {}
    for row in index.itertuples():
        crs = CRS.from_string(row.crs) if row.crs else None
        place = (
            Affine(*map(float, row.transform.split())) if row.crs else Affine.translation(int(row.col), int(row.row))
        )
        window = Window(row.id, int(row.row), int(row.col), Grid(crs, place, size, size), split)
        scenes.setdefault(row.scene, []).append(window)
    return list(scenes.values())


def check_separation(dataset_root: str | Path) -> None:
    """Prove from the written index files alone that no two patches of different splits touch; raise InputError
    otherwise.

    Patches without geography are compared by row and column within their scene.
    """
    root = resolve(dataset_root)
    windows = [scene for split in SPLITS for scene in _on_disk(root, split)]
    for strong, weak in (("test", "validation"), ("test", "train"), ("validation", "train")):
        for kept, others in _close(windows, strong, weak, 0):
            metres = _distances([w.grid for w in kept], [w.grid for w in others])
            if metres.min() <= TOUCH:
                i, j = np.unravel_index(metres.argmin(), metres.shape)
                raise InputError(
                    f"{strong} patch '{kept[i].id}' touches {weak} patch '{others[j].id}': the split leaks"
                )


def unique_area(dataset_root: str | Path, split: str) -> float | None:
    """Ground area in km² under a split's patches, each place counted once per CRS; None without geography.

    The union of the boxes in their CRS, times the true area of a pixel (by the equal-area EPSG:6933) over its area in
    the CRS.
    """
    windows = [w for scene in _on_disk(resolve(dataset_root), split) for w in scene if w.grid.crs]
    if not windows:
        return None
    total = 0.0
    for crs in {w.grid.crs.to_string(): w.grid.crs for w in windows}.values():
        boxes = np.array([w.grid.bounds for w in windows if w.grid.crs == crs])  # left, bottom, right, top
        corners = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
        x, y = (np.reshape(v, (-1, 4)) for v in transform(crs, "EPSG:6933", corners[0].ravel(), corners[1].ravel()))
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


def _sar_bands(scene: Scene) -> list[str]:
    found = rasters.header(scene.files[0])
    if found.count == 2:
        return ["VV", "VH"]
    return [found.names[0].strip().upper() if found.names[0] else "SAR"]


def _coarser(scene: Scene, tiles: landcover.Tiles | None, factor: int, sar_units: str):
    sar, opt, codes = scene.read()
    if tiles:
        codes = tiles.read(scene.grid)
    if factor > 1:
        opt = rasters.area_mean(opt, factor)
        if sar_units == "dB":
            sar = rasters.to_db(rasters.area_mean(rasters.to_linear(sar), factor))
        else:
            sar = rasters.area_mean(sar, factor)
        codes = None if codes is None else rasters.majority(codes, factor)
    return sar, opt, codes


def _verdict(
    patch, legend, merge, max_nodata, max_unlabelled, max_sea, max_cloud, brightness
) -> tuple[str, float] | None:
    """Why a patch is refused, and the share of its pixels that says so; None for a good one."""
    opt = patch["opt"]
    if (share := 1 - (np.isfinite(patch["sar"]).all(0) & np.isfinite(opt).all(0)).mean()) > max_nodata:
        return "no data", share
    if "lulc" in patch:
        if (share := (merge_codes(patch["lulc"], legend, merge) == IGNORE).mean()) > max_unlabelled:
            return "outside the map", share
        if (share := np.isin(patch["lulc"], LEGENDS[legend].water).mean()) > max_sea:
            return "open sea", share
    dark, bright = opt.min(0), opt.max(0)
    if (share := ((dark > brightness) & (bright - dark < 0.3 * bright)).mean()) > max_cloud:
        return "cloud", share
    return None


def _refusal(name: str, reason: str, value: float | str) -> dict:
    return {"id": name, "reason": reason, "value": value if isinstance(value, str) else round(float(value), 4)}


def _stored(patch: dict[str, np.ndarray], sar_units: str, opt_units: str) -> dict[str, np.ndarray]:
    opt_type = np.uint8 if opt_units == "8-bit" else np.uint16
    stored = {"opt": np.nan_to_num(np.clip(np.rint(patch["opt"]), 0, np.iinfo(opt_type).max)).astype(opt_type)}
    stored["sar"] = (
        np.nan_to_num(np.rint(patch["sar"])).astype(np.uint8) if sar_units == "8-bit" else patch["sar"].astype("<f2")
    )
    return stored | ({"lulc": patch["lulc"]} if "lulc" in patch else {})


def _category_shares(codes: np.ndarray | None, legend: str | None, merge: str) -> list[float | str]:
    if legend is None:
        return []
    count = len(landcover.category_names(legend, merge))
    if codes is None:
        return [""] * count
    return np.round(
        np.bincount(merge_codes(codes, legend, merge).ravel(), minlength=256)[:count] / codes.size, 4
    ).tolist()


def _row(scene: Scene, window: Window, size: int) -> list:
    place = ["", "", "", ""]
    if window.grid.crs:
        lon, lat = window.grid.lonlat(size / 2, size / 2)
        numbers = " ".join(repr(float(x)) for x in window.grid.transform[:6])
        place = [window.grid.crs.to_string(), numbers, f"{lon:.6f}", f"{lat:.6f}"]
    return [window.id, scene.id, scene.group, scene.season, *place, window.row, window.column, scene.date]


def _pixel_size(scenes: list[Scene], stated: float | None, factor: int) -> float | None:
    """Metres, where one number is true of every scene (to a tenth of a metre); None for degrees or mixtures."""
    crs = [scene.grid.crs for scene in scenes]
    sizes = {round(s.grid.transform.a, 1) for s in scenes} if all(c and c.is_projected for c in crs) else {stated}
    size = sizes.pop() if len(sizes) == 1 else None
    return size and float(size * factor)


def _limits(given: Sequence[Sequence[float]] | None, name: str, default: list[list[float]]) -> list[list[float]]:
    limits = default if given is None else [[float(x) for x in pair] for pair in given]
    if len(limits) != len(default) or any(len(pair) != 2 or pair[0] >= pair[1] for pair in limits):
        raise InputError(f"{name} must be {len(default)} pairs (low, high), one per band, not {given}")
    return limits


class _Split:
    """Writes a split one patch at a time: raw rows behind a header whose count is put right at the end."""

    def __init__(self, folder: Path, categories: list[str]) -> None:
        folder.mkdir(parents=True)
        self.folder, self.count, self.streams, self.likes = folder, 0, {}, {}
        self.index = open(folder / "index.csv", "w", newline="")  # noqa: SIM115 (closed in __exit__)
        self.writer = csv.writer(self.index, lineterminator="\n")
        self.writer.writerow([*COLUMNS, *(f"share_{name}" for name in categories)])

    def _header(self, name: str) -> None:
        stored = self.likes[name]
        shape = {
            "shape": (self.count, *stored.shape),
            "fortran_order": False,
            "descr": np.lib.format.dtype_to_descr(stored.dtype),
        }
        np.lib.format.write_array_header_1_0(self.streams[name], shape)  # NumPy leaves room for the count to grow

    def add(self, stored: dict[str, np.ndarray], row: list) -> None:
        for name, array in stored.items():
            if name not in self.streams:
                self.streams[name] = open(self.folder / f"{name}.npy", "wb")  # noqa: SIM115 (closed in __exit__)
                self.likes[name] = array
                self._header(name)
            self.streams[name].write(np.ascontiguousarray(array).tobytes())
        self.writer.writerow(row)
        self.count += 1

    def __enter__(self) -> _Split:
        return self

    def __exit__(self, *_) -> None:
        self.index.close()
        for name, stream in self.streams.items():
            stream.seek(0)
            self._header(name)
            stream.close()
