# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Results
#
# Every number of a network comes from its run's record. Three baselines, computed here, say what a number is worth: one
# colour for everything, histogram matching, and a regression on local statistics.

# %% tags=["parameters"]
dataset_root: str = "data/quick"
run_root: str = "runs/quick"
seed: int = 0

# %% tags=["hide-input"]
import itertools
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from s2olib import baselines, evaluation, figures, records, statistics
from s2olib.data.triplets import Triplets
from s2olib.project import resolve

runs = records.find(resolve(run_root))
train = Triplets(dataset_root, "train")
figures.use_style(synthetic=train.info["synthetic"])
records.check_data(runs, train.info, dataset_root)
credit = train.info["parameters"].get("credit") or ""
synthetic = (
    "**On the synthetic archive this page verifies the code and ranks nothing.** Networks of this size, trained for a "
    "few minutes, say nothing about the methods, so no winner is marked."
)
Markdown(synthetic if train.info["synthetic"] else f"Real pairs, {Path(dataset_root).name}. {credit}".strip())

# %% [markdown]
# ## Baselines
#
# Fitted on the training split, evaluated on the same test patches in the same way. Each reading of the test split is
# logged beside the runs.

# %% tags=["hide-input"]
patches = {}  # variant → seed → one frame
for name, baseline in baselines.BASELINES.items():
    patches[name] = {seed: evaluation.evaluate(baseline.fit(train, seed=seed), dataset_root, "test")}
    records.log_reading(resolve(run_root), name)
record_of = {}
for name, record in runs.items():
    variant = f"{record['generator']}-{record['tag']}"
    patches.setdefault(variant, {})[record["seed"]] = records.read_patches(resolve(run_root) / name)
    record_of.setdefault(variant, record)  # of the first seed
variants = list(record_of)

# %% [markdown]
# ## The table
#
# Where a variant was trained with several seeds, the interval holds some of their chance too, and the last column their
# mean and standard deviation. Intervals from few clusters are too narrow: of those from two, some 50 % hold the mean, of
# those from four some 80 %.

# %% tags=["hide-input"]
summaries = {name: records.summarise(*frames.values()) for name, frames in patches.items()}
by_seed = {name: pd.Series([frame["psnr"].mean() for frame in frames.values()]) for name, frames in patches.items()}
shown = {"psnr": "PSNR (dB)", "ssim": "SSIM", "skill": "skill", "offset_free_psnr": "PSNR without offset"}
rows = []
for name, summary in summaries.items():
    seeds = by_seed[name]
    several = f"{seeds.mean():.2f} ± {seeds.std():.2f} ({len(seeds)})" if len(seeds) > 1 else "one seed"
    several = several if name in record_of else None
    means = {label: tuple(summary[metric].values()) for metric, label in shown.items()}
    rows.append({"variant": name, **means, "PSNR ± SD (seeds)": several})
first = next(iter(runs.values()))
evaluation_of = first["evaluation"]
what = "SYNTHETIC archive" if train.info["synthetic"] else first["dataset"]["name"]
regions = "one region" if len(evaluation_of["groups"]) == 1 else f"{len(evaluation_of['groups'])} regions"
where = (
    f"{evaluation_of['patches']} test patches in {evaluation_of['clusters']} cluster{'s' * (evaluation_of['clusters'] > 1)} "
    f"of {regions}; "
    f"{evaluation_of['interval']}. Data: {what}."
)
caption = (
    f"Means with their intervals over {where} {evaluation_of['data_range']}; SSIM: {evaluation_of['ssim']}. "
    "The talk's numbers are from other data."
)
Markdown(figures.metric_table(rows, caption, "tab-all", {"SSIM": ".3f", "skill": ".3f"}))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-intervals", "caption": "PSNR of every variant with its interval. Hollow marks with dashed lines: fewer than ten independent regions, so the interval describes these regions only. Upright marks, where there are any: single seeds; without them the interval lacks the chance of training."}, "image": {"alt": "PSNR and intervals"}}
kind = statistics.interval_kind(patches["mean colour"][seed]["group"])
rows = [{"name": name, "kind": kind, "seeds": by_seed[name], **s["psnr"]} for name, s in summaries.items()]
figure = figures.intervals_plot(rows, "PSNR (dB)")

# %% [markdown]
# ## Equal samples, not equal cost
#
# Every variant sees the same number of samples, as in the talk. What that costs differs: arithmetic is exact, minutes
# are those of the machine that ran it and of what else it was doing. Expected, from two steps before the first and
# without validation, is what a run said it would take. Memory of a process that trained several is at most what stands
# here.

# %% tags=["hide-input"]
rows = [
    {
        "run": name,
        "samples seen": record["samples_seen"],
        "M parameters": record["complexity"]["parameters"] / 1e6,
        "GMAC a patch": record["complexity"]["macs"] / 1e9,
        "minutes": record["cost"]["train_seconds"] / 60,
        "expected": (record["cost"]["expected_seconds"] or float("nan")) / 60,
        "memory (GiB)": record["cost"]["peak_memory_gib"],
    }
    for name, record in runs.items()
]
caption = f"Budget of each run. Data: {what}."
Markdown(figures.metric_table(rows, caption, "tab-cost", dict.fromkeys(["minutes", "expected"], ".1f")))

# %% [markdown]
# ## Noise, clarity, meaning
#
# The talk claims by eye that translation *reduces noise and enhances clarity*. Three measures of that: the deviation
# inside windows that are homogeneous in the real image (beside the real image's own: less is smoother, and much less is
# blur), the correlation of edge gradients with the real ones, and how many pixels a judge of land cover, fitted to real
# optical images with another method and seed than the DSD, names as the map does. The judge's share on real images is
# what a perfect generator could reach; that of one colour is what can be had without looking.

# %% tags=["hide-input"]
shown = {"flat_deviation": "deviation in flat windows", "edge_correlation": "edges"}
judged = all("semantic_accuracy" in summary for summary in summaries.values())
shown |= {"semantic_accuracy": "land cover agrees"} if judged else {}
rows = [
    {"variant": name} | {label: tuple(summary[metric].values()) for metric, label in shown.items()}
    for name, summary in summaries.items()
]
real = {metric.removesuffix("_real"): tuple(value.values()) for metric, value in summaries["mean colour"].items()}
real |= {"edge_correlation": 1.0}
rows.append({"variant": "the real image"} | {label: real[metric] for metric, label in shown.items()})
no_judge = "" if judged else " No independent land-cover map: meaning is not judged."
Markdown(figures.metric_table(rows, f"Noise and clarity, {where}{no_judge}", "tab-clarity"))

# %% [markdown]
# ## Which differences can be told apart
#
# For each pair of networks with the same losses: the difference on the same patches, over the seeds that both have. A
# difference that is no larger than the spread over seeds is *not separable*; with one seed that spread is unknown, and
# a small p speaks of these trained weights, not of the architectures. *p* is the probability of a difference as large
# if the two were the same, by flipping signs of whole clusters, corrected for the number of pairs (Holm). With k
# clusters it is at least 2 / 2^k before the correction: few clusters cannot give a small one, whatever the interval.
# *PSNR without offset* says what is left of a difference once each picture's mean colour is put right.


# %% tags=["hide-input"]
def differences(pairs: list[tuple[str, str]], caption: str, label: str) -> str:
    """A table for PSNR, one for PSNR without offset and one for SSIM."""
    tables = []
    for metric, name in {"psnr": "PSNR (dB)", "offset_free_psnr": "PSNR without offset (dB)", "ssim": "SSIM"}.items():
        names = {"first": "variant", "second": "less", "seeds": "seeds", "difference": name}
        names |= {"over_seeds": "over seeds", "p": "p (Holm)"}
        found = statistics.paired_differences(patches, pairs, metric)
        rows = [{names[key]: value for key, value in row.items()} for row in found]
        form = dict.fromkeys(("SSIM", "p (Holm)"), ".3f")
        title = f"{caption}, {name.removesuffix(' (dB)')}, {where}"
        tables += [figures.metric_table(rows, title, f"{label}-{metric.removesuffix('_psnr')}", form)] if rows else []
    return "\n\n".join(tables) or "Here are no such pairs."


pairs = [(a, b) for a, b in itertools.combinations(variants, 2) if record_of[a]["tag"] == record_of[b]["tag"]]
Markdown(differences(pairs, "Paired differences of generators", "tab-pairs"))

# %% [markdown]
# ## More than one colour?
#
# The same, each network less the picture of one colour, the mean of the training patches. A higher SSIM of that picture
# says that SSIM rewards what is smooth, not that it shows anything.

# %% tags=["hide-input"]
used = {record["seed"] for record in runs.values()}
patches["mean colour"] = dict.fromkeys(used, patches["mean colour"][seed])  # no chance is in it
pairs = [(name, "mean colour") for name in variants if record_of[name]["tag"] in ("dsd", "l1")]
Markdown(differences(pairs, "Paired differences from one colour", "tab-colour"))

# %% [markdown]
# ## Controls
#
# Variants of one generator that are meant to differ in one thing, each less the one with the DSD as it is (`dsd`), on
# the seeds that both have. `l1` has no discriminator, `pix2pix` PatchGAN in the DSD's place, `dsd-ssim` a term more. The
# DSD of `dsd-random` sees the real pairs and never learns, that of `dsd-frozen` no longer once it judges; that of
# `dsd-permuted` learns with another patch's categories, that of `dsd-twelve` with unmerged classes, that of `dsd-500m`
# with coarse cells. The generator of `dsd-bilinear` steps up between scales by interpolation; with `shift` in its name
# it has learned from radar made brighter and darker by chance.

# %% tags=["hide-input"]
whole = {record_of[name]["generator"]: name for name in variants if record_of[name]["tag"] == "dsd"}
controls = {name: record_of[name]["generator"] for name in variants if record_of[name]["tag"] != "dsd"}
pairs = [(name, whole[generator]) for name, generator in controls.items() if generator in whole]
Markdown(differences(pairs, "Paired differences from the variant with the DSD as it is", "tab-ablation"))

# %% [markdown]
# ## Per category
#
# PSNR inside each land-cover category: where the variants differ. Land cover is read for this table alone; without it
# every other number on this page is the same.

# %% tags=["hide-input"]
frame = next(iter(patches["mean colour"].values()))
columns = {}
for metric in [name for name in summaries["mean colour"] if name.startswith("psnr_")]:
    regions = frame.loc[frame[metric].notna(), "group"].nunique()
    columns[metric] = f"{metric.removeprefix('psnr_')} ({regions} region{'s' * (regions != 1)})"
rows = [
    {"variant": name} | {column: tuple(summary[metric].values()) for metric, column in columns.items()}
    for name, summary in summaries.items()
]
caption = (
    f"PSNR (dB) by land-cover category, mean over the patches that hold it. {where} In brackets the test regions that "
    f"hold it: with fewer than {statistics.FEWEST_GROUPS} an interval describes these alone."
)
Markdown(figures.metric_table(rows, caption, "tab-categories") if columns else "These data have no land cover.")

# %% [markdown]
# ## Per region and season
#
# A mean over regions can hide one where everything fails.

# %% tags=["hide-input"]
places = {}
for column in [name for name in ("group", "season") if name in frame]:
    for value in sorted(set(frame[column].dropna()) - {""}):
        of = (frame[column] == value).to_numpy()
        clusters = statistics.blocks(frame[of])
        places[f"{value.replace('_', ' ')} ({of.sum()} in {len(set(clusters))})"] = of
rows = [{"variant": name} for name in patches]
for row, (place, of) in itertools.product(rows, places.items()):
    inside = (f[of].filter([*records.PLACE, "psnr"]).reset_index(drop=True) for f in patches[row["variant"]].values())
    row[place] = tuple(records.summarise(*inside)["psnr"].values())
caption = (
    "PSNR (dB) by region and season, each with its number of patches in so many clusters; 95 % cluster bootstrap, which "
    f"describes these places alone. Data: {what}."
)
Markdown(figures.metric_table(rows, caption, "tab-places"))

# %% [markdown]
# ## The DSD
#
# How far the deepest map depends on the optical image, ‖f(s, o) − f(s, o′)‖ / ‖f‖ with o′ the optical image of another
# patch. Near zero the feature loss would supervise nothing: an epoch below 0.1 did not test the DSD. The table shows each
# variant's least epoch of all its seeds. Trainings as short as those on the synthetic archive may end on either side.

# %% tags=["hide-input"]
keys = {"optical_sensitivity": "optical sensitivity", "validation_miou": "mIoU", "validation_psnr": "generator's PSNR"}
last = {name: record["curves"][-1] for name, record in record_of.items()}
keys = {key: label for key, label in keys.items() if any(key in curve for curve in last.values())}
least = {name: [] for name in variants}
for record in runs.values():
    least[f"{record['generator']}-{record['tag']}"].append(records.least_sensitivity(record))
rows = [
    {"variant": name, "seed": record_of[name]["seed"]}
    | {label: curve.get(key) for key, label in keys.items()}
    | {"least sensitivity": min(least[name])}
    for name, curve in last.items()
]
caption = (
    "The DSD of each variant's first seed after the last epoch, on validation patches, and the *least sensitivity* of "
    f"all seeds in an epoch in which it judged. Data: {what}."
)
Markdown(figures.metric_table(rows, caption, "tab-dsd", dict.fromkeys([*keys.values(), "least sensitivity"], ".3f")))

# %% tags=["hide-input", "nbval-check-output"]
print(f"{len(runs)} networks and {len(baselines.BASELINES)} baselines on {evaluation_of['patches']} patches")
