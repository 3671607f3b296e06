"""What a run will cost, counted before it starts: samples, arithmetic, memory and hours, with nothing computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from s2olib.data.labels import LabelledTriplets
from s2olib.dsd import DSD
from s2olib.generators import complexity, create_generator
from s2olib.generators.padding import pad_to_multiple
from s2olib.patchgan import PatchGAN
from s2olib.training import GIB, Parameters, checked_data


def estimate(parameters: Parameters, *, tflops: float = 78.0, memory_gib: float = 40.0) -> dict:
    """What a run will cost, before it starts: samples, FLOPs, memory of a device and hours.

    FLOPs count forward and backward as three times the forward MACs (four with activation checkpointing) for the
    generator and for a discriminator's own step, and what it takes the discriminators to judge, in the epochs in which
    the DSD learns or judges. `tflops` is what each device is assumed to sustain: 78 is a quarter of
    an A100's bf16 peak. Memory is what autograd keeps at the networks' forward passes, in the precision asked for, plus
    weights and Adam's moments: three trainings on an H100 (256 px, batches of 16, bf16) took from 0.84 to 1.22 times as
    much. `accumulate` is the least that fits `memory_gib`. Raises `InputError` for what cannot be trained anywhere.
    """
    data = checked_data(parameters)
    size = parameters.crop_size or data.info["patch_size"]
    sar, opt = (1, data.sar_channels, size, size), (1, data.opt_channels, size, size)
    config = parameters.generator_config(data.sar_channels, data.opt_channels, size)
    with torch.device("meta"):
        generator = create_generator(parameters.generator, **config)
    weights, macs = complexity(generator, sar)
    recomputed = config.get("checkpointing", False)
    passes = macs * (4 if recomputed else 3)
    kept = _saved_elements(generator, sar)
    if recomputed:  # one block at a time is computed again, beside what lies between the blocks
        plain = create_generator(parameters.generator, **config | {"checkpointing": False}).to("meta")
        kept += _saved_elements(plain, sar) // (sum(parameters.depths) + len(parameters.depths))
    for network, macs_a_sample in _discriminators(parameters, data, sar, opt):
        weights += sum(parameter.numel() for parameter in network.parameters())
        passes += macs_a_sample
        kept += _saved_elements(network, *_pair(sar, opt)) // 2
    steps = len(data) // parameters.batch_size * parameters.epochs
    samples = steps * parameters.batch_size
    devices = parameters.devices * parameters.num_nodes
    batch = parameters.batch_size // devices  # of a device
    half = 2 if parameters.precision.startswith(("bf16", "16")) else 4
    fixed = weights * 4 * 4 / GIB  # weights, gradients and two moments in float32
    per_sample = kept * half / GIB
    fits = max(1, int((memory_gib - fixed) / per_sample))
    return {
        "samples": samples,
        "steps": steps,
        "generator_gmac": macs / 1e9,
        "petaflop": 2 * passes * samples / 1e15,
        "memory_gib": fixed + per_sample * batch / parameters.accumulate,
        "hours": 2 * passes * samples / (devices * tflops * 1e12) / 3600,
        "accumulate": next(n for n in range(1, batch + 1) if batch % n == 0 and (batch // n <= fits or n == batch)),
    }


def _discriminators(
    parameters: Parameters, data: LabelledTriplets, sar: tuple[int, ...], opt: tuple[int, ...]
) -> list[tuple[nn.Module, float]]:
    """Each discriminator of a run, and the MACs that a sample costs it on average over the epochs.

    Its own step costs three forward passes for each image that it learns from, and one for an image that it only sees.
    Judging costs PatchGAN two, there and back; in the DSD, whose decoder is left out then, it is counted.
    """
    p, found = parameters, []
    with torch.device("meta"):
        if p.dsd_weight:
            warmup = p.dsd_warmup / p.epochs
            own = {"random": 1, "frozen": 3 * warmup}.get(p.dsd_schedule, 3)
            judges = 1.0 if p.dsd_schedule == "joint" else 1 - warmup
            dsd = DSD(data.sar_channels, data.opt_channels, max(data.num_classes, 1), p.dsd_width, p.dsd_encoder)
            learning = complexity(dsd, *_pair(sar, opt))[1] / 2
            found.append((dsd, own * learning + judges * _judging(dsd, sar, opt)))
        if p.gan_weight:
            patchgan = PatchGAN(data.sar_channels, data.opt_channels)
            found.append((patchgan, (3 + 3 + 2) * complexity(patchgan, *_pair(sar, opt))[1] / 2))
    return found


def _pair(*shapes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Two samples in the place of one, since BatchNorm learns nothing from a single pixel."""
    return [(2, *shape[1:]) for shape in shapes]


def _judging(dsd: DSD, sar: tuple[int, ...], opt: tuple[int, ...]) -> int:
    """MACs of the feature loss and of its gradient at the generator's image, counted on the meta device.

    The deepest map is made of the real and of the generated image, and the gradient takes the way of the latter back.
    No gradient is computed to count that: where there is a GPU, autograd would start threads that keep processes from
    being forked from a notebook.
    """
    given = [torch.empty(shape, device="meta") for shape in (sar, opt)]
    training = dsd.training
    dsd.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        dsd.deepest(*given)
    with torch.no_grad(), FlopCounterMode(display=False) as radar:
        dsd.sar_encoder(pad_to_multiple(given[0], dsd.multiple, 2 * dsd.multiple))
    dsd.train(training)
    return (3 * whole.get_total_flops() - radar.get_total_flops()) // 2


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
