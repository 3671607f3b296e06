"""What translating whole scenes costs on this machine, and what tiles leave behind.

    python bench/translation.py [--size 896] [--memory 2048 8192] [--width 24] [--pairs 3] [--record FILE.json]

The scenes are noise, written to a temporary folder; the networks are untrained, of `--width`: neither changes the
arithmetic. *Seams*: the gradient across tile edges over that beside them, and over that in the same places when tiles
end elsewhere, which leaves content out. *Throughput*: pixels of scene a second, counted with their overlap, over the
rate of the bare network on the same tiles, in turns. *Memory*: the peak of a process of its own, for a small scene and
a large one. *Resume*: a process that is killed twice, then left alone, against one that never was.
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
from safetensors.torch import save_file
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.networks import DEVICE, machine
from s2olib import translation
from s2olib.checkpoints import load_generator
from s2olib.generators import create_generator
from s2olib.project import told_in_a_sentence, write_json

SAR = {"bands": ["VV", "VH"], "units": "dB", "limits": [[-25.0, 0.0], [-32.0, -5.0]]}
OPT = {"bands": ["red", "green", "blue"], "units": "reflectance", "limits": [[0.0, 0.3]] * 3}
TILES = {"tile_size": 512, "overlap": 128}


def write_scene(path: Path, size: int) -> Path:
    """Speckle over smooth land, in dB, written by the row."""
    rng = np.random.default_rng(0)
    land = ndimage.gaussian_filter(rng.normal(size=(size // 16, size // 16)), 4) * 40
    profile = {"driver": "GTiff", "count": 2, "dtype": "float32", "width": size, "height": size, "tiled": True}
    with rasterio.open(path, "w", **profile, crs="EPSG:32653", transform=Affine(10, 0, 5e5, 0, -10, 4e6)) as file:
        file.descriptions = SAR["bands"]
        for row in range(0, size, 64):
            part = ndimage.zoom(land[row // 16 : row // 16 + 4], 16, order=1)
            speckle = 10 * np.log10(rng.gamma(4.4, 1 / 4.4, (2, *part.shape)))
            values = (part + speckle - [[[12]], [[19]]]).astype(np.float32)
            file.write(values, window=rasterio.windows.Window(0, row, size, 64))
    return path


def write_weights(folder: Path, name: str, width: int) -> Path:
    """A run's folder with an untrained generator."""
    torch.manual_seed(0)
    size = {"embed_dim": width, "depths": (2, 2), "num_heads": (2, 2)}
    if name == "unet":  # the talk's, unless it is a tiny one
        size = {} if width > 4 else {"embed_dim": width, "levels": 4}
    network = create_generator(name, in_channels=2, out_channels=3, **size)
    (folder / name).mkdir(parents=True)
    save_file(network.state_dict(), folder / name / "generator.safetensors")
    (folder / name / "config.json").write_text(json.dumps({"generator": network.config, "sar": SAR, "opt": OPT}))
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
            total[i] += translation.gradient(image, axis)[edges].sum()
    return translation.seam_ratio(images[0], **TILES), float(total[0] / total[1])


def throughput(scene: Path, weights: Path, folder: Path, size: int, pairs: int) -> dict[str, float]:
    """Megapixels a second through the network: bare, and within a translation, overlap counted as work.

    On a CPU seconds are those of the process: other work on the machine disturbs them less.
    """
    clock = time.perf_counter if DEVICE.type == "cuda" else time.process_time
    network, _ = load_generator(weights)
    tile = torch.rand(1, 2, 512, 512, device=DEVICE) * 2 - 1
    network.to(DEVICE)
    count, rates = len(translation.starts(size, **TILES)) ** 2, []
    for _ in range(pairs):
        begin = clock()
        with torch.no_grad():
            for _ in range(count):
                network(tile)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        bare, begin = clock() - begin, clock()
        translation.translate(scene, folder / "rate.tif", weights, precision="float32", overwrite=True)
        rates.append((bare, clock() - begin))
    worked = count * 512**2 / 1e6
    bare, within = (worked / statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(bare / within for bare, within in rates)
    return {"bare": bare, "within": within, "scene": within * size**2 / 1e6 / worked, "ratio": ratio}


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
    parser.add_argument(
        "--size",
        type=int,
        default=896,
        help="pixels of the scene's side; the U-Net, much faster, gets nearly three times that",
    )
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[2048, 8192], help="sides of scenes to measure memory on"
    )
    parser.add_argument("--width", type=int, default=24, help="embed_dim of HAT and S2OFormer; the U-Net is the talk's")
    parser.add_argument("--pairs", type=int, default=3, help="repetitions of the throughput's measurement")
    parser.add_argument("--record", type=Path, help="also write everything to this JSON file")
    given = parser.parse_args()
    result: dict = {"machine": machine(), "size": given.size, "width": given.width}
    print("{name}, {threads} threads, load {load:.1f}, torch {torch}\n".format(**result["machine"]))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sizes = {"unet": 3 * given.size - 256, "hat": given.size, "s2oformer": given.size}  # whole tiles
        print("| network | seams | of the same places | bare Mpx/s | within a translation | ratio | scene Mpx/s |")
        print("|---|---|---|---|---|---|---|")
        for name, size in sizes.items():
            scene = write_scene(folder / f"scene-{name}.tif", size)
            weights = write_weights(folder, name, given.width)
            near, same = seams(scene, weights, folder)
            rate = throughput(scene, weights, folder, size, given.pairs)
            result[name] = {"seam_ratio": near, "same_places": same, "megapixels_per_second": rate}
            print(f"| {name} | {near:.4f} | {same:.4f} | {rate['bare']:.2f} ", end="")
            print(f"| {rate['within']:.2f} | {rate['ratio']:.2f} | {rate['scene']:.2f} |", flush=True)
        valid, errors, warnings = cog_validate(folder / "rate.tif", strict=True)
        tiny = write_weights(folder / "tiny", "unet", 2)
        result["cloud_optimized"] = valid
        same, rows = result["resumed_is_the_same"] = killed_and_resumed(folder / "scene-unet.tif", tiny, folder)
        print(
            f"\ncloud-optimized: {valid} {errors} {warnings}; killed at row {rows} and resumed, the same bytes: {same}"
        )
        result["peak_mib"] = {}
        for size in given.memory:
            path = write_scene(folder / f"scene-{size}.tif", size)
            result["peak_mib"][size] = peak_mib(path, tiny, folder / f"peak-{size}.tif")
            print(f"peak memory, {size} x {size}: {result['peak_mib'][size]:.0f} MiB", flush=True)
    if given.record:
        write_json(given.record, result)


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
