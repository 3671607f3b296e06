"""Triplets out of a data set again, as GeoTIFFs that a GIS such as QGIS opens with bands named and classes coloured."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from tqdm import tqdm

from s2olib.data import SPLITS
from s2olib.data.rasters import SYNTHETIC
from s2olib.data.triplets import Triplets
from s2olib.project import InputError, alone, resolve, writable, write_json, writing

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def export_geotiffs(dataset_root: str | Path, target: str | Path) -> list[Path]:
    """Write every patch as ``<target>/<split>/<id>_{sar,opt,lulc}.tif`` and return the paths.

    SAR is float32 dB (or uint8), optical uint16 reflectance x 10000 with its scale stated (or uint8), land cover the
    product's own codes with its legend as a colour table; beside it a ``.aux.xml`` has the classes' names, and a
    ``.qml`` the style by which QGIS lists the classes alone, of a table of 256 colours. A file that is there already is
    kept if ``export.json`` says that it came out of the same data set, described alike, and removed if not. Raises
    InputError for a data set that is missing or without geography.
    """
    target, places = resolve(target), {}
    for split in SPLITS:
        triplets = Triplets(dataset_root, split)
        info = triplets.info
        if (triplets.index["crs"] == "").any():
            raise InputError(f"'{dataset_root}' has patches without geography: they cannot become GeoTIFFs")
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(triplets.folder.glob("*.npy"))}
        for i, row in enumerate(triplets.index.itertuples()):
            place = {"crs": row.crs, "transform": Affine(*map(float, row.transform.split()))}
            places |= {f"{split}/{row.id}_{name}.tif": (name, array, i, place) for name, array in arrays.items()}
    with writable("geotiff_dir", target), alone(target, "geotiff_dir"):
        told = {name: info[name] for name in ("fingerprint", "synthetic", "sar", "opt", "lulc")}
        _remove_others(target, told, list(places))
        for path, (name, array, i, place) in tqdm(places.items(), desc="GeoTIFF", leave=False):
            if not (target / path).is_file():
                _write(target / path, name, np.array(array[i]), place, info)
    return [target / path for path in places]


def _remove_others(target: Path, told: dict, files: list[str]) -> None:
    """Remove what was written out of another data set, or one of which other things were told, and what a killed
    process has begun; note what is now."""
    for split in SPLITS:
        for path in (target / split).glob(".*.part.*"):
            path.unlink(missing_ok=True)
    note, before = target / "export.json", {"files": files}
    with suppress(OSError, ValueError, TypeError):  # what cannot be read is taken for another's
        before |= json.loads(note.read_bytes())
    if before | told != before:
        for path in (target / name for name in before["files"]):
            for left in (path, *_beside(path)):
                left.unlink(missing_ok=True)
        write_json(note, told | {"files": files})


def _write(path: Path, name: str, patch: np.ndarray, place: dict, info: dict) -> None:
    patch = patch[None] if patch.ndim == 2 else patch  # (C, P, P)
    patch = patch.astype(np.float32) if patch.dtype.kind == "f" else patch
    profile = {"driver": "GTiff", "count": len(patch), "height": patch.shape[1], "width": patch.shape[2]}
    profile |= {"dtype": patch.dtype, "compress": "deflate", **place}
    if patch.dtype.kind == "f":
        profile["nodata"] = np.nan
    classes = {}
    if name == "sar":
        profile["photometric"] = "minisblack"  # three or four bands of bytes would be colours, and one transparency
    if name == "lulc":
        profile["photometric"] = "palette"
        classes = {int(code): text for code, text in info["lulc"]["classes"].items()}
        _describe_classes(path, classes)
    with writing(path) as aside, rasterio.open(aside, "w", **profile) as file:
        if info["synthetic"]:
            file.update_tags(TIFFTAG_IMAGEDESCRIPTION=f"{SYNTHETIC}: a patch of data set {info['fingerprint']}")
        file.write(patch)
        if name == "lulc":
            file.descriptions = (info["lulc"]["product"],)
            colours = {code: tuple(bytes.fromhex(colour[1:])) for code, (_, colour) in classes.items()}
            file.write_colormap(1, {code: (*colours.get(code, (204, 204, 204)), 255) for code in range(256)})
        else:
            file.descriptions = info[name]["bands"]
            file.units = [info[name]["units"]] * len(patch)
            file.scales = [info[name]["scale"]] * len(patch)
        if name == "opt":
            file.colorinterp = RGB


def _describe_classes(path: Path, classes: dict[int, tuple[str, str]]) -> None:
    """GDAL's side file, from which a GIS takes the names of classes, and QGIS's, with their colours."""
    names = (classes.get(code, ("",))[0] for code in range(max(classes) + 1))
    entries = "".join(f"<Category>{escape(name)}</Category>" for name in names)
    band = f'<PAMRasterBand band="1"><CategoryNames>{entries}</CategoryNames></PAMRasterBand>'
    palette = "".join(
        f'<paletteEntry value="{code}" label={quoteattr(name)} color="{colour}" alpha="255"/>'
        for code, (name, colour) in classes.items()
    )
    renderer = f'<rasterrenderer type="paletted" band="1"><colorPalette>{palette}</colorPalette></rasterrenderer>'
    texts = f"<PAMDataset>{band}</PAMDataset>", f"<qgis><pipe>{renderer}</pipe></qgis>"
    for side, text in zip(_beside(path), texts, strict=True):
        with writing(side) as aside:
            aside.write_text(text + "\n", encoding="utf-8")


def _beside(path: Path) -> tuple[Path, ...]:
    """Files beside a GeoTIFF that go with it: GDAL's, in which a GIS notes statistics, and the style of land cover. The
    style of any other image is its user's."""
    notes = path.with_name(f"{path.name}.aux.xml")
    return (notes, path.with_suffix(".qml")) if path.stem.endswith("_lulc") else (notes,)
