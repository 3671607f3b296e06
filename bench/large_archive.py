"""An archive as large as SEN12MS's scenes and JAXA's tiles are, and a pair of images as large as a tile of Sentinel-2,
made of the small synthetic archive.

Its scenes are one scene of as many patches under several numbers (hard links, so that reading comes from memory and the
processor decides), and two small ones to judge by. Land-cover tiles have a product's full size, one degree and 12000 x
12000 pixels, in compressed rows; what lies around the scenes repeats them. The pair's radar image has larger pixels.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage

from s2olib.data import embedded

SIDE = 10980  # pixels of a tile of Sentinel-2
SHAPE = (23, 23)  # patches of a scene; SEN12MS has 717 in a scene on average
HEIGHT, WIDTH = (embedded.ROWS + 1) * embedded.STEP, (embedded.COLS + 1) * embedded.STEP  # of a small scene


def write(source: Path, target: Path, copies: int) -> None:
    """Write `sen12ms`, its `split.csv` and `hrlulc` below `target`, and the small archive below `source` if need be."""
    embedded.write_archive(source / "sen12ms", source / "hrlulc")
    _large_scenes(source / "sen12ms", target / "sen12ms", copies)
    _full_tiles(source / "hrlulc", target / "hrlulc")


def write_pair(source: Path, target: Path) -> None:
    """Write one GeoTIFF in each of `s1` and `s2` below `target`, of the small scenes side by side."""
    folder = source / "sen12ms/ROIs1158_spring"
    for kind, bands, pixel in (("s1", (0, 1), 10.5), ("s2", (3, 2, 1), 10)):
        (target / kind).mkdir(parents=True)
        pixels = _side_by_side(source / "sen12ms", kind)[list(bands)]
        with rasterio.open(_patch(folder, kind, 124, 1)) as file:
            grid = Affine(pixel, 0, file.transform.c, 0, -pixel, file.transform.f)
            place = {"crs": file.crs, "transform": grid, "height": SIDE, "width": SIDE, "count": len(bands)}
        how = {"driver": "GTiff", "dtype": pixels.dtype, "tiled": True, "blockxsize": 512, "blockysize": 512}
        with rasterio.open(target / kind / "tile.tif", "w", **place, **how, compress="deflate", zlevel=1) as file:
            for top in range(0, SIDE, 512):
                rows = pixels[:, np.arange(top, min(top + 512, SIDE)) % pixels.shape[1]]
                rows = np.take(rows, np.arange(SIDE) % pixels.shape[2], axis=2)
                file.write(rows, window=Window(0, top, SIDE, rows.shape[1]))


def _side_by_side(source: Path, kind: str) -> np.ndarray:
    """The archive's scenes, six by six of them (C, 6 HEIGHT, 6 WIDTH)."""
    scenes = [_mosaic(source / embedded.FOLDERS[scene.season], kind, scene.number) for scene in embedded.scenes()]
    scenes = np.stack([scenes[i % len(scenes)] for i in range(36)]).reshape(6, 6, *scenes[0].shape)
    return np.moveaxis(scenes, 2, 0).swapaxes(2, 3).reshape(scenes.shape[2], 6 * HEIGHT, 6 * WIDTH)


def _large_scenes(source: Path, target: Path, copies: int) -> None:
    """One scene of `SHAPE` patches from Kaga's corner under `copies` numbers, and two small ones to judge by.

    Its pixels are those of the archive's scenes side by side.
    """
    folder, (rows, columns) = source / "ROIs1158_spring", SHAPE
    for kind in ("s1", "s2"):
        pixels = _side_by_side(source, kind)
        with rasterio.open(_patch(folder, kind, 124, 1)) as file:
            profile, names, tags = file.profile, file.descriptions, file.tags()
        for number in range(rows * columns):
            row, column = (place * embedded.STEP for place in divmod(number, columns))
            path = _patch(target / folder.name, kind, 124, number + 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            grid = profile["transform"] @ Affine.translation(column, row)
            with rasterio.open(path, "w", **profile | {"transform": grid}) as file:
                file.update_tags(**tags)
                file.descriptions = names
                file.write(pixels[:, row : row + 256, column : column + 256])
            for copy in range(1, copies):
                link = _patch(target / folder.name, kind, 124 + 1000 * copy, number + 1)
                link.parent.mkdir(exist_ok=True)
                os.link(path, link)
        for number in (17, 83):
            small = f"{folder.name}/{kind}_{number}"
            shutil.copytree(source / small, target / small, copy_function=os.link)
    splits = {17: "validation", 83: "test"} | {124 + 1000 * copy: "train" for copy in range(copies)}
    lines = ["id,split", *(f"{folder.name}_{number},{split}" for number, split in splits.items())]
    (target / "split.csv").write_text("\n".join(lines) + "\n")


def _patch(folder: Path, kind: str, scene: int, number: int) -> Path:
    return folder / f"{kind}_{scene}" / f"{folder.name}_{kind}_{scene}_p{number}.tif"


def _mosaic(folder: Path, kind: str, scene: int) -> np.ndarray:
    """A small scene's pixels (C, HEIGHT, WIDTH)."""
    parts = {}
    for number in range(embedded.ROWS * embedded.COLS):
        with rasterio.open(_patch(folder, kind, scene, number + 1)) as file:
            parts[divmod(number, embedded.COLS)] = file.read()
    whole = np.empty((len(parts[0, 0]), HEIGHT, WIDTH), parts[0, 0].dtype)
    for (row, column), part in parts.items():
        whole[:, row * embedded.STEP :, column * embedded.STEP :][:, :256, :256] = part
    return whole


def _full_tiles(source: Path, target: Path) -> None:
    """The land-cover tiles, each made a whole degree: by the nearest code between scenes, by repetition around them."""
    target.mkdir()
    for path in sorted(source.glob("*.tif")):
        with rasterio.open(path) as file:
            codes, grid, profile = file.read(1), file.transform, file.profile
        empty, size = codes == 0, embedded.TILE
        codes = codes[tuple(ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True))]
        column, row = round(grid.c % 1 * size), round(-grid.f % 1 * size)
        times = [-(-2 * size // length) for length in codes.shape]
        rows, columns = codes.shape[0] - row % codes.shape[0], codes.shape[1] - column % codes.shape[1]
        whole = np.tile(codes, times)[rows : rows + size, columns : columns + size]
        profile |= {"width": size, "height": size, "transform": grid @ Affine.translation(-column, -row), "zlevel": 1}
        with rasterio.open(target / path.name, "w", **profile) as file:
            file.write(whole, 1)
