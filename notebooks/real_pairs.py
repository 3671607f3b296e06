"""Lay out the real pairs of the book as its profiles expect them, from what their authors publish.

    git clone https://github.com/geodrak/OMBRIA
    python notebooks/real_pairs.py ombria OMBRIA
    python notebooks/real_pairs.py ombria-third OMBRIA
    git clone https://github.com/VolkovVl/Optical-SAR-dataset
    python notebooks/real_pairs.py socal Optical-SAR-dataset
    python notebooks/real_pairs.py sen12 SEN1-2

The last is the folder of the unpacked SEN1-2 data set (https://mediatum.ub.tum.de/1436631), whole or in part. Where
pairs are written, and which of them, says the profile. Pixels stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from PIL import Image
from rasterio.transform import Affine
from tqdm import tqdm

from s2olib.project import InputError, parse_yaml, resolve, told_in_a_sentence, writable, writing

PROFILES = Path(__file__).parent / "profiles"
REGIONS = {"T11SLT": "LosAngeles", "T14RNT": "SanAntonioTX"}  # by the optical scene's tile
Write = Callable[[Path, Path], object]  # a source's file to another one
Pair = tuple[dict[str, str], dict[Path, tuple[Path, Write]]]  # a row of pairs_csv; {new file: (its source, how)}


def ombria(source: Path, ids: list[str]) -> Iterator[Pair]:
    """Images before a flood: `0001` of the events of 2018 to 2020, `france_000` of one of 2021."""
    for name in ids:
        place, _, number = name.rpartition("_")
        files = {}
        for kind in (1, 2):
            path = source / f"OmbriaS{kind}/train/BEFORE/S{kind}_before_{number}.png"
            if place:
                path = source / f"2021/{place.upper()}/Sentinel{kind}/BEFORE/imbefore_{int(number)}.png"
            files[Path(f"s{kind}/{name}.png")] = path, shutil.copyfile
        yield {"id": name, "event": place}, files


def sen12(source: Path, ids: list[str]) -> Iterator[Pair]:
    """`ROIs1158_spring_90_p1008` is patch p1008 of the scene ROIs1158_spring_90; its files have s1 or s2 in between."""
    found = {path.name: path for path in source.rglob("ROIs*.png")}
    for name in ids:
        season, number, patch = name.rsplit("_", 2)
        names = {kind: f"{season}_{kind}_{number}_{patch}.png" for kind in ("s1", "s2")}
        files = {Path(kind) / file: (found.get(file, source / file), shutil.copyfile) for kind, file in names.items()}
        yield {"id": name, "scene": f"{season}_{number}"} | names, files


def towns(source: Path, ids: list[str]) -> Iterator[Pair]:
    """Tiles of Los Angeles and San Antonio; as GeoTIFFs, since their corners are known."""
    if not (metadata := source / "dataset" / "metadata.json").is_file():
        raise InputError(f"'{metadata}' does not exist: give the folder of a clone of Optical-SAR-dataset")
    try:
        tiles = {Path(tile["fragment_filename"]).stem: tile for tile in json.loads(metadata.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{metadata}' lists no tiles ({_reason(error)}): clone Optical-SAR-dataset again") from None
    for name in ids:
        try:
            tile = tiles[name]
            region = next(region for scene, region in REGIONS.items() if scene in tile["opt_tile_name"])
            dates = {"s1_date": tile["sar_tile_sensing_date"], "s2_date": tile["opt_tile_sensing_date"]}
            x, y = zip(*tile["corners_EPSG:3395"], strict=True)
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            raise InputError(
                f"'{metadata}' does not tell where and when tile {name} was taken ({_reason(error)}): clone "
                "Optical-SAR-dataset again"
            ) from None
        bounds = min(x), min(y), max(x), max(y)
        files = {}
        for kind, folder, bands in (("s1", "sar", ("VH",)), ("s2", "opt", ("red", "green", "blue"))):
            write = partial(_georeferenced, bounds=bounds, names=bands)
            files[Path(kind) / f"{name}.tif"] = source / "dataset" / folder / f"{name}.png", write
        yield {"id": name, "region": region, **dates}, files


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def _georeferenced(image: Path, path: Path, bounds: tuple[float, ...], names: tuple[str, ...]) -> None:
    """Write the first bands of an image without geography as a GeoTIFF in World Mercator; a grey one has three."""
    pixels = np.moveaxis(np.asarray(Image.open(image).convert("RGB"))[..., : len(names)], -1, 0)
    height, width = pixels.shape[1:]
    west, south, east, north = bounds
    place = Affine((east - west) / width, 0, west, 0, (south - north) / height, north)
    size = {"count": len(names), "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:3395", transform=place, **size) as file:
        file.write(pixels)
        file.descriptions = names


SETS = {"ombria": ombria, "ombria-third": ombria, "sen12": sen12, "socal": towns}


def lay_out(name: str, source: Path) -> Path:
    """Write the folder that a profile's pairs lie in, whole or not at all, and return it.

    Raises InputError where it is there already or the source lacks a file.
    """
    profile = parse_yaml((PROFILES / f"{name}.yml").read_bytes())
    table = resolve(profile["pairs_csv"])
    if table.parent.exists():
        raise InputError(f"'{table.parent}' is there already: remove it to write it anew")
    pairs = list(SETS[name](source, list(pd.read_csv(resolve(profile["split_file"]), dtype=str)["id"])))
    sources = [path for _, files in pairs for path, _ in files.values()]
    if missing := [path for path in sources if not path.is_file()]:
        raise InputError(f"{len(missing)} of {len(sources)} files are not there, such as '{missing[0]}': fetch them")
    with writable("the folder of pairs", table.parent), writing(table.parent) as aside:
        for kind in ("s1", "s2"):
            (aside / kind).mkdir(parents=True)
        for _, files in tqdm(pairs, desc=name, unit="pair"):
            for new, (path, write) in files.items():
                write(path, aside / new)
        pd.DataFrame([row for row, _ in pairs]).to_csv(aside / table.name, index=False)
    return table.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SETS, help="a profile")
    parser.add_argument("source", type=Path, help="the folder of what its authors publish")
    given = parser.parse_args()
    source = given.source.absolute()
    os.chdir(PROFILES)  # whose paths begin in this repository
    with told_in_a_sentence():
        print(f"written: {lay_out(given.name, source)}")


if __name__ == "__main__":
    main()
