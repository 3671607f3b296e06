"""Tables of runs that were trained twice with one seed, from the records of both; those of the second trainings lie in
``again/<profile>``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import place_table
import results_table

from s2olib import figures, records, statistics
from s2olib.project import InputError

METRICS = {"psnr": "difference in PSNR", "offset_free_psnr": "without offset", "ssim": "difference in SSIM"}


def _twice(results: Path, *, ssim: bool) -> Iterator[tuple[str, str, list[dict], list[pd.DataFrame]]]:
    """Profile, name, both records and both tables of patches of each run, of those with a term of SSIM or the others.

    Raises InputError for a second training that is not of the same run.
    """
    for path in sorted(results.glob("again/*/*/record.json")):
        second, profile = path.parent, path.parent.parent.name
        first = results / profile / second.name
        runs, patches = ([of(run) for run in (first, second)] for of in (records.read, records.read_patches))
        settings = [run["parameters"] for run in runs]
        alike = settings[1] == settings[1] | settings[0]  # later code may name more of them
        if not alike or list(patches[0]["id"]) != list(patches[1]["id"]):
            raise InputError(f"{second} is not the same run as {first}: name it otherwise, or remove it.")
        if bool(settings[0].get("ssim_weight")) == ssim:
            yield profile, second.name, runs, patches


def _tested(profile: str, patches: pd.DataFrame) -> str:
    clusters = statistics.blocks(patches)
    return f"*{profile}*: {len(clusters)} test patches in {clusters.max() + 1} clusters"


def render(results: Path) -> str:
    """One table as MyST markdown: what changes from one training to another of the same seed."""
    rows: list[dict] = []
    tested: dict[str, str] = {}
    for profile, name, runs, patches in _twice(results, ssim=False):
        clusters = statistics.blocks(patches[0])
        tested[profile] = _tested(profile, patches[0])
        row = {"run": f"{results_table.link(profile, name)}, {_download(profile, name, 'again')}"}
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


def render_ssim(results: Path) -> str:
    """Two tables as MyST markdown: variants with a term of SSIM, trained before and after that term was mended; and how
    the networks of the second trainings differ."""
    variants: dict[tuple[str, str], dict[int, list]] = {}
    for profile, name, runs, patches in _twice(results, ssim=True):
        variant = f"{runs[0]['generator']}-{runs[0]['tag']}"
        variants.setdefault((profile, variant), {})[runs[0]["seed"]] = [name, *patches]
    rows: list[dict] = []
    tested: dict[str, str] = {}
    for (profile, variant), by_seed in variants.items():
        names, first, second = zip(*by_seed.values(), strict=True)
        generator = variant.split("-")[0]
        without = [records.read_patches(results / profile / records.run_name(generator, "dsd", s)) for s in by_seed]
        tested[profile] = _tested(profile, first[0])
        links = (_download(profile, name, str(seed)) for name, seed in zip(names, by_seed, strict=True))
        row = {"variant": f"{profile} {variant}", "seeds": ", ".join(links)}
        row |= {label: _difference(second, first, metric) for metric, label in METRICS.items()}
        row["SSIM above *dsd*, first"] = _difference(first, without, "ssim")
        rows.append(row | {"SSIM above *dsd*, again": _difference(second, without, "ssim")})
    if not rows:
        return f"{results_table.NOT_RUN}\n"
    caption = (
        "Variants with a term of SSIM, trained again with the same seeds after that term had been mended "
        f"({'. '.join(tested.values())}). Differences, the second trainings less the first, in PSNR (dB), without and "
        "with each picture's mean colour put right, and in SSIM; and by how much the SSIM of either is higher than "
        "with the DSD alone. In brackets a 95 % cluster bootstrap with seeds nested, descriptive."
    )
    formats = dict.fromkeys([METRICS["ssim"], "SSIM above *dsd*, first", "SSIM above *dsd*, again"], ".3f")
    table = figures.metric_table(rows, caption, "tab-again-ssim", formats)
    runs = {profile: sorted((results / "again" / profile).glob("*-dsd-ssim-s*")) for profile in tested}
    profiles = {profile: {run.name: records.read(run) for run in of} for profile, of in runs.items()}
    pairs = [*combinations([f"{network}-dsd-ssim" for network in reversed(results_table.REPORTED)], 2)]
    what = "Paired differences of networks with the mended term of SSIM"
    return f"{table}\n\n{place_table.pairs_table(results / 'again', profiles, pairs, what, 'tab-again-pairs')}\n"


def _difference(ours: Sequence[pd.DataFrame], theirs: Sequence[pd.DataFrame], metric: str) -> tuple[float, ...]:
    """Mean difference and its interval over patches and seeds, one table of patches for each seed."""
    values = [np.array([patches[metric] for patches in of]) for of in (ours, theirs)]  # (S, N) each
    return statistics.cluster_interval(values[0] - values[1], statistics.blocks(ours[0]))


def _download(profile: str, run: str, text: str) -> str:
    return f"{{download}}`{text} </book/results/again/{profile}/{run}/record.json>`"
