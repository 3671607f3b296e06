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
beside: str = ""  # another folder of runs, tested on these patches too: its networks' images stand in a line beneath
notice: str = ""  # what to notice on this page, written by one who has looked at it

# %% tags=["hide-input"]
import itertools

import torch
from IPython.display import HTML, Markdown, display

from s2olib import checkpoints, figures, records, selection
from s2olib.data.triplets import Triplets
from s2olib.project import resolve

test = Triplets(dataset_root, "test")
figures.use_style(synthetic=test.info["synthetic"])
synthetic = "**Synthetic data: this page verifies the code.** " if test.info["synthetic"] else ""
credit = test.info["parameters"].get("credit") or ""
shown = "Land cover is shown for the reader alone; no generator sees it. " if test.has_lulc else ""
size, pixel = test.info["patch_size"], test.info["pixel_size_m"]
extent = f" of {pixel:g} m, {size * pixel / 1000:.1f} km a side" if pixel else ""
of = f"Test patches of the data set *{resolve(dataset_root).name}*, {size} × {size} pixels{extent}; "
of += f"networks with the tag *{tag}*, seed {seed}. "
Markdown(f"**{title}.** {synthetic}{of}{shown}{credit}".strip())


# %% tags=["hide-input"]
labels = {"unet": "U-Net", "hat": "HAT", "s2oformer": "S2OFormer"}  # the order of columns; any other network follows


def trained(folder: str, **how: bool) -> dict:
    """The runs of a folder that have this tag and seed, by the names of their networks."""
    found = {path.parent.name: records.read(path.parent) for path in resolve(folder).glob("*/record.json")}
    found = {run: record for run, record in found.items() if (record["tag"], record["seed"]) == (tag, seed)}
    records.check_data(found, test.info, dataset_root, **how)
    of = {record["generator"]: resolve(folder) / run for run, record in found.items()}
    return {labels.get(name, name): of[name] for name in [*labels, *sorted(of.keys() - labels)] if name in of}


runs = trained(run_root)
lines = {run_root: runs} | ({beside: trained(beside, alike=True)} if beside else {})
measured = {label: records.read_patches(run) for label, run in runs.items()}
skills, index = [patches["skill"] for patches in measured.values()], test.index
missing = "" if runs else f"No network with the tag {tag} and seed {seed} is trained yet."
if (failures or group) and missing:
    chosen, said = [], "No patch can be chosen by skill."
elif failures:
    chosen, said = selection.lowest_skill(index, skills, failures)
elif group:
    chosen, said = selection.median_skill(index, skills, group)
elif patch_id:
    chosen, said = selection.named(index, patch_id)
else:
    chosen, said = selection.nearby(index, longitude, latitude, radius_km, category)
Markdown(f"{said} {missing}".strip())

# %% tags=["hide-input", "nbval-check-output"]
share = f"share_{category}"
for position in chosen if not failures else ():
    note = (
        f", {100 * index[share][position]:.0f} % {category}"
        if share in index and index[share].notna()[position]
        else ""
    )
    print(f"patch {index['id'][position]}{note}")
    for label, patches in measured.items() if patch_id else ():
        rank = int(patches["psnr"].rank(ascending=False)[position])
        print(f"by PSNR it is number {rank} of {len(index)} for {label}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Radar, optical image, land cover where there is any, and generated images of the chosen patches; under each PSNR and SSIM, and skill where failures are shown."}, "image": {"alt": "Radar, optical image, land cover where there is any, and the images of the generators"}}
kept = {
    folder: {label: run for label, run in of.items() if (run / "generator.safetensors").is_file()}
    for folder, of in lines.items()
}
for label, folder in itertools.product(runs, lines):
    if label not in kept[folder]:
        print(f"{label}: {'its weights are' if label in lines[folder] else 'it is'} not in {folder}")
common = [label for label in runs if all(label in of for of in kept.values())]  # a column each
pictures, captions, titles = [], [], []
for position, (folder, of) in itertools.product(chosen, kept.items()):
    item, name = test[int(position)], index["id"][position]
    views = {"SAR": figures.sar_picture(item["sar"])}
    views[figures.opt_name(test.info["opt"]["bands"])] = figures.opt_picture(item["opt"])
    if "lulc" in item:
        views["LULC"] = figures.lulc_picture(item["lulc"], test.categories)
    captions.append({})
    for label in common:
        with torch.no_grad():
            views[label] = figures.opt_picture(checkpoints.load_generator(of[label])[0](item["sar"][None])[0])
        row = records.read_patch(of[label], name)
        captions[-1][label] = f"{row['psnr']:.2f} dB / {row['ssim']:.3f}"
        captions[-1][label] += f" / skill {row['skill']:.2f}".replace("-", "−") if failures else ""
    pictures.append(views)
    titles.append(resolve(folder).name if beside else name.replace("_", " "))
    if captions[-1]:
        print(name, *(f"{label}: {caption}" for label, caption in captions[-1].items()), sep="\n    ")
if pictures:
    legend = test.categories if "LULC" in views else ()
    if not failures:
        figures.save_pictures(pictures[0], resolve(run_root) / "pictures" / region)
    figure = figures.comparison(pictures, captions, titles=titles if len(pictures) > 1 else (), categories=legend)

# %% [markdown]
# Drag the slider, or use the arrow keys: radar on the left, S2OFormer's image on the right, of the first patch above.

# %% tags=["hide-input"]
if pictures and "S2OFormer" in pictures[0]:
    display(HTML(figures.swipe(pictures[0]["SAR"], pictures[0]["S2OFormer"], "SAR", "generated by S2OFormer")))

# %% tags=["hide-input"]
usual = (
    "Where the generated images agree with the optical one, radar carries the information; where they agree with each "
    "other but not with it, the networks have learned what is usual."
)
Markdown(f"**What to notice.** {notice or usual}")

# %% [markdown]
# **What this does not show.** Chosen patches are illustrations: the [tables](04_results) hold the evidence and its
# intervals.
