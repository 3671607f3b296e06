"""The tables of two floods that no choice had seen, made from what ``bench/third.py`` left."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pandas as pd
import place_table
import results_table

from s2olib import figures, records, statistics

METRICS = {"skill": "skill", "psnr": "PSNR (dB)", "ssim": "SSIM", "offset_free_psnr": "PSNR without offset"}
COLOUR = "mean colour"
FORMATS = {"skill": ".3f", "SSIM": ".3f", "PSNR, p": ".3f", "SSIM, p": ".3f"}


def render(path: Path) -> str:
    """Two tables as MyST markdown: scores, and the networks' differences from one colour and from each other."""
    if not path.is_file():
        return f"{results_table.NOT_RUN}\n"
    measured = json.loads(path.read_text(encoding="utf-8"))
    patches = {name: pd.DataFrame(measured["patches"] | values) for name, values in measured["runs"].items()}
    rows = []
    for name, frame in patches.items():
        scores, places = records.summarise(frame), frame.groupby("group")["psnr"].mean()
        row: dict = {"method": name} | {label: tuple(scores[metric].values()) for metric, label in METRICS.items()}
        rows.append(row | {f"PSNR, {place}": value for place, value in places.items()})
    first = patches[COLOUR]
    counts = ", ".join(f"{count} of {place}" for place, count in first["group"].value_counts(sort=False).items())
    where = f"{len(first)} patches ({counts}) in {statistics.blocks(first).max() + 1} clusters"
    told = f"{where}; in brackets a 95 % cluster bootstrap, descriptive"
    caption = f"Floods that no choice had seen (*{path.stem}*), one training each: {told}. Skill 0 is one colour."
    scores = figures.metric_table(rows, caption, "tab-third", FORMATS)
    networks = [name for name in patches if name in measured["code"]]
    pairs = [*((name, COLOUR) for name in networks), *combinations(networks, 2)]
    seeds = {name: {0: frame} for name, frame in patches.items()}
    found = [statistics.paired_differences(seeds, pairs, metric) for metric in ("psnr", "ssim")]
    kept = ("variant", "less", "PSNR (dB)", "PSNR, p", "SSIM", "SSIM, p")
    rows = [place_table.pair_row(*both) for both in zip(*found, strict=True)]
    rows = [{key: row[key] for key in kept} for row in rows]
    caption = f"The same patches: *variant* minus *less*; {told}; *p* corrected (Holm) for these pairs."
    return f"{scores}\n\n{figures.metric_table(rows, caption, 'tab-third-pairs', FORMATS)}\n"
