"""What the networks cost on this machine: time per patch and per GMAC, peak memory, and HAT against plain formulas.

    python bench/networks.py [--size 256] [--width 96] [--pairs 5] [--networks plain,hat] [--record FILE.json]

Every number is a median over `--pairs` repetitions after one to warm up. Two networks that are compared take turns,
and the ratio is the median of the pairs' ratios, so that a drifting machine does not decide it. Peak memory is
that of a process of its own, of its first step, beyond weights and input: the resident set's growth on a CPU, the
allocator's on a GPU.
On a CPU every large tensor gets pages of its own for it, given back when freed: what a network holds is meant. For time
the C library keeps all that is freed instead, for every network alike. As it is, it gives large tensors back and asks
for them again, and where fresh pages are dear that alone decides: on a virtual machine (AMD EPYC, one thread) the plain
formulas at 256 px then reached 22 % of the plain convolutions' rate instead of 36 %, and HAT against them looked 1.9
times faster instead of 1.4.
Other work on the machine slows everything down: the load is printed, and ratios of processor time stand beside those of
time. "plain" is HAT's published formulas with HAT's weights; where they stay below `LEAST` of the plain convolutions'
rate, ratios to them do not count, and it is said.
"""

from __future__ import annotations

import argparse
import ctypes
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
from s2olib import records
from s2olib.dsd import DSD
from s2olib.generators import HAT, complexity, create_generator
from s2olib.patchgan import PatchGAN
from s2olib.project import told_in_a_sentence, write_json

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STATUS = Path("/proc/self/status")  # Linux
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of malloc.h
NETWORKS = ("plain", "hat", "hat-checkpointing", "s2oformer", "unet", "dsd", "patchgan")
PAIRS = (("plain", "hat"), ("hat", "s2oformer"))
LEAST = 0.3  # of the plain convolutions' rate: below it the plain formulas stand for nothing
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}  # no pages of its own for any tensor, and nothing given back


class Plain(nn.Module):
    """HAT's weights in the plain transcription of its formulas."""

    def __init__(self, hat: HAT) -> None:
        super().__init__()
        self.hat = hat

    def forward(self, sar: Tensor) -> Tensor:
        return plain_hat(dict(self.hat.named_parameters()), self.hat.config, sar)[0]


def network(name: str, width: int) -> nn.Module:
    """One of `NETWORKS` in the talk's configuration; `width` is HAT's and S2OFormer's embed_dim."""
    if name in ("dsd", "patchgan"):
        return DSD() if name == "dsd" else PatchGAN()
    if name == "plain":
        return Plain(network("hat", width))
    kind, _, option = name.partition("-")
    talk = {"embed_dim": width, "depths": [4] * 4, "num_heads": [4] * 4, "window_size": 8, "drop_path_rate": 0.0}
    config = {} if kind == "unet" else talk | {"checkpointing": option == "checkpointing"}
    return create_generator(kind, in_channels=2, out_channels=3, **config)


def inputs(name: str, size: int, batch: int = 1) -> list[Tensor]:
    channels = (2, 3) if name in ("dsd", "patchgan") else (2,)
    return [torch.randn(batch, count, size, size, device=DEVICE) for count in channels]


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """(time, processor time) of `work`."""
    start, used = time.perf_counter(), time.process_time()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - used


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
    set_allocator({M_MMAP_THRESHOLD: 2**20})
    before = start_peak()
    work(model, given)
    top = peak() - before
    set_allocator(KEEP)
    times = [seconds(lambda: work(model, given))[0] for _ in range(repeats)]
    return {"seconds": statistics.median(times), "peak_mib": top}


def compare(slower: str, faster: str, width: int, size: int, pairs: int, training: bool) -> dict[str, float]:
    """Two of `NETWORKS` taking turns: how many times faster the second is, by time and by processor time."""
    torch.manual_seed(0)
    models = [network(name, width).to(DEVICE).train(training) for name in (slower, faster)]
    work = step if training else forward
    given, times = inputs(slower, size), []
    for _ in range(pairs + 1):
        times.append([seconds(lambda model=model: work(model, given)) for model in models])
        for model in models:
            model.zero_grad()
    ratios = [[a / b for a, b in zip(*pair, strict=True)] for pair in times[1:]]
    return dict(
        zip(("times_faster", "times_less_processor"), map(statistics.median, zip(*ratios, strict=True)), strict=True)
    )


def convolution_rate(width: int, size: int, repeats: int, layout: torch.memory_format) -> float:
    """GMAC per second of eight 3x3 convolutions of `width` channels: what this machine can do."""
    stack = nn.Sequential(*[nn.Conv2d(width, width, 3, padding=1) for _ in range(8)]).to(DEVICE, memory_format=layout)
    shape = (1, width, size, size)
    x = torch.randn(shape, device=DEVICE).to(memory_format=layout)
    forward(stack, [x])
    times = [seconds(lambda: forward(stack, [x]))[0] for _ in range(repeats)]
    return complexity(stack, shape)[1] / 1e9 / statistics.median(times)


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    return records.machine(DEVICE) | {"load": os.getloadavg()[0], "torch": torch.__version__}


def set_allocator(options: dict[int, int]) -> None:
    """How memory is had and given back, where the C library is glibc."""
    if platform.libc_ver()[0] == "glibc":
        for name, value in options.items():
            ctypes.CDLL(None).mallopt(name, value)


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
    parser.add_argument("--networks", default=",".join(NETWORKS), help="which, of " + ",".join(NETWORKS))
    parser.add_argument("--record", type=Path, help="also write everything to this JSON file")
    given = parser.parse_args()
    chosen = given.networks.split(",")
    if not set(chosen) <= set(NETWORKS):
        parser.error(f"--networks are of {','.join(NETWORKS)}.")
    set_allocator(KEEP)
    result: dict = {"machine": machine(), "size": given.size, "width": given.width, "pairs": given.pairs}
    print("{name}, {threads} threads, load {load:.1f}, torch {torch}".format(**result["machine"]))

    layouts = {"plain": torch.contiguous_format, "channels-last": torch.channels_last}
    for name, layout in layouts.items():
        rate = convolution_rate(given.width, given.size, given.pairs, layout)
        result[f"{name}_convolution_gmac_per_s"] = rate
        print(f"{name} convolutions: {rate:.1f} GMAC/s")
    rate = result["plain_convolution_gmac_per_s"]
    print("\n| network | M parameters | GMAC | ms a patch | s per GMAC | of plain rate | MiB | training: ms | MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    result["networks"], result["compared"] = {}, {}
    for name in chosen:
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
    for slower, faster in PAIRS:
        if {slower, faster} <= set(chosen):
            for mode in ("inference", "training"):
                row: dict = compare(slower, faster, given.width, given.size, given.pairs, mode == "training")
                of = result["networks"][slower]
                row["counts"] = slower != "plain" or of["macs"] / 1e9 / of["inference"]["seconds"] >= LEAST * rate
                result["compared"][f"{faster} against {slower}, {mode}"] = row
                print(
                    f"\n{faster} against {slower}, {mode}: {row['times_faster']:.2f} times faster, "
                    f"{row['times_less_processor']:.2f} times by processor time"
                    + ("" if row["counts"] else f"; it does not count, {slower} being below {LEAST:.0%}")
                )
    if given.record:
        write_json(given.record, result)


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
