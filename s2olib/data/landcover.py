"""Land cover: legends of public products, their merges into categories, tiles read onto a scene's grid.

Codes and names are those of the products' own documentation: JAXA's High-Resolution Land Use and Land Cover map of
Japan (HRLULC, v21.11 and v23.12), Esri's annual land cover (also TerraMesh's), ESA WorldCover, Google's Dynamic World,
and IGBP (SEN12MS's first layer). The talk behind the paper merges HRLULC's twelve classes to four categories and does
not say how; the merge "four" is our choice. A legend of your own is a small YAML file (`find_legend`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from s2olib.project import InputError, resolve

if TYPE_CHECKING:
    from s2olib.data.rasters import Grid

IGNORE = 255  # the category of a pixel without land cover: losses and scores leave it out
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

    `water` are the codes of open water, `epoch` says when the map was made, `no_data` is the code for nothing known.
    """

    product: str
    names: dict[int, str]
    colours: dict[int, str]
    merges: dict[str, dict[str, tuple[int, ...]]]
    water: tuple[int, ...] = ()
    epoch: str = ""
    no_data: int = 0


def _four(water: tuple, built: tuple, farmland: tuple, forest: tuple) -> dict[str, tuple[int, ...]]:
    return {"water": water, "built-up": built, "farmland and grass": farmland, "forest": forest}


_HRLULC = {
    **{1: "water", 2: "built-up", 3: "paddy", 4: "cropland", 5: "grassland", 6: "deciduous broad-leaf forest"},
    **{7: "deciduous needle-leaf forest", 8: "evergreen broad-leaf forest", 9: "evergreen needle-leaf forest"},
    **{10: "bare", 11: "bamboo", 12: "solar panel"},
}
_HRLULC_COLOURS = {
    **{1: "#0072B2", 2: "#D55E00", 3: "#56B4E9", 4: "#E69F00", 5: "#F0E442", 6: "#8FD175", 7: "#5FA777"},
    **{8: "#009E73", 9: "#00583F", 10: "#B8A38A", 11: "#B5C689", 12: "#4B2E83", 13: "#88CCEE", 14: "#CC79A7"},
}
_HRLULC_NEW = {**_HRLULC, 13: "wetland", 14: "greenhouse"}
_ESRI = {1: "water", 2: "trees", 3: "flooded vegetation", 4: "crops", 5: "built area", 6: "bare ground"}
_ESRI |= {7: "snow and ice", 8: "cloud", 9: "rangeland"}
_WORLDCOVER = {10: "tree cover", 20: "shrubland", 30: "grassland", 40: "cropland", 50: "built-up", 60: "bare"}
_WORLDCOVER |= {70: "snow and ice", 80: "water", 90: "herbaceous wetland", 95: "mangroves", 100: "moss and lichen"}
_DYNAMIC = {0: "water", 1: "trees", 2: "grass", 3: "flooded vegetation", 4: "crops", 5: "shrub and scrub"}
_DYNAMIC |= {6: "built area", 7: "bare ground", 8: "snow and ice"}
_IGBP = {1: "evergreen needle-leaf forest", 2: "evergreen broad-leaf forest", 3: "deciduous needle-leaf forest"}
_IGBP |= {4: "deciduous broad-leaf forest", 5: "mixed forest", 6: "closed shrubland", 7: "open shrubland"}
_IGBP |= {8: "woody savanna", 9: "savanna", 10: "grassland", 11: "permanent wetland", 12: "cropland", 13: "urban"}
_IGBP |= {14: "cropland and natural vegetation", 15: "snow and ice", 16: "barren", 17: "water"}
_PSEUDO = {1: "dark", 2: "red-brown", 3: "mixed", 4: "green"}

# Reasons of the merges that are not obvious. Bare ground (HRLULC 10) joins farmland and grass: in Japan it is mostly
# fallow fields, river bars and cleared plots, open and low like them, and too rare for a category. A solar farm (12) is
# a made surface with the strong double bounce of buildings; so are greenhouses (14). Wetland (13) is reed and sedge:
# low vegetation. Snow and cloud say nothing of the ground and are no data.
LEGENDS: dict[str, Legend] = {
    "hrlulc-v21.11": Legend(
        "JAXA HRLULC Japan v21.11",
        _HRLULC,
        {code: _HRLULC_COLOURS[code] for code in _HRLULC},
        {
            "four": _four((1,), (2, 12), (3, 4, 5, 10), (6, 7, 8, 9, 11)),
            "twelve": {name: (code,) for code, name in _HRLULC.items()},
        },
        water=(1,),
        epoch="2018–2020",
    ),
    "hrlulc-v23.12": Legend(
        "JAXA HRLULC Japan v23.12",
        _HRLULC_NEW,
        _HRLULC_COLOURS,
        {
            "four": _four((1,), (2, 12, 14), (3, 4, 5, 10, 13), (6, 7, 8, 9, 11)),
            # v21.11's twelve, so that both versions train the same network
            "twelve": {name: (code, *{2: (14,), 5: (13,)}.get(code, ())) for code, name in _HRLULC.items()},
        },
        water=(1,),
        epoch="2022",
    ),
    "esri": Legend(
        "Esri annual land cover",
        _ESRI,
        {
            **{1: "#0072B2", 2: "#009E73", 3: "#56B4E9", 4: "#E69F00", 5: "#D55E00"},
            **{6: "#B8A38A", 7: "#FFFFFF", 8: "#BBBBBB", 9: "#F0E442"},
        },
        {"four": _four((1,), (5,), (3, 4, 6, 9), (2,))},
        water=(1,),
        epoch="one map a year from 2017",
    ),
    "worldcover": Legend(
        "ESA WorldCover",
        _WORLDCOVER,
        {
            **{10: "#009E73", 20: "#B5C689", 30: "#F0E442", 40: "#E69F00", 50: "#D55E00", 60: "#B8A38A"},
            **{70: "#FFFFFF", 80: "#0072B2", 90: "#56B4E9", 95: "#00583F", 100: "#DDCC77"},
        },
        {"four": _four((80,), (50,), (20, 30, 40, 60, 90, 100), (10, 95))},
        water=(80,),
        epoch="2020 (v100) or 2021 (v200)",
    ),
    "dynamic-world": Legend(
        "Google Dynamic World",
        _DYNAMIC,
        {
            **{0: "#0072B2", 1: "#009E73", 2: "#F0E442", 3: "#56B4E9", 4: "#E69F00", 5: "#B5C689", 6: "#D55E00"},
            **{7: "#B8A38A", 8: "#FFFFFF"},
        },
        {"four": _four((0,), (6,), (2, 3, 4, 5, 7), (1,))},
        water=(0,),
        epoch="of each image",
        no_data=255,
    ),
    "igbp": Legend(
        "IGBP (MODIS MCD12Q1)",
        _IGBP,
        {
            **{1: "#00583F", 2: "#009E73", 3: "#5FA777", 4: "#8FD175", 5: "#3B8B66", 6: "#B5C689", 7: "#DDCC77"},
            **{8: "#999933", 9: "#C9B458", 10: "#F0E442", 11: "#56B4E9", 12: "#E69F00", 13: "#D55E00", 14: "#CC9966"},
            **{15: "#FFFFFF", 16: "#B8A38A", 17: "#0072B2"},
        },
        {"four": _four((17,), (13,), (6, 7, 9, 10, 11, 12, 14, 16), (1, 2, 3, 4, 5, 8))},
        water=(17,),
        epoch="2016, at 500 m",
    ),
    **{
        name: Legend(
            f"colour rule on a {name.removeprefix('pseudo-')} image (not land cover)",
            _PSEUDO,
            {code: CATEGORY_COLOURS[category] for code, category in _PSEUDO.items()},
            {"four": {category: (code,) for code, category in _PSEUDO.items()}},
        )
        for name in PSEUDO
    },
}


def find_legend(name: str) -> Legend:
    """A legend by its name in `LEGENDS`, or your own from a YAML file.

    The file maps `product`, `names` and `colours` (code: text), `merges` (name: category: list of codes) and optional
    `water`, `epoch` and `no_data`. Raises InputError for an unknown name or a file that contradicts itself.
    """
    if name in LEGENDS:
        return LEGENDS[name]
    if not name.endswith((".yml", ".yaml")):
        raise InputError(
            f"unknown land-cover legend '{name}': choose one of {', '.join(LEGENDS)}, or a YAML file of yours"
        )
    path = resolve(name)
    state = path.stat() if path.is_file() else None
    return _own_legend(path, state and (state.st_mtime_ns, state.st_size))


@lru_cache
def _own_legend(name: Path, state: tuple[int, int] | None) -> Legend:
    """A legend from a file, read anew when its `state` (time and size) is another."""
    try:
        content = yaml.safe_load(name.read_text())
        merges = {
            merge: {category: tuple(codes) for category, codes in parts.items()}
            for merge, parts in content.pop("merges").items()
        }
        found = Legend(**content | {"merges": merges, "water": tuple(content.get("water", ()))})
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"legend '{name}' cannot be read: it needs product, names, colours and merges as mappings ({error})"
        ) from error
    for merge, parts in found.merges.items():
        members = [code for codes in parts.values() for code in codes]
        for code in members:
            if code not in found.names or members.count(code) > 1:
                raise InputError(f"legend '{name}': merge '{merge}' has code {code} twice, or names does not have it")
    if set(found.names) != set(found.colours) or not all(0 <= code < 256 for code in found.names):
        raise InputError(f"legend '{name}': names and colours must have the same codes, each within 0..255")
    return found


def merge_table(legend: str, merge: str) -> dict[str, tuple[int, ...]]:
    """A merge's categories in order, each with its codes. Raises InputError for an unknown legend or merge."""
    merges = find_legend(legend).merges
    if merge not in merges:
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

    "pseudo-false-colour" is for OMBRIA's composite, by its look short-wave infrared, near infrared and red: a pixel is
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


class Tiles:
    """Every land-cover GeoTIFF under `lulc_root`, read as one seamless map with the codes of `legend`.

    Each tile's own grid and CRS are used as the file states them. Raises InputError for a missing or empty folder, a
    tile that is no raster or has no CRS, and two tiles of one place, as when a tile was issued anew.
    """

    def __init__(self, lulc_root: str | Path, legend: str) -> None:
        from s2olib.data.rasters import header  # the legends above are read on machines without rasterio

        self.root, self.legend = Path(lulc_root), legend
        found = (path for path in self.root.rglob("*") if path.suffix.lower() in (".tif", ".tiff"))
        self.files = sorted(path for path in found if not path.name.startswith("."))
        if not self.files:
            raise InputError(
                f"no land-cover GeoTIFF under lulc_root '{lulc_root}': give the folder that holds the tiles"
            )
        grids = {path: header(path).grid for path in self.files}
        self._boxes = {path: (grid.crs, grid.bounds) for path, grid in grids.items()}
        places: dict[tuple, Path] = {}
        for path, (crs, bounds) in self._boxes.items():
            if crs is None:
                raise InputError(f"land-cover tile '{path}' has no coordinate reference system")
            twin = places.setdefault((crs.to_string(), *np.round(bounds, 6)), path)
            if twin != path:
                raise InputError(f"land-cover tiles '{path}' and '{twin}' show the same place: keep the newer one")

    @property
    def footprint(self) -> str:
        """Says where the tiles lie, and nothing else of them."""
        return str([(crs.to_string(), bounds) for crs, bounds in self._boxes.values()])

    def covering(self, grid: Grid, whole: bool = False) -> list[Path]:
        """The tiles whose box meets the grid's, or has all of it, in order of name."""
        from rasterio.warp import transform_bounds

        boxes = {
            crs: transform_bounds(grid.crs, crs, *grid.bounds, densify_pts=21)
            for crs in {crs for crs, _ in self._boxes.values()}
        }
        found = []
        for path, (crs, (west, south, east, north)) in self._boxes.items():
            left, bottom, right, top = boxes[crs]
            if whole:
                left, bottom, right, top = right, top, left, bottom
            if left < east and right > west and bottom < north and top > south:
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


def place_of(grid: Grid) -> str:
    """Where a grid's centre is, and what JAXA's tile of it is called."""
    lon, lat = grid.lonlat(grid.width / 2, grid.height / 2)
    return f"({lon:.3f}, {lat:.3f}): JAXA's would be {jaxa_tile(lon, lat)}"
