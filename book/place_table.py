"""How each network does in each place apart, where a profile tests several; made from the runs' patches."""

from __future__ import annotations

from pathlib import Path

import results_table

from s2olib import figures, records

METRICS = {"skill": "skill", "psnr": "PSNR (dB)", "ssim": "SSIM"}


def render(results: Path) -> str:
    """One table as MyST markdown: place by network, each score with its interval over that place's patches."""
    published, rows = results_table.read_records(results), []
    for run in published:
        for place, patches in records.read_patches(results / run).groupby("group"):
            patches = patches.reset_index(drop=True)
            scores = records.summarise(patches)
            clusters = records.evaluation_conditions(patches, "test")["clusters"]
            row = {"place": f"{place} ({len(patches)} in {clusters})"}
            row["run"] = f"{{doc}}`{run} <{results_table.page_of(results.name, run)}>`"
            row["one colour (dB)"] = results_table.mean_colour_psnr(patches["mse_mean_colour"])
            rows.append(row | {label: tuple(scores[metric].values()) for metric, label in METRICS.items()})
    if not rows:
        return f"{results_table.NOT_RUN}\n"
    record = next(iter(published.values()))
    caption = (
        f"Each place of the profile *{results.name}* apart (its test patches in so many clusters), data "
        f"*{record['dataset']['name']}*, seed {record['seed']}; in brackets a 95 % cluster bootstrap, descriptive. "
        "Skill above 0 is better than one colour."
    )
    rows.sort(key=lambda row: row["place"])
    formats = {"skill": ".3f", "SSIM": ".3f", "one colour (dB)": ".2f"}
    return figures.metric_table(rows, caption, f"tab-apart-{results.name}", formats) + "\n"
