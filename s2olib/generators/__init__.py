"""The generators by name: everything that turns SAR into an optical image.

>>> model = create_generator("s2oformer", in_channels=2, out_channels=3, embed_dim=16, depths=(2, 2), num_heads=(2, 2))
>>> again = create_generator(**model.config)
>>> model.save_pretrained("folder")
>>> again = Generator.from_pretrained("folder")
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from s2olib.generators.hat import HAT, load_reference_weights
from s2olib.generators.padding import pad_to_multiple
from s2olib.generators.pretrained import Generator
from s2olib.generators.s2oformer import S2OFormer
from s2olib.generators.unet import UNet
from s2olib.project import InputError

__all__ = [
    "GENERATORS",
    "HAT",
    "Generator",
    "S2OFormer",
    "UNet",
    "complexity",
    "create_generator",
    "generator_names",
    "generator_parameters",
    "load_reference_weights",
    "pad_to_multiple",
]

# Each under its class's name in lower case. A class of your own that stands here is trained, scored, saved and loaded
# as these are.
GENERATORS: dict[str, type[Generator]] = {"unet": UNet, "hat": HAT, "s2oformer": S2OFormer}


def generator_names() -> list[str]:
    """The names `create_generator` knows."""
    return list(GENERATORS)


def generator_parameters(name: str) -> list[str]:
    """The names of what this generator is built from. An unknown generator raises `InputError`."""
    if name not in GENERATORS:
        raise InputError(f"generator '{name}' is unknown: choose one of {', '.join(GENERATORS)}.")
    return list(inspect.signature(GENERATORS[name]).parameters)


def create_generator(name: str, *, in_channels: int, out_channels: int, **config: Any) -> Generator:
    """Build a generator; what `config` leaves out is that network's published default.

    The model's ``config`` is a dictionary of plain numbers, names and lists that builds it again:
    ``create_generator(**model.config)``. An unknown name or key, or an illegal value, raises `InputError`.
    """
    known = generator_parameters(name)
    config = {"in_channels": in_channels, "out_channels": out_channels, **config}
    for key in config:
        if key not in known:
            raise InputError(f"generator '{name}' has no parameter '{key}': it takes {', '.join(known)}.")
    return GENERATORS[name](**config)


def complexity(model: nn.Module, *shapes: Sequence[int]) -> tuple[int, int]:
    """(parameters, multiply-accumulates) of one forward pass on inputs of `shapes`, e.g. ``(1, 2, 256, 256)``.

    Counted on PyTorch's meta device, so nothing is computed or allocated. Convolutions, linear layers and both products
    of attention count; additions, normalisations and activations do not.
    """
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    state = {key: torch.empty_like(value, device="meta") for key, value in state.items()}
    dtype = next(model.parameters()).dtype
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(model, state, tuple(torch.empty(*shape, dtype=dtype, device="meta") for shape in shapes))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2
