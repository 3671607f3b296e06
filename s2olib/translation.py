"""Whole scenes: a Sentinel-1 GeoTIFF in, the optical image that a trained generator makes of it out, in the same place.

    python -m s2olib.translation IN.tif OUT.tif --weights runs/quick/s2oformer-dsd-s0

A scene is worked through in rows of overlapping tiles. Each tile's outer margin, where the network sees padding, is
dropped, and neighbours fade into each other over what remains of the overlap (smooth weights that sum to one). Values
are normalised by the checkpoint's limits, never by the tile's own. Memory holds one row of tiles whatever the scene's
height. The result is a cloud-optimized GeoTIFF (COG, OGC 21-026): pictures at every scale, a mask, and tags that say
what made it. It is generated from SAR and no observation.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise, product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
import torch
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.shutil import copy
from rasterio.windows import Window
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from s2olib.checkpoints import load_generator
from s2olib.data.sar import Scene, describe, opened
from s2olib.project import InputError, alone, code_fingerprint, fingerprint, resolve, told_in_a_sentence, write_json

BLOCK = 128  # pixels of the unfinished raster's blocks
NOTICE = "Generated from SAR, not an observation"
BESIDE = range(2, 9)  # pixels
PERIOD = 16  # pixels: two windows of the transformers, four levels of the U-Net
SHIFT = 4  # pixels: half a window of the transformers, an odd phase of the U-Net's deeper levels
CACHE = 64  # MB of GDAL's blocks; by default a twentieth of the machine's memory


def translate(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    *,
    bands: Sequence[str] = (),
    sar_units: str = "auto",
    stretch: tuple[float, float] | None = None,
    output: str = "8-bit",
    uncertainty: bool = False,
    tile_size: int = 512,
    overlap: int = 128,
    batch_size: int = 0,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
) -> dict:
    """Translate the SAR raster `source` with the generator of the run folder `weights` to the COG `target`.

    Args:
        bands: the file's bands in the weights' order, by name or 1-based number; default by polarisation in the band
            names, else by position where the counts agree.
        sar_units: what the file holds: "dB", "linear" power, "8-bit", or "auto" by its values. Linear power becomes dB.
        stretch: dB to show as grey levels 0 and 255, for weights that were trained on 8-bit images; never a default.
        output: "8-bit", the weights' limits on 0..255; or "reflectance", x 10000 in 16 bits, where the weights know it.
        uncertainty: add a band: the standard deviation over four flips, each with and without a shift of `SHIFT`
            pixels, averaged over the colours, in the output's units (the band's scale says by how much to multiply).
        tile_size, overlap: pixels, multiples of 16; a quarter of the overlap is dropped on each side, half is blended.
        batch_size: tiles at once; 0 takes one on a CPU and as many as the free memory holds on a GPU.
        device: "auto", "cpu", "cuda" or "cuda:1". precision: "float32", "bfloat16", or "auto": bfloat16 on a GPU
            that has it, where it moves the image of noise by less than a grey level on average.

    Returns what was done: `width`, `height`, `valid` (share), `seconds` of this call, `units`, `bands` and their
    1-based `indexes`, `batch_size`, `precision` and `notes`, sentences about what was assumed. The same input gives the
    same file on one day and device, interrupted or not. Unfinished work lies beside `target` in a folder that the same
    call goes on from.

    Raises `InputError` before any work for input that cannot be used and for a `target` that another process is
    writing; and when writing fails, for instance on a full disk. `target` appears only when it is whole.
    """
    started = time.perf_counter()
    for name, value in {"source": source, "target": target, "weights": weights}.items():
        if not isinstance(value, str | Path):
            raise InputError(f"{name} is {value!r}: give a file's or folder's path.")
    for name, value in {"uncertainty": uncertainty, "overwrite": overwrite}.items():
        if not isinstance(value, bool):
            raise InputError(f"{name} is {value!r}: give True or False.")
    source, target = resolve(source), resolve(target)
    _check(source, target, output, tile_size, overlap, batch_size, stretch, bands, device, precision, overwrite)
    network, config = load_generator(weights)
    if output == "reflectance" and config["opt"]["units"] != "reflectance":
        raise InputError(f"output 'reflectance' is unknown to {weights}, trained on 8-bit images: choose '8-bit'.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    key = {  # unfinished work goes on only with the same
        "source": str(source),
        "weights": fingerprint(*(resolve(weights) / name for name in ("generator.safetensors", "config.json"))),
        "code": code_fingerprint("translation", "data/sar", "data/rasters", "generators"),
        "bands": [str(band) for band in bands],
        "sar_units": sar_units,
        "stretch": stretch and list(stretch),
        "output": output,
        "uncertainty": uncertainty,
        "tile_size": tile_size,
        "overlap": overlap,
        "batch_size": batch_size,
        "device": device,
        "precision": precision,
    }
    with rasterio.Env(GDAL_CACHEMAX=CACHE), opened(source) as file:
        scene = describe(file, config, bands, sar_units, stretch)
        parts = dict.fromkeys([source, *map(Path, getattr(file, "src_dataset", file).files)])
        # a mosaic's images too, and a mask beside it, but not what a look at the scene leaves there
        states = [(str(part), part.stat()) for part in parts if part.is_file() and part.suffix not in (".ovr", ".xml")]
        key["files"] = [[name, state.st_size, state.st_mtime_ns] for name, state in states]
        work = target.with_name(f".{target.name}.part")
        try:
            with alone(target, "target"):
                _check_target(source, target, overwrite)  # again: another process may have finished it just now
                engine = _Engine(network, config, key, tile_size)
                progress = _begin(work, key, scene, config, engine)
                _fill(work, progress, scene, engine)
                _finish(work, target)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"The GPU's memory does not hold {batch_size or 'one'} tiles of {tile_size} pixels: take less of them "
                "(batch_size), or smaller ones (tile_size)."
            ) from error
        except (RasterioError, CPLE_BaseError, OSError) as error:
            raise InputError(
                f"'{target}' cannot be written ({error}): make room, or choose another place; the same command "
                f"goes on from what is finished, in '{work}'."
            ) from error
        return {
            "width": file.width,
            "height": file.height,
            "valid": progress["valid"] / (file.width * file.height),
            "seconds": time.perf_counter() - started,
            "units": scene.units,
            "bands": [file.descriptions[i - 1] or str(i) for i in scene.indexes],
            "indexes": scene.indexes,
            "batch_size": engine.batch_size,
            "precision": str(engine.dtype).removeprefix("torch."),
            "notes": list(scene.notes),
        }


def _check(
    source: Path,
    target: Path,
    output: str,
    tile_size: int,
    overlap: int,
    batch_size: int,
    stretch: tuple[float, float] | None,
    bands: Sequence[str],
    device: str,
    precision: str,
    overwrite: bool,
) -> None:
    """Raise `InputError` for anything that can be told without opening the source."""
    if not source.is_file():
        raise InputError(f"'{source}' {'is a folder' if source.is_dir() else 'does not exist'}: give a GeoTIFF.")
    _check_target(source, target, overwrite)
    folder = next((parent for parent in target.parents if parent.exists()), target.parent)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"'{target}' cannot be written: '{folder}' is no folder that you may write to.")
    if output not in ("8-bit", "reflectance"):
        raise InputError(f"output '{output}' is unknown: choose '8-bit' or 'reflectance'.")
    for name, value in {"tile_size": tile_size, "overlap": overlap, "batch_size": batch_size}.items():
        if type(value) is not int:
            raise InputError(f"{name} is {value!r}: give a whole number.")
    if tile_size % 16 or overlap % 16 or overlap <= 0 or 3 * overlap > tile_size:
        raise InputError(
            f"tile_size {tile_size} and overlap {overlap} must be multiples of 16, overlap at most a third of a tile."
        )
    if batch_size < 0:
        raise InputError(f"batch_size is {batch_size}: give a number of tiles, or 0 to have it found.")
    ends = stretch if isinstance(stretch, Sequence) else () if stretch is None else (stretch,)
    numbers = len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
    if ends and not (numbers and -math.inf < ends[0] < ends[1] < math.inf):
        raise InputError(f"stretch {stretch} must be a lower and a higher number of decibels.")
    if isinstance(bands, str) or not isinstance(bands, Sequence):
        raise InputError(f"bands is {bands!r}: give a list of bands' names or numbers, such as ['VV', 'VH'].")
    for name, value in {"device": device, "precision": precision}.items():
        if not isinstance(value, str):
            raise InputError(f"{name} is {value!r}: give a text, such as 'auto'.")


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.is_dir() or (target.exists() and target.samefile(source)):
        raise InputError(f"'{target}' is {'a folder' if target.is_dir() else 'the source'}: give a file to write.")
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"'{target}' is written as a GeoTIFF: give a name that ends with .tif.")
    if target.exists() and not overwrite:
        raise InputError(f"'{target}' exists: give another name, or overwrite (--overwrite).")


def starts(length: int, tile_size: int, overlap: int) -> list[int]:
    """Where tiles begin along a side; the last ends with the scene and may be narrower, never less aligned."""
    stride = tile_size - overlap
    align = stride & -stride  # the largest power of two in it: strided networks keep their phase
    last = max(0, -(-(length - tile_size) // align) * align)
    return [*range(0, last, stride), last]


def ramps(length: int, tile_size: int, begin: list[int]) -> list[Tensor]:
    """The blending weights of tiles along a side; at each pixel they sum to one, and to exactly one tile's at edges."""
    position = torch.arange(length, dtype=torch.float64) + 0.5
    rises = [torch.ones_like(position)]
    for before, start in pairwise(begin):
        common = before + tile_size - start
        rises.append(torch.sin(math.pi / 2 * ((position - start - common / 4) / (common / 2)).clip(0, 1)) ** 2)
    rises.append(torch.zeros_like(position))
    weights = [rise * (1 - following) for rise, following in pairwise(rises)]
    return [weight[start : start + tile_size].float() for weight, start in zip(weights, begin, strict=True)]


class _Engine:
    """The generator on its device: tiles in the weights' units in, blended and quantised colours out."""

    def __init__(self, network: nn.Module, config: dict, p: dict, size: int) -> None:
        if p["precision"] not in ("auto", "float32", "bfloat16"):
            raise InputError(f"precision '{p['precision']}' is unknown: choose 'auto', 'float32' or 'bfloat16'.")
        try:
            self.device = torch.device(p["device"])
            self.network = network.to(self.device)
        except (AssertionError, RuntimeError) as error:  # torch says both of a device that is not there
            raise InputError(f"device '{p['device']}' cannot be used here: choose 'cpu' ({error}).") from error
        if self.device.type not in ("cpu", "cuda"):
            raise InputError(f"device '{p['device']}' is not provided for: choose 'cpu' or 'cuda'.")
        self.uncertainty = p["uncertainty"]
        self.limits = torch.tensor(config["sar"]["limits"], device=self.device).T[:, :, None, None]  # 2 x (Cs, 1, 1)
        low, high = np.array(config["opt"]["limits"]).T
        low, high = (low, high) if p["output"] == "reflectance" else (0 * low, 255 + 0 * high)
        self.stored = np.dtype("uint16" if p["output"] == "reflectance" else "uint8")
        step = 1e-4 if p["output"] == "reflectance" else 1.0
        self.scales = [step] * len(low) + [step if step < 1 else 0.2] * self.uncertainty  # of the stored numbers
        self.ranges = torch.tensor((high - low) / (high - low).mean(), device=self.device).float()[:, None, None]
        gain = np.append((high - low) / 2, (high - low).mean() / 2)[: len(self.scales)] / self.scales
        offset = np.append((high + low) / 2, 0)[: len(self.scales)] / self.scales
        self.gain, self.offset = (torch.tensor(x, device=self.device).float()[:, None, None] for x in (gain, offset))
        self.dtype = torch.bfloat16 if p["precision"] == "bfloat16" else torch.float32
        self.batch_size = p["batch_size"] or 1
        if self.device.type == "cuda":  # speckle-like noise decides, so that an interrupted call decides the same
            tile = torch.randn(1, len(config["sar"]["bands"]), size, size, generator=torch.Generator().manual_seed(0))
            tile = tile.clip(-1, 1).to(self.device)
            if p["precision"] == "auto" and torch.cuda.is_bf16_supported():
                exact, self.dtype = self(tile), torch.bfloat16
                if (self(tile) - exact).abs().mean() > 1 / 127.5:
                    self.dtype = torch.float32
            if not p["batch_size"]:
                before = torch.cuda.memory_allocated(self.device)
                torch.cuda.reset_peak_memory_stats(self.device)
                self(tile)
                needed = torch.cuda.max_memory_allocated(self.device) - before
                self.batch_size = max(1, min(64, int(0.7 * torch.cuda.mem_get_info(self.device)[0] / needed)))

    @torch.no_grad()
    def __call__(self, sar: Tensor) -> Tensor:
        """(B, Cs, H, W) → (B, Co, H, W) in [-1, 1], and the spread as one more channel if it is asked for."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            image = self.network(sar).float()
            if not image.isfinite().all():  # which would be stored as black, and valid
                raise InputError("The weights make values that are not finite: take others, or precision 'float32'.")
            if not self.uncertainty:
                return image
            mean, square = image.clone(), torch.zeros_like(image)
            views = list(product(((), (2,), (3,), (2, 3)), (0, SHIFT)))  # the first is the image as it is
            for number, (flip, shift) in enumerate(views[1:], 2):
                mode = "reflect" if min(sar.shape[-2:]) > shift else "replicate"  # a mirror needs more than it shows
                moved = F.pad(sar.flip(flip), (shift, 0, shift, 0), mode=mode)
                other = self.network(moved).float()[..., shift:, shift:].flip(flip)
                change = other - mean  # Welford's running variance
                mean += change / number
                square += change * (other - mean)
        spread = ((square / number).sqrt() * self.ranges).mean(1, keepdim=True)  # of the colours in the output's units
        return torch.cat([image, spread], 1)

    def row(self, values: np.ndarray, valid: np.ndarray, down: Tensor, across: list[Tensor], lefts: list[int], bar):
        """A row of tiles, blended sideways: yields (left, colours (C, H, columns)) from left to right."""
        low, high = self.limits
        tail = torch.zeros(len(self.scales), len(down), 0, device=self.device)
        last = len(lefts) - 1  # of its own width
        for begin in [*range(0, last, self.batch_size), last]:
            chunk = range(begin, min(begin + self.batch_size, last) if begin < last else last + 1)
            places = {i: np.s_[:, lefts[i] : lefts[i] + len(across[i])] for i in chunk}
            seen = [i for i, place in places.items() if valid[place].any()]  # the others cost nothing
            if seen:
                raw = torch.from_numpy(np.stack([values[:, *places[i]] for i in seen])).to(self.device)
                there = torch.from_numpy(np.stack([valid[places[i]] for i in seen]))[:, None].to(self.device)
                sar = ((raw - low) / (high - low) * 2 - 1).clip(-1, 1).masked_fill(~there, -1)  # as in training
                images = dict(zip(seen, self(sar), strict=True))
            for i in chunk:
                weight = down[:, None] * across[i]
                block = images[i] * weight if i in seen else weight.new_zeros(len(self.scales), *weight.shape)
                block[..., : tail.shape[-1]] += tail
                finished = lefts[i + 1] - lefts[i] if i < last else len(across[i])
                yield lefts[i], block[..., :finished]
                tail = block[..., finished:]
                bar.update()

    def quantise(self, x: Tensor) -> np.ndarray:
        """Colours in [-1, 1] and their spread, (C, H, W), as stored."""
        values = (x.clip(-1, 1) * self.gain + self.offset).round_().clip_(0, np.iinfo(self.stored).max)
        return values.to(torch.uint8 if self.stored.itemsize == 1 else torch.int32).cpu().numpy()


def _begin(work: Path, key: dict, scene: Scene, config: dict, engine: _Engine) -> dict:
    """The progress to go on from, and an unfinished raster that holds it: begun anew unless `key` is the same."""
    state, file = work / "progress.json", scene.file
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if (progress := json.loads(state.read_bytes()))["key"] == key:
            return progress
    shutil.rmtree(work, ignore_errors=True)
    names = [*config["opt"]["bands"], *["uncertainty"] * key["uncertainty"], "valid"]
    needed = 2.5 * len(names) * engine.stored.itemsize * file.width * file.height  # this, and the COG with overviews
    parent = next(parent for parent in work.parents if parent.exists())
    if (free := shutil.disk_usage(parent).free) < needed:
        raise InputError(
            f"'{parent}' has {free / 1e6:,.0f} MB free, and the work needs up to {needed / 1e6:,.0f}: make room."
        )
    work.mkdir(parents=True)
    profile = {"driver": "GTiff", "width": file.width, "height": file.height, "count": len(names)}
    profile |= {"dtype": engine.stored, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "bigtiff": "IF_SAFER"}
    with rasterio.open(work / "rows.tif", "w", **profile, crs=file.crs, transform=file.transform) as rows:
        # Uncompressed: every block has its place once the file is closed, and a killed writer spoils no other block.
        made = len(config["opt"]["bands"])  # the others are no colours
        colours = [ColorInterp.gray] if made == 1 else [ColorInterp.red, ColorInterp.green, ColorInterp.blue][:made]
        rows.colorinterp = colours + [ColorInterp.undefined] * (len(names) - len(colours))
        rows.descriptions, rows.scales = names, [*engine.scales, 1.0]
        rows.update_tags(
            TIFFTAG_IMAGEDESCRIPTION=f"{NOTICE}: translated by {config['generator']['name']}",
            TIFFTAG_SOFTWARE="s2olib",
            TIFFTAG_DATETIME=datetime.now(UTC).strftime("%Y:%m:%d 00:00:00"),
            NOTICE=NOTICE,
            GENERATOR=json.dumps(config["generator"]),
            WEIGHTS_SHA256=key["weights"],
            SOURCE=Path(key["source"]).name,
            NORMALISATION=json.dumps({name: config[name] for name in ("sar", "opt")}),
            TRANSLATION=json.dumps({name: key[name] for name in ("tile_size", "overlap", "stretch", "uncertainty")}),
        )
    if hasattr(os, "posix_fallocate"):  # not on macOS; a full disk is found now, not after hours
        with open(work / "rows.tif", "r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, os.path.getsize(work / "rows.tif"))
    progress = {"key": key, "rows": 0, "valid": 0}
    write_json(state, progress)
    return progress


def _fill(work: Path, progress: dict, scene: Scene, engine: _Engine) -> None:
    """Translate the rows of tiles that ``rows.tif`` lacks, noting each that is written."""
    key, height, width = progress["key"], scene.file.height, scene.file.width
    size, overlap = key["tile_size"], key["overlap"]
    tops, lefts = starts(height, size, overlap), starts(width, size, overlap)
    down, across = (
        [weight.to(engine.device) for weight in ramps(length, size, begin)]
        for length, begin in ((height, tops), (width, lefts))
    )
    if progress["rows"] == len(tops):
        return
    first = max(0, progress["rows"] - 2)  # rows before are made again for what they hand on
    kept = max([top + size - following for top, following in pairwise(tops)], default=0)
    below = torch.zeros(len(engine.scales), kept, width, device=engine.device)  # what tiles hand to those below them
    bar = tqdm(total=len(tops) * len(lefts), initial=first * len(lefts), desc="translation", unit="tile")
    with bar, ThreadPoolExecutor(1) as reader:
        coming = reader.submit(scene.rows, tops[first], len(down[first]))
        for i in range(first, len(tops)):
            values, valid = coming.result()
            if i + 1 < len(tops):
                coming = reader.submit(scene.rows, tops[i + 1], len(down[i + 1]))
            done = tops[i + 1] - tops[i] if i + 1 < len(tops) else len(down[i])
            finished = np.empty((len(engine.scales) + 1, done, width), engine.stored)
            for left, part in engine.row(values, valid, down[i], across, lefts, bar):
                columns = slice(left, left + part.shape[2])
                part[:, :kept] += below[:, : part.shape[1], columns]
                finished[:-1, :, columns] = engine.quantise(part[:, :done])
                below[:, : part.shape[1] - done, columns] = part[:, done:]
                below[:, part.shape[1] - done :, columns] = 0
            finished[:-1] *= valid[:done]
            finished[-1] = 255 * valid[:done]
            if i < progress["rows"]:
                continue
            with rasterio.open(work / "rows.tif", "r+") as rows:
                rows.write(finished, window=Window(0, tops[i], width, done))
            progress |= {"rows": i + 1, "valid": progress["valid"] + int(valid[:done].sum())}
            write_json(work / "progress.json", progress)


def _finish(work: Path, target: Path) -> None:
    """Make the COG out of ``rows.tif``, whose last band becomes the mask, and put it in its place."""
    copy(work / "rows.tif", work / "rows.vrt", driver="VRT")
    tree = ElementTree.parse(work / "rows.vrt")
    bands = tree.findall("VRTRasterBand")
    valid = ElementTree.Element("VRTRasterBand", dataType="Byte")
    valid.append(bands[-1].find("SimpleSource"))
    tree.getroot().remove(bands[-1])
    ElementTree.SubElement(tree.getroot(), "MaskBand").append(valid)
    tree.write(work / "rows.vrt")
    # Level 1 takes a quarter of the time of GDAL's 6, and a fifth more space.
    options = {
        "compress": "DEFLATE",
        "level": 1,
        "predictor": "YES",
        "overview_resampling": "AVERAGE",
        "bigtiff": "IF_SAFER",
    }
    copy(work / "rows.vrt", work / "result.tif", driver="COG", num_threads="ALL_CPUS", **options)
    os.replace(work / "result.tif", target)
    for ending in (".aux.xml", ".ovr", ".msk"):  # of the file before
        target.with_name(target.name + ending).unlink(missing_ok=True)
    (work / "progress.json").unlink()  # first: without its raster it would be gone on from
    shutil.rmtree(work)


def tile_edges(length: int, tile_size: int, overlap: int) -> list[int]:
    """Positions along a side where tiles begin, end, or begin, end or halve their blending."""
    edges = set()
    for before, start in pairwise(starts(length, tile_size, overlap)):
        common = before + tile_size - start
        edges |= {start + offset for offset in (0, common // 4, common // 2, common - common // 4, common)}
    return sorted(edges - {length})


def gradient(image: np.ndarray, axis: int, valid: np.ndarray | None = None) -> np.ndarray:
    """Mean step of an image (C, H, W) onto each line along an axis from the line before it; 0 for the first.

    Where `valid` (H, W) is given, steps count whose two pixels are valid, and a line without any is NaN.
    """
    steps = np.abs(np.diff(image.astype(np.float32), axis=axis, prepend=image.take([0], axis))).mean(0)
    if valid is None:
        return steps.mean(2 - axis)
    known = valid & np.roll(valid, 1, axis - 1)
    return (steps * known).sum(2 - axis) / np.where(known.any(2 - axis), known.sum(2 - axis), np.nan)


def seam_ratio(image: np.ndarray, tile_size: int, overlap: int, valid: np.ndarray | None = None) -> float:
    """Mean gradient of an image (C, H, W) across its `tile_edges` over that beside them: 1 without seams.

    Beside an edge are the lines `BESIDE` pixels before and behind it that are no edges themselves: near enough to
    cross the same land. What is left of content cancels over the edges of both directions, if there are many. Strided
    layers and windows leave a fine grid on any image, tiled or not: each line counts relative to the mean of all lines
    at its phase of `PERIOD` that are no edges. What is not `valid` (H, W) does not count, nor does its border. NaN for
    an image of one tile, or without a valid edge.
    """
    total = np.zeros(2)
    for axis in (1, 2):
        steps = gradient(image, axis, valid)
        edges = tile_edges(len(steps), tile_size, overlap)
        known = np.flatnonzero(np.isfinite(steps))
        inner = np.setdiff1d(known[known > 0], edges)
        for phase in set(inner % PERIOD) if edges else ():
            steps[phase::PERIOD] /= steps[inner[inner % PERIOD == phase]].mean()
        for edge in np.intersect1d(edges, known):
            beside = inner[np.isin(np.abs(inner - edge), BESIDE)]
            total += (steps[edge], steps[beside].mean()) if len(beside) else 0
    return float(total[0] / total[1]) if total[1] else math.nan


def main() -> None:
    """Command line; exit code 0 when the target is written, else as `told_in_a_sentence` says."""
    parser = argparse.ArgumentParser(prog="python -m s2olib.translation", description=__doc__.splitlines()[0])
    parser.add_argument("source", help="GeoTIFF with the SAR bands")
    parser.add_argument("target", help="cloud-optimized GeoTIFF to write")
    parser.add_argument("--weights", required=True, help="folder of a run")
    parser.add_argument("--bands", default="", help="bands in the weights' order, by name or number: VV,VH or 1,2")
    parser.add_argument("--sar-units", default="auto", help="auto | dB | linear | 8-bit")
    parser.add_argument("--stretch", nargs=2, type=float, metavar=("LOW", "HIGH"), help="dB that become 0 and 255")
    parser.add_argument("--output", default="8-bit", help="8-bit | reflectance")
    parser.add_argument("--uncertainty", action="store_true", help="add a band: spread over flips and shifts")
    parser.add_argument("--tile-size", type=int, default=512, help="pixels")
    parser.add_argument("--overlap", type=int, default=128, help="pixels")
    parser.add_argument("--batch-size", type=int, default=0, help="tiles at once; 0: by the memory found")
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda")
    parser.add_argument("--precision", default="auto", help="auto | float32 | bfloat16")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing target")
    given = vars(parser.parse_args())
    for name in ("source", "target", "weights"):  # from where the user stands
        given[name] = os.path.abspath(os.path.expanduser(given[name]))
    given["bands"] = [band.strip() for band in given["bands"].split(",") if band.strip()]
    with told_in_a_sentence("where it stopped"):
        report = translate(**given)
        for note in report["notes"]:
            print(note)
        print("{width} x {height} pixels, {valid:.1%} valid, {seconds:.0f} s, {precision}".format(**report))


if __name__ == "__main__":
    main()
