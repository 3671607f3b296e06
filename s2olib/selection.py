"""Which test patches are shown: by a rule that is stated, and not by how they look.

Each rule gives the patches' positions in the index, whatever its labels, and a sentence in Markdown that says the rule
and what it found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from s2olib.figures import KM_PER_DEGREE
from s2olib.statistics import blocks


def lowest_skill(index: pd.DataFrame, skills: Sequence[pd.Series], number: int) -> tuple[list[int], str]:
    """So many patches on which networks do worst on the mean, one of a cluster of neighbours (`statistics.blocks`).

    `skills` has each network's, patch by patch in the order of `index`.
    """
    skill = _mean(skills).sort_values()
    worst = skill.groupby(blocks(index)[skill.index]).head(1)  # of each cluster, worst first
    rule = (
        "Skill is averaged over the networks, and at most one patch is taken of each cluster of neighbours, those over "
        "which intervals are drawn. Below 0 one constant colour would have matched the patch better, whatever its PSNR."
    )
    return _said(list(worst.index[:number]), "with the lowest skill", rule)


def median_skill(index: pd.DataFrame, skills: Sequence[pd.Series], group: str) -> tuple[list[int], str]:
    """The patch of median skill in a group, its skill averaged over networks as in `lowest_skill`."""
    skill = _mean(skills).sort_values()
    of = skill.index[index["group"].to_numpy()[skill.index] == group]
    return _said(list(of[len(of) // 2 :][:1]), f"of median skill in {group}", "Skill is averaged over the networks.")


def named(index: pd.DataFrame, patch_id: str) -> tuple[list[int], str]:
    """The patch that is named."""
    rule = "It was named outright; where it stands among all is said below it."
    return _said(np.flatnonzero(index["id"] == patch_id).tolist(), f"named {patch_id}", rule)


def nearby(
    index: pd.DataFrame, longitude: float, latitude: float, radius_km: float, category: str
) -> tuple[list[int], str]:
    """Of the patches around a place (degrees), the one that holds most of a category; the first without land cover."""
    index = index.reset_index(drop=True)
    east = ((index["lon"] - longitude + 180) % 360 - 180) * math.cos(math.radians(latitude))  # the shorter way around
    near = index[np.hypot(east, index["lat"] - latitude) * KM_PER_DEGREE <= radius_km]
    place = f"within {radius_km:g} km of {latitude} N, {longitude} E"
    if near.empty:
        placeless = index["lon"].isna().all()
        why = "These data have no geography." if placeless else "This region is not in the test split of these data."
        return [], f"**{why}** {_said([], place, '')[1]}"
    share = near.get(f"share_{category}", pd.Series(dtype=float))
    mapped = share.notna().any()
    rule = f"Of these the one with the largest share of {category} is shown." if mapped else "The first one is shown."
    return [share.idxmax() if mapped else near.index[0]], _said(list(near.index), place, rule)[1]


def _mean(skills: Sequence[pd.Series]) -> pd.Series:
    return pd.concat([skill.reset_index(drop=True) for skill in skills], axis=1).mean(axis=1)


def _said(found: list[int], place: str, rule: str) -> tuple[list[int], str]:
    counted = f"{len(found)} test {'patch' if len(found) == 1 else 'patches'}" if found else "No test patch"
    return found, f"{counted} {place}. {rule if found else ''}".strip()
