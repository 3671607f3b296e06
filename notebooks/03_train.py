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
# # Training one variant
#
# This notebook is executed once for each variant: a generator, a set of losses, a seed. The parameters below are its
# whole definition. It leaves a run folder with the weights, the record and every test patch's metrics; the tables read
# these records and nothing else.

# %% tags=["parameters"]
dataset_root: str = "data/quick"
run_root: str = "runs/quick"
generator: str = "s2oformer"  # unet | hat | s2oformer
tag: str = "dsd"  # names the set of losses
seed: int = 0
epochs: int = 3
batch_size: int = 4
accumulate: int = 1  # parts that a batch is computed in
learning_rate: float = 0.001  # the talk's is 0.0003, for far longer trainings
schedule: str = "cosine"  # constant | cosine
embed_dim: int = 16
depths: list = [2, 2]
num_heads: list = [2, 2]
window_size: int = 8
mlp_ratio: float = 2.0
upsampling: str = "shuffle"  # S2OFormer's step up between scales, U-Net's is a transposed convolution; or bilinear
crop_size: int = 64  # pixels; 0 trains on whole patches
sar_shift: float = 0.0  # most by which a crop's radar is made brighter or darker, as a share of its range
l1_weight: float = 1.0
dsd_weight: float = 0.02
gan_weight: float = 0.0
ssim_weight: float = 0.0
dsd_width: int = 4  # SNUNet's is 32
dsd_encoder: str = "snunet"  # or the name of a timm encoder
dsd_schedule: str = "joint"  # joint | warm-up | frozen | random
dsd_warmup: int = 1  # epochs
class_weights: list = []  # of the categories in the DSD's cross-entropy; none: all alike
label_merge: str = ""  # another merge of the land-cover classes, twelve
label_size_m: float = 0.0  # metres of a land-cover cell, 500 as in a coarse product
label_permutation: bool = False  # each patch learns with another patch's land cover
precision: str = "32-true"  # bf16-mixed on a GPU
checkpointing: bool = False  # less memory for one more forward pass
initial_weights: str = ""  # begin from a folder with a saved generator, or from a file of published HAT weights
device: str = "auto"
devices: int = 1  # processes of a node, each with a device of its own
num_nodes: int = 1
num_workers: int = 0
resident: bool = False  # the training split on the device
compiled: bool = False  # by torch.compile, on a GPU
checkpoint_minutes: float = 5.0  # the most that an interruption can cost
dry_run: bool = False  # estimate the cost and stop

# %%
import torch
from IPython.display import Markdown

from s2olib import budget, checkpoints, figures, records, training
from s2olib.data.triplets import Triplets

names = training.Parameters.__dataclass_fields__
given = {name: value for name, value in globals().items() if name in names}
given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
parameters = training.Parameters(**given)

# %% [markdown]
# ## What it will cost
#
# Before anything starts: how many samples, how much arithmetic, how much memory, and how long that would take on one
# A100 if it sustains a quarter of its bf16 peak. `accumulate` is the least number of parts a batch must be split into
# to fit 40 GiB. When training starts, two steps that are then undone tell what this machine will take; that time, and
# the time it took, stand in the record.

# %% tags=["nbval-check-output"]
cost = budget.estimate(parameters)
rows = [
    {"quantity": "training samples", "value": f"{cost['samples']:,}"},
    {"quantity": "generator, GMAC a sample", "value": f"{cost['generator_gmac']:.3g}"},
    {"quantity": "all in all, TFLOP", "value": f"{cost['petaflop'] * 1000:,.1f}"},
    {"quantity": "memory, GiB (estimate)", "value": f"{cost['memory_gib']:.2f}"},
    {
        "quantity": "hours on one A100 (estimate)",
        "value": f"{cost['hours']:.1f}" if cost["hours"] >= 0.1 else "under 0.1",
    },
    {"quantity": "accumulate, at least", "value": cost["accumulate"]},
]
Markdown(figures.metric_table(rows, f"Expected cost of {generator}-{tag}, seed {seed}.", f"tab-cost-{generator}"))

# %%
if dry_run:
    print("dry run: nothing is trained")
    raise SystemExit(0)

# %% [markdown]
# ## The loss
#
# The generator minimises
#
# $$ \mathcal{L}_G = \lambda_1 \langle |G(x) - y| \rangle + \lambda_\mathrm{feat} \langle (f(x, G(x)) - f(x, y))^2 \rangle
#    + \lambda_\mathrm{gan} \mathcal{L}_\mathrm{gan} + \lambda_\mathrm{ssim} (1 - \mathrm{SSIM}) $$
#
# where $x$ is the radar image, $y$ the optical one, $f$ the DSD's deepest map, standardised, and $\langle\cdot\rangle$
# the mean over all numbers. The first term is structure, the second is meant to be meaning. The DSD itself learns in
# the same loop, from real pairs and their categories: land cover, or a rule on colours where there is none. Each part
# can be left out, and so can each ingredient of the DSD: its learning (`dsd_schedule`), the classes, resolution and
# place of its labels. One step is:
#
# ```{literalinclude} /s2olib/training.py
# :pyobject: _Networks.step
# ```

# %%
run = training.train(parameters)
record, patches = records.read(run), records.read_patches(run)
figures.use_style(synthetic=record["dataset"]["synthetic"])

# %% mystnb={"figure": {"caption": "By epoch: losses on the training split, and on the validation split PSNR and what the DSD does. Dotted: the epoch that was evaluated."}, "image": {"alt": "Training curves"}}
keys = dict.fromkeys(key for row in record["curves"] for key in row if key not in ("epoch", "generator"))
figure = figures.training_curves({run.name: record}, list(keys))
# %% [markdown]
# **What to notice.** Where validation PSNR moves up and down from epoch to epoch, the best epoch is luck in part; where it
# still rises at the end, training was short. Where the DSD does not judge from the first epoch on, the curve of its
# feature loss begins where it does.

# %% [markdown]
# ## Evaluation
#
# Of the epochs that the DSD judged, that with the best validation PSNR is evaluated on the test split, once, by the
# generator alone. Predictions are clipped to the limits, scaled to 0..255 and rounded, as a saved image would be. *Skill* is 1 − ΣMSE / ΣMSE of the
# training set's mean colour, summed over the patches: 0 is as good as one colour. An interval is a 95 %
# bootstrap over contiguous blocks of patches; with fewer than ten independent regions it describes these regions and
# claims nothing beyond them.

# %%
shown = {"psnr": "PSNR (dB)", "ssim": "SSIM", "skill": "skill", "offset_free_psnr": "PSNR without offset (dB)"}
rows = [
    {"metric": label, **{key: record["metrics"][name][key] for key in ("mean", "low", "high")}}
    for name, label in shown.items()
]
evaluation = record["evaluation"]
conditions = (
    f"{run.name} on {'SYNTHETIC data' if record['dataset']['synthetic'] else record['dataset']['name']}, "
    f"{evaluation['split']} split, {evaluation['patches']} patches of {record['dataset']['patch_size']} px in "
    f"{len(evaluation['groups'])} region{'s' * (len(evaluation['groups']) > 1)}, {evaluation['clusters']} cluster{'s' * (evaluation['clusters'] > 1)}; {evaluation['interval']}; "
    f"data range: {evaluation['data_range']}; best of {epochs} epochs."
)
formats = {"mean": ".3f", "low": ".3f", "high": ".3f"}
Markdown(figures.metric_table(rows, conditions, f"tab-metrics-{generator}", formats))

# %% mystnb={"figure": {"caption": "Best, median and worst test patch by PSNR."}, "image": {"alt": "SAR, optical and generated patches"}}
network, config = checkpoints.load_generator(run)
test = Triplets(dataset_root, "test")
order = patches["psnr"].argsort().to_numpy()
examples = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
pictures, captions = [], []
for title, position in examples.items():
    item = test[int(position)]
    with torch.no_grad():
        fake = network(item["sar"][None])[0]
    views = (figures.sar_picture(item["sar"]), figures.opt_picture(item["opt"]), figures.opt_picture(fake))
    pictures.append(dict(zip(("SAR", figures.opt_name(test.info["opt"]["bands"]), generator), views, strict=True)))
    captions.append({generator: f"{patches['psnr'][position]:.1f} dB / {patches['ssim'][position]:.3f}"})
    print(f"{title}: {test.index['id'][position]}, {captions[-1][generator]}")
figure = figures.comparison(pictures, captions, titles=[*examples])
# %% tags=["nbval-check-output"]
assert set(config["generator"]) and len(patches) == len(test)
print(f"{run.name}: {record['complexity']['parameters']:,} parameters, {record['samples_seen']:,} samples seen")
