"""Triplets to disk: scenes become windows, windows become a split, and what passes judgement becomes memory-mapped
arrays.

The split (`splits`) is cross-regional, as the talk behind the paper says, and made before any patch is judged.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from s2olib.data import archive, landcover, rasters, splits
from s2olib.data.landcover import IGNORE, LEGENDS, merge_codes
from s2olib.data.rasters import Scene
from s2olib.data.splits import (
    Window,
    candidate_windows,
    check_separation,
    guard,
    split_by_file,
    split_by_region,
    unique_area,
)
from s2olib.data.triplets import SPLITS
from s2olib.project import InputError, fingerprint, resolve, writing

SOURCES = ("sen12ms", "embedded", "folder")
PSEUDO = "pseudo-false-colour"
SAR_LIMITS = {"VH": [-32.0, -5.0]}  # dB; any other band has VV's
TEST_PLACES = ((136.30, 36.30), (136.15, 36.20))  # Kaga and Mikuni, which the talk compares by eye
COLUMNS = ("id", "scene", "group", "season", "crs", "transform", "lon", "lat", "row", "col", "date")


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
    """Write a data set for `Triplets` and return its dataset.json; one that is there already is returned at once.

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
            the bands differ by less than 25 %.
        sar_limits, opt_limits: per band (low, high), stored for the mapping to [−1, 1].
        seed: of the drawing of regions, and of the embedded archive.

    Raises InputError, and leaves nothing behind, for input that is missing, contradictory or gives an empty split.
    """
    given = {name: None if value == "" else value for name, value in locals().items() if name != "dataset_root"}
    parameters = json.loads(json.dumps(given, default=str))
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
        folders = (paths["sar_dir"], paths["opt_dir"], paths["lulc_dir"])
        scenes = rasters.folder_scenes(
            *folders,
            pairs_csv=paths["pairs_csv"],
            group_column=group_column,
            sar_units=sar_units,
            opt_units=opt_units,
            opt_offset=opt_offset,
            grid=grid,
        )
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
    candidates = [
        candidate_windows(scene.id, scene.grid.coarser(resolution_factor), patch_size, stride) for scene in scenes
    ]
    for scene, windows in zip(scenes, candidates, strict=True):
        if not windows:
            size = f"{scene.grid.width // resolution_factor} x {scene.grid.height // resolution_factor}"
            refused.append({"id": scene.id, "reason": "smaller than a patch", "value": size})
    if paths["split_file"]:
        split_by_file(scenes, candidates, paths["split_file"], patch_size, stride)
    else:
        split_by_region(scenes, candidates, test_places, buffer_m, shares, patch_size, stride, seed)
    guard(candidates, buffer_m)

    bands = list(sar_bands or _sar_bands(scenes[0]))
    units = ("8-bit" if sar_units == "8-bit" else "dB", "8-bit" if opt_units == "8-bit" else "reflectance")
    opt_scale = 1.0 if units[1] == "8-bit" else 0.0001
    physical = [SAR_LIMITS.get(band, [-25.0, 0.0]) for band in bands]
    limits = {
        "sar": _limits(sar_limits, "sar_limits", [[0.0, 255.0]] * len(bands) if units[0] == "8-bit" else physical),
        "opt": _limits(opt_limits, "opt_limits", [[0.0, 255.0 if units[1] == "8-bit" else 0.3]] * 3),
    }
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
                    rows = slice(window.row, window.row + patch_size)
                    columns = slice(window.column, window.column + patch_size)
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
                "limits": limits["sar"],
            },
            "opt": {
                "bands": list(opt_bands),
                "units": units[1],
                "scale": opt_scale,
                "limits": limits["opt"],
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
    for module in (archive, landcover, rasters, splits):
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
    if (share := ((dark > brightness) & (bright - dark < 0.25 * bright)).mean()) > max_cloud:
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
    if not legend:
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
