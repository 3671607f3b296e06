"""The table of S2OFormer's candidate topologies, made from ``book/results/topology/<data>/*.json``.

Each file is one training of ``bench/topology.py``: one wiring, one seed, scored on validation patches.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from s2olib.project import InputError

LABELS = {"chosen": "**S2OFormer, as chosen**", "hat": "HAT", "unet": "U-Net"}


def describe(wiring: dict | None) -> str:
    """A candidate's wiring in a few words; nothing for the networks that the library holds."""
    if wiring is None:
        return ""
    sizes = ", ".join(("1", "½", "¼")[step] for step in wiring["steps"])
    head = "its inner width halved" if wiring["head_dim"] is None else f"{wiring['head_dim']} channels inside"
    return f"groups at {sizes}; joined by {wiring['join']}; stem {wiring['stem']}; head {wiring['head']}, {head}"


def render(folder: Path) -> str:
    """The candidates by mean validation PSNR, and the conditions they share, as MyST markdown."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if len({(json.dumps(run["conditions"]), run["data"]) for run in runs}) != 1:
        raise InputError(f"{folder} holds runs of different conditions or data, or none: keep one experiment there.")
    names = {run["name"]: [other for other in runs if other["name"] == run["name"]] for run in runs}
    ranked = sorted(names.items(), key=lambda item: -np.mean([run["psnr"] for run in item[1]]))
    lines = [
        "```{table} S2OFormer's candidates on validation patches; one value for each seed.",
        ":name: tab-topology",
        "| candidate | wiring | thousand MACs a pixel | PSNR (dB) | SSIM |",
        "|:--|:--|--:|:--|:--|",
    ]
    for name, found in ranked:
        psnr, ssim = (
            ", ".join(f"{run[key]:{form}}" for run in found) for key, form in (("psnr", ".2f"), ("ssim", ".3f"))
        )
        first = found[0]
        label = LABELS.get(name, name)
        lines.append(
            f"| {label} | {describe(first['wiring'])} | {first['macs_per_pixel'] / 1000:.0f} | {psnr} | {ssim} |"
        )
    conditions = runs[0]["conditions"]
    return "\n".join(
        [
            *lines,
            "```",
            "",
            f"Conditions: data *{folder.name}* (fingerprint `{runs[0]['data'][:12]}`), "
            f"{runs[0]['validation_patches']} validation patches, L1 alone, {conditions['steps']} steps of "
            f"{conditions['batch']} crops of {conditions['crop']} px, learning rate {conditions['learning_rate']} "
            "falling to 0 along a cosine. The test split was not opened.",
            "",
        ]
    )
