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
# # The data set: SEN12JHL
#
# A triplet is a radar patch, the optical patch of the same ground, and a land-cover map of it. We take the first two
# from SEN12MS {cite}`schmitt2019` and the third from JAXA's 10 m map of Japan {cite}`hirayama2022`, and cut all
# three into windows on one grid.
#
# **With its default parameters this notebook builds from a synthetic archive.** It is a toy world that the library
# draws itself and *writes as files in the layouts of SEN12MS and JAXA*, so that the code below is the code that reads
# the real archives. It verifies the code. It is no evidence about any method.

# %% tags=["parameters"]
source: str = "embedded"  # embedded | sen12ms | folder
archive_root: str = "data/embedded/sen12ms"  # SEN12MS's season folders
lulc_root: str = "data/embedded/hrlulc"  # land-cover tiles
sar_dir: str = ""  # source folder: SAR files,
opt_dir: str = ""  # optical files,
lulc_dir: str = ""  # land-cover files (none: no land cover),
pairs_csv: str = ""  # and their pairing (none: by file name)
sar_units: str = "dB"  # dB | linear | 8-bit
opt_units: str = "reflectance x 10000"  # reflectance x 10000 | 8-bit
legend: str = "hrlulc-v21.11"  # of the land cover
merge: str = "four"  # of its classes into categories
opt_bands: list = ["red", "green", "blue"]  # what the three optical channels are
pixel_size_m: float = 0.0  # where files do not say it
group_column: str = ""  # column of pairs_csv that splits may not cut
split_file: str = ""  # CSV of id and split (none: by region)
dataset_root: str = "data/quick"  # where the data set is written
patch_size: int = 128  # pixels
stride: int = 96  # pixels between training windows
resolution_factor: int = 1  # 2 averages 10 m to 20 m
buffer_m: float = 2000.0  # metres that keep windows of different splits apart
max_nodata: float = 0.01  # share of a patch's pixels above which it is refused,
max_cloud: float = 0.2  # the same for cloud,
cloud_brightness: float = 0.0  # which is whatever is brighter and colourless (0: 0.25 reflectance, 200 in 8 bits)
lulc_epoch: str = ""  # when the land-cover map was made
seed: int = 0

# %%
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display

from s2olib import figures
from s2olib.data import build, landcover, triplets
from s2olib.project import resolve

figures.use_style()

# %% [markdown]
# ## Twelve classes, four categories
#
# The talk merges JAXA's twelve classes to four categories and does not say how. This is our merge; the reasons stand in
# {doc}`/book/choices`.

# %% tags=["nbval-check-output"]
rows = [{"category": "none: these data have no land cover", "classes": ""}]
product = "no product"
if legend:
    product, names = landcover.LEGENDS[legend].product, landcover.LEGENDS[legend].names
    merged = landcover.LEGENDS[legend].merges[merge]
    rows = [{"category": k, "classes": ", ".join(names[code] for code in codes)} for k, codes in merged.items()]
Markdown(figures.metric_table(rows, f"Categories, and the classes of {product} in each.", "tab-merge"))

# %% [markdown]
# ## Build
#
# Neighbouring patches of SEN12MS overlap by half. So we first put each scene together again from its patches, bring
# land cover onto the scene's grid by nearest neighbour, and only then cut windows. Whole regions go to one split.

# %%
info = build.build(
    dataset_root,
    source=source,
    archive_root=archive_root,
    lulc_root=lulc_root,
    sar_dir=sar_dir,
    opt_dir=opt_dir,
    lulc_dir=lulc_dir,
    pairs_csv=pairs_csv,
    group_column=group_column,
    split_file=split_file,
    sar_units=sar_units,
    opt_units=opt_units,
    opt_bands=opt_bands,
    legend=legend,
    merge=merge,
    patch_size=patch_size,
    stride=stride,
    resolution_factor=resolution_factor,
    pixel_size_m=pixel_size_m or None,
    buffer_m=buffer_m,
    max_nodata=max_nodata,
    max_cloud=max_cloud,
    cloud_brightness=cloud_brightness or None,
    lulc_epoch=lulc_epoch,
    seed=seed,
)

# %% tags=["nbval-check-output"]
rows = [
    {"split": split, "triplets": info["counts"][split], "unique area (km²)": (info["unique_area_km2"] or {}).get(split)}
    for split in triplets.SPLITS
]
kind = "SYNTHETIC archive" if info["synthetic"] else f"source {source}"
caption = f"Triplets of {patch_size} x {patch_size} px, {kind}. Training windows slide by {stride} px and overlap."
Markdown(figures.metric_table(rows, caption, "tab-splits"))

# %% [markdown]
# The talk reports 5917 triplets in all, and 4033, 738 and 589 for training, validation and test. Those three sum to
# 5360; see {doc}`/book/choices`. What was built here is as large as its source allows, and no larger.
#
# The fingerprint below is a hash of everything that was written. Every run record carries it, so a number can always be
# traced to the data that gave it.

# %% tags=["nbval-check-output"]
assert all(count > 0 for count in info["counts"].values())
limits = {name: dict(zip(info[name]["bands"], info[name]["limits"], strict=True)) for name in ("sar", "opt")}
print("SAR:    ", info["sar"]["units"], limits["sar"])
print("optical:", info["opt"]["units"], limits["opt"])
info["fingerprint"]

# %% [markdown]
# ## Where the windows lie
#
# Kaga and Mikuni, the places of the talk's comparison, are in the test split by construction. No window of one split
# touches a window of another: the build proves this by geometry each time and fails otherwise.

# %% mystnb={"figure": {"name": "fig-split-map", "caption": "Windows of the data set by split, or their counts where the source has no geography."}, "image": {"alt": "Map of the windows of the three splits"}}
indices = []
for split in triplets.SPLITS:
    indices.append(pd.read_csv(Path(resolve(dataset_root)) / split / "index.csv", dtype={"id": str, "group": str}))
    indices[-1]["split"] = split
index = pd.concat(indices, ignore_index=True)
if index["lon"].notna().all():
    figure = figures.split_map(index, {"Kaga": (136.30, 36.30), "Mikuni": (136.15, 36.20)})
else:
    display(index.groupby(["split", "group"]).size().rename("windows").to_frame())

# %% mystnb={"figure": {"name": "fig-shares", "caption": "Land cover of the three splits. Regions differ: a cross-regional test is not a shuffled one."}, "image": {"alt": "Bars of category shares for each split"}}
shares = [column for column in index if column.startswith("share_")]
if shares and index[shares].notna().all(axis=None):
    figure = figures.class_shares(index)

# %% [markdown]
# ## What a network sees
#
# Radar and optical values are clipped to the limits above and mapped to [−1, 1]. The radar picture is a composite:
# red is VV, green is VH, blue their difference; a single band is grey.

# %% mystnb={"figure": {"name": "fig-triplets", "caption": "Test triplets: SAR, optical image and land-cover categories."}, "image": {"alt": "Four test triplets"}}
test = triplets.Triplets(dataset_root, "test")
chosen = [int(i) for i in pd.Series(range(len(test))).sample(min(4, len(test)), random_state=seed).sort_values()]
items = [test[i] for i in chosen]
assert all(item["sar"].abs().max() <= 1 and item["opt"].abs().max() <= 1 for item in items)
figure = figures.triplet_grid(items, [test.index["id"].iloc[i].replace("_", " ") for i in chosen], test.categories)
# %% [markdown]
# ## What was refused
#
# Nothing vanishes silently. Each window that a rule turned away is in `dataset.json` with its reason.

# %% tags=["nbval-check-output"]
refused = pd.DataFrame(info["refused"], columns=["id", "reason", "value"])
rows = refused.groupby("reason").size().rename("windows").reset_index().to_dict("records")
rows = rows or [{"reason": "none", "windows": 0}]
Markdown(figures.metric_table(rows, "Windows that were refused, by reason.", "tab-refused"))

# %% [markdown]
# **What this does not show.** Counts and splits say nothing about how well radar and optical images are aligned, nor how
# old the land-cover map is against the images. Both are properties of the archives.
