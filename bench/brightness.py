"""What becomes of a network's images when the radar is brighter than what it has learned from, and where in a U-Net.

    python bench/brightness.py [RUN_FOLDER ...] [--dataset data/ombria-20m] [--record FILE.json]

Unseen places can have brighter radar than any training patch. Here the radar of validation patches is made brighter, by
`STEPS` of its range, and PSNR is taken each time. With one step, `SHOWN`, a U-Net is taken apart: it gets crops of the
size it was trained on, one after the other, in the place of whole patches; weights of its kernels that no such crop
reaches, which are as chance has left them, are set to zero; or its `DEEPEST` smallest maps come from the radar as it
was, all others from the brighter one. No network translates a patch of the test split here; how bright its radar is, is
noted patch by patch, as for the other splits. A record that is there keeps what it has of other runs.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from s2olib import checkpoints, records
from s2olib.data import SPLITS
from s2olib.data.triplets import Triplets, clipped
from s2olib.generators.unet import UNet
from s2olib.metrics import psnr, to_8bit
from s2olib.project import resolve, told_in_a_sentence, writing
from s2olib.statistics import blocks

STEPS = (0.0, 0.1, 0.2, 0.3)  # of the range from the lower limit to the upper one
SHOWN = 0.2
DEEPEST = 3  # of a U-Net's maps: 4, 2 and 1 pixels wide where a crop has 64


def in_crops(network: UNet, sar: Tensor, size: int) -> Tensor:
    """Translate (B, C, H, W) in crops that lie side by side."""
    rows = [torch.cat([network(crop) for crop in row.split(size, 3)], 3) for row in sar.split(size, 2)]
    return torch.cat(rows, 2)


def without_untrained(network: UNet, channels: int, size: int) -> UNet:
    """A copy whose kernels are zero where a crop of this size gives no gradient."""
    network = copy.deepcopy(network)
    network(torch.randn(1, channels, size, size)).sum().backward()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.weight.data[..., layer.weight.grad.abs().amax((0, 1)) == 0] = 0
    return network


def with_deepest_of(network: UNet, sar: Tensor, brighter: Tensor) -> Tensor:
    """Translate `brighter` with the smallest maps of `sar`."""
    kept: list[Tensor] = []

    def hook(_module, _inputs, found: Tensor) -> Tensor:
        kept.append(found)
        return kept[0]

    handle = network.down[-DEEPEST].register_forward_hook(hook)
    network(sar)
    fake = network(brighter)
    handle.remove()
    return fake


def ways(network: nn.Module, run: Path, channels: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """What takes a U-Net apart: functions of the radar as it is and of the brighter one."""
    size = records.read(run)["parameters"]["crop_size"]
    if not isinstance(network, UNet) or not size:
        return {}
    reached = without_untrained(network, channels, size)
    return {
        "crops": lambda _, brighter: in_crops(network, brighter, size),
        "untrained": lambda _, brighter: reached(brighter),
        "deepest": lambda sar, brighter: with_deepest_of(network, sar, brighter),
    }


def measure(run: Path, validation: Triplets) -> tuple[dict[str, list[float]], dict[str, dict[str, list[float]]]]:
    """Every patch's PSNR, by how much brighter its radar was made; and the same, at 0 and `SHOWN`, in each way."""
    network, _ = checkpoints.load_generator(run)
    apart = ways(network, run, validation.sar_channels)
    whole: dict[str, list[float]] = {f"{step:g}": [] for step in STEPS}
    parts: dict[str, dict[str, list[float]]] = {way: {f"{step:g}": [] for step in (0, SHOWN)} for way in apart}
    with torch.inference_mode():
        for i in tqdm(range(len(validation)), desc=run.name):
            sar, opt = (validation.scaled(i)[name][None] for name in ("sar", "opt"))

            def score(fake: Tensor, opt: Tensor = opt) -> float:
                return round(psnr(to_8bit(fake), to_8bit(opt)).item(), 6)

            brighter = {f"{step:g}": clipped(sar + 2 * step) for step in STEPS}
            for step, values in whole.items():
                values.append(score(network(brighter[step])))
            for way, steps in parts.items():
                for step, values in steps.items():
                    values.append(score(apart[way](brighter["0"], brighter[step])))
    return whole, parts


def brightness(dataset: str) -> dict[str, dict[str, float]]:
    """How bright each patch's radar is, by split and id: the mean of its pixels, as a share of the range."""
    found = {}
    for split in SPLITS:
        patches = Triplets(dataset, split)
        means = (round((patches[i]["sar"].mean().item() + 1) / 2, 6) for i in range(len(patches)))
        found[split] = dict(zip(patches.index["id"], means, strict=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--dataset", default="data/ombria-20m")
    parser.add_argument("--record", type=Path, help="also write to this JSON file")
    given = parser.parse_args()
    validation, runs = Triplets(given.dataset, "validation"), [resolve(run) for run in given.runs]
    result: dict = {"data": validation.info["fingerprint"], "clusters": blocks(validation.index).tolist()}
    result |= {"radar": brightness(given.dataset), "code": {}, "runs": {}, "shown": f"{SHOWN:g}", "ways": {}}
    if given.record and given.record.is_file():
        before = json.loads(given.record.read_text())
        if any(before[name] != result[name] for name in ("data", "shown")):
            parser.error(f"{given.record} is of another data set or step: name a new file")
        result |= {name: before[name] for name in ("code", "runs", "ways")}
    found = {run.name: records.read(run) for run in runs}
    records.check_data(found, validation.info, given.dataset)  # of another set these may be test patches
    for run in runs:
        whole, parts = measure(run, validation)
        result["code"][run.name] = found[run.name]["code_version"]
        result["runs"][run.name] = whole
        result["ways"] |= {run.name: parts} if parts else {}
        for way, values in {"whole": whole, **parts}.items():
            print(run.name, way, {step: round(sum(each) / len(each), 3) for step, each in values.items()})
    if given.record:
        with writing(given.record) as path:
            path.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
