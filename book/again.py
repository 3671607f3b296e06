"""The table of runs that were trained twice with one seed, from the records of both; those of the second trainings lie
in ``again/<profile>``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import results_table

from s2olib import figures, records, statistics
from s2olib.project import InputError

METRICS = {"psnr": "difference in PSNR", "offset_free_psnr": "without offset", "ssim": "difference in SSIM"}


def render(results: Path) -> str:
    """One table as MyST markdown: what changes from one training to another of the same seed."""
    rows: list[dict] = []
    tested: dict[str, str] = {}
    for record in sorted(results.glob("again/*/*/record.json")):
        second, profile = record.parent, record.parent.parent.name
        first = results / profile / second.name
        runs, patches = ([of(run) for run in (first, second)] for of in (records.read, records.read_patches))
        settings = [run["parameters"] for run in runs]
        alike = settings[1] == settings[1] | settings[0]  # later code may name more of them
        if not alike or list(patches[0]["id"]) != list(patches[1]["id"]):
            raise InputError(f"{second} is not the same run as {first}: name it otherwise, or remove it.")
        clusters = statistics.blocks(patches[0])
        tested[profile] = f"*{profile}*: {len(clusters)} test patches in {clusters.max() + 1} clusters"
        page = f"/book/results/again/{profile}/{second.name}/record.json"
        row = {"run": f"{results_table.link(profile, first.name)}, {{download}}`again <{page}>`"}
        row["scored epoch"] = ", ".join(str(run["best_epoch"] + 1) for run in runs)
        row["PSNR (dB)"] = ", ".join(f"{run['metrics']['psnr']['mean']:.2f}" for run in runs)
        for metric, label in METRICS.items():
            row[label] = statistics.cluster_interval(patches[1][metric] - patches[0][metric], clusters)
        begun = [run["curves"][0]["validation_psnr"] for run in runs]
        row["validation PSNR, first epoch"] = begun[1] - begun[0]
        dsd = [[epoch.get("segmentation", np.nan) for epoch in run["curves"]] for run in runs]
        rows.append(row | {"loss of the DSD": float(np.abs(np.subtract(*dsd)).max())})
    if not rows:
        return f"{results_table.NOT_RUN}\n"
    caption = (
        f"Runs that were trained twice with one seed, by two versions of the code ({'. '.join(tested.values())}). "
        "Differences, the second training less the first: in PSNR (dB), without and with each picture's mean colour "
        "put right, and in SSIM, on test patches, in brackets a 95 % cluster bootstrap, descriptive; in validation "
        "PSNR after the first epoch; and in the DSD's own loss, the largest of all epochs."
    )
    formats = {METRICS["ssim"]: ".3f", "validation PSNR, first epoch": ".4f", "loss of the DSD": ".1g"}
    return figures.metric_table(rows, caption, "tab-again", formats) + "\n"
