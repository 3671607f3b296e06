"""Land cover: legends of public products, their merges into categories, tiles read onto a scene's grid.

A legend is a small YAML file (`find_legend`): those in ``legends/`` have the codes and names of the products' own
documentation, and one of your own is written like them. The talk behind the paper merges the twelve classes of JAXA's
map of Japan to four categories and does not say how; the merge "four" is our choice, for every product.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from s2olib.project import InputError, parse_yaml, resolve

if TYPE_CHECKING:
    from s2olib.data.rasters import Grid

IGNORE = 255  # the category of a pixel without land cover: what compares categories leaves it out
PSEUDO = {  # bands looked at for darkness, how dark is dark, how far from 0 the colour index must be
    "pseudo-false-colour": (2, 50, 0.1),
    "pseudo-natural-colour": (3, 40, 0.05),
}
OWN_LAYER = "igbp"  # the legend of the labels that SEN12MS itself brings

# Okabe and Ito's palette, told apart by colour-blind readers too.
CATEGORY_COLOURS = {
    "water": "#0072B2",
    "built-up": "#D55E00",
    "farmland and grass": "#F0E442",
    "forest": "#009E73",
    "dark": "#0072B2",
    "red-brown": "#D55E00",
    "mixed": "#F0E442",
    "green": "#009E73",
}


@dataclass(frozen=True)
class Legend:
    """A land-cover product's codes, with display colours and merges of codes into categories (in category order).

    `water` are the codes of open water, `epoch` says when the map was made, `credit` whom to name and the licence,
    `no_data` is the code for nothing known.
    """

    product: str
    names: dict[int, str]
    colours: dict[int, str]
    merges: dict[str, dict[str, tuple[int, ...]]]
    water: tuple[int, ...] = ()
    epoch: str = ""
    credit: str = ""
    no_data: int = 0


LEGENDS = (  # by name; each is a file in legends/
    *("hrlulc-v21.11", "hrlulc-v23.12", "worldcover", "esri", "terramesh", "dynamic-world", "igbp"),
    *PSEUDO,
)


def find_legend(name: str) -> Legend:
    """A legend by its name in `LEGENDS`, or your own from a YAML file such as those in ``s2olib/data/legends``.

    The file maps `product`, `names` and `colours` (code: text), `merges` (name: category: list of codes) and optional
    `water`, `epoch`, `credit` and `no_data`. Raises InputError for an unknown name or a file that contradicts itself.
    """
    if name not in LEGENDS and not name.endswith((".yml", ".yaml")):
        raise InputError(
            f"unknown land-cover legend '{name}': choose one of {', '.join(LEGENDS)}, or a YAML file of yours"
        )
    path = Path(__file__).parent / "legends" / f"{name}.yml" if name in LEGENDS else resolve(name)
    state = path.stat() if path.is_file() else None
    return _read_legend(path, state and (state.st_mtime_ns, state.st_size))


@lru_cache
def _read_legend(name: Path, state: tuple[int, int] | None) -> Legend:
    """A legend from a file, read anew when its `state` (time and size) is another."""
    try:
        content = parse_yaml(name.read_bytes())
        merges = {
            merge: {category: tuple(codes) for category, codes in parts.items()}
            for merge, parts in content.pop("merges").items()
        }
        found = Legend(**content | {"merges": merges, "water": tuple(content.get("water", ()))})
    except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"legend '{name}' cannot be read: it needs product, names, colours and merges as mappings ({reason})"
        ) from error
    _check(name, found)
    for merge, parts in found.merges.items():
        members = [code for codes in parts.values() for code in codes]
        for code in members:
            if code not in found.names or members.count(code) > 1:
                raise InputError(f"legend '{name}': merge '{merge}' has code {code} twice, or names does not have it")
    return found


def _check(name: Path, legend: Legend) -> None:
    """Refuse codes, names and colours that are none; YAML takes `1.0`, `yes` and `2021-06-01` for other things."""
    merged = [code for parts in legend.merges.values() for codes in parts.values() for code in codes]
    codes = [*legend.names, *legend.colours, *legend.water, legend.no_data, *merged]
    if not all(type(code) is int and 0 <= code < 256 for code in codes):
        raise InputError(f"legend '{name}': codes must be whole numbers within 0..255, without quotes")
    if set(legend.names) != set(legend.colours):
        raise InputError(f"legend '{name}': names and colours must have the same codes")
    if legend.no_data in legend.names:
        raise InputError(f"legend '{name}': no_data {legend.no_data} is a class; give a code that is none, such as 255")
    categories = [text for merge, parts in legend.merges.items() for text in (merge, *parts)]
    for text in (legend.product, legend.epoch, legend.credit, *legend.names.values(), *categories):
        if not isinstance(text, str):
            raise InputError(f"legend '{name}': '{text}' must be text, so put it in quotes")
    for colour in legend.colours.values():
        if not re.fullmatch("#[0-9A-Fa-f]{6}", str(colour)):
            raise InputError(f"legend '{name}': '{colour}' is no colour like \"#0072B2\", with quotes")


def merge_table(legend: str, merge: str) -> dict[str, tuple[int, ...]]:
    """A merge's categories in order, each with its codes. Raises InputError for an unknown legend or merge."""
    merges = find_legend(legend).merges
    if not isinstance(merge, str) or merge not in merges:
        raise InputError(f"legend '{legend}' has no merge '{merge}': choose one of {', '.join(merges)}")
    return merges[merge]


def merge_codes(codes: np.ndarray, table: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Merge a product's codes (any shape, uint8) by a `merge_table` into categories 0..K-1 (same shape, uint8).

    A code that no category names becomes `IGNORE`.
    """
    categories = np.full(256, IGNORE, np.uint8)
    for category, members in enumerate(table.values()):
        categories[list(members)] = category
    return categories[codes]


def majority(codes: np.ndarray, cell: int) -> np.ndarray:
    """Most frequent code of each `cell` x `cell` square of (H, W), cut by the border or not; the lowest of equals."""
    values = np.unique(codes)  # ascending, so that argmax keeps the lower code
    down, across = (np.arange(0, length, cell) for length in codes.shape)
    counts = [np.add.reduceat(np.add.reduceat(codes == v, down, 0, dtype=int), across, 1) for v in values]
    return values[np.argmax(counts, axis=0)]


def pseudo_categories(opt: np.ndarray, legend: str) -> np.ndarray:
    """Four pseudo-categories of an image (3, H, W) in 0..255 by its colour alone, as codes (H, W) uint8.

    "pseudo-false-colour" is for OMBRIA's composite of short-wave infrared, near infrared and green: a pixel is
    *dark* (1) where both infrared bands stay below 50, as over water, shadow and burnt ground; else *red-brown* (2)
    where (second − first) / (second + first), an index like NDMI, is below −0.1; *green* (4) where it is above 0.1;
    *mixed* (3) between. "pseudo-natural-colour" is the same of red, green and blue: dark where all three stay below 40,
    and an index of ±0.05. Black (0, 0, 0) and not-a-number are no data (0).

    The rule sees colour alone: it is no land cover, and since it is made from the answer itself it may teach a
    discriminator in training but must never be an input or a score.
    """
    bands, dark, margin = PSEUDO[legend]
    opt = np.nan_to_num(opt.astype(np.float32))
    index = (opt[1] - opt[0]) / np.maximum(opt[1] + opt[0], 1)  # (H, W)
    codes = np.select([opt[:bands].max(0) < dark, index < -margin, index > margin], [1, 2, 4], 3)
    return np.where((opt == 0).all(0), 0, codes).astype(np.uint8)


def jaxa_tile(lon: float, lat: float) -> str:
    """Name of JAXA's one-degree tile that holds a place, by its south-west corner: ``LC_N36E136.tif``."""
    south, west = int(np.floor(lat)), int(np.floor(lon))
    return f"LC_{'NS'[south < 0]}{abs(south):02d}{'EW'[west < 0]}{abs(west):03d}.tif"


def _below(root: Path) -> Iterator[Path]:
    """Every file below a folder, through links too, each real folder once; one that cannot be read is an InputError."""

    def stop(error: OSError) -> None:
        raise InputError(
            f"'{error.filename}' cannot be read ({error.strerror}): change its permissions, or leave it out"
        )

    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=stop if root.is_dir() else None, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
        else:
            yield from (Path(folder, name) for name in files)
        seen.add(real)


class Tiles:
    """Every land-cover GeoTIFF under `lulc_root`, read as one seamless map with the codes of `legend`.

    Each tile's own grid and CRS are used as the file states them; of tiles that share a part, as those of two zones do,
    the first by name that knows a pixel gives its code. Raises InputError for a missing or empty folder, a tile that is
    no raster or has no CRS, and two of one place: issued anew in one CRS, or one in metres and one in degrees.
    """

    def __init__(self, lulc_root: str | Path, legend: str) -> None:
        from s2olib.data.rasters import header, is_utf8  # the legends above are read on machines without rasterio

        self.root, self.legend = Path(lulc_root), legend
        found = (path for path in _below(self.root) if path.suffix.lower() in (".tif", ".tiff"))
        self.files = sorted(path for path in found if not path.name.startswith("."))
        if not self.files:
            raise InputError(
                f"no land-cover GeoTIFF under lulc_root '{lulc_root}': give the folder that holds the tiles"
            )
        for path in (path for path in self.files if not is_utf8(str(path))):
            raise InputError(f"the name of land-cover tile {str(path)!r} is no UTF-8: rename the file or its folder")
        grids = {path: header(path).grid for path in self.files}
        self._boxes = {path: (grid.crs, grid.bounds) for path, grid in grids.items()}
        for path, (crs, _) in self._boxes.items():
            if crs is None:
                raise InputError(f"land-cover tile '{path}' has no coordinate reference system")
        for crs in {crs for crs, _ in self._boxes.values()}:
            paths = [path for path, (of, _) in self._boxes.items() if of == crs]
            boxes = np.array([self._boxes[path][1] for path in paths])
            for i, path in enumerate(paths):
                twins = np.flatnonzero(_shared(boxes[i], boxes[:i]) > 0.9)  # perhaps with pixels of another size
                if twins.size:
                    twin = paths[twins[0]]
                    raise InputError(f"land-cover tiles '{path}' and '{twin}' show the same place: keep the newer one")
        degrees, metres = (
            {path: grid.lonlat_bounds for path, grid in grids.items() if grid.crs.is_geographic == kind}
            for kind in (True, False)
        )
        for path, box in metres.items() if degrees else ():
            twins = np.flatnonzero(_shared(np.array(box), np.array([*degrees.values()])) > 0.9)
            if twins.size:
                twin = [*degrees][twins[0]]
                raise InputError(f"land-cover tiles '{path}' and '{twin}' show the same place: keep one map of it")

    @property
    def footprint(self) -> str:
        """Says where the tiles lie, and nothing else of them."""
        return str([(crs.to_string(), bounds) for crs, bounds in self._boxes.values()])

    def covering(self, grid: Grid, whole: bool = False) -> list[Path]:
        """The tiles whose box meets the grid's, or has all of it, in order of name."""
        from rasterio.warp import transform_bounds

        boxes = {}
        for crs in {crs for crs, _ in self._boxes.values()}:
            left, bottom, right, top = transform_bounds(grid.crs, crs, *grid.bounds, densify_pts=21)
            turns = (0,)
            if crs.is_geographic:  # a tile may lie beyond the antimeridian
                right, turns = right + 360 * (right < left), (-360, 0, 360)
            boxes[crs] = (turns, *((right, top, left, bottom) if whole else (left, bottom, right, top)))
        found = []
        for path, (crs, (west, south, east, north)) in self._boxes.items():
            turns, left, bottom, right, top = boxes[crs]
            beside = any(left < east + turn and right > west + turn for turn in turns)
            if beside and bottom < north and top > south:
                found.append(path)
        return found

    def read(self, grid: Grid) -> np.ndarray:
        """Original codes on a grid, (H, W) uint8, by nearest neighbour, the legend's `no_data` where no tile covers.

        Raises InputError, naming the tile, where nothing covers at all or a code is not in the legend.
        """
        from s2olib.data.rasters import codes_on

        paths = self.covering(grid)
        if not paths:
            raise InputError(f"no land-cover tile under '{self.root}' covers {place_of(grid)}")
        codes = codes_on(paths[0], grid, self.legend)
        for path in paths[1:]:
            codes = np.where(codes == find_legend(self.legend).no_data, codes_on(path, grid, self.legend), codes)
        return codes


def _shared(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of the larger one that a box (west, south, east, north) has in common with each of others (N, 4), (N,)."""
    common = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])  # (N, 2)
    area, areas = (np.prod(of[..., 2:] - of[..., :2], -1) for of in (box, others))
    return np.prod(common.clip(min=0), 1) / np.maximum(area, areas)


def place_of(grid: Grid) -> str:
    """Where a grid's centre is, and what JAXA's tile of it is called."""
    lon, lat = grid.lonlat(grid.width / 2, grid.height / 2)
    return f"({lon:.3f}, {lat:.3f}): JAXA's would be {jaxa_tile(lon, lat)}"
