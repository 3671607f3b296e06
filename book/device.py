"""The tables of what the networks cost on a GPU, made from ``book/results/device/*.json``.

Each file is one of ``bench/device.py``: forward, or forward and backward, of one network alone.
"""

from __future__ import annotations

import json
from pathlib import Path

from s2olib import figures
from s2olib.project import InputError

LABELS = {"unet": "U-Net", "hat": "HAT", "s2oformer": "S2OFormer", "dsd": "DSD", "patchgan": "PatchGAN"}
LABELS |= {"plain": "HAT, plain formulas", "hat-checkpointing": "HAT, checkpointing"}


def render(results: Path) -> str:
    """A table for each device as MyST markdown; `InputError` where a file was not written by the bench."""
    texts = []
    for path in sorted((results / "device").glob("*.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))
        try:
            texts.append(_table(measured, path.stem))
        except KeyError as error:
            raise InputError(f"{path} has no field {error}: write it anew with bench/device.py.") from None
    return "\n\n".join(texts) + "\n" if texts else "No GPU was measured.\n"


def _table(measured: dict, name: str) -> str:
    rows = []
    for network, modes in measured["networks"].items():
        for mode, row in ((mode, row) for mode, row in modes.items() if mode != "macs"):
            cells = {"patches/s": "does not fit", "GiB": "–", "of the matrix rate": "–"}
            if row:
                texts = f"{row['patches_per_s']:.1f}", f"{row['peak_mib'] / 1024:.1f}", f"{row['share']:.1%}"
                cells = dict(zip(cells, texts, strict=True))
            rows.append({"network": LABELS[network], "pass": mode} | cells)
    caption = (
        f"{measured['machine']['name']}, PyTorch {measured['machine']['torch']}, {measured['precision']}: batches of "
        f"{measured['batch']}, {measured['size']} px, transformers of width {measured['width']}; medians; GiB at "
        "the peak, beyond weights and input. The matrix rate is that of a "
        f"large bf16 product on the same device, {measured['matrix_flop_per_s'] / 1e12:.0f} TFLOP/s."
    )
    return figures.metric_table(rows, caption, f"tab-device-{name}")
