"""What translating whole scenes costs on this machine, and what tiles leave behind.

    python bench/translation.py [--size 2048] [--large 8192] [--width 16] [--record FILE.json]

The scenes are noise, written to a temporary folder; the networks are untrained, of `--width`: neither changes the
arithmetic. *Seams*: the gradient across tile edges over that nearby, and over that in the same places when tiles end
elsewhere, which leaves content out. *Throughput*: pixels of scene a second, counted with their overlap, over the rate
of the bare network on the same tiles, in turns. *Memory*: the peak of a process of its own, for a small scene and a
large one. *Resume*: a process that is killed twice, then left alone, against one that never was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import Affine
from rio_cogeo import cog_validate
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.networks import DEVICE, machine
from s2olib import translation
from s2olib.generators import create_generator
from s2olib.project import writing
from s2olib.training import Parameters, load_generator, save_generator

SAR = {"bands": ["VV", "VH"], "units": "dB", "scale": 1.0}
OPT = {"bands": ["red", "green", "blue"], "units": "reflectance", "scale": 1e-4}
LIMITS = {"sar": [[-25, 0], [-32, -5]], "opt": [[0, 0.3]] * 3}
TILES = {"tile_size": 512, "overlap": 128}


def write_scene(path: Path, size: int) -> Path:
    """Speckle over smooth land, in dB: rows are made as they are written."""
    rng = np.random.default_rng(0)
    land = ndimage.gaussian_filter(rng.normal(size=(size // 16, size // 16)), 4) * 40
    profile = {"driver": "GTiff", "count": 2, "dtype": "float32", "width": size, "height": size, "tiled": True}
    with rasterio.open(path, "w", **profile, crs="EPSG:32653", transform=Affine(10, 0, 5e5, 0, -10, 4e6)) as file:
        file.descriptions = SAR["bands"]
        for row in range(0, size, 256):
            part = ndimage.zoom(land[row // 16 : row // 16 + 16], (16, 16), order=1)
            speckle = 10 * np.log10(rng.gamma(4.4, 1 / 4.4, (2, *part.shape)))
            values = (part + speckle - [[[12]], [[19]]]).astype(np.float32)
            file.write(values, window=rasterio.windows.Window(0, row, size, 256))
    return path


def write_weights(folder: Path, name: str, width: int) -> Path:
    torch.manual_seed(0)
    parameters = Parameters("", "", generator=name, embed_dim=width, depths=(2, 2), num_heads=(2, 2))
    network = create_generator(name, **parameters.generator_config(2, 3, 64))
    info = {"sar": SAR, "opt": OPT, "fingerprint": ""}
    save_generator(network, folder / name, info, LIMITS, parameters)
    return folder / name


def seams(scene: Path, weights: Path, folder: Path) -> tuple[float, float]:
    """The seam ratio, and the gradient at tile edges over that in the same places in another tiling."""
    images = []
    for size, overlap in ((512, 128), (704, 192)):
        translation.translate(scene, folder / "seams.tif", weights, tile_size=size, overlap=overlap, overwrite=True)
        with rasterio.open(folder / "seams.tif") as file:
            images.append(file.read().astype(np.float32))
    total = np.zeros(2)
    for axis in (1, 2):
        length = images[0].shape[axis]
        other = translation.tile_edges(length, 704, 192)
        edges = [edge for edge in translation.tile_edges(length, **TILES) if edge not in other]
        for i, image in enumerate(images):
            total[i] += np.abs(np.diff(image, axis=axis)).mean((0, 3 - axis))[np.array(edges) - 1].sum()
    return translation.seam_ratio(images[0], **TILES), float(total[0] / total[1])


def throughput(scene: Path, weights: Path, folder: Path, size: int) -> dict[str, float]:
    """Megapixels a second through the network: bare, and within a translation, overlap counted as work."""
    network, _ = load_generator(weights)
    tile = torch.rand(1, 2, 512, 512, device=DEVICE) * 2 - 1
    network.to(DEVICE)
    lengths = [min(512, size - start) for start in translation.starts(size, **TILES)]
    worked, rates = sum(lengths) ** 2, []
    count = round(worked / 512**2)
    for _ in range(3):
        begin = time.perf_counter()
        with torch.no_grad():
            for _ in range(count):
                network(tile)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        bare = count * 512**2 / (time.perf_counter() - begin) / 1e6
        report = translation.translate(scene, folder / "rate.tif", weights, precision="float32", overwrite=True)
        rates.append((bare, worked / report["seconds"] / 1e6, size**2 / report["seconds"] / 1e6))
    bare, within, scene_rate = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(b / a for a, b, _ in rates)
    return {"bare": bare, "within": within, "scene": scene_rate, "ratio": ratio}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "s2olib.translation", *map(str, arguments)]


def peak_mib(scene: Path, weights: Path, target: Path) -> float:
    """Peak resident memory of a process that translates a scene."""
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    run = [sys.executable, "-c", code, *command(scene, target, "--weights", weights)]
    return float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def killed_and_resumed(scene: Path, weights: Path, folder: Path) -> tuple[bool, int]:
    """Whether a translation that is killed (SIGKILL) twice ends in the same bytes, and after how many rows it was."""
    whole, target = folder / "whole.tif", folder / "killed.tif"
    subprocess.run(command(scene, whole, "--weights", weights), check=True, capture_output=True)
    rows = 0
    for wanted in (1, 3):
        state = folder / ".killed.tif.part" / "progress.json"
        process = subprocess.Popen(command(scene, target, "--weights", weights), stderr=subprocess.DEVNULL)
        while process.poll() is None and not (state.is_file() and json.loads(state.read_text())["rows"] >= wanted):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        rows = json.loads(state.read_text())["rows"]
    subprocess.run(command(scene, target, "--weights", weights), check=True, capture_output=True)
    sums = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (whole, target)}
    return len(sums) == 1, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="pixels of a small scene's side")
    parser.add_argument("--large", type=int, default=8192, help="pixels of the large scene's side; 0 leaves it out")
    parser.add_argument("--width", type=int, default=16, help="embed_dim of the generators")
    parser.add_argument("--record", type=Path, help="also write everything to this JSON file")
    given = parser.parse_args()
    result: dict = {"machine": machine(), "size": given.size, "large": given.large, "width": given.width}
    print("{device}, {threads} threads, load {load:.1f}, torch {torch}\n".format(**result["machine"]))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scene = write_scene(folder / "scene.tif", given.size)
        print("| network | seams | of the same places | bare Mpx/s | within a translation | ratio | scene Mpx/s |")
        print("|---|---|---|---|---|---|---|")
        for name in ("unet", "hat", "s2oformer"):
            weights = write_weights(folder, name, given.width)
            near, same = seams(scene, weights, folder)
            rate = throughput(scene, weights, folder, given.size)
            result[name] = {"seam_ratio": near, "same_places": same, "megapixels_per_second": rate}
            print(f"| {name} | {near:.4f} | {same:.4f} | {rate['bare']:.2f} ", end="")
            print(f"| {rate['within']:.2f} | {rate['ratio']:.2f} | {rate['scene']:.2f} |", flush=True)
        valid, errors, warnings = cog_validate(folder / "rate.tif", strict=True)
        tiny = write_weights(folder / "tiny", "unet", 2)
        result["cloud_optimized"] = valid
        same, rows = result["resumed_is_the_same"] = killed_and_resumed(scene, tiny, folder)
        print(
            f"\ncloud-optimized: {valid} {errors} {warnings}; killed at row {rows} and resumed, the same bytes: {same}"
        )
        sizes = [(given.size, scene)]
        if given.large:
            sizes.append((given.large, write_scene(folder / "large.tif", given.large)))
        result["peak_mib"] = {}
        for size, path in sizes:
            result["peak_mib"][size] = peak_mib(path, tiny, folder / f"peak-{size}.tif")
            print(f"peak memory, {size} x {size}: {result['peak_mib'][size]:.0f} MiB", flush=True)
    if given.record:
        with writing(given.record) as path:
            path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
