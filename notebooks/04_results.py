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
# Every number here comes from a run record. Three baselines say what a number is worth: one colour for everything,
# histogram matching, and a regression on local statistics.
#
# **On the synthetic archive this page verifies the code and ranks nothing.** Networks of this size, trained for about a
# minute, say nothing about the methods, so no winner is marked.

# %% tags=["parameters"]
dataset_root: str = "data/quick"
run_root: str = "runs/quick"
seed: int = 0

# %%
import pandas as pd
from IPython.display import Markdown

from s2olib import baselines, figures, records, statistics, training
from s2olib.data.triplets import Triplets
from s2olib.project import resolve

figures.use_style()
runs = records.find(resolve(run_root))
train = Triplets(dataset_root, "train")
stale = [name for name, record in runs.items() if record["dataset"]["fingerprint"] != train.info["fingerprint"]]
assert not stale, f"{stale} were trained on other data than {dataset_root} now holds"

# %% [markdown]
# ## Baselines
#
# Fitted on the training split, evaluated on the same test patches in the same way.

# %%
patches = {
    name: training.evaluate(baseline.fit(train, seed=seed), dataset_root, "test")
    for name, baseline in baselines.BASELINES.items()
}
patches |= {name: records.read_patches(resolve(run_root) / name) for name in runs}
assert all((frame["id"] == patches["mean colour"]["id"]).all() for frame in patches.values())

# %% [markdown]
# ## The table

# %%
summaries = {name: records.summarise(frame) for name, frame in patches.items()}


def cell(summary: dict, digits: int) -> str:
    return f"{summary['mean']:.{digits}f} [{summary['low']:.{digits}f}, {summary['high']:.{digits}f}]".replace("-", "−")


rows = []
for name, summary in summaries.items():
    gmac = f"{runs[name]['complexity']['macs'] / 1e9:.2f}" if name in runs else "–"
    rows.append({"variant": name, "PSNR (dB)": cell(summary["psnr"], 2), "SSIM": cell(summary["ssim"], 3)})
    rows[-1] |= {"skill": cell(summary["skill"], 3), "PSNR without offset": cell(summary["offset_free_psnr"], 2)}
    rows[-1] |= {"GMAC a patch": gmac}
evaluation = next(iter(runs.values()))["evaluation"]
what = "SYNTHETIC archive" if train.info["synthetic"] else next(iter(runs.values()))["dataset"]["name"]
caption = (
    f"Means with their intervals ({evaluation['interval']}, {evaluation['clusters']} clusters in "
    f"{len(evaluation['groups'])} regions) over {evaluation['patches']} test patches. Data: {what}. "
    f"{evaluation['data_range']}; SSIM: {evaluation['ssim']}. The talk's numbers are from other data."
)
Markdown(figures.metric_table(rows, caption, "tab-all"))

# %% mystnb={"figure": {"name": "fig-intervals", "caption": "PSNR of every variant with its interval. Hollow marks with dashed lines: fewer than ten independent regions, so the interval describes these regions only."}, "image": {"alt": "PSNR and intervals"}}
kind = statistics.interval_kind(next(iter(patches.values()))["group"])
figure = figures.intervals_plot([{"name": n, "kind": kind, **s["psnr"]} for n, s in summaries.items()], "PSNR (dB)")
# %% [markdown]
# ## Which differences can be told apart
#
# For each pair of networks: the difference on the same patches, and the probability of one as large if the two were
# the same, by flipping signs of whole clusters, corrected for the number of pairs (Holm). One seed each, so that the
# spread of training itself is unknown: a small p-value here speaks of these trained weights, not of the architectures.

# %%
names = list(runs)
pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
clusters = statistics.blocks(patches[names[0]])
p_values = [statistics.paired_permutation(patches[a]["psnr"], patches[b]["psnr"], clusters) for a, b in pairs]
rows = [
    {"pair": f"{a} − {b}", "PSNR difference (dB)": (patches[a]["psnr"] - patches[b]["psnr"]).mean(), "p (Holm)": p}
    for (a, b), p in zip(pairs, statistics.holm(p_values), strict=True)
]
caption = f"Paired differences, {evaluation['clusters']} clusters."
Markdown(
    figures.metric_table(rows, caption, "tab-pairs", {"PSNR difference (dB)": "+.2f", "p (Holm)": ".3f"})
) if rows else None

# %% [markdown]
# ## Per category
#
# PSNR inside each land-cover category: where the variants differ. Land cover is read for this table alone; without it
# every other number on this page is the same.

# %%
categories = [c for c in patches[names[0]] if c.startswith("psnr_")]
rows = [
    {"variant": name, **{c.removeprefix("psnr_"): summary[c]["mean"] for c in categories}}
    for name, summary in summaries.items()
]
caption = "PSNR (dB) by land-cover category, mean over the patches that hold it."
Markdown(figures.metric_table(rows, caption, "tab-categories") if categories else "These data have no land cover.")

# %% [markdown]
# ## The DSD
#
# How far the deepest map depends on the optical image, ‖f(s, o) − f(s, o′)‖ / ‖f‖ with o′ the optical image of another
# patch. Near zero the feature loss would supervise nothing: below 0.1 a run has not tested the DSD, whatever its PSNR.
# Trainings as short as those on the synthetic archive may end on either side.

# %%
keys = ["optical_sensitivity", "validation_miou", "validation_psnr"]
last = pd.DataFrame({name: record["curves"][-1] for name, record in runs.items()}).T
rows = [{"variant": n, **{k: last.loc[n].get(k) for k in keys if k in last}} for n in names]
Markdown(
    figures.metric_table(
        rows, "The DSD after the last epoch, on validation patches.", "tab-dsd", dict.fromkeys(keys, ".3f")
    )
)

# %% tags=["nbval-check-output"]
print(f"{len(runs)} networks and {len(baselines.BASELINES)} baselines on {evaluation['patches']} patches")
