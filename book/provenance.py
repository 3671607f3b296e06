"""What every number of the book is traced to: one page for each run, the list of runs, and when each notebook ran.

All of it is written from ``book/results/<profile>/<run>/record.json`` (and ``steps.json`` beside the runs) into
``book/_generated`` whenever the book is built; nothing in it is typed in.
"""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import again
import brightness
import controls
import device
import grid
import ground
import leads
import numpy as np
import place_table
import results_table
import split_table
import third
import topology
from matplotlib import pyplot as plt
from PIL import Image

from s2olib import figures, records
from s2olib.data import SPLITS
from s2olib.data.landcover import LEGENDS, PSEUDO, find_legend
from s2olib.project import InputError, parse_yaml

METRICS = {  # name in a record: label, format
    "psnr": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "skill": ("skill", ".3f"),
    "offset_free_psnr": ("PSNR without offset (dB)", ".2f"),
    "rmse": ("RMSE (8-bit steps)", ".2f"),
    "sam": ("spectral angle (°)", ".2f"),
    "edge_correlation": ("correlation of edges", ".3f"),
    "flat_deviation": ("deviation in flat windows (8-bit steps)", ".2f"),
    "flat_deviation_real": ("the same in the real image", ".2f"),
}
KINDS = {"synthetic": "synthetic", "real": "real", "talk": "the talk's"}
OMBRIA = ("ombria-10m", "ombria")  # two scales, two tables
DEEP = ("hat", "s2oformer")  # made of groups of blocks
SETS = ("ombria", "ombria-second")  # of unseen places, at one scale


def read_results(results: Path) -> dict[str, dict[str, dict]]:
    """Every published record, ``{profile: {run: record}}``, profiles of real data first."""
    found = {
        folder.name: records.find(folder)
        for folder in sorted(results.iterdir())
        if folder.is_dir() and any(folder.glob("*/record.json"))
    }
    if not found:
        raise InputError(f"{results} holds no record: `make notebooks` executes the notebooks and publishes theirs.")
    return dict(sorted(found.items(), key=lambda item: kind_of(item[1]) == "synthetic"))


def kind_of(runs: dict[str, dict]) -> str:
    """``synthetic`` or ``real``: a profile's runs are of one data set."""
    return "synthetic" if next(iter(runs.values()))["dataset"]["synthetic"] else "real"


def steps_of(results: Path, profile: str) -> dict[str, dict]:
    """How long each executed notebook of a profile took, ``{notebook: {seconds}}``."""
    path = results / profile / "steps.json"
    if not path.is_file():
        raise InputError(f"{path} does not exist: `make notebooks PROFILE={profile}` writes it.")
    return json.loads(path.read_text(encoding="utf-8"))


CURVES = ("l1", "validation_psnr")  # of a record, what its page draws: small, since there are many pages
PROCESS_MEMORY = ("f9b73599483f8e85", "0fa7f7b275538203")  # code whose records hold the peak of a process, not a run


def run_page(profile: str, run: str, record: dict) -> str:
    """A run's page: what was measured, on what, with which settings, by which code, where and how long."""
    dataset, evaluation, cost = record["dataset"], record["evaluation"], record["cost"]
    lulc, regions = dataset["lulc"], len(evaluation["groups"])
    seconds, memory = cost["expected_seconds"], f"{cost['peak_memory_gib']:.2f} GiB"
    expected = f" ({seconds / 60:.1f} expected for its steps, from two of them)" if seconds else ""
    whole = record["code_version"].startswith(PROCESS_MEMORY)
    rows = [
        {"metric": METRICS.get(name, (name.replace("_", " "), ".3f"))[0]}
        | {key: figures.table_cell(value[key], METRICS.get(name, ("", ".3f"))[1]) for key in ("mean", "low", "high")}
        for name, value in record["metrics"].items()
    ]
    about = {
        "data set": dataset["name"],
        "data fingerprint": f"`{dataset['fingerprint'][:16]}`",
        "patches": ", ".join(f"{count} {split}" for split, count in dataset["counts"].items()),
        "pixel": f"{dataset['pixel_size_m']:g} m" if dataset["pixel_size_m"] else "of unknown size",
        "radar": _bands(dataset, "sar"),
        "optical": _bands(dataset, "opt"),
        "categories": f"{lulc['kind']}: {', '.join(lulc['categories'])}" if lulc else "none",
        "scored on": f"{evaluation['patches']} {evaluation['split']} patches in "
        f"{'one region' if regions == 1 else f'{regions} regions'}; {evaluation['interval']}",
        "data range": evaluation["data_range"],
        "SSIM": evaluation["ssim"],
        "scored epoch": f"{record['best_epoch'] + 1} of {len(record['curves'])}, the best on validation patches",
        "samples seen": f"{record['samples_seen']:,}",
        "size": "{parameters:,} parameters, {macs:,} MACs a patch".format(**record["complexity"]),
        "seed": record["seed"],
        "code version": f"`{record['code_version'][:16]}`",
        "libraries": ", ".join(f"{name} {version}" for name, version in record["libraries"].items()),
        "hardware": ", ".join(f"{key} {value}" for key, value in record["hardware"].items()),
        "training took": f"{cost['train_seconds'] / 60:.1f} minutes{expected}",
        "samples a second": f"{cost['samples_per_second']:.1f}, validation included",
        "peak memory": f"at most {memory}: it may be an earlier training's of the same process" if whole else memory,
        "finished": cost["finished"],
    }
    settings = [
        {"parameter": f"`{name}`", "value": "–" if value == "" else f"`{value}`"}
        for name, value in record["parameters"].items()
    ]
    kind = kind_of({run: record})
    folder = f"/book/results/{profile}/{run}"
    return "\n\n".join(
        [
            "---\nnosearch: true\n---",  # a hundred pages of the same words would come before those that explain them
            f"# {profile}: {run}",
            f"{{kind}}`{kind}` Written from the run's record: {{download}}`record.json <{folder}/record.json>`, and "
            f"{{download}}`patches.csv <{folder}/patches.csv>` with every test patch's metrics.",
            figures.metric_table(
                rows, f"Metrics of {run}, profile {profile}, with 95 % intervals.", f"tab-run-{profile}-{run}"
            ),
            f"```{{figure}} {profile}-{run}.png\n:alt: Training curves\n\nBy epoch: L1 on the training split, PSNR on "
            "validation patches. Dotted: the epoch that was scored. The record has all curves.\n```",
            "## What, how, where",
            plain_table([{"": name, " ": value} for name, value in about.items() if value]),
            "## Settings",
            plain_table(settings),
            "",
        ]
    )


def draw_curves(run: str, record: dict, path: Path) -> None:
    """The curves of a run's page as a PNG of few colours."""
    figure = figures.training_curves({run: record}, CURVES)
    figure.set_dpi(90)
    figure.canvas.draw()
    Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]).quantize(8).save(path, optimize=True)
    plt.close(figure)


def _bands(dataset: dict, kind: str) -> str:
    """The bands of the radar (`sar`) or the optical image (`opt`), the limits each is clipped to, and their unit."""
    bands = zip(dataset["bands"][kind], dataset["limits"][kind], strict=True)
    limits = ", ".join(f"{band} from {low:g} to {high:g}".replace("-", "−") for band, (low, high) in bands)
    return f"{limits} ({dataset['units'][kind]})"


def plain_table(rows: list[dict]) -> str:
    """A table without number and caption."""
    return "\n".join(figures.metric_table(rows, "", "x").splitlines()[3:-1])


def runs_table(profile: str, runs: dict[str, dict]) -> str:
    """The runs of one profile, each linked to its page."""
    rows = [
        {
            "run": results_table.link(profile, run),
            "PSNR (dB)": record["metrics"]["psnr"]["mean"],
            "SSIM": record["metrics"]["ssim"]["mean"],
            "weights (M)": record["complexity"]["parameters"] / 1e6,
            "minutes": record["cost"]["train_seconds"] / 60,
        }
        for run, record in runs.items()
    ]
    kind = kind_of(runs)
    caption = f"Runs of the profile {profile} ({kind} data), each linked to its provenance."
    return f"## {profile}\n\n{{kind}}`{kind}`\n\n" + figures.metric_table(
        rows, caption, f"tab-runs-{profile}", {"SSIM": ".3f", "weights (M)": ".3f", "minutes": ".1f"}
    )


def experiments_table(profiles: dict[str, dict[str, dict]]) -> str:
    """What each profile's data are, and what its trainings were given, by its records: two tables."""
    data, trainings = [], []
    for profile, runs in profiles.items():
        records_of = [*runs.values()]
        first = records_of[0]
        dataset, settings = first["dataset"], first["parameters"]
        of = {record["generator"]: record["parameters"] for record in records_of}
        widths = [str(of[name]["embed_dim"]) if name in of else "–" for name in results_table.REPORTED]
        blocks = [f"{len(of[name]['depths'])} × {of[name]['depths'][0]}" if name in of else "–" for name in DEEP]
        dsd = next((record["parameters"] for record in records_of if record["parameters"]["dsd_weight"]), None)
        warmup = dsd["dsd_warmup"] if dsd and dsd["dsd_schedule"] != "joint" else 0
        name = {"profile": f"{profile} ({kind_of(runs)})"}
        data.append(
            name
            | {
                "radar": f"{' '.join(dataset['bands']['sar'])}, {dataset['units']['sar']}",
                "optical": " ".join(dataset["bands"]["opt"]),
                "pixel (m)": dataset["pixel_size_m"],
                "train, validation, test": ", ".join(str(dataset["counts"].get(split, "–")) for split in SPLITS),
            }
        )
        trainings.append(
            name
            | {
                "size (px)": settings["crop_size"] or dataset["patch_size"],
                "width": ", ".join(widths),
                "groups × blocks": ", ".join(blocks),
                "DSD": f"{dsd['dsd_width']}, {dsd['dsd_weight']:g}, {warmup}" if dsd else "–",
                "epochs, batch": f"{settings['epochs']}, {settings['batch_size']}",
                "rate": f"{settings['learning_rate']:g}, {settings['schedule']}",
                "seeds": len({record["seed"] for record in records_of}),
            }
        )
    names = ", ".join(label.removesuffix("-DSD") for label, *_ in results_table.REPORTED.values())
    caption = (
        f"What the trainings were given: size of the images trained on, channels of {names}, groups of blocks of HAT "
        "and S2OFormer, the DSD's width, weight and epochs before it judges, learning rate."
    )
    first = figures.metric_table(data, "Data of each profile, patches by split.", "tab-data", {"pixel (m)": ".0f"})
    return f"{first}\n\n{figures.metric_table(trainings, caption, 'tab-experiments')}"


def ablation_table(folder: Path, runs: dict[str, dict]) -> str:
    """PSNR and SSIM by generator, tag and training, where a profile has runs of more than one tag; else nothing."""
    if len({record["tag"] for record in runs.values()}) < 2:
        return ""
    variants: dict[tuple, dict[str, dict]] = {}
    for run, record in sorted(runs.items(), key=lambda item: not results_table.is_main(item[1])):
        key = record["generator"], record["tag"], record["parameters"]["epochs"]
        variants.setdefault(key, {})[run] = record
    order = {name: place for place, name in enumerate(results_table.REPORTED)}
    rows = [
        dict(zip(("generator", "tag", "epochs"), key, strict=True))
        | dict(zip(("PSNR (dB)", "SSIM", "seeds"), results_table.cells(folder, of), strict=True))
        for key, of in sorted(variants.items(), key=lambda item: order.get(item[0][0], len(order)))
    ]
    evaluation = next(iter(runs.values()))["evaluation"]
    caption = (
        f"Profile {folder.name}: the DSD as it is (*dsd*) and its controls. Mean over seeds and its interval "
        f"({evaluation['interval']}; {evaluation['patches']} test patches), linked to the seeds' records."
    )
    return figures.metric_table(rows, caption, f"tab-controls-{folder.name}")


def offset_table(folder: Path, runs: dict[str, dict]) -> str:
    """Each run on validation and on unseen places, with and without each picture's mean colour, and what that says.

    Runs with pix2pix's discriminator are shown and left out of the sentence.
    """
    validated = {run: [curve["validation_psnr"] for curve in record["curves"]] for run, record in runs.items()}
    rows = [
        {
            "run": results_table.link(folder.name, run),
            "epoch": record["best_epoch"] + 1,
            "validation, PSNR": validated[run][record["best_epoch"]],
            "fall": max(validated[run]) - validated[run][-1],
            "unseen, PSNR": tuple(record["metrics"]["psnr"].values()),
            "without offset": tuple(record["metrics"]["offset_free_psnr"].values()),
            "edges": tuple(record["metrics"]["edge_correlation"].values()),
            "flat": tuple(record["metrics"]["flat_deviation"].values()),
        }
        for run, record in runs.items()
    ]
    alike = [
        (row["validation, PSNR"], row["unseen, PSNR"][0], row["without offset"][0])
        for row, record in zip(rows, runs.values(), strict=True)
        if not record["parameters"]["gan_weight"]
    ]
    validation, unseen, without = (max(values) - min(values) for values in zip(*alike, strict=True))
    evaluation = next(iter(runs.values()))["evaluation"]
    caption = (
        f"Profile {folder.name}: the *epoch* that was scored and its PSNR (dB) on validation patches and on unseen "
        "places, and the *fall* of validation PSNR from its highest to the last epoch. In brackets over "
        f"{evaluation['patches']} test patches, {evaluation['clusters']} clusters; {evaluation['interval']}. *Without "
        "offset* is PSNR once each picture's mean colour is put right; "
        "correlation of *edges* with the real ones; deviation (8-bit steps) inside what is *flat* in reality."
    )
    patches = [records.read_patches(folder / run) for run in runs if not runs[run]["parameters"]["gan_weight"]]
    errors, structure = (
        np.array([(255**2 / 10 ** (of[name] / 10)).mean() for of in patches]) for name in ("psnr", "offset_free_psnr")
    )
    with_colour = np.cov(errors, errors - structure)  # squared errors add up
    others = "" if len(alike) == len(rows) else " other than pix2pix's"
    return (
        figures.metric_table(rows, caption, f"tab-offset-{folder.name}", {"edges": ".3f"})
        + f"\n\nThe {len(alike)} runs{others} lie within {validation:.2f} dB of each other on validation "
        f"and {unseen:.2f} dB on unseen places; {without:.2f} dB once each picture's mean colour is put right, perhaps "
        "with others at the ends. In squared error, where the two parts add up, "
        f"{with_colour[0, 1] / with_colour[0, 0]:.0%} of the variance between these runs is that of mean colour.\n"
    )


def foresight(profiles: dict[str, dict[str, dict]]) -> str:
    """In how many variants with three seeds validation PSNR orders the seeds as the unseen places do: a sentence."""
    said = []
    for name, runs in profiles.items():
        variants: dict[tuple, list] = {}
        for record in runs.values():
            seen = record["curves"][record["best_epoch"]]["validation_psnr"]
            variants.setdefault((record["generator"], record["tag"]), []).append(
                (seen, record["metrics"]["psnr"]["mean"])
            )
        pairs = [np.array(scores).argsort(0) for scores in variants.values() if len(scores) == 3]  # (3, 2) each
        alike = sum(bool((order[:, 0] == order[:, 1]).all()) for order in pairs)
        said += [f"{alike} of {len(pairs)} variants (*{name}*)"] if pairs else []
    if not said:
        return results_table.NOT_RUN
    return (
        "By validation PSNR the three seeds of a variant come in the same order as by PSNR on the unseen places in "
        f"{' and '.join(said)}; chance alone would give one in six."
    )


def difference_table(folder: Path) -> str:
    """What the talk reports, what was measured here, and the difference: scores, and generators' distances."""
    rows, half = [], {}
    runs = results_table.read_records(folder)
    for generator, (label, *reported) in results_table.REPORTED.items():
        mine = [record for record in runs.values() if record["generator"] == generator]
        means = [sum(r["metrics"][m]["mean"] for r in mine) / len(mine) if mine else None for m in ("psnr", "ssim")]
        half[label] = (reported, means)
    pairs = list(half)
    for first, second in [*((None, label) for label in pairs), *pairwise(pairs)]:
        row = {"": second if first is None else f"{second} − {first}"}
        for i, (metric, digits) in enumerate((("PSNR", 2), ("SSIM", 3))):
            talk, here = half[second][0][i], half[second][1][i]
            if first is not None:
                talk -= half[first][0][i]
                here = None if here is None or half[first][1][i] is None else here - half[first][1][i]
            sign = "" if first is None else "+"
            row[f"{metric}, talk"] = f"{talk:{sign}.{digits}f}".replace("-", "−")
            row[f"{metric}, here"] = "–" if here is None else f"{here:{sign}.{digits}f}".replace("-", "−")
            row[f"{metric}, difference"] = "–" if here is None else f"{here - talk:+.{digits}f}".replace("-", "−")
        rows.append(row)
    caption = (
        f"Reported in the talk (SEN12JHL), measured here (profile {folder.name}), and the difference. Scores on "
        "different data do not compare. The last two rows are each generator's distance from the one before: their "
        "signs may be set side by side, their sizes depend on the data."
    )
    return figures.metric_table(rows, caption, f"tab-difference-{folder.name}")


def times_table(results: Path, profiles: list[str], pages: set[str]) -> str:
    """How long each executed notebook of the book took: those that are among its `pages`, since others may have been
    executed beside them."""
    rows = [
        {
            "profile": profile,
            "notebook": f"{{doc}}`{name} </notebooks/executed/{profile}/{name}>`",
            "seconds": step["seconds"],
        }
        for profile in profiles
        for name, step in steps_of(results, profile).items()
        if f"notebooks/executed/{profile}/{name}" in pages
    ]
    return figures.metric_table(
        rows,
        "Seconds to execute each notebook. Trainings on real data and those of *ablation* were finished before and are "
        "not counted here; their minutes stand in each run's record.",
        "tab-times",
        {"seconds": ".0f"},
    )


def first_picture(results: Path, profiles: dict[str, dict[str, dict]]) -> str:
    """The introduction's two sliders, SAR against the real and the generated image, of synthetic data."""
    run = records.run_name("s2oformer", "dsd", 0)
    for profile, runs in profiles.items():
        for region in sorted((results / profile / "pictures").glob("*")):
            views = {name: np.asarray(Image.open(region / f"{name}.png").convert("RGB")) for name in figures.INTRODUCED}
            sliders = [
                figures.swipe(views["SAR"], views[name], "radar (SAR)", label)
                for name, label in (("OPT", "optical image"), ("S2OFormer", "generated from radar"))
            ]
            return (
                f'<div class="pair">\n{sliders[0]}\n{sliders[1]}\n</div>\n\n'
                f"{{kind}}`{kind_of(runs)}` Drag the lines, or use the arrow keys. A test patch of the profile "
                f"*{profile}*: radar (red VV, green VH, blue VV less VH; each band linear over its limits) against the "
                f"optical image, and against what S2OFormer made of the radar alone: after so short a training, "
                f"little ({results_table.link(profile, run, 'record')}).\n"
            )
    raise InputError(f"{results} holds no pictures: `make notebooks` publishes those of 05_compare.")


def merges_table() -> str:
    """How every product's classes become the four categories."""
    rows = []
    for legend in (find_legend(name) for name in LEGENDS if name not in PSEUDO):
        merge = legend.merges["four"]
        rest = sorted(set(legend.names) - {code for codes in merge.values() for code in codes})
        columns = merge | {"no category": rest}
        classes = {name: ", ".join(f"{legend.names[code]} ({code})" for code in of) for name, of in columns.items()}
        rows.append({"product": legend.product, "map of": legend.epoch} | {k: v or "–" for k, v in classes.items()})
    return figures.metric_table(rows, "Classes (and codes) of each product in the four categories.", "tab-merges")


def write(root: Path) -> None:
    """Write everything that the book takes from records into ``book/_generated``."""
    results, generated = root / "book" / "results", root / "book" / "_generated"
    profiles = read_results(results)
    shutil.rmtree(generated, ignore_errors=True)
    (generated / "runs").mkdir(parents=True)
    executed = sorted(path.name for path in (root / "notebooks" / "executed").iterdir() if path.is_dir())
    toc = parse_yaml((root / "_toc.yml").read_bytes())
    pages = {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    real = [name for name, runs in profiles.items() if kind_of(runs) == "real"]
    texts = {
        **{f"table-{name}.md": results_table.render(results / name) for name in OMBRIA},
        "experiments.md": experiments_table(profiles) + "\n",
        "runs.md": "\n\n".join(runs_table(name, runs) for name, runs in profiles.items()) + "\n",
        "difference.md": "\n\n".join(difference_table(results / name) for name in OMBRIA) + "\n",
        "ablation.md": "\n\n".join(  # the second set has a table of its own
            filter(None, (ablation_table(results / name, profiles[name]) for name in real if name != SETS[1]))
        )
        or "No control has been run on real data.",
        **{f"offset-{name}.md": offset_table(results / name, profiles[name]) for name in OMBRIA if name in profiles},
        "foresight.md": foresight({name: profiles.get(name, {}) for name in SETS}) + "\n",
        "device.md": device.render(results),
        "ground.md": ground.render(results, profiles),
        "again.md": again.render(results),
        "again-ssim.md": again.render_ssim(results),
        "brightness.md": brightness.render(results / "brightness"),
        "times.md": times_table(results, executed, pages) + "\n",
        "first_picture.md": first_picture(results, profiles),
        "places.md": place_table.render(results / "socal"),
        "sets.md": place_table.render_sets(results, {name: profiles.get(name, {}) for name in SETS}),
        "random.md": place_table.render_random(results, {name: profiles.get(name, {}) for name in SETS}),
        "bilinear.md": place_table.render_bilinear(results, {name: profiles.get(name, {}) for name in SETS}),
        "shift.md": place_table.render_shift(results, {name: profiles.get(name, {}) for name in SETS}),
        "third.md": third.render(results / "third" / "ombria-20m-third.json"),
        "split.md": split_table.render(results),
        "merges.md": merges_table() + "\n",
    }
    if (results / "topology").is_dir():
        texts["topology.md"] = topology.render(results / "topology" / "ombria-20m")
        texts["stems.md"] = topology.render_stems(results / "topology" / "sen12-10m-blocks")
    leads.write(results, profiles, generated)
    grid.write(results / "grid", generated)
    controls.write(results, profiles, generated)
    for name, runs in profiles.items():
        for run, record in runs.items():
            try:
                texts[f"runs/{name}-{run}.md"] = run_page(name, run, record)
                figures.use_style(synthetic=record["dataset"]["synthetic"])
                draw_curves(run, record, generated / f"runs/{name}-{run}.png")
            except KeyError as error:
                message = f"book/_generated/runs/{name}-{run}: the run's record has no field {error}: execute it again."
                raise InputError(message) from None
    for name, text in texts.items():
        (generated / name).write_text(text, encoding="utf-8")
