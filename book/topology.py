"""The tables of S2OFormer's candidate topologies, made from ``book/results/topology/<data>/*.json``.

Each file is one training of ``bench/topology.py``: one wiring, one seed, scored on validation patches.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from s2olib import figures
from s2olib.project import InputError

LIBRARY = {  # label, wiring
    "chosen": ("**chosen**", "*wide head*, its last convolution linear, LeakyReLU"),
    "hat": ("HAT", "two groups, at 1"),
    "unet": ("U-Net", "convolutions down to one pixel, and up"),
}
PLAIN = "wide head"  # the candidate whose stem sees the image alone
STEPS = {  # from, to: what was changed
    ("first", "fan-in"): "initial weights between scales that keep the signal's variance",
    ("fan-in", "residual"): "the stem's features added again before the head, both normalised, through a convolution",
    ("residual", "residual, plain stem"): "the stem sees the image alone, no local means and deviation",
    ("residual, plain stem", "wide head"): "64 channels inside the head instead of 8",
    ("wide head", "wide head, statistics"): "the stem sees local means and deviation as well",
    ("wide head", "wide head, log"): "the stem sees the image's logarithm as well",
    ("wide head", "wide head, context"): "the stem knows the whole image's mean and deviation",
    ("wide head", "chosen"): "a linear layer before the head instead of the 3 × 3 convolution; LeakyReLU for GELU",
}


def describe(wiring: dict) -> str:
    """A candidate's wiring in a few words."""
    sizes = ", ".join(("1", "½", "¼")[step] for step in wiring["steps"])
    return f"{sizes}; {wiring['join']}; {wiring['stem']}; {wiring['head']}, {wiring['head_dim'] or 8}"


def render(folder: Path) -> str:
    """The candidates by mean validation PSNR, the conditions they share, and each change's gain, as MyST markdown."""
    runs, names = read(folder)
    rows = []
    for name, found in sorted(names.items(), key=lambda item: -np.mean([run["psnr"] for run in item[1]])):
        label, wiring = LIBRARY[name] if name in LIBRARY else (name, describe(found[0]["wiring"]))
        row = {"candidate": label, "wiring": wiring, "thousand MACs a pixel": found[0]["macs_per_pixel"] / 1000}
        row["thousand weights"] = found[0]["parameters"] / 1000
        row["PSNR (dB)"] = ", ".join(f"{run['psnr']:.2f}" for run in found)
        rows.append(row | {"SSIM": ", ".join(f"{run['ssim']:.3f}" for run in found)})
    caption = (
        "S2OFormer's candidates on validation patches; one value for each seed. Wiring: the size at which each group "
        "works; how scales join (*linear*: pixel shuffles and linear layers with small initial weights; "
        "*linear-fan-in*: the same, with weights that keep the signal's variance; *convolution*: strided and "
        "transposed); what the stem sees (*plain*: the image; *statistics*: local means and deviations as well; *log*: "
        "its logarithm as well; *context*: the whole image's mean and deviation as well); what the head reads "
        "(*residual*: the stem's features too; *plain*: not), and the channels inside it."
    )
    candidates = figures.metric_table(
        rows, caption, "tab-topology", {"thousand MACs a pixel": ".0f", "thousand weights": ".0f"}
    )
    both = ((a, b, what) for (a, b), what in STEPS.items() if {a, b} <= {*names})
    rows = [{"step": f"{a} → {b}", "what was changed": what} | gain(names, a, b) for a, b, what in both]
    caption = "What each change gave, by the seeds that both sides have."
    steps = figures.metric_table(rows, caption, "tab-topology-steps", {"PSNR (dB)": "+.2f", "SSIM": "+.3f"})
    return f"{candidates}\n\n{conditions(folder, runs)}\n\n{steps}\n"


def render_stems(folder: Path) -> str:
    """The stems by what they add to the plain one where radar has full speckle, as MyST markdown."""
    runs, names = read(folder)
    rows = []
    for name, found in sorted(names.items(), key=lambda item: item[0] != PLAIN):
        row = {"stem": found[0]["wiring"]["stem"]}
        row["PSNR (dB), by seed"] = ", ".join(f"{run['psnr']:.2f}" for run in found)
        row["SSIM, by seed"] = ", ".join(f"{run['ssim']:.3f}" for run in found)
        more = gain(names, PLAIN, name) if name != PLAIN else dict.fromkeys(("PSNR (dB)", "SSIM"))
        rows.append(row | {f"{metric}, above plain": value for metric, value in more.items()})
    caption = "The stems on validation patches of radar with full speckle; mean difference over the seeds."
    formats = {"PSNR (dB), above plain": "+.2f", "SSIM, above plain": "+.3f"}
    return f"{figures.metric_table(rows, caption, 'tab-stems', formats)}\n\n{conditions(folder, runs)}\n"


def read(folder: Path) -> tuple[list[dict], dict[str, list[dict]]]:
    """An experiment's runs, and by candidate; raises `InputError` unless all were trained alike on one data set."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if len({(json.dumps(run["conditions"]), run["data"]) for run in runs}) != 1:
        raise InputError(f"{folder} holds runs of different conditions or data, or none: keep one experiment there.")
    return runs, {run["name"]: [other for other in runs if other["name"] == run["name"]] for run in runs}


def conditions(folder: Path, runs: list[dict]) -> str:
    """What all runs of an experiment share, as a sentence."""
    seeds = ", ".join(map(str, sorted({run["seed"] for run in runs})))
    how = runs[0]["conditions"]
    return (
        f"Conditions: data *{folder.name}* (fingerprint `{runs[0]['data'][:12]}`), "
        f"{runs[0]['validation_patches']} validation patches, L1 alone, {how['steps']} steps of "
        f"{how['batch']} crops of {how['crop']} px, learning rate {how['learning_rate']} "
        f"falling to 0 along a cosine; seeds {seeds}. The test split was not opened."
    )


def gain(names: dict[str, list[dict]], before: str, after: str) -> dict[str, float]:
    """By how much PSNR and SSIM changed from one candidate to another, over the seeds that both have."""
    first, second = ({run["seed"]: run for run in names[name]} for name in (before, after))
    change = [
        [second[seed][key] - first[seed][key] for key in ("psnr", "ssim")] for seed in first.keys() & second.keys()
    ]
    return dict(zip(("PSNR (dB)", "SSIM"), np.mean(change, 0), strict=True))
