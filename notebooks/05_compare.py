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
# # A comparison by eye
#
# The radar image, the optical one, land cover where there is any, and what each generator made of the radar image alone.
# The patches are chosen by a rule that is stated, and not by how they look.

# %% tags=["parameters"]
dataset_root: str = "data/quick"
run_root: str = "runs/quick"
region: str = "kaga_land"
title: str = "Land: Kaga, Ishikawa"
longitude: float = 136.30  # degrees; patches are chosen near here
latitude: float = 36.30
radius_km: float = 6.0  # no test patch within it: the page says so
category: str = "farmland and grass"  # of which the patch holds most; the first one where there is no land cover
patch_id: str = ""  # names the patch outright, for data without geography
group: str = ""  # or shows this group's patch of median skill
failures: int = 0  # show instead so many patches on which the networks do worst, wherever they are
tag: str = "dsd"
seed: int = 0
notice: str = ""  # what to notice on this page, written by one who has looked at it

# %% tags=["hide-input"]
import math

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Markdown, display

from s2olib import checkpoints, figures, records, statistics
from s2olib.data.triplets import Triplets
from s2olib.project import resolve

test = Triplets(dataset_root, "test")
figures.use_style(synthetic=test.info["synthetic"])
synthetic = "**Synthetic data: this page verifies the code.** " if test.info["synthetic"] else ""
credit = test.info["parameters"].get("credit") or ""
shown = "Land cover is shown for the reader alone; no generator sees it. " if test.has_lulc else ""
Markdown(f"**{title}.** {synthetic}{shown}{credit}".strip())

# %% tags=["hide-input"]
labels = {"unet": "U-Net", "hat": "HAT", "s2oformer": "S2OFormer"}
runs = {label: resolve(run_root) / records.run_name(name, tag, seed) for name, label in labels.items()}
runs = {label: run for label, run in runs.items() if (run / "record.json").is_file()}
records.check_data({run.name: records.read(run) for run in runs.values()}, test.info, dataset_root)
index = test.index
skilled = bool(failures or group)
if skilled and runs:
    skill = pd.concat([records.read_patches(run)["skill"] for run in runs.values()], axis=1).mean(axis=1).sort_values()
if failures and runs:
    worst = skill.groupby(statistics.blocks(index)[skill.index]).head(1)  # one of each neighbourhood, worst first
    near, place = index.loc[worst.index[:failures]], "with the lowest skill"
    rule = (
        "Skill is averaged over the networks, and at most one patch is taken of each cluster of neighbours, those over "
        "which intervals are drawn. Below 0 one constant colour would have matched the patch better, whatever its PSNR."
    )
elif group and runs:
    of = skill[index["group"][skill.index] == group]
    near, place = index.loc[of.index[len(of) // 2 :][:1]], f"of median skill in {group}"
    rule = "Skill is averaged over the networks."
elif skilled:
    near, place, rule = index[:0], f"can be chosen: no network with the tag {tag} and seed {seed} is trained yet", ""
elif patch_id:
    near, place = index[index["id"] == patch_id], f"named {patch_id}"
    rule = "It was named outright; where it stands among all is said below it."
else:
    east = (index["lon"] - longitude) * math.cos(math.radians(latitude))
    near = index[np.hypot(east, index["lat"] - latitude) * figures.KM_PER_DEGREE <= radius_km]
    place = f"within {radius_km:g} km of {latitude} N, {longitude} E"
    mapped = f"share_{category}" in near and near[f"share_{category}"].notna().any()
    rule = f"Of these the one with the largest share of {category} is shown." if mapped else "The first one is shown."
found = len(near) > 0
message = f"{len(near)} test {'patch' if len(near) == 1 else 'patches'}"
if not found:
    placeless = "These data have no geography: name a patch or a group."
    message = placeless if index["lon"].isna().all() else "This region is not in the test split of these data."
    message = "No test patch" if skilled else f"**{message}** No test patch"
Markdown(f"{message} {place}. {rule if found else ''}".strip())

# %% tags=["hide-input", "nbval-check-output"]
share = f"share_{category}"
chosen = []
if failures:
    chosen = list(near.index)
elif found:
    chosen = [near[share].idxmax() if share in near and near[share].notna().any() else near.index[0]]
    note = f", {100 * near.loc[chosen[0], share]:.0f} % {category}" if share in near else ""
    print(f"patch {index['id'].iloc[chosen[0]]}{note}")
    for label, run in runs.items() if patch_id else ():
        rank = int(records.read_patches(run)["psnr"].rank(ascending=False)[chosen[0]])
        print(f"by PSNR it is number {rank} of {len(index)} for {label}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Radar, optical image, land cover where there is any, and generated images of the chosen patches; under each PSNR and SSIM, and skill where failures are shown."}, "image": {"alt": "Radar, optical image and the images of the generators"}}
pictures, captions = [], []
kept = {label: run for label, run in runs.items() if (run / "generator.safetensors").is_file()}
networks = {label: checkpoints.load_generator(run)[0] for label, run in kept.items()}
for label in runs.keys() - kept.keys():
    print(f"{label}: its record is here, its weights are not")
measured = {label: records.read_patches(run) for label, run in runs.items()}
for position in chosen:
    item = test[int(position)]
    views = {"SAR": figures.sar_picture(item["sar"])}
    views[figures.opt_name(test.info["opt"]["bands"])] = figures.opt_picture(item["opt"])
    if "lulc" in item:
        views["LULC"] = figures.lulc_picture(item["lulc"], test.categories)
    captions.append({})
    for label, network in networks.items():
        with torch.no_grad():
            views[label] = figures.opt_picture(network(item["sar"][None])[0])
        row = measured[label].iloc[int(position)]
        captions[-1][label] = f"{row['psnr']:.2f} dB / {row['ssim']:.3f}"
        captions[-1][label] += f" / skill {row['skill']:.2f}".replace("-", "−") if failures else ""
    pictures.append(views)
if pictures:
    legend = test.categories if "LULC" in views else ()
    titles = index["id"].iloc[chosen].str.replace("_", " ").tolist() if failures else ()
    if not failures:
        figures.save_pictures(pictures[0], resolve(run_root) / "pictures" / region)
    figure = figures.comparison(pictures, captions, titles=titles, categories=legend)

# %% [markdown]
# Drag the slider, or use the arrow keys: radar on the left, S2OFormer's image on the right.

# %% tags=["hide-input"]
if pictures and "S2OFormer" in views:
    display(HTML(figures.swipe(views["SAR"], views["S2OFormer"], "SAR", "generated by S2OFormer")))

# %% tags=["hide-input"]
usual = (
    "Where the generated images agree with the optical one, radar carries the information; where they agree with each "
    "other but not with it, the networks have learned what is usual."
)
Markdown(f"**What to notice.** {notice or usual}")

# %% [markdown]
# **What this does not show.** Chosen patches are illustrations: the [tables](04_results) hold the evidence and its
# intervals.
