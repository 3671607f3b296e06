"""The tables of the grids that networks lay over their images, made from what ``bench/grid.py`` left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from s2olib import figures
from s2olib.statistics import cluster_interval

METRICS = {"ssim": "SSIM", "psnr": "PSNR"}
TERMS = {"feature": "feature loss", "l1": "L1"}


def render(folder: Path) -> str:
    """Two tables for each data set, as MyST markdown: what the grid is, and what it is worth to the loss."""
    measured = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    tables = [table(name, one) for name, one in measured.items()]
    tables += [worth(name, one) for name, one in measured.items()]
    return "\n\n".join([*filter(None, tables)] or ["No grid was measured."]) + "\n"


def table(name: str, measured: dict) -> str:
    """What the 4 x 4 mean of every run's image gains on one data set."""
    clusters, rows = np.array(measured["clusters"]["validation"]), []
    for run, values in sorted(measured["runs"].items()):
        values = {key: np.array(each) for key, each in values.items()}
        row: dict = {"run": run, "grid": cluster_interval(values["grid"], clusters)}
        for key, label in METRICS.items():
            row[label] = values[key].mean()
            row[f"{label}, gain"] = cluster_interval(values[f"{key}_averaged"] - values[key], clusters)
        rows.append(row)
    caption = (
        f"Generated images, and what the mean of 4 × 4 pixels adds (*gain*), over {len(clusters)} validation patches "
        f"of *{name}* in {clusters.max() + 1} clusters; in brackets a 95 % cluster bootstrap, descriptive. *Grid* is "
        "the standard deviation (grey levels of 255) of what repeats every four pixels, in the real images "
        f"{values['grid_real'].mean():.2f}."
    )
    formats = {key: ".3f" for key in rows[0] if "SSIM" in key}
    return figures.metric_table(rows, caption, f"tab-grid-{name}", formats)


def worth(name: str, measured: dict) -> str:
    """By how much the loss of an image changes when its grid is taken away, for runs that have one; else nothing."""
    names = {split: "training" if split == "train" else split for split in measured["clusters"]}
    rows = []
    for run, splits in sorted(measured["losses"].items()):
        if np.mean(measured["runs"][run]["grid"]) < 1:
            continue  # there is nothing to take away
        for split, values in splits.items():
            row: dict = {"run": run, "patches": names[split]}
            change = {}
            for term, label in TERMS.items():
                image, without = (1000 * np.array(values[key]) for key in (term, f"{term}_without"))
                row[label] = image.mean()
                change[term] = without - image
                row[f"{label}, change"] = cluster_interval(change[term], measured["clusters"][split])
            row["both, change"] = cluster_interval(sum(change.values()), measured["clusters"][split])
            rows.append(row)
    if not rows:
        return ""
    counts = [f"{len(of)} {names[split]} patches in {max(of) + 1}" for split, of in measured["clusters"].items()]
    caption = (
        "Runs whose grid is a grey level or more. What the generator minimises at the end of training, in thousandths, "
        "each term as weighted there, and by how "
        f"much it *changes* when the image's grid is taken away: positive where the grid pays. Data *{name}*: "
        f"{' and '.join(counts)} clusters; in brackets a 95 % cluster bootstrap, descriptive."
    )
    return figures.metric_table(rows, caption, f"tab-grid-worth-{name}")
