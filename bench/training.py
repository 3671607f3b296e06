"""Whether the loader keeps up with the networks, and how long an evaluation takes beyond inference, on this machine.

    python bench/training.py [DATASET_ROOT] [--steps 20] [--workers 0] [--resident] [--device auto]

The step rate with the real loader is compared with that of cached random tensors of the same shapes; the two take turns
and the median of the pairs' ratios is printed, so that a drifting machine does not decide it. The evaluation is that
of 500 random patches of 256 x 256 pixels with land cover, for three variants, without any generator; its parts are
every metric and semantic fidelity, and processor time is printed beside time. DATASET_ROOT is by default that which
`make book` builds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from pathlib import Path

import lightning_fabric
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from s2olib import training
from s2olib.data.triplets import Triplets
from s2olib.evaluation import Judge
from s2olib.metrics import patch_metrics
from s2olib.project import told_in_a_sentence


def feeding(parameters: training.Parameters, steps: int, rounds: int) -> list[tuple[float, float]]:
    """Steps a second with the real loader and with cached tensors, in turns."""
    fabric = lightning_fabric.Fabric(accelerator=parameters.device, devices=1, precision=parameters.precision)
    data = parameters.training_data()
    networks = training._Networks(parameters, data, fabric)
    order = training.EpochOrder(len(data), parameters.batch_size, 0)
    real = training.Resident(data, order, fabric.device) if parameters.resident else None
    real = real or training._loader(data, order, parameters, fabric)
    batch = next(iter(real))
    cached = {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in batch.items()}
    cached = {name: value.to(fabric.device) for name, value in cached.items()}

    def rate(batches) -> float:
        started = time.perf_counter()
        for one in itertools.islice(batches, steps):
            networks.step(one)  # it ends with reading the losses, so a device has finished
        return steps / (time.perf_counter() - started)

    def epochs():
        for order.epoch in itertools.count():
            data.set_epoch(order.epoch)
            yield from real

    endless = epochs()
    rate(itertools.chain([next(endless)] * 2, endless)), rate(itertools.repeat(cached))  # to warm up
    return [(rate(endless), rate(itertools.repeat(cached))) for _ in range(rounds)]


def evaluation(judge: Judge) -> tuple[float, float]:
    """Time and processor time in seconds of all that is measured of 500 patches of three variants."""
    generator = torch.Generator().manual_seed(0)
    fake, real = (torch.rand(8, 3, 256, 256, generator=generator) * 2 - 1 for _ in range(2))
    lulc = torch.randint(0, 4, (8, 256, 256), generator=generator)
    names = ("water", "built-up", "farmland and grass", "forest")
    started, used = time.perf_counter(), time.process_time()
    for _ in range(-(-500 * 3 // 8)):
        patch_metrics(fake, real, mean_colour=[0, 0, 0], lulc=lulc, categories=names)
        with torch.no_grad():
            judge.accuracy(fake, lulc), judge.accuracy(real, lulc)
    return time.perf_counter() - started, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_root", nargs="?", default="data/quick")
    parser.add_argument("--generator", default="unet")
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--dsd-width", type=int, default=4)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--resident", action="store_true")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    parameters = training.Parameters(
        dataset_root=given.dataset_root,
        run_root="runs/bench",
        generator=given.generator,
        batch_size=given.batch,
        crop_size=given.crop or None,
        embed_dim=given.width,
        depths=(2, 2),
        num_heads=(2, 2),
        dsd_width=given.dsd_width,
        precision=given.precision,
        num_workers=given.workers,
        device=given.device,
    )
    pairs = feeding(dataclasses.replace(parameters, resident=given.resident), given.steps, given.rounds)
    real, cached = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{given.generator}: {real:.2f} steps/s fed from {given.dataset_root}, {cached:.2f} from cache: {ratio:.1%}")
    seconds, used = evaluation(Judge.fit(Triplets(given.dataset_root, "train")))
    print(
        f"evaluation of 3 x 500 patches of 256 x 256, without generators: {seconds:.0f} s ({used:.0f} s of a processor)"
    )


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
