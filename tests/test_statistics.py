from itertools import product

import numpy as np
import pandas as pd
import pytest

from s2olib.project import InputError
from s2olib.statistics import (
    blocks,
    cluster_interval,
    holm,
    interval_kind,
    paired_differences,
    paired_permutation,
    separable,
)


def index(sizes: dict[str, int]) -> pd.DataFrame:
    """Rows in shuffled order, each group a strip four patches wide."""
    rows = [
        {"id": f"{group}{i}", "group": group, "scene": group, "row": i // 4 * 128, "col": i % 4 * 128}
        for group, size in sizes.items()
        for i in range(size)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


def test_blocks_stay_inside_groups_and_are_contiguous():
    frame = index({"kaga": 23, "mikuni": 4, "noto": 17, "tsukuba": 40})
    frame["block"] = blocks(frame)
    assert (frame.groupby("block").group.nunique() == 1).all()
    assert frame.groupby("group").block.nunique().to_dict() == {"kaga": 2, "mikuni": 1, "noto": 2, "tsukuba": 4}
    assert frame.block.nunique() == frame.block.max() + 1
    for _, group in frame.sort_values(["group", "row", "col"]).groupby("group"):
        assert (group.block.diff().dropna() >= 0).all()  # raster order never returns to an earlier block


def test_blocks_without_geography_follow_the_ids():
    frame = pd.DataFrame({"id": [f"{i:04}" for i in range(20)], "group": ["flood"] * 20}).iloc[::-1]
    assert blocks(frame).tolist() == [1] * 10 + [0] * 10


def test_numbers_in_names_are_taken_in_their_order():
    ids = [f"ROIs1970_fall_11_p{i}" for i in range(1, 301, 10)]
    frame = pd.DataFrame({"id": ids, "group": "fall_11"}).assign(row=0, col=0)
    assert blocks(frame.assign(scene=ids)).tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert blocks(frame.drop(columns=["row", "col"])).tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert len({*blocks(pd.DataFrame({"id": range(10), "group": ["1", "01"] * 5}))}) == 2, "they are two places"


def test_blocks_need_groups():
    with pytest.raises(InputError, match="group"):
        blocks(pd.DataFrame({"id": [1, 2]}))


def test_interval_equals_a_plain_bootstrap():
    generator = np.random.default_rng(3)
    clusters = np.repeat(np.arange(8), [3, 5, 1, 4, 4, 2, 6, 3])
    values = generator.normal(20, 1, len(clusters)) + clusters
    draws = np.random.default_rng(7).integers(8, size=(300, 8))
    means = [np.concatenate([values[clusters == c] for c in draw]).mean() for draw in draws]
    expected = (values.mean(), *np.percentile(means, [5, 95]))
    assert cluster_interval(values, clusters, level=0.9, resamples=300, seed=7) == pytest.approx(expected)


def test_seeds_are_nested_in_the_interval():
    generator = np.random.default_rng(5)
    clusters = np.repeat(np.arange(12), 5)
    patches = generator.normal(20, 1, 60)
    alike, apart = [patches, patches, patches], [patches - 2, patches, patches + 2]
    assert cluster_interval(alike, clusters) == pytest.approx(cluster_interval(patches, clusters))
    mean, low, high = cluster_interval(apart, clusters)
    blocks_means, draws = patches.reshape(12, 5).mean(1), []
    for _ in range(4000):
        draws.append(generator.choice([-2, 0, 2], 3).mean() + generator.choice(blocks_means, 12).mean())
    assert (mean, low, high) == pytest.approx((patches.mean(), *np.percentile(draws, [2.5, 97.5])), abs=0.12)
    assert high - low > 2 * np.diff(cluster_interval(patches, clusters)[1:])


def test_interval_covers_and_knows_that_neighbours_are_alike():
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.arange(30), 10)
    inside, naive = 0, 0
    for trial in range(120):
        values = np.repeat(generator.normal(0, 1, 30), 10) + generator.normal(0, 0.3, 300)
        _, low, high = cluster_interval(values, clusters, resamples=300, seed=trial)
        inside += low <= 0 <= high
        _, low, high = cluster_interval(values, np.arange(300), resamples=300, seed=trial)
        naive += low <= 0 <= high
    assert 0.87 <= inside / 120 <= 1 and naive / 120 < 0.7


def test_interval_leaves_absent_categories_out():
    values, clusters = [1.0, np.nan, 3.0, 5.0], [0, 0, 1, 2]
    kept = cluster_interval([1.0, 3.0, 5.0], [0, 1, 2])
    assert cluster_interval(values, clusters) == kept and kept[0] == 3
    assert cluster_interval([[1, np.nan, 3], [2, 5, 4]], [0, 1, 2])[0] == 2.5  # absent for one seed
    assert np.isnan(cluster_interval([np.nan], [0])).all()
    mean, low, high = cluster_interval([1.0, 2.0], [4, 4])
    assert mean == 1.5 and np.isnan([low, high]).all()


def test_few_groups_only_describe():
    assert interval_kind(["a", "b"] * 50) == "descriptive"
    assert interval_kind(range(10)) == "confidence"


def test_permutation_equals_enumeration():
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(6), [1, 3, 2, 2, 4, 1])
    first, second = generator.normal(20.3, 1, 13), generator.normal(20, 1, 13)
    sums = [(first - second)[clusters == c].sum() for c in range(6)]
    totals = [abs(np.dot(signs, sums)) for signs in product([1, -1], repeat=6)]
    expected = np.mean([t >= totals[0] - 1e-9 for t in totals])
    assert paired_permutation(first, second, clusters) == pytest.approx(expected)
    drawn = paired_permutation(first, second, clusters, resamples=50)  # 64 flips are too many: 50 are drawn
    assert drawn == pytest.approx(expected, abs=0.2) and drawn >= 1 / 51


def test_permutations_that_are_equal_but_for_rounding_are_equal():
    values = [-0.4, 0.6, 0.3, -0.9]  # their sum is -0.4, that of seven flips in eight as large or larger
    assert paired_permutation(values, np.zeros(4), range(4)) == 0.875


def test_permutation_extremes():
    clusters = np.arange(20)
    assert paired_permutation(np.ones(20), np.zeros(20), clusters) == pytest.approx(0, abs=2e-3)
    assert paired_permutation(np.ones(20), np.ones(20), clusters) == 1
    assert paired_permutation(np.ones(20), np.zeros(20), np.zeros(20)) == 1  # one cluster proves nothing


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]


@pytest.mark.parametrize("number, share", [(4, 0.8), (7, 0.9), (10, 0.91)])
def test_intervals_of_few_clusters_hold_the_mean_as_often_as_is_said(number, share):
    generator = np.random.default_rng(0)
    intervals = [cluster_interval(generator.normal(0, 1, number), np.arange(number)) for _ in range(1000)]
    held = np.mean([low <= 0 <= high for _, low, high in intervals])
    assert held == pytest.approx(share, abs=0.035)


def test_separable():
    assert separable([20.0, 20.1, 20.0], [19.5, 19.6, 19.5]) == "separable"
    assert separable([20.0, 20.1, 20.0], [19.2, 20.4, 20.0]) == "not separable"
    assert separable([20.0], [15.0, 15.1]) == "one seed"
    assert separable([20.0, 20.1], [15.0, 15.1, 15.2]) == "two seeds"
    assert separable([np.nan, 20.1, 20.0], [15.0, 15.1, 15.2]) == "not separable"
    assert separable([20.0] * 3, [20.0] * 3) == separable([20.0] * 2, [20.0] * 2) == "not separable"


def test_differences_of_pairs_are_over_the_seeds_that_both_have():
    generator = np.random.default_rng(2)
    frame = index({"kaga": 40, "mikuni": 40})
    clusters = blocks(frame)

    def measured(psnr: float) -> pd.DataFrame:
        return frame.assign(psnr=psnr + generator.normal(0, 0.3, 80), ssim=0.5)

    patches = {"hat": {0: measured(20), 1: measured(22), 2: measured(90)}, "unet": {1: measured(20), 0: measured(19)}}
    patches["late"] = {7: measured(20)}
    pairs = [("hat", "unet"), ("unet", "hat"), ("hat", "late")]
    rows = paired_differences(patches, pairs, "psnr")
    assert [(row["first"], row["second"]) for row in rows] == pairs[:2]  # the last have no seed in common
    hat, unet = ([patches[name][seed]["psnr"].to_numpy() for seed in (0, 1)] for name in ("hat", "unet"))
    expected = cluster_interval([a - b for a, b in zip(hat, unet, strict=True)], clusters)
    assert rows[0]["difference"] == pytest.approx(expected) and expected[0] == pytest.approx(1.5, abs=0.1)
    assert paired_differences(patches, pairs, "ssim")[0]["difference"] == (0, 0, 0)
    assert rows[0]["p"] == pytest.approx(2 * paired_permutation(sum(hat), sum(unet), clusters))  # two rows, after Holm
    assert rows[0]["over_seeds"] == "not separable"  # hat's own seeds lie 2 dB apart
    for name, water in (("hat", 25.0), ("unet", 20.0), ("late", 20.0)):
        for frame in patches[name].values():
            frame["psnr_water"] = (water + 0 * frame["psnr"]).where(frame.index != 3)  # one patch has no water
    patches["unet"][0].loc[3, "psnr_water"] = 1000.0  # and where one variant has none, the other does not count
    row = paired_differences(patches, pairs, "psnr_water")[0]
    assert row["difference"] == (5, 5, 5) and row["over_seeds"] == "two seeds"
    for seed in (0, 1):  # one seed of a variant, then every one
        patches["unet"][seed] = patches["unet"][seed].iloc[::-1]
        with pytest.raises(InputError, match="hat and unet were not evaluated on the same patches"):
            paired_differences(patches, pairs, "psnr")


def test_a_difference_is_tested_over_all_seeds_together():
    generator = np.random.default_rng(5)
    frame = index({"kaga": 40, "mikuni": 40})
    clusters = blocks(frame)
    patches = {
        name: {seed: frame.assign(psnr=psnr + generator.normal(0, 0.5, 80)) for seed in range(2)}
        for name, psnr in (("hat", 20.1), ("unet", 20.0))
    }

    def enumerated(*seeds: int) -> float:
        differences = sum(patches["hat"][seed]["psnr"] - patches["unet"][seed]["psnr"] for seed in seeds)
        sums = [differences[clusters == cluster].sum() for cluster in range(8)]
        totals = [abs(np.dot(signs, sums)) for signs in product([1, -1], repeat=8)]
        return np.mean([total >= totals[0] - 1e-9 for total in totals])

    (row,) = paired_differences(patches, [("hat", "unet")], "psnr")
    assert row["p"] == pytest.approx(enumerated(0, 1))
    assert min(abs(row["p"] - enumerated(seed)) for seed in range(2)) > 0.05


def test_misaligned_patches_are_named():
    with pytest.raises(InputError, match="second"):
        paired_permutation([1, 2], [1, 2, 3], [0, 1])
    with pytest.raises(InputError, match="values"):
        cluster_interval([1, 2], [0])


def test_groups_are_blocks_where_there_are_ten_of_them():
    few, many = (pd.DataFrame({"group": np.repeat(np.arange(n), 40).astype(str)}) for n in (9, 10))
    assert len(set(blocks(few))) == 9 * 4
    assert (blocks(many) == np.repeat(np.arange(10), 40)).all(), "blocks of one place say nothing of other places"


@pytest.mark.parametrize(("seeds", "said", "share"), [(2, "two seeds", 0.2), (3, "separable", 0.05)])
def test_equal_networks_look_apart_as_often_as_is_said(seeds, said, share):
    draws = np.random.default_rng(0).standard_normal((4000, 2, seeds))
    assert np.mean([separable(*pair) == said for pair in draws]) == pytest.approx(share, abs=0.02)


def test_a_perfect_patch_gives_no_probability_and_one_without_weight_does_not_count():
    clusters = [0, 0, 1, 1]
    assert np.isnan(paired_permutation([np.inf, 1, 2, 3], [1, 1, np.inf, 3], clusters))
    values, others = [1.0, 2.0, 3.0, 5.0], [0.0, 1.0, 1.0, 2.0]
    for first, second in ((values, [0, np.nan, 1, 2]), ([1, np.nan, 3, 5], others)):  # absent in either
        assert paired_permutation(first, second, clusters) == 0.5, "of two clusters of one sign"
    assert cluster_interval([-np.inf, 0.5, 0.4, 0.6], clusters, weights=[0, 1, 1, 1])[0] == pytest.approx(0.5)


def test_a_weighted_mean_is_weighted():
    assert cluster_interval([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], weights=[1, 3, 1, 1])[0] == pytest.approx(14 / 6)
    with pytest.raises(InputError, match=r"weights has shape \(3,\) and clusters \(4,\)"):
        cluster_interval([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], weights=[1, 3, 1])
