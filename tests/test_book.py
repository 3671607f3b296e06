"""The book: numbers only from records, no synthetic result beside the talk's, no broken page, no outside request."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain, combinations
from pathlib import Path
from types import SimpleNamespace

import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document
from matplotlib import pyplot as plt
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from s2olib import figures, records, statistics
from s2olib.data import SPLITS, datasheet, landcover
from s2olib.project import InputError

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / name) for name in ("book", "notebooks")]

import again  # noqa: E402
import brightness  # noqa: E402
import build  # noqa: E402
import check  # noqa: E402
import controls  # noqa: E402
import device  # noqa: E402
import diagrams  # noqa: E402
import executable_paper  # noqa: E402
import grid  # noqa: E402
import ground  # noqa: E402
import leads  # noqa: E402
import place_table  # noqa: E402
import provenance  # noqa: E402
import results_table  # noqa: E402
import split_table  # noqa: E402
import third  # noqa: E402
import topology  # noqa: E402

ROOT = build.ROOT
SEEDS_0 = [records.run_name(generator, "dsd", 0) for generator in results_table.REPORTED]


def publish(results: Path, generator: str, *, tag="dsd", seed=0, psnr=20.0, epochs=30, name="p", **dataset) -> Path:
    """A run's record with every field that its page needs, and its patches, written where published records lie."""
    run = results / records.run_name(generator, tag, seed)
    patches = pd.DataFrame({"id": [f"{name}{i:02}" for i in range(40)], "group": ["albania", "france"] * 20})
    patches["psnr"], patches["ssim"] = np.linspace(psnr - 2, psnr + 2, 40), 0.5
    patches["skill"], patches["mse_mean_colour"] = 0.1, 65.025
    patches["offset_free_psnr"], patches["edge_correlation"], patches["flat_deviation"] = 26.0, 0.3, 1.5
    run.mkdir(parents=True)
    patches.to_csv(run / "patches.csv", index=False)
    record = {key: kind() for key, kind in records.REQUIRED.items()}
    record |= {
        "schema": records.SCHEMA,
        "generator": generator,
        "tag": tag,
        "seed": seed,
        "samples_seen": 400 * epochs,
        "parameters": {"epochs": epochs, "gan_weight": 0.01 * (tag == "pix2pix"), "crop_size": None, "batch_size": 8}
        | {"embed_dim": 16, "learning_rate": 0.001, "schedule": "cosine", "depths": [4, 4]}
        | {"dsd_width": 8, "dsd_weight": 0.02 * (tag == "dsd"), "dsd_schedule": "warm-up", "dsd_warmup": 5},
        "curves": [
            {"epoch": i, "l1": 0.1, "validation_psnr": value} for i, value in enumerate((psnr + 9, psnr + 1, psnr))
        ],
        "best_epoch": 1,  # the DSD did not judge the first
        "dataset": {"synthetic": False, "name": "pairs", "pixel_size_m": 20, "fingerprint": "abc", "lulc": None}
        | {"patch_size": 128}
        | {"counts": {"train": 400}, "units": {"sar": "dB", "opt": "reflectance"}}
        | {"bands": {"sar": ["VV"], "opt": ["red"]}, "limits": {"sar": [[-25, 0]], "opt": [[0, 0.3]]}}
        | dataset,
        "evaluation": records.evaluation_conditions(patches, "test"),
        "metrics": records.summarise(patches),
        "complexity": {"parameters": 7, "macs": 9},
        "cost": {
            "train_seconds": 60.0,
            "expected_seconds": 50.0,
            "samples_per_second": 9.0,
            "peak_memory_gib": 1.0,
            "finished": "2026",
        },
    }
    (run / "record.json").write_text(json.dumps(record))
    return run / "record.json"


def row(table: str, label: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {label} "))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def bare(cell: str) -> str:
    """A cell without its links."""
    return re.sub(r"\{doc\}`([^<]*) <[^>]*>`", r"\1", cell)


def test_without_records_only_the_talk_has_numbers(tmp_path):
    table = results_table.render(tmp_path / "missing")
    assert row(table, "U-Net-DSD") == ["19.50", "0.565", "*not yet run*", "*not yet run*", "–"]
    assert row(table, "HAT-DSD")[:2] == ["19.92", "0.575"]
    assert row(table, "S2OFormer-DSD")[:2] == ["20.14", "0.642"]


def test_seeds_are_averaged_in_one_interval_and_controls_are_no_seeds(tmp_path):
    results = tmp_path / "ombria"
    for seed, psnr in ((0, 20.0), (1, 21.0)):
        publish(results, "hat", seed=seed, psnr=psnr)
    publish(results, "hat", tag="l1", psnr=30.0)
    publish(results, "hat", tag="dsd-permuted", psnr=40.0)  # a control with a DSD is a control too
    publish(results, "mine", psnr=50.0)  # and a generator that the talk does not have
    table = results_table.render(results)
    cell, _, seeds = row(table, "HAT-DSD")[2:]
    frames = [records.read_patches(results / f"hat-dsd-s{seed}") for seed in (0, 1)]
    expected = records.summarise(*frames)["psnr"]
    assert bare(cell) == f"20.50 [{expected['low']:.2f},\u00a0{expected['high']:.2f}]"
    pages = [f"`{seed} </book/_generated/runs/ombria-hat-dsd-s{seed}>" for seed in (0, 1)]
    assert cell == bare(cell) and all(page in seeds for page in pages)  # no run's page has the mean over both
    assert row(table, "S2OFormer-DSD")[2] == "*not yet run*"
    assert "from 2 run records" in table and "40 test patches of 2 places" in table
    assert "the mean over the seeds" in table and "20 m" in table and "30 epochs" in table and "descriptive" in table
    assert row(provenance.difference_table(results), "HAT-DSD")[1] == "20.50"


def test_controls_stand_beside_what_they_control(tmp_path):
    results = tmp_path / "ombria"
    publish(results, "unet")
    assert provenance.ablation_table(results, records.find(results)) == ""
    publish(results, "unet", tag="l1", psnr=21.0)
    publish(results, "unet", tag="l1", seed=1, psnr=22.0)
    publish(results, "s2oformer", tag="l1", epochs=12)  # trained for less: never averaged with the others
    publish(results, "s2oformer", tag="l1", seed=1)
    publish(results, "mine")  # a network of one's own comes last
    lines = [line for line in provenance.ablation_table(results, records.find(results)).splitlines() if "doc" in line]
    assert [line.split(" | ")[:3] for line in lines] == [
        ["| unet", "dsd", "30"],
        ["| unet", "l1", "30"],
        ["| s2oformer", "l1", "12"],
        ["| s2oformer", "l1", "30"],
        ["| mine", "dsd", "30"],
    ]
    assert "| 21.50 [" in lines[1] and "/runs/ombria-unet-l1-s1>" in lines[1]


def test_what_runs_differ_in_is_told_with_and_without_colour(tmp_path):
    results = tmp_path / "ombria"
    publish(results, "unet", psnr=21.0)
    publish(results, "hat", psnr=22.5)
    publish(results, "unet", tag="pix2pix", psnr=15.0)
    text = provenance.offset_table(results, records.find(results))
    assert "| 2 | 22.00 | 9.00 | 21.00 [19.97," in text and "| 26.00 [26.00," in text
    assert "ombria-unet-pix2pix-s0" in text
    assert "The 2 runs other than pix2pix's lie within 1.50 dB" in text and "; 0.00 dB once" in text
    assert " 100% of the variance" in text  # 26 dB are left of each


def test_the_share_of_colour_is_that_of_squared_error_and_the_fall_ends_with_the_last_epoch(tmp_path):
    for generator, error, structure in (("unet", 600, 300), ("hat", 400, 250)):  # 150 of 200 are of colour
        path = publish(tmp_path / "ombria", generator)
        decibels = dict(psnr=10 * np.log10(255**2 / error), offset_free_psnr=10 * np.log10(255**2 / structure))
        changed(path, **decibels)
        record = json.loads(path.read_text())
        for curve, value in zip(record["curves"], (30.0, 20.0, 25.0), strict=True):
            curve["validation_psnr"] = value
        path.write_text(json.dumps(record))
    text = provenance.offset_table(tmp_path / "ombria", records.find(tmp_path / "ombria"))
    assert " 75% of the variance" in text and "| 2 | 20.00 | 5.00 |" in text


def test_squared_error_is_averaged_over_patches_and_not_decibels(tmp_path):
    for generator, psnr, free in (("unet", [10, 30], [20, 40]), ("hat", [20, 20], [30, 30])):
        changed(publish(tmp_path / "ombria", generator), psnr=psnr * 20, offset_free_psnr=free * 20)
    text = provenance.offset_table(tmp_path / "ombria", records.find(tmp_path / "ombria"))
    assert " 90% of the variance" in text  # shares of 255²: 0.0505 and 0.01, of structure a tenth of each


def test_a_field_that_a_page_needs_is_named_with_the_page(small_book):
    path = small_book / "book" / "results" / "ombria" / "hat-dsd-s0" / "record.json"
    record = json.loads(path.read_text())
    del record["cost"]["finished"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"runs/ombria-hat-dsd-s0.*no field 'finished'"):
        provenance.write(small_book)


def test_a_score_without_an_interval_has_dashes(tmp_path):
    path = publish(tmp_path / "p", "hat")
    patches = records.read_patches(path.parent).assign(group="village")[:10]  # one cluster
    patches.to_csv(path.parent / "patches.csv", index=False)
    record = json.loads(path.read_text())
    record["metrics"] = records.summarise(patches)
    page = provenance.run_page("p", "hat-dsd-s0", record)
    assert "| 18.46 | – | – |" in page and page.startswith("---\nnosearch: true\n---\n\n# p: hat-dsd-s0\n")
    assert bare(row(table := results_table.render(tmp_path / "p"), "HAT-DSD")[2]) == "18.46 [–,\u00a0–]"
    assert "is HAT-DSD 0.10 [–,\u00a0–]." in table


def test_the_p_value_that_the_introduction_names_is_that_of_the_records():
    results = ROOT / "book" / "results"
    runs = {"ombria-second": records.find(results / "ombria-second")}
    pairs = [("hat-l1", "unet-l1")]
    table = place_table.pairs_table(results, runs, pairs, "", "tab-x")
    difference, _, p = row(table, "hat-l1")[2:5]
    assert difference.startswith("0.39 [") and p == "0.051"
    trained = [f"{name}-{tag}" for tag in ("dsd", "l1") for name in results_table.REPORTED]
    patches = place_table.patches_of(results / "ombria-second", runs["ombria-second"], trained)
    plan = [*combinations(trained[:3], 2), *combinations(trained[3:], 2)]
    found = {frozenset((r["first"], r["second"])): r for r in statistics.paired_differences(patches, plan, "psnr")}
    assert len(plan) == 6 and f"{found[frozenset(pairs[0])]['p']:.2f}" == "0.02"
    text = " ".join((ROOT / "book" / "intro.md").read_text().split())
    assert "by some 0.4 dB, just short of our rule for a lead: *p*, which must be below 0.05, is 0.051" in text
    assert "over the thirteen pairs compared there by now, and was 0.02 over the six of the plan" in text


def test_the_figure_of_leads_says_what_the_pages_of_results_and_the_introduction_say():
    results = ROOT / "book" / "results"
    profiles = {name: records.find(results / name) for of in leads.SETS.values() for name in of}
    leading, compared = set(), 0
    for label, of in leads.SETS.items():
        for metric, digits in (("psnr", 2), ("ssim", 3)):
            found = leads.differences(results, profiles, of, metric)
            assert {*found} == {*leads.PAIRS}
            for (first, second), pair in found.items():
                leading |= {(first, second, label, metric)} if pair["leads"] and pair["low"] > 0 else set()
                leading |= {(second, first, label, metric)} if pair["leads"] and pair["high"] < 0 else set()
                talk = results_table.REPORTED[first][digits - 1] - results_table.REPORTED[second][digits - 1]
                assert first != "s2oformer" or metric != "ssim" or pair["high"] < talk
            if len(of) > 1:  # which have a page for each fold
                continue
            page = nbformat.read(ROOT / "notebooks/executed" / of[0] / "04_results.ipynb", 4)
            text = "\n".join(
                o.data.get("text/markdown", "") for c in page.cells for o in c.get("outputs", []) if "data" in o
            )
            table = text.split(f":name: tab-pairs-{metric}")[1].split(":::")[0]
            for (first, second), pair in found.items():
                for a, b, sign in ((first, second, 1), (second, first, -1)):
                    line = re.search(rf"^\| {a}-dsd \| {b}-dsd \|.*$", table, re.MULTILINE)
                    if line:
                        limits = sorted((sign * pair["low"], sign * pair["high"]))
                        cell = figures.table_cell((sign * pair["mean"], *limits), f".{digits}f")
                        compared += f"| {cell} |" in line[0]
    assert compared == 4 * len(leads.PAIRS) * len(leads.METRICS)
    fa = "France, Albania"
    assert leading == {  # as the introduction has it
        *(("hat", other, f"10 m, {fa}", metric) for other in ("unet", "s2oformer") for metric in ("psnr", "ssim")),
        ("hat", "unet", f"20 m, {fa}", "ssim"),
        ("unet", "s2oformer", f"10 m, {fa}", "ssim"),
        *(("unet", other, "towns, VH", "psnr") for other in ("hat", "s2oformer")),
    }


def test_the_figure_of_controls_says_what_the_pages_of_results_and_the_text_say():
    results, counts = ROOT / "book" / "results", {}
    for name in controls.SETS:
        page = nbformat.read(ROOT / "notebooks/executed" / name / "04_results.ipynb", 4)
        outputs = [output for cell in page.cells for output in cell.get("outputs", []) if "data" in output]
        text = "\n".join(output.data.get("text/markdown", "") for output in outputs)
        for metric, digits in (("psnr", 2), ("ssim", 3)):
            table = text.split(f":name: tab-ablation-{metric}")[1].split(":::")[0]
            found = controls.changes(results / name, records.find(results / name), metric)
            for (tag, generator), drawn in found.items():
                *_, cell, over_seeds, p = row(table, f"{generator}-{tag}")
                low, high = drawn["low"], drawn["high"]
                assert cell == figures.table_cell((drawn["mean"], low, high), f".{digits}f")
                there = over_seeds in ("separable", "one seed") and float(p) < 0.05 and not low <= 0 <= high
                assert drawn["leads"] == there and (len(drawn["seeds"]) == 1) == (over_seeds == "one seed")
                counts[name, metric, tag, generator] = np.sign(drawn["mean"]) * there
    ssim_term = {key[::3] for key, sign in counts.items() if key[1:3] == ("ssim", "dsd-ssim") and sign > 0}
    assert ssim_term == {("ombria", "unet"), *(("ombria-second", name) for name in ("unet", "hat", "s2oformer"))}
    assert counts["ombria", "ssim", "l1", "unet"] == 1 and counts["ombria-second", "psnr", "l1", "unet"] == -1


def test_the_figure_of_controls_needs_a_variant_beside_its_network(tmp_path):
    assert controls.rows_of({("l1", "unet"), ("dsd", "hat"), ("l1", "s2oformer"), ("dsd", "s2oformer")}) == [
        ("l1", None),
        ("l1", "s2oformer"),
    ]
    controls.write(tmp_path, {"ombria": {}}, tmp_path)
    assert (tmp_path / "controls.md").read_text() == "*not yet run*\n" and not (tmp_path / "controls.svg").exists()


def test_the_third_set_says_what_the_text_says(tmp_path):
    path = ROOT / "book" / "results" / "third" / "ombria-20m-third.json"
    assert third.render(tmp_path / "none.json") == "*not yet run*\n"
    scores, pairs = third.render(path).split("tab-third-pairs")
    networks = [f"{name}-dsd-s0" for name in results_table.REPORTED]
    mean = {
        name: [float(cell.split(" ")[0].replace("−", "-")) for cell in row(scores, name)[:4]]
        for name in ("mean colour", "regression", *networks)
    }
    assert max(networks, key=lambda name: mean[name][2]) == "hat-dsd-s0"
    for name in (*networks, "regression"):
        assert "\u00a0−" in row(scores, name)[0], "skill is below 0 by its whole interval"
        assert mean[name][3] < mean["mean colour"][3], "nor is it mean colour alone"
    runs = json.loads(path.read_text())["runs"]
    assert all(mean[name][1] == pytest.approx(np.mean(runs[name]["psnr"]), abs=0.005) for name in mean)
    of = {
        cells[0]: cells for line in pairs.splitlines() if len(cells := [c.strip() for c in line.split("|")[1:-1]]) == 6
    }
    less, psnr, p, *_ = of["hat-dsd-s0"][1:]
    expected = np.mean(runs["hat-dsd-s0"]["psnr"]) - np.mean(runs[less]["psnr"])
    assert float(psnr.split(" ")[0].replace("−", "-")) == pytest.approx(expected, abs=0.005) and float(p) >= 0.125


def test_the_figure_of_leads_needs_every_profile_of_a_row(tmp_path):
    publish(tmp_path / "socal", "hat"), publish(tmp_path / "socal", "unet", psnr=19.0)
    (tmp_path / "g").mkdir()
    profiles = {"socal": records.find(tmp_path / "socal"), "sen12": {}}
    leads.write(tmp_path, profiles, tmp_path / "g")
    text = (tmp_path / "g" / "leads.md").read_text()
    assert "*towns, VH* (socal): 40 test patches in 4 clusters. Circles" in text and "SEN1-2" not in text
    assert (tmp_path / "g" / "leads.svg").stat().st_size > 10_000
    only = leads.differences(tmp_path, profiles, ["socal"], "psnr")
    assert only.keys() == {("hat", "unet")} and only["hat", "unet"]["mean"] == pytest.approx(1)
    assert not only["hat", "unet"]["leads"]  # four clusters cannot give a p below 0.05
    leads.write(tmp_path, {"p": {}}, tmp_path)
    assert (tmp_path / "leads.md").read_text() == "*not yet run*\n" and not (tmp_path / "leads.svg").exists()


def test_variants_in_executed_tables_lead_to_their_runs():
    table = "| of | which | hat-dsd |\n| :--- | ---: | ---: |\n| hat-dsd | hat-l1 | 0.66 |\n| regression | 3 | 4 |"
    linked = executable_paper.link_variants(table, "quick", ["hat-dsd-s0", "hat-dsd-s1"]).splitlines()
    page = "/book/_generated/runs/quick-hat-dsd-s"
    assert linked[2] == "| {ref}`hat-dsd <tab-runs-quick>` | hat-l1 | 0.66 |"
    one = executable_paper.link_variants(table, "quick", ["hat-l1-s2", "hat-dsd-s0"]).splitlines()
    other = page.replace("dsd", "l1")
    assert one[2] == f"| {{doc}}`hat-dsd <{page}0>` | {{doc}}`hat-l1 <{other}2>` | 0.66 |"
    assert linked[:2] + linked[3:] == table.splitlines()[:2] + table.splitlines()[3:]


def test_synthetic_records_are_refused(tmp_path):
    path = publish(tmp_path, "s2oformer", synthetic=True)
    with pytest.raises(InputError, match="synthetic") as error:
        results_table.read_records(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("other", [{"fingerprint": "other"}, {"epochs": 12}])
def test_records_of_different_data_or_training_are_refused(tmp_path, other):
    publish(tmp_path, "unet")
    publish(tmp_path, "hat", **other)
    with pytest.raises(InputError, match="differ in data or in samples"):
        results_table.read_records(tmp_path)


def source_of(tmp_path: Path, cell: dict) -> Path:
    """A staged book of one notebook with one code cell."""
    toc = {"root": "intro", "parts": [{"chapters": [{"file": "03_train_hat"}]}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    (tmp_path / "intro.md").write_text("# Title")
    code = {"cell_type": "code", "source": ["1 / 0"], "execution_count": 1, "outputs": []}
    (tmp_path / "03_train_hat.ipynb").write_text(json.dumps({"cells": [code | cell]}))
    return tmp_path


def test_a_notebook_that_failed_or_never_ran_stops_the_build(tmp_path):
    error = {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division by zero"}
    with pytest.raises(InputError, match=r"03_train_hat.*ZeroDivisionError"):
        build.pages(source_of(tmp_path, {"outputs": [error]}))
    with pytest.raises(InputError, match=r"03_train_hat.ipynb, code cell 1, was never run"):
        build.pages(source_of(tmp_path, {"execution_count": None}))
    assert [page.name for page in build.pages(source_of(tmp_path, {}))] == ["intro.md", "03_train_hat.ipynb"]
    assert build.pages(source_of(tmp_path, {"source": ["\n"], "execution_count": None})), "nothing is there to run"
    (tmp_path / "03_train_hat.ipynb").unlink()
    with pytest.raises(InputError, match="03_train_hat, which does not exist"):
        build.pages(tmp_path)


def test_staging_takes_fresh_notebooks_and_records_and_leaves_failed_ones(tmp_path):
    executed, source = tmp_path / "run" / "notebooks", tmp_path / "source"
    (executed / "failed").mkdir(parents=True)
    (executed / "01_dataset.ipynb").write_text("fresh")
    (executed / "failed" / "02_models.ipynb").write_text("failed")
    (executed / "steps.json").write_text("{}")
    publish(tmp_path / "run", "unet", synthetic=True)
    (tmp_path / "run" / "pictures" / "town").mkdir(parents=True)
    (tmp_path / "run" / "pictures" / "town" / "SAR.png").touch()
    build.stage(source, executed)
    assert [path.name for path in (source / build.NOTEBOOKS).rglob("*")] == ["01_dataset.ipynb"]
    results = source / "book" / "results" / "quick"
    assert (results / "steps.json").read_text() == "{}" and (results / "unet-dsd-s0" / "record.json").is_file()
    patches = [(folder / "unet-dsd-s0" / "patches.csv").read_bytes() for folder in (tmp_path / "run", results)]
    assert patches[0] == patches[1] and (results / "pictures/town/SAR.png").is_file()
    with pytest.raises(InputError, match=f"--executed '{tmp_path}/source/book' holds no notebooks"):
        build.stage(source, source / "book")
    assert (source / "book").is_dir(), "what was staged before is still there"


def test_a_book_is_built_again_when_something_changed_or_the_last_build_failed(tmp_path, monkeypatch):
    for folder in ("book/_generated", "s2olib", "notebooks/executed/quick", "notebooks/profiles"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "_toc.yml").write_text("{root: book/intro, parts: []}")
    for name in ("_config.yml", "book/intro.md", "book/_generated/old.md"):
        (tmp_path / name).touch()
    made, commands = {"page": "<p>", "code": 0}, []

    def run(command, **_):
        commands.append(command)
        page = tmp_path / "_build/html/index.html"
        page.parent.mkdir()  # which an earlier build has not left
        page.write_text(made["page"])
        return SimpleNamespace(returncode=made["code"])

    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build.subprocess, "run", run)
    assert build.build() and not build.build() and len(commands) == 1 and "-W" in commands[0]
    assert not (tmp_path / "_build/source/book/_generated").exists()
    (tmp_path / "book/_generated/old.md").write_text("of the last build")
    assert not build.build()
    for failed, says in (({"code": 1}, "warned or failed"), ({"page": '<img src="//x/y.png">'}, "ask another server")):
        (tmp_path / "book/intro.md").write_text(says)
        with monkeypatch.context() as patched, pytest.raises(InputError, match=says):
            for key, value in failed.items():
                patched.setitem(made, key, value)
            build.build()
        assert build.build() and not build.build()


@pytest.mark.parametrize(
    ("tag", "outside"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', True),
        ("<img alt='x' src='http://example/x.png'>", True),
        ('<a href="https://doi.org/10.1109/CVPR.2017.632">paper</a>', False),
        ('<script src="../_static/x.js"></script>', False),
        ('<link rel="canonical" href="https://example.org/page.html">', False),
    ],
)
def test_outside_requests_are_found_and_links_are_not(tmp_path, tag, outside):
    (tmp_path / "page.html").write_text(f"<html>{tag}</html>")
    assert bool(build.outside_requests(tmp_path)) == outside


def test_no_line_of_prose_is_taken_for_a_comment():
    pages = [page for page in (ROOT / "book").rglob("*.md") if "_generated" not in page.parts]
    lines = {page: [line for line in page.read_text().splitlines() if line.startswith("%")] for page in pages}
    assert len(lines) > 10 and not any(lines.values()), "MyST leaves such a line out, and what follows it"


def test_stems_are_compared_with_the_plain_one_on_the_seeds_of_both(tmp_path):
    how = {"steps": 3, "batch": 8, "crop": 64, "learning_rate": 0.001}
    for name, seed, psnr in (("wide head", 0, 20.0), ("wide head", 1, 30.0), ("wide head, log", 1, 30.5)):
        run = {"name": name, "seed": seed, "psnr": psnr, "ssim": 0.5, "conditions": how, "data": "abc"}
        run |= {"wiring": {"stem": "log" if "log" in name else "plain"}, "validation_patches": 15}
        (tmp_path / f"{name}-s{seed}.json").write_text(json.dumps(run))
    text = topology.render_stems(tmp_path)
    assert row(text, "plain") == ["20.00, 30.00", "0.500, 0.500", "–", "–"]
    assert row(text, "log") == ["30.50", "0.500", "+0.50", "+0.000"]
    assert "15 validation patches" in text and "seeds 0, 1" in text
    (tmp_path / "other.json").write_text(json.dumps(run | {"data": "def"}))
    with pytest.raises(InputError, match="different conditions or data"):
        topology.render_stems(tmp_path)


def test_candidates_stand_by_their_mean_over_seeds(tmp_path):
    how = {"steps": 3, "batch": 8, "crop": 64, "learning_rate": 0.001}
    wiring = {"steps": [0, 1], "join": "linear", "stem": "plain", "head": "plain", "head_dim": 64}
    scores = {"first": (20.5, 20.5), "unet": (18.0, 18.0), "fan-in": (20.0, 21.5)}
    for name, psnrs in scores.items():
        for seed, psnr in enumerate(psnrs):
            run = {"name": name, "seed": seed, "psnr": psnr, "ssim": psnr / 50, "conditions": how, "data": "abc"}
            run |= {"wiring": wiring, "macs_per_pixel": 5000, "parameters": 7000, "validation_patches": 15}
            (tmp_path / f"{name}-s{seed}.json").write_text(json.dumps(run))
    candidates, steps = topology.render(tmp_path).split("tab-topology-steps")
    assert [line.split(" | ")[0] for line in candidates.splitlines() if " | 5 | 7 | " in line] == [
        *("| fan-in", "| first", "| U-Net"),
    ]
    assert row(candidates, "fan-in")[-2:] == ["20.00, 21.50", "0.400, 0.430"]
    assert row(steps, "first → fan-in")[-2:] == ["+0.25", "+0.005"]


def test_the_label_of_a_formula_stands_where_it_ends():
    text = "".join(page.read_text() for page in (ROOT / "book").rglob("*.md") if "_generated" not in page.parts)
    labels = re.findall(r"(?<!`)\(eq-[a-z]+\)", text)
    assert labels and len(labels) == len(re.findall(r" \$\$ \(eq-[a-z]+\)\n", text)), "on another line it is prose"


def test_every_prose_page_and_every_committed_notebook_is_in_the_table_of_contents():
    names = set(re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text()))
    written = {str(page.relative_to(ROOT).with_suffix("")) for page in (ROOT / "book").rglob("*.md")}
    written = {name for name in written if not name.startswith(("book/_generated", "book/results"))}
    executed = {f"{build.NOTEBOOKS}/{page.stem}" for page in (ROOT / build.NOTEBOOKS).glob("*.ipynb")}
    assert written == {name for name in names if name.startswith("book/")}
    assert executed <= names


@pytest.fixture
def small_book(tmp_path) -> Path:
    """A book of one page with the records of two runs, built by `problems`."""
    results = tmp_path / "book" / "results"
    publish(results / "ombria", "hat")
    publish(results / "quick", "s2oformer", synthetic=True)
    picture = np.zeros((8, 8, 3), np.uint8)
    figures.save_pictures(dict.fromkeys(figures.INTRODUCED, picture), results / "quick" / "pictures" / "kaga_land")
    steps = '{"01_dataset": {"seconds": 5.4}, "06_translate_mine": {"seconds": 7}}'  # the latter is no page
    (results / "quick" / "steps.json").write_text(steps)
    (tmp_path / "notebooks" / "executed" / "quick").mkdir(parents=True)
    pages = "{file: notebooks/executed/quick/01_dataset}"
    (tmp_path / "_toc.yml").write_text(f"root: intro\nparts: [{{chapters: [{pages}]}}]\n")
    return tmp_path


CONF = """
import sys
sys.path[:0] = [{book!r}, {root!r}]
extensions = ["myst_parser", "sphinxcontrib.bibtex", "executable_paper"]
root_doc, exclude_patterns, bibtex_bibfiles = "intro", ["book", "notebooks", "out"], [{bibliography!r}]
"""


def test_a_missing_record_field_picture_or_citation_fails_the_build_with_the_pages_name(small_book):
    missing = ("{record}`quick/gan-s0::seed`", "{record}`quick/s2oformer-dsd-s0::metrics.fid.mean:.2f`", "{kind}`true`")
    missing += ("![a picture](nowhere.png)", "{cite}`nobody2031`", "{doc}`nowhere`")
    (small_book / "intro.md").write_text("# Title\n\n" + "\n\n".join(missing))
    good = "# Title\n\n{record}`quick/s2oformer-dsd-s0::seed` {kind}`real`"
    (small_book / "good.md").write_text(f"---\norphan: true\n---\n{good}\n")
    (small_book / "references.bib").write_text((ROOT / "book" / "references.bib").read_text())
    paths = {"book": str(ROOT / "book"), "root": str(ROOT), "bibliography": "references.bib"}
    (small_book / "conf.py").write_text(CONF.format(**paths))
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "dummy",
        small_book,
        small_book / "out",
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0
    lines = result.stderr.splitlines()
    for name in ("quick/gan-s0", "fid", "'true'", "nowhere.png", "nobody2031", "nowhere'"):
        assert any(name in line and f"{small_book}/intro.md" in line for line in lines), (name, result.stderr)
    assert not [line for line in lines if "good.md" in line and "_generated" not in line]


def test_times_are_those_of_the_books_pages(small_book):
    text = provenance.times_table(small_book / "book/results", ["quick"], {"notebooks/executed/quick/01_dataset"})
    assert "01_dataset" in text and "06_translate_mine" not in text


def test_what_the_book_needs_from_a_profile_is_named_when_it_is_missing(small_book):
    results = small_book / "book" / "results"
    with pytest.raises(InputError, match=r"steps\.json does not exist: `make notebooks PROFILE=ombria`"):
        provenance.steps_of(results, "ombria")
    profiles = provenance.read_results(results)
    assert list(profiles) == ["ombria", "quick"]  # real data first
    provenance.first_picture(results, profiles)
    shutil.rmtree(results / "quick" / "pictures")
    with pytest.raises(InputError, match="no pictures"):
        provenance.first_picture(results, profiles)


def test_what_trainings_were_given_stands_in_two_tables(tmp_path):
    publish(tmp_path / "ombria", "unet", seed=1)
    for generator in ("unet", "hat"):
        publish(tmp_path / "ombria", generator, seed=2)
    publish(tmp_path / "mine", "unet", tag="l1")
    path = publish(tmp_path / "joint", "unet")
    record = json.loads(path.read_text())
    record["parameters"]["dsd_schedule"] = "joint"
    path.write_text(json.dumps(record))
    data, trainings = provenance.experiments_table(provenance.read_results(tmp_path)).split("\n\n```")
    assert row(data, "ombria (real)") == ["VV, dB", "red", "20", "400, –, –"]
    assert row(trainings, "ombria (real)") == [
        *("128", "16, 16, –", "2 × 4, –", "8, 0.02, 5", "30, 8", "0.001, cosine", "2"),
    ]
    assert row(trainings, "mine (real)")[3] == "–" and row(trainings, "joint (real)")[3] == "8, 0.02, 0"


def test_whether_validation_foresees_a_seeds_rank_is_counted(tmp_path):
    for seed, psnr in enumerate((20.0, 22.0, 21.0)):
        publish(tmp_path / "ombria", "unet", seed=seed, psnr=psnr)
        for tag, validation in (("dsd", 20.0 - seed), ("l1", 20.0 + seed)):  # with the latter, the worst is the worst
            path = publish(tmp_path / "ombria", "hat", tag=tag, seed=seed, psnr=psnr)
            record = json.loads(path.read_text())
            record["curves"][record["best_epoch"]]["validation_psnr"] = validation
            path.write_text(json.dumps(record))
    for seed in range(2):
        publish(tmp_path / "ombria", "s2oformer", seed=seed, psnr=20.0 + seed)  # two are too few
    text = provenance.foresight(provenance.read_results(tmp_path))
    assert "in 1 of 3 variants (*ombria*); chance" in text


def test_differences_are_of_leads_too(tmp_path):
    publish(tmp_path / "ombria", "unet", psnr=20.0)
    publish(tmp_path / "ombria", "hat", psnr=19.0)
    table = provenance.difference_table(tmp_path / "ombria")
    assert row(table, "U-Net-DSD")[:3] == ["19.50", "20.00", "+0.50"]
    assert row(table, "HAT-DSD − U-Net-DSD")[:3] == ["+0.42", "−1.00", "−1.42"]
    assert row(table, "S2OFormer-DSD")[:3] == ["20.14", "–", "–"]


def test_what_a_device_was_measured_with_stands_in_its_table(tmp_path):
    assert device.render(tmp_path) == "No GPU was measured.\n"
    row_of = {"seconds": 0.5, "peak_mib": 2048, "first_seconds": 1.0, "patches_per_s": 32.0, "share": 0.25}
    measured = {"machine": {"name": "A GPU", "torch": "2"}, "batch": 16, "size": 64, "width": 8, "precision": "bf16"}
    measured |= {"matrix_flop_per_s": 5e12, "networks": {"unet": {"macs": 1, "training eager": row_of, "x": {}}}}
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "a.json").write_text(json.dumps(measured))
    lines = [line for line in device.render(tmp_path).splitlines() if line.startswith("| U-Net")]
    assert [cell.strip() for cell in lines[0].split("|")[3:6]] == ["32.0", "2.0", "25.0%"]
    assert "does not fit" in lines[1] and "5 TFLOP/s" in device.render(tmp_path)
    del row_of["share"]
    (tmp_path / "device" / "a.json").write_text(json.dumps(measured))
    with pytest.raises(InputError, match=r"a\.json has no field 'share'"):
        device.render(tmp_path)


def test_brighter_radar_is_told_by_what_it_changes(tmp_path):
    assert brightness.render(tmp_path / "none") == "No brightness was tried.\n"
    runs = {"hat-dsd-s0": {"0": [20.0, 22.0, 24.0], "0.1": [19.0, 21.0, 23.0], "0.3": [10.0, 12.0, 14.0]}}
    measured = {"clusters": [0, 0, 1], "runs": runs, "shown": "0.1", "ways": {}}
    measured |= {"data": "abc", "radar": {"train": {"x": 0.9}, "validation": {"y": 0.8}, "test": {}}}
    (tmp_path / "a.json").write_text(json.dumps(measured))
    table = brightness.render(tmp_path)
    assert "tab-apart-a" not in table and "tab-quarters-a" not in table  # no U-Net
    assert "+ 10%" in table and "3 validation patches of *a* in 2 clusters" in table
    assert row(table, "hat-dsd-s0") == ["22.00", "−1.00 [−1.00,\u00a0−1.00]", "−10.00 [−10.00,\u00a0−10.00]"]

    ways = {way: {"0": [9.0] * 3, "0.1": [9.0 + change] * 3} for change, way in enumerate(brightness.WAYS)}
    (tmp_path / "a.json").write_text(json.dumps(measured | {"ways": {"hat-dsd-s0": ways}}))
    table = brightness.render(tmp_path).split("tab-apart-a")[1]
    changes = [cell.split()[0] for cell in row(table, "hat-dsd-s0")]
    assert changes == ["−1.00", "0.00", "1.00", "2.00"]


def test_runs_are_compared_in_quarters_from_the_darkest_radar_to_the_brightest(tmp_path):
    publish(tmp_path / "ombria", "unet")
    published = publish(tmp_path / "ombria", "unet", tag="dsd-bilinear").parent / "patches.csv"
    patches = pd.read_csv(published)
    patches.assign(psnr=patches["psnr"] - patches.index).to_csv(published, index=False)  # the later, the worse
    for tag in ("dsd", "dsd-bilinear"):
        publish(tmp_path / "other", "unet", tag=tag, fingerprint="other data")
    (tmp_path / "brightness").mkdir()
    radar = {"train": {"x": 0.975, "z": 0.1}, "validation": {"y": 0.5, "z": 0.1}}
    radar["test"] = {name: 1 - i / 40 for i, name in enumerate(patches["id"])}  # the later, the darker
    measured = {"data": "abc", "clusters": [0, 1], "radar": radar, "shown": "0.1", "ways": {}}
    measured["runs"] = {"unet-dsd-s0": {"0": [20.0, 20.0]}}
    (tmp_path / "brightness" / "a.json").write_text(json.dumps(measured))
    table = brightness.render(tmp_path / "brightness").split("tab-quarters-a")[1]
    assert table.count("| unet-dsd-bilinear ") == 1
    less, seed, *quarters = row(table, "unet-dsd-bilinear")
    assert (less, seed) == ("unet-dsd", "0")
    assert [cell.split()[0] for cell in quarters] == ["−34.50", "−24.50", "−14.50", "−4.50"]
    caption = brightness.render(tmp_path / "brightness").split("tab-quarters-a")[0]
    assert "brighter than any training patch: 1." in caption and "brightest validation patch 50%" in caption
    assert "(in 2, 2, 2, 2 clusters)" in caption


def test_one_colour_that_is_exact_does_not_make_the_mean_infinite():
    assert results_table.mean_colour_psnr(pd.Series([0.0, 100.0])) == pytest.approx((58.92 + 28.13) / 2, abs=0.01)


def test_scores_without_patches_whose_ground_was_seen(tmp_path):
    for generator, psnr in (("hat", 22.0), ("unet", 20.0)):
        publish(tmp_path / "ombria", generator, psnr=psnr)
        publish(tmp_path / "other", generator, psnr=psnr, fingerprint="other data")
    publish(tmp_path / "ombria", "unet", tag="pix2pix", psnr=15.0)
    assert ground.render(tmp_path, provenance.read_results(tmp_path)) == f"{results_table.NOT_RUN}\n"
    (tmp_path / "ground").mkdir()
    pairs = [{"test": "p39", "other": "q", "split": "train"}, {"test": "p39", "other": "r", "split": "validation"}]
    (tmp_path / "ground" / "a.json").write_text(json.dumps({"data": "abc", "pairs": pairs}))
    scores, differences = ground.render(tmp_path, provenance.read_results(tmp_path)).split("tab-ground-pairs")
    assert "*ombria*, seeds 0: 1 of 40 test patches (p39)" in scores and "other" not in scores.split("\n\n")[1]
    whole, without, *_ = row(scores, "ombria unet-dsd")
    assert (whole.split()[0], without.split()[0]) == ("20.00", f"{20 - 2 / 39:.2f}")
    less, _, difference, *_ = row(differences, "ombria hat-dsd")
    assert less == "unet-dsd" and difference.startswith("2.00 [2.00")
    assert "pix2pix" not in scores + differences


def test_a_run_that_was_trained_twice_is_compared_with_itself(tmp_path):
    def begin(path, psnr, loss):
        record = json.loads(path.read_text())
        record["curves"] = [epoch | {"segmentation": 0.5} for epoch in record["curves"]]
        record["curves"][0] |= {"validation_psnr": psnr, "segmentation": loss}
        path.write_text(json.dumps(record))

    assert again.render(tmp_path) == f"{results_table.NOT_RUN}\n"
    begin(publish(tmp_path / "ombria", "hat", psnr=20.0), 12.0, 0.5)
    second = publish(tmp_path / "again" / "ombria", "hat", psnr=21.5)
    begin(second, 12.75, 0.75)
    epoch, both, psnr, free, ssim, begun, dsd = row(again.render(tmp_path), "{doc}`hat-dsd-s0")[-7:]
    assert (epoch, both) == ("2, 2", "20.00, 21.50")
    assert psnr == "1.50 [1.50,\u00a01.50]" and free.startswith("0.00 ") and ssim.startswith("0.000 ")
    assert (begun, dsd) == ("0.7500", "0.2")
    patches = pd.read_csv(second.parent / "patches.csv")
    patches[::-1].to_csv(second.parent / "patches.csv", index=False)
    with pytest.raises(InputError, match="hat-dsd-s0 is not the same run as"):
        again.render(tmp_path)
    patches.to_csv(second.parent / "patches.csv", index=False)
    record = json.loads(second.read_text())
    record["parameters"]["learning_rate"] = 0.1
    second.write_text(json.dumps(record))
    with pytest.raises(InputError, match="hat-dsd-s0 is not the same run as"):
        again.render(tmp_path)


def test_what_a_mended_term_of_ssim_changes_is_told_over_seeds(tmp_path):
    def twice(generator, first, second):
        for seed, psnrs in enumerate(zip(first, second, strict=True)):
            publish(tmp_path / "ombria", generator, seed=seed, psnr=19.0)
            for folder, psnr in zip(("ombria", "again/ombria"), psnrs, strict=True):
                path = publish(tmp_path / folder, generator, tag="dsd-ssim", seed=seed, psnr=psnr)
                record = json.loads(path.read_text())
                record["parameters"]["ssim_weight"] = 0.1
                path.write_text(json.dumps(record))

    assert again.render_ssim(tmp_path) == f"{results_table.NOT_RUN}\n"
    twice("hat", (20.0, 21.0), (21.5, 21.5))
    seeds, psnr, *_ = row(again.render_ssim(tmp_path), "ombria hat-dsd-ssim")
    assert seeds.count("{download}") == 2
    assert psnr == "1.00 [0.50,\u00a01.50]"
    assert "hat-dsd-ssim" not in again.render(tmp_path), "it is told by seed only where the loss is the same"
    twice("unet", (9.0, 9.0), (21.0, 20.0))
    assert "tab-again-pairs" not in again.render_ssim(tmp_path), "a network is missing"
    twice("s2oformer", (9.0, 9.0), (21.5, 21.5))
    less, seeds, psnr, over_seeds, *_ = row(again.render_ssim(tmp_path).split("tab-again-pairs")[1], "hat-dsd-ssim")
    assert (less, seeds, over_seeds) == ("unet-dsd-ssim", "0, 1", "not separable")  # two of one network lie 1 dB apart
    assert psnr == "1.00 [0.50,\u00a01.50]"


def test_a_grid_is_told_by_what_averaging_gains_and_its_worth_by_what_the_loss_loses(tmp_path):
    assert grid.render({}) == "No grid was measured.\n"
    names = [name + end for name in grid.METRICS for end in ("", "_averaged")]
    values = {name: [1.0 + name.endswith("averaged")] * 4 for name in [*names, "grid", "grid_real"]}
    clusters = {"validation": [0, 0, 1, 1], "train": [0, 1]}
    plain = values | {"grid": [0.9] * 4}
    measured = {"clusters": clusters, "runs": {"hat-dsd-s0": values, "unet-dsd-s0": plain}, "losses": {}}
    table = grid.render({"a": measured})
    assert "4 validation patches of *a* in 2 clusters" in table and ":name: tab-grid-a\n" in table
    assert row(table, "hat-dsd-s0")[3:5] == ["1.00", "1.00 [1.00,\u00a01.00]"] and "real images 1.00." in table
    assert "tab-grid-worth-a" not in table  # no DSD was kept

    terms = {"feature": 0.004, "feature_without": 0.005, "l1": 0.15, "l1_without": 0.148}
    losses = {split: {name: [value] * len(clusters[split]) for name, value in terms.items()} for split in clusters}
    measured |= {"losses": dict.fromkeys(measured["runs"], losses)}
    worth = grid.render({"a": measured}).split("tab-grid-worth-a")
    assert "4 validation patches in 2 and 2 training patches in 2 clusters" in worth[0]
    cells = row(worth[1], "hat-dsd-s0")
    assert "unet-dsd-s0" not in worth[1], "it has no grid to take away"
    assert cells[:4] == ["validation", "4.00", "1.00 [1.00,\u00a01.00]", "150.00"]
    assert cells[4:] == ["−2.00 [−2.00,\u00a0−2.00]", "−1.00 [−1.00,\u00a0−1.00]"], "L1's change, and both together"


def test_the_figure_of_grids_has_a_mark_for_each_run_where_its_table_has_it(tmp_path):
    results = ROOT / "book" / "results" / "grid"
    measured = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    drawn = [line for line in grid.draw(measured).axes[0].lines if line.get_marker() in {"o", "s", "^"}]
    plt.close("all")
    means = [
        (np.mean(run["grid"]), np.mean(run["ssim_averaged"]) - np.mean(run["ssim"]), generator, name != "ombria-10m")
        for name, of in measured.items()
        for generator, run in ((grid.GENERATORS[key.split("-")[0]][1], each) for key, each in of["runs"].items())
    ]
    marks = [(*line.get_xydata()[0], line.get_marker(), line.get_mfc() != "white") for line in drawn]
    assert [mark[2:] for mark in marks] == [mean[2:] for mean in means]
    assert np.allclose([mark[:2] for mark in marks], [mean[:2] for mean in means], atol=1e-12)
    learned = {line.get_color() for line in drawn if line.get_xdata()[0] > 1}
    assert learned == {grid.TRAINED[""][1]}, "the text says that none of the others has a grid of more than a level"
    grid.write(tmp_path, tmp_path)
    assert (tmp_path / "fig-grid.md").read_text() == (tmp_path / "grid.md").read_text() == "No grid was measured.\n"


def test_what_a_split_gives_is_measured_on_the_same_patches(tmp_path):
    for generator in results_table.REPORTED:
        publish(tmp_path / "sen12", generator, psnr=18.0, name="desert")
        publish(tmp_path / "sen12-fold2", generator, psnr=20.0, name="town")
        assert "*not yet run*: " in split_table.render(tmp_path)
        publish(tmp_path / "sen12-fold3", generator, psnr=19.0, name="lake")
        publish(tmp_path / "sen12-blocks", generator, psnr=21.5, name="town")
    whole, shared, trained = re.split("tab-split-shared|tab-split-runs", split_table.render(tmp_path))
    cells = row(whole, "HAT-DSD")
    assert cells[:2] == ["scenes left out", "120"] and cells[2].startswith("19.00 [")
    assert cells[3] == "30.00", "of one constant colour"
    assert cells[5] == "0.100 [0.100,\u00a00.100]"
    assert "/runs/sen12-hat-dsd-s0>" in trained and "/runs/sen12-fold2-hat-dsd-s0>" in trained
    cells = row(shared, "HAT-DSD")
    assert cells[:3] == ["20.00", "21.50", "1.50 [1.50,\u00a01.50]"] and cells[-1] == "30.00, 30.00"
    assert "On the 40 patches that both test" in whole  # the caption
    assert (
        "3 of 3 networks with scenes left out, 3 in blocks. Gain in PSNR on the same patches: 1.50 to 1.50" in trained
    )
    shutil.rmtree(tmp_path / "sen12-fold3" / "unet-dsd-s0")
    publish(tmp_path / "sen12-fold3", "unet", name="town")
    with pytest.raises(InputError, match="town00 is tested in two folds"):
        split_table.render(tmp_path)


def test_places_are_scored_apart(tmp_path):
    assert place_table.render(tmp_path / "socal") == "*not yet run*\n"
    path = publish(tmp_path / "socal", "hat")  # patches of two places by turns, PSNR 18 to 22
    changed(path, mse_mean_colour=[65.025, 650.25] * 20)
    table = place_table.render(tmp_path / "socal")
    for place, colour, psnr in (("albania", "30.00", "19.95 ["), ("france", "20.00", "20.05 [")):
        _, one_colour, _, of_network, _ = row(table, f"{place} (20 in 2)")
        assert one_colour == colour and of_network.startswith(psnr)


def test_two_sets_of_places_stand_in_one_table(tmp_path):
    assert place_table.render_sets(tmp_path, {"ombria": {}, "ombria-second": {}}) == "*not yet run*\n"
    for seed, psnr in ((0, 20.0), (1, 22.0)):
        publish(tmp_path / "ombria", "hat", seed=seed, psnr=psnr)
    publish(tmp_path / "ombria", "hat", tag="pix2pix", psnr=10.0)
    publish(tmp_path / "ombria-second", "unet", tag="l1", psnr=19.0)
    table = place_table.render_sets(tmp_path, provenance.read_results(tmp_path))
    assert row(table, "ombria")[:2] == ["HAT", "dsd"] and row(table, "ombria")[4].startswith("21.00 [")
    assert row(table, "ombria-second")[:2] == ["U-Net", "l1"] and row(table, "ombria-second")[4].startswith("19.00 [")
    assert "pix2pix" not in table and "40 patches in 4 clusters; one colour 30.00 dB" in table


def test_generators_are_compared_with_interpolation(tmp_path):
    assert place_table.render_bilinear(tmp_path, {"ombria": {}}) == "*not yet run*\n"
    for name, tag, scores in (("unet", "dsd", (19.0, 19.5)), ("hat", "dsd", (22.0,)), ("s2oformer", "dsd", (10.0,))):
        for seed, psnr in enumerate(scores):
            publish(tmp_path / "ombria", name, tag=tag, seed=seed, psnr=psnr)
    profiles = provenance.read_results(tmp_path)
    assert "not yet run" in place_table.render_bilinear(tmp_path, profiles), "without those networks there is no table"
    publish(tmp_path / "ombria", "unet", tag="dsd-bilinear", psnr=21.0)
    publish(tmp_path / "ombria", "s2oformer", tag="dsd-bilinear", psnr=20.0)
    publish(tmp_path / "ombria", "s2oformer", tag="dsd-bilinear", seed=1, psnr=20.0)
    lines = place_table.render_bilinear(tmp_path, provenance.read_results(tmp_path)).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(("| s2o", "| hat"))]
    assert [c[:3] for c in cells] == [
        ["s2oformer-dsd-bilinear", "hat-dsd", "0"],
        ["s2oformer-dsd-bilinear", "unet-dsd-bilinear", "0"],
        ["s2oformer-dsd-bilinear", "unet-dsd", "0, 1"],
        ["hat-dsd", "unet-dsd-bilinear", "0"],
        ["hat-dsd", "unet-dsd", "0"],
    ]
    assert [c[3][:5] for c in cells] == ["−2.00", "−1.00", "0.75 ", "1.00 ", "3.00 "]

    shutil.rmtree(tmp_path / "ombria/unet-dsd-bilinear-s0")
    publish(tmp_path / "ombria", "unet", tag="dsd-bilinear", seed=2, psnr=21.0)
    table = place_table.render_bilinear(tmp_path, provenance.read_results(tmp_path))
    left = [line.split("|")[1:3] for line in table.splitlines() if line.startswith(("| s2o", "| hat"))]
    assert [[name.strip() for name in names] for names in left] == [
        ["s2oformer-dsd-bilinear", "hat-dsd"],
        ["s2oformer-dsd-bilinear", "unet-dsd"],
        ["hat-dsd", "unet-dsd"],
    ], "pairs without a seed in common are left out, and no other takes their place"
    publish(tmp_path / "ombria", "unet", tag="dsd-bilinear", psnr=21.0)

    assert place_table.render_shift(tmp_path, provenance.read_results(tmp_path)) == "*not yet run*\n"
    publish(tmp_path / "ombria", "unet", tag="dsd-bilinear-shift", psnr=21.5)
    publish(tmp_path / "ombria", "unet", tag="dsd-shift", psnr=19.0)
    publish(tmp_path / "ombria", "s2oformer", tag="dsd-shift", psnr=21.0)
    publish(tmp_path / "ombria", "hat", tag="dsd-shift", psnr=20.5)
    table = place_table.render_shift(tmp_path, provenance.read_results(tmp_path))
    cells = [[cell.strip() for cell in line.split("|")[2:5:2]] for line in table.splitlines() if "-shift |" in line]
    assert [(less, mean[:5]) for less, mean in cells] == [
        ("unet-dsd-shift", "2.50 "),
        ("unet-dsd", "2.50 "),
        ("unet-dsd-bilinear", "0.50 "),
        ("hat-dsd", "−0.50"),
        ("s2oformer-dsd-bilinear", "1.50 "),
        ("unet-dsd", "0.00 "),
        ("s2oformer-dsd", "11.00"),
        ("hat-dsd-shift", "0.50 "),
        ("unet-dsd-shift", "2.00 "),
        ("unet-dsd-bilinear-shift", "−0.50"),
        ("hat-dsd", "−1.00"),
        ("hat-dsd", "−1.50"),
        ("unet-dsd-shift", "1.50 "),
    ]


def test_a_random_dsd_is_compared_with_none_on_the_seeds_of_both(tmp_path):
    assert place_table.render_random(tmp_path, {"ombria": {}}) == "*not yet run*\n"
    for tag, scores in {"dsd-random": (20.0, 21.0, 30.0), "l1": (19.0, 21.5), "dsd": (10.0,)}.items():
        for seed, psnr in enumerate(scores):
            changed(publish(tmp_path / "ombria", "s2oformer", tag=tag, seed=seed, psnr=psnr), ssim=psnr / 50)
    publish(tmp_path / "ombria", "hat", tag="l1", psnr=10.0)
    found = row(place_table.render_random(tmp_path, provenance.read_results(tmp_path)), "ombria")
    assert found[0] == "0, 1" and found[1].startswith("0.25 [") and found[2] == "1.00, −0.50"
    assert found[4].startswith("0.005 [") and found[5] == "0.020, −0.010"


def test_every_page_of_real_images_carries_its_credit_once_at_least_and_no_synthetic_one():
    app = SimpleNamespace(srcdir=ROOT)
    for path in sorted((ROOT / "notebooks" / "executed").glob("*/*.ipynb")):
        source = [path.read_text()]
        executable_paper.open_notebook(app, path.relative_to(ROOT).with_suffix("").as_posix(), source)
        credit = executable_paper.execute.read_profile(path.parent.name)[0].get("credit", "")
        assert credit in source[0] and ("Sentinel data" in source[0]) == ("Sentinel data" in credit), path
    for profile in ("ombria", "ombria-10m", "ombria-second", "sen12", "socal", "elsewhere", "elsewhere-sea"):
        assert "Sentinel data" in executable_paper.execute.read_profile(profile)[0]["credit"]


@pytest.mark.parametrize("current", [True, False])
def test_a_page_of_an_older_notebook_says_so(current, monkeypatch):
    monkeypatch.setattr(executable_paper.execute, "is_of", lambda *_: current)
    name = "notebooks/executed/ombria/04_results"
    source = [(ROOT / f"{name}.ipynb").read_text()]
    executable_paper.open_notebook(SimpleNamespace(srcdir=ROOT), name, source)
    assert ("an earlier version of its source" in source[0]) != current
    seconds = provenance.steps_of(ROOT / "book" / "results", "ombria")["04_results"]["seconds"]
    assert f"executed in {seconds:.0f} s" in source[0]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("quick/03_train_hat", ("synthetic", "record </book/_generated/runs/quick-hat-dsd-s0>", "03_train")),
        ("elsewhere/07_elsewhere", ("real", "records </book/runs>", "07_elsewhere")),
    ],
)
def test_an_executed_notebook_begins_with_its_kind_record_and_source(name, begins):
    source = [(ROOT / f"notebooks/executed/{name}.ipynb").read_text()]
    executable_paper.open_notebook(SimpleNamespace(srcdir=ROOT), f"notebooks/executed/{name}", source)
    kind, _, _, record, script, *_ = json.loads(source[0])["cells"][0]["source"].splitlines()[2].split(" · ")
    made_from, run, file = begins
    assert (kind, record) == (f"{{kind}}`{made_from}`", f"{{doc}}`{run}`")
    assert script == f"{{download}}`source </notebooks/{file}.py>`"


@pytest.mark.parametrize("options", [{}, {"repository_url": "https://example.org"}])
def test_pages_are_launched_where_there_is_a_repository(tmp_path, monkeypatch, options):
    for module in (provenance, diagrams):
        monkeypatch.setattr(module, "write", lambda _: None)
    found = dict(options)
    executable_paper.write_generated(
        SimpleNamespace(srcdir=tmp_path, config=SimpleNamespace(html_theme_options=found)), None
    )
    assert ("launch_buttons" in found) == bool(options)


@pytest.mark.parametrize(("profile", "ending"), [("quick", ""), ("ombria", "-ombria")])
def test_tables_and_figures_of_two_profiles_have_names_of_their_own(profile, ending):
    name = f"notebooks/executed/{profile}/04_results"
    source = [(ROOT / f"{name}.ipynb").read_text()]
    before = [found[0] for found in executable_paper.LABEL.finditer(source[0])]
    executable_paper.open_notebook(SimpleNamespace(srcdir=ROOT), name, source)
    assert before and [found[0] for found in executable_paper.LABEL.finditer(source[0])] == [
        f"{x}{ending}" for x in before
    ]


def test_a_number_below_0_is_printed_with_a_minus_and_leads_to_its_run(tmp_path):
    path = publish(tmp_path / "book/results/ombria", "hat")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"best_epoch": -1}))
    asked = SimpleNamespace(text="ombria/hat-dsd-s0::best_epoch:.1f", env=SimpleNamespace(srcdir=tmp_path))
    assert executable_paper.Record.look_up(asked) == ("−1.0", results_table.page_of("ombria", "hat-dsd-s0"))


@pytest.mark.parametrize("math", [True, False])
def test_scripts_are_loaded_where_they_are_needed(math):
    page = new_document("page")
    page += nodes.math("", "x") if math else nodes.paragraph("", "x")
    names = ("theme.js", "MathJax.js", "thebe.js")
    context = {"script_files": [SimpleNamespace(filename=name, attributes={}) for name in names]}
    executable_paper.leave_out_scripts(None, "page", "", context, page)
    assert [script.filename for script in context["script_files"]] == ["theme.js", "MathJax.js"][: 1 + math]


def test_beside_a_runs_page_stands_one_link_and_beside_others_the_contents():
    app = SimpleNamespace(env=SimpleNamespace(titles={"book/runs": nodes.title("", "Runs")}))
    for page, shortened in (("book/_generated/runs/ombria-hat", True), ("book/_generated/x", False), ("intro", False)):
        context = {"generate_toctree_html": lambda: "<ul>all</ul>", "pathto": lambda page: f"{page}.html"}
        executable_paper.shorten_contents(app, page, "", context, None)
        contents = context["generate_toctree_html"]()
        assert (contents != "<ul>all</ul>") == shortened == ('href="book/runs.html">Runs</a>' in contents)


def test_the_first_cell_of_a_row_is_its_header():
    page, group = new_document("page"), nodes.tgroup("", nodes.colspec(), nodes.colspec(), cols=2)
    page += nodes.table("", group)
    executable_paper.name_rows(None, page)
    assert [column.get("stub") for column in group.findall(nodes.colspec)] == [1, None]


@pytest.mark.parametrize("error", [None, ValueError("a page is broken")])
def test_what_no_page_loads_is_left_out_of_a_book_that_was_built(tmp_path, error):
    (tmp_path / "_static").mkdir()
    for name in ("theme.js", "theme.js.map"):
        (tmp_path / "_static" / name).touch()
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html"))
    executable_paper.leave_out_files(app, error)
    assert (tmp_path / "_static/theme.js").exists() and (tmp_path / "_static/theme.js.map").exists() == bool(error)


def test_corrections_stand_on_pages_that_cannot_be_executed_again(monkeypatch):
    corrected = executable_paper.errata_of(ROOT)
    chapters = (ROOT / "_toc.yml").read_text().split()
    assert corrected and not {*corrected} - {*chapters}
    for name, text in corrected.items():
        source = [(ROOT / f"{name}.ipynb").read_text()]
        executable_paper.open_notebook(SimpleNamespace(srcdir=ROOT), name, source)
        assert text in "".join(json.loads(source[0])["cells"][0]["source"])
    monkeypatch.setattr(executable_paper.execute, "is_of", lambda *_: True)
    with pytest.raises(InputError, match=f"corrects {name}, which was executed anew"):
        executable_paper.open_notebook(SimpleNamespace(srcdir=ROOT), name, [(ROOT / f"{name}.ipynb").read_text()])


def test_a_notebook_older_than_its_source_is_named_with_the_command(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    folder = tmp_path / "notebooks" / "executed" / "quick"
    folder.mkdir(parents=True)
    for step in check.execute.plan("quick", {}):
        notebook = jupytext.read(step.source)
        given = nbformat.v4.new_code_cell("".join(f"{name} = {value!r}\n" for name, value in step.parameters.items()))
        given.metadata["tags"] = ["injected-parameters"]
        notebook.cells.insert(2, given)
        jupytext.write(notebook, folder / f"{step.name}.ipynb")
    monkeypatch.chdir(tmp_path)
    assert check.stale("quick") == []
    path = folder / "03_train_hat.ipynb"
    before = path.read_text()
    path.write_text(before.replace("generator = 'hat'", "generator = 'hat'\\nepochs = 1"))
    assert len(said := check.stale("quick")) == 1 and "03_train_hat.ipynb has other parameters than its" in said[0]
    path.write_text(before)
    path = folder / "02_models.ipynb"
    path.write_text(path.read_text().replace("# The networks", "# The nets"))
    (folder / "04_results.ipynb").rename(folder / "04_results_old.ipynb")
    said = check.stale("quick")
    assert len(said) == 3 and all("notebooks/executed/quick/" in line for line in said)
    assert "02_models.ipynb is older than notebooks/02_models.py: `make notebooks PROFILE=quick`" in said[0]
    assert "04_results.ipynb is missing" in said[1] and "04_results_old.ipynb has no source" in said[2]
    monkeypatch.setattr(check.sys, "argv", ["check.py", "quick"])
    monkeypatch.setattr(check.subprocess, "run", lambda *_, **__: pytest.fail("it executes what is known to be old"))
    assert check.main() == 1


def test_the_diagram_of_s2oformer_follows_the_network(monkeypatch):
    def words() -> list[str]:
        return [text.get_text() for text in diagrams.s2oformer().axes[0].texts]

    assert sum(word.startswith("RHAG ") for word in words()) == 4 and "1/4" in words()
    monkeypatch.setattr(diagrams, "TALK", {"depths": (2, 2), "num_heads": (2, 2), "window_size": 8, "embed_dim": 8})
    assert [word for word in words() if word.startswith("RHAG ")] == ["RHAG 1\n2 blocks", "RHAG 2\n2 blocks"]
    assert "1/2" in words() and "1/4" not in words() and words().count("c") == 1


def test_conda_gets_what_constraints_pin():
    pins = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text().lower().replace("_", "-"), re.M)
    )
    content = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    plain = dict(re.split("=+", line) for line in content if isinstance(line, str) and "=" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert Version(plain.pop("python")) in SpecifierSet(project["requires-python"])
    assert plain.items() <= pins.items()
    assert {"-c constraints.txt", "-e .[test]"} <= set(content[-1]["pip"])
    extras = project["optional-dependencies"].values()
    for line in [*project["dependencies"], *(part for extra in extras for part in extra)]:
        wanted = Requirement(line)
        if wanted.name != project["name"]:
            assert pins[wanted.name.lower()] in wanted.specifier, line


def changed(record: Path, **columns) -> None:
    """Other values in columns of the ``patches.csv`` beside a record."""
    path = record.parent / "patches.csv"
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)


def test_skill_is_each_networks_own_and_one_colour_is_averaged_in_decibels(tmp_path):
    varied = {"skill": np.linspace(-0.1, 0.5, 40), "mse_mean_colour": [65.025, 650.25] * 20}
    changed(publish(tmp_path / "ombria", "hat"), **varied)
    publish(tmp_path / "ombria", "unet")
    own = records.summarise(records.read_patches(tmp_path / "ombria" / "hat-dsd-s0"))["skill"]
    text = results_table.render(tmp_path / "ombria")
    assert "the mean over patches" in text and "reaches 25.00 dB" in text and "U-Net-DSD 0.10 [0.10,\u00a00.10]" in text
    assert "HAT-DSD {mean:.2f} [{low:.2f},\u00a0{high:.2f}]".format(**own).replace("-0", "−0") in text


def test_ssim_above_dsd_is_of_each_training(tmp_path):
    for seed, plain in enumerate((0.4, 0.3)):
        changed(publish(tmp_path / "ombria", "hat", seed=seed), ssim=plain)
        for folder, ssim in (("ombria", 0.5), ("again/ombria", 0.6)):
            path = publish(tmp_path / folder, "hat", tag="dsd-ssim", seed=seed)
            record = json.loads(path.read_text())
            record["parameters"]["ssim_weight"] = 0.1
            path.write_text(json.dumps(record))
            changed(path, ssim=ssim)
    *_, first, second = row(again.render_ssim(tmp_path).split("tab-again-pairs")[0], "ombria hat-dsd-ssim")
    assert (first[:5], second[:5]) == ("0.150", "0.250")


def test_p_is_corrected_for_pairs_that_are_not_shown(tmp_path):
    for generator, psnr in (("hat", 22.0), ("unet", 20.0), ("s2oformer", 21.0)):
        publish(tmp_path / "ombria", generator, psnr=psnr)
    table = place_table.pairs_table(tmp_path, provenance.read_results(tmp_path), [("hat-dsd", "unet-dsd")], "x", "y")
    assert row(table, "hat-dsd")[4] == "0.375"  # 2 of 16 flips of four clusters, for three pairs


def test_each_class_of_a_product_stands_in_one_column():
    table = provenance.merges_table()
    for legend in (landcover.find_legend(name) for name in ("hrlulc-v21.11", "worldcover")):
        cells = row(table, legend.product)
        listed = sorted(entry for cell in cells[1:] if cell != "–" for entry in cell.split(", "))
        assert listed == sorted(f"{name} ({code})" for code, name in legend.names.items())
    assert cells[-1] == "snow and ice (70)"


def test_numbers_of_a_runs_page_and_list(tmp_path):
    publish(tmp_path / "ombria", "hat")
    runs = records.find(tmp_path / "ombria")
    page = provenance.run_page("ombria", "hat-dsd-s0", runs["hat-dsd-s0"])
    assert row(page, "scored epoch") == ["2 of 3, the best on validation patches"]
    psnr = runs["hat-dsd-s0"]["metrics"]["psnr"]
    assert row(page, "PSNR (dB)") == [f"{psnr[name]:.2f}" for name in ("mean", "low", "high")]
    assert row(provenance.runs_table("ombria", runs), "{doc}`hat-dsd-s0")[-4:] == ["20.00", "0.500", "0.000", "1.0"]
    assert row(page, "training took") == ["1.0 minutes (0.8 expected for its steps, from two of them)"]
    assert row(page, "peak memory") == ["1.00 GiB"]
    older = runs["hat-dsd-s0"] | {"code_version": provenance.PROCESS_MEMORY[0] + "00"}
    assert row(provenance.run_page("ombria", "hat-dsd-s0", older), "peak memory")[0].startswith("at most 1.00 GiB")


def test_what_a_split_is_worth_asks_for_whole_intervals_and_the_same_patches(tmp_path):
    names = {"sen12": "desert", "sen12-fold2": "town", "sen12-fold3": "lake", "sen12-blocks": "town"}
    for generator in results_table.REPORTED:
        for folder, name in names.items():
            changed(publish(tmp_path / folder, generator, name=name), skill=np.linspace(-1, 1.1, 40))
    shared = split_table.render(tmp_path).partition("tab-split-shared")[2]
    assert "0 of 3 networks with scenes left out, 0 in blocks" in shared and "| 400 | 2 | 3 |" in shared
    shutil.rmtree(tmp_path / "sen12-blocks/hat-dsd-s0")
    publish(tmp_path / "sen12-blocks", "hat", name="sea")
    with pytest.raises(InputError, match="do not test every patch that sen12-blocks tests"):
        split_table.render(tmp_path)


def test_quarters_are_of_runs_on_the_same_patches(tmp_path):
    publish(tmp_path / "ombria", "unet")
    publish(tmp_path / "ombria", "unet", tag="dsd-bilinear", name="q")
    radar = {"train": {"x": 1}, "validation": {"y": 1}, "test": {f"q{i:02}": i for i in range(40)}}
    with pytest.raises(InputError, match="not evaluated on the same patches"):
        brightness.quarters("a", {"data": "abc", "radar": radar}, tmp_path)


def test_a_repeated_execution_is_compared_run_by_run_in_both_directions(tmp_path):
    for folder, psnr in (("published", 20.0), ("low", 18.0), ("high", 22.0), ("near", 20.5)):
        publish(tmp_path / folder, "hat", psnr=psnr)
    assert [check.compare(tmp_path / "published", tmp_path / name) for name in ("low", "high", "near")] == [1, 1, 0]
    publish(tmp_path / "near", "unet")
    assert check.compare(tmp_path / "published", tmp_path / "near") == 1
    assert check.compare(tmp_path / "published", tmp_path / "nowhere") == 1
    for ssim, code in ((0.3, 1), (0.45, 0), (0.55, 0), (0.7, 1)):
        path = publish(tmp_path / str(ssim), "hat")
        record = json.loads(path.read_text())
        record["metrics"]["ssim"]["mean"] = ssim
        path.write_text(json.dumps(record))
        assert check.compare(tmp_path / "published", path.parents[1]) == code, f"0.5 is published, {ssim} found"


def test_a_profile_that_was_never_executed_is_named(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"notebooks/executed/quick holds no executed notebooks: `make notebooks"):
        check.check("quick")


@pytest.mark.parametrize("profile", ["quick", "ombria", "elsewhere"])
def test_notebooks_are_checked_after_those_that_they_need(profile):
    steps = [step.name for step in check.execute.plan(profile, {})]
    first, *others = check.stages(check.execute.plan(profile, {}))
    assert first == ["01_dataset"] and sorted(chain(first, *others)) == sorted(steps)
    kinds = [{name[:2] for name in stage} for stage in others]
    if profile == "elsewhere":
        assert kinds == [{"07"}], "nothing is trained there"
    else:
        assert kinds[0] == {"02", "03"} and len(kinds) == 2 and not kinds[1] & {"01", "02", "03"}


@pytest.mark.parametrize("failing", [None, 0, 1, 2])
def test_a_notebook_that_fails_fails_the_check_and_is_the_last_to_run(tmp_path, monkeypatch, failing):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    folder = tmp_path / "notebooks" / "executed" / "quick"
    folder.mkdir(parents=True)
    stages = check.stages(check.execute.plan("quick", {}))
    for name in chain(*stages):
        (folder / f"{name}.ipynb").write_text(name)
    executed, left = [], tmp_path / "_build/check/runs/quick/hat-dsd-s0/record.json"
    left.parent.mkdir(parents=True)
    left.touch()  # by an earlier check

    def run(command, cwd, env):
        assert cwd == tmp_path / "_build/check" and env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "1"
        assert (cwd / "pyproject.toml").is_file() and (cwd / "notebooks/profiles").is_dir()
        notebooks = [part for part in command if isinstance(part, Path) and part.suffix]
        assert all(path.read_text() == path.stem and path.parent != folder for path in notebooks)
        executed.append([path.stem for path in notebooks])
        return SimpleNamespace(returncode=5 * (failing == len(executed) - 1))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check.sys, "argv", ["check.py", "quick"])
    monkeypatch.setattr(check.subprocess, "run", run)
    monkeypatch.setattr(check, "stale", lambda _: [])
    monkeypatch.setattr(check, "compare", lambda *_: 1)  # the metrics do not agree
    assert check.main() == (1 if failing is None else 5) and not left.exists()
    assert executed == (stages if failing is None else stages[: failing + 1])


def test_records_are_found_from_whatever_folder(tmp_path, monkeypatch):
    publish(tmp_path / "runs", "hat")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert [*records.find("runs")] == ["hat-dsd-s0"] and records.read("runs/hat-dsd-s0")["generator"] == "hat"
    assert len(records.read_patches("runs/hat-dsd-s0")) == 40
    assert records.publish("runs/hat-dsd-s0", "book/hat") and (tmp_path / "book/hat/patches.csv").is_file()
    records.log_reading("runs/hat-dsd-s0", "größe")
    assert (tmp_path / "runs/hat-dsd-s0/test_readings.csv").read_text("utf-8").endswith(",größe\n")


def test_patches_that_changed_are_published(tmp_path):
    path = publish(tmp_path / "runs", "hat")
    target = tmp_path / "book" / "hat-dsd-s0"
    assert records.publish(path.parent, target) and not records.publish(path.parent, target)
    changed(path, sam=1.0)
    assert records.publish(path.parent, target)
    assert (target / "patches.csv").read_bytes() == (path.parent / "patches.csv").read_bytes()


def test_a_datasheet_counts_windows_and_patches_that_were_refused():
    refused = [{"reason": "outside the map", "windows": 7}, {"reason": "cloud"}]
    names = ("nodata", "unlabelled", "sea", "cloud")
    limits = [*(f"max_{name}" for name in names), "cloud_brightness", "haze_brightness", "border_noise_db", "buffer_m"]
    info = {"refused": refused, "parameters": dict.fromkeys(limits), "lulc": {"kind": "land cover"}}
    info |= {"sar": {"units": "dB"}, "opt": {"units": "reflectance"}}
    text = datasheet._judged(info, True)
    assert text.startswith("Refused: 7 outside the map, 1 cloud (") and all(name in text for name in limits)
    info |= {"lulc": {"kind": "pseudo-categories"}, "sar": {"units": "8-bit"}, "opt": {"units": "8-bit"}}
    text = datasheet._judged(info, False)
    assert [name for name in limits if name in text] == ["max_nodata", "max_cloud", "cloud_brightness"]


def test_a_datasheet_gives_western_longitudes_as_they_are():
    random = np.random.default_rng(0)
    info = {"unique_area_km2": dict.fromkeys(SPLITS, 1.0)}
    for _ in range(20):
        windows = {split: pd.DataFrame({"lon": random.uniform(-118.4, -118.1, 20), "lat": 34.0}) for split in SPLITS}
        text = datasheet._where(info, pd.concat(windows))
        assert all(f"| {split} | −118." in text for split in SPLITS)


def test_a_datasheet_counts_patches_of_no_named_group():
    index = pd.DataFrame({"lon": np.nan, "group": ["albania", "", "france", ""]})
    assert "Groups: albania, france, and 2 patches of no named group." in datasheet._where({}, index)
    assert "Groups: none." in datasheet._where({}, index.assign(group=""))


def test_a_datasheet_says_what_mercators_metres_are_on_the_ground():
    index = pd.DataFrame({"crs": "EPSG:3857", "lat": [60.0, 60.0, 0.0]})
    assert datasheet._on_the_ground(20, index) == " of its projection (10 to 20 m on the ground)"
    assert datasheet._on_the_ground(10, index.assign(crs="EPSG:3994")) == ""  # true at 41 degrees
    assert datasheet._on_the_ground(20, index[:2]) == " of its projection (10 m on the ground)"
    for other in (["EPSG:3857", "EPSG:32654", ""], ["", "", np.nan]):
        assert datasheet._on_the_ground(20, index.assign(crs=other)) == ""


def test_a_datasheet_warns_of_what_there_is_to_warn_of():
    info = {"source": "folder", "sar": {"units": "dB"}, "lulc": None, "parameters": {}, "counts": {"test": 50}}
    index = pd.DataFrame({"crs": ["EPSG:32654", "", None]})
    always = datasheet._faults(info, index)
    assert always == datasheet._faults(info | {"lulc": {"kind": "land cover"}}, index) and len(always) == 1
    assert "in degrees" in datasheet._faults(info, index.assign(crs=["EPSG:32654", "EPSG:4326", ""]))[1]
    for change, says in (
        ({"counts": {"test": 49}}, "only 49 test patches"),
        ({"parameters": {"block_m": 500}}, "blocks of the same images"),
        ({"sar": {"units": "8-bit"}}, "absolute backscatter is lost"),
        ({"lulc": {"kind": "pseudo-categories"}}, "pseudo-categories follow colour"),
    ):
        (more,) = set(datasheet._faults(info | change, index)) - {*always}
        assert says in more


def test_a_datasheet_says_whose_a_map_is_unless_it_is_drawn_and_when_it_was_made():
    lulc = {"kind": "land cover", "product": "a map", "credit": "its makers", "epoch": ""}
    info = {"parameters": {"credit": "Mine."}, "lulc": lulc, "source": "folder", "dates": [], "synthetic": False}
    assert datasheet._whose(info) == "Mine. Land cover: a map, its makers."
    assert datasheet._whose(info | {"source": "embedded"}) == "Mine."
    said = datasheet._when(info, pd.DataFrame({"season": [""]}))
    assert said.startswith("Images: not stated by the files. Land-cover map: not stated;")
    said = datasheet._when(info | {"synthetic": True}, pd.DataFrame({"season": [""]}))
    assert said == "Images: not stated by the files.", "nothing has changed between"


def test_a_datasheet_says_of_one_offset_alone_that_all_have_it():
    bands = {"units": "8-bit", "bands": ["x"], "limits": [[0, 255]]}
    info = {"patch_size": 8, "pixel_size_m": None, "counts": dict.fromkeys(("train", "validation", "test"), 1)}
    info |= {"sar": bands, "opt": bands, "lulc": None}
    said = [datasheet._what(info | {"opt_offsets": offsets}, pd.DataFrame()) for offsets in ([0], [1000], [0, 1000])]
    assert ["taken from the stored reflectance" in text for text in said] == [False, True, True]
    assert ["for each pair as listed" in text for text in said] == [False, False, True]


def test_the_patch_of_a_known_and_an_unknown_scene_is_the_one_that_its_rule_names():
    results, fold = ROOT / "book" / "results", "sen12-fold2"
    apart = [split_table.read([results / name for name in split_table.FOLDS], run) for run in SEEDS_0]
    within = [split_table.read([results / "sen12-blocks"], run) for run in SEEDS_0]
    gains = [b.set_index("id")["psnr"] - a.set_index("id")["psnr"] for a, b in zip(apart, within, strict=True)]
    middle = pd.concat(gains, axis=1).mean(axis=1, skipna=False).dropna().sort_values()
    (region,) = executable_paper.execute.read_plan(ROOT / "notebooks/profiles/sen12-blocks.plan.yml", [])["regions"]
    assert region["patch_id"] == middle.index[len(middle) // 2] and region["beside"] == f"runs/{fold}"
    assert region["patch_id"] in set(records.read_patches(results / fold / SEEDS_0[0])["id"])
