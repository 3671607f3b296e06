"""Rasters of any kind onto one grid: scenes of aligned SAR, optical and land-cover arrays, and folders of your own
pairs.

A scene reads as float32 with NaN for no data. SAR that is physical is sigma0 in dB whatever the file holds;
resampling it happens in linear power, since the mean of decibels is not the decibel of the mean.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
import struct
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, lru_cache, reduce
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from numpy import ma  # which NumPy would load in every worker
from numpy.polynomial.chebyshev import chebvander
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject, transform, transform_bounds
from rasterio.windows import Window

from s2olib.data.landcover import find_legend
from s2olib.project import InputError, writing

if TYPE_CHECKING:
    import pandas as pd

SAR_UNITS = ("dB", "linear", "8-bit")
OPT_UNITS = ("reflectance x 10000", "8-bit")
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
WEDGE = 33  # pixels
FILL = -2000  # stored reflectance; an offset that was taken off twice gives no less
SAR_FILL = -90  # dB; power is never below zero
STORED = frozenset({1.0, 1e-4})  # scales that files may declare; the latter is Sentinel-2's own
SAR_STORED = frozenset({1.0})  # of radar, which has no such habit
SAR_FULL = 10_000  # no radar gives so much, in dB or as power
DARKEST = np.float32(1e-6)  # linear power: −60 dB, below every instrument's noise
METRES_PER_DEGREE = 110_500  # the least there is, so that distances of degrees err to the near side
COLUMNS = {"id", "s1", "s2", "lulc", "season", "date", "s1_date", "s2_date", "opt_offset"}  # of a list of pairs
SIDECARS = (".aux.xml", ".msk")  # beside a raster, which GDAL reads as well
WORLD_FILES = (".tfw", ".tifw", ".tiffw", ".pgw", ".pngw", ".jgw", ".jpgw", ".jpegw", ".wld")  # so, too: coordinates
UNREAD = (".jp2", ".bmp", ".webp", ".gif", ".img", ".vrt", ".nc", ".hdf", ".h5", ".npy", ".safe", ".zip")  # images, too
FEW = 100  # pixels that say nothing of an image
FORM = 7  # of what is remembered of headers
# Blocks that are kept in memory (MB; the default is a twentieth of it), and no listing of a folder for each file in it
GDAL = {"GDAL_CACHEMAX": 64, "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}
SYNTHETIC = "synthetic, made by s2olib"  # begins what an image says of itself that is no image of anything
RGB = ("red", "green", "blue")
PALETTE = "palette"  # the name of a band without one whose values are numbers of colours
COLOURS = {"RED": "B4", "GREEN": "B3", "BLUE": "B2"}  # Sentinel-2's names of them
LETTERS = {"R": "B4", "G": "B3", "B": "B2"}  # the same, where a name is nothing else
OTHER = {"COASTAL", "EDGE", "REDEDGE", "I", "II"}  # words of bands that are another red, green or blue
POLARISATIONS = ("VV", "VH", "HH", "HV")
L1C = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
L2A = tuple(name for name in L1C if name != "B10")
WORLD = 1e7  # metres, which no scene is wide
SAMPLE = 256  # pixels each way that tell what a band is
PIXELS = Affine.scale(1, -1)  # the transform of an image without geography: north up
Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels


@cache
def metres_of(crs: CRS | None) -> float:
    """Of a unit of a projected CRS, which may be a foot; 1 where there is none."""
    return crs.linear_units_factor[1] if crs and crs.is_projected else 1.0


def is_mercator(crs: CRS) -> bool:
    """Whether a CRS is Mercator's projection, true at the equator: its metres are shorter on the ground, by the cosine
    of the latitude."""
    projection = crs.to_dict()
    return projection.get("proj") in ("merc", "webmerc") and not projection.get("lat_ts")


@dataclass(frozen=True, slots=True)
class Grid:
    """North-up pixels on the ground; `crs` is None for an image without geography."""

    crs: CRS | None
    transform: Affine
    height: int
    width: int

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in the CRS."""
        place = self.transform
        return place.c, self.height * place.e + place.f, self.width * place.a + place.c, place.f

    @property
    def lonlat_bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees; east is beyond 180 where the grid crosses the antimeridian."""
        west, south, east, north = transform_bounds(self.crs, "EPSG:4326", *self.bounds, densify_pts=21)
        return west, south, east + 360 * (east < west), north

    def lonlat(self, column: float, row: float) -> tuple[float, float]:
        """Longitude and latitude of a pixel position (0, 0 is the upper left corner of the upper left pixel)."""
        x, y = self.transform @ (column, row)
        (lon,), (lat,) = transform(self.crs, "EPSG:4326", [x], [y])
        return lon, lat

    def coarser(self, factor: int) -> Grid:
        """The grid of `factor` x `factor` blocks of pixels; an incomplete last column or row is left off."""
        if factor == 1:
            return self
        return Grid(self.crs, self.transform @ Affine.scale(factor), self.height // factor, self.width // factor)

    def window(self, row: int, column: int, size: int) -> Grid:
        """The grid of a square part."""
        return self.part(row, column, size, size)

    def part(self, row: int, column: int, height: int, width: int) -> Grid:
        """The grid of so many rows and columns from a pixel on."""
        place = self.transform
        corner = column * place.a + place.c, row * place.e + place.f
        return Grid(self.crs, Affine(place.a, 0.0, corner[0], 0.0, place.e, corner[1]), height, width)

    def position_of(self, part: Grid) -> tuple[int, int] | None:
        """Row and column at which another grid begins in this one; None unless its pixels are some of this one's."""
        shift = ~self.transform @ part.transform
        row, column = round(shift.f), round(shift.c)
        off = max(abs(shift.c - column), abs(shift.f - row))
        off = max(off, abs(shift.a - 1) * part.width, abs(shift.e - 1) * part.height)
        inside = 0 <= row <= self.height - part.height and 0 <= column <= self.width - part.width
        return (row, column) if part.crs == self.crs and off < 1e-3 and inside else None


@dataclass(frozen=True, slots=True)
class Scene:
    """One place at one time.

    `read` gives sar (Cs, H, W) and opt (3, H, W) float32 with NaN, and codes (H, W) uint8 or None. Given the boxes of
    pixels that are wanted it gives all rows between the first and the last row of them, in full width, and may leave
    out what meets no box.
    """

    id: str
    grid: Grid
    state: str  # of its files (`state_of`)
    read: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray | None]]
    sar_bands: tuple[str, ...]
    group: str = ""
    season: str = ""
    date: str = ""  # of the optical image
    sar_date: str = ""
    empty: bool = False  # there is no ground that both images show
    density: float = 1.0  # pixels that are read for one of the grid's
    opt_offset: float = 0.0  # that reading takes from stored reflectance
    synthetic: bool = False  # its files say that this library made it up


@dataclass(frozen=True, slots=True)
class Header:
    """What a raster file says of itself.

    `start` is the byte from which its pixels lie in the file as an array (H, W, C) without no data lies in memory; None
    where they lie otherwise.
    """

    grid: Grid
    count: int
    dtype: str
    names: tuple[str | None, ...]
    start: int | None = None
    unplaced: Affine | None = None  # coordinates without a CRS
    synthetic: bool = False  # it says that this library made it up

    @property
    def nbytes(self) -> int:
        """Of all pixels."""
        return self.grid.height * self.grid.width * self.count * np.dtype(self.dtype).itemsize


@contextmanager
def _opened(path: Path) -> Iterator[rasterio.DatasetReader]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                yield file
    except RasterioIOError as error:
        raise InputError(f"'{path}' cannot be read as a raster: give a whole GeoTIFF, PNG or JPEG ({error})") from error


def header(path: Path, scales: AbstractSet[float] = STORED) -> Header:
    """Read a raster's header. Raises InputError for a file that is missing, unreadable, complex, rotated, or scaled
    otherwise than by `scales`.

    A last band that says where the image is transparent, and has no other name, is a mask, and not counted.
    """
    with _opened(path) as file:
        check_stored(path, file, scales)
        tags = file.tags()
        if tags.get("EXIF_Orientation", "1") not in ("0", "1"):
            raise InputError(f"'{path}' is to be shown turned, by its EXIF orientation: turn its pixels and save it so")
        place = file.transform if file.crs else PIXELS
        grid = Grid(file.crs, place, file.height, file.width)
        if file.crs and not (file.crs.is_projected or file.crs.is_geographic):
            raise InputError(f"'{path}' has a coordinate reference system of no place on Earth: warp it to one that is")
        count = file.count - has_mask_band(file)
        found = Header(grid, count, file.dtypes[0], _names(file, count))
        coordinates = None if file.crs or file.transform.is_identity else file.transform
        synthetic = tags.get("TIFFTAG_IMAGEDESCRIPTION", "").startswith(SYNTHETIC)
        found = replace(found, start=_start(path, file, found), unplaced=coordinates, synthetic=synthetic)
    if grid.crs is not None and (
        grid.transform.b or grid.transform.d or grid.transform.a <= 0 or grid.transform.e >= 0
    ):
        raise InputError(f"'{path}' is rotated or flipped: warp it to a north-up grid first")
    if grid.crs is not None and not _on_earth(grid):
        raise InputError(
            f"'{path}' has coordinates that its CRS, {grid.crs.to_string()}, cannot have: give it the right one "
            "(gdal_edit.py -a_srs)"
        )
    return found


def description(path: str | Path) -> str:
    """What a raster says of itself, in the tag that images have for it."""
    with _opened(Path(path)) as file:
        return file.tags().get("TIFFTAG_IMAGEDESCRIPTION", "")


def _on_earth(grid: Grid) -> bool:
    """Whether a grid's corners are places at all, and its pixels no smaller than a centimetre: degrees that are taken
    for metres are."""
    try:
        west, south, east, north = grid.lonlat_bounds
    except (RasterioError, CPLE_BaseError):
        return False
    centimetres = grid.transform.a * metres_of(grid.crs) > 0.01 or not grid.crs.is_projected
    return centimetres and max(abs(south), abs(north)) < 90.01 and max(abs(west), abs(east)) < 720


def has_mask_band(file: rasterio.DatasetReader) -> bool:
    """Does the last band say where the image is transparent, and has no name but that?

    Of four bands of bytes, and of two of a PNG, GDAL takes the last for that, whatever it holds. It is, where nearly
    all of it is either clear or as opaque as any, and what is clear all over is empty, too: looked at in a sample of
    the pixels.
    """
    name = (file.descriptions[-1] or "").strip().lower()
    if file.colorinterp[-1] != ColorInterp.alpha or name not in ("", "alpha"):
        return False
    if not (file.count == 2 or (file.count == 4 and file.dtypes[-1] == "uint8")):
        return True
    shape = (min(file.height, SAMPLE), min(file.width, SAMPLE))
    first, last = file.read((1, file.count), out_shape=(2, *shape))
    opaque = last == last.max()
    return bool((opaque | (last == 0)).mean() > 0.9 and (last.any() or not first.any()))


def check_stored(path: Path, file: rasterio.DatasetReader, scales: AbstractSet[float] = STORED) -> None:
    """Refuse an open raster, naming it, that has no bands, or whose stored numbers are not its values: complex, or
    declared to be scaled otherwise than by `scales`."""
    if not file.count:
        raise InputError(f"'{path}' holds several rasters and no bands of its own: write one of them as a GeoTIFF")
    if "complex" in file.dtypes[0]:
        raise InputError(f"'{path}' holds complex numbers: make calibrated sigma0 of it first")
    if any(file.offsets) or not {*file.scales} <= scales:
        raise InputError(
            f"'{path}' declares values to be scaled by {file.scales[0]:g} and moved by {file.offsets[0]:g}: write them "
            "so (gdal_translate -unscale -ot Float32; reflectance x 10000), for they are taken as stored"
        )


def _names(file: rasterio.DatasetReader, count: int) -> tuple[str | None, ...]:
    """The names of so many bands; where these say nothing ("Band 1"), the bands' colours, if they are a palette's or
    say more than that the first three are red, green and blue.

    That much a file of four bytes a pixel says of itself by default, the last being alpha; and of 12 or 13 bands, whose
    order is known, it may be meant for the eye.
    """
    names, colours = file.descriptions[:count], tuple(colour.name for colour in file.colorinterp)[:count]
    if colours[0] != PALETTE:
        plain = colours[:3] == RGB and count in (3, len(L2A), len(L1C))
        if plain or "alpha" in colours or not set(RGB) <= set(colours):
            return names
    return names if any(re.sub(r"(?i)band|[\W\d_]", "", name or "") for name in names) else colours


def _start(path: Path, file: rasterio.DatasetReader, found: Header) -> int | None:
    """`Header.start` of an open file, for little-endian GeoTIFFs that have their strips in order and last."""
    start = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1) or 0) if file.driver == "GTiff" else 0
    strip = math.prod(file.block_shapes[0]) * found.count * np.dtype(found.dtype).itemsize
    order = np.arange(start, start + found.nbytes, strip, "<u4").tobytes()
    mixed = file.count == 1 or file.interleaving == Interleaving.pixel
    plain = file.compression is None and file.block_shapes[0][1] == file.width
    valid = all(flags == [MaskFlags.all_valid] for flags in file.mask_flag_enums)
    head = _head(path, start) if mixed and plain and valid else b""
    return start if head[:2] == b"II" and order in head and path.stat().st_size == start + found.nbytes else None


def _head(path: str | Path, size: int) -> bytes:
    with suppress(OSError):  # GDAL says what is wrong
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            return os.read(file, size)
        finally:
            os.close(file)
    return b""


def sidecars(files: Iterable[str]) -> dict[str, list[str]]:
    """Masks, notes and coordinates that lie beside some of these files and are read with them."""
    found: dict[str, list[str]] = {}
    for folder in dict.fromkeys(os.path.dirname(file) for file in files):
        with suppress(OSError):  # whoever needs a file that is not there will say so
            names = os.listdir(folder)
            for name in sorted(name for name in names if name.lower().endswith((*SIDECARS, *WORLD_FILES))):
                stem, end = os.path.splitext(name)
                ends = (*SUFFIXES, *map(str.upper, SUFFIXES)) if end.lower() in WORLD_FILES else ()
                of = [stem + suffix for suffix in ends]
                of += [name.removesuffix(end) for end in SIDECARS if name.endswith(end)]
                for file in of:
                    found.setdefault(os.path.join(folder, file), []).append(os.path.join(folder, name))
    return found


def state_of(files: Iterable[str], beside: dict[str, list[str]]) -> str:
    """Fingerprint of files' names, sizes and times, and of those of what lies `beside` them and is read with them."""
    digest = hashlib.sha256()
    for name in (name for file in files for name in (file, *beside.get(file, ()))):
        try:
            stat = os.stat(name)
        except OSError as error:
            hidden = isinstance(error, PermissionError)
            raise InputError(f"'{name}' {'may not be looked at' if hidden else 'does not exist'}") from None
        digest.update(f"{'/'.join(name.split(os.sep)[-2:])} {stat.st_size} {stat.st_mtime_ns} ".encode())
    return digest.hexdigest()[:24]


def _folder_headers(sizes: dict[str, int], beside: dict[str, list[str]]) -> list[Header]:
    """The headers of files of one folder, given with their sizes.

    Those of an archive are mostly alike: what comes before the pixels differs in nothing but the 16 bytes of the upper
    left corner. GDAL takes two milliseconds for a CRS; seeing that all other bytes are those of a file that it has read
    is as sure, and takes a fiftieth.
    """
    found: list[Header] = []
    alike, before, after = -1, b"", b""  # of the last file that GDAL read: its size, and its bytes around the corner
    for path, size in sizes.items():
        alone = path not in beside
        if alone and size == alike:
            last = found[-1]
            head, grid = _head(path, last.start), last.grid
            if head.startswith(before) and head.endswith(after):
                x, y = struct.unpack("<2d", head[len(before) : -len(after)])
                place = Affine(grid.transform.a, 0.0, x, 0.0, grid.transform.e, y)
                found.append(replace(last, grid=Grid(grid.crs, place, grid.height, grid.width)))
                continue
        with rasterio.Env(**GDAL):  # of the thread that calls
            head = header(Path(path))
        if head.grid.crs:  # files that are alike share one, also with other folders: it takes long to compare two
            head = replace(head, grid=replace(head.grid, crs=crs_of(head.grid.crs.to_string())))
        found.append(head)
        corner = struct.pack("<2d", found[-1].grid.transform.c, found[-1].grid.transform.f)
        parts = _head(path, found[-1].start or 0).split(corner)
        alike, before, after = (size, *parts) if len(parts) == 2 and alone else (-1, b"", b"")
    return found


@lru_cache
def crs_of(text: str) -> CRS:
    """A CRS by its name, parsed once."""
    return CRS.from_string(text)


def headers(files: Sequence[str], beside: dict[str, list[str]], cache: Path) -> dict[str, Header]:
    """The headers of files, remembered in `cache` by name, size and time, where that can be written to.

    Files are given by the text of their paths, since a hundred thousand paths take longer to be looked up than to be
    read; `beside` says what lies beside them (`sidecars`).
    """
    known: dict[str, list] = {}
    with suppress(OSError, ValueError, TypeError):  # what cannot be read is made again
        known = dict(json.loads(cache.read_bytes()))
    states = {path: [FORM, *_state(path), [_state(name) for name in beside.get(path, ())]] for path in files}
    heads: dict[str, Header] = {}
    folders: dict[str, dict[str, int]] = {}  # path and size of what is not known
    for path, state in states.items():
        folder, _, name = path.rpartition(os.sep)
        if known.get(name, [])[: len(state)] != state:
            folders.setdefault(folder, {})[path] = state[1]
    crs, text = None, None
    for path, head in zip(
        chain(*folders.values()), chain(*(_folder_headers(of, beside) for of in folders.values())), strict=True
    ):
        heads[path] = head
        grid, place = head.grid, head.grid.transform
        if grid.crs is not crs:  # files that are alike share one, and naming it takes longer than all else here
            crs, text = grid.crs, grid.crs and grid.crs.to_string()
        parts = place.a, place.c, place.e, place.f, grid.height, grid.width
        said = text, *parts, head.count, head.dtype, head.names, head.start, head.synthetic
        known[os.path.basename(path)] = [*states[path], *said]
    if folders:
        with suppress(OSError), writing(cache) as aside:
            aside.write_text(json.dumps(known))
    for path in (path for path in files if path not in heads):
        said = known[os.path.basename(path)][len(states[path]) :]
        crs, a, c, e, f, height, width, count, dtype, bands, start, synthetic = said
        grid = Grid(crs and crs_of(crs), Affine(a, 0.0, c, 0.0, e, f), height, width)
        heads[path] = Header(grid, count, dtype, tuple(bands), start, synthetic=synthetic)
    return heads


def _state(path: str) -> list[int]:
    """Size and time, which tell a file from a later one of its name."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}): fetch it, or remove the patch") from error
    return [found.st_size, found.st_mtime_ns]


def band_name(name: str | None) -> str:
    """A band's name as Sentinel-2 has it, which it holds as a word: B04, red, B4_10m and B4 are one."""
    name = (name or "").strip().upper()
    if name in COLOURS | LETTERS:
        return (COLOURS | LETTERS)[name]
    words = (re.sub("^B0", "B", word) for word in re.split("[^A-Z0-9]+", name))
    words = [word for word in words if word]
    found = {COLOURS.get(word, word) for word in words} & set(L1C)
    return found.pop() if len(found) == 1 and not OTHER & {*words} else name


def optical_bands(path: Path, found: Header, wanted: Sequence[str] = RGB) -> tuple[int, ...]:
    """1-based places of the wanted bands: by description where the file names them, else by position.

    13 bands are Sentinel-2's of Level-1C, 12 those of Level-2A (no B10); as many as wanted are taken as they come.
    Raises InputError, naming the file, where a band cannot be found.
    """
    names, asked = [band_name(name) for name in found.names], [band_name(name) for name in wanted]
    _check_palette(path, found)
    if not set(asked) <= set(names):
        if found.count == len(asked) and not set(L1C) & set(names):
            return tuple(range(1, found.count + 1))
        names = {13: L1C, 12: L2A}.get(found.count, names) if not set(L1C) & set(names) else names
    for name, band in zip(wanted, asked, strict=True):
        if list(names).count(band) > 1:
            raise InputError(
                f"'{path}' has several bands that are '{name}': keep one of them, or name the others apart"
            )
        if band not in names:
            raise InputError(
                f"'{path}' has {found.count} bands and none is known as '{name}': name them in the file, give "
                f"{len(wanted)}, 12 or 13 without names, or ask for bands as Sentinel-2 names them (B1 to B12, B8A)"
            )
    return tuple(list(names).index(band) + 1 for band in asked)


def polarisation(name: str | None) -> str:
    """The polarisation that a band's name holds as a word ("Sigma0_VV", "vh", "VVdB"); empty for none or several."""
    words = (word.removesuffix("DB") for word in re.split("[^A-Z]+", (name or "").upper()))
    found = {word for word in words if word in POLARISATIONS}
    return found.pop() if len(found) == 1 else ""


def sar_bands(path: Path, found: Header, wanted: Sequence[str] | None = None) -> dict[str, int]:
    """Polarisations and their 1-based places: by description where the file names them, else VV, VH in this order, or
    two that are `wanted`.

    Without `wanted` it is all there are, with it those, in the same order; a single band without a name, or a grey
    8-bit image in three channels, is "SAR".
    Raises InputError, naming the file, where one is missing.
    """
    kinds, wanted = [polarisation(name) for name in found.names], [name.upper() for name in wanted or ()]
    _check_palette(path, found)
    if any(kinds):
        for kind in (kind for kind in POLARISATIONS if kinds.count(kind) > 1):
            several = ", ".join(name for name, of in zip(found.names, kinds, strict=True) if of == kind and name)
            raise InputError(f"'{path}' has several bands of {kind} ({several}): keep the one that is sigma0")
        there = {kind: kinds.index(kind) + 1 for kind in POLARISATIONS if kind in kinds}
    elif found.count == 2:
        others = len(wanted) == 2 and set(wanted) != {"VV", "VH"}
        there = dict(zip(wanted if others else ("VV", "VH"), (1, 2), strict=True))
    elif found.count == 1 or (found.count == 3 and found.dtype == "uint8"):
        own = (found.names[0] or "").strip().upper() if found.count == 1 else ""
        there = {wanted[0] if len(wanted) == 1 else own or "SAR": 1}
    else:
        raise InputError(f"'{path}' has {found.count} bands without names: SAR is one (VV or VH) or two (VV, VH)")
    for name in wanted:
        if name not in there:
            raise InputError(f"'{path}' has no SAR band '{name}': it has {', '.join(there)}")
    order = dict.fromkeys((*POLARISATIONS, *there))  # any other name is last
    return {name: there[name] for name in order if name in (wanted or there)}


def _check_palette(path: Path, found: Header) -> None:
    if PALETTE in found.names:
        raise InputError(f"'{path}' holds numbers of a palette's colours: save it as grey or RGB")


def read_bands(path: Path, bands: tuple[int, ...], head: Header, part: Window | None = None) -> np.ndarray:
    """`values_of` a file's bands as float32 (C, H, W), or of a part of them; `head` is its `header`."""
    if part is not None and not part.width:
        return np.empty((len(bands), 0, 0), np.float32)
    if head.start is not None and part is None:
        with suppress(OSError):  # GDAL says what is wrong
            pixels = np.fromfile(path, np.dtype(head.dtype).newbyteorder("<"), offset=head.start)
            if pixels.nbytes == head.nbytes:
                pixels = pixels.reshape(head.grid.height, head.grid.width, head.count)
                return np.stack([pixels[..., band - 1] for band in bands], dtype=np.float32, casting="unsafe")
    with _opened(path) as file:
        return values_of(file, bands, part)


def values_of(file: rasterio.DatasetReader, bands: tuple[int, ...], part: Window | None = None) -> np.ndarray:
    """Bands of an open raster as float32 (C, H, W), or a part of them, NaN where it declares no data.

    Of bytes any may also be a value, such as 0 for the blue of a red roof: there no data is where all bands hold it.
    """
    found = ma.asarray(file.read(bands, window=part, masked=hides_pixels(file), out_dtype=np.float32))
    if MaskFlags.alpha not in file.mask_flag_enums[0] and has_mask_band(file):  # GDAL knows it of 2 or 4 bands
        found = ma.array(found.data, mask=ma.getmaskarray(found) | (file.read(file.count, window=part) == 0))
    if file.dtypes[0] == "uint8" and found.mask.any():
        return np.where(found.mask.all(0), np.float32(np.nan), found.data)
    return found.filled(np.nan)


def hides_pixels(file: rasterio.DatasetReader) -> bool:
    """Whether GDAL's masks are to be believed: not where it takes for transparency what is a measurement."""
    return MaskFlags.alpha not in file.mask_flag_enums[0] or has_mask_band(file)


def to_linear(db: np.ndarray) -> np.ndarray:
    """Decibels to linear power."""
    return np.power(10, db / 10, dtype=np.float32)


def to_db(power: np.ndarray) -> np.ndarray:
    """Linear power to decibels; what is not above zero becomes NaN."""
    return 10 * np.log10(np.where(power > 0, power, np.nan), dtype=np.float32)


def sar_db(power: np.ndarray) -> np.ndarray:
    """Linear power of all bands (C, H, W) in dB; NaN where none is above zero.

    What noise correction has emptied in one band alone is dark, and valid.
    """
    db = np.maximum(power, DARKEST)
    db[:, ~(power > 0).any(0)] = np.nan
    np.log10(db, out=db)
    db *= 10
    return db


def _warped_db(power: np.ndarray, source: Grid, target: Grid, scale: tuple[float, float]) -> np.ndarray:
    """`warp` of linear power, in dB."""
    return sar_db(warp(power, source, target, scale))


def _scale(source: Grid, target: Grid) -> tuple[float, float]:
    """Pixels of a target for each of a source, across and down, at most 1: then as many of the source are averaged.

    Near whole numbers it is one, as GDAL has it, which would take the ratio from the parts that are at hand and so
    resample the edge of an image otherwise than its middle.
    """
    if source.crs is None:
        return 1.0, 1.0
    column, row = np.arange(2) + target.width // 2, np.arange(2) + target.height // 2  # of a pixel in the middle
    corners = target.transform @ (column[[0, 1, 0]], row[[0, 0, 1]])
    x, y = map(np.array, transform(target.crs, source.crs, *corners))
    x -= 360 * np.round((x - x[0]) / 360) * source.crs.is_geographic  # over 180 degrees
    if not np.isfinite([x, y]).all():  # where the source's CRS is not defined
        return 1.0, 1.0
    # not of the whole, since the box around a turned image grows with its length
    across = math.hypot(*(x[1:] - x[0])) / source.transform.a
    down = math.hypot(*(y[1:] - y[0])) / -source.transform.e
    whole = (round(ratio) if abs(ratio - round(ratio)) < 0.05 else ratio for ratio in (across, down))
    across, down = (1 / ratio if ratio > 1 else 1.0 for ratio in whole)
    return across, down


def warp(values: np.ndarray, source: Grid, target: Grid, scale: tuple[float, float]) -> np.ndarray:
    """Values (C, H, W) float32 with NaN, bilinear onto another grid by `_scale`; outside is NaN. The same pixels cost
    nothing."""
    if place := source.position_of(target):
        return values[:, place[0] : place[0] + target.height, place[1] : place[1] + target.width]
    out = np.full((len(values), target.height, target.width), np.nan, np.float32)
    if not values.size:
        return out
    places = {
        "src_transform": source.transform,
        "src_crs": source.crs,
        "dst_transform": target.transform,
        "dst_crs": target.crs,
    }
    how = {"src_nodata": np.nan, "dst_nodata": np.nan, "resampling": Resampling.bilinear}
    reproject(values, out, **places, **how, XSCALE=scale[0], YSCALE=scale[1])
    return out


def positions(target: Grid, crs: CRS, place: Affine, top: int, rows: int) -> np.ndarray:
    """Where the pixel centres of some rows of a grid lie in a north-up raster's pixels: columns and rows (2, rows, W).

    Exact to less than a micrometre for a scene as wide as a tile of Sentinel-2 (to centimetres for one six times as
    wide, far north), yet a thousand times cheaper than asking for each pixel: a change of projection is so smooth over
    a scene that a polynomial through 9 Chebyshev points of a row repeats it, and 5 of some 128 rows. But not where a
    projection of the whole world ends and begins: there each pixel is asked for.
    """
    (down, over_rows), (across, over_columns) = _interpolation(rows, 5), _interpolation(target.width, 9)
    row, column = np.meshgrid(top + down, across, indexing="ij")
    found = transform(target.crs, crs, *(v.ravel() for v in target.transform @ (column, row)))
    x, y = (np.reshape(values, row.shape) for values in found)
    if crs.is_geographic:  # on both sides of the antimeridian, on one scale
        x -= 360 * np.round((x - x[0, 0]) / 360)
    elif max(np.ptp(x), np.ptp(y)) * metres_of(crs) > WORLD:
        row, column = np.meshgrid(top + np.arange(rows) + 0.5, np.arange(target.width) + 0.5, indexing="ij")
        found = transform(target.crs, crs, *(v.ravel() for v in target.transform @ (column, row)))
        return np.reshape(~place @ tuple(map(np.array, found)), (2, *row.shape))
    found = ~place @ (x, y)
    return np.einsum("ri,ciw->crw", over_rows, np.einsum("cij,jw->ciw", np.stack(found), over_columns.T.copy()))


@lru_cache
def _interpolation(count: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in so many pixels a function is asked for, and what makes its values at their centres of these: (count,
    points)."""
    nodes = np.cos(np.pi * (np.arange(points) + 0.5) / points)  # Chebyshev's, in [−1, 1]
    fit = np.linalg.inv(chebvander(nodes, points - 1))  # values at the nodes → coefficients
    values = chebvander((np.arange(count) + 0.5) / count * 2 - 1, points - 1)
    # here and above not with @, for which BLAS starts threads that workers beside each other would fight over
    return (nodes + 1) / 2 * count, np.einsum("cp,pn->cn", values, fit)


def codes_on(path: Path, target: Grid, legend: str) -> np.ndarray:
    """A land-cover file's first band, nearest neighbour onto a grid: (H, W) uint8, the legend's `no_data` outside.

    Every pixel takes the code that its centre falls on, exactly: GDAL's warper approximates positions to an eighth of a
    pixel, and moves a valid code that equals the target's no data to the next one (0 would become 1, water). Raises
    InputError for a code that the legend does not have, and where the file's no data is a class of it; 0, 255, negative
    ones and not-a-number are taken for no data.
    """
    known = find_legend(legend)
    out = np.full((target.height, target.width), known.no_data, np.uint8)
    with _opened(path) as file:
        if file.nodata in known.names:
            raise InputError(
                f"'{path}' declares {file.nodata:g} as no data, which legend '{legend}' calls "
                f"{known.names[file.nodata]}: unset it (gdal_edit.py -unsetnodata), or choose the map's own legend"
            )
        masked = hides_pixels(file)
        source = Grid(file.crs, file.transform if file.crs else PIXELS, file.height, file.width)
        if place := source.position_of(target):
            window = Window(place[1], place[0], target.width, target.height)
            return _checked_codes(file.read(1, window=window, masked=masked), known, legend, path)
        # a little to the upper left, so that a centre on an edge goes one way, whatever the last digits say
        origin = file.transform @ Affine.translation(-1e-8, -1e-8)
        for start in range(0, target.height, 128):  # a band of rows at a time, which stays in the processor's cache
            part = out[start : start + 128]
            where = positions(target, file.crs, origin, start, len(part))
            if file.crs.is_geographic:
                turn = 360 / file.transform.a
                where[0] -= turn * np.round((where[0].mean() - file.width / 2) / turn)
                if where[0].min() < 0 or where[0].max() >= file.width:
                    where[0] %= turn  # a map of the world goes on at its other side
            columns, rows = np.floor(where, out=where).astype(np.int32)
            inside = ...
            if rows.min() < 0 or columns.min() < 0 or rows.max() >= file.height or columns.max() >= file.width:
                inside = (rows >= 0) & (rows < file.height) & (columns >= 0) & (columns < file.width)
                rows, columns = rows[inside], columns[inside]
            if rows.size:
                top, left = rows.min(), columns.min()
                window = Window(left, top, columns.max() - left + 1, rows.max() - top + 1)
                codes = _checked_codes(file.read(1, window=window, masked=masked), known, legend, path)
                rows -= top
                rows = rows if codes.size < 2**31 else rows.astype(np.int64)
                rows *= codes.shape[1]
                rows += columns
                rows -= left
                part[inside] = np.take(codes.ravel(), rows)
    return out


def _checked_codes(codes: np.ndarray, known, legend: str, path: Path) -> np.ndarray:
    codes = codes.astype(np.int16) if codes.dtype == np.int8 else codes  # which cannot hold 255
    codes = ma.filled(codes, known.no_data)
    if codes.dtype.kind != "u":
        codes[~(codes >= 0)] = known.no_data
    for usual in {0, 255} - {*known.names, known.no_data}:  # no data of a tile that does not say so
        codes[codes == usual] = known.no_data
    strange = reduce(np.logical_and, (codes != code for code in {*known.names, known.no_data}))
    if strange.any():
        raise InputError(
            f"'{path}' has the code {codes[strange][0]:g}, which legend '{legend}' has not: choose the map's own legend"
        )
    return codes.astype(np.uint8)


def check_units(values: np.ndarray, units: str, path: Path, dtype: str = "") -> None:
    """Refuse values that contradict the declared units, saying what was found.

    `values` hold NaN where there is no data; `dtype` is the file's, where it is known.
    """
    if wrong := _contradiction(values, units, dtype):
        low, high = np.nanmin(values), np.nanmax(values)
        raise InputError(f"'{path}' is declared '{units}' but holds values from {low:.4g} to {high:.4g}{wrong}")


def _contradiction(values: np.ndarray, units: str, dtype: str) -> str:
    """What speaks against the units of float32 values, judged by some five thousand of them, and what to do."""
    some = values.ravel()[:: values.size // 5000 + 1]
    some = some[np.isfinite(some)]
    if some.size < FEW:  # at the edge of a swath
        some = values[np.isfinite(values)]
        some = some[:: some.size // 5000 + 1]
    if some.size < FEW:
        return ""
    # noise may take single pixels of power below zero, and bright roofs above 0 dB
    if units == "dB" and _most(some >= 0):
        return ": decibels of land and sea are mostly negative, so set sar_units to 'linear' or '8-bit'"
    whole = (some == np.round(some)).all()
    if units == "dB" and some.size > 1000 and whole:
        return ", whole numbers alone: decibels were cut to integers somewhere, fetch the file anew"
    if units == "linear" and _most(some < 0):
        return ": power is never negative, so set sar_units to 'dB'"
    if units == "linear" and (np.nanmax(values) > 10_000 or _most(some > 10) or dtype == "uint8"):
        return ": that is no calibrated sigma0; calibrate it, or scale it to 8 bits and say '8-bit'"
    if units == "8-bit" and (np.nanmin(values) < 0 or np.nanmax(values) > 255 or not whole):
        return ": 8-bit means whole numbers from 0 to 255"
    # a lake at dusk is brighter
    percent = not whole and np.nanmax(values) <= 100
    if units == "reflectance x 10000" and (percent or np.count_nonzero(some > 30) < some.size / 100):
        return ": multiply reflectance of 0 to 1 by 10000, or percent by 100"
    # the brightest pixel of a dark sea is 255 by chance, but not several of five thousand
    saturated = whole and np.count_nonzero(some == 255) > 3 and np.nanmax(values) == 255
    if units == "reflectance x 10000" and (dtype == "uint8" or saturated):
        return ": that is an 8-bit image, so set opt_units to '8-bit'"
    return ""


def _most(condition: np.ndarray) -> bool:
    """Whether more than half are true: a condition on the median, without its cost."""
    return np.count_nonzero(condition) > condition.size / 2


def optical_no_data(opt: np.ndarray, units: str) -> np.ndarray:
    """Set pixels that hold nothing to NaN: zero in all bands, or of reflectance far below it (as -9999 is) in any; in
    8-bit images solid white wedges as well.

    Archives of 8-bit images fill what a satellite did not see with black or white. White is also where a stretched
    image saturates (roofs of 200 m in Los Angeles), so it counts only in solid squares of `WEDGE`.
    """
    empty = (opt == 0).all(0)
    if units != "8-bit":
        empty |= (opt < FILL).any(0)
    if units == "8-bit" and (white := (opt == 255).all(0)).any():
        from scipy import ndimage  # long to load, and seldom needed

        empty |= ndimage.maximum_filter(ndimage.minimum_filter(white, WEDGE), WEDGE)
    return np.where(empty, np.float32(np.nan), opt) if empty.any() else opt


def sar_no_data(sar: np.ndarray, path: str | Path) -> np.ndarray:
    """Set pixels of dB or power that hold nothing to NaN: infinite ones, far below any echo (as -9999 is) in any band,
    and in all bands exactly zero or, where it is the same few numbers, far above (as 32767 is).

    Minus infinity in one band alone is the decibels of no power, as noise correction leaves it: dark, and valid. In
    8-bit images zero is a value: calm water. Raises InputError where most of what is far below any echo differs from
    pixel to pixel, as decibels do that were multiplied.
    """
    # as of most ground: every number is one, and an echo
    if sar.size and sar.min() >= SAR_FILL and sar.max() <= SAR_FULL and not (sar == 0).all(0).any():
        return sar
    some = sar.ravel()[:: sar.size // 5000 + 1]
    some = some[np.isfinite(some) & (some != 0)]
    far = some[some < SAR_FILL]
    if far.size >= FEW and far.size > some.size / 2 and np.unique(far).size > 10:
        raise InputError(
            f"'{path}' holds values from {far.min():g} to {far.max():g}, which are neither decibels nor power: divide "
            "by what they were multiplied by (100?)"
        )
    if (silent := np.isneginf(sar)).any():
        sar = np.where(silent & ~silent.all(0), to_db(DARKEST), sar)
    full = np.inf if np.unique(some[some > SAR_FULL]).size > 10 else SAR_FULL  # values that nobody has calibrated
    good = np.isfinite(sar).all(0) & ~((sar == 0) | (sar > full)).all(0) & ~(sar < SAR_FILL).any(0)
    return sar if good.all() else np.where(good, sar, np.float32(np.nan))


def check_order(sar: np.ndarray, bands: Sequence[str], path: Path) -> None:
    """Refuse VV and VH in dB that look swapped: over land and sea the cross-polarised echo is the weaker."""
    if {"VV", "VH"} <= set(bands):
        some = sar[:, ::8, ::8] if sar[0].size > 2**14 else sar
        excess = (some[list(bands).index("VH")] - some[list(bands).index("VV")]).ravel()
        excess = excess[np.isfinite(excess)]
        if excess.size >= FEW and _most(excess > 1):
            raise InputError(
                f"'{path}' looks swapped: its VH is {np.median(excess):.1f} dB above VV; name the bands in the file"
            )


def remove_offset(opt: np.ndarray, offset: float, path: Path) -> np.ndarray:
    """Reflectance without the offset that Sentinel-2 stores since processing baseline 04.00; below zero is zero.

    Raises InputError where the median is not even half the offset: then the file has none.
    """
    if offset and np.isfinite(opt).sum() >= FEW and (median := np.nanmedian(opt)) < offset / 2:
        raise InputError(f"'{path}' has a median of {median:g} against opt_offset {offset:g}: it has no offset, give 0")
    if offset:
        opt = opt - offset
    return opt if opt.size and opt.min() >= 0 else np.maximum(opt, 0)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a pair's files are read, which thousands of pairs have in common: of the SAR, the optical image and, if there
    is one, the land cover."""

    folders: tuple[str, ...]
    heads: tuple[Header, ...]
    polarisations: tuple[tuple[str, int], ...]  # and their bands
    colours: tuple[int, ...]
    scales: tuple[tuple[float, float], ...]  # `_scale` of SAR and optical image
    sar_units: str
    opt_units: str
    opt_offset: float
    legend: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Reads a pair of your own on a grid (`Scene.read`)."""

    names: tuple[str, ...]
    how: Reading
    grid: Grid

    def __call__(self, boxes: Sequence[Box] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """SAR, optical image and codes."""
        how, target = self.how, self.grid
        if boxes:
            top, bottom = min(box[0] for box in boxes), max(box[2] for box in boxes)
            target = target.part(top, 0, bottom - top, target.width)
        path, other, *lulc = (Path(folder, name) for folder, name in zip(how.folders, self.names, strict=True))
        head, polarisations = how.heads[0], dict(how.polarisations)
        part, source = _part(head.grid, target)
        sar = read_bands(path, tuple(polarisations.values()), head, part)
        if head.count == 3 and not any(map(polarisation, head.names)):
            others = read_bands(path, (2, 3), head, part)
            if not np.array_equal(others, np.concatenate([sar, sar]), equal_nan=True):
                raise InputError(
                    f"'{path}' is a coloured image: save its polarisations as bands with names, or one as grey"
                )
        sar = sar if how.sar_units == "8-bit" else sar_no_data(sar, path)
        check_units(sar, how.sar_units, path, head.dtype)
        if how.sar_units == "8-bit" or (how.sar_units == "dB" and source.position_of(target)):
            sar = warp(sar, source, target, how.scales[0])
        else:
            sar = _warped_db(sar if how.sar_units == "linear" else to_linear(sar), source, target, how.scales[0])
        if how.sar_units != "8-bit":
            check_order(sar, list(polarisations), path)
        path, head = other, how.heads[1]
        part, source = _part(head.grid, target)
        opt = optical_no_data(read_bands(path, how.colours, head, part), how.opt_units)
        check_units(opt, how.opt_units, path, head.dtype)
        opt = remove_offset(opt, how.opt_offset, path)
        codes = codes_on(lulc[0], target, how.legend) if lulc else None
        return sar, warp(opt, source, target, how.scales[1]), codes


def _part(source: Grid, target: Grid) -> tuple[Window | None, Grid]:
    """What of a raster is needed for another grid, with its neighbours, perhaps nothing; None for all. And the grid of
    that."""
    turn = 0
    if place := source.position_of(target):
        (top, left), (bottom, right) = place, (place[0] + target.height, place[1] + target.width)
    else:
        west, south, east, north = transform_bounds(target.crs, source.crs, *target.bounds, densify_pts=21)
        (left, top), (right, bottom) = ~source.transform @ (west, north), ~source.transform @ (east, south)
        if not (np.isfinite((left, top, right, bottom)).all() and left < right):  # across the antimeridian
            return None, source
        if source.crs.is_geographic:  # the target may lie beyond the antimeridian
            turn = round((left + right - source.width) / 2 * source.transform.a / 360)
            left, right = (edge - turn * 360 / source.transform.a for edge in (left, right))
    margin = WEDGE + 2 * max((right - left) / target.width, (bottom - top) / target.height)
    left, top = (max(0, math.floor(edge - margin)) for edge in (left, top))
    width = min(source.width, math.ceil(right + margin)) - left
    height = min(source.height, math.ceil(bottom + margin)) - top
    if width <= 0 or height <= 0:
        return Window(0, 0, 0, 0), source.part(0, 0, 0, 0)
    source = replace(source, transform=Affine.translation(360 * turn, 0) @ source.transform)
    if (height, width) == (source.height, source.width):
        return None, source
    return Window(left, top, width, height), source.part(top, left, height, width)


def _meet(a: Grid, b: Grid) -> bool:
    """Do two boxes of longitude and latitude share ground?"""
    (west, south, east, north), (left, bottom, right, top) = a.lonlat_bounds, b.lonlat_bounds
    turns = (west < right + turn and east > left + turn for turn in (-360, 0, 360))
    return south < top and north > bottom and any(turns)


def is_utf8(text: str) -> bool:
    """Whether a name, or a path, is text: Linux takes any bytes for one."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _by_stem(folder: str | Path | None, what: str, whole: bool, others: Iterable[str | Path]) -> dict[str, str]:
    """The images of a folder, names and suffixes. If all of it is meant (`whole`), an image of a format that is not
    read is refused, and one in a folder below that is none of `others`: no list says that it is left out."""
    if folder is None or not Path(folder).is_dir():
        raise InputError(f"{what} '{folder}' is not a folder: give the folder that holds the images")
    found: dict[str, str] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{what} '{folder}' cannot be read ({error.strerror}): change its permissions") from error
    for path in (Path(folder, name) for name in names if not name.startswith(".")):
        elsewhere = any(Path(other).resolve().is_relative_to(path.resolve()) for other in others)
        below = path.rglob("*.*") if whole and path.is_dir() and not elsewhere else ()
        for image in (image for image in below if image.suffix.lower() in (*SUFFIXES, *UNREAD)):
            raise InputError(f"'{image}' would be left out: move it into {what} itself, or '{path.name}' out of it")
        if path.suffix.lower() in UNREAD and whole:
            raise InputError(f"'{path}' would be left out: make it a GeoTIFF, PNG or JPEG, or move it out of {what}")
        if path.suffix.lower() in SUFFIXES:
            if not is_utf8(path.name):
                raise InputError(f"{path.name!r} in {what} has a name that is no UTF-8: rename the file")
            if path.stem in found:
                twin = path.stem + found[path.stem]
                raise InputError(f"'{path}' and '{twin}' in {what} have the same id: keep one of them")
            found[path.stem] = sys.intern(path.suffix)
    if not found:
        raise InputError(f"{what} '{folder}' holds no GeoTIFF, PNG or JPEG")
    return found


def _chosen(folder: Path, found: dict[str, str], name: str) -> str | None:
    """The file in a folder that a list of pairs names, with or without its suffix, and the folders above it."""
    path = Path(name)
    if parts := path.parent.parts:
        found = found if folder.resolve().parts[-len(parts) :] == parts else {}
    whole = path.name not in found and path.suffix.lower() in SUFFIXES
    stem = path.stem if whole else path.name
    return stem + found[stem] if stem in found else None


def _iso(date: str, pair: str, pairs_csv: str | Path | None) -> str:
    for pattern in ("%Y-%m-%d", "%d.%m.%Y", "%Y%m%d"):
        with suppress(ValueError):
            return datetime.strptime(date, pattern).date().isoformat()
    if date:
        raise InputError(f"pairs_csv '{pairs_csv}' has the date '{date}' for '{pair}': write it as 2020-11-04")
    return ""


def _lines(pairs_csv: str | Path) -> list[list[str]]:
    """The fields of a list's header and of its rows, of which none has more."""
    try:
        with open(pairs_csv, newline="", encoding="utf-8-sig") as stream:
            header, *rows = [row for row in csv.reader(stream, strict=True) if row] or [[]]
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"pairs_csv '{pairs_csv}' is no table with a header ({error})") from error
    if not header:
        raise InputError(f"pairs_csv '{pairs_csv}' is no table with a header (it is empty)")
    while header and not header[-1].strip():  # a spreadsheet's last columns may hold commas alone
        header.pop()
    for row in (row for row in rows if any(map(str.strip, row[len(header) :]))):
        raise InputError(
            f"pairs_csv '{pairs_csv}' has more fields than its header in {','.join(row)}: quote text with commas"
        )
    return [header, *rows]


def _table(pairs_csv: str | Path | None, group_column: str | None, ids: Iterable[str]) -> pd.DataFrame:
    import pandas as pd  # long to load, and not for workers

    if pairs_csv is None:
        table = pd.DataFrame({"id": sorted(ids)})
    elif not Path(pairs_csv).is_file():
        raise InputError(f"pairs_csv '{pairs_csv}' does not exist")
    else:
        header, *rows = _lines(pairs_csv)
        table = pd.DataFrame([[*row, *[""] * len(header)][: len(header)] for row in rows], columns=header)
    table = table.rename(columns=str.strip)
    if len(table.columns) == 1 and re.search("[;\t]", table.columns[0]):
        raise InputError(f"pairs_csv '{pairs_csv}' has one column, '{table.columns[0]}': separate columns by commas")
    known = {name: name.lower() for name in table if name.lower() in COLUMNS and name.lower() not in table}
    table = table.rename(columns={name: lower for name, lower in known.items() if name != group_column})
    for name in table.columns[table.columns.duplicated()]:
        raise InputError(f"pairs_csv '{pairs_csv}' has two columns '{name}': keep one of them")
    if group_column and group_column not in table:
        if pairs_csv is None:
            raise InputError(f"group_column '{group_column}' is a column of pairs_csv: give that too")
        found = ", ".join(table)
        raise InputError(f"pairs_csv '{pairs_csv}' has no column '{group_column}': it has {found}, separated by commas")
    if "id" not in table:
        table = table.assign(id=table.iloc[:, 0])  # which may be the group as well
    table = table.apply(lambda column: column.str.strip())
    table = table[(table != "").any(axis=1)]  # a spreadsheet's last rows may hold commas alone
    if table.empty:
        raise InputError(f"pairs_csv '{pairs_csv}' lists no pair: give a row for each, or leave pairs_csv out")
    for row in table[table["id"] == ""].to_dict("records"):
        raise InputError(f"pairs_csv '{pairs_csv}' has a row without an id: {','.join(row.values())}")
    for name in table["id"][table["id"].str.contains(r"^\.|[/\\]")]:
        raise InputError(f"pairs_csv '{pairs_csv}' has the id '{name}': files are named by it, so leave out / and \\")
    if table["id"].duplicated().any():
        raise InputError(f"pairs_csv '{pairs_csv}' lists id '{table['id'][table['id'].duplicated()].iloc[0]}' twice")
    return table.sort_values("id")


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
    polarisations: Sequence[str] | None = None,
    colours: Sequence[str] = RGB,
    grid: str = "optical",
    legend: str = "",
    block_m: float = 0,
) -> list[Scene]:
    """Scenes from folders of your own pairs, each pair on the grid of its optical (or SAR) image, or in `blocks` of it.

    Files pair by their name without suffix. `pairs_csv` chooses and names pairs: column `id` (or the first), optional
    `s1`, `s2`, `lulc` (file names in their folders; default the id), `date` or `s1_date` and `s2_date`, `season`,
    `opt_offset` and a group. Which bands are taken say `sar_bands` and `optical_bands`. `opt_offset` is taken from
    stored reflectance (1000 for Sentinel-2 of processing baseline 04.00 and later). Without geography both images of a
    pair must have the same size. Raises InputError for anything missing, doubled or contradictory, naming the file.
    """
    if grid not in ("optical", "sar"):
        raise InputError(f"grid '{grid}' is unknown: choose 'optical' or 'sar'")
    folders = {"s1": ("sar_dir", sar_dir), "s2": ("opt_dir", opt_dir), "lulc": ("lulc_dir", lulc_dir)}
    if lulc_dir is None:
        del folders["lulc"]
    others = [folder for _, folder in folders.values() if folder is not None]
    sources = {kind: _by_stem(folder, name, pairs_csv is None, others) for kind, (name, folder) in folders.items()}
    for one, other in (("s1", "s2"), ("s2", "s1")) if pairs_csv is None else ():
        if alone := sorted(set(sources[one]) - set(sources[other])):
            more = {1: "", 2: ", nor has 1 other"}.get(len(alone), f", nor have {len(alone) - 1} others")
            raise InputError(
                f"'{Path(folders[one][1], alone[0] + sources[one][alone[0]])}' has no partner in {folders[other][0]}"
                f"{more}: add '{alone[0]}' there, remove it here, or list pairs in a pairs_csv"
            )
    places = {kind: Path(folder) for kind, (_, folder) in folders.items()}
    beside = sidecars(str(folder / "any") for folder in places.values())
    alike: dict[Reading, Reading] = {}
    scenes: list[Scene] = []
    table = _table(pairs_csv, group_column, sources["s2"])
    for values in table.itertuples(index=False, name=None):
        row, paths = dict(zip(table.columns, values, strict=True)), {}
        for kind, found in sources.items():
            wanted = row.get(kind) or row["id"]
            name = _chosen(places[kind], found, wanted)
            if name is None:
                raise InputError(
                    f"pair '{row['id']}' has no '{wanted}' in {dict(s1='sar', s2='opt').get(kind, kind)}_dir"
                )
            paths[kind] = places[kind] / name
        heads = {kind: header(path, SAR_STORED if kind == "s1" else STORED) for kind, path in paths.items()}
        target = heads["s2" if grid == "optical" else "s1"].grid
        for kind, head in heads.items():
            same = (head.grid.height, head.grid.width) == (target.height, target.width)
            if (head.grid.crs is None) != (target.crs is None) or (target.crs is None and not same):
                raise InputError(
                    f"'{paths[kind]}' cannot be laid over its partner: one has no geography and sizes or CRS differ"
                )
        unplaced = [(paths[kind], head.unplaced) for kind, head in heads.items() if head.unplaced]
        for path, place in unplaced if target.crs is None else ():
            pixel = abs(place.a) + abs(place.b)
            if not place.almost_equals(unplaced[0][1], pixel / 2):
                raise InputError(
                    f"'{unplaced[0][0]}' and '{path}' have different coordinates and no CRS: give them one"
                )
        sar = sar_bands(paths["s1"], heads["s1"], polarisations)
        bands = tuple(sar)
        if scenes and bands != scenes[0].sar_bands:
            raise InputError(
                f"'{paths['s1']}' has the SAR bands {', '.join(sar)} where others have {', '.join(scenes[0].sar_bands)}"
            )
        for kind in heads if target.crs else ():
            if heads[kind].grid != heads["s2"].grid and not _meet(heads[kind].grid, heads["s2"].grid):
                raise InputError(
                    f"'{paths[kind]}' and '{paths['s2']}' do not show the same ground: pair them otherwise, or leave "
                    f"'{row['id']}' out of pairs_csv"
                )
        try:
            offset = float(row.get("opt_offset") or opt_offset)
        except ValueError:
            offset = math.nan
        if not math.isfinite(offset):
            raise InputError(f"pairs_csv '{pairs_csv}': opt_offset of '{row['id']}' must be a number")
        days = (row.get(name) or row.get("date", "") for name in ("s1_date", "s2_date"))
        sar_date, date = (_iso(day, row["id"], pairs_csv) for day in days)
        extra = {"group": row.get(group_column, ""), "season": row.get("season", ""), "date": date}
        extra |= {"sar_date": sar_date, "opt_offset": offset}
        extra["synthetic"] = any(head.synthetic for head in heads.values())
        if block_m and not target.crs:
            raise InputError(
                f"'{paths['s2']}' has no geography, and block_m cannot cut it: leave that out and give a split_file"
            )
        grids = [heads[kind].grid for kind in ("s1", "s2")]
        scales = tuple(_scale(of, target) for of in grids)
        extra["density"] = 1 / min(map(math.prod, scales))
        colours_at, order = optical_bands(paths["s2"], heads["s2"], colours), tuple(sar.items())
        units = (sar_units, opt_units, offset, legend)
        how = Reading(tuple(map(str, places.values())), tuple(heads.values()), order, colours_at, scales, *units)
        how = alike.setdefault(how, how)
        names, state = tuple(path.name for path in paths.values()), state_of(map(str, paths.values()), beside)
        for name, part in blocks(target, block_m) if block_m else [("", target)]:
            if not block_m:
                part = how.heads[1 if grid == "optical" else 0].grid  # which others have, too
            empty = bool(block_m) and not all(_meet(part, of) for of in grids)
            scenes.append(Scene(row["id"] + name, part, state, Pair(names, how, part), bands, empty=empty, **extra))
    return scenes


def blocks(grid: Grid, metres: float) -> Iterator[tuple[str, Grid]]:
    """A grid cut where the coordinates of its CRS are multiples of so many metres: names such as _x25_y204, and parts.

    Images of one CRS are cut at the same places, whatever their extent and pixels, and so have narrow blocks at their
    edges. Pixels that a cut goes through are left out. A degree counts as 111 km both ways.
    """
    side = metres / (metres_of(grid.crs) if grid.crs.is_projected else METRES_PER_DEGREE)
    left, bottom, right, top = (edge / side for edge in grid.bounds)
    width, height = grid.transform.a / side, -grid.transform.e / side  # of a pixel
    if max(width, height) > 1 / 16:
        raise InputError(f"block_m {metres:g} is less than 16 pixels: a block must hold patches, so give 10000 or more")
    for y in range(math.ceil(top) - 1, math.floor(bottom) - 1, -1):
        rows = max(0, math.ceil((top - y - 1) / height - 1e-3)), min(grid.height, math.floor((top - y) / height + 1e-3))
        for x in range(math.floor(left), math.ceil(right)):
            start, end = math.ceil((x - left) / width - 1e-3), math.floor((x + 1 - left) / width + 1e-3)
            start, end = max(0, start), min(grid.width, end)
            if start < end and rows[0] < rows[1]:
                yield f"_x{x}_y{y}", grid.part(rows[0], start, rows[1] - rows[0], end - start)


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
