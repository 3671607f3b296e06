"""Land cover: legends of public products, their merges into categories, tiles read onto a scene's grid.

Codes and names are those of the products' own documentation: JAXA's High-Resolution Land Use and Land Cover map of
Japan (HRLULC, v21.11 and v23.12), Esri's annual land cover (also TerraMesh's), ESA WorldCover, and IGBP (SEN12MS's
first layer). The talk behind the paper merges HRLULC's twelve classes to four categories and does not say how; the
merge "four" is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from s2olib.project import InputError

if TYPE_CHECKING:
    from s2olib.data.rasters import Grid

IGNORE = 255  # the category of a pixel without land cover: losses and scores leave it out
NO_DATA = 0  # written where a land-cover product has nothing; no legend below uses it

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
    """A land-cover product's codes, with display colours and merges of codes into categories (in category order)."""

    product: str
    names: dict[int, str]
    colours: dict[int, str]
    merges: dict[str, dict[str, tuple[int, ...]]]
    water: tuple[int, ...] = field(default=())


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
_IGBP = {1: "evergreen needle-leaf forest", 2: "evergreen broad-leaf forest", 3: "deciduous needle-leaf forest"}
_IGBP |= {4: "deciduous broad-leaf forest", 5: "mixed forest", 6: "closed shrubland", 7: "open shrubland"}
_IGBP |= {8: "woody savanna", 9: "savanna", 10: "grassland", 11: "permanent wetland", 12: "cropland", 13: "urban"}
_IGBP |= {14: "cropland and natural vegetation", 15: "snow and ice", 16: "barren", 17: "water"}
_PSEUDO = {1: "dark", 2: "red-brown", 3: "mixed", 4: "green"}

# Reasons of the merges that are not obvious. Bare ground (HRLULC 10) joins farmland and grass: in Japan it is mostly
# fallow
# fields, river bars and cleared plots, open and low like them, and too rare for a category. A solar farm (12) is a made
# surface with the strong double bounce of buildings; so are greenhouses (14). Wetland (13) is reed and sedge: low
# vegetation.
# Snow and cloud say nothing of the ground and are no data.
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
    ),
    "pseudo-false-colour": Legend(
        "colour rule on a false-colour composite (not land cover)",
        _PSEUDO,
        {code: CATEGORY_COLOURS[name] for code, name in _PSEUDO.items()},
        {"four": {name: (code,) for code, name in _PSEUDO.items()}},
    ),
}


def _categories(legend: str, merge: str) -> dict[str, tuple[int, ...]]:
    if legend not in LEGENDS:
        raise InputError(f"unknown land-cover legend '{legend}': choose one of {', '.join(LEGENDS)}")
    merges = LEGENDS[legend].merges
    if merge not in merges:
        raise InputError(f"legend '{legend}' has no merge '{merge}': choose one of {', '.join(merges)}")
    return merges[merge]


def category_names(legend: str, merge: str) -> list[str]:
    """Names of a merge's categories, index = category. Raises InputError for an unknown legend or merge."""
    return list(_categories(legend, merge))


def merge_codes(codes: np.ndarray, legend: str, merge: str) -> np.ndarray:
    """Merge a product's codes (any shape, uint8) into categories 0..K-1 (same shape, uint8).

    A code that the merge does not name, 0 and 255 included, becomes `IGNORE`. Raises InputError for an unknown legend
    or merge.
    """
    table = np.full(256, IGNORE, np.uint8)
    for category, members in enumerate(_categories(legend, merge).values()):
        table[list(members)] = category
    return table[codes]


def pseudo_categories(opt: np.ndarray) -> np.ndarray:
    """Four pseudo-categories of a false-colour composite (3, H, W) in 0..255, as codes (H, W) uint8.

    The legend is "pseudo-false-colour". The composite is OMBRIA's by its look: red = short-wave infrared, green = near
    infrared, blue = red light. A pixel is *dark* (1) where both infrared bands stay below 50, as over water, shadow and
    burnt ground; else *red-brown* (2) where (green − red) / (green + red), an index like NDMI, is below −0.1; *green*
    (4) where it is above 0.1; *mixed* (3) between. Black (0, 0, 0) and not-a-number are no data (0).

    The rule sees colour alone: it is no land cover, and since it is made from the answer itself it may teach a
    discriminator in training but must never be an input or a score.
    """
    red, green, blue = np.nan_to_num(opt.astype(np.float32))  # (H, W) each
    index = (green - red) / np.maximum(green + red, 1)
    codes = np.select([np.maximum(red, green) < 50, index < -0.1, index > 0.1], [1, 2, 4], 3)
    return np.where((red == 0) & (green == 0) & (blue == 0), NO_DATA, codes).astype(np.uint8)


def jaxa_tile(lon: float, lat: float) -> str:
    """Name of JAXA's one-degree tile that holds a place, by its south-west corner: ``LC_N36E136.tif``."""
    south, west = int(np.floor(lat)), int(np.floor(lon))
    return f"LC_{'NS'[south < 0]}{abs(south):02d}{'EW'[west < 0]}{abs(west):03d}.tif"


class Tiles:
    """Every land-cover GeoTIFF under `lulc_root`, read as one seamless map.

    Each tile's own grid and CRS are used as the file states them. Raises InputError for a missing or empty folder.
    """

    def __init__(self, lulc_root: str | Path) -> None:
        import rasterio  # the legends above are read on machines without rasterio

        root = Path(lulc_root)
        self.root = root
        self.files = sorted(p for p in root.rglob("*") if p.suffix.lower() in (".tif", ".tiff"))
        if not self.files:
            raise InputError(
                f"no land-cover GeoTIFF under lulc_root '{lulc_root}': give the folder that holds the tiles"
            )
        self._bounds = {}
        for path in self.files:
            with rasterio.open(path) as tile:
                if tile.crs is None:
                    raise InputError(f"land-cover tile '{path}' has no coordinate reference system")
                self._bounds[path] = (tile.crs, tile.bounds)

    def covering(self, grid: Grid) -> list[Path]:
        """The tiles whose box meets the grid's, in order of name."""
        from rasterio.warp import transform_bounds

        found, boxes = [], {}
        for path, (crs, box) in self._bounds.items():
            if crs not in boxes:
                boxes[crs] = transform_bounds(grid.crs, crs, *grid.bounds, densify_pts=21)
            left, bottom, right, top = boxes[crs]
            if left < box.right and right > box.left and bottom < box.top and top > box.bottom:
                found.append(path)
        return found

    def read(self, grid: Grid) -> np.ndarray:
        """Original codes on a grid, (H, W) uint8, by nearest neighbour, `NO_DATA` where no tile covers.

        Raises InputError, naming the tile, where nothing covers at all.
        """
        from s2olib.data.rasters import codes_on

        codes = np.full((grid.height, grid.width), NO_DATA, np.uint8)
        paths = self.covering(grid)
        if not paths:
            lon, lat = grid.lonlat(grid.width / 2, grid.height / 2)
            raise InputError(
                f"no land-cover tile under '{self.root}' covers ({lon:.3f}, {lat:.3f}): "
                f"JAXA's would be {jaxa_tile(lon, lat)}"
            )
        for path in paths:
            part = codes_on(path, grid)
            codes = np.where(codes == NO_DATA, part, codes)
        return codes
