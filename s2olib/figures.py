"""Every picture of the book, in one style: light, colour-blind safe (Okabe & Ito 2008), readable from 375 px on.

Functions take arrays and rows of records and return a matplotlib ``Figure`` (or text to display); nothing is measured
here but the plain shares of a bar chart. Arrays may be tensors on the CPU. The same input gives the same PNG bytes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import itertools
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from s2olib.data.landcover import CATEGORY_COLOURS, LEGENDS, find_legend
from s2olib.project import InputError, writing

INTRODUCED = ("SAR", "OPT", "S2OFormer")  # pictures that the introduction shows, by name
WIDTH = 6.8  # inches of every figure: at 375 px the 11 pt type is still 8 px high
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe & Ito, darkest first
SPLIT_STYLE = {"train": ("#0072B2", "o"), "validation": ("#E69F00", "^"), "test": ("#D55E00", "s")}
KM_PER_DEGREE = 111.32  # of latitude
OWN_COLOURS = ("#56B4E9", "#CC79A7", "#E69F00", "#332288", "#882255", "#44AA99", "#999933", "#AA4499")
NO_DATA_COLOUR = "#e6e6e6"


def use_style(*, synthetic: bool = False) -> None:
    """Set the book's style for every figure that follows; each of `synthetic` data says so at its foot."""
    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "figure.dpi": 150,
            "savefig.dpi": 150,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#dddddd",
            "lines.linewidth": 1.8,
            "axes.prop_cycle": mpl.cycler(color=SERIES),
            "image.interpolation": "nearest",
            "svg.hashsalt": "s2olib",
            "figure.hooks": [f"{__name__}:say_synthetic"] if synthetic else [],
        }
    )


def say_synthetic(figure: Figure) -> None:
    """Mark a figure of synthetic data, so that it stays marked when it is taken out of its page."""
    figure.set_figheight(figure.get_figheight() + 0.2)
    figure.supxlabel("synthetic data", x=0.995, ha="right", fontsize=9, fontstyle="italic", color="#555555")


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG or SVG, without date or version, and close it."""
    metadata = {"Date": None, "Creator": None} if Path(path).suffix == ".svg" else {"Software": None}
    with writing(path) as aside:
        figure.savefig(aside, metadata=metadata)
    plt.close(figure)


def sar_picture(sar: Any) -> np.ndarray:
    """SAR (Cs, H, W) in [-1, 1] → (H, W, 3) uint8: red VV, green VH, blue VV less VH; one band alone in grey."""
    sar = _array(sar)
    if sar.ndim != 3:
        raise InputError(f"sar has shape {sar.shape}: a picture needs (bands, H, W).")
    if len(sar) == 1:
        return _to_rgb(np.repeat(sar, 3, 0))
    vv, vh = sar[:2]
    return _to_rgb(np.stack([vv, vh, vv - vh]))


def opt_picture(opt: Any) -> np.ndarray:
    """Optical image (3, H, W) in [-1, 1] → (H, W, 3) uint8, as a saved file would hold it."""
    opt = _array(opt)
    if opt.ndim != 3 or len(opt) != 3:
        raise InputError(f"opt has shape {opt.shape}: a picture needs (3, H, W), red, green, blue.")
    return _to_rgb(opt)


def _array(values: Any) -> np.ndarray:
    """As float32, a tensor of any type among them, whether it has a gradient or not."""
    return np.asarray(values.detach().float() if hasattr(values, "detach") else values, np.float32)


def opt_name(bands: Sequence[str]) -> str:
    """What an optical picture is called: OPT, and its bands where they are not red, green and blue."""
    return "OPT" if list(bands) == ["red", "green", "blue"] else f"OPT ({', '.join(bands)})"


def lulc_picture(lulc: Any, categories: Sequence[str]) -> np.ndarray:
    """Land-cover categories (H, W) → (H, W, 3) uint8 in their fixed colours, no data in light grey."""
    table = np.array([_rgb(NO_DATA_COLOUR)] * 256, np.uint8)
    table[: len(categories)] = [_rgb(colour) for colour in category_colours(categories)]
    return table[np.asarray(lulc)]


def category_colours(categories: Sequence[str]) -> list[str]:
    """The fixed colour of each category, or of a product's own class where nothing was merged."""
    legends = [find_legend(name) for name in LEGENDS]
    known = {legend.names[code]: colour for legend in legends for code, colour in legend.colours.items()}
    known |= CATEGORY_COLOURS
    own = [name for name in categories if name not in known]  # of a legend of your own: any colours that differ
    known |= dict(zip(own, itertools.cycle(OWN_COLOURS), strict=False))
    return [known[name] for name in categories]


def triplet_grid(items: Sequence[Mapping[str, Any]], titles: Sequence[str], categories: Sequence[str] = ()) -> Figure:
    """Items of the data set (`sar`, `opt` and, where there is any, `lulc`), one a column: SAR, optical, land cover."""
    has_lulc = "lulc" in items[0]
    rows = ["SAR", "OPT", "LULC"][: 2 + has_lulc]
    cell = (WIDTH - 0.3) / len(items)
    figure, axes = _image_grid(len(rows), len(items), cell * len(rows) + 0.3 + 0.3 * has_lulc)
    for column, (item, title) in enumerate(zip(items, titles, strict=True)):
        words = _wrapped(title, cell * 0.85)
        pictures = [sar_picture(item["sar"]), opt_picture(item["opt"])]
        if has_lulc:
            pictures.append(lulc_picture(item["lulc"], categories))
        for ax, picture in zip(axes[:, column], pictures, strict=True):
            ax.imshow(picture)
        axes[0, column].set_title(words, fontsize=9)
    for ax, name in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(name)
    if has_lulc:
        _category_legend(figure, categories)
    return figure


def comparison(
    rows: Sequence[Mapping[str, np.ndarray]],
    captions: Sequence[Mapping[str, str]] = (),
    *,
    titles: Sequence[str] = (),
    categories: Sequence[str] = (),
    wrap: int = 3,
) -> Figure:
    """Pictures (H, W, 3) side by side, by column name (SAR, OPT, LULC, U-Net, HAT, S2OFormer).

    One row alone is wrapped evenly, after `wrap` pictures at the latest, so that a telephone still shows them; several
    rows (named by `titles`) keep one line each. `captions` give the text under a row's pictures by name, PSNR and SSIM
    under a generated one, broken at " / " where columns are narrow; `categories` add the legend of a LULC column.
    """
    captions = list(captions) or [{}] * len(rows)
    columns = len(rows[0]) if len(rows) > 1 else math.ceil(len(rows[0]) / math.ceil(len(rows[0]) / wrap))
    cells = [(row, name, i) for i, row in enumerate(rows) for name in row]
    lines = math.ceil(len(cells) / columns)
    cell = WIDTH / columns
    text = 0.25 * (len(rows) == 1) + 0.2 * any(captions) * (1 + (columns > 3))  # inches of words about a picture
    figure, axes = _image_grid(lines, columns, lines * (cell + text) + 0.25 * (len(rows) > 1) + 0.3 * bool(categories))
    size = min(11, 32 / columns + 4)
    for ax, (row, name, i) in zip(axes.flat, cells, strict=False):
        ax.imshow(row[name])
        if len(rows) == 1 or i == 0:
            ax.set_title(name if columns <= 3 else name.replace(" (", "\n("), fontsize=min(11, size + 1))
        caption = captions[i].get(name, "")
        ax.set_xlabel(caption if columns <= 3 else caption.replace(" / ", "\n"), fontsize=size)
    for ax in axes.flat[len(cells) :]:
        ax.set_visible(False)
    for ax, title in zip(axes[:, 0], titles, strict=False):
        ax.set_ylabel(_wrapped(title, cell), fontsize=size)
    _category_legend(figure, categories)
    return figure


def split_map(index: pd.DataFrame, places: Mapping[str, tuple[float, float]]) -> Figure:
    """Where the windows lie, by split: columns `lon`, `lat` (degrees) and `split`; `places` (lon, lat) among them are
    named.

    Japan's outline is drawn behind them (Natural Earth, 1:10,000,000, public domain; simplified, main islands). Where
    the windows spread further than some 100 km, a second map shows the surroundings of the places, if any lies there,
    and without places those of the degree that has most windows.
    """
    if not len(index) or index[["lon", "lat"]].isna().any(axis=None):
        raise InputError("The index has windows without lon and lat: there is no map of data without geography.")
    if np.ptp(index["lon"]) > 180:  # on both sides of 180 degrees
        index = index.assign(lon=index["lon"] % 360)
        places = {name: (lon % 360, lat) for name, (lon, lat) in places.items()}
    panels = [_frame(index["lon"], index["lat"], 0.02)]
    lon, lat, half = panels[0]
    reach = half / math.cos(math.radians(lat)), half
    places = {n: p for n, p in places.items() if abs(p[0] - lon) < reach[0] and abs(p[1] - lat) < reach[1]}
    if panels[0][2] > 50 / KM_PER_DEGREE:
        degree = index.groupby([index["lon"].round(), index["lat"].round()])[["lon", "lat"]]
        centres = [*places.values()] or [degree.median().loc[degree.size().idxmax()]]
        lon, lat, half = frame = _frame(*zip(*centres, strict=True), 50 / KM_PER_DEGREE)
        east, north = (index["lon"] - lon).abs() * math.cos(math.radians(lat)), (index["lat"] - lat).abs()
        panels += [frame] if ((east < half) & (north < half)).any() else []
    figure, axes = plt.subplots(len(panels), 1, figsize=(WIDTH, WIDTH * 0.8 * len(panels)), squeeze=False)
    for i, (ax, frame) in enumerate(zip(axes.flat, panels, strict=True)):
        _draw_map(ax, index, *frame)
        for j, (name, place) in enumerate(places.items()):
            offset = (-20, 24 - 48 * (j % 2))  # above and below in turn, so that neighbours' names do not meet
            line = {"arrowstyle": "-", "color": "#555555"}
            ax.annotate(name, place, offset, textcoords="offset points", ha="right", va="center", arrowprops=line)
        if i:
            (west, east), (south, north) = ax.get_xlim(), ax.get_ylim()
            axes[0, 0].add_patch(Rectangle((west, south), east - west, north - south, fill=False, edgecolor="black"))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, handletextpad=0.2, columnspacing=1.2)
    return figure


def _frame(lon: Sequence[float], lat: Sequence[float], least: float) -> tuple[float, float, float]:
    """The centre (lon, lat) of a square map of points and half its side in degrees of latitude."""
    lon, lat = np.asarray(lon), np.asarray(lat)
    centre = (lon.max() + lon.min()) / 2, (lat.max() + lat.min()) / 2
    return *centre, max(np.ptp(lon) * math.cos(math.radians(centre[1])), np.ptp(lat), least) * 0.62


def _draw_map(ax: Axes, index: pd.DataFrame, lon: float, lat: float, half: float) -> None:
    """Windows by split, land, scale bar and north arrow within `half` degrees of latitude of a point."""
    narrowing = math.cos(math.radians(lat))
    for ring in json.loads((Path(__file__).parent / "japan.json").read_bytes()):
        ax.fill(*zip(*ring, strict=True), facecolor="#f2eee4", edgecolor="#888888", lw=0.7, zorder=0)
    for split, (colour, marker) in SPLIT_STYLE.items():
        of = index[index["split"] == split]
        if len(of):
            ax.scatter(of["lon"], of["lat"], s=26, c=colour, marker=marker, linewidths=0, label=f"{split} ({len(of)})")
    ax.set(
        xlim=(lon - half / narrowing, lon + half / narrowing),
        ylim=(max(-90, lat - half), min(90, lat + half)),
        aspect=1 / narrowing,
        xlabel="longitude (°)",
        ylabel="latitude (°)",
    )
    ax.locator_params(nbins=5)
    ax.ticklabel_format(useOffset=False)
    ax.spines[:].set_visible(True)
    _scale_and_north(ax, 2 * half * KM_PER_DEGREE)


def scene_map(picture: np.ndarray, bounds: Sequence[float], crs: Any) -> Figure:
    """A scene (H, W, 3 or 4 with alpha) as a map: coordinates, scale bar, north arrow; `crs` None gives pixels.

    `bounds` are left, bottom, right, top in the units of `crs` (rasterio's), projected or geographic. Give None of a
    scene that is turned against north; of one that is south-up, `bottom` is more than `top`, and it is turned round.
    """
    left, bottom, right, top = bounds
    if crs is not None and bottom > top:
        picture, bottom, top = picture[::-1], top, bottom
    geographic, unit = crs is not None and crs.is_geographic, 1.0
    if crs is not None and not geographic:
        unit = 1000 / crs.linear_units_factor[1]  # a kilometre
    narrowing = math.cos(math.radians((top + bottom) / 2)) if geographic else 1.0
    figure, ax = plt.subplots(figsize=(WIDTH, min(9, WIDTH * abs(top - bottom) / abs(right - left) / narrowing) + 0.3))
    ax.set_facecolor(NO_DATA_COLOUR)
    ax.imshow(picture, extent=np.array([left, right, bottom, top]) / unit, aspect=1 / narrowing)
    names = ("longitude (°)", "latitude (°)") if geographic else ("easting (km)", "northing (km)")
    ax.set(xlabel=names[0] if crs else "column", ylabel=names[1] if crs else "row")
    ax.grid(False)
    ax.locator_params(nbins=5)
    ax.ticklabel_format(useOffset=False, style="plain")
    if crs is not None:
        from rasterio.warp import transform  # which no other figure needs

        from s2olib.data.rasters import is_mercator

        across = (right - left) / unit * (KM_PER_DEGREE * narrowing if geographic else 1)
        if is_mercator(crs):
            _, (latitude,) = transform(crs, "EPSG:4326", [left], [(top + bottom) / 2])
            across *= math.cos(math.radians(latitude))
        _scale_and_north(ax, across)
    return figure


def reliability(spread: Any, error: Any) -> Figure:
    """The mean error of tenths of the pixels, sorted by their spread; both in grey levels of 255."""
    spread, error = _array(spread), _array(error)
    parts = np.array_split(np.argsort(spread, axis=None), 10)
    figure, ax = plt.subplots(figsize=(WIDTH, 2.8))
    ax.plot([spread.flat[part].mean() for part in parts], [error.flat[part].mean() for part in parts], "o-")
    ax.set(xlabel="spread (grey levels)", ylabel="error (grey levels)", xlim=(0, None), ylim=(0, None))
    return figure


def class_shares(index: pd.DataFrame) -> Figure:
    """Mean share of each land-cover category per split: columns `split` and ``share_<category>``."""
    names = [column for column in index if column.startswith("share_")]
    if not names:
        raise InputError("The index has no share_<category> columns: these data have no land cover.")
    categories = [name.removeprefix("share_") for name in names]
    splits = [split for split in SPLIT_STYLE if (index["split"] == split).any()]
    figure, ax = plt.subplots(figsize=(WIDTH, 1.1 + 0.5 * len(splits)))
    left = np.zeros(len(splits))
    for name, colour in zip(names, category_colours(categories), strict=True):
        shares = index.groupby("split")[name].mean()[splits].to_numpy() * 100
        ax.barh(splits, shares, left=left, color=colour, edgecolor="white")
        for y, (share, start) in enumerate(zip(shares, left, strict=True)):
            if share >= 6:
                text = {"ha": "center", "va": "center", "fontsize": 10, "color": _ink(colour)}
                ax.text(start + share / 2, y, f"{share:.0f}", **text)
        left += shares
    ax.invert_yaxis()
    ax.grid(False)
    ax.set(xlim=(0, 100), xlabel="share of pixels (%)")
    _category_legend(figure, categories)
    return figure


def training_curves(records: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> Figure:
    """The curves of runs, one panel for each quantity of `keys`, one line for each record.

    A record's `curves` are rows with an `epoch` (or such columns), counted from 0 and drawn from 1. Runs that lack a
    quantity are absent from its panel. A dotted line marks the `best_epoch` of a run that is alone.
    """
    curves = {name: pd.DataFrame(record["curves"]) for name, record in records.items()}
    columns = min(2, len(keys))
    lines = math.ceil(len(keys) / columns)
    figure, axes = plt.subplots(lines, columns, figsize=(WIDTH, 2.3 * lines + 0.5), squeeze=False)
    styles = ["-", "--", "-.", ":"]
    for ax, key in zip(axes.flat, keys, strict=False):
        for i, (name, curve) in enumerate(curves.items()):
            if key in curve:
                one = curve[["epoch", key]].dropna()
                colour, style = SERIES[i % len(SERIES)], styles[i % len(styles)]
                ax.plot(
                    one["epoch"] + 1, one[key], style, color=colour, label=name, marker="." if len(one) < 10 else ""
                )
        ax.set_title(key.replace("_", " ").replace("psnr", "PSNR (dB)").replace("miou", "mIoU"))
        if len(records) == 1 and "best_epoch" in (record := next(iter(records.values()))):
            ax.axvline(record["best_epoch"] + 1, color="#777777", ls=":", lw=1.2, zorder=0, label="evaluated")
        ax.xaxis.get_major_locator().set_params(integer=True, nbins=6)
    for ax in axes.flat[len(keys) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(0, len(keys) - columns) : len(keys)]:
        ax.set_xlabel("epoch")
    named = {line.get_label(): line for ax in axes.flat for line in ax.lines}
    figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=min(3, len(named)))
    return figure


def metric_table(
    rows: Sequence[Mapping[str, Any]], caption: str, name: str, formats: Mapping[str, str] | None = None
) -> str:
    """Rows of records as a numbered, citable MyST table, to show with ``Markdown(…)``.

    `formats` give a column's number format, values are written by `table_cell`.
    """
    if not rows:
        raise InputError(f"Table {name} has no rows: the runs it is made of have no records.")

    columns = list(rows[0])
    numeric = [all(row[c] is None or isinstance(row[c], int | float | np.number) for row in rows) for c in columns]
    lines = [[table_cell(column) for column in columns], ["---:" if right else ":---" for right in numeric]]
    lines += [[table_cell(row[column], (formats or {}).get(column)) for column in columns] for row in rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    caption = " ".join(caption.replace("`", "'").split())  # one line, which no backtick may stand in
    return f"```{{table}} {caption}\n:name: {name}\n\n{body}\n```"


def table_cell(value: Any, form: str | None = None) -> str:
    """A value as a table shows it, by its number format (default ``.2f`` for floats): None and NaN are a dash, a tuple
    (mean, low, high) is "mean [low, high]"."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return "–"
    if isinstance(value, tuple):
        return "{} [{},\u00a0{}]".format(*(table_cell(number, form) for number in value))
    if isinstance(value, float | np.floating) or form:
        value = format(value, form or ".2f").replace("-", "−")
    return str(value).replace("|", "\\|").replace("\n", " ")


def intervals_plot(table: Sequence[Mapping[str, Any]], label: str) -> Figure:
    """Means and their intervals, one line a row: `name`, `mean`, `low`, `high` and, where there are several, `seeds`.

    `label` names the metric and its unit. `kind` "descriptive" draws the interval dashed and the mean hollow; `seeds`
    are the means of the single seeds, small marks.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.42 * len(table)))
    for y, row in enumerate(table):
        descriptive = row.get("kind") == "descriptive"
        style = {"ls": "--" if descriptive else "-", "marker": "|", "ms": 7, "mew": 2}  # an end may fall between dashes
        ax.plot([row["low"], row["high"]], [y, y], color=SERIES[0], lw=2, **style)
        ax.plot(row["mean"], y, "o", color=SERIES[0], mfc="white" if descriptive else SERIES[0], ms=8)
        if len(seeds := row.get("seeds", ())) > 1:
            ax.plot(seeds, [y] * len(seeds), "|", color=SERIES[1], ms=13, mew=1.6)
    ax.set_yticks(range(len(table)), [row["name"] for row in table])
    ax.set(xlabel=label, ylim=(len(table) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    return figure


def feature_maps(features: Mapping[str, Any]) -> Figure:
    """The first five maps of each named feature tensor (C, H, W), each stretched over its own 1–99 % range."""
    figure, axes = _image_grid(len(features), 5, len(features) * (WIDTH / 5 + 0.05))
    for line, (name, feature) in zip(axes, features.items(), strict=True):
        feature = np.asarray(feature, np.float32)
        for ax, channel in zip(line, feature, strict=False):
            low, high = np.quantile(channel, [0.01, 0.99])
            ax.imshow(channel, cmap="cividis", vmin=low, vmax=max(high, low + 1e-12))
        for ax in line[len(feature) :]:
            ax.set_visible(False)
        line[0].set_ylabel(f"{name}\n{' × '.join(map(str, feature.shape))}", fontsize=10)
    return figure


def refused_examples(pictures: Sequence[np.ndarray], reasons: Sequence[str]) -> Figure:
    """Patches (H, W, 3) that the rules turned away, each with its reason."""
    columns = min(4, len(pictures))
    lines = math.ceil(len(pictures) / columns)
    cell = WIDTH / columns
    texts = [_wrapped(reason, cell) for reason in reasons]
    figure, axes = _image_grid(lines, columns, lines * (cell + 0.2 * max(text.count("\n") + 1 for text in texts)))
    for ax, picture, text in zip(axes.flat, pictures, texts, strict=False):
        ax.imshow(picture)
        ax.set_xlabel(text, fontsize=10)
    for ax in axes.flat[len(pictures) :]:
        ax.set_visible(False)
    return figure


SWIPE = """<figure id="{id}" style="--cut:50%">
<style>
#{id} {{ margin:1em auto; max-width:640px; }}
#{id} .view {{ position:relative; overflow:hidden; line-height:0; border-radius:4px; }}
#{id} img {{ width:100%; height:auto; margin:0; display:block; user-select:none; }}
#{id} img+img {{ position:absolute; inset:0; height:100%; clip-path:inset(0 0 0 var(--cut)); }}
#{id} .line {{ position:absolute; top:0; bottom:0; left:var(--cut); width:2px; margin-left:-1px; background:#fff;
  box-shadow:0 0 3px #000; pointer-events:none; }}
#{id} input {{ position:absolute; inset:0 auto 0 -22px; width:calc(100% + 44px); height:100%; margin:0; padding:0;
  appearance:none; -webkit-appearance:none; background:none; cursor:ew-resize; touch-action:pan-y; outline:none; }}
#{id} input::-webkit-slider-runnable-track {{ background:none; }}
#{id} input::-webkit-slider-thumb {{ -webkit-appearance:none; width:44px; height:44px; border-radius:50%;
  border:2px solid #fff; background:rgba(0,0,0,.35); box-shadow:0 0 3px #000; }}
#{id} input::-moz-range-track {{ background:none; }}
#{id} input::-moz-range-thumb {{ width:40px; height:40px; border-radius:50%; border:2px solid #fff;
  background:rgba(0,0,0,.35); box-shadow:0 0 3px #000; }}
#{id} input:focus-visible::-webkit-slider-thumb {{ outline:3px solid #0072B2; }}
#{id} input:focus-visible::-moz-range-thumb {{ outline:3px solid #0072B2; }}
#{id} figcaption {{ display:flex; justify-content:space-between; gap:1em; margin-top:.4em; }}
</style>
<div class="view"><img src="{left}" alt="{alt_left}"><img src="{right}" alt="{alt_right}"><div class="line"></div>
<input type="range" min="0" max="100" value="50" aria-label="Left of the line: {alt_left}. Right: {alt_right}."
 oninput="this.closest('figure').style.setProperty('--cut', this.value + '%')"></div>
<figcaption><span>◀ {alt_left}</span><span>{alt_right} ▶</span></figcaption>
</figure>"""


def swipe(left: np.ndarray, right: np.ndarray, alt_left: str, alt_right: str) -> str:
    """HTML of a before/after slider of two pictures (H, W, 3) uint8, worked by mouse, touch or arrow keys.

    No library: a range input over two WebP images, the upper one clipped at the line. The id comes from the content.
    """
    if left.shape != right.shape:
        raise InputError(f"left has shape {left.shape}, right {right.shape}: a slider needs two pictures of one size.")
    sources = [_data_uri(picture) for picture in (left, right)]
    alts = [html.escape(text) for text in (alt_left, alt_right)]
    identity = "swipe-" + hashlib.sha256("".join(sources + alts).encode()).hexdigest()[:12]
    return SWIPE.format(id=identity, left=sources[0], right=sources[1], alt_left=alts[0], alt_right=alts[1])


def save_pictures(pictures: Mapping[str, np.ndarray], folder: str | Path) -> None:
    """Write pictures (H, W, 3) uint8 by name as ``<name>.png`` into `folder`, in place of whatever it held."""
    with writing(folder) as aside:
        aside.mkdir()
        for name, picture in pictures.items():
            Image.fromarray(picture).save(aside / f"{name}.png")


def _data_uri(picture: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", quality=85, method=6)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _to_rgb(x: np.ndarray) -> np.ndarray:
    """(3, H, W) in [-1, 1] → (H, W, 3) uint8; NaN becomes black."""
    return np.rint((np.clip(np.nan_to_num(x, nan=-1), -1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(round(255 * channel) for channel in mpl.colors.to_rgb(colour))


def _ink(colour: str) -> str:
    """Black or white, whichever has more contrast on a colour (relative luminance, WCAG 2.2)."""
    encoded = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def _image_grid(lines: int, columns: int, height: float) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(lines, columns, figsize=(WIDTH, height), squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.04, wspace=0.02, hspace=0.02)
    for ax in axes.flat:
        _bare(ax)
    return figure, axes


def _bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)


def _category_legend(figure: Figure, categories: Sequence[str]) -> None:
    colours = category_colours(categories)
    patches = [Patch(color=colour, label=name) for name, colour in zip(categories, colours, strict=True)]
    if patches:
        columns = 4 if sum(map(len, categories)) <= 48 else 2
        spacing = {"handlelength": 1, "handletextpad": 0.4, "columnspacing": 1.1}
        figure.legend(handles=patches, loc="outside lower center", ncols=columns, **spacing)


def _wrapped(text: str, inches: float) -> str:
    """Text broken to fit a width at 10 or 11 points."""
    return "\n".join(textwrap.wrap(text, max(8, int(inches * 12)), break_on_hyphens=False))


def _scale_and_north(ax: Axes, km_across: float) -> None:
    """A scale bar and a north arrow on a map that is `km_across` wide, legible on any picture."""
    outline = [withStroke(linewidth=5, foreground="white")]
    length = _round_length(km_across * 0.3)
    place = {"transform": ax.transAxes, "path_effects": outline}
    ax.plot([0.95 - length / km_across, 0.95], [0.06] * 2, "k", lw=3, **place)
    ax.text(0.95, 0.075, f"{length:g} km", ha="right", va="bottom", **place)
    arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.5, "path_effects": outline}
    ax.annotate("", (0.95, 0.96), (0.95, 0.85), xycoords="axes fraction", arrowprops=arrow)
    ax.text(0.95, 0.84, "N", ha="center", va="top", **place)


def _round_length(km: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `km`."""
    power = 10.0 ** math.floor(math.log10(km))
    return max(m * power for m in (1, 2, 5) if m * power <= km)
