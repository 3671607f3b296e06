"""The tables of the grids that networks lay over their images, made from what ``bench/grid.py`` left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from s2olib import figures
from s2olib.statistics import cluster_interval

METRICS = {"ssim": "SSIM", "psnr": "PSNR", "flat_deviation": "deviation"}


def render(folder: Path) -> str:
    """Every run's image and its 4 x 4 mean, a table for each data set, as MyST markdown."""
    tables = [table(path.stem, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    return "\n\n".join(tables or ["No grid was measured."]) + "\n"


def table(name: str, measured: dict) -> str:
    """What was measured on one data set."""
    clusters, rows = np.array(measured["clusters"]), []
    for run, values in measured["runs"].items():
        values = {key: np.array(each) for key, each in values.items()}
        row: dict = {"run": run}
        for key, label in METRICS.items():
            row[label] = values[key].mean()
            row[f"{label}, gain"] = cluster_interval(values[f"{key}_averaged"] - values[key], clusters)
        rows.append(row)
    real = values["flat_deviation_real"].mean()  # of the same patches for each run
    caption = (
        f"Generated images, and what the mean of 4 × 4 pixels adds (*gain*), over {len(clusters)} validation patches "
        f"of *{name}* in {clusters.max() + 1} clusters; in brackets a 95 % cluster bootstrap, descriptive. "
        f"*Deviation* is that inside what is flat in reality, where the real images have {real:.2f}."
    )
    formats = {key: ".3f" for key in rows[0] if "SSIM" in key}
    return figures.metric_table(rows, caption, f"tab-grid-{name}", formats)
