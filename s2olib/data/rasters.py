"""Rasters of any kind onto one grid: scenes of aligned SAR, optical and land-cover arrays, and folders of your own
pairs.

A scene reads as float32 with NaN for no data. SAR that is physical is sigma0 in dB whatever the file holds;
resampling it happens in linear power, since the mean of decibels is not the decibel of the mean.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject, transform, transform_bounds
from rasterio.windows import Window
from scipy import ndimage

from s2olib.project import InputError

SAR_UNITS = ("dB", "linear", "8-bit")
OPT_UNITS = ("reflectance x 10000", "8-bit")
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
WEDGE = 33  # pixels
RGB_NAMES = ({"B4", "B04", "RED"}, {"B3", "B03", "GREEN"}, {"B2", "B02", "BLUE"})


@dataclass(frozen=True)
class Grid:
    """North-up pixels on the ground; `crs` is None for an image without geography."""

    crs: CRS | None
    transform: Affine
    height: int
    width: int

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in the CRS."""
        left, top = self.transform @ (0, 0)
        right, bottom = self.transform @ (self.width, self.height)
        return left, bottom, right, top

    @property
    def lonlat_bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        return transform_bounds(self.crs, "EPSG:4326", *self.bounds, densify_pts=21)

    def lonlat(self, column: float, row: float) -> tuple[float, float]:
        """Longitude and latitude of a pixel position (0, 0 is the upper left corner of the upper left pixel)."""
        x, y = self.transform @ (column, row)
        (lon,), (lat,) = transform(self.crs, "EPSG:4326", [x], [y])
        return lon, lat

    def coarser(self, factor: int) -> Grid:
        """The grid of `factor` x `factor` blocks of pixels; an incomplete last column or row is left off."""
        return Grid(self.crs, self.transform @ Affine.scale(factor), self.height // factor, self.width // factor)

    def window(self, row: int, column: int, size: int) -> Grid:
        """The grid of a square part."""
        return Grid(self.crs, self.transform @ Affine.translation(column, row), size, size)


@dataclass(frozen=True)
class Scene:
    """One place at one time.

    `read` gives sar (Cs, H, W) and opt (3, H, W) float32 with NaN, and codes (H, W) uint8 or None.
    """

    id: str
    grid: Grid
    files: tuple[Path, ...]
    read: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray | None]]
    group: str = ""
    season: str = ""
    date: str = ""


@dataclass(frozen=True)
class Header:
    """What a raster file says of itself."""

    grid: Grid
    count: int
    dtype: str
    names: tuple[str | None, ...]


@contextmanager
def _opened(path: Path) -> Iterator[rasterio.DatasetReader]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                yield file
    except RasterioIOError as error:
        raise InputError(f"'{path}' cannot be read as a raster: give a whole GeoTIFF, PNG or JPEG ({error})") from error


def header(path: Path) -> Header:
    """Read a raster's header. Raises InputError for a file that is missing, unreadable or rotated."""
    with _opened(path) as file:
        place = file.transform if file.crs else Affine.scale(1, -1)  # without geography: pixels, north up
        grid = Grid(file.crs, place, file.height, file.width)
        found = Header(grid, file.count, file.dtypes[0], tuple(file.descriptions))
    if grid.crs is not None and (
        grid.transform.b or grid.transform.d or grid.transform.a <= 0 or grid.transform.e >= 0
    ):
        raise InputError(f"'{path}' is rotated or flipped: warp it to a north-up grid first")
    return found


def rgb_bands(path: Path, found: Header) -> tuple[int, int, int]:
    """1-based bands of red, green and blue: by description where the file names them, else by position.

    13 bands (Sentinel-2 L1C) and 12 (L2A, without B10) have them at 4, 3, 2; 3 bands are taken as they come.
    """
    names = [(name or "").strip().upper() for name in found.names]
    by_name = [next((i for i, name in enumerate(names, start=1) if name in wanted), 0) for wanted in RGB_NAMES]
    if all(by_name):
        return tuple(by_name)
    if found.count in (12, 13):
        return 4, 3, 2
    if found.count == 3:
        return 1, 2, 3
    raise InputError(
        f"'{path}' has {found.count} bands without names: red, green and blue are known in 3, 12 or 13 bands only"
    )


def read_bands(path: Path, bands: tuple[int, ...]) -> np.ndarray:
    """Bands as float32 (C, H, W), NaN where the file declares no data."""
    with _opened(path) as file:
        return file.read(bands, masked=True, out_dtype=np.float32).filled(np.nan)


def to_linear(db: np.ndarray) -> np.ndarray:
    """Decibels to linear power."""
    return np.power(10, db / 10, dtype=np.float32)


def to_db(power: np.ndarray) -> np.ndarray:
    """Linear power to decibels; what is not above zero becomes NaN."""
    return 10 * np.log10(np.where(power > 0, power, np.nan), dtype=np.float32)


def warp(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Values (C, H, W) float32 with NaN, bilinear onto another grid; outside is NaN. The same grid costs nothing."""
    if source == target:
        return values
    out = np.full((len(values), target.height, target.width), np.nan, np.float32)
    places = {
        "src_transform": source.transform,
        "src_crs": source.crs,
        "dst_transform": target.transform,
        "dst_crs": target.crs,
    }
    reproject(values, out, **places, src_nodata=np.nan, dst_nodata=np.nan, resampling=Resampling.bilinear)
    return out


def codes_on(path: Path, target: Grid) -> np.ndarray:
    """A land-cover file's first band, nearest neighbour onto a grid: (H, W) uint8, 0 outside and for no data.

    Every pixel takes the code that its centre falls on, exactly: GDAL's warper approximates positions to an eighth of a
    pixel, and moves a valid code that equals the target's no data to the next one (0 would become 1, water).
    """
    out = np.zeros((target.height, target.width), np.uint8)
    with _opened(path) as file:
        if file.crs is None or (file.crs, file.transform, file.shape) == (target.crs, target.transform, out.shape):
            return file.read(1, masked=True).filled(0).astype(np.uint8)
        for start in range(0, target.height, 256):  # a band of rows at a time, for bounded memory
            part = out[start : start + 256]
            row, column = (np.indices(part.shape) + 0.5).reshape(2, -1)
            x, y = transform(target.crs, file.crs, *(target.transform @ (column, row + start)))
            columns, rows = np.floor(~file.transform @ (np.array(x), np.array(y))).astype(int)
            inside = (rows >= 0) & (rows < file.height) & (columns >= 0) & (columns < file.width)
            if inside.any():
                rows, columns = rows[inside], columns[inside]
                top, left = rows.min(), columns.min()
                window = Window(left, top, columns.max() - left + 1, rows.max() - top + 1)
                codes = file.read(1, window=window, masked=True).filled(0)
                part.reshape(-1)[inside] = codes[rows - top, columns - left]
    return out


def check_units(values: np.ndarray, units: str, path: Path) -> None:
    """Refuse values that contradict the declared units, saying what was found. `values` may hold NaN."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return
    low, high = float(finite.min()), float(finite.max())
    found = f"'{path}' is declared '{units}' but holds values from {low:.4g} to {high:.4g}"
    if units == "dB" and low >= 0:
        raise InputError(
            f"{found}: decibels of land and sea are mostly negative, so set sar_units to 'linear' or '8-bit'"
        )
    if units == "linear" and low < 0:
        raise InputError(f"{found}: power is never negative, so set sar_units to 'dB'")
    if units == "linear" and high > 10_000:
        raise InputError(f"{found}: that is no calibrated sigma0; calibrate it, or scale it to 8 bits and say '8-bit'")
    if units == "8-bit" and (low < 0 or high > 255 or (finite != np.round(finite)).any()):
        raise InputError(f"{found}: 8-bit means whole numbers from 0 to 255")
    if units == "reflectance x 10000" and high <= 2:
        raise InputError(f"{found}: multiply reflectance of 0 to 1 by 10000")
    if units == "reflectance x 10000" and (finite == np.round(finite)).all() and 250 <= high <= 255:
        raise InputError(f"{found}: that is an 8-bit image, so set opt_units to '8-bit'")


def optical_no_data(opt: np.ndarray, units: str) -> np.ndarray:
    """Set pixels that hold nothing to NaN: zero in all bands; in 8-bit images solid white wedges as well.

    Archives of 8-bit images fill what a satellite did not see with black or white. White is also where a stretched
    image saturates (roofs of 200 m in Los Angeles), so it counts only in solid squares of `WEDGE`.
    """
    empty = (opt == 0).all(0)
    white = (opt == 255).all(0)
    if units == "8-bit" and white.any():
        empty |= ndimage.maximum_filter(ndimage.minimum_filter(white, WEDGE), WEDGE)
    return np.where(empty, np.float32(np.nan), opt)


def _read_pair(sar_path, opt_path, lulc_path, target: Grid, sar_units: str, opt_units: str, opt_offset: float):
    found = header(sar_path)
    sar = read_bands(sar_path, (1, 2) if found.count == 2 else (1,))  # a grey PNG in three channels repeats itself
    check_units(sar, sar_units, sar_path)
    if sar_units == "8-bit":
        sar = warp(sar, found.grid, target)
    elif sar_units == "linear":
        sar = to_db(warp(sar, found.grid, target))
    elif found.grid != target:
        sar = to_db(warp(to_linear(sar), found.grid, target))
    found = header(opt_path)
    opt = read_bands(opt_path, rgb_bands(opt_path, found))
    check_units(opt, opt_units, opt_path)
    opt = np.maximum(optical_no_data(opt, opt_units) - opt_offset, 0)
    return sar, warp(opt, found.grid, target), None if lulc_path is None else codes_on(lulc_path, target)


def _by_stem(folder: str | Path | None, what: str) -> dict[str, Path]:
    if folder is None or not Path(folder).is_dir():
        raise InputError(f"{what} '{folder}' is not a folder: give the folder that holds the images")
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise InputError(f"'{path}' and '{found[path.stem].name}' in {what} have the same id: keep one of them")
            found[path.stem] = path
    if not found:
        raise InputError(f"{what} '{folder}' holds no GeoTIFF, PNG or JPEG")
    return found


def folder_scenes(
    sar_dir: str | Path,
    opt_dir: str | Path,
    lulc_dir: str | Path | None = None,
    *,
    pairs_csv: str | Path | None = None,
    group_column: str | None = None,
    sar_units: str = "dB",
    opt_units: str = "reflectance x 10000",
    opt_offset: float = 0,
    grid: str = "optical",
) -> list[Scene]:
    """Scenes from folders of your own pairs, each pair on the grid of its optical (or SAR) image.

    Files pair by their name without suffix. `pairs_csv` chooses and names pairs: column `id` (or the first), optional
    `s1`, `s2`, `lulc` (file names in their folders; default the id), `date`, `season`, `opt_offset` and a group.
    SAR has one or two bands; optical is three bands, or Sentinel-2's 12 or 13. `opt_offset` is taken from stored
    reflectance (1000 for Level-2A of processing baseline 04.00 and later). Without geography both images of a pair must
    have the same size. Raises InputError for anything missing, doubled or contradictory, naming the file.
    """
    if grid not in ("optical", "sar"):
        raise InputError(f"grid '{grid}' is unknown: choose 'optical' or 'sar'")
    sources = {"s1": _by_stem(sar_dir, "sar_dir"), "s2": _by_stem(opt_dir, "opt_dir")}
    if lulc_dir is not None:
        sources["lulc"] = _by_stem(lulc_dir, "lulc_dir")
    if pairs_csv is None:
        table = pd.DataFrame({"id": sorted(sources["s2"])})
        for stem in sorted(set(sources["s1"]) - set(sources["s2"])):
            raise InputError(
                f"'{sources['s1'][stem]}' has no partner in opt_dir: add '{stem}' there or list pairs in a pairs_csv"
            )
    else:
        if not Path(pairs_csv).is_file():
            raise InputError(f"pairs_csv '{pairs_csv}' does not exist")
        table = pd.read_csv(pairs_csv, dtype=str, keep_default_na=False)
        if "id" not in table:
            table = table.rename(columns={table.columns[0]: "id"})
    if group_column and group_column not in table:
        raise InputError(f"pairs_csv '{pairs_csv}' has no column '{group_column}': it has {', '.join(table)}")
    if table["id"].duplicated().any():
        raise InputError(f"pairs_csv '{pairs_csv}' lists id '{table['id'][table['id'].duplicated()].iloc[0]}' twice")
    scenes = []
    for row in table.sort_values("id").to_dict("records"):
        paths = {}
        for kind, found in sources.items():
            name = row.get(kind) or row["id"]
            path = found.get(name) or found.get(Path(name).stem)
            if path is None:
                raise InputError(
                    f"pair '{row['id']}' has no '{name}' in {dict(s1='sar', s2='opt').get(kind, kind)}_dir"
                )
            paths[kind] = path
        heads = {kind: header(path) for kind, path in paths.items()}
        target = heads["s2" if grid == "optical" else "s1"].grid
        for kind, head in heads.items():
            same = (head.grid.height, head.grid.width) == (target.height, target.width)
            if (head.grid.crs is None) != (target.crs is None) or (target.crs is None and not same):
                raise InputError(
                    f"'{paths[kind]}' cannot be laid over its partner: one has no geography and sizes or CRS differ"
                )
        if heads["s1"].count > 3:
            raise InputError(f"'{paths['s1']}' has {heads['s1'].count} bands: SAR is one (VV or VH) or two (VV, VH)")
        rgb_bands(paths["s2"], heads["s2"])
        offset = float(row.get("opt_offset") or opt_offset)
        args = (paths["s1"], paths["s2"], paths.get("lulc"), target, sar_units, opt_units, offset)
        extra = {"group": row.get(group_column, ""), "season": row.get("season", ""), "date": row.get("date", "")}
        scenes.append(Scene(row["id"], target, tuple(paths.values()), partial(_read_pair, *args), **extra))
    return scenes


def area_mean(values: np.ndarray, factor: int) -> np.ndarray:
    """Mean of the valid pixels of each `factor` x `factor` block, NaN where none is.

    (C, H, W) float32 → (C, H // factor, W // factor) float32.
    """
    c, h, w = values.shape
    h, w = h // factor, w // factor
    blocks = values[:, : h * factor, : w * factor].reshape(c, h, factor, w, factor)
    count = np.isfinite(blocks).sum((2, 4))
    total = np.nansum(blocks, axis=(2, 4), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan).astype(np.float32)


def majority(codes: np.ndarray, factor: int) -> np.ndarray:
    """Most frequent code of each `factor` x `factor` block, the smaller code on a tie.

    (H, W) uint8 → (H // factor, W // factor) uint8.
    """
    h, w = codes.shape[0] // factor, codes.shape[1] // factor
    blocks = codes[: h * factor, : w * factor].reshape(h, factor, w, factor)
    present = np.unique(codes)  # ascending, so that argmax keeps the smaller code
    counts = np.stack([(blocks == code).sum((1, 3)) for code in present])  # (codes, h, w)
    return present[counts.argmax(0)].astype(np.uint8)
