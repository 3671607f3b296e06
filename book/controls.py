"""The discussion's figure: what each change of the training does to each generator, on two sets of unseen places.

Drawn from the patches of published runs; a mark is filled where the change counts by the book's rule for a lead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import leads
import numpy as np
import results_table
import split_table
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from s2olib import figures, statistics

SETS = {"ombria": ("France, Albania", figures.SERIES[0]), "ombria-second": ("other places", figures.SERIES[1])}
CHANGES = {  # by tag, from no supervision on to more
    "l1": "L1 alone",
    "dsd-random": "DSD that never learned",
    "dsd-permuted": "DSD of permuted labels",
    "pix2pix": "pix2pix's discriminator",
    "dsd-ssim": "a term of SSIM more",
    "dsd-bilinear": "interpolation",
    "dsd-shift": "radar shifted",
    "dsd-bilinear-shift": "both together",
}
METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM"}


def changes(folder: Path, runs: Mapping[str, dict], metric: str) -> dict[tuple[str, str], dict]:
    """What each variant has more than its generator with the DSD as it is, by tag and generator.

    *p* is corrected for all of these pairs, as on the profile's page of results.
    """
    patches, of = {}, {}
    for run, record in runs.items():
        variant = f"{record['generator']}-{record['tag']}"
        of[variant] = record["tag"], record["generator"]
        patches.setdefault(variant, {})[record["seed"]] = split_table.read([folder], run)
    pairs = [(variant, f"{name}-dsd") for variant, (tag, name) in of.items() if tag != "dsd" and f"{name}-dsd" in of]
    found = statistics.paired_differences(patches, pairs, metric)
    return {of[row["first"]]: leads.drawn(row, patches[row["first"]], patches[row["second"]], metric) for row in found}


def write(results: Path, profiles: Mapping[str, Mapping[str, dict]], folder: Path) -> None:
    """Write ``controls.svg`` into `folder`, and ``controls.md`` that shows it with its conditions."""
    text = f"{results_table.NOT_RUN}\n"
    if rows := rows_of({tag for name in SETS for tag in _tags(profiles.get(name, {}))}):
        figures.use_style()
        figures.save(draw(results, profiles, rows), folder / "controls.svg")
        text = _figure(profiles)
    (folder / "controls.md").write_text(text, encoding="utf-8")


def _tags(runs: Mapping[str, dict]) -> set[tuple[str, str]]:
    return {(record["tag"], record["generator"]) for record in runs.values()}


def rows_of(there: set[tuple[str, str]]) -> list[tuple[str, str | None]]:
    """The figure's rows from the top: a tag of `CHANGES` with no generator, then with each that was trained so."""
    rows = []
    for tag in CHANGES:
        trained = [(tag, name) for name in results_table.REPORTED if (tag, name) in there and ("dsd", name) in there]
        rows += [(tag, None), *trained] if trained else []
    return rows


def _figure(profiles: Mapping[str, Mapping[str, dict]]) -> str:
    tested = []
    for name, (label, _) in SETS.items():
        if runs := profiles.get(name):
            evaluation = next(iter(runs.values()))["evaluation"]
            tested.append(f"{evaluation['patches']} patches in {evaluation['clusters']} clusters in *{label}* ({name})")
    return (
        "```{figure} _generated/controls.svg\n:name: fig-controls\n:figclass: diagram\n:alt: What each change of the "
        "training adds to PSNR and SSIM of U-Net, HAT and S2OFormer on two sets of places, with intervals\n\n"
        "What a generator gains by a change of its training at 20 m: the variant less the same generator with the DSD "
        f"as it is, over the seeds of both; {', '.join(tested)}. Lines are 95 % cluster bootstraps, with seeds nested, "
        "descriptive. Circles: mean over three trainings; squares: one training. Filled: the interval leaves out 0, "
        "the seeds differ by less, and *p*, corrected for all changes of its set, is below 0.05; of one training that "
        "is said of its weights.\n```\n"
    )


def draw(results: Path, profiles: Mapping[str, Mapping[str, dict]], rows: Sequence[tuple[str, str | None]]) -> Figure:
    """A block of `rows` for each change, PSNR on the left, SSIM on the right, a colour for each of `SETS`."""
    figure, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 1.5 + 0.3 * len(rows)), sharey=True)
    for ax, (metric, label) in zip(axes, METRICS.items(), strict=True):
        for which, (name, (_, colour)) in enumerate(SETS.items()):
            found = changes(results / name, profiles.get(name, {}), metric)
            for y, row in enumerate(rows):
                if row in found:
                    leads.draw_row(ax, y + (which - 0.5) * 0.4, found[row], colour)
        ax.axvline(0, color="#333333", lw=1)
        ax.set_xlabel(f"gain in {label}")
        ax.locator_params(axis="x", nbins=4)
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    names = {name: label.removesuffix("-DSD") for name, (label, *_) in results_table.REPORTED.items()}
    axes[0].set_yticks(np.arange(len(rows)), [CHANGES[tag] if name is None else names[name] for tag, name in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    for tick, (_, name) in zip(axes[0].yaxis.get_major_ticks(), rows, strict=True):
        tick.label1.set_fontweight("normal" if name else "bold")
    handles = [plt.Line2D([], [], marker="o", color=colour, ms=7, label=label) for label, colour in SETS.values()]
    handles.append(plt.Line2D([], [], color="#555555", marker="|", ms=9, mew=1.6, ls="", label="each training"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
