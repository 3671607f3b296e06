"""How much of a score is the split: the same networks tested on scenes left out, and on blocks of scenes trained on.

Made from ``book/results/sen12`` and ``sen12-fold*`` (every scene tested once, by networks that never saw it) and
``sen12-blocks`` (every scene in training too, test blocks sharing no pixel with it).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import results_table

from s2olib import figures, records
from s2olib.project import InputError
from s2olib.statistics import blocks, cluster_interval

FOLDS = ("sen12", "sen12-fold2", "sen12-fold3")  # profiles, each of which leaves other scenes out
METRICS = {"psnr": "PSNR", "ssim": "SSIM", "skill": "skill"}
FORMATS = dict.fromkeys(("SSIM", "skill", "SSIM, left out", "SSIM, blocks", "SSIM, gain"), ".3f")


def read(folders: list[Path], run: str) -> pd.DataFrame:
    """The test patches of one run over several folders; a patch tested twice is an error."""
    patches = pd.concat([records.read_patches(folder / run) for folder in folders]).sort_values("id", ignore_index=True)
    if patches["id"].duplicated().any():
        raise InputError(f"{run}: patch {patches['id'][patches['id'].duplicated()].iloc[0]} is tested in two folds.")
    return patches


def render(results: Path) -> str:
    """Three tables as MyST markdown and what they say: each way of splitting, both on the patches they share, the runs.

    Where runs are missing, their names stand in the tables' place.
    """
    folds, inside = [results / name for name in FOLDS], [results / "sen12-blocks"]
    runs = {label: records.run_name(generator, "dsd", 0) for generator, (label, *_) in results_table.REPORTED.items()}
    missing = [
        f"{f.name}/{run}" for f in folds + inside for run in runs.values() if not (f / run / "record.json").is_file()
    ]
    if missing:
        return f"{results_table.NOT_RUN}: {', '.join(missing)}.\n"
    whole, shared, trained, better = [], [], [], dict.fromkeys(("scenes left out", "blocks"), 0)
    for label, run in runs.items():
        apart, within = read(folds, run), read(inside, run)
        for name, patches, folders in (("scenes left out", apart, folds), ("blocks", within, inside)):
            of = {results_table.link(f.name, run, f.name): records.read(f / run) for f in folders}
            summary = records.summarise(patches)
            scores = {title: tuple(summary[metric].values()) for metric, title in METRICS.items()}
            row = {"generator": label, "test on": name, "patches": len(patches), "PSNR": scores["PSNR"]}
            row["one colour"] = results_table.mean_colour_psnr(patches["mse_mean_colour"])  # beside what has to beat it
            whole.append(row | scores)
            trained += [
                {"generator": label, "run": link, "training patches": one["dataset"]["counts"]["train"]}
                | {"scored epoch": one["best_epoch"] + 1, "of": len(one["curves"])}
                for link, one in of.items()
            ]
            better[name] += summary["skill"]["low"] > 0
        both = apart.merge(within, on="id", suffixes=("", "_within"))
        if len(both) < len(within):
            raise InputError(f"{run}: the folds do not test every patch that {inside[0].name} tests.")
        clusters = blocks(both)
        row = {"generator": label}
        for metric in ("psnr", "ssim"):
            row[f"{METRICS[metric]}, left out"] = both[metric].mean()
            row[f"{METRICS[metric]}, blocks"] = both[f"{metric}_within"].mean()
            row[f"{METRICS[metric]}, gain"] = cluster_interval(both[f"{metric}_within"] - both[metric], clusters)
        one_colour = both["mse_mean_colour"], both["mse_mean_colour_within"]
        left_out, within_psnr = map(results_table.mean_colour_psnr, one_colour)
        row["mean colour, PSNR"] = f"{left_out:.2f}, {within_psnr:.2f}"
        shared.append(row)
    gains = [row["PSNR, gain"][0] for row in shared]
    conditions = [records.evaluation_conditions(patches, "test") for patches in (apart, within, both)]
    kind, (left_out, blocked, shared_by) = conditions[0]["interval"], (each["clusters"] for each in conditions)
    first = (
        "SEN1-2 with scenes left out (three folds pooled) and with blocks of every scene, seed 0. In brackets a "
        f"{kind}: from {left_out} clusters and from {blocked}."
    )
    second = f"On the {len(both)} patches that both test: means, and the gain with a {kind}, from {shared_by} clusters."
    third = "The runs behind both. Of the epochs that the DSD judged, that of the best validation PSNR is scored."
    return "\n\n".join(
        [
            figures.metric_table(whole, first, "tab-split", FORMATS),
            figures.metric_table(shared, second, "tab-split-shared", FORMATS),
            figures.metric_table(trained, third, "tab-split-runs"),
            "Better than the mean colour of its training patches, by the whole interval of its skill: "
            f"{better['scenes left out']} of {len(runs)} networks with scenes left out, {better['blocks']} in blocks. "
            f"Gain in PSNR on the same patches: {min(gains):.2f} to {max(gains):.2f} dB.",
            "",
        ]
    )
