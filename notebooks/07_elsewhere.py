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
# # Elsewhere
#
# Weights are downloaded and used on whatever is at hand: another place, another sensor's processing, another scaling. A
# table made on a test split says nothing of that. Here shipped weights meet real images that have nothing to do with
# their training data, and no reading of these images chose anything.

# %% tags=["parameters"]
dataset_root: str = "data/elsewhere"
run_root: str = "runs/elsewhere"
weights: list = ["weights/sen12-s2oformer", "weights/socal-s2oformer"]
places: list = []  # the groups that are scored; empty: all
notice: str = ""  # what to notice on this page, written by one who has looked at it

# %%
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown

from s2olib import baselines, checkpoints, evaluation, figures, records
from s2olib.data import SPLITS
from s2olib.data.triplets import Triplets

info = Triplets(dataset_root, "train").info
groups = {group for split in SPLITS for group in Triplets(dataset_root, split).index["group"]}
unknown = ", ".join(sorted({*places} - groups))
assert not unknown, f"places has {unknown}, which {dataset_root} has not: there are {', '.join(sorted(groups))}"
figures.use_style(synthetic=info["synthetic"])
assert info["sar"]["units"] == "dB", f"{dataset_root} is not in decibels: grey levels cannot be made from it"
networks = {Path(folder).name: checkpoints.load_generator(folder) for folder in weights}
assert len(networks) == len(weights), "two folders of weights have one name: rename one"
for name, (_, about) in networks.items():
    grey = about["sar"]["units"] == "8-bit" and len(about["sar"]["bands"]) == 1
    assert grey, f"{name} did not learn from one band of 8-bit grey levels: translate with 06_translate"
pixel = f"Pixels of {info['pixel_size_m']:g} m. " if info["pixel_size_m"] else ""
Markdown(f"**{Path(dataset_root).name}.** {pixel}{info['parameters']['credit'] or ''}")

# %% [markdown]
# ## From decibels to the weights' grey levels
#
# These weights learned from 8-bit images, and how those were scaled has to be guessed or copied. For `socal` it is known:
# a linear value over its 99 % quantile, clipped. That it is the amplitude, the root of the power, nobody says; speckle
# does: in even places it deviates from its mean as the amplitude of our radar does, half as far as power. For SEN1-2 it
# is not known, so we stretch decibels between the 1 % and the 99 %
# quantile of each patch. Both use the radar image alone. The command for whole scenes (`--stretch`) keeps the same two
# limits everywhere instead; what follows does not test that. The colours are read the other way round: black is
# reflectance 0, white 0.3, which is a guess too.


# %%
def grey_levels(decibels: torch.Tensor, name: str) -> torch.Tensor:
    """One band (B, H, W) in dB as the weights `name` know it, (B, 1, H, W) in [-1, 1]."""
    values = 10 ** (decibels / 20) if name.startswith("socal") else decibels
    low, high = torch.quantile(values.flatten(1), torch.tensor([0.01, 0.99]), dim=1)[:, :, None, None]
    low = torch.zeros_like(low) if name.startswith("socal") else low
    return (((values - low) / (high - low)).clamp(0, 1) * 2 - 1)[:, None]


def translated(sar: torch.Tensor, name: str) -> torch.Tensor:
    """Radar patches (B, C, H, W) in [-1, 1], as `wide` scales them, to colours (B, 3, H, W) in [-1, 1]."""
    network, about = networks[name]
    band = info["sar"]["bands"].index(about["sar"]["bands"][0])
    low, high = wide["sar"][band]
    return network(grey_levels((sar[:, band] + 1) / 2 * (high - low) + low, name))


wide = {"sar": [[-60.0, 30.0]] * len(info["sar"]["bands"])}  # dB: nothing is cut off before it is stretched
for name, (network, about) in networks.items():
    print(f"{name}: {', '.join(about['sar']['bands'])}; {sum(p.numel() for p in network.parameters()):,} weights")

# %% [markdown]
# ## The pictures
#
# Radar is shown in colour: VV in red, VH in green, their difference in blue. Each set of weights was given one band of it
# alone, named above, in grey.

# %% mystnb={"figure": {"caption": "Radar, optical image and what each set of weights makes of the radar, one line for each patch."}, "image": {"alt": "Radar, optical image and generated images of places far from the training data"}}
rows, titles = [], []
for split in SPLITS:
    triplets = Triplets(dataset_root, split)
    unclipped = Triplets(dataset_root, split, limits=wide)
    for i in range(len(triplets)):
        rows.append({"SAR": figures.sar_picture(triplets[i]["sar"]), "OPT": figures.opt_picture(triplets[i]["opt"])})
        with torch.no_grad():
            for name in networks:
                made = translated(unclipped[i]["sar"][None], name)[0]
                rows[-1][name.removesuffix("-s2oformer")] = figures.opt_picture(made)
        titles.append(triplets.index["id"].iloc[i].replace("_", " "))
figure = figures.comparison(rows, titles=titles)

# %% [markdown]
# ## The numbers
#
# Patches of all splits, since none of them trained anything; where `places` are named, theirs alone. The mean colour and
# the regression are fitted to a few of these very patches, those of the training split, which the networks never saw: a
# network that is worse than one constant colour of the place has told us less than a look at a single other image would.

# %%
train = Triplets(dataset_root, "train")
makers = {name: baselines.BASELINES[name].fit(train, seed=0) for name in ("mean colour", "regression")}
measured = {
    name: pd.concat([evaluation.evaluate(maker, dataset_root, split) for split in SPLITS], ignore_index=True)
    for name, maker in makers.items()
}
for name in networks:
    maker = partial(translated, name=name)
    parts = [evaluation.evaluate(maker, dataset_root, split, limits=wide) for split in SPLITS]
    measured[name] = pd.concat(parts, ignore_index=True)
shown = {"psnr": "PSNR (dB)", "ssim": "SSIM", "skill": "skill", "offset_free_psnr": "PSNR without offset"}
if places:
    measured = {name: patches[patches["group"].isin(places)].reset_index() for name, patches in measured.items()}
about = records.evaluation_conditions(measured["mean colour"], "all splits")
few = about["clusters"] < 10
table = []
for name, patches in measured.items():
    scores = {key: tuple(score.values()) for key, score in records.summarise(patches).items()}  # mean, low, high
    table.append({"made by": name} | {title: scores[key][0] if few else scores[key] for key, title in shown.items()})
interval = "too few for an interval" if few else "in brackets a 95 % cluster bootstrap"
caption = (
    f"{Path(dataset_root).name}: means over {about['patches']} patches of {', '.join(about['groups'])}; "
    f"clusters: {about['clusters']}, {interval}; {about['data_range']}."
)
Markdown(figures.metric_table(table, caption, f"tab-{Path(dataset_root).name}", {"SSIM": ".3f"}))

# %%
best = max(networks, key=lambda name: measured[name]["psnr"].mean())
worse = int((measured[best]["psnr"] < measured["mean colour"]["psnr"]).sum())
Markdown(f"The better of the networks is worse than the mean colour on {worse} of {len(measured[best])} patches.")

# %%
usual = "Where a network keeps the outlines of fields and shores, radar speaks; its colours are those it learned from."
Markdown(f"**What to notice.** {notice or usual}")

# %% [markdown]
# **What this does not show.** A handful of patches ranks nothing, and another way from decibels to grey levels would
# give other numbers: weights that learned from calibrated decibels would not have to guess.
