"""The book: numbers only from records, no synthetic result beside the talk's, no broken page, no outside request."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from s2olib import records
from s2olib.project import InputError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book"))

import build
import results_table

ROOT = build.ROOT


def publish(
    results: Path, generator: str, *, seed: int = 0, psnr=(20.0, 19.0, 21.0), dsd_weight=0.1, **dataset
) -> Path:
    """A run's record with the full schema, written where published records lie."""
    record = {key: kind() for key, kind in records.REQUIRED.items()}
    record |= {
        "schema": records.SCHEMA,
        "generator": generator,
        "seed": seed,
        "parameters": {"dsd_weight": dsd_weight},
        "dataset": {"synthetic": False, "source": "pairs", "pixel_size_m": 20, "fingerprint": "abc"} | dataset,
        "evaluation": {
            "interval": "95 % cluster bootstrap, descriptive",
            "patches": 110,
            "groups": ["albania", "france"],
        },
        "metrics": {
            "psnr": dict(zip(("mean", "low", "high"), psnr, strict=True)),
            "ssim": {"mean": 0.5, "low": 0.4, "high": 0.6},
        },
    }
    path = results / f"{generator}-{dsd_weight}-s{seed}" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    return path


def row(table: str, label: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {label} "))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_committed_table_is_what_the_records_give():
    assert results_table.TABLE.read_text() == results_table.render(results_table.read_records())


def test_without_records_only_the_talk_has_numbers(tmp_path):
    table = results_table.render(results_table.read_records(tmp_path / "missing"))
    assert row(table, "U-Net-DSD") == ["19.50", "0.565", "*not yet run*", "*not yet run*"]
    assert row(table, "HAT-DSD")[:2] == ["19.92", "0.575"]
    assert row(table, "S2OFormer-DSD")[:2] == ["20.14", "0.642"]


def test_seeds_are_averaged_and_their_intervals_joined(tmp_path):
    publish(tmp_path, "hat", seed=0, psnr=(20.0, 19.0, 20.5))
    publish(tmp_path, "hat", seed=1, psnr=(21.0, 20.5, 21.5))
    table = results_table.render(results_table.read_records(tmp_path))
    assert row(table, "HAT-DSD")[2] == "20.50 (19.00 to 21.50)"
    assert row(table, "S2OFormer-DSD")[2] == "*not yet run*"
    assert "seeds 0, 1" in table and "20 m" in table and "descriptive" in table


def test_a_run_without_the_dsd_is_not_a_dsd_row(tmp_path):
    publish(tmp_path, "unet", dsd_weight=0.0)
    assert results_table.read_records(tmp_path) == []


def test_synthetic_records_are_refused(tmp_path):
    path = publish(tmp_path, "s2oformer", synthetic=True)
    with pytest.raises(InputError, match="synthetic") as error:
        results_table.read_records(tmp_path)
    assert str(path) in str(error.value)


def test_records_of_different_data_are_refused(tmp_path):
    publish(tmp_path, "unet")
    publish(tmp_path, "hat", fingerprint="other")
    with pytest.raises(InputError, match="different data sets"):
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
    with pytest.raises(InputError, match=r"03_train_hat.*never run"):
        build.pages(source_of(tmp_path, {"execution_count": None}))
    assert [page.name for page in build.pages(source_of(tmp_path, {}))] == ["intro.md", "03_train_hat.ipynb"]
    (tmp_path / "03_train_hat.ipynb").unlink()
    with pytest.raises(InputError, match="03_train_hat, which does not exist"):
        build.pages(tmp_path)


def test_staging_takes_fresh_notebooks_and_leaves_failed_ones(tmp_path):
    executed, source = tmp_path / "executed", tmp_path / "source"
    (executed / "failed").mkdir(parents=True)
    (executed / "01_dataset.ipynb").write_text("fresh")
    (executed / "failed" / "02_models.ipynb").write_text("failed")
    build.stage(source, executed)
    assert [path.name for path in (source / build.NOTEBOOKS).rglob("*")] == ["01_dataset.ipynb"]
    assert (source / "book" / "_generated" / "table.md").read_text() == results_table.TABLE.read_text()


@pytest.mark.parametrize(
    ("tag", "outside"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', True),
        ("<img alt='x' src='http://example/x.png'>", True),
        ('<a href="https://doi.org/10.1109/CVPR.2017.632">paper</a>', False),
        ('<script src="../_static/x.js"></script>', False),
    ],
)
def test_outside_requests_are_found_and_links_are_not(tmp_path, tag, outside):
    (tmp_path / "page.html").write_text(f"<html>{tag}</html>")
    assert bool(build.outside_requests(tmp_path)) == outside


def test_every_prose_page_and_every_committed_notebook_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    names = {toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])}
    written = {f"book/{page.stem}" for page in (ROOT / "book").glob("*.md")}
    executed = {f"{build.NOTEBOOKS}/{page.stem}" for page in (ROOT / build.NOTEBOOKS).glob("*.ipynb")}
    assert written == {name for name in names if name.startswith("book/")}
    assert executed <= names
