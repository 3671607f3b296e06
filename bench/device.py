"""What the networks cost on this device at a training's batch: patches a second, memory, share of its bf16 arithmetic.

    python bench/device.py [--batch 16] [--size 256] [--width 96] [--networks hat,unet] [--record FILE.json]

Each network of `bench/networks.py` runs under bf16 autocast, eager and compiled by `torch.compile` (HAT and S2OFormer
block by block, as training does; the others whole; the plain formulas eager alone), for inference and for forward and
backward; a time is the median of `--repeats` after three to warm up. A share is of the rate of a large bf16 matrix
product measured on the same device, and counts a network's own arithmetic alone: 2 FLOP for a MAC, three times
that with the backward pass, nothing for what checkpointing computes again. What does not fit says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.networks import DEVICE, NETWORKS, forward, inputs, machine, network, peak, seconds, start_peak, step
from s2olib.generators import complexity
from s2olib.generators.rhag import RHAG
from s2olib.project import told_in_a_sentence, write_json

MODES = ("inference eager", "inference compiled", "training eager", "training compiled")


def matrix_rate() -> float:
    """FLOP/s of a bf16 product of two random square matrices."""
    size = 8192 if DEVICE.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    times = [seconds(lambda: a @ b)[0] for _ in range(13)][3:]
    return 2 * size**3 / statistics.median(times)


def measure(name: str, given: argparse.Namespace, training: bool, compiled: bool) -> dict[str, float]:
    """Median seconds, peak MiB, and the seconds of the first step; empty where memory does not suffice."""
    torch.manual_seed(0)
    torch.compiler.reset()
    images = inputs(name, given.size, given.batch)
    model = network(name, given.width).to(DEVICE, memory_format=torch.channels_last).train(training)
    groups = [module for module in model.modules() if isinstance(module, RHAG)]
    for group in groups:
        group.compiled = compiled
    model = torch.compile(model, dynamic=False) if compiled and not groups else model
    work = step if training else forward
    before = start_peak()
    try:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            started = time.perf_counter()
            seconds(lambda: work(model, images))
            first = time.perf_counter() - started
            times = [seconds(lambda: work(model, images))[0] for _ in range(given.repeats + 2)][2:]
    except torch.OutOfMemoryError:
        return {}
    return {"seconds": statistics.median(times), "peak_mib": peak() - before, "first_seconds": first}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=256, help="pixels of a patch's side")
    parser.add_argument("--width", type=int, default=96, help="embed_dim of HAT and S2OFormer")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="which, of " + ",".join(NETWORKS))
    parser.add_argument("--modes", default=",".join(MODES), help="which, of " + ",".join(MODES))
    parser.add_argument("--record", type=Path, help="also add everything to this JSON file")
    given = parser.parse_args()
    names, modes = given.networks.split(","), given.modes.split(",")
    if not (set(names) <= set(NETWORKS) and set(modes) <= set(MODES)):
        parser.error(f"--networks are of {','.join(NETWORKS)}; --modes are of {','.join(MODES)}.")
    rate = matrix_rate()
    result: dict = {"machine": machine(), "batch": given.batch, "size": given.size, "width": given.width}
    result |= {"precision": "bf16 autocast", "matrix_flop_per_s": rate, "networks": {}}
    if given.record and given.record.is_file():
        before = json.loads(given.record.read_text())
        if any(before[name] != result[name] for name in ("batch", "size", "width", "precision")) or any(
            before["machine"][name] != result["machine"][name] for name in ("name", "torch")
        ):
            parser.error(f"{given.record} has another device, PyTorch or size: give another file.")
        result["networks"], rate = before["networks"], before["matrix_flop_per_s"]  # one rate for all its shares
        result["matrix_flop_per_s"] = rate
    print(f"{result['machine']['name']}, torch {torch.__version__}: bf16 matrix product {rate / 1e12:.0f} TFLOP/s")
    print("\n| network | pass | patches/s | GiB | of the matrix rate | first pass, s |")
    print("|---|---|---|---|---|---|")
    for name in names:
        macs = complexity(network(name, given.width), *(tuple(x.shape) for x in inputs(name, given.size)))[1]
        rows = result["networks"].setdefault(name, {"macs": macs})
        for mode in modes:
            training, compiled = mode.startswith("training"), mode.endswith("compiled")
            if name == "plain" and compiled:  # loops over positions, which a compiler would unroll
                continue
            row = measure(name, given, training, compiled)
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
            cells = ["does not fit", "", "", ""]
            if row:
                row["patches_per_s"] = given.batch / row["seconds"]
                row["share"] = 2 * macs * (3 if training else 1) * row["patches_per_s"] / rate
                cells = [f"{row['patches_per_s']:.1f}", f"{row['peak_mib'] / 1024:.1f}", f"{row['share']:.1%}"]
                cells.append(f"{row['first_seconds']:.0f}")
            rows[mode] = row
            print(f"| {name} | {mode} | {' | '.join(cells)} |", flush=True)
            if given.record:
                write_json(given.record, result)


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
