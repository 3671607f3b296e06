"""What becomes of a network's images when the radar is brighter than what it has learned from.

    python bench/brightness.py RUN_FOLDER [RUN_FOLDER ...] [--dataset data/ombria-20m] [--record FILE.json]

Unseen places can have brighter radar than any training patch. Here the radar of validation patches is made brighter, by
`STEPS` of its range, and PSNR is taken each time. The test split is never opened.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from tqdm import tqdm

from s2olib import checkpoints, records
from s2olib.data.triplets import Triplets
from s2olib.metrics import psnr, to_8bit
from s2olib.project import resolve, writing
from s2olib.statistics import blocks

STEPS = (0.0, 0.1, 0.2, 0.3)  # of the range from the lower limit to the upper one


@torch.inference_mode()
def measure(run: Path, validation: Triplets) -> dict[str, list[float]]:
    """Every patch's PSNR, by how much brighter its radar was made."""
    network, _ = checkpoints.load_generator(run)
    found: dict[str, list[float]] = {f"{step:g}": [] for step in STEPS}
    for i in tqdm(range(len(validation)), desc=run.name):
        sar, opt = (validation[i][name][None] for name in ("sar", "opt"))
        for step in STEPS:
            fake = network((sar + 2 * step).clamp(-1, 1))
            found[f"{step:g}"].append(round(psnr(to_8bit(fake), to_8bit(opt)).item(), 6))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--dataset", default="data/ombria-20m")
    parser.add_argument("--record", type=Path, help="also write to this JSON file")
    given = parser.parse_args()
    validation, runs = Triplets(given.dataset, "validation"), [resolve(run) for run in given.runs]
    result: dict = {"data": validation.info["fingerprint"], "clusters": blocks(validation.index).tolist()}
    result["code"] = {run.name: records.read(run)["code_version"] for run in runs}
    result["runs"] = {run.name: measure(run, validation) for run in runs}
    for run, values in result["runs"].items():
        print(run, {step: round(sum(each) / len(each), 3) for step, each in values.items()})
    if given.record:
        with writing(given.record) as path:
            path.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
