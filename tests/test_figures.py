import base64
import io
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from rasterio.crs import CRS

mpl.use("Agg")
from s2olib import figures
from s2olib.data.landcover import CATEGORY_COLOURS
from s2olib.metrics import to_8bit
from s2olib.project import InputError

CATEGORIES = ["water", "built-up", "farmland and grass", "forest"]


@pytest.fixture(autouse=True)
def style():
    figures.use_style()
    yield
    plt.close("all")


def index() -> pd.DataFrame:
    """Two groups 300 km apart, one a split, with shares of two categories."""
    rows = [
        {
            "split": split,
            "group": group,
            "lon": lon + 0.01 * i,
            "lat": 36.0,
            "share_water": water,
            "share_forest": 1 - water,
        }
        for split, group, lon, water in (("train", "Tsukuba", 139.9, 0.25), ("test", "Kaga", 136.3, 0.5))
        for i in range(4)
    ]
    return pd.DataFrame(rows)


def pixels(figure: mpl.figure.Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def count(picture: np.ndarray, colour: str) -> int:
    return int((picture == np.array(figures._rgb(colour))).all(-1).sum())


def test_optical_picture_is_the_saved_file_that_metrics_measure():
    opt = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    expected = to_8bit(opt).permute(1, 2, 0).numpy().astype(np.uint8)
    np.testing.assert_array_equal(figures.opt_picture(opt), expected)
    np.testing.assert_array_equal(figures.opt_picture(opt.clone().requires_grad_()), expected)
    half = opt.bfloat16()
    np.testing.assert_array_equal(figures.sar_picture(half[:1]), figures.sar_picture(half[:1].float()))


def test_a_figure_of_synthetic_data_says_so_and_none_of_real_data_does():
    rows = [{"SAR": np.zeros((8, 8, 3), np.uint8), "OPT": np.zeros((8, 8, 3), np.uint8)}]
    plain = figures.comparison(rows, [{"OPT": "20.0 dB"}])
    figures.use_style(synthetic=True)
    marked = figures.comparison(rows, [{"OPT": "20.0 dB"}])
    figures.use_style()
    assert marked.get_supxlabel() == "synthetic data" and not plain.get_supxlabel()
    marked.canvas.draw()
    renderer = marked.canvas.get_renderer()
    assert all(marked.bbox.y1 >= ax.get_tightbbox(renderer).y1 for ax in marked.axes)
    mark = marked._supxlabel.get_window_extent(renderer)
    assert not any(mark.overlaps(ax.get_tightbbox(renderer)) for ax in marked.axes)
    assert marked.bbox.containsx(mark.x1) and marked.bbox.containsy(mark.y0)
    assert not figures.comparison(rows).get_supxlabel()


def test_sar_pictures():
    vv, vh = np.full((1, 4, 5), 0.2), np.full((1, 4, 5), -0.4)
    assert figures.sar_picture(np.concatenate([vv, vh]))[2, 3].tolist() == [
        153,
        76,
        204,
    ]  # 0.6 · 255, 0.3 · 255, 0.8 · 255
    grey = figures.sar_picture(vv)
    assert grey.shape == (4, 5, 3) and (grey == 153).all()
    assert figures.sar_picture(np.full((1, 2, 2), np.nan)).max() == 0


def test_an_optical_picture_names_its_bands_where_they_are_not_those_of_the_eye():
    assert figures.opt_name(("red", "green", "blue")) == "OPT"
    assert figures.opt_name(["blue", "green", "red"]) == "OPT (blue, green, red)"


def test_land_cover_keeps_its_colours_whatever_the_order():
    lulc = np.array([[0, 1, 2], [3, 255, 255]])
    picture = figures.lulc_picture(lulc, CATEGORIES)
    for category, name in enumerate(CATEGORIES):
        assert (picture[lulc == category] == figures._rgb(CATEGORY_COLOURS[name])).all()
    assert (picture[1, 1:] == figures._rgb(figures.NO_DATA_COLOUR)).all()
    assert (figures.lulc_picture(lulc, ["forest"])[0, 0] == figures._rgb(CATEGORY_COLOURS["forest"])).all()
    assert len(set(figures.category_colours(["forest", "moon", "mars", "water"]))) == 4  # names of a legend of your own


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: figures.sar_picture(np.zeros((4, 4))), "sar has shape"),
        (lambda: figures.opt_picture(np.zeros((2, 4, 4))), "opt has shape"),
        (lambda: figures.split_map(index().assign(lon=np.nan), {}), "lon and lat"),
        (lambda: figures.class_shares(index()[["split"]]), "share_"),
        (lambda: figures.metric_table([], "Caption", "tab-x"), "tab-x"),
        (lambda: figures.swipe(np.zeros((2, 2, 3)), np.zeros((2, 3, 3)), "a", "b"), "one size"),
    ],
)
def test_unusable_input_is_named(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_triplets_show_every_modality():
    item = {"sar": np.zeros((2, 8, 8)), "opt": np.zeros((3, 8, 8)), "lulc": np.zeros((8, 8), int)}
    picture = pixels(figures.triplet_grid([item] * 2, ["a", "b"], CATEGORIES))
    assert count(picture, CATEGORY_COLOURS["water"]) > 0.1 * picture[..., 0].size  # a third of it, less margins
    without = figures.triplet_grid([{"sar": item["sar"], "opt": item["opt"]}] * 2, ["a", "b"])
    assert len(without.axes) == 4


def test_comparison_prints_scores_under_the_generated_pictures():
    names = ["SAR", "OPT", "LULC", "U-Net", "HAT", "S2OFormer"]
    row = {name: np.full((8, 8, 3), 40 * i, np.uint8) for i, name in enumerate(names)}
    captions = {"HAT": "19.92 dB / 0.575"}
    alone = figures.comparison([row], [captions])
    assert [ax.get_title() for ax in alone.axes] == names and alone.axes[4].get_xlabel() == captions["HAT"]
    assert alone.axes[3].get_position().y1 < alone.axes[2].get_position().y0  # wrapped after three
    several = figures.comparison([row, row], [captions, {"HAT": "20.14 dB / 0.642"}], titles=["Kaga", "Mikuni"])
    assert [several.axes[i].get_xlabel() for i in (4, 10)] == ["19.92 dB\n0.575", "20.14 dB\n0.642"]
    assert several.axes[6].get_ylabel() == "Mikuni"
    assert [ax.get_title() for ax in several.axes] == names + [""] * 6
    for i, ax in enumerate(several.axes):
        assert (ax.images[0].get_array() == 40 * (i % 6)).all()


def test_map_puts_windows_and_scale_right():
    places = {"Kaga": (136.3, 36.3), "Tsukuba": (140.1, 36.0)}
    figure = figures.split_map(index(), places)
    ax = figure.axes[0]
    for split, collection in zip(("train", "test"), ax.collections, strict=True):
        of = index()[index().split == split]
        np.testing.assert_allclose(collection.get_offsets(), of[["lon", "lat"]])
    figure.canvas.draw()
    ends = ax.transAxes.transform([[line.get_xdata()[0], 0] for line in ax.lines] + [[ax.lines[0].get_xdata()[1], 0]])
    degrees = np.diff(ax.transData.inverted().transform(ends)[:, 0]).item()
    stated = float(next(text.get_text() for text in ax.texts if "km" in text.get_text()).removesuffix(" km"))
    assert degrees * 111.32 * np.cos(np.radians(36)) == pytest.approx(stated, rel=1e-3)
    assert {text.get_text(): getattr(text, "xy", None) for text in ax.texts}.items() >= places.items()


def test_a_map_of_windows_on_both_sides_of_the_antimeridian():
    places = {"west": (179.995, 36.0), "east": (-179.995, 36.0)}
    ax = figures.split_map(index().assign(lon=[179.99, -179.99] * 4), places).axes[0]
    assert {*places} < {text.get_text() for text in ax.texts}
    assert np.ptp(ax.get_xlim()) < 0.1 and {x for of in ax.collections for x, _ in of.get_offsets()} == {179.99, 180.01}


def test_places_that_lie_elsewhere_are_on_no_map():
    figure = figures.split_map(index().assign(lon=lambda of: of["lon"] - 250), {"Kaga": (136.3, 36.3)})
    assert not any("Kaga" in text.get_text() for ax in figure.axes for text in ax.texts)


def test_shares_fill_the_bars_in_proportion():
    figure = figures.class_shares(index())
    widths = {bar.get_y(): [] for bar in figure.axes[0].patches}
    for bar in figure.axes[0].patches:
        widths[bar.get_y()].append(bar.get_width())
    assert [sorted(w) for w in widths.values()] == [[25, 75], [50, 50]]
    ink = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert ink["25"] == "white" and ink["75"] == "black"  # on #0072B2 5.2 : 1, on #009E73 6.1 : 1
    picture = pixels(figure)
    water, forest = (count(picture, CATEGORY_COLOURS[name]) for name in ("water", "forest"))
    assert water / (water + forest) == pytest.approx(0.375, abs=0.03)


def test_shares_stand_side_by_side_with_their_numbers_in_the_middle():
    frame = pd.DataFrame({"split": ["train"], "share_water": [0.2], "share_forest": [0.3], "share_built-up": [0.5]})
    ax = figures.class_shares(frame).axes[0]
    assert [bar.get_x() for bar in ax.patches] == pytest.approx([0, 20, 50])
    middles = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert middles == pytest.approx({"20": 10, "30": 35, "50": 75})


def test_a_bar_is_the_mean_of_its_splits_patches():
    frame = pd.DataFrame({"split": ["train"] * 3, "share_water": [0, 0, 0.9]})
    (bar,) = figures.class_shares(frame).axes[0].patches
    assert bar.get_width() == pytest.approx(30)


def test_curves_show_what_the_records_hold():
    records = {
        "U-Net": {"curves": [{"epoch": 0, "l1": 0.5}, {"epoch": 1, "l1": 0.4}]},
        "HAT": {"curves": [{"epoch": 0, "l1": 0.6, "features": 2.0}, {"epoch": 1, "l1": 0.3, "features": 1.0}]},
    }
    figure = figures.training_curves(records, ["l1", "features"])
    l1, features = figure.axes
    assert [line.get_ydata().tolist() for line in l1.lines] == [[0.5, 0.4], [0.6, 0.3]]
    assert [line.get_xdata().tolist() for line in l1.lines] == [[1, 2], [1, 2]]
    assert [line.get_label() for line in features.lines] == ["HAT"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["U-Net", "HAT"]
    assert [ax.get_title() for ax in figures.training_curves(records, ["features"]).axes] == ["features"]


def test_the_evaluated_epoch_is_marked_where_a_run_is_alone():
    one = {"curves": [{"epoch": i, "l1": 0.5} for i in range(4)], "best_epoch": 2}
    curve, mark = figures.training_curves({"U-Net": one}, ["l1"]).axes[0].lines
    assert mark.get_label() == "evaluated" and set(mark.get_xdata()) == {curve.get_xdata()[2]} == {3}
    beside = figures.training_curves({"U-Net": one, "HAT": one}, ["l1"])
    assert [line.get_label() for line in beside.axes[0].lines] == ["U-Net", "HAT"]


def test_table_is_myst():
    rows = [
        {"generator": "a|b", "psnr": -1.234, "n": 3, "p": None},
        {"generator": "c", "psnr": (-0.26, float("nan"), 1.0), "n": 4, "p": 0.5},
    ]
    lines = figures.metric_table(rows, "Test set", "tab-results", {"psnr": ".1f"}).splitlines()
    assert lines[:3] == ["```{table} Test set", ":name: tab-results", ""] and lines[-1] == "```"
    assert lines[4] == "| :--- | :--- | ---: | ---: |"
    assert lines[5:7] == ["| a\\|b | −1.2 | 3 | – |", "| c | −0.3 [–,\u00a01.0] | 4 | 0.50 |"]
    lines = figures.metric_table([{"grass | moor": 1.0}], "Share\nof `x`", "tab-x").splitlines()  # names of one's own
    assert lines[0] == "```{table} Share of 'x'" and lines[3] == "| grass \\| moor |"


def test_intervals_mark_the_descriptive():
    table = [
        {"name": "U-Net", "mean": 20.0, "low": 19.0, "high": 21.0, "seeds": [19.9, 20.1]},
        {"name": "HAT", "mean": 20.5, "low": 20.0, "high": 21.5, "kind": "descriptive", "seeds": [20.5]},
    ]
    ax = figures.intervals_plot(table, "PSNR (dB)").axes[0]
    bars = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() != "None"]
    assert [bar.get_linestyle() for bar in bars] == ["-", "--"] and {bar.get_marker() for bar in bars} == {"|"}
    assert [list(bar.get_xdata()) for bar in bars] == [[19, 21], [20, 21.5]]
    assert ax.get_ylim() == (1.5, -0.5)  # the first row on top
    seeds = [line for line in ax.lines if line.get_marker() == "|" and line not in bars]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in seeds] == [([19.9, 20.1], [0, 0])]


def test_features_and_refused_patches_leave_empty_places_empty():
    figure = figures.feature_maps({"deepest": torch.rand(3, 4, 4), "flat": np.zeros((9, 8, 8))})
    assert [ax.get_visible() for ax in figure.axes] == [True] * 3 + [False] * 2 + [True] * 5
    assert "3 × 4 × 4" in figure.axes[0].get_ylabel()
    figure = figures.refused_examples([np.zeros((4, 4, 3), np.uint8)] * 5, ["cloud 0.4 > 0.2"] * 5)
    assert [ax.get_visible() for ax in figure.axes] == [True] * 5 + [False] * 3
    assert figure.axes[4].get_xlabel() == "cloud 0.4 > 0.2"


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_same_input_same_bytes(tmp_path, suffix):
    for name in ("a", "b"):
        figures.save(figures.split_map(index(), {}), tmp_path / f"{name}.{suffix}")
    written = (tmp_path / f"a.{suffix}").read_bytes()
    assert written == (tmp_path / f"b.{suffix}").read_bytes() and mpl.__version__.encode() not in written


def test_a_feature_maps_colours_are_of_what_most_of_it_holds():
    feature = np.linspace(0, 1, 400).reshape(1, 20, 20)
    feature[0, 0, 0], feature[0, -1, -1] = -1e6, 1e6
    low, high = figures.feature_maps({"deepest": feature}).axes[0].images[0].get_clim()
    assert 0 < low < 0.02 and 0.98 < high < 1


def test_slider_is_one_accessible_piece_of_html():
    left, right = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    text = figures.swipe(left, right, 'SAR "VV"', "optical")
    assert (
        text == figures.swipe(left, right, 'SAR "VV"', "optical") != figures.swipe(right, left, 'SAR "VV"', "optical")
    )
    pictures = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="([^"]+)"', text)
    assert [alt for _, alt in pictures] == ["SAR &quot;VV&quot;", "optical"]
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data, _ in pictures]
    assert shown[0].max() < 5 and shown[1].min() > 250
    assert text.index("◀ SAR") < text.index("optical ▶")
    assert 'type="range"' in text and "aria-label" in text
    identity = re.search(r'<figure id="([^"]+)"', text).group(1)
    assert all(line.startswith(f"#{identity}") for line in text.splitlines() if line.startswith("#"))
    assert "http" not in text and "\n\n" not in text  # nothing is loaded, and no blank line ends the HTML block


def test_map_shows_land_and_the_surroundings_of_the_places():
    figure = figures.split_map(index(), {"Kaga": (136.3, 36.3), "Mikuni": (136.15, 36.2)})
    whole, near = figure.axes
    rings = [patch.get_path() for patch in whole.patches[:-1]]  # the last one frames the second map

    def on_land(lon: float, lat: float) -> bool:
        return any(ring.contains_point((lon, lat)) for ring in rings)

    assert on_land(138.2, 36.2) and on_land(143.0, 43.3) and not on_land(135.0, 37.5) and not on_land(136.0, 36.5)
    (west, east), (south, north) = near.get_xlim(), near.get_ylim()
    assert west < 136.15 < 136.3 < east and south < 36.2 < 36.3 < north and north - south < 1
    whole, near = figures.split_map(pd.concat([index(), index().query("split == 'test'")]), {}).axes
    (west, east), (south, north) = near.get_xlim(), near.get_ylim()
    assert west < 136.3 < 136.33 < east < 137 and south < 36 < north, "where most windows are"
    far = index().assign(lon=np.linspace(5, 150, len(index())), lat=np.linspace(-60, 80, len(index())))
    (world,) = figures.split_map(far, {"Kaga": (136.3, 36.3)}).axes  # near Kaga no window lies
    assert -90 <= world.get_ylim()[0] < -60 and 80 < world.get_ylim()[1] <= 90


def test_a_scene_is_drawn_to_scale_in_the_units_of_its_grid():
    picture = np.full((40, 80, 4), 200, np.uint8)
    utm = figures.scene_map(picture, (600_000, 4_000_000, 608_000, 4_004_000), CRS.from_epsg(32653)).axes[0]
    assert utm.get_xlim() == (600, 608) and utm.get_ylim() == (4000, 4004) and "km" in utm.get_xlabel()
    assert "2 km" in [text.get_text() for text in utm.texts]
    mercator = figures.scene_map(picture, (0, 8_390_000, 8000, 8_394_000), CRS.from_epsg(3857)).axes[0]  # 60° N
    assert "1 km" in [text.get_text() for text in mercator.texts], "of 8 km of the grid, 4 on the ground"
    degrees = figures.scene_map(picture, (136, 60, 136.8, 60.4), CRS.from_epsg(4326)).axes[0]
    assert "10 km" in [text.get_text() for text in degrees.texts], "of 44 km on the ground, not of 89"
    assert degrees.get_aspect() == pytest.approx(1 / np.cos(np.radians(60.2))) and "longitude" in degrees.get_xlabel()
    feet = figures.scene_map(picture, (984_250, 164_042, 1_010_497, 177_165), CRS.from_epsg(2263)).axes[0]
    assert feet.get_xlim() == pytest.approx((300, 308), abs=0.01), "of 3.28 feet a metre"
    assert "2 km" in [text.get_text() for text in feet.texts]
    assert figures.scene_map(picture, (0, 40, 80, 0), None).axes[0].get_xlabel() == "column"
    picture[0] = 100  # of a raster whose first row lies in the south
    turned = figures.scene_map(picture, (0, 8_394_000, 8000, 8_390_000), CRS.from_epsg(3857)).axes[0].images[0]
    assert turned.get_extent()[2:] == [8390, 8394] and (turned.get_array()[-1] == 100).all()
    assert (turned.get_array()[:-1] == 200).all()


def test_the_scale_of_a_mercator_map_is_that_of_its_middle():
    south, north = (6378137 * np.arctanh(np.sin(np.radians(degrees))) for degrees in (40, 70))
    bounds = (0, south, 4_000_000, north)
    ax = figures.scene_map(np.full((60, 40, 4), 200, np.uint8), bounds, CRS.from_epsg(3857)).axes[0]
    stated = float(next(text.get_text() for text in ax.texts if "km" in text.get_text()).removesuffix(" km"))
    narrowing = 1 / np.cosh((south + north) / 2 / 6378137)  # the cosine of the middle's latitude, 58 degrees
    assert stated / np.ptp(ax.lines[0].get_xdata()) == pytest.approx(4000 * narrowing, rel=1e-3)


def test_error_is_averaged_over_pixels_of_like_spread():
    spread = np.random.default_rng(0).permutation(1000).astype(float).reshape(20, 50)
    line = figures.reliability(spread, 2 * spread).axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), 2 * line.get_xdata())
    assert (np.diff(line.get_xdata()) > 0).all() and len(line.get_xdata()) == 10
    line = figures.reliability(spread, np.where(spread < 300, 9.0, 4.0)).axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), 49.5 + 100 * np.arange(10))
    np.testing.assert_allclose(line.get_ydata(), [9] * 3 + [4] * 7)
