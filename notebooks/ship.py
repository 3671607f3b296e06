"""Ship the weights of a finished run: what `Generator.from_pretrained` and ``06_translate`` need, and a model card.

    python notebooks/ship.py sen12 s2oformer --licence cc-by-4.0        # into weights/sen12-s2oformer

The card is made from the record of the profile's run of its `tag` (else "dsd"), seed 0, and from its data set. Weights of
data without a licence stay where they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import execute

from s2olib import checkpoints, records
from s2olib.data.triplets import Triplets
from s2olib.generators import generator_names
from s2olib.project import InputError, resolve, root, writing

MOST = 15  # MiB


def model_card(record: dict, info: dict, licence: str) -> str:
    """The card in Markdown: what the weights are, from what, how good, for what and for what not."""
    data, metrics, evaluation = record["dataset"], record["metrics"], record["evaluation"]

    def shown(name: str, digits: int) -> str:
        return "{mean:.{d}f} [{low:.{d}f}, {high:.{d}f}]".format(**metrics[name], d=digits)

    sar, opt = (
        f"{', '.join(data['bands'][name])}, {data['units'][name]}, limits {data['limits'][name]}"
        for name in ("sar", "opt")
    )
    better = metrics["skill"]["low"] > 0
    return f"""---
license: {licence}
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
| weights | {record["complexity"]["parameters"]:,} |
| training | {data["counts"]["train"]} patches, {record["samples_seen"]:,} crops, seed {record["seed"]}, tag `{record["tag"]}` |
| data | {info["parameters"]["credit"] or data["source"]}{" (synthetic)" * data["synthetic"]} |
| data fingerprint | `{data["fingerprint"][:12]}` |

## How good

{evaluation["patches"]} test patches, none of which it saw in training ({", ".join(evaluation["groups"])});
{evaluation["interval"]}; {evaluation["data_range"]}.

| PSNR (dB) | SSIM | skill |
|--:|--:|--:|
| {shown("psnr", 2)} | {shown("ssim", 3)} | {shown("skill", 3)} |

Skill is the share of the error of one constant colour, the mean of the training patches, that the network takes away. Here it
is {"above 0 by its whole interval" if better else "not above 0 by its interval: **these pictures are not shown to be better than that colour**"}.

## Intended use

To try `s2olib.translation` and `Generator.from_pretrained` without a training, to begin a training from, and to see what
happens outside a domain. Not for maps, measurements, change detection or decisions of any kind: the colours are those that the
network learned to expect. Radar of another band, scaling or pixel size than the table's is out of its domain.
"""


def ship(profile: str, generator: str, licence: str) -> Path:
    """Write weights, config and card, whole or not at all; raises `InputError` for what cannot be shipped."""
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
    with writing(target) as aside:
        aside.mkdir()
        network._save_pretrained(aside)
        (aside / "README.md").write_text(model_card(record, info, licence))
        size = sum(path.stat().st_size for path in aside.iterdir()) / 2**20
        if size > MOST:
            raise InputError(f"The weights of {run} have {size:.0f} MiB: at most {MOST} are shipped.")
    return target


def main() -> int:
    """Command line; 2 for a run that cannot be shipped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="a file of notebooks/profiles without its ending")
    parser.add_argument("generator", choices=generator_names())
    parser.add_argument("--licence", required=True, help="the weights' licence, as the Hugging Face Hub names it")
    arguments = parser.parse_args()
    try:
        print(ship(arguments.profile, arguments.generator, arguments.licence))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
