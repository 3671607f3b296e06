"""The tables of networks under radar brighter than they have learned, made from what ``bench/brightness.py`` left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from s2olib import figures
from s2olib.statistics import cluster_interval

WAYS = {"crops": "in crops", "untrained": "untrained weights 0", "deepest": "deepest maps as before"}


def render(folder: Path) -> str:
    """Two tables for each data set, as MyST markdown: how much brighter radar costs, and by which way in a U-Net."""
    measured = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    tables = [table(name, one) for name, one in measured.items()]
    tables += [apart(name, one) for name, one in measured.items() if one["ways"]]
    return "\n\n".join(tables or ["No brightness was tried."]) + "\n"


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


def apart(name: str, measured: dict) -> str:
    """How much a U-Net's PSNR changes on one data set with one step, whole and in each way it was taken apart."""
    clusters, shown, rows = np.array(measured["clusters"]), measured["shown"], []

    def change(values: dict) -> tuple[float, float, float]:
        return cluster_interval(np.subtract(values[shown], values["0"]), clusters)

    for run, ways in sorted(measured["ways"].items()):
        row = {"run": run, "whole patches": change(measured["runs"][run])}
        rows.append(row | {title: change(ways[way]) for way, title in WAYS.items()})
    caption = (
        f"Change of PSNR (dB) when the radar of *{name}*'s validation patches is made brighter by {float(shown):.0%} "
        "of its range: whole patches; the same in crops of the size of training; with those weights set to zero that "
        "no such crop reaches; and with the three smallest maps made from the radar as it was. "
        f"{len(clusters)} patches in {clusters.max() + 1} clusters; in brackets a 95 % cluster bootstrap, descriptive."
    )
    return figures.metric_table(rows, caption, f"tab-apart-{name}")
