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
# # The networks
#
# Three generators and one discriminator. All three generators map a radar image to an optical one of the same size;
# the discriminator sees radar and optical images together and knows land cover. This notebook states each network's
# size and cost and asserts what the text claims. Weights are random here; the next
# chapters train them.

# %% tags=["parameters"]
dataset_root: str = "data/quick"
seed: int = 0
dsd_steps: int = 180  # of a small DSD, to see what it learns; the paper's is trained in 03_train

# %%
import torch
from IPython.display import Markdown
from torch.utils.data import DataLoader
from tqdm import tqdm

from s2olib import figures
from s2olib.data.triplets import Triplets
from s2olib.dsd import DSD
from s2olib.generators import complexity, create_generator
from s2olib.losses import FeatureLoss, optical_sensitivity, segmentation_loss
from s2olib.patchgan import PatchGAN

_ = torch.manual_seed(seed)

# %% [markdown]
# ## Size and cost at the talk's scale
#
# The talk gives the RHAGs of HAT and S2OFormer: four groups of depth 4, 4 heads, windows of 8 pixels. It does not give
# their width; 96 is our choice. We count one image of 256 x 256 pixels, two radar bands in and three colours out. A MAC
# is one multiplication with its addition. Nothing is computed: the networks live on PyTorch's meta device.

# %%
rhag = {"embed_dim": 96, "depths": (4, 4, 4, 4), "num_heads": (4, 4, 4, 4), "window_size": 8, "mlp_ratio": 2.0}
configurations = {"U-Net": ("unet", {"embed_dim": 64}), "HAT": ("hat", rhag), "S2OFormer": ("s2oformer", rhag)}
cost = {}
with torch.device("meta"):
    for label, (name, config) in configurations.items():
        generator = create_generator(name, in_channels=2, out_channels=3, **config)
        cost[label] = complexity(generator, (1, 2, 256, 256))
    cost["DSD (training only)"] = complexity(DSD(2, 3, 4), (1, 2, 256, 256), (1, 3, 256, 256))
    cost["PatchGAN (pix2pix only)"] = complexity(PatchGAN(2, 3), (1, 2, 256, 256), (1, 3, 256, 256))

# %% tags=["nbval-check-output"]
rows = [
    {"network": label, "parameters (M)": weights / 1e6, "GMAC at 256²": macs / 1e9}
    for label, (weights, macs) in cost.items()
]
Markdown(figures.metric_table(rows, "Networks at the talk's scale.", "tab-networks"))

# %% [markdown]
# The pix2pix U-Net {cite}`isola2017` has 54.41 M parameters, HAT {cite}`chen2023` at this width 2.89 M. U-Net has nineteen
# times HAT's weights and a small part of its arithmetic: parameters and cost are different things. S2OFormer must not
# win by being larger, so we hold it to HAT's numbers.

# %% tags=["nbval-check-output"]
assert round(cost["U-Net"][0] / 1e6, 2) == 54.41
assert round(cost["HAT"][0] / 1e6, 2) == 2.89
assert round(cost["PatchGAN (pix2pix only)"][0] / 1e6, 2) == 2.77
assert cost["S2OFormer"][1] <= cost["HAT"][1] and cost["S2OFormer"][0] <= cost["HAT"][0]
print(f"S2OFormer: {cost['S2OFormer'][1] / cost['HAT'][1]:.2f} of HAT's MACs")

# %% [markdown]
# ## S2OFormer
#
# HAT works at full resolution throughout: good for super-resolution, where the input is a clean small image. A radar
# image is full-sized and speckled. Averaging is what suppresses speckle, and context is what tells a field from a lake.
# So S2OFormer moves most of its RHAGs to coarser scales, where a window of 8 pixels sees further and attention is
# cheap, and hands fine detail around them by skip connections. The code below is what runs:
#
# ```{literalinclude} /s2olib/generators/s2oformer.py
# :pyobject: S2OFormer
# ```

# %% [markdown]
# Any size works, since each generator pads its input to what it needs and crops the result.

# %% tags=["nbval-check-output"]
small = {"embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2), "window_size": 8}
settings = {"unet": {"embed_dim": 8, "levels": 5}, "hat": small, "s2oformer": small}
for name, config in settings.items():
    generator = create_generator(name, in_channels=2, out_channels=3, **config).eval()
    with torch.no_grad():
        print(name, [tuple(generator(torch.zeros(1, 2, *size)).shape[2:]) for size in ((64, 64), (51, 70), (128, 5))])

# %% [markdown]
# ## The Deep Semantic Discriminator
#
# The DSD is a segmentation network for radar *and* optical images: SNUNet {cite}`fang2022` with an encoder for each of
# the two and a fusion at every scale. It learns land cover from training pairs. Its deepest fused map then compares a real
# with a generated optical image, beside the same radar image. That only works if the deepest map depends on the optical
# image: a map of radar alone would be the same for both, and the loss zero for any picture. So we measure it.

# %%
data = Triplets(dataset_root, "validation")
data = data if len(data) > 1 else Triplets(dataset_root, "train")  # an image is compared with another one
figures.use_style(synthetic=data.info["synthetic"])
items = [data[i] for i in range(0, len(data), max(1, len(data) // 4))][:4]
sar, opt = torch.stack([item["sar"] for item in items]), torch.stack([item["opt"] for item in items])
dsd = DSD(data.sar_channels, data.opt_channels, max(data.num_classes, 2), width=8)  # batch statistics: it is untrained
with torch.no_grad():
    logits, deepest = dsd(sar, opt)
    sensitivity = optical_sensitivity(dsd, sar, opt, opt.roll(1, 0)).mean().item()
least = 0.1 if data.info["synthetic"] else 0  # real images may differ from each other by little
assert sensitivity > least, f"the deepest map hardly depends on the optical image: {sensitivity:.3f}"

# %% tags=["nbval-check-output"]
print("logits ", tuple(logits.shape))
print("deepest", tuple(deepest.shape))

# %% mystnb={"figure": {"name": "fig-features", "caption": "Five channels of the DSD's deepest map for one radar image with its own optical image and with another one. Random weights: the maps differ already, so the loss has something to pull on."}, "image": {"alt": "Feature maps of the DSD for two optical images"}}
with torch.no_grad():
    other = dsd(sar[:1], opt[1:2])[1][0]
figure = figures.feature_maps({"own optical": deepest[0], "another's": other})
# %% [markdown]
# In the generator's step the DSD is frozen and its batch normalisation uses its running statistics. Features are
# standardised, so that the loss does not depend on the scale of the DSD's weights. The gradient reaches the generated
# image, and nothing else.

# %% tags=["nbval-check-output"]
fake = torch.zeros_like(opt, requires_grad=True)
loss = FeatureLoss(dsd)
loss(sar, opt, opt)  # the running statistics see a batch before they are used
loss(sar, opt, fake).backward()
print("gradient on the generated image:", bool(fake.grad.abs().sum() > 0))
print("gradient on the DSD:", any(weight.grad is not None for weight in dsd.parameters()))

# %% [markdown]
# ## What the deepest features see
#
# Random weights react to everything. What does a DSD react to that has learned land cover? We train a small one for
# half a minute (data without land cover leaves it as it is), and then show it one patch in four versions: as it is,
# blurred, with less contrast, and with the two halves of the optical image exchanged, so that land cover no longer
# agrees with radar.

# %%
train = Triplets(dataset_root, "train", crop_size=min(64, data.info["patch_size"]), seed=seed)
steps = dsd_steps if train.has_lulc else 0
optimizer = torch.optim.Adam(dsd.parameters(), 3e-4)  # the talk's rate: at 2e-3 the map may turn away from the image
bar, losses = tqdm(total=steps, unit="step"), []
while len(losses) < steps:
    train.set_epoch(len(losses))
    random = torch.Generator().manual_seed(len(losses))
    for batch in DataLoader(train, min(4, len(train)), shuffle=True, generator=random, drop_last=True):
        losses.append(segmentation_loss(dsd(batch["sar"], batch["opt"])[0], batch["lulc"]))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
        bar.update()
        if len(losses) >= steps:
            break
bar.close()
assert steps < 20 or sum(losses[-5:]) < sum(losses[:5])

# %% [markdown]
# Below each version: the deepest map's three strongest directions as red, green and blue, the same directions in every
# column; and how far the map moved from that of the first, dark where it did not, on one scale. Their mean is what
# the feature loss charges.


# %% mystnb={"figure": {"name": "fig-deepest", "caption": "One patch for the DSD, whose radar image is the same for each of four versions of the optical one (top): the deepest features (middle), and how far they are from those of the patch as it is (bottom; brighter is farther). A small DSD after half a minute of training. Colours are relative to the mean of four patches."}, "image": {"alt": "Four versions of an optical patch, the deepest features and their distances"}}
chosen = opt.std((1, 2, 3)).argmax()  # the most varied of the four patches
real, size = opt[chosen], opt.shape[-1]
versions = {
    "as it is": real,
    "blurred": torch.nn.functional.avg_pool2d(real, 9, 1, 4, count_include_pad=False),
    "low contrast": real.mean((1, 2), keepdim=True) + 0.5 * (real - real.mean((1, 2), keepdim=True)),
    "halves exchanged": real.roll(size // 2, -1),
}
with torch.no_grad():
    usual = dsd.eval().deepest(sar, opt)
    spread = usual.std((0, 2, 3), keepdim=True).clamp(min=1e-6)
    spread = spread.clamp(min=0.1 * spread.mean())
    pairs = sar[chosen].expand(len(versions), -1, -1, -1), torch.stack(list(versions.values()))
    features = dsd.deepest(*pairs) / spread
    moved = (features - features[:1]).square().mean(1)
    features -= usual.mean(0, keepdim=True) / spread  # what all patches share: mostly the image's border
    directions = torch.linalg.svd(features[0].flatten(1), full_matrices=False).U[:, :3]
    seen = torch.einsum("nchw,cd->nhwd", features, directions)
    low, high = seen[0].amin((0, 1)), seen[0].amax((0, 1))
    seen = ((seen - low) / (high - low)).clamp(0, 1).numpy()
charged = moved.mean((1, 2))
rows = [
    {name: figures.opt_picture(version) for name, version in versions.items()},
    dict(zip(versions, seen, strict=True)),
    dict(zip(versions, (moved / moved.max())[..., None].expand(-1, -1, -1, 3).sqrt().numpy(), strict=True)),
]
figure = figures.comparison(rows, titles=["optical", "deepest map", "moved"])

# %%
for name, value in zip(versions, charged, strict=True):
    print(f"{name:18}{value:7.3f}")
assert charged[0] == 0 and (charged[1:] > 0).all()
with torch.no_grad():
    sensitivity = optical_sensitivity(dsd, sar, opt, opt.roll(1, 0)).mean().item()
assert sensitivity > least, f"the deepest map hardly depends on the optical image: {sensitivity:.3f}"

# %% [markdown]
# **What to notice.** The deepest map is coarse: one cell stands for 16 x 16 pixels. A DSD that saw meaning alone would
# move where one kind of cover became another, and nowhere for a blurred or a pale picture, in which every thing keeps its
# place. The numbers say how far this one is from that: what blur and contrast move is appearance, and the feature loss
# punishes it too. (Each picture is the root of its distances, on one scale; some of what moves at the border is padding.)
# **What this does not show.** Half a minute on a few synthetic scenes shows how to look at a DSD, and nothing about the
# paper's; early in training the order still changes from minute to minute, so that we do not assert it.
#
# SNUNet is a choice. An encoder of timm that gives feature maps can be the DSD by its name; maps that are no whole
# fractions of the image are brought to such a size, and models without maps are refused in a sentence. The fusion at
# every scale stays, and with it the dependence on the optical image.

# %% tags=["nbval-check-output"]
for encoder in ("snunet", "resnet18", "convnext_atto"):
    other = DSD(data.sar_channels, data.opt_channels, max(data.num_classes, 2), width=8, encoder=encoder)
    with torch.no_grad():
        shape = tuple(other(sar, opt)[1].shape)
        assert optical_sensitivity(other, sar, opt, opt.roll(1, 0)).mean() > least
    print(f"{encoder:15} deepest map {shape}")
