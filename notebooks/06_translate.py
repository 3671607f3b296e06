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
# # A scene of your own
#
# A network learns from patches; a user has a scene. Here a trained generator turns a whole Sentinel-1 GeoTIFF into a
# picture for a GIS: on the same grid, without visible tiles, in memory that does not grow with the scene.
#
# **The picture is generated from radar. It is not an observation**, and says so in its file. Colours are what the
# network has learned to expect; a field that looks green was not seen to be green.

# %% tags=["parameters"]
scene: str = ""  # your GeoTIFF; empty: a large synthetic scene
target: str = ""  # the GeoTIFF to write; empty: in run_root/translation, under the scene's name
weights: str = ""  # a folder with a generator, as those in weights/; empty: the run that the next lines name
run_root: str = "runs/quick"
generator: str = "s2oformer"  # unet | hat | s2oformer
tag: str = "dsd"
seed: int = 0
bands: list = []  # of the file, in the weights' order; empty: by their names
sar_units: str = "auto"  # auto | dB | linear | 8-bit
stretch: list = []  # dB that become grey levels 0 and 255, for weights trained on 8-bit images
output: str = "8-bit"  # 8-bit | reflectance
tile_size: int = 512  # pixels
overlap: int = 128
device: str = "auto"

# %%
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import rasterio
import torch
from IPython.display import HTML, Markdown, display
from rasterio.windows import Window
from rio_cogeo import cog_validate

from s2olib import figures, records
from s2olib.data import embedded, sar
from s2olib.project import resolve
from s2olib.training import peak_memory
from s2olib.translation import gradient, seam_ratio, tile_edges, translate

figures.use_style(synthetic=not scene)
run = resolve(weights) if weights else resolve(run_root) / records.run_name(generator, tag, seed)
folder = resolve(run_root) / "translation"
folder.mkdir(parents=True, exist_ok=True)


def scaled(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Values (C, H, W) as pictures take them: limits per band become −1 and 1."""
    return (values - low[:, None, None]) / (high - low)[:, None, None] * 2 - 1


# %% [markdown]
# ## The scene
#
# Any GeoTIFF with the bands that the weights ask for will do: `-p scene my.tif`. Without one, the synthetic world is
# asked for more of itself: a scene of the coast of Mikuni, about three times as wide and as high as those of the archive.


# %% tags=["nbval-check-output"]
if not scene:
    place = next(place for place in embedded.scenes() if place.name == "Mikuni")
    land = embedded.make_scene(replace(place, shape=(1680, 1680)))
    inner = np.s_[:, embedded.FRAME : -embedded.FRAME, embedded.FRAME : -embedded.FRAME]
    decibels, reflectance = land["s1"][inner], land["s2"][[3, 2, 1]][inner] / 10000
    decibels[:, :200, :300] = np.nan  # what no pass has seen must stay empty
    profile = {"driver": "GTiff", "count": 2, "height": 1664, "width": 1664, "dtype": "float32", "nodata": np.nan}
    with rasterio.open(
        folder / "synthetic-mikuni.tif", "w", **profile, crs=place.crs, transform=place.transform
    ) as file:
        file.write(decibels)
        file.descriptions = ("VV", "VH")
source = resolve(scene) if scene else folder / "synthetic-mikuni.tif"
with sar.opened(source) as file:
    print(f"{file.width} x {file.height} pixels, {file.count} bands, {file.crs}")

# %% [markdown]
# ## The translation
#
# One call, the same as `python -m s2olib.translation IN.tif OUT.tif --weights RUN`. It works through rows of tiles that
# overlap by a quarter of their side. The outer part of the overlap is dropped, because there the network sees padding
# instead of land; over the rest, one tile fades into the next. What each pixel's value means comes from the limits in
# the checkpoint, never from the tile: a tile that is stretched over its own minimum and maximum would show.

# %%
result = resolve(target) if target else folder / f"{source.stem}-{run.name}.tif"
options = {"bands": bands, "sar_units": sar_units, "stretch": tuple(stretch) or None, "device": device}
options |= {"output": output, "tile_size": tile_size, "overlap": overlap, "overwrite": True}
report = translate(source, result, run, **options)

# %% tags=["nbval-check-output"]
print("\n".join(report["notes"]))
print(f"bands {', '.join(report['bands'])}; {report['valid']:.1%} of the pixels are valid")

# %% [markdown]
# The file is a cloud-optimized GeoTIFF: small pictures of the whole are in it, and a window can be read without the
# rest. Its grid is the input's, its mask says where there was nothing to translate, its tags say what made it.

# %% tags=["nbval-check-output"]
with sar.opened(source) as given, rasterio.open(result) as made:
    assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)
    print(made.tags()["TIFFTAG_IMAGEDESCRIPTION"])
    print("overviews", made.overviews(1), "tags", ", ".join(sorted(made.tags())))
    optical = json.loads(made.tags()["NORMALISATION"])["opt"]
    limits = optical["limits"] if optical["units"] == "reflectance" else [[0, 0.3]] * 3  # of the optical image below
    shown = np.array(limits if output == "reflectance" else [[0, 255]] * 3).T / made.scales[0]  # black and white
assert cog_validate(result, strict=True)[0]

# %% mystnb={"figure": {"caption": "The whole scene, from its overviews where it has 2000 pixels or more. Grey: no data.", "name": "fig-scene"}, "image": {"alt": "Map of the translated scene with scale bar and north arrow"}}
with rasterio.open(result) as made:
    scale = max(1, max(made.shape) // 1000)
    shape = (made.height // scale, made.width // scale)
    small = figures.opt_picture(scaled(made.read((1, 2, 3), out_shape=(3, *shape)), *shown))
    picture = np.dstack([small, made.dataset_mask(out_shape=shape)])
    on_map = (
        made.crs and (made.crs.is_projected or made.crs.is_geographic) and not (made.transform.b or made.transform.d)
    )
    place = (made.bounds, made.crs) if on_map else ((0, made.height, made.width, 0), None)
    figure = figures.scene_map(picture, *place)
    figure.axes[0].set_title(f"{source.stem}, translated by {run.name}")

# %% [markdown]
# A training of minutes, as in the profile `quick`, tells water from land and little else, and takes rough water for bare
# ground. What matters here is what is *not* in the picture: tiles.
#
# ## Closer, where four tiles meet
#
# Where the scene is larger than a tile, a corner of four is in the middle of the picture. Can you find it?

# %%
with sar.opened(source) as given, rasterio.open(result) as made:
    rows, columns = (tile_edges(length, tile_size, overlap) for length in made.shape)
    middle, size = np.divide(made.shape, 2), min(320, *made.shape)
    corners = sorted(itertools.product(rows or [0], columns or [0]), key=lambda corner: math.dist(corner, middle))
    windows = [Window(max(0, column - size // 2), max(0, row - size // 2), size, size) for row, column in corners]
    window = next((w for w in windows if made.dataset_mask(window=w).mean() > 127), windows[0])  # most of it is valid
    radar = given.read(report["indexes"], window=window, masked=True).astype(np.float32).filled(np.nan)
    colours = made.read((1, 2, 3), window=window)
views = scaled(radar, *np.nanquantile(radar, [0.02, 0.98], axis=(1, 2))), scaled(colours, *shown)
pictures = figures.sar_picture(views[0]), figures.opt_picture(views[1])
display(HTML(figures.swipe(*pictures, "SAR, stretched", "generated, not observed")))

# %% [markdown]
# Eyes forgive; a measure does not. Across every line where a tile begins, ends, or begins or ends to fade, we take the
# mean step between neighbouring pixels, and divide it by that of the lines a few pixels beside it, where nothing of the
# kind happens. 1 is seamless. Ten tiles a side, from the upper left corner, are enough.

# %%
with rasterio.open(result) as made:
    side = tile_size + 9 * (tile_size - overlap)
    corner = Window(0, 0, min(side, made.width), min(side, made.height))
    valid = made.dataset_mask(window=corner) > 0
    ratio = seam_ratio(made.read((1, 2, 3), window=corner), tile_size, overlap, valid)
print(f"gradient across tile edges / beside them: {ratio:.3f}" if ratio == ratio else "one tile: it has no edges")

# %% [markdown]
# ## Where the network is unsure
#
# A radar image that is mirrored or moved by four pixels shows the same land. Where the colours change when we do that,
# the network decides by accident. On request the translation adds this spread as a band: the standard deviation over
# four flips, each with and without a shift. It costs seven more passes, so we ask for it on a part alone, whose optical
# image we know.

# %% mystnb={"figure": {"caption": "Generated, its spread over flips and shifts, and its error: brighter is more.", "name": "fig-spread"}, "image": {"alt": "Generated image, uncertainty band and error"}}
if not scene:
    part = np.s_[:, 704:1216, 704:1216]
    with rasterio.open(folder / "part.tif", "w", **profile | {"height": 512, "width": 512}) as file:
        file.write(decibels[part])
        file.descriptions = ("VV", "VH")
    whole = options | {"output": "8-bit", "tile_size": 512, "overlap": 128}
    translate(folder / "part.tif", folder / "spread.tif", run, **whole, uncertainty=True)
    with rasterio.open(folder / "spread.tif") as made:
        colours, spread = made.read((1, 2, 3)), made.read(4) * made.scales[3]
    observed = figures.opt_picture(scaled(reflectance[part], *np.array(limits).T))
    error = np.sqrt(((colours - observed.transpose(2, 0, 1).astype(float)) ** 2).mean(0))
    bright = [np.uint8(255 * np.clip(layer / np.quantile(layer, 0.98), 0, 1)) for layer in (spread, error)]
    pictures = [observed, colours.transpose(1, 2, 0)]
    pictures += [np.repeat(layer[..., None], 3, 2) for layer in bright]
    figure = figures.comparison([dict(zip(("optical", "generated", "spread", "error"), pictures, strict=True))], wrap=2)

# %% mystnb={"figure": {"caption": "Error by spread, the means of tenths of the pixels sorted by spread.", "name": "fig-reliability"}, "image": {"alt": "Curve of the mean error over the mean spread"}}
if not scene:
    figure = figures.reliability(spread, error)

# %% [markdown]
# **What to notice.** Where the curve rises, the band knows *where* the picture is worse; where it is flat, it says nothing. That it does not start
# at zero says that it does not know *how much*: spread is only that part of the error which flips and shifts bring
# about, and what the network gets wrong in every direction alike stays hidden: compare the brightest squares of the two
# panels, each of which is scaled to its own 98 % quantile.
#
# That part fits one tile, so that it was translated without any seam. It tells us what the measure above could not: how
# steep the picture is *in the same places* when no tile ends there.

# %%
inside = [] if scene else [edge - 704 for edge in tile_edges(1664, tile_size, overlap) if 768 <= edge <= 1152]
if inside:
    with rasterio.open(result) as made:
        tiled = scaled(made.read((1, 2, 3), window=Window(704, 704, 512, 512)), *shown)
    steps = [sum(gradient(image, axis)[inside].sum() for axis in (1, 2)) for image in (tiled, colours / 127.5)]
    print(f"gradient across tile edges / in the same places without them: {steps[0] / steps[1]:.3f}")
    assert abs(steps[0] / steps[1] - 1) < 0.02

# %% [markdown]
# ## What it took

# %%
memory = peak_memory(torch.device("cpu"))
speed = report["width"] * report["height"] / report["seconds"] / 1e6
cost = f"{report['seconds']:.0f} s, {speed:.2f} megapixels a second, {report['precision']}"
Markdown(f"{report['width']} × {report['height']} pixels in {cost}; at most {memory:.1f} GiB in this process.")

# %% [markdown]
# A translation that is interrupted goes on from its last row of tiles when the same command is given again, and ends in
# the same file. **What this does not show.** That the colours are right: a network translates anything, also a desert
# when it has learned from Japan, and radar that was processed in another way than its training data. The tables of
# [the results](04_results) hold for data like those it was trained on, and for no other.
