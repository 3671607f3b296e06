"""What a run will cost, counted before it starts: samples, arithmetic, memory and hours, with nothing computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2olib.dsd import DSD
from s2olib.generators import complexity, create_generator
from s2olib.training import GIB, Parameters


def estimate(parameters: Parameters, *, tflops: float = 78.0, memory_gib: float = 40.0) -> dict:
    """What a run will cost, before it starts: samples, FLOPs, memory and hours.

    FLOPs count forward and backward as three times the forward MACs (four with activation checkpointing) for the
    generator, the DSD's own step and the passes of real and fake images through it. `tflops` is what the device is
    assumed to sustain: 78 is a quarter of an A100's bf16 peak. Memory is what autograd keeps at the networks' forward
    passes, in the precision asked for, plus weights and Adam's moments: three trainings on an H100 (256 px, batches of
    16, bf16) took from 0.84 to 1.22 times as much. `accumulate` is the least that fits `memory_gib`.
    """
    data = parameters.training_data()
    size = parameters.crop_size or data.info["patch_size"]
    config = parameters.generator_config(data.sar_channels, data.opt_channels, size)
    with torch.device("meta"):
        generator = create_generator(parameters.generator, **config)
        dsd = DSD(
            data.sar_channels, data.opt_channels, max(data.num_classes, 1), parameters.dsd_width, parameters.dsd_encoder
        )
    sar, opt = (1, data.sar_channels, size, size), (1, data.opt_channels, size, size)
    weights, macs = complexity(generator, sar)
    recomputed = parameters.checkpointing and parameters.generator != "unet"
    flops = 2 * macs * (4 if recomputed else 3)
    half = 2 if parameters.precision.startswith("bf16") or parameters.precision.startswith("16") else 4
    kept = _saved_elements(generator, sar)
    if recomputed:  # one block at a time is computed again, beside what lies between the blocks
        plain = create_generator(parameters.generator, **config | {"checkpointing": False}).to("meta")
        kept += _saved_elements(plain, sar) // (sum(parameters.depths) + len(parameters.depths))
    if parameters.dsd_weight:
        dsd_weights, dsd_macs = complexity(dsd, sar, opt)
        weights += dsd_weights
        flops += 2 * dsd_macs * (3 + 1 + 2)  # its own step; the real image forward; the fake one forward and back
        kept += _saved_elements(dsd, sar, opt)
    steps = max(1, len(data) // parameters.batch_size) * parameters.epochs
    samples = steps * parameters.batch_size
    fixed = weights * 4 * 4 / GIB  # weights, gradients and two moments in float32
    per_sample = kept * half / GIB
    fits = max(1, int((memory_gib - fixed) / per_sample))
    divisors = [n for n in range(1, parameters.batch_size + 1) if parameters.batch_size % n == 0]
    accumulate = next((n for n in divisors if parameters.batch_size // n <= fits), parameters.batch_size)
    return {
        "samples": samples,
        "steps": steps,
        "generator_gmac": macs / 1e9,
        "petaflop": flops * samples / 1e15,
        "memory_gib": fixed + per_sample * parameters.batch_size / parameters.accumulate,
        "hours": flops * samples / (tflops * 1e12) / 3600,
        "accumulate": accumulate,
    }


def _saved_elements(network: nn.Module, *shapes: tuple[int, ...]) -> int:
    """Elements that autograd keeps of a forward pass, counted on the meta device, where nothing is computed."""
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no identity is used twice; views share one

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    inputs = [torch.empty(shape, device="meta", requires_grad=True) for shape in shapes]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.to("meta")(*inputs)
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    return sum(storage.nbytes() for key, storage in kept.items() if key not in weights) // 4  # float32
