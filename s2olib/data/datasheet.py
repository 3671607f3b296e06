"""The datasheet of a data set: what, where, when, whose, how it was judged and what is wrong with it.

After Gebru et al., "Datasheets for datasets" (2021). Everything is read from dataset.json and the index files:

    python -m s2olib.data.datasheet data/quick [--map FILE.png]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from s2olib.data import SPLITS
from s2olib.data.build import by_reason
from s2olib.data.rasters import crs_of, is_mercator
from s2olib.data.triplets import Triplets
from s2olib.project import told_in_a_sentence

SENTINEL = "Contains modified Copernicus Sentinel data (free, full and open)."
SEN12MS = "SEN12MS (Schmitt et al. 2019, TUM, CC-BY-4.0)."
SOURCES = {
    "sen12ms": f"{SEN12MS} {SENTINEL}",
    "embedded": "SYNTHETIC: drawn by this library to check code. It shows no real place and is evidence of nothing.",
    "folder": "Files of your own; no credit was given (parameter `credit`).",
}
FAULTS = {
    "sen12ms": [
        "images are composites of a season, not of a day: the radar and the optical image may be weeks apart",
        "`ROIs1868_summer_s1_146_p202` has not-a-number pixels",
        "published as Level-1C (13 bands), with haze and the air's blue in it; files of 12 bands are Level-2A",
    ],
    "embedded": ["made of rules: textures, spectra and errors of the real world are missing"],
    "folder": ["how well the images of a pair are aligned was not measured"],
}


def datasheet(dataset_root: str | Path) -> str:
    """The datasheet as Markdown, without a heading. Raises InputError for a missing data set."""
    splits = {split: Triplets(dataset_root, split) for split in SPLITS}
    info, index = splits["train"].info, pd.concat({split: data.index for split, data in splits.items()})
    parts = {
        "What": _what(info, index),
        "Where": _where(info, index),
        "When": _when(info, index),
        "Whose": _whose(info),
        "Judged": _judged(info, bool((index["crs"].fillna("") != "").any())),
        "Known faults": "\n" + "\n".join(f"- {fault}" for fault in _faults(info, index)),
        "Identity": f"schema {info['schema']}, fingerprint `{info['fingerprint']}`",
    }
    return "\n\n".join(f"**{name}.** {text}" for name, text in parts.items()) + "\n"


def _on_the_ground(metres: float, index: pd.DataFrame) -> str:
    """What so many metres of Mercator's projection are on the ground, since they are shorter there."""
    projections = set(index["crs"].dropna()) - {""}
    if not projections or not all(is_mercator(crs_of(crs)) for crs in projections):
        return ""
    shorter = np.cos(np.radians(index["lat"]))
    ground = sorted({f"{metres * share:.3g}" for share in (shorter.min(), shorter.max())}, key=float)
    return f" of its projection ({' to '.join(ground)} m on the ground)"


def _what(info: dict, index: pd.DataFrame) -> str:
    size, metres = info["patch_size"], info["pixel_size_m"]
    counts = ", ".join(f"{info['counts'][split]} {split}" for split in SPLITS)
    text = f"{sum(info['counts'].values())} patches of {size} x {size} px ({counts})"
    text += f" at {metres:g} m" if metres else ""
    text += _on_the_ground(metres, index) if metres else ""
    for name, what in (("sar", "SAR"), ("opt", "optical")):
        part = info[name]
        bands = (
            f"{band} from {low:g} to {high:g}" for band, (low, high) in zip(part["bands"], part["limits"], strict=True)
        )
        text += f"; {what}, {part['units']}: {', '.join(bands)}".replace("-", "−").replace("8−bit", "8-bit")
    if any(offsets := info["opt_offsets"]):
        text += f"; {' or '.join(f'{offset:g}' for offset in offsets)} taken from the stored reflectance"
        text += ", for each pair as listed" if len(offsets) > 1 else ""
    if info["lulc"]:
        lulc = info["lulc"]
        text += f"; {lulc['kind']}: {lulc['product']}, merged to {', '.join(lulc['categories'])}"
    return text + "."


def _where(info: dict, index: pd.DataFrame) -> str:
    placeless = int(index["lon"].isna().sum())
    if placeless:
        groups, unnamed = ", ".join(sorted(set(index["group"]) - {""})) or "none", int((index["group"] == "").sum())
        groups += f", and {unnamed} patches of no named group" if 0 < unnamed < len(index) else ""
        which = "The source has" if placeless == len(index) else f"{placeless} of {len(index)} patches have"
        return f"{which} no geography. Groups: {groups}."
    lines = [
        "",
        "| split | west | south | east | north | unique area (km²) |",
        "| :--- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for split in SPLITS:
        lon, lat = index.loc[split, "lon"], index.loc[split, "lat"]
        lon = lon % 360 if np.ptp(lon) > 180 else lon  # where they lie on both sides of 180 degrees
        box = " | ".join(f"{x:.3f}".replace("-", "−") for x in (lon.min(), lat.min(), lon.max(), lat.max()))
        lines.append(f"| {split} | {box} | {info['unique_area_km2'][split]:.1f} |")
    return "Degrees, of the patches' centres.\n" + "\n".join(lines)


def _when(info: dict, index: pd.DataFrame) -> str:
    dates = " to ".join(info["dates"]) or "not stated by the files"
    seasons = Counter(index["season"][index["season"] != ""])
    text = f"Images: {dates}"
    text += f" ({', '.join(f'{count} {season}' for season, count in sorted(seasons.items()))})" if seasons else ""
    if info["lulc"] and info["lulc"]["kind"] == "land cover" and not info["synthetic"]:
        text += (
            f". Land-cover map: {info['lulc']['epoch'] or 'not stated'}; what changed between is wrong in the labels"
        )
    return text + "."


def _whose(info: dict) -> str:
    text = info["parameters"]["credit"] or SOURCES[info["source"]]
    lulc = info["lulc"] or {}
    if lulc.get("credit") and info["source"] != "embedded":
        text = f"{text.removesuffix('.')}. Land cover: {lulc['product']}, {lulc['credit']}."
    return text


def _judged(info: dict, placed: bool) -> str:
    """What was refused, and the limits that were asked for: not those of a map that there is none of, or of distances
    between patches that are not `placed`."""
    has_map = bool(info["lulc"]) and info["lulc"]["kind"] == "land cover"
    if not info["refused"]:
        return "No patch was refused."
    given = info["parameters"]
    asked = {
        "max_nodata": True,
        "max_unlabelled": has_map,
        "max_sea": has_map,
        "max_cloud": True,
        "cloud_brightness": True,
        "haze_brightness": info["opt"]["units"] != "8-bit" or given["haze_brightness"] is not None,
        "border_noise_db": info["sar"]["units"] == "dB",
        "buffer_m": placed,
    }
    given = {name: given[name] for name, applies in asked.items() if applies}
    limits = ", ".join(f"{name} {'by default' if value is None else f'{value:g}'}" for name, value in given.items())
    reasons = ", ".join(f"{count} {reason}" for reason, count in by_reason(info["refused"]).most_common())
    return f"Refused: {reasons} ({limits})."


def _faults(info: dict, index: pd.DataFrame) -> list[str]:
    faults = list(FAULTS[info["source"]])
    if any(crs_of(crs).is_geographic for crs in set(index["crs"].dropna()) - {""}):
        faults.append(
            "images are in degrees: pixels are not square on the ground, and their size changes with latitude"
        )
    if info["sar"]["units"] == "8-bit":
        faults.append("SAR is scaled to 8 bits: absolute backscatter is lost")
    if info["lulc"] and info["lulc"]["kind"] != "land cover":
        faults.append("pseudo-categories follow colour, not land cover, and are there for training patches alone")
    if info["parameters"].get("block_m"):
        faults.append(
            "splits are blocks of the same images: test has the light, weather and land of training, and intervals "
            "take blocks that touch for independent"
        )
    if info["counts"]["test"] < 50:
        faults.append(f"only {info['counts']['test']} test patches: intervals of every score are wide")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description="Print a data set's datasheet.")
    parser.add_argument("dataset_root", help="a folder that build has written")
    parser.add_argument("--map", help="also draw there where the splits' patches lie (PNG or SVG), and link it")
    given = parser.parse_args()
    root = Path(given.dataset_root).expanduser().absolute()
    print(datasheet(root), end="")
    if given.map:
        from s2olib import figures  # long to load, and not for text

        splits = {split: Triplets(root, split) for split in SPLITS}
        index = pd.concat([data.index.assign(split=split) for split, data in splits.items()], ignore_index=True)
        figures.use_style(synthetic=splits["train"].info["synthetic"])
        figures.save(figures.split_map(index, {}), Path(given.map).expanduser())
        print(f"\n![Where the patches of the three splits lie]({given.map})")


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
