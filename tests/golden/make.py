"""Write ``hat_tiny.npz``: random weights of a HAT eight channels wide, and what the plain formulas give for them; and
``outputs.json``: some numbers of what every network makes of random weights, so that a change of what one computes, and
of what shipped weights mean, is seen.

    python tests/golden/make.py

Everything comes from one seed. HAT's outputs are computed in float64 by ``bench/plain_hat.py`` and not by the library,
so that the file stays a reference for it; weights are rounded to float16, which the archive then holds in few bytes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from plain_hat import plain_hat
from torch import nn

from s2olib.dsd import DSD
from s2olib.generators import create_generator
from s2olib.patchgan import PatchGAN
from s2olib.project import write_json

CONFIG = {"in_channels": 2, "out_channels": 3, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4}
CONFIG |= {"squeeze_factor": 4, "drop_path_rate": 0.0}


SCALES = {"embed_dim": 8, "depths": [2, 1, 2], "num_heads": [2, 2, 2], "window_size": 4, "squeeze_factor": 4}
NETWORKS = {
    "unet": lambda: create_generator("unet", in_channels=2, out_channels=3, embed_dim=4, levels=4),
    "unet-bilinear": lambda: create_generator(
        "unet", in_channels=2, out_channels=3, embed_dim=4, levels=4, upsampling="bilinear"
    ),
    "s2oformer": lambda: create_generator("s2oformer", in_channels=2, out_channels=3, **SCALES),
    "s2oformer-bilinear": lambda: create_generator(
        "s2oformer", in_channels=2, out_channels=3, **SCALES, upsampling="bilinear"
    ),
    "dsd": lambda: DSD(2, 3, 4, 4),
    "patchgan": lambda: PatchGAN(2, 3),
}


def numbers(model: nn.Module) -> list[list[float]]:
    """Eight values and the mean of each image or map that a network makes of random weights and images, in float64."""
    random = np.random.default_rng(0)
    for name, value in model.state_dict().items():
        if not value.ndim:  # how many batches BatchNorm has seen
            continue
        scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.1
        drawn = torch.from_numpy(scale * random.standard_normal(tuple(value.shape)))
        value.copy_(drawn.abs() + 1 if value.ndim == 1 and name.endswith(("weight", "running_var")) else drawn)
    images = [torch.from_numpy(random.standard_normal((1, bands, 32, 48))) for bands in (2, 3)]
    with torch.inference_mode():
        made = model.double().eval()(*images[: 2 if isinstance(model, DSD | PatchGAN) else 1])
    made = made if isinstance(made, tuple) else (made,)
    return [[*one.flatten()[:: one.numel() // 7][:8].tolist(), one.mean().item()] for one in made]


def main() -> None:
    model, random = create_generator("hat", **CONFIG), np.random.default_rng(0)
    weights = {
        name: (0.1 * random.standard_normal(value.shape) + ("norm" in name and "weight" in name)).astype(np.float16)
        for name, value in model.state_dict().items()
    }
    sar = random.standard_normal((2, 2, 12, 16)).astype(np.float32)
    exact = {name: torch.from_numpy(value).double() for name, value in weights.items()}
    output, groups = plain_hat(exact, model.config, torch.from_numpy(sar).double())
    np.savez_compressed(
        Path(__file__).parent / "hat_tiny.npz",
        config=json.dumps(model.config),
        input=sar,
        output=output.numpy().astype(np.float32),
        **{f"group{i}": group.numpy().astype(np.float32) for i, group in enumerate(groups)},
        **{f"weights/{name}": value for name, value in weights.items()},
    )
    write_json(Path(__file__).parent / "outputs.json", {name: numbers(make()) for name, make in NETWORKS.items()})


if __name__ == "__main__":
    main()
