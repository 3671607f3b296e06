"""How sure a mean over test patches is, and whether two variants differ: intervals and paired tests over clusters.

Neighbouring patches are alike, so they are never resampled one by one: contiguous blocks of about ten patches inside a
group (an event, a scene, a region) stay together, in the bootstrap (Efron & Tibshirani 1993; blocks after Künsch 1989)
and in the paired sign-flip permutation test alike. Several comparisons are corrected after Holm (1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from s2olib.project import InputError

if TYPE_CHECKING:
    import pandas as pd

BLOCK_SIZE = 10  # patches
FEWEST_GROUPS = 10  # independent groups for an interval to speak of other places


def blocks(index: pd.DataFrame) -> np.ndarray:
    """Cluster number of each row of an index or of ``patches.csv``, (N,): contiguous blocks of about `BLOCK_SIZE`.

    Rows of a group, taken in the order of scene, row, column (id where these are absent), are cut into equal parts;
    a group of fewer rows is one block. Numbers in names count as such: p2 comes before p10. Where there are
    `FEWEST_GROUPS`, each is one block: only groups are independent of each other, and only they let an interval speak
    of other places.
    """
    keys = [name for name in ("group", "scene", "row", "col") if name in index] or ["group"]
    if "group" not in index or not len(index):
        raise InputError("The index has no rows or no column `group`: blocks are cut inside groups of patches.")
    keys += ["id"] if "row" not in index and "id" in index else []
    ordered = [np.unique(_by_number(index[name]), return_inverse=True)[1] for name in keys]
    order = np.lexsort(ordered[::-1])
    edges = np.flatnonzero(np.diff(ordered[0][order])) + 1
    clusters = np.empty(len(index), np.int64)
    count = 0
    whole = len(edges) + 1 >= FEWEST_GROUPS
    for start, stop in pairwise([0, *edges, len(index)]):
        for part in np.array_split(order[start:stop], 1 if whole else max(1, round((stop - start) / BLOCK_SIZE))):
            clusters[part] = count
            count += 1
    return clusters


def _by_number(names: pd.Series) -> np.ndarray:
    """Text that sorts by the numbers in it, and after these as it is; numbers as they are."""
    if names.dtype.kind in "iuf":
        return names.to_numpy()
    names = names.astype(str)
    return (names.str.replace(r"\d+", lambda number: number[0].zfill(20), regex=True) + "\t" + names).to_numpy()


def cluster_interval(
    values: Sequence[float] | Sequence[Sequence[float]] | np.ndarray,
    clusters: Sequence[int] | np.ndarray,
    *,
    weights: Sequence[float] | np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of `values` (N,) and its percentile bootstrap interval (mean, low, high), whole clusters drawn at a time.

    Values (S, N) of S seeds are nested: each resample draws clusters, the same for all seeds, and seeds, so that the
    interval holds some of the chance of training too (two or three seeds show little of it). With few clusters it is
    too narrow: of the 95 % intervals of four independent clusters some 80 % hold the mean, of ten some 90 %, and of ten
    with three seeds that differ three times as much as clusters some 75 %.
    `weights` (N,) make it a weighted mean. NaN values (a category absent from the patch) are left out. One cluster
    alone gives a NaN interval, no values at all a NaN mean. Whether the interval speaks of other places is for
    `interval_kind` to say.
    """
    seeds = [_aligned("values", one, clusters)[0] for one in np.atleast_2d(np.asarray(values, float))]
    clusters = np.asarray(clusters)
    weights = _aligned("weights", np.ones(len(clusters)) if weights is None else weights, clusters)[0]
    keep = ~np.isnan(seeds).any(0) & (weights > 0)
    counts = _cluster_sums(weights[keep], clusters[keep])  # (clusters,)
    sums = np.array([_cluster_sums(one[keep] * weights[keep], clusters[keep]) for one in seeds])  # (S, clusters)
    if not len(counts):
        return (np.nan,) * 3
    mean = float(sums.mean(0).sum() / counts.sum())
    if len(counts) == 1 or not np.isfinite(mean):
        return mean, np.nan, np.nan
    random = np.random.default_rng(seed)
    drawn = random.integers(len(counts), size=(resamples, len(counts)))
    drawn_seeds = random.integers(len(seeds), size=(resamples, len(seeds)))
    means = sums[drawn_seeds[:, :, None], drawn[:, None]].mean(1).sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return mean, float(low), float(high)


def interval_kind(groups: Sequence) -> str:
    """ "confidence" from ten independent groups on; "descriptive" with fewer: it tells of these places alone."""
    return "confidence" if len(set(groups)) >= FEWEST_GROUPS else "descriptive"


def paired_permutation(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    clusters: Sequence[int] | np.ndarray,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value that two variants measured on the same patches (N,) have the same mean.

    Signs of the differences are flipped a cluster at a time: every flip is enumerated where there are at most
    `resamples` of them, else that many are drawn and the observed one is counted in. Patches that are NaN in either are
    left out.
    """
    first, clusters = _aligned("first", first, clusters)
    second, _ = _aligned("second", second, clusters)
    keep = ~np.isnan(first - second)
    sums = _cluster_sums((first - second)[keep], clusters[keep])
    if len(sums) == 0 or not np.isfinite(sums).all():  # a patch that equals the real one has a PSNR without bound
        return np.nan
    if 2 ** len(sums) <= resamples:
        signs = 1 - 2 * (
            np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        )  # the observed one is the first
    else:
        signs = np.random.default_rng(seed).choice([-1, 1], size=(resamples + 1, len(sums)))
        signs[0] = 1
    totals = np.abs(signs @ sums)
    return float(np.mean(totals >= totals[0] * (1 - 1e-12)))  # equal sums may differ in their last digit


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted after Holm for having made them all, in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()


def paired_differences(
    patches: Mapping[str, Mapping[int, pd.DataFrame]], pairs: Sequence[tuple[str, str]], metric: str
) -> list[dict]:
    """How the variants of each pair differ in a metric on the same patches: one row for each that has seeds in common.

    `patches` are frames of ``patches.csv`` by variant and seed. A row holds the names (`first`, `second`), the `seeds`,
    first less second over those seeds as `difference` (mean, low, high), what `separable` says as `over_seeds`, and
    `p`, the `paired_permutation` of the seeds' sums, adjusted by `holm` for the number of rows.
    """
    rows = []
    for pair in pairs:
        seeds = sorted(set.intersection(*(set(patches[name]) for name in pair)))
        if not seeds:
            continue
        frames = [[patches[name][seed] for seed in seeds] for name in pair]
        if any(list(frame["id"]) != list(frames[0][0]["id"]) for of in frames for frame in of):
            raise InputError(f"{' and '.join(pair)} were not evaluated on the same patches: execute their runs again.")
        first, second = (np.array([frame[metric] for frame in of]) for of in frames)  # (S, N) each
        clusters = blocks(frames[0][0])
        row = {"first": pair[0], "second": pair[1], "seeds": ", ".join(map(str, seeds))}
        row["difference"] = cluster_interval(first - second, clusters)
        there = ~np.isnan(first - second).any(0)  # where a category is absent there is nothing to compare
        row["over_seeds"] = separable(first[:, there].mean(1), second[:, there].mean(1))
        rows.append(row | {"p": paired_permutation(first.sum(0), second.sum(0), clusters)})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p"] = p
    return rows


def separable(first: Sequence[float], second: Sequence[float]) -> str:
    """Whether two variants, one mean per seed each, differ by more than chance of training: the words for a table.

    "not separable" where the difference of the variants' means is no larger than the wider of their own ranges over
    seeds; "one seed" where a variant ran once, so that its range is unknown; "two seeds" where one ran twice, since two
    pairs of runs of one and the same network look apart one time in five; else "separable", as two times three runs of
    one network look one time in twenty. Beside something in which no chance is, such as one colour, a network looks
    apart more often: with two seeds three times in ten, with three one time in twelve.
    """
    if (fewest := min(len(first), len(second))) == 0:
        raise InputError("separable needs at least one seed's mean of each variant.")
    if fewest == 1:
        return "one seed"
    if not abs(np.mean(first) - np.mean(second)) > max(np.ptp(first), np.ptp(second)):  # NaN is not, either
        return "not separable"
    return "two seeds" if fewest == 2 else "separable"


def _aligned(name: str, values: Sequence, clusters: Sequence) -> tuple[np.ndarray, np.ndarray]:
    values, clusters = np.asarray(values, float), np.asarray(clusters)
    if values.shape != clusters.shape or values.ndim != 1:
        raise InputError(f"{name} has shape {values.shape} and clusters {clusters.shape}: give each patch one cluster.")
    return values, clusters


def _cluster_sums(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    return np.bincount(np.unique(clusters, return_inverse=True)[1], values)
