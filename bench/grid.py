"""Whether an image's fine texture is a grid that the network laid over it, on validation patches.

    python bench/grid.py RUN_FOLDER [RUN_FOLDER ...] [--dataset data/ombria-10m] [--step 4] [--record FILE.json]

Whatever repeats every four pixels vanishes in the mean of 4 x 4 pixels around each one. So every metric is taken of the
generated image and of that mean of it: a network whose texture is a grid gains by it, one whose texture is right loses.
Only validation patches are read, every `--step`-th of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
from s2olib import checkpoints, records
from s2olib.data.triplets import Triplets
from s2olib.metrics import flat_deviation, psnr, ssim, to_8bit
from s2olib.project import resolve, writing
from s2olib.statistics import blocks


def averaged(image: torch.Tensor) -> torch.Tensor:
    """The mean of the 4 x 4 pixels around each pixel of (B, C, H, W), mirrored at the border."""
    return F.avg_pool2d(F.pad(image, (2, 1, 2, 1), mode="reflect"), 4, 1)


@torch.inference_mode()
def measure(run: Path, validation: Triplets, step: int) -> dict[str, list[float]]:
    """Every patch's PSNR, SSIM and deviation in flat windows, of the image and of its 4 x 4 mean."""
    network, _ = checkpoints.load_generator(run)
    rows = []
    for i in tqdm(range(0, len(validation), step), desc=run.name):
        real = to_8bit(validation[i]["opt"][None])
        fake = network(validation[i]["sar"][None])
        row = {"flat_deviation_real": flat_deviation(real, real).item()}
        for suffix, image in (("", fake), ("_averaged", averaged(fake))):
            image = to_8bit(image)
            row["psnr" + suffix], row["ssim" + suffix] = psnr(image, real).item(), ssim(image, real).item()
            row["flat_deviation" + suffix] = flat_deviation(image, real).item()
        rows.append(row)
    return {name: [round(row[name], 6) for row in rows] for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--dataset", default="data/ombria-10m")
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("--record", type=Path, help="also write everything to this JSON file")
    given = parser.parse_args()
    validation = Triplets(given.dataset, "validation")
    clusters = blocks(validation.index)[:: given.step].tolist()
    result = {"data": validation.info["fingerprint"], "clusters": clusters, "code": {}, "runs": {}}
    for run in given.runs:
        result["code"][run.name] = records.read(resolve(run))["code_version"]
        values = result["runs"][run.name] = measure(resolve(run), validation, given.step)
        print(run.name, {name: round(sum(each) / len(each), 3) for name, each in values.items()})
        if given.record:
            with writing(given.record) as path:
                path.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
