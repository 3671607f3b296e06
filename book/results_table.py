"""The introduction's table: what the talk reports, and beside it what this repository's own runs gave.

Made from every ``book/results/ombria/*/record.json`` when the book is built. No number of the right half is ever typed
in, each leads to its record, and a record of synthetic data is refused: those verify code and never stand beside the
talk's numbers.
"""

from __future__ import annotations

from pathlib import Path

from s2olib import records
from s2olib.project import InputError

# Fu, Kouyama, Nakamura and Yoshikawa (2024), "Experimental Results": PSNR in dB, SSIM
REPORTED = {
    "unet": ("U-Net-DSD", 19.50, 0.565),
    "hat": ("HAT-DSD", 19.92, 0.575),
    "s2oformer": ("S2OFormer-DSD", 20.14, 0.642),
}
NOT_RUN = "*not yet run*"


def read_records(results: Path) -> list[dict]:
    """The published runs with the DSD, in the order of their folders' names; none where the folder is missing."""
    published = []
    for path in sorted(results.glob("*/record.json")):
        record = records.read(path.parent)
        if record["dataset"]["synthetic"]:
            raise InputError(f"{path} is of synthetic data, which never stands beside the talk's numbers: remove it.")
        if record["generator"] in REPORTED and record["parameters"]["dsd_weight"] > 0:
            published.append(record)
    if len({record["dataset"]["fingerprint"] for record in published}) > 1:
        raise InputError(f"The records in {results} come from different data sets: publish runs of one data set only.")
    return published


def page_of(profile: str, run: str) -> str:
    """The document name of a run's page."""
    return f"/book/_generated/runs/{profile}-{run}"


def render(published: list[dict], profile: str = "ombria") -> str:
    """The table and the conditions of its right half, as MyST markdown."""
    lines = [
        "```{table} PSNR and SSIM of the three generators, each trained with the DSD. "
        "Left: as reported in the talk, on SEN12JHL. Right: runs of this repository on other data.",
        ":name: tab-results",
        "| | PSNR (dB), talk | SSIM, talk | PSNR (dB), here | SSIM, here |",
        "|:--|--:|--:|--:|--:|",
    ]
    for generator, (label, psnr, ssim) in REPORTED.items():
        runs = [record for record in published if record["generator"] == generator]
        here = (_cell(runs, "psnr", 2, profile), _cell(runs, "ssim", 3, profile))
        lines.append(f"| {label} | {psnr:.2f} | {ssim:.3f} | {here[0]} | {here[1]} |")
    return "\n".join([*lines, "```", "", _conditions(published), ""])


def _cell(runs: list[dict], metric: str, digits: int, profile: str) -> str:
    """The mean over seeds, and the lowest and highest end of the seeds' intervals, linked to every seed's record."""
    if not runs:
        return NOT_RUN
    values = [run["metrics"][metric] for run in runs]
    mean = sum(value["mean"] for value in values) / len(values)
    low, high = min(value["low"] for value in values), max(value["high"] for value in values)
    texts = [f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})", *(f"seed {run['seed']}" for run in runs[1:])]
    names = [records.run_name(run["generator"], run["tag"], run["seed"]) for run in runs]
    return ", ".join(f"{{doc}}`{t} <{page_of(profile, n)}>`" for t, n in zip(texts, names, strict=True))


def _conditions(published: list[dict]) -> str:
    if not published:
        return (
            "The right half is filled from the records of runs on real data and from nothing else. No such record is "
            "published with this version of the book."
        )
    dataset = published[0]["dataset"]
    evaluation = published[0]["evaluation"]
    seeds = ", ".join(str(seed) for seed in sorted({record["seed"] for record in published}))
    name = dataset.get("name", dataset["source"])
    pixel = f"{dataset['pixel_size_m']} m" if dataset.get("pixel_size_m") else "unknown size"
    return (
        f"The right half comes from {len(published)} run records on the data set *{name}* (pixels of {pixel}; seeds "
        f"{seeds}; data fingerprint `{dataset['fingerprint'][:12]}`): the mean over the seeds and, in brackets, the "
        f"lowest and highest end of their intervals ({evaluation['interval']}, {evaluation['patches']} test patches of "
        f"{len(evaluation['groups'])} places). Other places, other colours and another radar band than the "
        "talk's: compare generators within a half, never a number across the halves."
    )
