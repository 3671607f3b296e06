"""The embedded archive: a small SYNTHETIC Japan-like world, written as SEN12MS and HRLULC files would be.

It exists to run and check code without a download: the readers of the real archives read it unchanged. It is never
evidence about a method, and every file says so in its tags. Folders, names, bands, types and units are SEN12MS's
(Schmitt et al., 2019); the land cover follows JAXA's HRLULC (degree tiles, 1/12000 degree, codes v21.11).

A scene is made once on its UTM grid, then cut into patches that overlap by half. What makes it: terrain in which
slopes balance drainage area (the stream-power law), so that valleys branch and rivers reach the sea; land cover that
follows from terrain and latitude; two mixed materials per pixel, each with a spectrum and a backscatter of its own;
sunlight for the optical image, side-looking radar geometry and speckle for the other one. All of it is computed in
float64 and rounded once, at the end, so that processors which differ in a last bit still give the same files.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject, transform, transform_bounds
from scipy import fft, ndimage
from tqdm import tqdm

from s2olib.data import rasters
from s2olib.project import InputError, resolve, writable, writing

VERSION = 3
PATCH, STEP, ROWS, COLS = 256, 128, 3, 4  # a scene is 3 x 4 patches: 512 x 640 pixels
FRAME = 8  # pixels of land cover around a scene, so that no patch ends where the map does
SHAPE = ((ROWS + 1) * STEP + 2 * FRAME, (COLS + 1) * STEP + 2 * FRAME)
PIXEL, COARSE = 10.0, 4  # metres; drainage is solved on cells of 4 x 4 pixels
TILE = 12000  # pixels of a land-cover tile per degree
LOOKS, INCIDENCE, LOOK_AZIMUTH = 4.4, np.radians(39.0), np.radians(100.0)  # an ascending, right-looking pass
SEASONS = ("spring", "summer", "fall", "winter")
FOLDERS = dict(zip(SEASONS, ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter"), strict=True))
SUN_ELEVATION = dict(zip(SEASONS, (60.0, 65.0, 42.0, 31.0), strict=True))  # degrees at half past ten
SUN_AZIMUTH = np.radians(152.0)
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
WAVELENGTHS = (443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190)  # nm
BLUR = (3.0, 0.5, 0.5, 0.5, 0.9, 0.9, 0.9, 0.5, 0.9, 3.0, 3.0, 0.9, 0.9)  # pixels: bands of 60, 10 and 20 m
TRANSMISSION = np.array((0.86, 0.89, 0.92, 0.95, 0.95, 0.95, 0.96, 0.95, 0.97, 0.35, 0.01, 0.97, 0.96))
PATH = np.array((62, 45, 24, 13, 10, 8, 7, 5, 4, 2, 1, 1, 0)) / 1000  # reflectance that air adds at the top

# Reflectance x 1000 at 443, 490, 560, 665, 705, 740, 783, 842, 1610, 2190 nm; then sigma0 of VV and VH in dB, at 39°.
MATERIALS = {
    "deep water": (30, 28, 24, 14, 9, 7, 6, 5, 3, 2, -18.5, -28.5),
    "shallow water": (42, 52, 62, 38, 26, 17, 14, 12, 5, 3, -20, -29.5),
    "wet soil": (50, 60, 74, 88, 98, 106, 114, 124, 150, 118, -12.5, -21),
    "dry soil": (72, 90, 120, 155, 175, 188, 200, 214, 290, 250, -14, -23),
    "sand": (125, 155, 200, 240, 260, 272, 284, 296, 370, 340, -17.5, -26),
    "rock": (90, 102, 120, 136, 145, 150, 155, 160, 200, 180, -9.5, -18),
    "straw": (52, 70, 104, 138, 165, 192, 210, 228, 290, 200, -12.5, -20),
    "crop": (28, 34, 70, 38, 108, 275, 345, 380, 220, 110, -10.5, -16.5),
    "grass": (32, 42, 82, 58, 122, 235, 280, 310, 245, 135, -12.5, -19),
    "leaves": (20, 25, 52, 28, 86, 245, 325, 360, 185, 78, -9, -14.5),
    "autumn leaves": (30, 40, 72, 98, 150, 215, 250, 280, 225, 120, -9.5, -15.5),
    "branches": (36, 46, 60, 72, 90, 116, 138, 158, 180, 125, -10, -16.5),
    "needles": (14, 17, 31, 20, 50, 128, 164, 180, 90, 40, -8.5, -14),
    "laurel": (18, 21, 45, 23, 70, 215, 288, 315, 150, 62, -8.5, -13.7),
    "bamboo": (26, 32, 78, 42, 125, 285, 355, 385, 190, 82, -9.8, -15.2),
    "asphalt": (78, 86, 98, 104, 108, 112, 118, 122, 140, 125, -12, -21),
    "tiles": (66, 74, 88, 100, 108, 114, 120, 126, 165, 150, -4.5, -12),
    "metal": (190, 215, 236, 246, 250, 254, 258, 262, 280, 250, -1, -9.5),
    "blue metal": (125, 160, 158, 128, 124, 128, 135, 145, 190, 170, -2, -10),
    "panel": (46, 52, 48, 44, 46, 50, 54, 60, 70, 60, -8, -19),
}
# Cover → the two materials it is mixed of in spring, summer, fall and winter.
COVERS = {
    "sea": (("deep water", "shallow water"),) * 4,
    "river": (("shallow water", "deep water"),) * 4,
    "paddy": (("shallow water", "crop"), ("crop", "leaves"), ("straw", "wet soil"), ("wet soil", "straw")),
    "cropland": (("dry soil", "crop"), ("crop", "dry soil"), ("dry soil", "grass"), ("dry soil", "straw")),
    "grassland": (("grass", "crop"), ("grass", "crop"), ("grass", "straw"), ("straw", "grass")),
    "deciduous broad": (("leaves", "bamboo"), ("leaves", "bamboo"), ("autumn leaves", "leaves"), ("branches", "straw")),
    "deciduous needle": (("leaves", "needles"),) * 2 + (("straw", "autumn leaves"), ("branches", "needles")),
    "evergreen broad": (("laurel", "leaves"),) * 2 + (("laurel", "needles"),) * 2,
    "evergreen needle": (("needles", "laurel"),) * 4,
    "bamboo": (("autumn leaves", "bamboo"),) + (("bamboo", "leaves"),) * 2 + (("bamboo", "grass"),),
    "beach": (("sand", "dry soil"),) * 4,
    "rock": (("rock", "dry soil"),) * 4,
    "solar": (("panel", "grass"),) * 4,
    "road": (("asphalt", "dry soil"),) * 4,
    "house": (("tiles", "asphalt"),) * 4,
    "hall": (("metal", "tiles"),) * 4,
    "factory": (("blue metal", "metal"),) * 4,
    "garden": (("grass", "tiles"), ("leaves", "tiles"), ("autumn leaves", "tiles"), ("straw", "tiles")),
}
WATER, BUILT, PADDY, CROP, GRASS, DBF, DNF, EBF, ENF, BARE, BAMBOO, SOLAR = range(1, 13)  # HRLULC v21.11
OF_CODE = dict(enumerate(("river", "house", *list(COVERS)[2:9], "rock", "bamboo", "solar"), start=1))
# HRLULC code → MODIS classes: IGBP; LCCS land cover, land use and surface hydrology.
MODIS = np.zeros((13, 4), np.uint8)
MODIS[WATER] = 17, 3, 3, 3
MODIS[[BUILT, SOLAR]] = 13, 1, 9, 1
MODIS[[PADDY, CROP]] = 12, 31, 36, 30
MODIS[GRASS] = 10, 31, 30, 30
MODIS[DBF] = 4, 14, 10, 10
MODIS[DNF] = 3, 13, 10, 10
MODIS[[EBF, BAMBOO]] = 2, 12, 10, 10
MODIS[ENF] = 1, 11, 10, 10
MODIS[BARE] = 16, 1, 1, 1


@dataclass(frozen=True)
class Scene:
    """One scene of the world: where and when it is, and what its landscape is like."""

    name: str
    number: int  # the scene's number in the files' names
    season: str
    lon: float  # of the centre, degrees
    lat: float
    seaward: float  # azimuth in degrees towards which the land falls
    sea: float  # shares of the scene: sea,
    hills: float  # hills,
    town: float  # and town, of the plain
    inflow: float = 0.0  # upstream area of the river that enters, in km²
    shape: tuple[int, int] = SHAPE  # pixels with the frame; the archive's patches need this one

    @property
    def crs(self) -> CRS:
        return CRS.from_epsg(32601 + int((self.lon + 180) // 6))

    @property
    def transform(self) -> Affine:
        """Of the patches' common grid (without the frame), off the 10 m lattice by a constant part of a pixel."""
        (x,), (y,) = transform("EPSG:4326", self.crs, [self.lon], [self.lat])
        dx, dy = (self.number * 0.37) % 1 * PIXEL, (self.number * 0.61) % 1 * PIXEL
        west, north = x // PIXEL - (COLS + 1) * STEP // 2, y // PIXEL + (ROWS + 1) * STEP // 2
        return Affine(PIXEL, 0, round(west * PIXEL + dx, 2), 0, -PIXEL, round(north * PIXEL + dy, 2))

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """(lat, lon) of the south-western corners of the land-cover tiles that the scene touches."""
        west, south, east, north = _bounds(self)
        lats = range(int(np.floor(south)), int(np.floor(north)) + 1)
        return [(lat, lon) for lat in lats for lon in range(int(np.floor(west)), int(np.floor(east)) + 1)]


def scenes() -> list[Scene]:
    """The world's scenes. Kaga and Mikuni are those that the paper looks at; the others spread over Japan."""
    return [
        Scene("Kaga", 124, "spring", 136.30, 36.30, 320, 0.00, 0.30, 0.22, inflow=90),
        Scene("Mikuni", 131, "summer", 136.15, 36.20, 300, 0.38, 0.18, 0.16, inflow=250),
        Scene("Niigata", 17, "spring", 139.05, 37.86, 325, 0.15, 0.05, 0.20, inflow=300),
        Scene("Hiroshima", 58, "spring", 132.45, 34.38, 170, 0.22, 0.40, 0.55, inflow=120),
        Scene("Toyama", 83, "spring", 137.15, 36.70, 10, 0.10, 0.22, 0.20, inflow=120),
        Scene("Sendai", 21, "summer", 140.93, 38.20, 95, 0.25, 0.12, 0.25, inflow=100),
        Scene("Azumino", 64, "summer", 137.88, 36.27, 40, 0.00, 0.50, 0.15, inflow=80),
        Scene("Saga", 97, "summer", 130.28, 33.24, 180, 0.06, 0.15, 0.22, inflow=100),
        Scene("Tokachi", 39, "fall", 143.18, 42.90, 120, 0.00, 0.20, 0.10, inflow=150),
        Scene("Tsukuba", 72, "fall", 140.12, 36.00, 150, 0.00, 0.08, 0.28, inflow=40),  # on the edge of two tiles
        Scene("Nagoya", 45, "winter", 137.00, 35.15, 230, 0.04, 0.15, 0.65, inflow=90),  # on the edge of two tiles
        Scene("Kochi", 106, "winter", 133.55, 33.53, 175, 0.25, 0.35, 0.22, inflow=60),
    ]


def write_archive(archive_root: str | Path, lulc_root: str | Path, *, seed: int = 0) -> None:
    """Write the embedded archive: SEN12MS folders under `archive_root`, land-cover tiles under `lulc_root`.

    Files of the same version and seed that are there already are kept, so a second call costs next to nothing and an
    interrupted one goes on; `embedded.json` in `archive_root` is written last. The same seed gives the same bytes.

    Raises `InputError` where one of the folders holds another raster: nobody's images become partly synthetic.
    """
    archive_root, lulc_root = resolve(archive_root), resolve(lulc_root)
    tiles = sorted({tile for scene in scenes() for tile in scene.tiles})
    patches = {path for scene in scenes() for path in _patches(scene, archive_root).values()}
    _no_others(archive_root.glob("*/*/*"), patches, "archive_root")
    _no_others(lulc_root.glob("*"), {_tile(*tile, lulc_root) for tile in tiles}, "lulc_root")
    with tqdm(total=len(scenes()) + len(tiles), desc="embedded archive", unit="part") as bar:
        for scene in scenes():
            write_scene(scene, archive_root, seed=seed)
            bar.update()
        for tile in tiles:
            with writable("lulc_root", lulc_root):
                write_tile(*tile, lulc_root, seed=seed)
            bar.update()
    with writing(archive_root / "embedded.json") as aside:
        manifest = {"synthetic": True, "version": VERSION, "seed": seed, "scenes": [scene.name for scene in scenes()]}
        aside.write_text(json.dumps(manifest, indent=1) + "\n")


def write_scene(scene: Scene, archive_root: str | Path, *, seed: int = 0) -> list[Path]:
    """Write a scene's patches, in SEN12MS's layout, where they are missing; return all their paths."""
    paths = _patches(scene, archive_root)
    description = _description(scene.name, seed)
    missing = [key for key, path in paths.items() if not _is_there(path, description)]
    if missing:
        bands = {"s1": ("VV", "VH"), "s2": BANDS, "lc": ("IGBP", "LCCS1", "LCCS2", "LCCS3")}
        inner = (..., slice(FRAME, -FRAME), slice(FRAME, -FRAME))
        images = {kind: array[inner] for kind, array in make_scene(scene, seed=seed).items()}
        for kind, patch in missing:
            row, col = (STEP * number for number in divmod(patch - 1, COLS))
            pixels = images[kind][:, row : row + PATCH, col : col + PATCH]
            grid = scene.transform @ Affine.translation(col, row)
            _write(paths[kind, patch], pixels, scene.crs, grid, bands[kind], description)
    return list(paths.values())


def _patches(scene: Scene, archive_root: str | Path) -> dict[tuple[str, int], Path]:
    """Where a scene's patches lie, by kind and number."""
    folder = resolve(archive_root) / FOLDERS[scene.season]
    return {
        (kind, patch): folder / f"{kind}_{scene.number}" / f"{folder.name}_{kind}_{scene.number}_p{patch}.tif"
        for patch in range(1, 1 + ROWS * COLS)
        for kind in ("s1", "s2", "lc")
    }


def write_tile(lat: int, lon: int, lulc_root: str | Path, *, seed: int = 0) -> Path:
    """Write the land-cover tile whose south-western corner is (lat, lon), cropped to its scenes, if it is missing."""
    path = _tile(lat, lon, lulc_root)
    description = _description(f"land cover of N{lat}E{lon}", seed)
    if _is_there(path, description):
        return path
    inside = [scene for scene in scenes() if (lat, lon) in scene.tiles]
    west, south, east, north = np.array([_bounds(scene) for scene in inside]).T
    left, right = max(0, int((west.min() - lon) * TILE)), min(TILE, int((east.max() - lon) * TILE) + 1)
    top, bottom = max(0, int((lat + 1 - north.max()) * TILE)), min(TILE, int((lat + 1 - south.min()) * TILE) + 1)
    grid = Affine(1 / TILE, 0, lon + left / TILE, 0, -1 / TILE, lat + 1 - top / TILE)
    codes = np.zeros((1, bottom - top, right - left), np.uint8)
    for scene in inside:
        source = scene.transform @ Affine.translation(-FRAME, -FRAME)
        there = np.zeros_like(codes)
        where = {"src_transform": source, "src_crs": scene.crs, "dst_transform": grid, "dst_crs": "EPSG:4326"}
        reproject(land_cover(scene, seed=seed)["codes"][None], there, **where, resampling=Resampling.nearest)
        codes = np.where(there > 0, there, codes)
    _write(path, codes, CRS.from_epsg(4326), grid, ("HRLULC v21.11",), description)
    return path


def _tile(lat: int, lon: int, lulc_root: str | Path) -> Path:
    return resolve(lulc_root) / f"LC_N{lat:02d}E{lon:03d}.tif"


def make_scene(scene: Scene, *, seed: int = 0) -> dict[str, np.ndarray]:
    """A framed scene: "s1" (2, H, W) float32 dB, "s2" (13, H, W) uint16, "lc" (4, H, W) uint8, "codes" (H, W) uint8."""
    land = land_cover(scene, seed=seed)
    rng = np.random.default_rng([seed, scene.number, 2])
    cover, mix, gain = _covers(scene, land, rng)
    season = SEASONS.index(scene.season)
    wavelengths = [band for band in WAVELENGTHS if band not in (865, 945, 1375)]
    table = {name: np.array(values, float) for name, values in MATERIALS.items()}
    spectra = {name: np.interp(WAVELENGTHS, wavelengths, values[:10] / 1000) for name, values in table.items()}
    ends = np.array([[spectra[material] for material in pairs[season]] for pairs in COVERS.values()])
    powers = np.array([[10 ** (table[m][10:] / 10) for m in pairs[season]] for pairs in COVERS.values()])

    # Optical: materials in sunlight, seen through air and a lens.
    south, east = np.gradient(ndimage.gaussian_filter(land["height"], 0.7), PIXEL)
    elevation = np.radians(SUN_ELEVATION[scene.season])
    uphill_to_sun = east * np.sin(SUN_AZIMUTH) - south * np.cos(SUN_AZIMUTH)
    direct = (1 - uphill_to_sun / np.tan(elevation)) / np.sqrt(1 + south**2 + east**2)
    light = (0.2 + 0.8 * np.clip(direct, 0, 2.5)) * gain
    optical = np.empty((len(BANDS), *scene.shape), np.uint16)
    for band, (blur, through, air) in enumerate(zip(BLUR, TRANSMISSION, PATH, strict=True)):
        surface = (ends[cover, 0, band] * (1 - mix) + ends[cover, 1, band] * mix) * light
        seen = ndimage.gaussian_filter(surface, blur) * through + air
        noise = rng.standard_normal(scene.shape) * (6 if blur < 3 else 0)
        optical[band] = np.clip(np.rint(seen * 10000 + noise), 1, 10000)

    # SAR: a slope that faces the radar packs more ground into a cell of the ellipsoid (foreshortening).
    tilt = np.clip(np.arctan(east * np.sin(LOOK_AZIMUTH) - south * np.cos(LOOK_AZIMUTH)), -1.0, INCIDENCE - 0.12)
    geometry = np.sin(INCIDENCE) / np.sin(INCIDENCE - tilt) * np.cos(INCIDENCE - tilt) / np.cos(INCIDENCE)
    sar = np.empty((2, *scene.shape))
    for channel in range(2):
        power = (powers[cover, 0, channel] * (1 - mix) + powers[cover, 1, channel] * mix) * land["echo"]
        power = ndimage.gaussian_filter(power * np.clip(geometry, 0.1, 8), 0.7)
        sar[channel] = 10 * np.log10(power * speckle(rng, scene.shape) + 10**-3.4)
    sar = (np.rint(sar * 128) / 128).astype(np.float32)  # 0.008 dB: far below speckle
    return {"s1": sar, "s2": optical, "lc": _modis(land["codes"]), "codes": land["codes"]}


def speckle(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Multiplicative speckle of mean 1 and 4.4 looks, correlated over neighbours by the sensor's point spread.

    A sum of single-look exponential intensities: four of weight 1 and one of the weight that makes 4.4 looks.
    """
    # (4 + w)² / (4 + w²) = L, solved for w
    last = (8 - np.sqrt(64 - 16 * (LOOKS - 1) * (LOOKS - 4))) / (2 * (LOOKS - 1))
    total = np.zeros(shape)
    for weight in (1, 1, 1, 1, last):
        for _ in range(2):  # the real and the imaginary part of the echo
            part = ndimage.gaussian_filter(rng.standard_normal(shape), 0.6, mode="wrap", truncate=3)
            total += weight * part**2 / part.var()
    return total / (2 * (4 + last))


def land_cover(scene: Scene, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Terrain and land cover of a scene with its frame, each (H, W).

    "codes" (uint8, HRLULC v21.11), "height" (m), "coast" (distance to land, in pixels), "district" and its lattice's
    "angle", "parcel" (a random number per field or block) and "echo" (backscatter relative to the material's).
    """
    rng = np.random.default_rng([seed, scene.number, 1])
    height, hilly, sea, river, bank = _terrain(scene, rng)
    slope = ndimage.gaussian_filter(np.hypot(*np.gradient(height, PIXEL)), 1.5)
    inland = ndimage.distance_transform_edt(~sea)
    row, col = np.indices(scene.shape, float)
    patchy, rough, fine = (fractal(rng, scene.shape, scale, 3.6) for scale in (160, 60, 25))

    # The plain: districts, each with a lattice of fields of its own.
    seeds = rng.random((14, 2)) * scene.shape
    distance = [np.hypot(row - y + 6 * rough, col - x + 6 * fine) for y, x in seeds]
    district = np.argmin(distance, axis=0)
    turn = np.radians(rng.normal(0, 14, len(seeds)) + scene.seaward)
    length, width = rng.uniform(9, 16, len(seeds)), rng.uniform(4, 8, len(seeds))
    parcel, _, _ = lattice(row, col, turn[district], length[district], width[district], district, rng)
    dry = np.clip(0.32 + 0.28 * patchy + (scene.lat > 41), 0.03, 0.97)  # share of fields without water
    codes = np.where(parcel < 1 - dry, PADDY, CROP)
    other, _, _ = lattice(row, col, turn[district], length[district], width[district], district, rng)
    codes = np.where(other > 0.93, GRASS, codes)
    codes = np.where(other < 0.012, BARE, codes)
    solar, y, x = lattice(row, col, turn[district], 18, 12, district, rng)
    codes = np.where(solar > 0.975, SOLAR, codes)

    # The forest: slopes, and groves on the plain; its kind by warmth, height and stand.
    forest = (slope + 0.03 * fine > 0.13) | (hilly > 0.25) | (rough + 0.6 * fine > 2.1)
    cold = (scene.lat - 36.5) / 5 + (height - 150) / 350
    stand, _, _ = lattice(row + 8 * fine, col + 8 * rough, np.full(scene.shape, 0.6), 26, 22, district * 0, rng)
    kinds = [0.5 + 0.5 * cold, -0.9 + 1.1 * cold, 0.35 - 0.9 * cold, 0.3 + 1.6 * (stand - 0.5)]
    kinds = [score + 0.75 * fractal(rng, scene.shape, 60, 3.2) for score in kinds]
    trees = np.argmax(kinds, axis=0) + DBF
    edge = ndimage.distance_transform_edt(forest)
    trees = np.where((edge < 9 + 4 * rough) & (patchy + fine > 0.7) & (scene.lat < 39), BAMBOO, trees)
    trees = np.where((rough > 1.7) & (slope < 0.35), GRASS, trees)  # pastures and golf courses
    trees = np.where((fine + 0.5 * rough > 2.6) | (slope > 0.85), BARE, trees)  # quarries and landslides
    trees = np.where((solar > 0.97) & (slope < 0.3), SOLAR, trees)
    codes = np.where(forest, trees, codes)

    # Towns: blocks around centres on the plain, thinner outwards, and villages.
    plain = ~forest & ~sea & (bank > 2)
    spots = np.flatnonzero(ndimage.binary_erosion(plain, iterations=6))
    centres = np.array(np.unravel_index(rng.choice(spots, 5), scene.shape)).T
    dense = 0.1 * patchy + 0.07 * rough
    for weight, (y, x) in zip((1.0, 0.6, 0.45, 0.35, 0.3), centres, strict=True):
        dense += weight * np.exp(-np.hypot(row - y, col - x) / (150 * weight))
    block, y, x = lattice(row, col, turn[district], 9, 8, district, rng)
    at_centre = dense[np.clip(y, 0, scene.shape[0] - 1), np.clip(x, 0, scene.shape[1] - 1)] + 0.12 * (block - 0.5)
    town = plain & (at_centre > np.quantile(at_centre[plain], 1 - scene.town)) & (block < 0.93)
    codes = np.where(town | (plain & (block > 0.985)), BUILT, codes)

    # Water's edges, then water.
    beach = (inland < 3.5 + 1.5 * rough) & (slope < 0.25) & (codes != BUILT)
    codes = np.where((bank < 2.5 + 1.5 * fine) & (codes != BUILT), GRASS, codes)
    codes = np.where(beach | ((bank < 2) & (rough > 1.0)), BARE, codes)
    pond = plain & ~town & (fine - 0.4 * rough > 2.5)
    codes = np.where(sea | river | pond, WATER, codes)
    wind = 10 ** (0.22 * patchy + 0.06 * rough)
    aligned = np.abs((turn + np.pi / 4 - LOOK_AZIMUTH) % (np.pi / 2) - np.pi / 4)  # walls face the radar at 0
    double_bounce = 0.55 + 2.2 * np.exp(-((aligned / 0.2) ** 2))
    echo = np.where(sea, wind, np.where(codes == BUILT, double_bounce[district], 10 ** (0.05 * rough)))
    return {
        "codes": codes.astype(np.uint8),
        "height": height,
        "coast": np.where(sea, ndimage.distance_transform_edt(sea), 0),
        "district": district,
        "angle": turn[district],
        "parcel": np.where(codes == BUILT, block, parcel),
        "echo": echo,
    }


def fractal(rng: np.random.Generator, shape: tuple[int, int], scale: float, power: float) -> np.ndarray:
    """A random field (H, W) of mean 0, deviation 1; below `scale` pixels its spectrum falls as frequency^-`power`."""
    spectrum = fft.rfft2(rng.standard_normal(shape))
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None])
    spectrum *= (frequency**2 + scale**-2.0) ** (-power / 4)
    field = fft.irfft2(spectrum, s=shape)
    return (field - field.mean()) / field.std()


def lattice(
    row: np.ndarray,
    col: np.ndarray,
    angle: np.ndarray,
    length: np.ndarray | float,
    width: np.ndarray | float,
    district: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut each district into rectangles of `length` x `width` pixels, turned by `angle`.

    Gives, per pixel, a random number that its rectangle has, and the row and column of the rectangle's centre.
    """
    sin, cos = np.sin(angle), np.cos(angle)
    i, j = np.floor((row * cos + col * sin) / length), np.floor((col * cos - row * sin) / width)
    key = i.astype(np.int64) * 73856093 ^ j.astype(np.int64) * 19349663 ^ np.asarray(district) * 83492791
    u, v = (i + 0.5) * length, (j + 0.5) * width
    return rng.random(1 << 16)[key & 0xFFFF], (u * cos - v * sin).astype(int), (u * sin + v * cos).astype(int)


def _terrain(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Height in metres, how hilly (0..1), the sea and rivers (bool), and the distance in pixels to a river's bank."""
    shape = (scene.shape[0] // COARSE, scene.shape[1] // COARSE)
    azimuth = np.radians(scene.seaward)
    row, col = np.indices(shape) / shape[1] - 0.5
    seaward = col * np.sin(azimuth) - row * np.cos(azimuth) + 0.10 * fractal(rng, shape, 60, 3.6)
    rise = -seaward + 0.24 * fractal(rng, shape, 60, 3.4)
    hilly = np.clip((rise - np.quantile(rise, 1 - scene.hills)) / 0.15, 0, 1)
    level = np.quantile(seaward, 1 - scene.sea) if scene.sea else seaward.max()
    border = np.pad(np.full((shape[0] - 2, shape[1] - 2), np.nan), 1)  # 0 on the border
    outlets = seaward >= level if scene.sea else seaward >= np.nanmax(seaward + border)
    area = np.ones(shape)
    area[np.unravel_index(np.nanargmin(seaward + border), shape)] += scene.inflow * 1e6 / (COARSE * PIXEL) ** 2
    height = 40 * (rise - rise.min()) + 3 * fractal(rng, shape, 30, 2.0)
    for _ in range(2):  # the second pass follows the first one's valleys
        order, parent = _drainage(height, outlets)
        flow = area.ravel().copy()
        for cell in reversed(order):
            if parent[cell] >= 0:
                flow[parent[cell]] += flow[cell]
        steps = (0.002 + 0.75 * hilly.ravel()) * flow**-0.33 * COARSE * PIXEL
        level_of = np.zeros(flow.size)
        for cell in order:
            if parent[cell] >= 0:
                level_of[cell] = level_of[parent[cell]] + steps[cell]
        height = level_of.reshape(shape) + rng.normal(0, 0.5, shape)

    def enlarge(field: np.ndarray, order: int = 3) -> np.ndarray:
        return ndimage.zoom(field, COARSE, order=order, mode="nearest", grid_mode=True)

    fine = fractal(rng, scene.shape, 30, 3.0)
    hilly = np.clip(enlarge(ndimage.gaussian_filter(hilly, 1.0), 1), 0, 1)
    sea = enlarge(seaward) + 0.003 * fine > level if scene.sea else np.zeros(scene.shape, bool)
    height = enlarge(ndimage.gaussian_filter(height, 0.6)) + 4 * hilly * fine
    height = np.where(sea, 0, np.maximum(height, 0.5))

    # Rivers: smoothed lines down the drainage, as wide as the square root of what they drain.
    cells = np.array([cell for cell in order if flow[cell] > 900 and parent[cell] >= 0])
    wide = np.ones(scene.shape)
    line = np.ones(scene.shape, bool)
    if cells.size:
        place = (np.array(np.unravel_index(np.arange(flow.size), shape)).T + 0.5) * COARSE
        place += rng.normal(0, 1.2, place.shape)
        down = np.where(parent < 0, np.arange(flow.size), parent)
        for reach in (down, down[down], down[down]):
            place = (place + place[reach]) / 2
        for part in np.linspace(0, 1, 10):
            y, x = (place[cells] * (1 - part) + place[down[cells]] * part).astype(int).T
            inside = (y >= 0) & (x >= 0) & (y < scene.shape[0]) & (x < scene.shape[1])
            line[y[inside], x[inside]] = False
            wide[y[inside], x[inside]] = 1.0 + 0.018 * np.sqrt(flow[cells[inside]])
    away, (y, x) = ndimage.distance_transform_edt(line, return_indices=True)
    bank = away - wide[y, x] / 2 if cells.size else np.full(scene.shape, 1e3)
    return height, hilly, sea, (bank <= 0) & ~sea, np.where(sea, 1e3, bank)


def _drainage(height: np.ndarray, outlets: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Priority flood (Barnes et al., 2014): cells from the outlets upwards, and where each drains to (−1: nowhere)."""
    rows, cols = height.shape
    level, parent = height.ravel().tolist(), np.full(height.size, -1)
    heap = [(level[cell], int(cell)) for cell in np.flatnonzero(outlets)]
    heapq.heapify(heap)
    seen, order = bytearray(outlets.astype(np.uint8).tobytes()), []
    around = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    while heap:
        high, cell = heapq.heappop(heap)
        order.append(cell)
        row, col = divmod(cell, cols)
        for dy, dx in around:
            if 0 <= row + dy < rows and 0 <= col + dx < cols:
                other = cell + dy * cols + dx
                if not seen[other]:
                    seen[other] = 1
                    parent[other] = cell
                    heapq.heappush(heap, (max(high, level[other]), other))
    return order, parent


def _covers(scene: Scene, land: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Per pixel: the cover's place in `COVERS`, the share of its second material, and a factor of brightness."""
    names = list(COVERS)
    codes, district, parcel = land["codes"], land["district"], land["parcel"]
    row, col = np.indices(scene.shape, float)
    cover = np.array([0, *(names.index(name) for name in OF_CODE.values())])[codes]
    cover = np.where(land["coast"] > 0, names.index("sea"), cover)
    sandy = (codes == BARE) & (ndimage.distance_transform_edt(codes != WATER) < 9)
    cover = np.where(sandy, names.index("beach"), cover)

    # A town close by: streets around every block, houses, halls and gardens in it, factories in some districts.
    sin, cos = np.sin(land["angle"]), np.cos(land["angle"])
    street = np.minimum((row * cos + col * sin) % 9, (col * cos - row * sin) % 8) < 1.1
    small, _, _ = lattice(row, col, land["angle"], 2.3, 2.0, district, rng)
    house = np.select([small < 0.3, small > 0.94], [names.index("garden"), names.index("hall")], names.index("house"))
    house = np.where((parcel < 0.05) | ((district % 5 == 2) & (parcel < 0.4)), names.index("factory"), house)
    house = np.where((parcel > 0.45) & (parcel < 0.5), names.index("hall"), house)
    cover = np.where(codes == BUILT, np.where(street, names.index("road"), house), cover)

    texture, pixel = fractal(rng, scene.shape, 20, 1.6), rng.standard_normal(scene.shape)
    farmed = (codes == PADDY) | (codes == CROP)
    mix = np.clip(0.35 + 0.17 * texture + 0.07 * pixel, 0, 1)  # canopies, meadows
    mix = np.where(farmed, np.clip(0.75 * (parcel * 977 % 1) ** 1.5 + 0.06 * texture, 0, 1), mix)
    mix = np.where(codes == BUILT, np.clip(0.25 + 0.3 * (small * 13 % 1), 0, 1), mix)
    mix = np.where(codes == SOLAR, np.where((row * cos + col * sin) % 3 < 1, 0.45, 0.1), mix)
    mix = np.where(land["coast"] > 0, np.exp(-land["coast"] / 25 + 0.1 * np.minimum(texture, 0)), mix)
    roughness = np.select([(codes >= DBF) & (codes <= ENF), codes == WATER], [0.09, 0.01], 0.04)
    gain = (1 + roughness * (pixel + 0.7 * texture)) * np.where(farmed, 0.88 + 0.24 * (parcel * 31 % 1), 1)
    return cover, mix, gain


def _modis(codes: np.ndarray) -> np.ndarray:
    """(4, H, W) uint8: the four MODIS layers of a land cover, each the commonest class of blocks of 500 m."""
    side = 50
    row, col = np.indices(codes.shape) // side
    block = row * (col.max() + 1) + col
    counts = np.bincount((block * 13 + codes).ravel(), minlength=(block.max() + 1) * 13).reshape(-1, 13)
    return np.moveaxis(MODIS[counts.argmax(1)[block]], -1, 0)


def _bounds(scene: Scene) -> tuple[float, float, float, float]:
    """West, south, east, north of a scene in degrees, with a margin beyond its frame."""
    grid, margin = scene.transform, (FRAME + 12) * PIXEL
    east, south = grid @ ((COLS + 1) * STEP, (ROWS + 1) * STEP)
    return transform_bounds(scene.crs, "EPSG:4326", grid.c - margin, south - margin, east + margin, grid.f + margin)


def _description(what: str, seed: int) -> str:
    return f"{rasters.SYNTHETIC}.data.embedded to check code; version {VERSION}, seed {seed}: {what}"


def _no_others(found: Iterable[Path], own: Container[Path], name: str) -> None:
    """Refuse a folder with rasters of somebody else's, before anything is written; what a killed process has begun is
    hidden."""
    shown = (path for path in found if not path.name.startswith("."))
    for path in sorted(path for path in shown if path.suffix.lower() in rasters.SUFFIXES):
        if path not in own:
            raise InputError(
                f"{path} is not the embedded archive's, which is synthetic and is written nowhere among other images: "
                f"give source 'sen12ms' for your own, or choose an empty folder for {name}."
            )
        _description_of(path)  # which refuses one of the same name


def _is_there(path: Path, description: str) -> bool:
    """Whether `path` is a finished file of this version and seed; one that this module did not write is an error."""
    return path.exists() and _description_of(path) == description


def _description_of(path: Path) -> str:
    """What one of this module's files says of itself; `InputError` if it is another's, or broken."""
    try:
        found = rasters.description(path)
    except InputError:
        raise InputError(f"{path} cannot be read as a raster: delete it, and it is written anew.") from None
    if not found.startswith(rasters.SYNTHETIC):
        raise InputError(f"{path} is not the embedded archive's and would be overwritten; choose an empty folder.")
    return found


def _write(path: Path, pixels: np.ndarray, crs: CRS, grid: Affine, bands: tuple[str, ...], description: str) -> None:
    """Write a GeoTIFF (bands, H, W) aside and rename it.

    Patches are as SEN12MS's: uncompressed, the bands of a pixel together, in strips of a few rows.
    """
    profile = {"driver": "GTiff", "count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
    profile |= {"dtype": pixels.dtype, "crs": crs, "transform": grid, "interleave": "pixel"}
    if len(pixels) == 1:
        profile |= {"compress": "deflate", "zlevel": 1}
    with writing(path) as aside, rasterio.open(aside, "w", **profile) as file:
        file.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)
        file.descriptions = bands
        file.write(pixels)
