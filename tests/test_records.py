"""Records: the schema is kept, a missing one is an error, and publishing again changes nothing that does not matter."""

import json
import os
import platform
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from s2olib import records
from s2olib.project import InputError
from s2olib.statistics import blocks


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "hat-dsd-s0"
    rng = np.random.default_rng(0)
    patches = pd.DataFrame({"id": [f"p{i}" for i in range(40)], "scene": "one", "group": ["a", "b"] * 20})
    patches["psnr"], patches["skill"] = rng.normal(20, 2, 40), rng.normal(0.2, 0.1, 40)
    patches["mse_mean_colour"] = 100.0
    record = {
        key: kind() for key, kind in records.REQUIRED.items() if key not in ("schema", "code_version", "libraries")
    }
    record["metrics"] = records.summarise(patches)
    records.write(folder, record, patches)
    return folder


def test_round_trip(run):
    assert set(records.find(run.parent)) == {"hat-dsd-s0"}
    summary = records.read(run)["metrics"]["psnr"]
    assert summary["low"] < summary["mean"] < summary["high"]
    assert len(records.read_patches(run)) == 40


def test_a_place_called_na_keeps_its_name(run):
    patches = records.read_patches(run).assign(group=["NA", "null"] * 20)
    records.write(run, records.read(run), patches)
    assert records.read_patches(run)["group"].tolist() == ["NA", "null"] * 20


def test_metrics_of_patches_are_kept_to_a_millionth(run):
    records.write(run, records.read(run), records.read_patches(run).assign(ssim=0.123456))
    assert records.read_patches(run)["ssim"].tolist() == pytest.approx([0.123456] * 40, abs=1e-9)


def test_conditions_name_the_interval(run):
    conditions = records.evaluation_conditions(records.read_patches(run), "test")
    assert conditions["clusters"] == 4 and conditions["groups"] == ["a", "b"]
    assert "descriptive" in conditions["interval"]


def test_the_processor_is_named_where_the_system_tells():
    machine = records.machine(torch.device("cpu"))
    assert machine["device"] == "cpu" and machine["name"]
    info = Path("/proc/cpuinfo")
    if info.is_file() and "model name" in info.read_text():
        assert machine["name"] != platform.machine()


def test_publishing_again_ignores_cost_alone(run, tmp_path):
    target = tmp_path / "book" / "hat-dsd-s0"
    assert records.publish(run, target)
    record = json.loads((run / "record.json").read_text())
    record["cost"] = {"train_seconds": 1e9}
    (run / "record.json").write_text(json.dumps(record))
    assert not records.publish(run, target)
    assert "train_seconds" not in records.read(target)["cost"]
    record["best_epoch"] = 7
    (run / "record.json").write_text(json.dumps(record))
    assert records.publish(run, target) and records.read(target)["best_epoch"] == 7
    (target / "record.json").write_text(json.dumps(record | {"schema": records.SCHEMA - 1}))
    assert records.publish(run, target) and records.read(target)["best_epoch"] == 7, "an older version's is replaced"
    patches = records.read_patches(run).assign(psnr=1.0)  # and nothing else
    patches.to_csv(run / "patches.csv", index=False)
    assert records.publish(run, target) and (records.read_patches(target)["psnr"] == 1).all()


def test_who_is_killed_while_publishing_leaves_no_record_of_other_patches(run, tmp_path, monkeypatch):
    copy, copied = shutil.copyfile, []

    def killed(source, target):
        if copied:
            raise KeyboardInterrupt
        copied.append(copy(source, target))

    monkeypatch.setattr(records.shutil, "copyfile", killed)
    with pytest.raises(KeyboardInterrupt):
        records.publish(run, tmp_path / "book" / "hat-dsd-s0")
    with pytest.raises(InputError, match="holds no finished run"):
        records.find(tmp_path / "book")


def test_who_is_killed_while_a_run_is_recorded_leaves_no_finished_run(run, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", killed)
    with pytest.raises(KeyboardInterrupt):
        records.write(tmp_path / "unet-dsd-s0", records.read(run), records.read_patches(run))
    assert not (tmp_path / "unet-dsd-s0/record.json").exists()


def test_a_record_that_lacks_a_field_is_not_written(run, tmp_path):
    record = records.read(run)
    del record["metrics"]
    with pytest.raises(InputError, match="has no valid `metrics`"):
        records.write(tmp_path / "unet-dsd-s0", record, records.read_patches(run))
    assert not (tmp_path / "unet-dsd-s0").exists()


def test_patches_of_one_size_and_time_are_told_apart(run, tmp_path):
    target = tmp_path / "book" / "hat-dsd-s0"
    records.publish(run, target)
    (run / "patches.csv").write_text((run / "patches.csv").read_text().replace("p0,", "q0,"))
    for folder in (run, target):
        os.utime(folder / "patches.csv", (0, 0))
    assert records.publish(run, target) and records.read_patches(target)["id"][0] == "q0"


def test_every_reading_of_the_test_split_stays_noted(tmp_path):
    for reader in ("hat-dsd-s0", "unet-dsd-s0"):
        records.log_reading(tmp_path, reader)
    lines = (tmp_path / "test_readings.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["hat-dsd-s0", "unet-dsd-s0"]


@pytest.mark.parametrize("schema", [records.SCHEMA - 1, records.SCHEMA + 1])
def test_a_record_of_another_schema_is_not_read(run, schema):
    record = json.loads((run / "record.json").read_text()) | {"schema": schema}
    (run / "record.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=f"has schema {schema}, this version reads {records.SCHEMA}"):
        records.read(run)


def test_seeds_of_other_patches_are_not_averaged(run):
    patches = records.read_patches(run)
    for other in (patches[::-1], patches[1:]):
        with pytest.raises(InputError, match="were not evaluated on the same patches"):
            records.summarise(patches, other)


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"schema": "1"}', b"[]", b"\xff"])
def test_a_broken_record_is_named(run, content):
    (run / "record.json").write_bytes(content)
    with pytest.raises(InputError, match=r"record\.json"):
        records.read(run)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_broken_metrics_are_named(run, content):
    (run / "patches.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"patches\.csv cannot be read"):
        records.read_patches(run)


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no finished run"):
        records.find(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        records.read(tmp_path / "hat-dsd-s0")


def test_data_that_changed_since_a_training_are_named():
    data = {"fingerprint": "abc", "sar": {"limits": [[-25.0, 0.0]], "bands": ["VV"]}}
    data |= {"opt": {"limits": [[0.0, 0.3]] * 3, "bands": ["red", "green", "blue"]}}
    of = {key: {name: data[name][key] for name in ("sar", "opt")} for key in ("limits", "bands")}
    runs = {"hat-dsd-s0": {"dataset": {"fingerprint": "abc"} | of}}
    records.check_data(runs, data, "data/set")
    message = "hat-dsd-s0 was trained on other data or limits than data/set now has"
    another_split, lower = {"fingerprint": "another"}, {"sar": data["sar"] | {"limits": [[-30.0, 0.0]]}}
    for change in (another_split, lower):
        with pytest.raises(InputError, match=message):
            records.check_data(runs, data | change, "data/set")
    records.check_data(runs, data | another_split, "data/set", alike=True)
    for change in (lower, {"sar": data["sar"] | {"bands": ["VH"]}}):
        with pytest.raises(InputError, match=message):
            records.check_data(runs, data | change, "data/set", alike=True)


RESULTS = Path(__file__).parents[1] / "book" / "results"
PUBLISHED = pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("**/record.json")), ids=lambda path: str(path.parent.relative_to(RESULTS))
)


@PUBLISHED
def test_the_metrics_of_a_published_run_are_those_of_its_patches(path):
    record, patches = records.read(path.parent), records.read_patches(path.parent)
    found = records.summarise(patches)
    assert record["metrics"].keys() == found.keys()
    for name, summary in found.items():
        assert record["metrics"][name] == pytest.approx(summary, abs=1e-4, nan_ok=True), name
    assert record["evaluation"] == records.evaluation_conditions(patches, record["evaluation"]["split"])


@PUBLISHED
def test_no_published_run_has_a_dsd_that_ignores_the_optical_image(path):
    record = records.read(path.parent)
    if record["parameters"]["dsd_weight"] and record["parameters"]["dsd_schedule"] != "random":  # the control may
        assert record["curves"][-1]["optical_sensitivity"] >= 0.1


def test_the_least_sensitivity_is_of_the_epochs_in_which_the_dsd_judged():
    seen = [{"optical_sensitivity": value} for value in (0.01, 0.3, 0.2, 0.4)]
    for schedule, expected in (("joint", 0.01), ("warm-up", 0.2)):
        how = {"dsd_schedule": schedule, "dsd_warmup": 1}
        assert records.least_sensitivity({"parameters": how, "curves": seen}) == expected
    assert np.isnan(records.least_sensitivity({"parameters": how, "curves": [{}] * 4}))


def test_patches_without_a_group_are_of_one_group_when_read_again(run):
    patches = records.read_patches(run).assign(group="", season="")
    before = blocks(patches)
    patches.to_csv(run / "patches.csv", index=False)
    np.testing.assert_array_equal(blocks(records.read_patches(run)), before)
