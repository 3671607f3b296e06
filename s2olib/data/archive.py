"""SEN12MS folders (Schmitt et al., 2019): 256 x 256 patches of Sentinel-1 and Sentinel-2, put back together into
scenes.

Layout: ``ROIs1158_spring/s2_124/ROIs1158_spring_s2_124_p100.tif`` and its partner under ``s1_124``. Patches of a
scene overlap by half and are pixel-identical there; they share a lattice whose origin is off the round 10 m of UTM.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from rasterio.transform import Affine
from tqdm import tqdm

from s2olib.data.rasters import Grid, Header, Scene, check_units, header, optical_no_data, read_bands, rgb_bands
from s2olib.project import InputError

SIZE = 256
NAME = re.compile(r"(ROIs\d+_(spring|summer|fall|winter))_(s1|s2)_(\d+)_p(\d+)\.tiff?", re.IGNORECASE)
# What SEN12MS holds: bands and type. 12 bands are Level-2A, as re-downloads of the same patches have them.
EXPECTED = {"s1": ((2,), ("float32",)), "s2": ((12, 13), ("uint16",))}


def partner(path: Path) -> Path:
    """The other sensor's file of a patch: only the sensor's part of the folder and of the file name changes."""
    match = NAME.fullmatch(path.name)
    other = "s2" if match[3] == "s1" else "s1"
    name = path.name[: match.start(3)] + other + path.name[match.end(3) :]
    return path.parent.parent / f"{other}_{match[4]}" / name


def scan(archive_root: str | Path) -> list[Scene]:
    """Every scene of the four seasons, from file headers alone; patches are read when a scene is.

    Raises InputError, naming the file, for a missing or empty archive, a name that does not fit its folder, a patch
    without its partner or twice there, a wrong number of bands, size or type, and grids that contradict each other.
    """
    root = Path(archive_root)
    if not root.is_dir():
        raise InputError(
            f"archive_root '{archive_root}' is not a folder: give the folder that holds ROIs1158_spring and the others"
        )
    files = [
        p for p in root.glob("ROIs*/s[12]_*/*") if p.suffix.lower() in (".tif", ".tiff") and not p.name.startswith(".")
    ]
    if not files:
        raise InputError(
            f"archive_root '{archive_root}' holds no patch like ROIs1158_spring/s2_124/ROIs1158_spring_s2_124_p100.tif"
        )
    patches: dict[tuple[str, int, int], dict[str, Path]] = {}
    for path in sorted(files):
        match = NAME.fullmatch(path.name)
        if match is None or path.parent.name != f"{match[3]}_{match[4]}" or path.parent.parent.name != match[1]:
            raise InputError(
                f"'{path}' does not fit its folder: SEN12MS names a patch <season>_<s1|s2>_<scene>_p<number>.tif"
            )
        pair = patches.setdefault((match[1], int(match[4]), int(match[5])), {})
        if match[3] in pair:
            raise InputError(f"'{path}' and '{pair[match[3]].name}' are the same patch: keep one of them")
        pair[match[3]] = path
    for pair in patches.values():
        if len(pair) == 1:
            (path,) = pair.values()
            raise InputError(f"'{path}' has no partner '{partner(path)}': fetch it, or remove the patch")

    members: dict[tuple[str, int], list[tuple[dict[str, Path], Header]]] = {}
    for (season, scene, _), pair in tqdm(sorted(patches.items()), desc="headers", unit="patch", leave=False):
        members.setdefault((season, scene), []).append((pair, _checked(pair)))
    return [_scene(season, scene, found) for (season, scene), found in members.items()]


def _checked(pair: dict[str, Path]) -> Header:
    heads = {kind: header(path) for kind, path in pair.items()}
    for kind, head in heads.items():
        counts, dtypes = EXPECTED[kind]
        if head.count not in counts:
            raise InputError(f"'{pair[kind]}' has {head.count} bands, not {' or '.join(map(str, counts))}")
        if head.dtype not in dtypes:
            raise InputError(f"'{pair[kind]}' is {head.dtype}, not {dtypes[0]}: an older loader may have cast it")
        if (head.grid.height, head.grid.width) != (SIZE, SIZE):
            raise InputError(f"'{pair[kind]}' is {head.grid.height} x {head.grid.width} pixels, not {SIZE} x {SIZE}")
        if head.grid.crs is None:
            raise InputError(f"'{pair[kind]}' has no coordinate reference system")
    if heads["s1"].grid != heads["s2"].grid:
        raise InputError(f"'{pair['s1']}' and '{pair['s2'].name}' lie on different grids")
    return heads["s2"]


def _scene(season: str, scene: int, found: list[tuple[dict[str, Path], Header]]) -> Scene:
    first = found[0][1].grid
    x, y, places = first.transform.c, first.transform.f, []
    for pair, head in found:
        t = head.grid.transform
        column, row = (t.c - x) / first.transform.a, (t.f - y) / first.transform.e
        off = max(abs(column - round(column)), abs(row - round(row)))
        if head.grid.crs != first.crs or (t.a, t.e) != (first.transform.a, first.transform.e) or off > 0.01:
            raise InputError(f"'{pair['s2']}' is off the lattice of its scene's first patch '{found[0][0]['s2'].name}'")
        places.append((round(row), round(column)))
    top, left = min(r for r, _ in places), min(c for _, c in places)
    height, width = max(r for r, _ in places) - top + SIZE, max(c for _, c in places) - left + SIZE
    grid = Grid(first.crs, first.transform @ Affine.translation(left, top), height, width)
    patches = [
        (pair, rgb_bands(pair["s2"], head), r - top, c - left)
        for (pair, head), (r, c) in zip(found, places, strict=True)
    ]
    name = f"{season}_{scene}"
    files = tuple(path for pair, _ in found for path in pair.values())
    return Scene(name, grid, files, partial(_read, patches, grid), group=name, season=season.split("_")[1])


def _read(patches: list, grid: Grid) -> tuple[np.ndarray, np.ndarray, None]:
    sar = np.full((2, grid.height, grid.width), np.nan, np.float32)
    opt = np.full((3, grid.height, grid.width), np.nan, np.float32)
    for pair, rgb, row, column in patches:
        _lay(sar, read_bands(pair["s1"], (1, 2)), row, column, pair["s1"], "dB")
        _lay(opt, read_bands(pair["s2"], rgb), row, column, pair["s2"], "reflectance x 10000")
    return sar, opt, None


def _lay(mosaic: np.ndarray, patch: np.ndarray, row: int, column: int, path: Path, units: str) -> None:
    check_units(patch, units, path)
    if units != "dB":
        patch = optical_no_data(patch, units)
    place = mosaic[:, row : row + SIZE, column : column + SIZE]
    if (np.isfinite(place) & np.isfinite(patch) & (place != patch)).any():
        raise InputError(
            f"'{path}' differs from its neighbours where they overlap: the archive mixes versions of a scene"
        )
    np.copyto(place, patch, where=np.isfinite(patch))
