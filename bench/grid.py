"""Whether an image's fine texture is a grid that the network laid over it, and whether the DSD asks for it.

    python bench/grid.py RUN_FOLDER [RUN_FOLDER ...] [--dataset data/ombria-10m] [--step 4] [--record FILE.json]

Whatever repeats every four pixels vanishes in the mean of 4 x 4 pixels around each one. So every metric is taken of the
generated image and of that mean of it: a network whose texture is a grid gains by it, one whose texture is right loses.
The grid itself is what repeats throughout an image, on average. Where a run kept its last checkpoint, which holds the
DSD, generator and DSD as they were at the end say what the grid is worth to the loss: the feature loss and L1 with it
and with it taken away, on training patches (what the generator was taught) and on validation patches.

The test split is never opened; every `--step`-th patch is read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from s2olib import checkpoints, records
from s2olib.data.triplets import Triplets
from s2olib.dsd import DSD
from s2olib.losses import FeatureLoss
from s2olib.metrics import psnr, ssim, to_8bit
from s2olib.project import resolve, told_in_a_sentence, writing
from s2olib.statistics import blocks

PERIOD = 4  # pixels; the coarsest maps that a step brings up to full size are a quarter of it


def averaged(image: Tensor) -> Tensor:
    """The mean of the 4 x 4 pixels around each pixel of (B, C, H, W), mirrored at the border."""
    return F.avg_pool2d(F.pad(image, (2, 1, 2, 1), mode="reflect"), PERIOD, 1)


def grid(image: Tensor) -> Tensor:
    """What repeats every four pixels of (B, C, H, W): pixels less the mean around them, over all repetitions."""
    height, width = image.shape[-2:]
    tiles = (image - averaged(image)).unflatten(-1, (-1, PERIOD)).unflatten(-3, (-1, PERIOD))  # (B, C, h, 4, w, 4)
    return tiles.mean((2, 4)).repeat(1, 1, height // PERIOD, width // PERIOD)


def every(triplets: Triplets, step: int, label: str) -> tqdm:
    """Positions of every `step`-th patch, with a progress bar."""
    return tqdm(range(0, len(triplets), step), desc=label)


@torch.inference_mode()
def measure(run: Path, validation: Triplets, step: int) -> dict[str, list[float]]:
    """Every patch's PSNR and SSIM, of the image and of its 4 x 4 mean, and the strength of its grid."""
    network, _ = checkpoints.load_generator(run)
    rows = []
    for i in every(validation, step, run.name):
        opt = validation[i]["opt"][None]
        real, fake = to_8bit(opt), network(validation[i]["sar"][None])
        row = {name: 127.5 * grid(image).std().item() for name, image in (("grid", fake), ("grid_real", opt))}
        for suffix, image in (("", fake), ("_averaged", averaged(fake))):
            image = to_8bit(image)
            row["psnr" + suffix], row["ssim" + suffix] = psnr(image, real).item(), ssim(image, real).item()
        rows.append(row)
    return {name: [round(row[name], 6) for row in rows] for name in rows[0]}


@torch.inference_mode()
def losses(run: Path, triplets: Triplets, step: int) -> dict[str, list[float]]:
    """What every patch's image costs by the feature loss and by L1, each as weighted in training, and without its grid.

    Generator and DSD are as they were at the end.
    """
    network, about = checkpoints.load_generator(run)
    state = torch.load(run / "last.ckpt", map_location="cpu", weights_only=True)["networks"]
    network.load_state_dict(state["modules"]["generator"])
    channels = triplets.sar_channels, triplets.opt_channels, triplets.num_classes
    dsd = DSD(*channels, about["parameters"]["dsd_width"], about["parameters"]["dsd_encoder"])
    dsd.load_state_dict(state["modules"]["dsd"])
    feature_loss = FeatureLoss(dsd).eval()
    feature_loss.load_state_dict(state["feature_loss"])
    rows = []
    for i in every(triplets, step, f"{run.name}, {triplets.folder.name}"):
        sar, opt = triplets[i]["sar"][None], triplets[i]["opt"][None]
        fake, row = network(sar), {}
        for suffix, image in (("", fake), ("_without", fake - grid(fake))):
            row["feature" + suffix] = about["parameters"]["dsd_weight"] * feature_loss(sar, opt, image).item()
            row["l1" + suffix] = about["parameters"]["l1_weight"] * F.l1_loss(image, opt).item()
        rows.append(row)
    return {name: [round(row[name], 8) for row in rows] for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--dataset", default="data/ombria-10m")
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("--record", type=Path, help="also write to this JSON file, beside what it has of other runs")
    given = parser.parse_args()
    splits = {split: Triplets(given.dataset, split) for split in ("validation", "train")}
    clusters = {split: blocks(triplets.index)[:: given.step].tolist() for split, triplets in splits.items()}
    result = {"data": splits["validation"].info["fingerprint"], "clusters": clusters, "code": {}, "runs": {}}
    result["losses"] = {}
    if given.record and given.record.is_file():
        before = json.loads(given.record.read_text())
        if any(before[key] != result[key] for key in ("data", "clusters")):
            parser.error(f"{given.record} is of other data or another --step: name a new file")
        result = before
    found = {run: records.read(run) for run in map(resolve, given.runs)}
    named = {run.name: record for run, record in found.items()}
    records.check_data(named, splits["train"].info, given.dataset)  # of another set these may be test patches
    for run, record in found.items():
        result["code"][run.name] = record["code_version"]
        measured = {"validation": measure(run, splits["validation"], given.step)}
        result["runs"][run.name] = measured["validation"]
        if record["parameters"]["dsd_weight"] and (run / "last.ckpt").is_file():
            taught = {split: losses(run, triplets, given.step) for split, triplets in splits.items()}
            result["losses"][run.name] = taught
            measured |= {f"losses, {split}": values for split, values in taught.items()}
        for what, values in measured.items():
            print(run.name, what, {name: round(sum(each) / len(each), 4) for name, each in values.items()})
        if given.record:
            with writing(given.record) as path:
                path.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
