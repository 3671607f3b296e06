"""A SAR raster of any kind as a generator asks for it: which bands, in which units, and where there is data.

What holds no data and what is refused is decided by `rasters`, as for the scenes that a data set is built of.

What can be told from the file is told from it and said; what cannot is refused with the reason, before any work.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from scipy import ndimage

from s2olib.data.rasters import (
    POLARISATIONS,
    SAR_FILL,
    SAR_FULL,
    SAR_STORED,
    SAR_UNITS,
    check_order,
    check_stored,
    check_units,
    has_mask_band,
    polarisation,
    sar_db,
    sar_no_data,
    to_db,
    values_of,
)
from s2olib.project import InputError

BORDER_DB, BORDER, SOLID = -30, 64, 9  # border noise: darker in every band, so near to no data so wide (pixels)
CROSSED_DB = -40  # the same where a cross-polarised band is read alone, in which calm water is darker than that


@dataclass(frozen=True)
class Scene:
    """An open SAR raster and how its values become those that a generator was trained on."""

    file: rasterio.DatasetReader
    indexes: tuple[int, ...]  # 1-based bands in the weights' order
    units: str  # of the file: dB, linear or 8-bit
    stretch: tuple[float, float] | None  # dB that become grey levels 0 and 255
    notes: tuple[str, ...]
    border_db: float = BORDER_DB

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values (Cs, H, W) float32 in the weights' units and valid (H, W); invalid values are undefined.

        No data is what `rasters.values_of`, `sar_no_data` and `sar_db` take for it, and border noise. Raises
        `InputError` for a damaged file, for values that no radar gives, and among 8-bit ones for others.
        """
        try:
            values = values_of(self.file, self.indexes, window)
        except RasterioError as error:
            raise InputError(f"'{_path(self.file)}' cannot be read to its end: fetch it again ({error}).") from error
        if self.units == "8-bit":
            if (values < 0).any() or (values > 255).any():
                raise InputError(
                    f"'{_path(self.file)}' holds 8-bit values and others, from {np.nanmin(values):g} to "
                    f"{np.nanmax(values):g}: declare in the file which one means no data (gdal_edit.py -a_nodata)."
                )
            return values, np.isfinite(values).all(0)
        values = sar_no_data(values, _path(self.file))
        if self.units == "linear":
            values = sar_db(values)
        nothing = np.isnan(values).any(0)
        dark = (values < self.border_db).all(0) & ~nothing
        if dark.any() and nothing.any():  # calm water is as dark here and there, but neither solid nor at the border
            near = ndimage.maximum_filter(ndimage.minimum_filter(nothing, SOLID), SOLID + 2 * BORDER)
            nothing |= dark & near & (ndimage.uniform_filter(np.float32(dark | nothing), SOLID) > 0.5)
        if self.stretch:
            values -= self.stretch[0]
            values *= 255 / (self.stretch[1] - self.stretch[0])
        return values, ~nothing

    def rows(self, top: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Whole rows, read with their neighbourhood so that the mask does not depend on where rows are cut."""
        above, below = min(top, BORDER + SOLID), min(self.file.height - top - height, BORDER + SOLID)
        values, valid = self.read(Window(0, top - above, self.file.width, above + height + below))
        return values[:, above : above + height], valid[above : above + height]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[rasterio.DatasetReader]:
    """The raster as it is; one that has ground control points instead of a grid is warped to its UTM zone.

    Nearest neighbour: it changes neither units nor speckle. Raises `InputError` for a file that cannot be read, holds
    complex numbers, declares values to be scaled, or has such points on both sides of 180 degrees.
    """
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            file = stack.enter_context(rasterio.open(path))
        except RasterioError as error:
            raise InputError(f"'{path}' cannot be read as a raster: give a whole GeoTIFF ({error}).") from error
        check_stored(path, file, SAR_STORED)
        points, crs = file.gcps
        if file.crs is None and points:
            if crs is None or not crs.is_geographic:
                raise InputError(f"'{path}' has ground control points but no longitudes: warp it with gdalwarp first.")
            longitudes = np.array([point.x for point in points])
            if np.ptp(longitudes) > 180 or abs(longitudes).max() > 180:  # GDAL would find one side's pixels alone
                raise InputError(
                    f"'{path}' lies on both sides of 180 degrees: terrain-correct it first, or cut it there."
                )
            x, y = longitudes.mean(), np.mean([point.y for point in points])
            zone = 32601 + int((x + 180) // 6) % 60 + 100 * (y < 0)
            nodata = {"nodata": np.nan, "dtype": "float32"} if file.nodata is None else {}  # outside is not zero
            file = stack.enter_context(
                WarpedVRT(
                    file,
                    src_crs=crs,
                    crs=f"EPSG:{zone}",
                    resampling=Resampling.nearest,
                    GCP_ANTIMERIDIAN_UNWRAP="NO",  # which GDAL does near 180 degrees, and then finds no pixel
                    **nodata,
                )
            )
        yield file


def _path(file: rasterio.DatasetReader) -> Path:
    """Where an `opened` raster comes from."""
    warped = isinstance(file, WarpedVRT)
    return Path(file.name.removeprefix("WarpedVRT(").removesuffix(")") if warped else file.name)


def describe(
    file: rasterio.DatasetReader,
    config: dict,
    bands: Sequence[str] = (),
    sar_units: str = "auto",
    stretch: tuple[float, float] | None = None,
) -> Scene:
    """Match an open raster with what a checkpoint's `config` asks for; `InputError` says why it cannot be.

    Polarisations are read off band names; units are told by, or checked against, the values of 16 windows, and so is
    the order of VV and VH.
    """
    name, trained, notes = _path(file).name, config["sar"]["units"], []
    indexes = _choose(file, name, config["sar"]["bands"], bands, notes)
    border_db = CROSSED_DB if {*config["sar"]["bands"]} <= {"VH", "HV"} else BORDER_DB
    scene = Scene(file, indexes, "dB", None, (), border_db)  # which leaves values as they are
    values = _sample(scene, name)
    low, high, middle = float(values.min()), float(values.max()), float(np.median(values))
    units = sar_units
    if sar_units == "auto":
        whole = file.dtypes[indexes[0] - 1] == "uint8" or (low >= 0 and 100 < high <= 255 and not (values % 1).any())
        units = "8-bit" if whole else "dB" if middle < 0 else "linear"
        notes.append(f"Units taken as {units}: values from {low:.4g} to {high:.4g}.")
    elif sar_units not in SAR_UNITS:
        raise InputError(f"sar_units '{sar_units}' is unknown: choose 'auto' or one of {', '.join(SAR_UNITS)}.")
    if units != "8-bit" and not -60 < middle < 10:
        raise InputError(
            f"'{name}' holds values around {middle:.4g}: that is no sigma0, so calibrate or rescale it first."
        )
    check_units(values, units, Path(name))
    if units != "8-bit":
        power_db = to_db(values) if units == "linear" else values
        check_order(power_db[:, None], config["sar"]["bands"], Path(name))
    if trained == "dB" and units == "8-bit":
        raise InputError(f"'{name}' holds grey levels, and the weights ask for dB, which cannot be got back from them.")
    if trained == "8-bit" and units != "8-bit" and not stretch:
        raise InputError(
            f"'{name}' is in {units}, and the weights were trained on 8-bit images: choose the decibels that become 0 "
            "and 255 with stretch (--stretch LOW HIGH)."
        )
    if stretch and (trained == "dB" or units == "8-bit"):
        raise InputError(f"stretch is for decibels and weights trained on 8-bit images, not for '{name}' with these.")
    if units == "linear":
        notes.append("Linear power was converted to dB.")
    if stretch:
        notes.append("Decibels were stretched to grey levels: what the weights make of that was never measured.")
    if file.crs is None:
        notes.append("The raster has no coordinate reference system, and neither has the result.")
    elif isinstance(file, WarpedVRT):
        notes.append(f"Ground control points were followed onto a grid of {file.crs.to_string()}.")
    scene = replace(scene, units=units, stretch=stretch)
    low, high = np.array(config["sar"]["limits"], np.float32).T[:, :, None]
    values = _sample(scene, name)
    outside = ((values < low) | (values > high)).mean()
    if outside > 0.2:
        notes.append(f"{outside:.0%} of the values lie outside the limits that the weights were trained with.")
    return replace(scene, notes=tuple(notes))


def _choose(file, name: str, wanted: list[str], bands: Sequence[str], notes: list[str]) -> tuple[int, ...]:
    """The 1-based bands of `file` that are `wanted`, or those that the user named in that order."""
    if ColorInterp.palette in file.colorinterp:
        raise InputError(f"'{name}' holds numbers of a palette's colours: save it as grey.")
    names = [(text or "").strip() for text in file.descriptions][: file.count - has_mask_band(file)]
    count = len(names)
    shown = f"'{name}' has {count} band{'s' * (count > 1)} ({', '.join(text or 'unnamed' for text in names)})"
    ask = f"the weights ask for {len(wanted)} ({', '.join(wanted)})"
    if bands:
        if len(bands) != len(wanted):
            raise InputError(f"{len(bands)} bands are given ({', '.join(map(str, bands))}), but {ask}.")
        lookup = {text.upper(): i for i, text in enumerate(names, 1)} | {str(i): i for i in file.indexes[:count]}
        for band in bands:
            if str(band).upper() not in lookup:
                raise InputError(f"{shown}, and no band '{band}'.")
            if [text.upper() for text in names].count(str(band).upper()) > 1:
                raise InputError(f"{shown}, and several bands '{band}': give its number.")
        return tuple(lookup[str(band).upper()] for band in bands)
    kinds = [polarisation(text) for text in names]
    if twice := next((band for band in wanted if kinds.count(band) > 1), None):
        raise InputError(f"{shown}, several of them {twice}: choose by number with bands (--bands).")
    if all(kinds.count(band) == 1 for band in wanted):
        return tuple(kinds.index(band) + 1 for band in wanted)
    if count != len(wanted) or (set(wanted) <= set(POLARISATIONS) and any(kinds)):
        raise InputError(f"{shown}; {ask}: choose them with bands (--bands), or take other weights.")
    notes.append(f"Bands taken by position as {', '.join(wanted)}: their names do not say.")
    return tuple(file.indexes[:count])


def _sample(scene: Scene, name: str) -> np.ndarray:
    """Valid values (Cs, N) from 16 windows spread over the scene, or from the first rows that hold any."""
    height, width, size = scene.file.height, scene.file.width, 256

    def valid_values(window: Window) -> np.ndarray:
        values, valid = scene.read(window)
        return values[:, valid]

    places = [(y, x) for y in (0, 1 / 3, 2 / 3, 1) for x in (0, 1 / 3, 2 / 3, 1)]
    corners = [(round(y * max(0, height - size)), round(x * max(0, width - size))) for y, x in places]
    found = [valid_values(Window(x, y, min(size, width - x), min(size, height - y))) for y, x in corners]
    if any(values.size for values in found):
        return np.concatenate(found, 1)
    for top in range(0, height, size):
        if (values := valid_values(Window(0, top, width, min(size, height - top)))).size:
            return values
    raise InputError(
        f"'{name}' holds no valid pixel, only declared no data, zeros or numbers below {SAR_FILL} or above {SAR_FULL}: "
        "there is nothing to translate, unless these are values, to be calibrated or rescaled first."
    )
