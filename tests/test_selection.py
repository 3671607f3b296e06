"""Which patches are shown: rules against cases that are plain to see."""

import numpy as np
import pandas as pd

from s2olib import selection
from s2olib.statistics import blocks


def index(**columns) -> pd.DataFrame:
    """Twenty patches of each of two groups, in rows around Kaga and Mikuni."""
    ids = [f"{group}-{i:02}" for group in ("kaga", "mikuni") for i in range(20)]
    places = {"group": np.repeat(["kaga", "mikuni"], 20), "row": [*range(20)] * 2, "col": 0, "scene": "s"}
    lonlat = {"lon": np.repeat([136.30, 136.15], 20), "lat": np.repeat([36.30, 36.20], 20)}
    return pd.DataFrame({"id": ids} | places | lonlat | columns)


def test_the_lowest_skill_is_the_networks_mean_and_one_of_each_cluster():
    frame, first, second = index(), np.full(40, 0.5), np.full(40, 0.5)
    first[[3, 4, 15, 30]] = [-2.0, -1.9, -1.0, -3.0]
    second[30] = 2.9  # the mean is −0.05
    chosen, said = selection.lowest_skill(frame, [pd.Series(first), pd.Series(second)], 3)
    assert chosen == [3, 15, 30] and len(set(blocks(frame)[chosen])) == 3
    assert said.startswith("3 test patches with the lowest skill. Skill is averaged over the networks")
    three = np.full((3, 40), 0.5)
    three[0, 7], three[:2, 12] = -6.0, -1.0  # means −1.67 and −0.5, medians 0.5 and −1
    assert selection.lowest_skill(frame, [pd.Series(skill) for skill in three], 1)[0] == [7]


def test_the_median_of_a_group_and_a_group_that_is_not_there():
    skill = pd.Series([*np.linspace(1, 0, 20), *np.linspace(-5, 5, 20)])
    chosen, said = selection.median_skill(index(), [skill], "kaga")
    assert chosen == [9] and said.startswith("1 test patch of median skill in kaga. ")
    assert selection.median_skill(index(), [skill, -3 * skill], "mikuni")[0] == [29], "of the networks' mean"
    three = pd.DataFrame({"group": ["kaga"] * 3})
    assert selection.median_skill(three, [pd.Series([0.0, 1.0, 2.0])], "kaga")[0] == [1]
    assert selection.median_skill(index(), [skill], "tokyo") == ([], "No test patch of median skill in tokyo.")


def test_a_patch_by_name():
    assert selection.named(index(), "mikuni-03")[0] == [23]
    assert selection.named(index(lon=np.nan, lat=np.nan), "tokyo") == ([], "No test patch named tokyo.")


def test_a_patch_near_a_place_is_told_by_its_position_among_all():
    frame = pd.DataFrame({"id": ["a", "b", "c"], "lon": [0.0, 5.0, 5.0], "lat": 0.0, "share_forest": [0.1, 0.2, 0.9]})
    chosen, said = selection.nearby(frame, 5.0, 0.0, 6.0, "forest")
    assert chosen == [2] and said.startswith("2 test patches within 6 km")


def test_the_patch_near_a_place_that_holds_most_of_a_category():
    share = np.r_[np.linspace(0, 0.4, 20), np.ones(20)]  # most of all is at the other place
    share[7] = 0.6
    place = (136.30, 36.30, 6.0, "forest")
    chosen, said = selection.nearby(index(share_forest=share), *place)
    assert chosen == [7] and said.startswith("20 test patches within 6 km of 36.3 N, 136.3 E. Of these the one with")
    for unmapped in (index(), index(share_forest=np.nan)):
        chosen, said = selection.nearby(unmapped, *place)
        assert chosen == [0] and said.endswith("E. The first one is shown.")
    for frame in (index(), index(lon=[np.nan] + [136.30] * 39)):
        chosen, said = selection.nearby(frame, 139.7, 35.7, 6.0, "forest")
        assert chosen == [] and said.startswith("**This region is not in the test split")
    assert selection.nearby(index(lon=np.nan, lat=np.nan), *place)[1].startswith("**These data have no geography.** No")


def test_a_place_across_180_degrees_is_near():
    frame = index(lon=np.repeat([-179.99, 179.9], 20), lat=-17.0)  # 2 and 10 km from the place
    assert selection.nearby(frame, 179.99, -17.0, 6.0, "forest")[1].startswith("20 test patches within 6 km")
    assert selection.nearby(frame, -179.99, -17.0, 15.0, "forest")[1].startswith("40 test patches within 15 km")


def test_positions_are_counted_in_what_is_given():
    frame, skill = index(share_forest=np.linspace(0, 1, 40))[10:], pd.Series(np.linspace(1, 0, 40))[10:]
    assert selection.named(frame, "mikuni-03")[0] == [13]
    assert selection.nearby(frame, 136.30, 36.30, 6.0, "forest")[0] == [9]  # the last of Kaga's
    assert selection.median_skill(frame, [skill], "kaga")[0] == [4]
    assert selection.lowest_skill(frame, [skill], 1)[0] == [29]


def test_a_degree_of_longitude_is_shorter_in_the_north():
    frame = index(lon=np.repeat([136.1, 136.0], 20), lat=np.repeat([60.0, 60.1], 20))  # 5.6 km east, 11 km north
    assert selection.nearby(frame, 136.0, 60.0, 6.0, "forest")[1].startswith("20 test patches within 6 km")
    assert selection.nearby(frame, 136.0, 60.0, 5.5, "forest")[0] == []
