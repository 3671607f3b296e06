"""How networks do in each place apart, on two sets of places, with a DSD that never learns, with interpolation in their
steps up, and with radar made brighter and darker in training; from runs' patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd
import results_table

from s2olib import figures, records, statistics

METRICS = {"skill": "skill", "psnr": "PSNR (dB)", "ssim": "SSIM"}
STEPS_UP = ("s2oformer-dsd-bilinear", "hat-dsd", "unet-dsd-bilinear", "unet-dsd")
FORMATS = {"skill": ".3f", "SSIM": ".3f", "one colour (dB)": ".2f"}


def render(results: Path) -> str:
    """One table as MyST markdown: place by network, each score with its interval over that place's patches."""
    published, rows = results_table.read_records(results), []
    for run in published:
        for place, patches in records.read_patches(results / run).groupby("group"):
            patches = patches.reset_index(drop=True)
            scores = records.summarise(patches)
            clusters = records.evaluation_conditions(patches, "test")["clusters"]
            row = {"place": f"{place} ({len(patches)} in {clusters})"}
            row["run"] = results_table.link(results.name, run)
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
    return figures.metric_table(rows, caption, f"tab-apart-{results.name}", FORMATS) + "\n"


def render_sets(results: Path, profiles: Mapping[str, Mapping[str, dict]]) -> str:
    """One table as MyST markdown: network and loss by profile, each of which tests on other places."""
    rows, conditions = [], []
    for folder, runs in ((results / name, runs) for name, runs in profiles.items() if runs):
        frames = {run: records.read_patches(folder / run) for run, r in runs.items() if r["tag"] in ("dsd", "l1")}
        for generator, (label, *_) in results_table.REPORTED.items():
            for tag in ("dsd", "l1"):
                seeds = [run for run in frames if (runs[run]["generator"], runs[run]["tag"]) == (generator, tag)]
                if not seeds:
                    continue
                scores = records.summarise(*(frames[run] for run in seeds))
                links = (results_table.link(folder.name, run, str(runs[run]["seed"])) for run in seeds)
                row = {"profile": folder.name, "network": label.removesuffix("-DSD"), "loss": tag}
                row |= {"seeds": ", ".join(links)}
                rows.append(row | {text: tuple(scores[metric].values()) for metric, text in METRICS.items()})
        patches = next(iter(frames.values()))
        evaluation = records.evaluation_conditions(patches, "test")
        conditions.append(
            f"*{folder.name}*: {', '.join(evaluation['groups'])}; {len(patches)} patches in {evaluation['clusters']} "
            f"clusters; one colour {results_table.mean_colour_psnr(patches['mse_mean_colour']):.2f} dB"
        )
    if not rows:
        return f"{results_table.NOT_RUN}\n"
    caption = (
        f"The same networks and settings on two sets of unseen places ({'. '.join(conditions)}). Mean over seeds, in "
        "brackets a 95 % cluster bootstrap with seeds nested, descriptive. Skill above 0 is better than one colour."
    )
    return figures.metric_table(rows, caption, "tab-sets", FORMATS) + "\n"


def patches_of(folder: Path, runs: Mapping[str, dict], variants: Sequence[str]) -> dict[str, dict[int, pd.DataFrame]]:
    """The patches of each variant, such as "hat-dsd", by seed."""
    patches: dict[str, dict[int, pd.DataFrame]] = {variant: {} for variant in variants}
    for run, record in runs.items():
        if (variant := f"{record['generator']}-{record['tag']}") in patches:
            patches[variant][record["seed"]] = records.read_patches(folder / run)
    return patches


def render_random(results: Path, profiles: Mapping[str, Mapping[str, dict]]) -> str:
    """One table as MyST markdown: S2OFormer with a DSD of random weights, less S2OFormer without a DSD."""
    rows = []
    for name, runs in profiles.items():
        patches = patches_of(results / name, runs, ("s2oformer-dsd-random", "s2oformer-l1"))
        row = {"profile": name}
        for metric, label, digits in (("psnr", "PSNR (dB)", 2), ("ssim", "SSIM", 3)):
            for found in statistics.paired_differences(patches, [tuple(patches)], metric):  # one, or none
                random, none = ({seed: frame[metric].mean() for seed, frame in of.items()} for of in patches.values())
                by_seed = (f"{random[seed] - none[seed]:.{digits}f}" for seed in sorted({*random} & {*none}))
                row |= {"seeds": found["seeds"], label: found["difference"]}
                row |= {f"{label}, by seed": ", ".join(by_seed).replace("-", "−")}
                row |= {f"{label}, over seeds": found["over_seeds"]}
        rows += [row] if len(row) > 1 else []
    if not rows:
        return f"{results_table.NOT_RUN}\n"
    caption = (
        "S2OFormer with a DSD of random weights (*dsd-random*), less S2OFormer without a DSD (*l1*), on the same "
        "patches; in brackets a 95 % cluster bootstrap with seeds nested, descriptive."
    )
    return figures.metric_table(rows, caption, "tab-random", FORMATS) + "\n"


def render_bilinear(results: Path, profiles: Mapping[str, Mapping[str, dict]]) -> str:
    """Two tables as MyST markdown: the generators' differences with the DSD, S2OFormer and U-Net stepping up by
    interpolation, and U-Net as it is; and from U-Net with other losses."""
    pairs = [pair for pair in combinations(STEPS_UP, 2) if pair != STEPS_UP[2:]]  # one network, with one change
    what = (
        "Paired differences of generators, with interpolation as the step up of S2OFormer and U-Net (*dsd-bilinear*), "
        "and of U-Net as it is"
    )
    bilinear = pairs_table(results, profiles, pairs, what, "tab-bilinear")
    pairs = [(name, other) for name in ("s2oformer-dsd-bilinear", "hat-dsd") for other in ("unet-l1", "unet-dsd-ssim")]
    what = "Paired differences of S2OFormer with interpolation and of HAT, from U-Net with another loss"
    losses = pairs_table(results, profiles, pairs, what, "tab-other-losses")
    return ("\n\n".join(filter(None, (bilinear, losses))) or results_table.NOT_RUN) + "\n"


def render_shift(results: Path, profiles: Mapping[str, Mapping[str, dict]]) -> str:
    """One table as MyST markdown: the differences of networks that learned from radar made brighter and darker."""
    pairs = [("unet-dsd-bilinear-shift", other) for other in ("unet-dsd-shift", *reversed(STEPS_UP))]
    pairs.append(("unet-dsd-shift", "unet-dsd"))
    others = ("s2oformer-dsd", "hat-dsd-shift", "unet-dsd-shift", "unet-dsd-bilinear-shift", "hat-dsd")
    pairs += [("s2oformer-dsd-shift", other) for other in others]
    pairs += [("hat-dsd-shift", other) for other in ("hat-dsd", "unet-dsd-shift")]
    what = "Paired differences of networks that were trained with radar made brighter or darker by chance (*shift*)"
    return (pairs_table(results, profiles, pairs, what, "tab-shift") or results_table.NOT_RUN) + "\n"


def pair_row(psnr: Mapping, ssim: Mapping) -> dict:
    """A row of a table of pairs, of what `statistics.paired_differences` says of one in each metric."""
    row = {"variant": psnr["first"], "less": psnr["second"], "seeds": psnr["seeds"]}
    for metric, unit, of in (("PSNR", " (dB)", psnr), ("SSIM", "", ssim)):
        row |= {metric + unit: of["difference"], f"{metric}, over seeds": of["over_seeds"], f"{metric}, p": of["p"]}
    return row


def pairs_table(
    results: Path, profiles: Mapping[str, Mapping[str, dict]], shown: list[tuple[str, str]], what: str, name: str
) -> str:
    """A table of these differences on every set that has all their variants; "" where none has.

    Each *p* is corrected for all pairs of generators with the same losses as well, which were compared before.
    """
    rows, where = [], []
    for profile, runs in profiles.items():
        variants = {f"{record['generator']}-{record['tag']}": record["tag"] for record in runs.values()}
        if not {variant for pair in shown for variant in pair} <= {*variants}:
            continue
        patches = patches_of(results / profile, runs, [*variants])
        tested = next(iter(runs.values()))["evaluation"]
        where.append(f"*{profile}*: {tested['patches']} test patches in {tested['clusters']} clusters")
        alike = (pair for pair in combinations(variants, 2) if variants[pair[0]] == variants[pair[1]])
        pairs = shown + [pair for pair in alike if {*pair} not in map(set, shown)]
        found = [statistics.paired_differences(patches, pairs, metric) for metric in ("psnr", "ssim")]
        for psnr, ssim in zip(*found, strict=True):
            if (psnr["first"], psnr["second"]) in shown:
                rows.append({"profile": profile} | pair_row(psnr, ssim))
    if not rows:
        return ""
    if len(where) == 1:  # the caption names it, and the table is wide
        rows = [{key: value for key, value in row.items() if key != "profile"} for row in rows]
    caption = (
        f"{what}: *variant* minus *less*; {', '.join(where)}; in brackets a 95 % cluster bootstrap with seeds nested, "
        "descriptive; *over seeds*: separable if larger than seeds differ; *p* corrected (Holm) for these pairs and "
        "all with the same losses."
    )
    return figures.metric_table(rows, caption, name, FORMATS | dict.fromkeys(("PSNR, p", "SSIM, p"), ".3f"))
