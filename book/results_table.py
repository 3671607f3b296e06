"""The introduction's tables: what the talk reports, and beside it what this repository's own runs gave.

Made from the main runs in ``book/results/ombria-10m`` and ``ombria``, a table each, when the book is built. No number
of the right half is ever typed in, each leads to its record, and a record of synthetic data is refused: those verify
code and never stand beside the talk's numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from s2olib import figures, metrics, records
from s2olib.project import InputError

# Fu, Kouyama, Nakamura and Yoshikawa (2024), "Experimental Results": PSNR in dB, SSIM
REPORTED = {
    "unet": ("U-Net-DSD", 19.50, 0.565),
    "hat": ("HAT-DSD", 19.92, 0.575),
    "s2oformer": ("S2OFormer-DSD", 20.14, 0.642),
}
NOT_RUN = "*not yet run*"


def is_main(record: dict) -> bool:
    """Whether a run is one of the talk's three variants, trained with the DSD as it is; other tags are controls."""
    return record["generator"] in REPORTED and record["tag"] == "dsd"


def read_records(results: Path) -> dict[str, dict]:
    """The published main runs, ``{run: record}``, in the order of their names; none where the folder is missing."""
    published = {}
    for path in sorted(results.glob("*/record.json")):
        record = records.read(path.parent)
        if record["dataset"]["synthetic"]:
            raise InputError(f"{path} is of synthetic data, which never stands beside the talk's numbers: remove it.")
        if is_main(record):
            published[path.parent.name] = record
    if len({(record["dataset"]["fingerprint"], record["samples_seen"]) for record in published.values()}) > 1:
        raise InputError(f"The main runs in {results} differ in data or in samples seen: publish those of one plan.")
    return published


def page_of(profile: str, run: str) -> str:
    """The document name of a run's page."""
    return f"/book/_generated/runs/{profile}-{run}"


def link(profile: str, run: str, text: str = "") -> str:
    """A run's name, or other `text`, that leads to its page, in MyST."""
    return f"{{doc}}`{text or run} <{page_of(profile, run)}>`"


def render(results: Path) -> str:
    """The table and the conditions of its right half, as MyST markdown, from the runs of one profile."""
    published, rows = read_records(results), []
    for generator, (label, psnr, ssim) in REPORTED.items():
        runs = {run: record for run, record in published.items() if record["generator"] == generator}
        here = zip(("PSNR (dB), here", "SSIM, here", "seeds"), cells(results, runs), strict=True)
        rows.append({"": label, "PSNR (dB), talk": psnr, "SSIM, talk": ssim} | dict(here))
    caption = (
        "PSNR and SSIM of the three generators, each trained with the DSD. Left: as reported in the talk, on SEN12JHL. "
        f"Right: runs of this repository on other data (profile {results.name})."
    )
    table = figures.metric_table(rows, caption, f"tab-results-{results.name}", {"SSIM, talk": ".3f"})
    return "\n\n".join([table, _conditions([*published.values()]), _skill(results, published)]) + "\n"


def cells(folder: Path, runs: dict[str, dict]) -> list[str]:
    """PSNR and SSIM (mean, interval) of runs that differ in their seed alone, and their seeds, linked to their pages.

    A score is linked where it is that of one run.
    """
    if not runs:
        return [NOT_RUN, NOT_RUN, "–"]
    summary = records.summarise(*(records.read_patches(folder / run) for run in runs))
    texts = (
        figures.table_cell(tuple(summary[name].values()), form) for name, form in (("psnr", ".2f"), ("ssim", ".3f"))
    )
    seeds = ", ".join(link(folder.name, run, str(record["seed"])) for run, record in runs.items())
    (run, *more) = runs
    return [*(text if more else link(folder.name, run, text) for text in texts), seeds]


def mean_colour_psnr(mse: pd.Series) -> float:
    """Mean PSNR (dB) over patches of one constant colour, from its errors ``mse_mean_colour``."""
    return (10 * np.log10(255**2 / mse.clip(lower=metrics.ROUNDING))).mean()


def _skill(folder: Path, published: dict[str, dict]) -> str:
    """What the scores are worth beside one constant colour."""
    patches = [records.read_patches(folder / run) for run in published]
    if not patches:
        return ""
    one_colour = mean_colour_psnr(patches[0]["mse_mean_colour"])
    parts = []
    for generator, (label, *_) in REPORTED.items():
        runs = [
            one for one, record in zip(patches, published.values(), strict=True) if record["generator"] == generator
        ]
        skill = records.summarise(*runs)["skill"] if runs else None
        parts += [f"{label} {figures.table_cell(tuple(skill.values()))}"] if skill else []
    return (
        f"One constant colour, the mean of the training patches, reaches {one_colour:.2f} dB on the same patches. "
        f"*Skill*, the share of its squared error that a network takes away, is {', '.join(parts)}."
    )


def _conditions(published: list[dict]) -> str:
    if not published:
        return (
            "The right half is filled from the records of runs on real data and from nothing else. No such record is "
            "published with this version of the book."
        )
    dataset = published[0]["dataset"]
    evaluation, how = published[0]["evaluation"], published[0]["parameters"]
    steps = published[0]["samples_seen"] // how["batch_size"]
    seeds = {label: [r["seed"] for r in published if r["generator"] == name] for name, (label, *_) in REPORTED.items()}
    several = max(map(len, seeds.values())) > 1
    pixel = f"{dataset['pixel_size_m']:g} m" if dataset["pixel_size_m"] else "unknown size"
    return (
        f"The right half comes from {len(published)} run records on the data set *{dataset['name']}* (pixels of "
        f"{pixel}; {how['epochs']} epochs of {dataset['counts']['train']} patches, {steps} steps where the talk's "
        f"numbers make some 32,000; data fingerprint `{dataset['fingerprint'][:12]}`): "
        f"{'the mean over the seeds' if several else 'the mean over patches'} and, in brackets, its interval "
        f"({evaluation['interval']}; {evaluation['patches']} test patches of {len(evaluation['groups'])} places). "
        "Other places and other colours than the talk's, and one of its two radar bands, in grey levels: compare "
        "generators within a half, never a number across the halves."
    )
