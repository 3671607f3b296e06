"""The tables of networks under radar brighter than they have learned, made from what ``bench/brightness.py`` left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from s2olib import figures
from s2olib.statistics import cluster_interval


def render(folder: Path) -> str:
    """A table for each data set, as MyST markdown."""
    measured = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return "\n\n".join([table(name, one) for name, one in measured.items()] or ["No brightness was tried."]) + "\n"


def table(name: str, measured: dict) -> str:
    """Every run's PSNR on one data set as it is, and by how much it changes with each step."""
    clusters, rows = np.array(measured["clusters"]), []
    for run, values in sorted(measured["runs"].items()):
        as_it_is, *brighter = values
        row: dict = {"run": run, "PSNR (dB)": np.mean(values[as_it_is])}
        for step in brighter:
            row[f"+ {float(step):.0%}"] = cluster_interval(np.subtract(values[step], values[as_it_is]), clusters)
        rows.append(row)
    caption = (
        f"PSNR over {len(clusters)} validation patches of *{name}* in {clusters.max() + 1} clusters, and by how much "
        "it changes (dB) when their radar is made brighter by a share of its range; in brackets a 95 % cluster "
        "bootstrap, descriptive."
    )
    return figures.metric_table(rows, caption, f"tab-brightness-{name}")
