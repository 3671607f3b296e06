"""The tables of test patches whose ground another split shows as well, made from what ``bench/ground.py`` left and from
runs' patches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain, combinations
from pathlib import Path

import pandas as pd
import place_table
import results_table

from s2olib import figures, records, statistics

METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "skill": "skill"}
LOSSES = ("dsd", "l1")
FORMATS = {f"{name}{end}": ".3f" for name in ("SSIM", "skill") for end in ("", ", without")}
FORMATS |= {"PSNR, p": ".3f", "SSIM, p": ".3f"}


def render(results: Path, profiles: Mapping[str, Mapping[str, dict]]) -> str:
    """Two tables as MyST markdown: scores, and differences between networks, without those patches."""
    scores, differences, told = [], [], []
    for path in sorted((results / "ground").glob("*.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))
        known = {pair["test"] for pair in measured["pairs"]}
        for profile, runs in profiles.items():
            variants = {f"{run['generator']}-{run['tag']}": run for run in runs.values() if run["tag"] in LOSSES}
            if not known or not any(run["dataset"]["fingerprint"] == measured["data"] for run in variants.values()):
                continue
            whole = place_table.patches_of(results / profile, runs, [*variants])
            kept = {
                variant: {seed: one[~one["id"].isin(known)].reset_index(drop=True) for seed, one in seeds.items()}
                for variant, seeds in whole.items()
            }
            first = next(iter(next(iter(whole.values())).values()))
            clusters = statistics.blocks(first[~first["id"].isin(known)]).max() + 1
            seeds = ", ".join(map(str, sorted({*chain(*whole.values())})))
            told.append(
                f"*{profile}*, seeds {seeds}: {len(known)} of {len(first)} "
                f"test patches ({', '.join(sorted(known))}), the others in {clusters} clusters"
            )
            scores += [_scores(profile, variant, whole[variant], kept[variant]) for variant in whole]
            differences += _differences(profile, kept)
    if not scores:
        return f"{results_table.NOT_RUN}\n"
    caption = (
        f"Scores with and without the test patches whose ground training or validation shows at another time "
        f"({'. '.join(told)}). In brackets a 95 % cluster bootstrap with seeds nested, descriptive."
    )
    pairs = (
        "Paired differences of networks with the same loss without these patches: *variant* minus *less*, descriptive "
        "intervals as above; *over seeds*: separable if larger than seeds differ; *p* corrected (Holm) for a profile's "
        "rows."
    )
    tables = figures.metric_table(scores, caption, "tab-ground", FORMATS)
    return f"{tables}\n\n{figures.metric_table(differences, pairs, 'tab-ground-pairs', FORMATS)}\n"


def _scores(profile: str, variant: str, whole: Mapping[int, pd.DataFrame], kept: Mapping[int, pd.DataFrame]) -> dict:
    row: dict = {"variant": f"{profile} {variant}"}
    of_all, without = (records.summarise(*frames.values()) for frames in (whole, kept))
    for metric, label in METRICS.items():
        row |= {label: tuple(of_all[metric].values()), f"{label}, without": tuple(without[metric].values())}
    return row


def _differences(profile: str, kept: Mapping[str, Mapping[int, pd.DataFrame]]) -> list[dict]:
    pairs = [pair for pair in combinations(kept, 2) if pair[0].split("-", 1)[1] == pair[1].split("-", 1)[1]]
    found = [statistics.paired_differences(kept, pairs, metric) for metric in ("psnr", "ssim")]
    rows = [place_table.pair_row(psnr, ssim) for psnr, ssim in zip(*found, strict=True)]
    return [row | {"variant": f"{profile} {row['variant']}"} for row in rows]
