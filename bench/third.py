"""Score networks whose weights were kept on the test patches of another data set: two floods that no choice has seen.

    python bench/third.py [RUN_FOLDER ...] [--dataset data/ombria-20m-third] [--trained data/ombria-20m] --record FILE

The training and validation patches of both data sets must be the same, value for value, so that what a network learned
and chose by is what its record says, and the test patches alone differ. Beside the networks stand the baselines of
``04_results``. A record that is there keeps what it has of other runs; a network is scored once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from s2olib import baselines, checkpoints, evaluation, records
from s2olib.data.triplets import Triplets
from s2olib.project import InputError, resolve, told_in_a_sentence, writing

METRICS = ("psnr", "ssim", "skill", "offset_free_psnr", "mse_mean_colour")


def check_alike(dataset: str, trained: str) -> None:
    """Raise InputError unless both data sets train and validate on the same patches."""
    for split in ("train", "validation"):
        one, other = Triplets(dataset, split), Triplets(trained, split)
        if list(one.index["id"]) != list(other.index["id"]):
            raise InputError(f"{dataset}/{split} has other patches than {trained}/{split}: build both with one list.")
        for i in tqdm(range(len(one)), desc=f"comparing, {split}"):
            if any(not np.array_equal(one[i][name], other[i][name]) for name in ("sar", "opt")):
                name = one.index["id"][i]
                raise InputError(f"patch {name} of {dataset} and of {trained} differ: build both from the same files.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--dataset", default="data/ombria-20m-third")
    parser.add_argument("--trained", default="data/ombria-20m")
    parser.add_argument("--record", type=Path, required=True)
    given = parser.parse_args()
    check_alike(given.dataset, given.trained)
    train, trained = Triplets(given.dataset, "train"), Triplets(given.trained, "train")
    found = {run: records.read(run) for run in map(resolve, given.runs)}
    records.check_data({run.name: record for run, record in found.items()}, trained.info, given.trained)
    result = {"data": train.info["fingerprint"], "patches": {}, "code": {}, "runs": {}}
    if given.record.is_file():
        result = json.loads(given.record.read_text())
        if result["data"] != train.info["fingerprint"]:
            raise InputError(f"{given.record} is of other data than {given.dataset}: name a new file.")
    scored = {name: baseline.fit(train, seed=0) for name, baseline in baselines.BASELINES.items()}
    scored |= {run.name: checkpoints.load_generator(run)[0] for run in found}
    code = {run.name: record["code_version"] for run, record in found.items()}
    for name, generator in scored.items():
        if name in result["runs"]:
            continue
        patches = evaluation.evaluate(generator, given.dataset, "test")
        result["patches"] = {column: patches[column].tolist() for column in records.PLACE if column in patches}
        result["runs"][name] = {metric: patches[metric].round(6).tolist() for metric in METRICS}
        if name in code:
            result["code"][name] = code[name]
        print(name, {metric: round(float(patches[metric].mean()), 4) for metric in METRICS})
        with writing(given.record) as path:
            path.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
