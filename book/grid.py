"""The table of the grids that networks lay over their images, made from what ``bench/grid.py`` left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from s2olib import figures
from s2olib.statistics import cluster_interval

METRICS = {"ssim": "SSIM", "psnr": "PSNR", "flat_deviation": "deviation"}


def render(path: Path) -> str:
    """Every run's image and its 4 x 4 mean, as MyST markdown."""
    if not path.is_file():
        return "No grid was measured.\n"
    measured = json.loads(path.read_text())
    clusters, rows = np.array(measured["clusters"]), []
    for run, values in measured["runs"].items():
        values = {name: np.array(each) for name, each in values.items()}
        row: dict = {"run": run}
        for name, label in METRICS.items():
            row[label] = values[name].mean()
            row[f"{label}, gain"] = cluster_interval(values[f"{name}_averaged"] - values[name], clusters)
        rows.append(row)
    real = values["flat_deviation_real"].mean()  # of the same patches for each run
    caption = (
        f"Generated images, and what the mean of 4 × 4 pixels adds (*gain*), over {len(clusters)} validation patches "
        f"of OMBRIA at 10 m in {clusters.max() + 1} clusters; in brackets a 95 % cluster bootstrap, descriptive. "
        f"*Deviation* is that inside what is flat in reality, where the real images have {real:.2f}."
    )
    formats = {name: ".3f" for name in rows[0] if "SSIM" in name}
    return figures.metric_table(rows, caption, "tab-grid", formats) + "\n"
