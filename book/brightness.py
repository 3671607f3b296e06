"""The tables of networks under radar brighter than they have learned, made from what ``bench/brightness.py`` left and
from runs' patches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from s2olib import figures, records
from s2olib.project import InputError
from s2olib.statistics import blocks, cluster_interval

WAYS = {"crops": "in crops", "untrained": "untrained weights 0", "deepest": "deepest maps as before"}
OTHERWISE = dict.fromkeys(("unet-dsd-bilinear", "unet-dsd-bilinear-shift", "unet-dsd-shift"), "unet-dsd")
OTHERWISE |= {f"{name}-dsd-shift": f"{name}-dsd" for name in ("s2oformer", "hat")}  # each less the network as it is
QUARTERS = ("darkest quarter", "second", "third", "brightest quarter")


def render(folder: Path) -> str:
    """Three tables for each data set, as MyST markdown: networks by how bright unseen places are, how much brighter
    radar costs on validation patches, and by which way in a U-Net."""
    measured = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    tables = [quarters(name, one, folder.parent) for name, one in measured.items()]
    tables += [table(name, one) for name, one in measured.items()]
    tables += [apart(name, one) for name, one in measured.items() if one["ways"]]
    return "\n\n".join(filter(None, tables or ["No brightness was tried."])) + "\n"


def quarters(name: str, measured: dict, results: Path) -> str:
    """How networks that were trained otherwise differ from those as they are, in quarters of the test patches by how
    bright their radar is."""
    radar, rows = measured["radar"], []
    runs = [run for variant in OTHERWISE for run in sorted(results.glob(f"*/{variant}-s[0-9]*"))]
    for run in runs:
        variant, seed = run.name.rsplit("-s", 1)
        beside = run.with_name(f"{OTHERWISE[variant]}-s{seed}")
        if records.read(run)["dataset"]["fingerprint"] == measured["data"] and beside.is_dir():
            patches, others = records.read_patches(run), records.read_patches(beside)
            if list(patches["id"]) != list(others["id"]):
                raise InputError(f"{run} and {beside} were not evaluated on the same patches: run them again.")
            order = np.argsort(patches["id"].map(radar["test"]), kind="stable")
            differences, clusters = (patches["psnr"] - others["psnr"]).to_numpy(), blocks(patches)
            row = {"variant": variant, "less": OTHERWISE[variant], "seed": seed}
            for quarter, part in zip(QUARTERS, np.array_split(order, len(QUARTERS)), strict=True):
                row[quarter] = cluster_interval(differences[part], clusters[part])
            rows.append(row)
    if not rows:
        return ""
    counts = [str(len(set(clusters[part]))) for part in np.array_split(order, len(QUARTERS))]
    brightest, values = {split: max(of.values()) for split, of in radar.items()}, np.array([*radar["test"].values()])
    edges = [f"{part.min():.0%} to {part.max():.0%}" for part in np.array_split(np.sort(values), len(QUARTERS))]
    caption = (
        f"Differences in PSNR (dB) on the {len(values)} test patches of *{name}*, in quarters by how bright their "
        f"radar is (mean of a patch, as a share of the range: {', '.join(edges)}). The brightest training patch has "
        f"{brightest['train']:.0%}, the brightest validation patch {brightest['validation']:.0%}; test patches "
        f"that are brighter than any training patch: {(values > brightest['train']).sum()}. In brackets a 95 % cluster "
        f"bootstrap over a quarter's patches (in {', '.join(counts)} clusters), descriptive. Made after the scores "
        "were known."
    )
    return figures.metric_table(rows, caption, f"tab-quarters-{name}")


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
