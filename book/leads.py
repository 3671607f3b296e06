"""The introduction's figure: how far apart the three generators are on each set of places, and how far in the talk.

Drawn from the patches of published runs; a mark is filled where a network leads by the book's rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import results_table
import split_table
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from s2olib import figures, statistics

SETS = {  # of places, and the profiles that tested there, from those of the introduction's tables on
    "10 m, France, Albania": ["ombria-10m"],
    "20 m, France, Albania": ["ombria"],
    "20 m, other places": ["ombria-second"],
    "SEN1-2, three folds": [*split_table.FOLDS],
    "towns, VH": ["socal"],
}
PAIRS = (("s2oformer", "hat"), ("s2oformer", "unet"), ("hat", "unet"))  # the first less the second
METRICS = {"psnr": ("PSNR (dB)", 1), "ssim": ("SSIM", 2)}  # and where `REPORTED` has the talk's score


def differences(
    results: Path, profiles: Mapping[str, Mapping[str, dict]], of: Sequence[str], metric: str
) -> dict[tuple[str, str], dict]:
    """How `PAIRS` with the DSD as it is differ on the test patches of these profiles together, and seed by seed.

    *p* is corrected for all pairs of generators with the same losses, as on a profile's page of results. `leads` is the
    book's rule: the interval does not hold 0, *p* is below 0.05, and the difference is larger than seeds differ, if
    there are seeds.
    """
    folders, patches, tags = [results / name for name in of], {}, {}
    for run, record in profiles[of[0]].items():
        if all(run in profiles[name] for name in of):
            variant = f"{record['generator']}-{record['tag']}"
            tags[variant] = record["tag"]
            patches.setdefault(variant, {})[record["seed"]] = split_table.read(folders, run)
    alike = [pair for pair in combinations(tags, 2) if tags[pair[0]] == tags[pair[1]]]
    shown = {frozenset(f"{name}-dsd" for name in pair): pair for pair in PAIRS}
    found = {}
    for row in statistics.paired_differences(patches, alike, metric):
        if pair := shown.get(frozenset((row["first"], row["second"]))):
            first, second = (patches[f"{name}-dsd"] for name in pair)
            sign = 1 if row["first"] == f"{pair[0]}-dsd" else -1
            turned = row | {"difference": [sign * value for value in row["difference"]]}
            found[pair] = drawn(turned, first, second, metric)
    return found


def drawn(row: Mapping, first: Mapping, second: Mapping, metric: str) -> dict:
    """A row of `statistics.paired_differences` as it is drawn; `first` and `second` hold the patches by seed."""
    mean, *limits = row["difference"]
    low, high = sorted(limits)
    seeds = [first[seed][metric].mean() - second[seed][metric].mean() for seed in sorted({*first} & {*second})]
    leads = row["over_seeds"] in ("separable", "one seed") and row["p"] < 0.05 and not low <= 0 <= high
    return {"mean": mean, "low": low, "high": high, "seeds": seeds, "leads": leads}


def write(results: Path, profiles: Mapping[str, Mapping[str, dict]], folder: Path) -> None:
    """Write ``leads.svg`` into `folder`, and ``leads.md`` that shows it with its conditions."""
    text = f"{results_table.NOT_RUN}\n"
    if sets := {label: of for label, of in SETS.items() if {*of} <= {*profiles}}:
        figures.use_style()
        figures.save(draw(results, profiles, sets), folder / "leads.svg")
        text = _figure(profiles, sets)
    (folder / "leads.md").write_text(text, encoding="utf-8")


def _figure(profiles: Mapping[str, Mapping[str, dict]], sets: Mapping[str, Sequence[str]]) -> str:
    tested = []
    for label, of in sets.items():
        evaluations = [next(iter(profiles[name].values()))["evaluation"] for name in of]
        patches, clusters = (sum(evaluation[key] for evaluation in evaluations) for key in ("patches", "clusters"))
        tested.append(f"*{label}* ({', '.join(of)}): {patches} test patches in {clusters} clusters")
    return (
        "```{figure} _generated/leads.svg\n:name: fig-leads\n:figclass: diagram\n:alt: Differences between S2OFormer, "
        "HAT and U-Net in PSNR and SSIM on each set of places, with intervals, beside those of the talk\n\n"
        "How far apart the generators are, each trained with the DSD: differences on the same patches, the first less "
        f"the second. Lines are 95 % cluster bootstraps, with seeds nested, descriptive. {'; '.join(tested)}. Circles: "
        "mean over three trainings; squares: one training. Filled: the network on that side leads by this book's "
        "rule; with one training that is said of these weights.\n```\n"
    )


def draw(results: Path, profiles: Mapping[str, Mapping[str, dict]], sets: Mapping[str, Sequence[str]] = SETS) -> Figure:
    """A block of rows for each of `PAIRS`, a row for each of `sets`; PSNR on the left, SSIM on the right."""
    figure, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 1.6 + 0.26 * len(PAIRS) * (len(sets) + 1)), sharey=True)
    for ax, (metric, (label, column)) in zip(axes, METRICS.items(), strict=True):
        found = [differences(results, profiles, of, metric) for of in sets.values()]
        for block, pair in enumerate(PAIRS):
            top = block * (len(sets) + 1)
            talk = results_table.REPORTED[pair[0]][column] - results_table.REPORTED[pair[1]][column]
            ax.plot([talk, talk], [top + 0.5, top + len(sets) + 0.5], ":", color="#555555", lw=1.8)
            for y, pairs in enumerate(found, top + 1):
                if pair in pairs:
                    draw_row(ax, y, pairs[pair], figures.SERIES[0], figures.SERIES[1])
        ax.axvline(0, color="#333333", lw=1)
        for side, text in (("right", "◂ second higher  "), ("left", "  first higher ▸")):
            ax.text(0, 0, text, ha=side, va="center", fontsize=9, color="#555555")
        ax.set_xlabel(f"difference in {label}")
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    _name_rows(axes[0], [*sets])
    mark = {"color": figures.SERIES[0], "ms": 7}
    handles = [
        plt.Line2D([], [], marker="o", label="leads", **mark),
        plt.Line2D([], [], marker="o", mfc="white", label="does not", **mark),
        plt.Line2D([], [], color=figures.SERIES[1], marker="|", ms=10, mew=1.6, ls="", label="each of three trainings"),
        plt.Line2D([], [], color="#555555", ls=":", lw=1.8, label="in the talk"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, columnspacing=1.2, handletextpad=0.5)
    return figure


def draw_row(ax: Axes, y: float, row: Mapping, colour: str, of_seeds: str | None = None) -> None:
    """One difference: its interval, its seeds in a colour of their own, if there is one, and its mean."""
    several = len(row["seeds"]) > 1
    ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=2)
    if several:
        ax.plot(row["seeds"], [y] * len(row["seeds"]), "|", color=of_seeds or colour, ms=10, mew=1.6)
    style = {"marker": "o", "ms": 7} if several else {"marker": "s", "ms": 6}
    ax.plot(row["mean"], y, color=colour, mfc=colour if row["leads"] else "white", **style)


def _name_rows(ax: Axes, sets: Sequence[str]) -> None:
    names = {name: label.removesuffix("-DSD") for name, (label, *_) in results_table.REPORTED.items()}
    rows = [text for pair in PAIRS for text in (f"{names[pair[0]]} less {names[pair[1]]}", *sets)]
    ax.set_yticks(np.arange(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.6)
    for tick in ax.yaxis.get_major_ticks()[:: len(sets) + 1]:
        tick.label1.set_fontweight("bold")
