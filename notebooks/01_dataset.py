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
tar_root: str = ""  # SEN12MS's tar archives, from which archive_root is filled with what lies on the map
lulc_root: str = "data/embedded/hrlulc"  # land-cover tiles
sar_dir: str = ""  # source folder: SAR files,
opt_dir: str = ""  # optical files,
lulc_dir: str = ""  # land-cover files (none: no land cover),
pairs_csv: str = ""  # and their pairing (none: by file name)
group_column: str = ""  # column of pairs_csv that names a place, which no split cuts unless split_file does
grid: str = "optical"  # optical | sar: whose grid a pair is warped to
sar_units: str = "dB"  # dB | linear | 8-bit
opt_units: str = "reflectance x 10000"  # reflectance x 10000 | 8-bit
opt_offset: float = 0.0  # in stored reflectance: 1000 for Sentinel-2 of processing baseline 04.00 and later
sar_bands: list = []  # polarisations (none: all there are)
opt_bands: list = ["red", "green", "blue"]  # what the three optical channels are
sar_limits: list = []  # (low, high) per band, mapped to [−1, 1] (none: −25..0 dB, VH and HV −32..−5 dB, 0..255)
opt_limits: list = []  # the same (none: 0..0.3 reflectance, 0..255)
pixel_size_m: float = 0.0  # where files do not say it
legend: str = "hrlulc-v21.11"  # of the land cover, or a YAML file of your own
merge: str = "four"  # of its classes into categories
lulc_epoch: str = ""  # when the land-cover map was made (none: what the legend says)
dataset_root: str = "data/quick"  # where the data set is written
geotiff_dir: str = ""  # where GeoTIFFs for a GIS are written (none: nowhere)
patch_size: int = 128  # pixels
stride: int = 96  # pixels between training windows
resolution_factor: int = 1  # 2 averages 10 m to 20 m
split_file: str = ""  # CSV of id and split (none: by region)
shares: list = [0.75, 0.14, 0.11]  # training, validation and test, when split by region
block_m: float = 0.0  # side of the blocks that large pairs of source folder are cut into (0: uncut)
buffer_m: float = 2000.0  # metres that keep windows of different splits apart
max_nodata: float = 0.01  # share of a patch's pixels above which it is refused,
max_unlabelled: float = 0.5  # the same for pixels without a category,
max_sea: float = 0.99  # for open water,
max_cloud: float = 0.2  # and for cloud,
cloud_brightness: float = 0.0  # which is whatever is brighter and colourless (0: 0.25 reflectance, 200 in 8 bits)
haze_brightness: float = 0.0  # of the darkest hundredth of a veiled patch (0: 0.15 reflectance, not judged in 8 bits)
border_noise_db: float = -35.0  # mean power that is noise and no echo
credit: str = ""  # of folders of your own
compare_ground: bool = True  # look for the same ground in two splits where there is no geography (see below)
workers: int = 0  # processes that read and judge (0: one per core, where there is enough to do)
seed: int = 0

# %%
import inspect

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from s2olib import figures
from s2olib.data import SPLITS, build, ground, landcover, triplets
from s2olib.data.datasheet import datasheet
from s2olib.data.export import export_geotiffs

# %% [markdown]
# ## Twelve classes, four categories
#
# The talk merges JAXA's twelve classes to four categories and does not say how. This is our merge; the reasons stand in
# {doc}`/book/choices`.

# %% tags=["nbval-check-output"]
rows = [{"category": "none: these data have no land cover", "classes": ""}]
product = "no product"
if legend:
    product, names = landcover.find_legend(legend).product, landcover.find_legend(legend).names
    merged = landcover.merge_table(legend, merge)
    rows = [{"category": k, "classes": ", ".join(names[code] for code in codes)} for k, codes in merged.items()]
Markdown(figures.metric_table(rows, f"Categories, and the classes of {product} in each.", "tab-merge"))

# %% [markdown]
# ## Build
#
# Neighbouring patches of SEN12MS overlap by half. So we first put each scene together again from its patches, bring
# land cover onto the scene's grid by nearest neighbour, and only then cut windows. Whole regions go to one split.

# %%
known = inspect.signature(build.build).parameters  # each parameter above goes to the one of the same name
given = {name: value for name, value in globals().items() if name in known}
for name in ("pixel_size_m", "cloud_brightness", "haze_brightness", "workers"):
    given[name] = given[name] or None
info = build.build(**given)
figures.use_style(synthetic=info["synthetic"])

# %% tags=["nbval-check-output"]
talk = {"train": 4033, "validation": 738, "test": 589}
area, rows = info["unique_area_km2"], []
for split in SPLITS:
    share = info["counts"][split] / sum(info["counts"].values())
    row = {
        "split": split,
        "triplets": info["counts"][split],
        "share (%)": 100 * share,
        "unique area (km²)": area[split],
    }
    rows.append(row | {"the talk's triplets": talk[split], "the talk's share (%)": 100 * talk[split] / 5360})
refused = pd.DataFrame(info["refused"], columns=["id", "reason", "value", "windows"]).fillna({"windows": 1})
for name, here, theirs in (
    ("all three", sum(info["counts"].values()), sum(talk.values())),
    ("not used", int(refused["windows"].sum()), None),
):
    rows.append(dict.fromkeys(rows[0]) | {"split": name, "triplets": here, "the talk's triplets": theirs})
kind = "SYNTHETIC archive" if info["synthetic"] else f"source {source}"
caption = (
    f"Triplets of {patch_size} x {patch_size} px, {kind}, beside the talk's. Training windows slide by {stride} px."
)
Markdown(figures.metric_table(rows, caption, "tab-splits"))

# %% [markdown]
# The talk reports 5917 triplets in all, and 4033, 738 and 589 for training, validation and test. Those three sum to
# 5360, and what the other 557 are is not said; see {doc}`/book/choices`. What was built here is as large as its source
# allows, and no larger: every window on its split's lattice (steps of `stride` in training, of a whole patch in
# validation and test) that is not used is in the table of refused windows below, with the reason.
#
# The fingerprint below is a hash of everything that was written. Every run record carries it, so a number can always be
# traced to the data that gave it. The synthetic archive is computed in float64 and rounded at the end, so that its hash
# should be the same on processors that differ in a last bit (a test makes every function err by one).

# %%
assert all(count > 0 for count in info["counts"].values())
limits = {name: dict(zip(info[name]["bands"], info[name]["limits"], strict=True)) for name in ("sar", "opt")}
print("SAR:    ", info["sar"]["units"], limits["sar"])
print("optical:", info["opt"]["units"], limits["opt"])
info["fingerprint"]

# %% [markdown]
# ## Where the windows lie
#
# Unless a split file says otherwise, regions within the buffer of Kaga and Mikuni, the places of the talk's comparison,
# are in the test split. No window of one split touches a window of another: the build proves this by geometry each time
# and fails otherwise. Images without geography are compared value for value, at every shift: it fails where two of
# different splits are equal in all that they would have in common, by 31 pixels or more each way.

# %% mystnb={"figure": {"name": "fig-split-map", "caption": "Windows of the data set by split, or their counts where the source has no geography."}, "image": {"alt": "Map of the windows of the three splits"}}
splits = {split: triplets.Triplets(dataset_root, split) for split in SPLITS}
index = pd.concat([data.index.assign(split=split) for split, data in splits.items()], ignore_index=True)
if index["lon"].notna().all():
    places = dict(zip(("Kaga", "Mikuni"), build.TEST_PLACES, strict=True))
    figure = figures.split_map(index, places)
    for name, tested in zip(places, info["tested_places"], strict=True):
        print(f"{name}: test windows lie there" if tested else f"{name}: no test window lies there")
else:
    display(index.groupby(["split", "group"]).size().rename("windows").to_frame())

# %% mystnb={"figure": {"name": "fig-shares", "caption": "Land cover of the three splits. Regions differ: a cross-regional test is not a shuffled one."}, "image": {"alt": "Bars of category shares for each split"}}
if all(data.has_lulc for data in splits.values()):
    figure = figures.class_shares(index)

# %%
columns = [name for name in index if name.startswith("share_")]
means = 100 * index.groupby("split")[columns].mean().rename(columns=lambda name: name.removeprefix("share_"))
rows = [{"split": split, **means.loc[split]} for split in SPLITS]
labelled = all(data.has_lulc for data in splits.values())
Markdown(figures.metric_table(rows, "Mean share of land cover (%), by split.", "tab-shares") if labelled else "")

# %% [markdown]
# ## The same ground at another time
#
# Copies are not all that leaks. Two images of one place from two days have no value in common, and a network that is
# tested on one of them has seen its rivers in the other. So where there is no geography, each test patch is laid over
# each patch of the other splits, at every shift, radar and optical image apart. A pair for which both say the same
# shift, far more clearly than chance does, shows the same ground. Nothing is refused for it. Such pairs are listed:
# put their images into one split (`split_file`, `group_column`) before anything is trained, or say so beside every
# number. Patches that share less than about a third of their ground are not found. It takes a minute for 100 test
# patches of 128 pixels and 500 others; `compare_ground=False` leaves it out.

# %% tags=["nbval-check-output"]
pairs = ground.same_ground(dataset_root) if compare_ground else []
if index["lon"].notna().all():
    found = "Every window has its place: geometry has compared them."
elif pairs:
    caption = "Test patches that show ground of another split; shift in pixels, peak in multiples of chance's highest."
    rows = [pair | {"shift": "{} down, {} right".format(*pair["shift"])} for pair in pairs]
    found = figures.metric_table(rows, caption, "tab-ground-found")
else:
    found = "No test patch shows ground of another split." if compare_ground else "Not compared."
Markdown(found)

# %% mystnb={"figure": {"name": "fig-ground", "caption": "Two patches of one place, in test and in another split."}, "image": {"alt": "Two patches that show the same ground"}}
if pairs:
    places = [("test", pairs[0]["test"]), (pairs[0]["split"], pairs[0]["other"])]
    items = [splits[split][list(splits[split].index["id"]).index(name)] for split, name in places]
    items = [{kind: item[kind] for kind in ("sar", "opt")} for item in items]
    figure = figures.triplet_grid(items, [" ".join(place) for place in places])

# %% [markdown]
# ## What a network sees
#
# Radar and optical values are clipped to the limits above and mapped to [−1, 1]. The radar picture is a composite:
# red is VV, green is VH, blue their difference; a single band is grey.

# %% mystnb={"figure": {"name": "fig-triplets", "caption": "Test triplets: SAR, optical image and land-cover categories."}, "image": {"alt": "Four test triplets"}}
test = splits["test"]
chosen = [int(i) for i in pd.Series(range(len(test))).sample(min(4, len(test)), random_state=seed).sort_values()]
items = [test[i] for i in chosen]
assert all(item["sar"].abs().max() <= 1 and item["opt"].abs().max() <= 1 for item in items)
figure = figures.triplet_grid(items, [test.index["id"].iloc[i].replace("_", " ") for i in chosen], test.categories)
# %% [markdown]
# ## What was refused
#
# Nothing vanishes silently. Each window that a rule turned away is in `dataset.json` with its reason, or the scene with
# the number of windows that training would take of it (of its patches, where a tar archive was not unpacked).

# %% tags=["nbval-check-output"]
rows = refused.groupby("reason")["windows"].sum().astype(int).reset_index().to_dict("records")
rows = rows or [{"reason": "none", "windows": 0}]
Markdown(figures.metric_table(rows, "Windows that were refused, by reason.", "tab-refused"))

# %% mystnb={"figure": {"name": "fig-refused", "caption": "Patches that were refused, up to two for each reason: radar on the left, optical on the right. What lies outside the map, or a split file leaves out, is never read."}, "image": {"alt": "Examples of refused patches"}}
examples = triplets.Triplets(dataset_root, "refused")
reasons = examples.index["id"].map(refused.drop_duplicates("id", keep="last").set_index("id")["reason"])
reasons = reasons[reasons.groupby(reasons).cumcount() < 2]
items = [examples[i] for i in reasons.index]
pairs = [(figures.sar_picture(item["sar"]), figures.opt_picture(item["opt"])) for item in items]
if pairs:
    figure = figures.refused_examples([np.concatenate(pair, axis=1) for pair in pairs], list(reasons))

# %% [markdown]
# ## Datasheet
#
# What another laboratory must know before it uses these data, from `dataset.json` and the lists of patches beside it.

# %%
Markdown(datasheet(dataset_root))

# %%
if geotiff_dir:  # every patch for a GIS such as QGIS, with named bands and the legend's colours
    print(len(export_geotiffs(dataset_root, geotiff_dir)), "GeoTIFFs in", geotiff_dir)

# %% [markdown]
# **What this does not show.** Counts and splits say nothing about how well radar and optical images are aligned, nor how
# old the land-cover map is against the images. Both are properties of the archives.
