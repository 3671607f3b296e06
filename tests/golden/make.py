"""Write ``hat_tiny.npz``: random weights of a HAT eight channels wide, and what the plain formulas give for them.

    python tests/golden/make.py

Everything comes from one seed. The outputs are computed in float64 by ``bench/plain_hat.py`` and not by the library, so
that the file stays a reference for it; weights are rounded to float16, which the archive then holds in few bytes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from plain_hat import plain_hat

from s2olib.generators import create_generator

CONFIG = {"in_channels": 2, "out_channels": 3, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4}
CONFIG |= {"squeeze_factor": 4, "drop_path_rate": 0.0}


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


if __name__ == "__main__":
    main()
