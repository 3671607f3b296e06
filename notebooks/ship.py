"""Ship the weights of a finished run: what `Generator.from_pretrained` and ``06_translate`` need, and a model card.

    python notebooks/ship.py sen12 s2oformer --licence cc-by-4.0        # into weights/sen12-s2oformer
    python notebooks/ship.py socal s2oformer --licence copernicus --scaling "amplitude over its 99 % quantile"

The card is made from the record of the profile's run of its `tag` (else "dsd"), seed 0, and from its data set. Weights
of data without a licence stay where they are.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import execute
import pandas as pd

from s2olib import checkpoints, records
from s2olib.data.triplets import Triplets
from s2olib.generators import generator_names
from s2olib.project import InputError, resolve, root, told_in_a_sentence, writable, writing

MOST = 15  # MiB


COPERNICUS = """other
license_name: copernicus-sentinel-data
license_link: https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"""  # free, full and open, for data whose terms are no licence that the hub has a name for


def model_card(record: dict, patches: pd.DataFrame, info: dict, licence: str, scaling: str = "") -> str:
    """The card in Markdown: what the weights are, from what, how good, for what and for what not."""
    data, evaluation, lulc = record["dataset"], record["evaluation"], record["dataset"]["lulc"]

    def row(where: str, frame: pd.DataFrame) -> str:
        scores = records.summarise(frame)
        clusters = records.evaluation_conditions(frame, "test")["clusters"]
        shown = (
            ("{mean:.{d}f} [{low:.{d}f}, {high:.{d}f}]" if clusters > 1 else "{mean:.{d}f}").format(
                **scores[name], d=digits
            )
            for name, digits in (("psnr", 2), ("ssim", 3), ("skill", 3))
        )
        return f"| {where} | {len(frame)} in {clusters} | {' | '.join(shown)} |"

    places = list(patches.groupby("group"))
    rows = [
        row("all", patches),
        *(row(name, frame.reset_index(drop=True)) for name, frame in places if len(places) > 1),
    ]
    labels = "learned no categories" if not lulc else f"learned {lulc['kind']} ({', '.join(lulc['categories'])})"
    judge = f"a discriminator that {labels}" if record["parameters"]["dsd_weight"] else "no discriminator of meaning"

    sar, opt = (
        f"{', '.join(data['bands'][name])}, {data['units'][name]}, limits {data['limits'][name]}"
        for name in ("sar", "opt")
    )
    low = record["metrics"]["skill"]["low"]
    if math.isnan(low):
        worth = "of one cluster, and has no interval: **these pictures are not shown to be better than that colour**"
    elif low > 0:
        worth = "above 0 by its whole interval over all patches"
    else:
        worth = "not above 0 by its interval: **these pictures are not shown to be better than that colour**"
    return f"""---
license: {COPERNICUS if licence == "copernicus" else licence}
library_name: s2olib
tags: [sar, remote-sensing, image-to-image]
---
# {record["generator"]}, trained on {data["name"]}

Turns radar ({", ".join(data["bands"]["sar"])}) into a picture. **Generated, not observed, and not for measurement.**

| | |
|:--|:--|
| input | {sar}, (B, {len(data["bands"]["sar"])}, H, W) in [-1, 1] |
| output | {opt}, (B, 3, H, W) in [-1, 1] |
| pixels | {f"{data['pixel_size_m']:g} m" if data["pixel_size_m"] else "of unknown size"} |
| scaling | {scaling or "not stated"} |
| weights | {record["complexity"]["parameters"]:,} |
| training | {data["counts"]["train"]} patches, {record["samples_seen"]:,} crops in {len(record["curves"])} epochs (number {record["best_epoch"] + 1} is kept), \
seed {record["seed"]}; {judge} |
| data | {info["parameters"]["credit"] or data["source"]}{" (synthetic)" * data["synthetic"]} |
| data fingerprint | `{data["fingerprint"][:12]}` |

## How good

{evaluation["patches"]} test patches, none of which it saw in training ({", ".join(evaluation["groups"])});
{evaluation["interval"]}; {evaluation["data_range"]}.

| where | patches in clusters | PSNR (dB) | SSIM | skill |
|:--|:--|:--|:--|:--|
{chr(10).join(rows)}

From fewer than ten clusters an interval describes these patches and promises nothing of others.

Skill is the share of the error of one constant colour, the mean of the training patches, that the network takes away. Here it
is {worth}.

## Intended use

To try `s2olib.translation` and `Generator.from_pretrained` without a training, to begin a training from, and to see what
happens outside a domain. Not for maps, measurements, change detection or decisions of any kind: the colours are those that the
network learned to expect. Radar of another band, scaling or pixel size than the table's is out of its domain.
"""


def ship(profile: str, generator: str, licence: str, scaling: str = "") -> Path:
    """Write weights, config and card, whole or not at all; raises `InputError` for what cannot be shipped."""
    if licence == "other":
        raise InputError("licence 'other' names no terms: give copernicus for modified Copernicus data, or a licence.")
    given, _ = execute.read_profile(profile)
    parameters = execute.declared(execute.SOURCES / f"{execute.TRAIN}.py") | given
    run = resolve(parameters["run_root"]) / records.run_name(generator, parameters["tag"], 0)
    record, info = records.read(run), Triplets(parameters["dataset_root"], "train").info
    records.check_data({run.name: record}, info, parameters["dataset_root"])
    credit = info["parameters"]["credit"] or ""
    if "no licence" in credit or (info["source"] == "folder" and not credit):
        raise InputError(f"{profile} has data without a licence, or none in `credit`: its weights are not given away.")
    network, _ = checkpoints.load_generator(run)
    target = root() / "weights" / f"{profile}-{generator}"
    with writable("the folder of shipped weights", target), writing(target) as aside:
        aside.mkdir()
        network._save_pretrained(aside)
        (aside / "README.md").write_text(
            model_card(record, records.read_patches(run), info, licence, scaling), encoding="utf-8"
        )
        size = sum(path.stat().st_size for path in aside.iterdir()) / 2**20
        if size > MOST:
            raise InputError(f"The weights of {run} have {size:.0f} MiB: at most {MOST} are shipped.")
    return target


def main() -> None:
    """Command line; exit code 2 for a run that cannot be shipped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="a file of notebooks/profiles without its ending")
    parser.add_argument("generator", choices=generator_names())
    parser.add_argument("--licence", required=True, help="of the weights, as the hub names it, or copernicus")
    parser.add_argument("--scaling", default="", help="how the radar's numbers and pixels were made, for the card")
    arguments = parser.parse_args()
    with told_in_a_sentence():
        print(ship(arguments.profile, arguments.generator, arguments.licence, arguments.scaling))


if __name__ == "__main__":
    main()
