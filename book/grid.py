"""The figure and the tables of the grids that networks lay over their images, from what ``bench/grid.py`` left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from s2olib import figures
from s2olib.statistics import cluster_interval

METRICS = {"ssim": "SSIM", "psnr": "PSNR"}
TERMS = {"feature": "feature loss", "l1": "L1"}
GENERATORS = {"unet": ("U-Net", "^"), "hat": ("HAT", "o"), "s2oformer": ("S2OFormer", "s")}
TRAINED = {  # by the end of a run's tag, its label and colour; any other run has a DSD that learns
    "-ssim": ("DSD and a term of SSIM", figures.SERIES[3]),
    "-bilinear": ("DSD and interpolation", figures.SERIES[4]),
    "-random": ("DSD that never learns", figures.SERIES[2]),
    "l1": ("L1 alone", "#555555"),
    "": ("DSD that learns", figures.SERIES[1]),
}


def write(results: Path, folder: Path) -> None:
    """Write ``grid.svg`` into `folder`, ``fig-grid.md`` that shows it, and ``grid.md`` with the tables."""
    measured = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}
    shown = "No grid was measured.\n"
    if measured:
        figures.use_style()
        figures.save(draw(measured), folder / "grid.svg")
        shown = _figure(measured)
    (folder / "fig-grid.md").write_text(shown, encoding="utf-8")
    (folder / "grid.md").write_text(render(measured), encoding="utf-8")


def _figure(measured: dict[str, dict]) -> str:
    counts = [f"{len(of['clusters']['validation'])} of *{name}*" for name, of in measured.items()]
    return (
        "```{figure} /book/_generated/grid.svg\n:name: fig-grid\n:figclass: diagram\n:alt: What blurring gains in SSIM "
        "against the strength of the grid, one mark a run\n\n"
        "What the mean of 4 × 4 pixels gains in SSIM, against the grid of the generated images, over validation "
        f"patches ({' and '.join(counts)}); one mark a run. Lines are 95 % cluster bootstraps, descriptive. Dotted: "
        "the grid of the real images of each. By interpolation S2OFormer or U-Net steps up between scales.\n```\n"
    )


def draw(measured: dict[str, dict]) -> Figure:
    """Gain in SSIM over the grid, a mark for each run, hollow for those of the first data set."""
    figure, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
    for which, one in enumerate(measured.values()):
        clusters = one["clusters"]["validation"]
        for run, values in one["runs"].items():
            x, y = (cluster_interval(value, clusters) for value in (values["grid"], _gain(values, "ssim")))
            generator, tag = run.rsplit("-", 1)[0].split("-", 1)
            (_, colour), (_, marker) = TRAINED[next(end for end in TRAINED if tag.endswith(end))], GENERATORS[generator]
            ax.plot([x[1], x[2]], [y[0], y[0]], color=colour, lw=1)
            ax.plot([x[0], x[0]], [y[1], y[2]], color=colour, lw=1)
            ax.plot(x[0], y[0], marker, color=colour, mfc=colour if which else "white", ms=7)
        ax.axvline(np.mean([values["grid_real"] for values in one["runs"].values()]), color="#555555", ls=":", lw=1.4)
    ax.axhline(0, color="#333333", lw=1)
    ax.set_xscale("log")
    ax.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    ax.set(xlabel="grid (grey levels of 255)", ylabel="gain in SSIM by blurring")
    handles = [plt.Line2D([], [], marker=m, color="#555555", ls="", label=label) for label, m in GENERATORS.values()]
    handles += [plt.Line2D([], [], color=colour, lw=3, label=label) for label, colour in [*TRAINED.values()][::-1]]
    hollow, *_ = measured
    handles.append(plt.Line2D([], [], marker="s", mfc="white", color="#555555", ls="", label=f"hollow: {hollow}"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, columnspacing=1.2, handletextpad=0.5)
    return figure


def _gain(values: dict, key: str) -> np.ndarray:
    return np.subtract(values[f"{key}_averaged"], values[key])


def render(measured: dict[str, dict]) -> str:
    """Two tables for each data set, as MyST markdown: what the grid is, and what it is worth to the loss."""
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
            row[f"{label}, gain"] = cluster_interval(_gain(values, key), clusters)
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
