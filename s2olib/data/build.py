"""Triplets to disk: scenes become windows, windows become a split, and what passes judgement becomes memory-mapped
arrays.

The split (`splits`) is cross-regional, as the talk behind the paper says, and made from file headers alone, before any
patch is judged. Scenes are then read and judged by the workers of any `concurrent.futures` executor, each part of the
work into a folder of its own; of these they write the arrays, each patch at its place, so the bytes do not depend on
who wrote them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import multiprocessing
import os
import re
import shutil
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cache, reduce
from itertools import groupby, pairwise
from multiprocessing import connection, forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from uuid import uuid4

import numpy as np
import rasterio
from rasterio.warp import transform
from tqdm import tqdm

from s2olib.data import SPLITS, archive, landcover, rasters, store
from s2olib.data.landcover import OWN_LAYER, PSEUDO, find_legend, majority, merge_table, place_of
from s2olib.data.rasters import Grid, Scene
from s2olib.data.splits import (
    UNUSED,
    Window,
    Windows,
    check_separation,
    guard,
    half_pixel,
    split_by_file,
    split_by_region,
    tested,
    unique_area,
    with_groups,
)
from s2olib.project import InputError, alone, code_fingerprint, resolve, writable, writing

SOURCES = ("sen12ms", "embedded", "folder")
SAR_LIMITS = {"VH": [-32.0, -5.0], "HV": [-32.0, -5.0]}  # dB; any other band has VV's
TEST_PLACES = ((136.30, 36.30), (136.15, 36.20))  # Kaga and Mikuni, which the talk compares by eye
COLUMNS = ("id", "scene", "group", "season", "crs", "transform", "lon", "lat", "row", "col", "date")
EXAMPLES = 4  # refused patches that are kept to be looked at, for each reason
PATHS = ("_root", "_dir", "_csv", "_file")  # ends of the names of what is a path
ENDED = "ended"  # lies among the parts of a data set that takes its place now
PART = 64  # windows in a part of the work, unless one scene has more
AT_ONCE = 2**24  # pixels of a scene that are read at once; a larger one is several parts
IN_CACHE = 2**18  # pixels of a strip, whose layers stay in a processor's cache while they are judged and stored
WORTH_A_PROCESS = 512  # windows


@dataclass(frozen=True)
class Rules:
    """What a patch must be like, how scenes are read, and how patches are stored: all that a worker needs to know."""

    patch_size: int
    resolution_factor: int
    sar_units: str
    opt_units: str
    legend: str | None
    merge: str
    tiles: landcover.Tiles | None
    max_nodata: float
    max_unlabelled: float
    max_sea: float
    max_cloud: float
    cloud_brightness: float  # as stored
    haze_brightness: float  # as stored; infinite where haze is not judged
    border_noise_db: float


def build(
    dataset_root: str | Path,
    *,
    source: str,
    archive_root: str | Path | None = None,
    tar_root: str | Path | None = None,
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
    block_m: float = 0,
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
    haze_brightness: float | None = None,
    border_noise_db: float = -35,
    sar_limits: Sequence[Sequence[float]] | None = None,
    opt_limits: Sequence[Sequence[float]] | None = None,
    credit: str = "",
    seed: int = 0,
    executor: Executor | None = None,
    workers: int | None = None,
) -> dict:
    """Write a data set for `Triplets` and return its dataset.json; one that is there already is returned at once.

    A build that is interrupted goes on where it was when it is called again with the same parameters.

    Args:
        dataset_root: the folder to write, whole or not at all.
        source: "sen12ms" (`archive_root`; with `tar_root`, SEN12MS's tar archives, what lies on the map is unpacked
            there first), "embedded" (the same, written there first, with its land cover in `lulc_root`), or "folder"
            (`sar_dir`, `opt_dir`, optional `lulc_dir`, `pairs_csv`, `grid`: see `rasters.folder_scenes`).
        lulc_root: folder of land-cover tiles of any CRS; windows that no tile covers are left out unread, and listed.
        sar_units: "dB", "linear" (written as dB) or "8-bit". opt_units: "reflectance x 10000" or "8-bit".
        opt_offset: taken from stored reflectance: 1000 for Sentinel-2 (Level-1C and -2A) of processing baseline 04.00
            and later.
        sar_bands: which polarisations (default: all there are), stored as VV, VH, HH, HV; opt_bands: which three bands.
            Files that name their bands are read by name. Nameless ones have VV before VH, or two others that are said
            here; red, green and blue, or three others that are said here, or Sentinel-2's 13 or 12.
        legend, merge, lulc_epoch: how codes become categories (`landcover.find_legend`) and when the map was made
            (default: what the legend says); "pseudo-false-colour" and "pseudo-natural-colour" make categories from the
            optical image, for training patches only; "igbp" takes the 500 m labels of SEN12MS, and of `lulc_root` only
            which windows there are, so that labels of another map can be put beside them.
        split_file: CSV with `id,split`; id = scene or patch, split = train, validation, test or guard (not used).
            Without it, regions are drawn: `test_places` (lon, lat) and all within `buffer_m` of them are test, and
            the others come as close to `shares` (train, validation, test) as a seeded search finds. Scenes without
            geography are drawn by group, and no group is cut.
        block_m: cuts large pairs of your own into blocks of this side (`rasters.blocks`), each a region of the split,
            instead of `group_column` or `split_file`. Images of one place at several times are cut alike, and a block's
            ground is in one split; validation and test keep its first image. 0: uncut.
        buffer_m: windows closer than this (in the CRS's metres) to one of test, or validation, are not used for
            another split.
        patch_size, stride: in pixels after `resolution_factor`; stride is training's (default: patch_size).
        resolution_factor: area average of so many pixels: SAR in power, land cover by majority.
        pixel_size_m: the pixels' size before averaging, where files do not say it.
        max_nodata, max_unlabelled, max_sea, max_cloud: shares of a patch's pixels above which it is refused. A pixel
            is cloud where its darkest band exceeds `cloud_brightness` (default 0.25 reflectance, 200 in 8 bits) and
            the bands differ by less than 25 %.
        haze_brightness: a patch is veiled if even its darkest hundredth is brighter than this in all bands, and its
            median pixel as colourless as cloud (default 0.15 reflectance; in 8 bits not judged).
        border_noise_db: below this mean over 9 x 9 pixels no ground echoes: noise at a swath's edge, counted with
            `max_nodata`.
        sar_limits, opt_limits: per band (low, high), stored for the mapping to [−1, 1].
        credit: whom to name, and the licence, of folders of your own; the datasheet prints it.
        seed: of the drawing of regions, and of the embedded archive.
        executor: who does the work, such as a Dask cluster's ``Client.get_executor()``; workers must see the same
            paths, and write into the same files. Default: a pool of `workers` processes (default one per core), none
            where a core has little to do. Each takes some 300 MiB, and the builder 150 and half a kilobyte a patch.

    `dataset_root` also gets a folder `refused` with the first patches that were refused for each reason, to look at.

    Raises InputError, and leaves no data set behind, for input that is missing, contradictory or gives an empty split,
    and where the disk is full or may not be written to.
    """
    if not isinstance(dataset_root, str | Path):
        raise InputError(f"dataset_root must be a folder, not the {type(dataset_root).__name__} {dataset_root!r}")
    if not isinstance(executor, Executor | None):
        raise InputError(f"executor must be one of concurrent.futures or like it, not {executor!r}")
    if workers is not None and not (type(workers) is int and workers >= 1):
        raise InputError(f"workers must be a whole number of at least 1, not {workers!r}")
    if executor is None and (workers or 1) > 1 and not _can_be_found():
        raise InputError(f"workers cannot be {workers} for a script that is no file: save it, or give workers=1")
    given = {name: None if isinstance(value, str | list) and not value else value for name, value in locals().items()}
    for name in ("dataset_root", "executor", "workers"):
        given.pop(name)
    parameters = json.loads(json.dumps(given, default=_plain))
    _check(parameters)
    root, stride = resolve(dataset_root).resolve(), stride or patch_size  # through links, whose target is replaced
    paths = {k: parameters[k] and resolve(parameters[k]) for k in parameters if k.endswith(PATHS)}
    extra = [paths[name] for name in ("pairs_csv", "split_file") if paths[name]]
    patch_size, resolution_factor, legend = (parameters[name] for name in ("patch_size", "resolution_factor", "legend"))
    reading = dict(parameters)
    if legend and legend.endswith((".yml", ".yaml")):
        extra.append(resolve(legend))
        reading["legend"] = str(extra[-1])  # workers may start in another folder
    folders = [] if pairs_csv else [paths[name] for name in ("sar_dir", "opt_dir", "lulc_dir") if paths[name]]
    _check_root(root, [*filter(None, paths.values()), *extra], folders)
    if executor is None and (workers or 1) > 1:
        _context()  # loads while headers are read; where no number is given, as soon as there is one
    tiles, scenes, refused = _found(reading, paths)
    made = {scene.synthetic: scene.id for scene in scenes}
    if len(made) == 2:
        raise InputError(
            f"{'archive_root' if archive_root else 'sar_dir'} '{archive_root or sar_dir}' mixes synthetic scenes, as "
            f"'{made[True]}' is, with others, as '{made[False]}': keep each in a folder of its own"
        )
    extra = [*map(str, [*extra, *(tiles.files if tiles else ())])]
    state = rasters.state_of(extra, rasters.sidecars(extra))
    inputs = hashlib.sha256("\n".join([_code(), state, *(scene.state for scene in scenes)]).encode()).hexdigest()
    # one that cannot be read is written anew
    with suppress(OSError, EOFError, ValueError, KeyError, TypeError, csv.Error):
        info = json.loads((root / "dataset.json").read_bytes())
        same = info["parameters"] == parameters and info["inputs"] == inputs
        if same and _is_whole(root, info):
            _tidy(root)
            return info

    if tiles:
        scenes = _covered(scenes, tiles, refused, parameters)
    # blocks lie side by side; those of one place overlap
    within_m = -min(half_pixel(scene.grid) for scene in scenes) if block_m else buffer_m
    scenes = with_groups(scenes, within_m)
    grids = [scene.grid.coarser(resolution_factor) for scene in scenes]
    windows = Windows.within([scene.id for scene in scenes], grids, patch_size, stride)
    if name := windows.twice():
        raise InputError(f"two patches would be called '{name}': give one of the scenes another id")
    if not len(windows):
        largest = max(min(scene.grid.height, scene.grid.width) for scene in scenes) // resolution_factor
        raise InputError(
            f"no {'block' if block_m else 'scene'} holds a patch of {patch_size} pixels, the largest one of {largest}: "
            f"lower patch_size or resolution_factor{', or raise block_m' if block_m else ''}"
        )
    if executor is None and _processes(workers, len(windows)) > 1:
        _context()  # loads while the split is made
    without = np.bincount(windows.scene, minlength=len(scenes)) == 0
    for scene, grid in ((scenes[i], grids[i]) for i in np.flatnonzero(without)):
        refused.append(_refusal(scene.id, "smaller than a patch", f"{grid.width} x {grid.height}"))
    windows.refuse(np.array([scene.empty for scene in scenes])[windows.scene], "no data", 1.0)
    if tiles:
        partly = np.array([not tiles.covering(scene.grid, whole=True) for scene in scenes])
        for number in np.flatnonzero(partly[windows.scene] & (windows.reason == "")):
            if not tiles.covering(windows.grid(number)):
                windows.refuse(number, "outside the map", "no tile")
    if paths["split_file"]:
        left_out = {refusal["id"] for refusal in refused}
        split_by_file(windows, paths["split_file"], stride, left_out)
    else:
        places = parameters["test_places"] or ()
        split_by_region(scenes, windows, places, buffer_m, within_m, shares, stride, seed)
    guard(windows, buffer_m)
    used = windows.split != UNUSED
    read = np.unique(windows.scene[used])
    examples = _examples(windows, read)
    for number in np.flatnonzero((windows.reason != "") & ~examples):  # those are refused when they have been read
        refused.append(_refusal(windows.id(number), windows.reason[number], windows.value[number]))

    read, used = [scenes[i] for i in read], np.flatnonzero(used | examples)
    pixel_m = _pixel_size(read or scenes, pixel_size_m, resolution_factor)
    sar, opt = _bands(parameters, scenes)
    cloud, haze = (2500, 1500) if opt_units != "8-bit" else (200, np.inf)
    own = {
        "tiles": None if _own_layer(parameters) else tiles,
        "sar_units": sar["units"],
        "opt_units": opt["units"],
        "cloud_brightness": cloud_brightness / opt["scale"] if cloud_brightness else cloud,
        "haze_brightness": haze_brightness / opt["scale"] if haze_brightness else haze,
    }
    rules = Rules(**{field.name: (reading | own)[field.name] for field in fields(Rules)})
    parts = {}
    for numbers in _parts(scenes, windows, used, resolution_factor):
        told = (scenes[i] for i in np.unique(windows.scene[numbers]))
        told = [(s.id, s.group, s.season, s.date, s.state) for s in told]  # by other scenes or lists, too
        told += [(windows.id(i), int(windows.split[i]), windows.reason[i], windows.value[i]) for i in numbers]
        parts[hashlib.sha256(f"{parameters} {state} {told}".encode()).hexdigest()[:24]] = numbers
    with (
        writable("dataset_root", root),
        alone(root, "dataset_root"),
        _space_for(root) as folder,
        writing(root) as aside,
    ):
        digest = _written(parts, scenes, windows, rules, folder, aside, refused, executor, workers)
        try:
            windows = check_separation(aside)
        except InputError:  # the parts are as they should be, but not what was meant
            shutil.rmtree(folder)
            raise
        there = {*windows.scenes}
        used = [scene for scene in scenes if scene.id in there]
        synthetic = scenes[0].synthetic  # whoever wrote it there
        source = "embedded" if synthetic else source
        info = {
            "schema": store.SCHEMA,
            "source": source,
            "synthetic": synthetic,
            "parameters": parameters,
            "patch_size": patch_size,
            "resolution_factor": resolution_factor,
            "pixel_size_m": pixel_m,
            "sar": sar,
            "opt": opt,
            "opt_offsets": sorted({scene.opt_offset for scene in used}),
            "lulc": _lulc(parameters, source),
            "dates": _dates(source, used),
            "tested_places": tested(windows, parameters["test_places"] or (), buffer_m),
            "counts": {name: int((windows.split == number).sum()) for number, name in enumerate(SPLITS)},
            "unique_area_km2": {name: unique_area(windows, name) for name in SPLITS},
            "refused": sorted(refused, key=lambda r: r["id"]),
            "inputs": inputs,
            "indexes": _indexes(aside),
            "fingerprint": digest,
        }
        (aside / "dataset.json").write_text(text := json.dumps(info, indent=1))
        (folder / ENDED).touch()
    return json.loads(text)


def _check(p: dict) -> None:
    """Refuse parameters that cannot be meant, before any file is opened."""
    choices = {"source": SOURCES, "sar_units": rasters.SAR_UNITS, "opt_units": rasters.OPT_UNITS}
    for name, allowed in choices.items():
        if p[name] not in allowed:
            raise InputError(f"unknown {name} '{p[name]}': choose one of {', '.join(allowed)}")
    for name, value in p.items():
        if isinstance(value, str) and not rasters.is_utf8(value):
            raise InputError(f"{name} {value!r} is no UTF-8: rename the file or folder")
        if name.endswith(PATHS) and not isinstance(value, str | None):
            raise InputError(f"{name} must be a file or folder, not the {type(value).__name__} {value!r}")
        if name in ("credit", "grid", "group_column", "merge") and not isinstance(value, str | None):
            raise InputError(f"{name} must be text, not the {type(value).__name__} {value!r}")
    if p["tar_root"] and not (p["source"] == "sen12ms" and p["lulc_root"]):
        raise InputError("tar_root is for source 'sen12ms' with lulc_root: without a map all 450 GB would be unpacked")
    needed = {
        "folder": ("sar_dir", "opt_dir"),
        "sen12ms": ("archive_root",),
        "embedded": ("archive_root", "lulc_root", "legend"),
    }
    for name in needed[p["source"]]:
        if not p[name]:
            raise InputError(f"source '{p['source']}' needs {name}")
    for name in ("sar_dir", "opt_dir", "lulc_dir", "pairs_csv", "group_column"):
        if p[name] and p["source"] != "folder":
            raise InputError(f"{name} is for source 'folder': leave it out with source '{p['source']}'")
    if p["source"] != "folder" and (p["sar_units"], p["opt_units"]) != ("dB", "reflectance x 10000"):
        raise InputError(f"source '{p['source']}' holds dB and reflectance x 10000: leave sar_units and opt_units out")
    if p["legend"]:
        if not isinstance(p["legend"], str):
            raise InputError(f"legend must be a name or a YAML file, not {p['legend']!r}")
        merge_table(p["legend"], p["merge"])
        legend = find_legend(p["legend"])
        for code in sorted({*legend.water} - {*legend.names}):
            raise InputError(f"legend '{p['legend']}': water {code} is no code of its names, so no sea would be found")
    has_map = bool(p["lulc_root"] or p["lulc_dir"] or (p["legend"] == OWN_LAYER and p["source"] != "folder"))
    if p["legend"] in PSEUDO and has_map:
        raise InputError(f"legend '{p['legend']}' is made from the optical image: leave lulc_root and lulc_dir out")
    if p["legend"] in PSEUDO and p["opt_units"] != "8-bit":
        raise InputError(f"legend '{p['legend']}' is made from 8-bit images, and opt_units is '{p['opt_units']}'")
    if p["legend"] not in PSEUDO and bool(p["legend"]) != has_map:
        raise InputError("land cover needs both a legend and lulc_root (or lulc_dir): give both or neither")
    if p["lulc_root"] and p["lulc_dir"]:
        raise InputError("lulc_root and lulc_dir are both given: land cover comes from tiles or from pairs, choose one")
    for name in ("patch_size", "resolution_factor", "stride"):
        given = p[name] is not None or name != "stride"
        if given and not (type(p[name]) is int and p[name] >= 1):
            raise InputError(f"{name} must be a whole number of at least 1, not {p[name]!r}")
    if not (type(p["seed"]) is int and p["seed"] >= 0):
        raise InputError(f"seed must be a whole number of at least 0, not {p['seed']!r}")
    numbers = {"buffer_m", "block_m", "opt_offset", "border_noise_db", *(name for name in p if name.startswith("max_"))}
    numbers |= {name for name in ("cloud_brightness", "haze_brightness") if p[name] is not None}  # else the default
    for name in sorted(numbers):
        if not _is_number(p[name]):
            raise InputError(f"{name} must be a number, not {p[name]!r}")
        if name.startswith("max_") and not 0 <= p[name] <= 1:
            raise InputError(f"{name} must be a share from 0 to 1, not {p[name]!r}")
    unit, most = ("in 8 bits", 255) if p["opt_units"] == "8-bit" else ("reflectance", 2)
    for name in ("cloud_brightness", "haze_brightness"):
        if p[name] is not None and not 0 < p[name] <= most:
            raise InputError(f"{name} is {unit}: above 0 and at most {most}, or none for the default; not {p[name]!r}")
    if p["pixel_size_m"] is not None and not (_is_number(p["pixel_size_m"]) and p["pixel_size_m"] > 0):
        raise InputError(f"pixel_size_m must be metres above 0, not {p['pixel_size_m']!r}")
    for name in ("buffer_m", "block_m"):
        if p[name] < 0:
            raise InputError(f"{name} must be metres of at least 0, not {p[name]!r}")
    if p["block_m"] and (p["source"] != "folder" or p["group_column"] or p["split_file"]):
        raise InputError(
            "block_m splits pairs of your own (source 'folder') by blocks, group_column and split_file do otherwise: "
            "give one of the three"
        )
    if not (isinstance(places := p["test_places"] or [], list) and all(map(_is_place, places))):
        raise InputError(f"test_places must be pairs (longitude, latitude), not {places}")
    for name in ("sar_bands", "opt_bands"):
        if isinstance(p[name], str):
            raise InputError(f"{name} must be a list of bands, such as ['{p[name]}'], not the text '{p[name]}'")
        if p[name] is not None and not (isinstance(p[name], list) and all(isinstance(band, str) for band in p[name])):
            raise InputError(f"{name} must be a list of bands' names, such as ['red', 'green', 'blue'], not {p[name]}")
        if len({rasters.band_name(band) for band in p[name] or ()}) != len(p[name] or ()):
            raise InputError(f"{name} names a band twice: {', '.join(p[name])}")
    if len(p["opt_bands"] or ()) != 3:
        raise InputError(f"opt_bands must be three, shown as red, green and blue, not {p['opt_bands']}")
    shares = p["shares"] if isinstance(p["shares"], list) else ()
    if len(shares) != 3 or not all(_is_number(share) and share > 0 for share in shares):
        raise InputError(f"shares must be three numbers above 0 (train, validation, test), not {p['shares']}")


def _plain(value: object) -> object:
    """NumPy's numbers and arrays as Python's, anything else, such as a path, as text."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def _is_place(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and abs(value[1]) <= 90


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_whole(root: Path, info: dict) -> bool:
    """Whether a data set is as it was built, but for its pixels; what cannot be read raises."""
    if info["indexes"] != _indexes(root):
        return False
    with open(root / "refused/index.csv", encoding="utf-8", newline="") as lines:
        counts = info["counts"] | {"refused": sum(1 for _ in csv.DictReader(lines))}
    counts = {split: count for split, count in counts.items() if count}
    shapes = {split: store.shapes(info | {"counts": counts}, split) for split in counts}
    arrays = ((root / split / f"{name}.npy", shape) for split, of in shapes.items() for name, shape in of.items())
    return all(store.is_array(np.load(path, mmap_mode="r"), shape) for path, shape in arrays)


def _indexes(root: Path) -> dict[str, str]:
    """SHA-256 of each index of a data set: other lines, or in another order, would give patches others' names."""
    indexes = {name: (root / name / "index.csv").read_bytes() for name in (*SPLITS, "refused")}
    return {name: hashlib.sha256(lines).hexdigest() for name, lines in indexes.items()}


def _check_root(root: Path, inputs: list[Path], whole: list[Path]) -> None:
    """Refuse a folder whose content is not what a build has written, since a build takes the whole folder's place, one
    that holds an input, and one in a folder that is input as a `whole`."""
    names = {path.name for path in root.iterdir()} if root.is_dir() else set()
    if root.is_file() or (names and "dataset.json" not in names):
        raise InputError(f"dataset_root '{root}' is there and is no data set: give a new folder, or an empty one")
    if strange := sorted(names - {"dataset.json", "refused", *SPLITS}):
        raise InputError(
            f"dataset_root '{root}' is written anew as a whole and holds '{strange[0]}', which is no part of it: move "
            "that elsewhere"
        )
    mine = {"index.csv", "sar.npy", "opt.npy", "lulc.npy"}
    for path in (path for name in sorted(names) for path in sorted((root / name).glob("[!.]*"))):
        if path.name not in mine:
            raise InputError(f"'{path}' is no part of a data set, which is written anew as a whole: move it elsewhere")
    if root.is_mount():
        raise InputError(f"dataset_root '{root}' is a mount point, which cannot be replaced: give a folder inside it")
    for path in inputs:
        if path.resolve().is_relative_to(root.resolve()):
            raise InputError(f"'{path}' lies in dataset_root '{root}', which is written anew: choose another folder")
    for path in (path for path in whole if root.resolve().is_relative_to(path.resolve())):
        raise InputError(f"dataset_root '{root}' lies in '{path}', all of which is read: choose another folder")


def _found(p: dict, paths: dict) -> tuple[landcover.Tiles | None, list[Scene], list[dict]]:
    """The map's tiles, every scene, and what a stream of archives has left out already."""
    if p["source"] == "embedded":
        from s2olib.data.embedded import write_archive

        with writable("archive_root", paths["archive_root"]):
            write_archive(paths["archive_root"], paths["lulc_root"], seed=p["seed"])
    tiles = landcover.Tiles(paths["lulc_root"], p["legend"]) if p["lulc_root"] else None
    bands = {"polarisations": p["sar_bands"], "colours": p["opt_bands"], "opt_offset": p["opt_offset"]}
    if p["source"] == "folder":
        folders = (paths["sar_dir"], paths["opt_dir"], paths["lulc_dir"])
        names = ("group_column", "sar_units", "opt_units", "grid", "legend", "block_m")
        options = {name: p[name] for name in names} | {"pairs_csv": paths["pairs_csv"]}
        return tiles, rasters.folder_scenes(*folders, **options, **bands), []
    outside = {}
    if p["tar_root"]:
        # a window that meets the map ends within it; most sizes have the same, and need no archive read again
        margin = max(2 * archive.SIZE, p["patch_size"] * p["resolution_factor"])

        def near(grid: Grid) -> bool:
            side = grid.height + 2 * margin, grid.width + 2 * margin
            return tiles.covering(grid.part(-margin, -margin, *side))

        key = f"{tiles.footprint} {margin}"
        outside = archive.extract(paths["tar_root"], paths["archive_root"], near, key)
        if outside and not any(paths["archive_root"].glob("ROIs*/*/*.tif")):
            raise InputError(f"no tile in lulc_root '{tiles.root}' covers a patch of tar_root '{p['tar_root']}'")
    scenes = archive.scan(paths["archive_root"], own_layer=_own_layer(p), **bands)
    what = "patches of the archive, not unpacked"
    return tiles, scenes, [_refusal(name, "outside the map", what, n) for name, n in outside.items()]


def _own_layer(p: dict) -> bool:
    """Are the labels those that SEN12MS brings? Then tiles only say which windows there are, the same as of a map."""
    return p["legend"] == OWN_LAYER and p["source"] != "folder"


@cache
def _code() -> str:
    """Fingerprint of the code that reads scenes."""
    names = ("archive", "build", "landcover", "legends", "rasters", "splits", "store")
    return code_fingerprint(*(f"data/{name}" for name in names))


def _bands(p: dict, scenes: list[Scene]) -> tuple[dict, dict]:
    """What dataset.json says of the SAR and the optical bands."""
    bands = list(scenes[0].sar_bands)
    if p["sar_units"] == "8-bit":
        sar = {"bands": bands, "units": "8-bit", "scale": 1.0, "limits": [[0.0, 255.0]] * len(bands)}
    else:
        limits = [SAR_LIMITS.get(band, [-25.0, 0.0]) for band in bands]
        sar = {"bands": bands, "units": "dB", "scale": 1.0, "limits": limits}
    opt = {"bands": list(p["opt_bands"]), "units": "reflectance", "scale": 0.0001, "limits": [[0.0, 0.3]] * 3}
    if p["opt_units"] == "8-bit":
        opt |= {"units": "8-bit", "scale": 1.0, "limits": [[0.0, 255.0]] * 3}
    for name, info in (("sar_limits", sar), ("opt_limits", opt)):
        if p[name] is not None:
            given = p[name] if isinstance(p[name], list) else [p[name]]
            pairs = [x for x in given if isinstance(x, list) and len(x) == 2 and all(map(_is_number, x))]
            if len(pairs) != len(given) or len(pairs) != len(info["limits"]) or any(x[0] >= x[1] for x in pairs):
                raise InputError(f"{name} must be {len(info['limits'])} pairs (low, high), one per band, not {p[name]}")
            if info["units"] == "reflectance" and any(abs(x) > 10 for pair in pairs for x in pair):
                raise InputError(
                    f"opt_limits are of reflectance, such as [0, 0.3], and not of the files' numbers: divide {p[name]} "
                    "by 10000"
                )
            info["limits"] = [[float(x) for x in pair] for pair in p[name]]
    return sar, opt


def _lulc(p: dict, source: str) -> dict | None:
    """What dataset.json says of land cover; enough to merge, name and colour the codes without the legend's file."""
    if not p["legend"]:
        return None
    legend, codes = find_legend(p["legend"]), merge_table(p["legend"], p["merge"])
    return {
        "legend": p["legend"],
        "product": legend.product,
        "credit": legend.credit,
        "merge": p["merge"],
        "kind": "pseudo-categories" if p["legend"] in PSEUDO else "land cover",
        "categories": list(codes),
        "epoch": p["lulc_epoch"] or ("" if source == "embedded" else legend.epoch),
        "codes": codes,
        "classes": {code: [name, legend.colours[code]] for code, name in legend.names.items()},
    }


def _dates(source: str, scenes: list[Scene]) -> list[str]:
    """First and last day of the images, by the files' list or, for SEN12MS, by its description; empty if unknown."""
    days = [archive.DATES[scene.season] for scene in scenes] if source == "sen12ms" else []
    days += [(day, day) for scene in scenes for day in (scene.date, scene.sar_date) if day]
    return [min(day for day, _ in days), max(day for _, day in days)] if days else []


def _covered(scenes: list[Scene], tiles: landcover.Tiles, refused: list[dict], p: dict) -> list[Scene]:
    """The scenes that some tile meets; the others are refused, with the number of windows that training would take."""
    kept = []
    for scene in scenes:
        if scene.grid.crs is None:
            raise InputError(f"scene '{scene.id}' has no geography: lulc_root cannot be laid over it, use lulc_dir")
        if tiles.covering(scene.grid):
            kept.append(scene)
        else:
            where, grid = f"no tile at {place_of(scene.grid)}", scene.grid.coarser(p["resolution_factor"])
            windows = Windows.within([scene.id], [grid], p["patch_size"], p["stride"] or p["patch_size"])
            count = int(np.count_nonzero(windows.on_lattice("train", p["stride"] or p["patch_size"])))
            refused.append(_refusal(scene.id, "outside the map", where, count))
    if not kept:
        raise InputError(f"no tile in lulc_root '{tiles.root}' covers a scene: the last has {refused[-1]['value']}")
    return kept


def _examples(windows: Windows, read: np.ndarray) -> np.ndarray:
    """(N,) whether a window that is refused for others near it is read, to be looked at: the first of each reason, of
    scenes that are read anyway, where these have one. What a split file leaves out is not."""
    chosen, at_hand = np.zeros(len(windows), bool), np.isin(windows.scene, read)
    for reason in {*windows.reason} - {"", "no data", "outside the map"}:
        refused = (windows.reason == reason) & (windows.value != "")
        some = refused & at_hand if (refused & at_hand).any() else refused
        chosen[np.flatnonzero(some)[:EXAMPLES]] = True
    return chosen


def _parts(scenes: list[Scene], windows: Windows, used: np.ndarray, factor: int) -> Iterator[np.ndarray]:
    """Parts of the work: windows in order, so many that a part is worth sending to a worker, and of a large scene so
    many as are read at once."""
    edges, size, stop = [], PART, 0
    for numbers in windows.by_scene(used):
        for lot in _lots(scenes[windows.scene[numbers[0]]], windows, numbers, factor):
            if size >= PART:
                edges.append(stop)
                size = 0
            size, stop = size + len(lot), stop + len(lot)
    yield from (used[start:stop] for start, stop in pairwise([*edges, stop]))


def _lots(scene: Scene, windows: Windows, numbers: np.ndarray, factor: int) -> list[np.ndarray]:
    """Some of a scene's windows in lots of whole rows, each of at most `AT_ONCE` pixels, if one row has no more."""
    pixels = scene.grid.width * factor * scene.density
    starts, first = [], None
    for row, start in zip(*np.unique(windows.row[numbers], return_index=True), strict=True):
        if first is None or (row - first + windows.size) * pixels > AT_ONCE:
            starts.append(start)
            first = row
    return np.split(numbers, starts[1:])


@contextmanager
def _space_for(root: Path) -> Iterator[Path]:
    """A folder beside `root` for finished parts.

    An interrupted build leaves its finished parts there, and the next one takes those that it needs; what a killed one
    had begun to put together is removed. After success nothing stays.
    """
    folder = root.with_name(f".{root.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ENDED).unlink(missing_ok=True)
    aside = re.compile(rf"\.{re.escape(root.stem)}\.\d+(\.old)?\.part{re.escape(root.suffix)}")
    for left in [path for path in root.parent.iterdir() if aside.fullmatch(path.name)]:
        shutil.rmtree(left)
    try:
        yield folder
        with ThreadPoolExecutor() as pool:  # freeing memory takes the system a while
            list(pool.map(shutil.rmtree, [path for path in folder.iterdir() if path.is_dir()]))
    finally:
        if folder.is_dir() and not any(path.is_dir() for path in folder.iterdir()):
            shutil.rmtree(folder)


def _tidy(root: Path) -> None:
    """Remove what a build has left beside its data set that was killed after this was in its place; what another
    process has, what may not be written to, and parts of a build that is yet to end stay."""
    ended = root.with_name(f".{root.name}.parts") / ENDED
    if ended.exists() or root.with_name(f".{root.name}.lock").exists():
        with suppress(InputError, OSError), alone(root, "dataset_root"):
            if ended.exists():
                with _space_for(root):
                    pass


class _Here(Executor):
    """Does each call at once, in the process that asks."""

    def submit(self, fn, /, *args, **kwargs) -> Future:
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _processes(workers: int | None, windows: int) -> int:
    """How many are worth their start for so many windows, unless it is said."""
    most = (os.cpu_count() or 1) if _can_be_found() else 1
    return workers or max(1, min(most, windows // WORTH_A_PROCESS))


def _can_be_found() -> bool:
    """Whether the running script is a file, as processes look for, or none at all; one from standard input is not."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    return script is None or os.path.exists(script)


@cache
def _context() -> BaseContext:
    """Processes are forked from one that has loaded this module and nothing else, since that takes as long as half a
    hundred patches, and a fork of this one would copy torch's and GDAL's threads half. They have the environment of
    the first build."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    forkserver.ensure_running()  # which does not wait for it
    return context


@contextmanager
def _workers(executor: Executor | None, number: int) -> Iterator[Executor]:
    """The executor that was given, or so many processes, or this one where that is all."""
    if executor is not None or number == 1:
        yield executor or _Here()
        return
    with ProcessPoolExecutor(number, _context(), _end_with_the_builder) as pool:
        yield pool


def _end_with_the_builder() -> None:
    """A worker whose builder was killed would wait for more work for ever."""

    def watch() -> None:
        connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _calls(executor: Executor, steps: int) -> Iterator[Callable[..., Future]]:
    """Gives what submits a call: of how many steps, function, arguments. Waits until all are done, with a progress bar.

    After an error what has not begun is cancelled.
    """
    futures: set[Future] = set()  # those that succeed are dropped, with what they gave
    with tqdm(total=steps, desc="build", unit="step") as bar:

        def begin(number: int, function: Callable, *arguments) -> Future:
            def end(future: Future) -> None:
                if not future.cancelled():
                    bar.update(number)
                    if not future.exception():
                        futures.discard(future)

            future = executor.submit(_call, uuid4().hex, function, *arguments)
            futures.add(future)
            future.add_done_callback(end)
            return future

        try:
            yield begin
            for future in as_completed([*futures]):
                future.result()
        except (BrokenExecutor, EOFError) as error:  # the latter of the process that would have forked one
            raise RuntimeError(
                "a worker ended unexpectedly, most likely for lack of memory: use fewer workers; or the script that "
                "builds does so outside `if __name__ == '__main__':`, where workers run it again"
            ) from error
        finally:
            # or they would write where the next build does
            wait([future for future in [*futures] if not future.cancel()])


def _call(_name: str, function: Callable, *arguments):
    """A name of its own keeps a Dask cluster from taking two builds' equal calls for one, made already. An error comes
    without its causes, for GDAL's cannot be sent from a process to another."""
    try:
        return function(*arguments)
    except InputError as error:
        said = str(error)
    raise InputError(said)


def _written(
    parts: dict[str, np.ndarray],
    scenes: list[Scene],
    windows: Windows,
    rules: Rules,
    folder: Path,
    root: Path,
    refused: list[dict],
    executor: Executor | None,
    workers: int | None,
) -> str:
    """Have every part made that is not there yet, remove those of other builds or code, and put all together in `root`.

    A worker that finds no part to make any more puts those in their places that are made, while others make the last.
    Adds to `refused`; returns the fingerprint of the three splits.
    """
    maker = folder / "code"  # a fingerprint that takes as long as fifty patches: workers begin before it is written
    for path in (path for path in folder.iterdir() if path.is_dir()):
        if path.name not in parts or not maker.is_file() or maker.read_text() != _code():
            shutil.rmtree(path)
    missing = [part for part in parts if not (folder / part).is_dir()]
    layers = ["opt", "sar"] + ["lulc"] * bool(rules.legend)  # the largest first, so that the very last call is short
    counts, digests, of = Counter(), {}, {scene.id: scene for scene in scenes}
    filled: deque[tuple[list[Path], Future]] = deque()
    try:
        with (
            _workers(executor, _processes(workers, sum(map(len, parts.values())))) as pool,
            _calls(pool, (len(missing) + len(parts)) * len(layers)) as begin,
        ):
            if isinstance(pool, _Here):
                maker.write_text(_code())
            made = {}
            for part in missing:
                some = windows.of(parts[part])
                made[part] = begin(len(layers), _work, [of[name] for name in some.scenes], some, rules, folder / part)
            if not isinstance(pool, _Here):
                maker.write_text(_code())
            with closing(_indexed(_finished(parts, made, folder), rules, root, refused)) as ready:
                for part, places in ready:
                    # neighbours in the queue are of different arrays: who write into the same file wait for each other
                    for layer in layers:
                        stretches = _stretches(root, layer, places, counts, rules)
                        done = begin(1, store.fill, part, layer, stretches, rules.patch_size)
                        filled.append(([stretch.path for stretch in stretches], done))
                    counts.update({split: len(members) for split, members in places.items()})
            while filled:
                paths, done = filled.popleft()
                for path, digest in zip(paths, done.result(), strict=True):
                    digests.setdefault(path, hashlib.sha256()).update(digest)
    except store.Damaged as error:
        shutil.rmtree(folder)
        raise InputError(
            f"'{folder}' held parts of an earlier build that were damaged, and is removed: build again ({error})"
        ) from error
    for name in (name for name in SPLITS if not counts[name]):
        shutil.rmtree(folder)
        reasons = by_reason(refused)
        most = [reason for reason, _ in reasons.most_common(3)]
        first = {refusal["reason"]: refusal["id"] for refusal in reversed(refused)}
        listed = "".join(f", {reasons[reason]} for {reason} (such as '{first[reason]}')" for reason in most)
        advice = "lower buffer_m, where it is above 0" if most[:1] == ["guard gap"] else "loosen the limits"
        raise InputError(
            f"no patch is left for {name}: {reasons.total()} were refused{listed}; "
            f"{advice}, or split otherwise (other lines of a split_file; another seed, where regions are drawn)"
        )
    return store.finish(root, counts, {path: digest.hexdigest() for path, digest in digests.items()})


def _finished(parts: Iterable[str], made: dict[str, Future], folder: Path) -> Iterator[Path]:
    """Each part, in order, as soon as it is there; an error of any is raised at once."""
    done = as_completed(made.values())
    for part in parts:
        while part in made and not made[part].done():
            next(done).result()
        if part in made:
            made[part].result()
            if not (folder / part).is_dir():
                raise InputError(
                    f"'{folder / part}' was written and is not here: workers must see the builder's dataset_root"
                )
        yield folder / part


def _stretches(root: Path, layer: str, places: dict[str, list], counts: Counter, rules: Rules) -> list[store.Stretch]:
    """Where a part's windows go in each split's array of a layer, which is there then, if only empty; `counts` says how
    many went there before."""
    if layer == "lulc" and rules.legend in PSEUDO:  # made from the optical image, which a network is to find
        places = {split: members for split, members in places.items() if split == "train"}
    stretches = [store.Stretch(root / s / f"{layer}.npy", counts[s], members) for s, members in places.items()]
    for stretch in stretches:
        stretch.path.touch()
    return stretches


def _work(scenes: list[Scene], windows: Windows, rules: Rules, folder: Path) -> None:
    """Read and judge a part's windows, those of one scene after another's. `folder` gets the layers of each lot as they
    are stored, and what became of each window: its split, its verdict, its place (the lot's number, row and column in
    the layers), and its row of the index. It is written whole or not at all.
    """
    found = []
    numbers = zip(scenes, windows.by_scene(np.arange(len(windows))), strict=True)
    lots = ((scene, lot) for scene, of in numbers for lot in _lots(scene, windows, of, rules.resolution_factor))
    with writing(folder) as aside, rasterio.Env(**rasters.GDAL):
        aside.mkdir()
        for number, (scene, lot) in enumerate(lots):
            with store.Layers(aside, number) as layers:
                some = [windows[i] for i in lot]
                top, left = (min(getattr(window, name) for window in some) for name in ("row", "column"))
                for window, row, verdict in _judged(scene, some, rules, layers):
                    found.append((window.split, verdict, (number, window.row - top, window.column - left), row))
        (aside / "windows.json").write_text(json.dumps(found))


def _judged(scene: Scene, windows: list[Window], rules: Rules, stored: store.Layers) -> Iterator[tuple]:
    """Each window with its row of the index and why it is refused (None for a good one); pixels go to `stored`.

    Windows share pixels with those beside, above and below them: what is done to a pixel is done once, in strips of
    rows, each of which a window has whole or not at all.
    """
    layers, rows = _coarser(scene, windows, rules), iter(_rows(scene, windows, rules.patch_size))
    size, pseudo, first = rules.patch_size, rules.legend in PSEUDO, windows[0].row
    table = merge_table(rules.legend, rules.merge) if rules.legend else {}
    edges = {row - first + edge for row in {window.row for window in windows} for edge in (0, size)}
    edges = sorted(edges | {*range(0, max(edges), max(1, IN_CACHE // layers[0].shape[-1]))})
    columns = {window.column: slice(window.column, window.column + size) for window in windows}
    strips: dict[int, dict] = {}
    for top, side_by_side in groupby(windows, key=lambda window: window.row - first):
        within = [(start, end) for start, end in pairwise(edges) if top <= start < top + size]
        strips = {
            start: strips.get(start) or _strip(layers, start, end, columns, rules, stored) for start, end in within
        }
        for window in side_by_side:
            where = columns[window.column]
            found = [counts[window.column] for counts in strips.values()]
            counts = {name: sum(count[name] for count in found) for name in found[0]}
            labelled = [counts[category] for category in range(len(table))]
            sar = layers[0][..., top : top + size, where]
            verdict = window.refused or _verdict(counts | {"labelled": sum(labelled)}, sar, rules)
            shares = np.round(np.array(labelled) / size**2, 4).tolist()
            if pseudo and (verdict or window.split != "train"):
                shares = [""] * len(shares)
            yield window, next(rows) + shares, verdict


def _strip(layers, start: int, end: int, columns: dict[int, slice], rules: Rules, stored: store.Layers) -> dict:
    """Store some rows of a scene, and count by column of a window what `_verdict` asks for and each category."""
    sar, opt, codes = (layer if layer is None else layer[..., start:end, :] for layer in layers)
    masks = _masks(sar, opt, codes, rules)
    if rules.legend:
        codes = landcover.pseudo_categories(opt, rules.legend) if rules.legend in PSEUDO else codes
        table = merge_table(rules.legend, rules.merge)
        masks |= dict(enumerate(_among(codes, members) for members in table.values()))
    used = slice(min(columns), max(where.stop for where in columns.values()))
    sar, opt, codes = (layer if layer is None else layer[..., used] for layer in (sar, opt, codes))
    stored.write(start, _stored(sar, opt, codes, rules))
    return {c: {n: np.count_nonzero(mask[:, where]) for n, mask in masks.items()} for c, where in columns.items()}


def _indexed(
    parts: Iterable[Path], rules: Rules, root: Path, refused: list[dict]
) -> Iterator[tuple[Path, dict[str, list]]]:
    """Write every split's index in the parts' order, and of what was refused the first of each reason.

    Gives each part with where every split's windows are: scene's number, row and column in its layers. Adds to
    `refused`.
    """
    kept = Counter()
    categories = list(merge_table(rules.legend, rules.merge)) if rules.legend else []
    with ExitStack() as stack:
        writers = {}
        for name in (*SPLITS, "refused"):
            (root / name).mkdir(parents=True)
            lines = stack.enter_context(open(root / name / "index.csv", "w", encoding="utf-8", newline=""))
            writers[name] = csv.writer(lines, lineterminator="\n")
            writers[name].writerow([*COLUMNS, *(f"share_{category}" for category in categories)])
        for part in parts:
            places: dict[str, list] = {}
            for split, verdict, place, row in _verdicts(part):
                if verdict:
                    refused.append(_refusal(row[0], *verdict))
                    kept[verdict[0]] += 1
                    if kept[verdict[0]] > EXAMPLES:
                        continue
                    split = "refused"
                writers[split].writerow(row)
                places.setdefault(split, []).append(place)
            yield part, places


def _verdicts(part: Path) -> list:
    """What became of a part's windows, as `_work` says."""
    try:
        return json.loads((part / "windows.json").read_bytes())
    except (ValueError, FileNotFoundError) as error:
        raise store.Damaged(f"'windows.json': {error}") from error


def _coarser(scene: Scene, windows: list[Window], rules: Rules):
    """The layers of the rows from the first window to the last."""
    factor, size = rules.resolution_factor, rules.patch_size
    boxes = np.array([(w.row, w.column, w.row + size, w.column + size) for w in windows]) * factor
    sar, opt, codes = scene.read(boxes.tolist())
    if rules.tiles:
        codes = rules.tiles.read(scene.grid.part(windows[0].row * factor, 0, sar.shape[1], scene.grid.width))
    if factor > 1:
        opt = rasters.area_mean(opt, factor)
        if rules.sar_units == "dB":
            sar = rasters.to_db(rasters.area_mean(rasters.to_linear(sar), factor))
        else:
            sar = rasters.area_mean(sar, factor)
        codes = None if codes is None else majority(codes, factor)[: opt.shape[1], : opt.shape[2]]
    return sar, opt, codes


def _masks(sar: np.ndarray, opt: np.ndarray, codes: np.ndarray | None, rules: Rules) -> dict[str, np.ndarray]:
    """What `_verdict` counts, (H, W) bool each."""
    dark, bright = opt.min(0), opt.max(0)
    spread = bright - dark  # not finite where any band is not
    colourless = spread < 0.25 * bright
    valid = np.isfinite(sar).all(0) & np.isfinite(spread)
    masks = {"valid": valid, "cloud": (dark > rules.cloud_brightness) & colourless}
    masks |= {"haze": (dark > rules.haze_brightness) & valid, "colourless": colourless & valid}
    if rules.sar_units == "dB":  # single pixels of calm water are silent, by speckle; whole squares are not
        masks["silent"] = sar.max(0) < rules.border_noise_db
    if codes is not None:
        masks["sea"] = _among(codes, find_legend(rules.legend).water)
    return masks


def _among(codes: np.ndarray, members: Sequence[int]) -> np.ndarray:
    """`np.isin` for a few bytes, several times as fast."""
    return reduce(np.logical_or, (codes == code for code in members), np.zeros(codes.shape, bool))


def _verdict(counts: dict[str, int], sar: np.ndarray, rules: Rules) -> tuple[str, float] | None:
    """Why a patch is refused, and the share of its pixels that says so; None for a good one."""
    pixels, valid = rules.patch_size**2, counts["valid"]
    if (share := (pixels - valid) / pixels) > rules.max_nodata:
        return "no data", share
    silent = counts.get("silent", 0) / pixels > rules.max_nodata / 2
    if silent and (share := _border_noise(sar, rules)) > rules.max_nodata:
        return "border noise", share
    if "sea" in counts:
        if (share := (pixels - counts["labelled"]) / pixels) > rules.max_unlabelled:
            return "unlabelled", share
        if (share := counts["sea"] / pixels) > rules.max_sea:
            return "open sea", share
    if (share := counts["cloud"] / pixels) > rules.max_cloud:
        return "cloud", share
    share = counts["haze"] / max(valid, 1)
    return ("haze", share) if share > 0.99 and counts["colourless"] > 0.5 * valid else None


def _border_noise(sar: np.ndarray, rules: Rules) -> float:
    """Share of pixels around which no band (dB) holds an echo from the ground."""
    from scipy import ndimage  # long to load, and seldom needed

    power = rasters.to_linear(sar.max(0))
    valid = np.isfinite(power)
    total = ndimage.uniform_filter(np.where(valid, power, 0), 9)
    mean = total / np.maximum(ndimage.uniform_filter(valid.astype(np.float32), 9), 1e-6)
    return (valid & (mean < rasters.to_linear(np.float32(rules.border_noise_db)))).mean()


def _refusal(name: str, reason: str, value: float | str, windows: int = 1) -> dict:
    """What dataset.json says of a window, or of a whole scene with so many."""
    refusal = {"id": name, "reason": reason, "value": value if isinstance(value, str) else round(float(value), 4)}
    return refusal if windows == 1 else refusal | {"windows": windows}


def by_reason(refused: Sequence[dict]) -> Counter[str]:
    """How many windows were refused for each reason, by what dataset.json says of them."""
    counts: Counter[str] = Counter()
    for refusal in refused:
        counts[refusal["reason"]] += refusal.get("windows", 1)
    return counts


def _stored(sar: np.ndarray, opt: np.ndarray, codes: np.ndarray | None, rules: Rules) -> dict[str, np.ndarray]:
    """The layers as they are on disk."""
    stored = {"opt": _whole(opt, np.uint8 if rules.opt_units == "8-bit" else np.uint16)}
    stored["sar"] = _whole(sar, np.uint8) if rules.sar_units == "8-bit" else sar.astype("<f2")
    return stored if codes is None else stored | {"lulc": codes}


def _whole(values: np.ndarray, dtype: type) -> np.ndarray:
    """Rounded and clipped to an integer type; 0 where there is no data."""
    rounded = np.rint(values)
    np.clip(rounded, 0, np.iinfo(dtype).max, out=rounded)
    rounded[np.isnan(rounded)] = 0
    return rounded.astype(dtype)


def _rows(scene: Scene, windows: list[Window], size: int) -> list[list]:
    """What the index says of each window, but for its categories."""
    places = [["", "", "", ""]] * len(windows)
    if scene.grid.crs:
        centres = [window.grid.transform @ (size / 2, size / 2) for window in windows]
        degrees = transform(scene.grid.crs, "EPSG:4326", *zip(*centres, strict=True))
        crs, numbers = scene.grid.crs.to_string(), (" ".join(map(repr, w.grid.transform[:6])) for w in windows)
        places = [[crs, n, f"{lon:.6f}", f"{lat:.6f}"] for n, lon, lat in zip(numbers, *degrees, strict=True)]
    named = zip(windows, places, strict=True)
    return [[w.id, scene.id, scene.group, scene.season, *place, w.row, w.column, scene.date] for w, place in named]


def _pixel_size(scenes: list[Scene], stated: float | None, factor: int) -> float | None:
    """Metres to three digits, where one number is true of these scenes to a hundredth; None for degrees or mixtures.

    Raises InputError where another is stated.
    """
    grids, size = [scene.grid for scene in scenes], stated
    if all(grid.crs and grid.crs.is_projected for grid in grids):
        pixels = ((grid.transform.a, -grid.transform.e, rasters.metres_of(grid.crs)) for grid in grids)
        sizes = np.array([side * metres for *sides, metres in pixels for side in sides])
        size = float(f"{np.median(sizes):.3g}") if np.ptp(sizes) <= 0.01 * sizes.min() else None
        if stated and not (size and abs(stated - size) <= 0.01 * size):
            found = f"{size:g}" if size else "several sizes"
            raise InputError(f"pixel_size_m is {stated:g}, and the files say {found}: leave it out")
    return size and float(size * factor)
