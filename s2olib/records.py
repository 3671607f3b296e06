"""Run records: what a finished run leaves, and the only thing that tables, figures and the book are made from.

A run's folder holds ``record.json`` (parameters, seed, data fingerprint, code version, hardware, curves, metrics with
their intervals) and ``patches.csv`` (every test patch's metrics). `REQUIRED` is the schema. A record published with the
book is replaced only if something other than `VOLATILE` differs, so that executing again changes nothing.
"""

from __future__ import annotations

import filecmp
import json
import math
import platform
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from s2olib.project import InputError, code_fingerprint, resolve, write_json, writing
from s2olib.statistics import blocks, cluster_interval, interval_kind

SCHEMA = 1
REQUIRED = {
    "schema": int,
    "generator": str,
    "tag": str,
    "seed": int,
    "parameters": dict,
    "dataset": dict,
    "complexity": dict,
    "code_version": str,
    "libraries": dict,
    "hardware": dict,
    "curves": list,
    "best_epoch": int,
    "samples_seen": int,
    "metrics": dict,
    "evaluation": dict,
    "cost": dict,
}
PLACE = ("id", "scene", "group", "season", "row", "col")  # columns of patches.csv that are not metrics
VOLATILE = ("cost", "hardware", "libraries")


def run_name(generator: str, tag: str, seed: int) -> str:
    """``<generator>-<tag>-s<seed>``, the folder of a run under its ``run_root``."""
    return f"{generator}-{tag}-s{seed}"


def summarise(*seeds: pd.DataFrame) -> dict[str, dict]:
    """Mean and 95 % cluster-bootstrap interval of every metric of ``patches.csv``, ``{name: {mean, low, high}}``.

    Several frames are the same patches measured for several seeds, which are nested in the interval. Skill is pooled,
    1 − ΣMSE / ΣMSE(mean colour): the mean over patches would be ruled by those of a single colour.
    """
    patches = seeds[0]
    if any(list(other["id"]) != list(patches["id"]) for other in seeds):
        raise InputError("The seeds were not evaluated on the same patches: execute their runs again.")
    clusters = blocks(patches)
    names = [name for name in patches if name not in (*PLACE, "mse_mean_colour")]
    summary = {}
    for name in names:
        weights = patches["mse_mean_colour"] if name == "skill" else None
        mean, low, high = cluster_interval([one[name] for one in seeds], clusters, weights=weights)
        summary[name] = {"mean": mean, "low": low, "high": high}
    return summary


def evaluation_conditions(patches: pd.DataFrame, split: str) -> dict:
    """What the metrics were measured on and how: the conditions that every printed number carries."""
    clusters = int(blocks(patches).max()) + 1
    bootstrap = f"95 % cluster bootstrap, {interval_kind(patches['group'])}"
    return {
        "split": split,
        "patches": len(patches),
        "groups": sorted(map(str, patches["group"].unique())),
        "clusters": clusters,
        "interval": bootstrap if clusters > 1 else "no interval, since one cluster has none",
        "data_range": "8-bit: clipped to the stated limits, 0..255, rounded, float64",
        "ssim": "Gaussian, sigma 1.5, window 11, per channel, population covariance",
    }


def least_sensitivity(record: dict) -> float:
    """The DSD's least optical sensitivity in an epoch in which it judged the generator; NaN where none did."""
    how = record["parameters"]
    judging = record["curves"][0 if how["dsd_schedule"] == "joint" else how["dsd_warmup"] :]
    return min((curve["optical_sensitivity"] for curve in judging if "optical_sensitivity" in curve), default=math.nan)


def machine(device: torch.device) -> dict:
    """The hardware a run used: the device's type and name, and PyTorch's threads."""
    name, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif cpuinfo.is_file():  # Linux, where Python knows the architecture alone
        models = (line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line)
        name = next(models, name)
    return {"device": device.type, "name": name, "threads": torch.get_num_threads()}


def libraries() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {name: version(name) for name in ("torch", "timm", "lightning-fabric", "numpy")}


def write(run: str | Path, record: dict, patches: pd.DataFrame) -> None:
    """Write ``patches.csv`` and then ``record.json`` into the run's folder: a run with a record is a finished run."""
    run = resolve(run)
    record = {"schema": SCHEMA, "code_version": code_fingerprint(), "libraries": libraries()} | record
    check(record, run / "record.json")
    with writing(run / "patches.csv") as aside:
        patches.to_csv(aside, index=False, float_format="%.6f", lineterminator="\n")
    write_json(run / "record.json", record)


def read(run: str | Path) -> dict:
    """The record of a run's folder, checked against the schema; missing or broken ones raise `InputError`."""
    path = resolve(run) / "record.json"
    if not path.is_file():
        raise InputError(f"{path} does not exist: the run is missing or unfinished, execute 03_train for it first.")
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:  # no JSON, or no text
        raise InputError(f"{path} is not valid JSON ({error}): delete it and execute the run again.") from None
    check(record, path)
    return record


def read_patches(run: str | Path) -> pd.DataFrame:
    """``patches.csv`` of a run: one row for each test patch; names that are missing are empty."""
    path = resolve(run) / "patches.csv"
    if not path.is_file():
        raise InputError(f"{path} does not exist: execute the run again.")
    text = dict.fromkeys(PLACE[:4], str)  # and a place may be called NA
    try:
        patches = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    except ValueError as error:  # empty, no table, or no text
        raise InputError(f"{path} cannot be read ({error}): delete it and execute the run again.") from None
    return patches.fillna(dict.fromkeys(text, ""))  # no group is one group, and not one for each patch


def read_patch(run: str | Path, patch_id: str) -> pd.Series:
    """One test patch's metrics in a run; raises `InputError` where the run was not tested on it."""
    patches = read_patches(run)
    found = patches[patches["id"] == patch_id]
    if found.empty:
        raise InputError(f"{run} was not tested on the patch {patch_id}: name one that it was tested on.")
    return found.iloc[0]


def log_reading(run_root: str | Path, reader: str) -> None:
    """Note in ``test_readings.csv`` that the test split was read, when, and for whom."""
    with open(resolve(run_root) / "test_readings.csv", "a", encoding="utf-8") as log:
        log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')},{reader}\n")


def find(run_root: str | Path) -> dict[str, dict]:
    """Every finished run under `run_root`, ``{folder name: record}``; raises `InputError` where there is none."""
    folders = sorted(path.parent for path in resolve(run_root).glob("*/record.json"))
    if not folders:
        raise InputError(f"run_root {run_root} holds no finished run: execute 03_train first.")
    return {folder.name: read(folder) for folder in folders}


def check_data(runs: dict[str, dict], data: dict, dataset_root: str | Path, *, alike: bool = False) -> None:
    """Raise `InputError` for the first run, record by name, of other data or limits than `data`, a dataset.json's.

    With `alike` they may be others, if their bands and limits are these: the same images with another split.
    """
    of_images = {key: {name: data[name][key] for name in ("sar", "opt")} for key in ("limits", *["bands"] * alike)}
    now = of_images if alike else of_images | {"fingerprint": data["fingerprint"]}
    for run, record in runs.items():
        if any(record["dataset"][name] != value for name, value in now.items()):
            raise InputError(
                f"{run} was trained on other data or limits than {dataset_root} now has: train it again, or name its "
                "own data."
            )


def check(record: dict, path: Path) -> None:
    """Raise `InputError` unless `record` has every key of `REQUIRED`, each of its type."""
    for key, kind in REQUIRED.items():
        if not (isinstance(record, dict) and isinstance(record.get(key), kind)):
            raise InputError(f"{path} has no valid `{key}` ({kind.__name__}): it was not written by this version.")
    if record["schema"] != SCHEMA:
        raise InputError(f"{path} has schema {record['schema']}, this version reads {SCHEMA}: execute the run again.")


def publish(run: str | Path, target: str | Path) -> bool:
    """Copy a run's record and per-patch metrics to `target` for the book; say whether anything but cost differed."""
    run, target = resolve(run), resolve(target)
    record = read(run)

    def lasting(record: dict) -> dict:
        return {key: value for key, value in record.items() if key not in VOLATILE}

    if filecmp.cmpfiles(run, target, ["patches.csv"], shallow=False)[0]:
        with suppress(InputError):  # one that is missing, broken or of an older version is replaced
            if lasting(read(target)) == lasting(record):
                return False
    for name in ("patches.csv", "record.json"):
        with writing(target / name) as aside:
            shutil.copyfile(run / name, aside)
    return True
