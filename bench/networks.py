"""What the networks cost on this machine: time per patch and per GMAC, peak memory, and HAT against plain formulas.

    python bench/networks.py [--size 256] [--width 96] [--pairs 5] [--record FILE.json]

Every number is a median over `--pairs` repetitions after one to warm up. HAT and its plain transcription take turns,
and the ratio is the median of the pairs' ratios, so that a drifting machine does not decide it. Peak memory is
that of a process of its own: the resident set's growth on a CPU, the allocator's maximum on a GPU. Other work on the
machine slows everything down: the load is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.plain_hat import plain_hat
from s2olib.dsd import DSD
from s2olib.generators import complexity, create_generator
from s2olib.patchgan import PatchGAN
from s2olib.project import writing

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STATUS = Path("/proc/self/status")  # Linux
NETWORKS = ("unet", "hat", "s2oformer", "dsd", "patchgan")


def network(name: str, width: int) -> nn.Module:
    """One of `NETWORKS` in the talk's configuration; `width` is HAT's and S2OFormer's embed_dim."""
    if name in ("dsd", "patchgan"):
        return DSD() if name == "dsd" else PatchGAN()
    talk = {"embed_dim": width, "depths": [4] * 4, "num_heads": [4] * 4, "window_size": 8, "drop_path_rate": 0.0}
    return create_generator(name, in_channels=2, out_channels=3, **({} if name == "unet" else talk))


def inputs(name: str, size: int) -> list[Tensor]:
    channels = (2, 3) if name in ("dsd", "patchgan") else (2,)
    return [torch.randn(1, count, size, size, device=DEVICE) for count in channels]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def forward(model: Callable, given: list[Tensor]) -> None:
    with torch.inference_mode():
        model(*given)


def step(model: Callable, given: list[Tensor]) -> None:
    """Forward and backward, as in training."""
    output = model(*given)
    (output[0] if isinstance(output, tuple) else output).square().mean().backward()


def measure(name: str, width: int, size: int, repeats: int, training: bool) -> dict[str, float]:
    """Median seconds and peak MiB of one network, in the process that calls it."""
    torch.manual_seed(0)
    model, given, work = (
        network(name, width).to(DEVICE).train(training),
        inputs(name, size),
        step if training else forward,
    )
    before = start_peak()
    work(model, given)
    times = [seconds(lambda: work(model, given)) for _ in range(repeats)]
    return {"seconds": statistics.median(times), "peak_mib": peak() - before}


def against_plain(width: int, size: int, pairs: int, training: bool) -> dict[str, float]:
    """HAT and its plain transcription with the same weights, taking turns."""
    torch.manual_seed(0)
    model, given = network("hat", width).train(training), inputs("hat", size)  # the transcription runs on a CPU only
    weights, work = dict(model.named_parameters()), step if training else forward

    def plain(sar: Tensor) -> Tensor:
        return plain_hat(weights, model.config, sar)[0]

    work(plain, given), work(model, given)
    times = [(seconds(lambda: work(plain, given)), seconds(lambda: work(model, given))) for _ in range(pairs)]
    slow, fast = zip(*times, strict=True)
    return {
        "plain_seconds": statistics.median(slow),
        "seconds": statistics.median(fast),
        "times_faster": statistics.median(a / b for a, b in times),
    }


def convolution_rate(width: int, size: int, repeats: int) -> float:
    """GMAC per second of eight plain 3x3 convolutions of `width` channels: what this machine can do."""
    stack = nn.Sequential(*[nn.Conv2d(width, width, 3, padding=1) for _ in range(8)]).to(DEVICE)
    stack = stack.to(memory_format=torch.channels_last).eval()
    shape = (1, width, size, size)
    x = torch.randn(shape, device=DEVICE).to(memory_format=torch.channels_last)
    forward(stack, [x])
    times = [seconds(lambda: forward(stack, [x])) for _ in range(repeats)]
    return complexity(stack, shape)[1] / 1e9 / statistics.median(times)


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), name
        )
    if DEVICE.type == "cuda":
        name = torch.cuda.get_device_name()
    return {"device": name, "threads": torch.get_num_threads(), "load": os.getloadavg()[0], "torch": torch.__version__}


def start_peak() -> float:
    """Forget earlier peaks; the MiB in use now (NaN where the system cannot tell)."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    if not STATUS.exists():
        return float("nan")
    (STATUS.parent / "clear_refs").write_text("5")
    return resident("VmRSS")


def peak() -> float:
    """The most MiB in use since `start_peak`."""
    return torch.cuda.max_memory_allocated() / 2**20 if DEVICE.type == "cuda" else resident("VmHWM")


def resident(entry: str) -> float:
    if not STATUS.exists():
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in STATUS.read_text().splitlines() if line.startswith(entry))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="pixels of a patch's side")
    parser.add_argument("--width", type=int, default=96, help="embed_dim of HAT and S2OFormer")
    parser.add_argument("--pairs", type=int, default=5, help="repetitions of every measurement")
    parser.add_argument("--record", type=Path, help="also write everything to this JSON file")
    given = parser.parse_args()
    result: dict = {"machine": machine(), "size": given.size, "width": given.width, "pairs": given.pairs}
    print("{device}, {threads} threads, load {load:.1f}, torch {torch}".format(**result["machine"]))

    rate = result["convolution_gmac_per_s"] = convolution_rate(given.width, given.size, given.pairs)
    print(f"plain convolutions: {rate:.1f} GMAC/s\n")
    print(
        "| network | M parameters | GMAC | ms a patch | s per GMAC | of convolutions' rate | MiB | training: ms | MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    result["networks"] = {}
    for name in NETWORKS:
        shapes = [tuple(x.shape) for x in inputs(name, given.size)]
        parameters, macs = complexity(network(name, given.width), *shapes)
        row: dict = {"parameters": parameters, "macs": macs}
        for training in (False, True):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                arguments = (name, given.width, given.size, given.pairs, training)
                row["training" if training else "inference"] = pool.submit(measure, *arguments).result()
        result["networks"][name] = row
        run, train, gmac = row["inference"], row["training"], macs / 1e9
        print(
            f"| {name} | {parameters / 1e6:.2f} | {gmac:.1f} | {1000 * run['seconds']:.0f} "
            f"| {run['seconds'] / gmac:.4f} | {gmac / run['seconds'] / rate:.0%} | {run['peak_mib']:.0f} "
            f"| {1000 * train['seconds']:.0f} | {train['peak_mib']:.0f} |"
        )
    if DEVICE.type == "cpu":
        result["hat_against_plain"] = {}
        for training in (False, True):
            row = against_plain(given.width, given.size, given.pairs, training)
            result["hat_against_plain"]["training" if training else "inference"] = row
            print(
                f"\nHAT, {'training' if training else 'inference'}: plain formulas {row['plain_seconds']:.2f} s, "
                f"ours {row['seconds']:.2f} s, {row['times_faster']:.2f} times faster"
            )
    if given.record:
        with writing(given.record) as path:
            path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
