"""The runner: profiles are checked before anything runs, outputs are normalised, and the paper's own profile trains."""

import base64
import dataclasses
import errno
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from s2olib import training
from s2olib.data.build import SOURCES
from s2olib.project import InputError, resolve

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
execute = importlib.util.module_from_spec(spec)
sys.modules["execute"] = execute
spec.loader.exec_module(execute)


@pytest.mark.parametrize("profile", sorted(p.stem for p in execute.PROFILES.glob("*.yml") if ".plan" not in p.name))
def test_every_profile_has_a_plan(profile):  # also a user's own that lies beside the book's
    names = [step.name for step in execute.plan(profile, {})]
    assert names == sorted(names, key=lambda name: name[:2]) and len(set(names)) == len(names)


TRAINED = ("quick", "paper", "ombria", "ombria-10m", "ombria-second", "sen12", "sen12-blocks", "socal")


@pytest.mark.parametrize("profile", TRAINED)
def test_the_talks_three_networks_are_trained(profile):
    names = [step.name for step in execute.plan(profile, {})]
    trained = {name.split("-")[0] for name in names if name.startswith("03_")}
    assert trained == {"03_train_unet", "03_train_hat", "03_train_s2oformer"}
    assert names[:2] == ["01_dataset", "02_models"] and "07_elsewhere" not in names


@pytest.mark.parametrize("profile", ["elsewhere", "elsewhere-sea"])
def test_nothing_is_trained_elsewhere(profile):
    assert [step.name for step in execute.plan(profile, {})] == ["01_dataset", "07_elsewhere"]


def test_scenes_are_translated_where_a_plan_names_them(monkeypatch):
    assert execute.plan("quick", {})[-1].name == "06_translate"
    assert "06_translate" not in [step.name for step in execute.plan("ombria", {})]
    folders = {"source": "folder", "dataset_root": "data/mine", "run_root": "runs/mine"}
    assert execute.plan("quick", folders)[-1].name == "05_compare_failures", "whose bands are unknown"
    monkeypatch.setattr(execute, "entries", lambda stem, _: [{"scene": "data/noto.tif"}] if stem[:2] == "06" else [{}])
    step = execute.plan("quick", {"tile_size": 256})[-1]
    assert step.name == "06_translate_noto" and step.parameters == {"scene": "data/noto.tif", "tile_size": 256}


def test_images_of_ones_own_are_not_compared_at_places_in_japan_that_no_plan_of_theirs_names():
    given = {"dataset_root": "data/mine", "run_root": "runs/mine"}
    names = {source: [s.name for s in execute.plan("quick", given | {"source": source})] for source in SOURCES}
    assert [name for name in names["folder"] if name.startswith("05")] == ["05_compare_failures"]
    assert names["sen12ms"] == names["embedded"] == [step.name for step in execute.plan("quick", {})]


@pytest.mark.parametrize("source", ["folder", "sen12ms"])
@pytest.mark.parametrize("missing", ["dataset_root", "run_root"])
def test_images_of_ones_own_do_not_take_the_synthetic_ones_place(source, missing):
    given = {"source": source, "dataset_root": "data/mine", "run_root": "runs/mine"}
    del given[missing]
    with pytest.raises(InputError, match=f"profile 'quick' gives no {missing}: without one, your images"):
        execute.plan("quick", given)


def test_a_profile_takes_the_rest_from_its_base(tmp_path, monkeypatch):
    (tmp_path / "quick.yml").write_text("{}")
    (tmp_path / "first.yml").write_text("{epochs: 3, tag: l1}")
    (tmp_path / "first.plan.yml").write_text("runs: [{generator: hat}]")
    (tmp_path / "second.yml").write_text("{base: first, epochs: 5}")
    monkeypatch.setattr(execute, "PROFILES", tmp_path)
    steps = {step.name: step.parameters for step in execute.plan("second", {})}
    assert steps["03_train_hat-l1-s0"] == {"epochs": 5, "tag": "l1", "generator": "hat"}
    (tmp_path / "third.yml").write_text("{base: fisrt}")
    with pytest.raises(InputError, match="'fisrt' is unknown"):
        execute.plan("third", {})


@pytest.mark.parametrize(
    ("profile", "overrides", "says"),
    [
        ("quikc", {}, "'quikc' is unknown: there are (?!.*plan).*quick"),
        ("quick", {"lerning_rate": 0.1}, "'lerning_rate' .* declared by no notebook"),
        ("quick", {"epochs": "many"}, "expects int"),
        ("quick", {"run_root": None}, "'run_root' .* is empty: give a folder"),
        ("quick", {"run_root": ""}, "'run_root' .* is empty: give a folder"),
        ("quick", {"embed_dim": 1.5}, "expects int"),
        ("quick", {"seed": True}, "'seed' of profile 'quick' is True: the notebook expects int"),
        ("quick", {"learning_rate": "1e-4"}, "expects float, so write 1.0e-04"),
        ("quick", {"learning_rate": True}, "'learning_rate' of profile 'quick' is True: the notebook expects float"),
        ("quick", {"tag": "l1", "seed": 3, "generator": "hat"}, "two executions '03_train_hat-l1-s3'"),
    ],
)
def test_what_is_unknown_is_refused(profile, overrides, says):
    with pytest.raises(InputError, match=says):
        execute.plan(profile, overrides)


def test_a_value_of_the_command_line_that_is_no_yaml_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["execute.py", "quick", "-p", "epochs", "["])
    with pytest.raises(SystemExit) as end:
        execute.main()
    assert end.value.code == 2 and "parameter 'epochs' is '[': that is no YAML value" in capsys.readouterr().err


def test_a_source_of_two_cells_of_parameters_is_named(tmp_path):
    source = notebook_source(tmp_path, '# %% tags=["parameters"]\nrun_root: str = "y"\n')
    with pytest.raises(InputError, match=r"01_dataset\.py has 2 cells tagged `parameters`: it must have one"):
        execute.declared(source)


def test_the_command_line_says_it_in_one_line():
    command = [sys.executable, ROOT / "notebooks" / "execute.py", "nope"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "'nope' is unknown" in done.stderr and "Traceback" not in done.stderr


def test_a_notebook_receives_only_what_it_declares():
    steps = {step.name: step for step in execute.plan("paper", {"archive_root": "/elsewhere"})}
    assert steps["01_dataset"].parameters["archive_root"] == "/elsewhere"
    assert "archive_root" not in steps["03_train_hat"].parameters
    assert steps["03_train_unet"].parameters["embed_dim"] == 64 and steps["03_train_hat"].parameters["embed_dim"] == 96


def notebook_source(folder, code):
    source = folder / "01_dataset.py"
    source.write_text(
        '# %% tags=["parameters"]\ndataset_root: str = "x"\n\n# %%\nimport sys\n'
        'print("progress", file=sys.stderr)\n' + code
    )
    return source


def test_two_executions_are_the_same_bytes(tmp_path):
    name = "01_dataset_{tag}"  # braces, which papermill fills in
    step = execute.Step(name, notebook_source(tmp_path, "print(dataset_root)\n"), {"dataset_root": "given"})
    results = []
    for _ in range(2):
        execute.execute(step, tmp_path)
        results.append((tmp_path / f"{name}.ipynb").read_bytes())
    assert results[0] == results[1]
    outputs = [out for cell in nbformat.read(tmp_path / f"{name}.ipynb", 4).cells for out in cell.get("outputs", [])]
    assert [out["text"] for out in outputs] == ["given\n"]


def test_executions_at_once_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "from pathlib import Path\nprint(Path.cwd().name, [x.name for x in Path().iterdir() if x.is_socket()])\n"
    execute.execute(execute.Step("01_dataset", notebook_source(tmp_path, code)), tmp_path)
    (output,) = nbformat.read(tmp_path / "01_dataset.ipynb", 4).cells[-1].outputs
    assert output["text"] == "notebooks []\n"  # in the folder that all kernels work in, two would take the same sockets


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_progress_while_a_step_runs(tmp_path, monkeypatch, terminal):
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setattr(sys, "stderr", Screen())
    code = "import sys\nfrom tqdm import tqdm\nfor _ in tqdm(range(2), desc='steps'):\n    pass\n"
    execute.execute(execute.Step("01_dataset", notebook_source(tmp_path, code)), tmp_path)
    assert ("steps: 100%" in sys.stderr.getvalue()) == terminal
    assert b"steps" not in (tmp_path / "01_dataset.ipynb").read_bytes().replace(b"desc='steps'", b"")


def test_a_step_can_be_asked_for_by_its_whole_name(tmp_path, monkeypatch):
    done = []

    def pretend(step, folder):
        done.append(step.name)
        (folder / f"{step.name}.ipynb").touch()

    monkeypatch.setattr(execute, "execute", pretend)
    execute.run("ombria", {"run_root": str(tmp_path)}, "03_train_unet")
    assert done == ["03_train_unet"]
    execute.run("ombria", {"run_root": str(tmp_path)}, "03_train_unet-")
    assert len(done) > 2 and all(name.startswith("03_train_unet-") for name in done[1:])


def test_results_are_shown_again_when_another_run_is_finished(tmp_path, monkeypatch):
    done = []

    def pretend(step, folder):
        done.append(step.name)
        (folder / f"{step.name}.ipynb").touch()
        for path in execute.outputs(step):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    monkeypatch.setattr(execute, "execute", pretend)
    given = {"run_root": str(tmp_path / "runs"), "dataset_root": str(tmp_path / "data")}
    for only in ("03_train_unet", "04", "04", "03_train_hat", "04", None, "04"):
        execute.run("quick", given, only)
    results = [i for i, name in enumerate(done) if name == "04_results"]
    assert done[: results[1] + 1] == ["03_train_unet", "04_results", "03_train_hat", "04_results"]
    assert len(results) == 3, "once more after the last network, and then no more"
    record = tmp_path / "runs/unet-dsd-s7/record.json"  # of a run that is not in the plan
    record.parent.mkdir()
    for content in ("first", "second"):
        record.write_text(content)
        execute.run("quick", given, None)
        assert done[-6:-5] == ["04_results"] and done[-1].startswith("06_") and len(done) > len(results)
        count = len(done)
        execute.run("quick", given, None)
        assert len(done) == count
    (tmp_path / "runs/notebooks/steps.json").write_text("")  # a disk was full
    execute.run("quick", given, "01")
    assert done[count:] == ["01_dataset"]


def test_two_executions_in_one_folder_forget_nothing_of_each_other(tmp_path, monkeypatch):
    given = {"run_root": str(tmp_path / "runs"), "dataset_root": str(tmp_path / "data")}

    def pretend(step, folder):
        (folder / f"{step.name}.ipynb").touch()
        if step.name == "03_train_unet":  # meanwhile
            execute.run("quick", given, "03_train_hat")

    monkeypatch.setattr(execute, "execute", pretend)
    execute.run("quick", given, "03_train_unet")
    known = json.loads((tmp_path / "runs/notebooks/steps.json").read_text())
    assert {*known} == {"03_train_unet", "03_train_hat"}


def test_a_step_is_executed_again_when_what_it_read_or_made_has_changed(tmp_path, monkeypatch):
    done = []

    def pretend(step, folder):
        done.append(step.name)
        (folder / f"{step.name}.ipynb").touch()
        for path in (*execute.outputs(step), tmp_path / "geotiff" / step.name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")

    monkeypatch.setattr(execute, "execute", pretend)
    for folder in ("sar", "opt"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_text("an image")
    given = {name: str(tmp_path / name) for name in ("run_root", "dataset_root")} | {"notice": "~30 % are fields"}
    given |= {
        "geotiff_dir": str(tmp_path / "geotiff"),
        "source": "folder",
        "sar_dir": str(tmp_path / "sar"),
        "opt_dir": str(tmp_path / "opt"),
    }
    for only in ("01", "03_train_hat"):
        execute.run("quick", given, only)
    (tmp_path / "run_root/hat-dsd-s0/record.json").write_text("another training, beside the plan")
    for only in ("03_train_hat", "01") * 2:
        execute.run("quick", given, only)
    assert done == ["01_dataset", "03_train_hat", "03_train_hat"]
    (tmp_path / "dataset_root/dataset.json").write_text("built with a parameter that the plan does not have")
    for _ in range(2):
        execute.run("quick", given, "03_train_hat")
    assert done[3:] == ["03_train_hat"]
    (tmp_path / "opt/1.png").write_text("a corrected image")
    for _ in range(2):
        execute.run("quick", given, "01")
    assert done[4:] == ["01_dataset"]
    shutil.rmtree(tmp_path / "geotiff")
    for _ in range(2):
        execute.run("quick", given, "01")
    assert done[5:] == ["01_dataset"]
    (tmp_path / "run_root/notebooks/01_dataset.ipynb").unlink()
    for _ in range(2):
        execute.run("quick", given, "01")
    assert done[6:] == ["01_dataset"]


def test_what_is_published_is_as_the_plan_says(tmp_path, monkeypatch, capsys):
    """Neither a step of other parameters is published nor a dry run, and the times of others are kept."""
    given = {name: str(tmp_path / name) for name in ("run_root", "dataset_root")}

    def pretend(step, folder):
        (folder / f"{step.name}.ipynb").write_text(str(step.values.get("epochs")))
        for path in execute.outputs(step):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"dataset": {"synthetic": False}, "epochs": step.values.get("epochs")}))

    monkeypatch.setattr(execute, "execute", pretend)
    monkeypatch.setattr(execute.records, "read", lambda run: json.loads((run / "record.json").read_text()))
    monkeypatch.setattr(execute.records, "publish", lambda run, target: shutil.copytree(run, target))
    folder, results = tmp_path / "notebooks/executed/quick", tmp_path / "book/results/quick"
    results.mkdir(parents=True)
    execute.run("quick", given, None)
    execute.run("quick", given | {"epochs": 1}, "03_train_unet")
    steps = execute.run("quick", given, "04")
    folder.mkdir(parents=True)
    for name in ("02_models", "03_train_unet"):
        (folder / f"{name}.ipynb").touch()
    (results / "steps.json").write_text('{"03_train_unet": {"seconds": 3}, "gone": {"seconds": 4}}')
    with monkeypatch.context() as patched:
        patched.setattr(execute, "root", lambda: tmp_path)
        patched.setattr(execute, "SOURCES", tmp_path / "notebooks")
        execute.publish("quick", *steps)
        patched.setattr(execute.records, "publish", lambda *_: False)
        state = tmp_path / "run_root/notebooks/steps.json"
        slower = {name: row | {"seconds": 99} for name, row in json.loads(state.read_text()).items()}
        state.write_text(json.dumps(slower))
        execute.publish("quick", *steps)  # nothing but times has changed
    published = {path.stem for path in folder.iterdir()}
    trained = {f"03_train_{generator}" for generator in ("hat", "s2oformer", "unet")}
    assert published == {"01_dataset", "02_models", *trained, "04_results"}
    assert [path.stem for path in folder.iterdir() if not path.read_bytes()] == ["03_train_unet"]
    assert {path.name for path in results.iterdir()} == {"hat-dsd-s0", "s2oformer-dsd-s0", "steps.json"}
    times = json.loads((results / "steps.json").read_text())
    assert {*times} == published and {"seconds": 99} not in times.values() and times["03_train_unet"] == {"seconds": 3}
    monkeypatch.chdir(tmp_path)  # the command line goes to the notebooks' folder
    monkeypatch.setattr("sys.argv", ["execute.py", "quick", "--publish", "-p", "dry_run", "true"])
    with pytest.raises(SystemExit) as end:
        execute.main()
    assert end.value.code == 2 and "a dry run is no result" in capsys.readouterr().err


def test_a_disk_that_is_full_and_a_long_temporary_folder_are_named(tmp_path, monkeypatch):
    step = execute.Step("01_dataset", notebook_source(tmp_path, "print(dataset_root)\n"))
    monkeypatch.setattr(
        execute.papermill, "execute_notebook", lambda source, target, *_, **__: shutil.copy(source, target)
    )

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def half(_, target):
        Path(target).write_text("half")
        full()

    with monkeypatch.context() as patched:
        patched.setattr(execute.shutil, "move", half)
        with pytest.raises(InputError, match=r"run_root '.*' cannot be written \(No space left on device\)"):
            execute.execute(step, tmp_path / "notebooks")
    with monkeypatch.context() as patched:
        patched.setattr(execute.jupytext, "write", full)
        with pytest.raises(
            InputError, match=r"the temporary folder '.*' cannot be written \(No space left on device\)"
        ):
            execute.execute(step, tmp_path / "notebooks")
    (tmp_path / ("long" * 20)).mkdir()
    monkeypatch.setattr(execute.tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    with pytest.raises(InputError, match="has too long a name: set TMPDIR to a shorter one"):
        execute.execute(step, tmp_path / "notebooks")
    assert not [*tmp_path.glob("notebooks/*")]


def test_a_run_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"run_root '.*' cannot be written \(Not a directory\)"):
        execute.run("quick", {"run_root": str(tmp_path / "file")}, "01")


def test_a_notebook_that_is_not_executed_does_not_check_a_parameter():
    (step,) = [
        step for step in execute.plan("quick", {"weights": "weights/mine"}) if step.source.stem == "06_translate"
    ]
    assert step.parameters["weights"] == "weights/mine"
    with pytest.raises(InputError, match="'weights' of profile 'quick' is 3: the notebook expects str"):
        execute.plan("quick", {"weights": 3})


def test_a_profile_without_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "PROFILES", tmp_path)
    monkeypatch.setattr(execute, "execute", lambda step, folder: (folder / f"{step.name}.ipynb").touch())
    (tmp_path / "quick.yml").write_text(f"{{dataset_root: {tmp_path}/data}}")
    (tmp_path / "quick.plan.yml").write_text("{notebooks: [01_dataset]}")
    with pytest.raises(InputError, match="'quick' gives no run_root"):
        execute.run("quick", {}, None)
    folder, _ = execute.run("quick", {"run_root": str(tmp_path / "runs")}, None)
    assert (folder / "01_dataset.ipynb").is_file()


def test_what_is_printed_in_pieces_is_kept_in_one(tmp_path):
    def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
        return nbformat.v4.new_output("stream", name=name, text=text)

    picture = nbformat.v4.new_output("display_data", {"text/plain": "a picture"})
    outputs = [stream("a\n"), stream("bar", "stderr"), stream("b\n"), picture, stream("c\n")]
    cell = nbformat.v4.new_code_cell("print()", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    execute.normalise(tmp_path / "a.ipynb")
    (found,) = nbformat.read(tmp_path / "a.ipynb", 4).cells
    assert [output.get("text") for output in found.outputs] == ["a\nb\n", None, "c\n"]


def test_pictures_become_lighter_and_look_the_same():
    rng = np.random.default_rng(0)
    drawing = np.repeat(rng.choice(np.array([[255, 255, 255], [0, 114, 178], [213, 94, 0]], np.uint8), (60, 80)), 4, 0)
    noise = rng.integers(0, 255, (300, 300, 3), np.uint8)
    small = noise[:100, :100]  # a picture of so many colours keeps them
    for pixels, kind, error in ((drawing, "png", 0), (small, "png", 0), (noise, "jpeg", 60)):
        stream = io.BytesIO()
        Image.fromarray(pixels).convert("RGBA").save(stream, "PNG")
        data = {"image/png": base64.b64encode(stream.getvalue()).decode(), "text/plain": "a picture"}
        execute.lighten(data)
        found = base64.b64decode(data.pop(f"image/{kind}"))
        assert list(data) == ["text/plain"] and len(found) < len(stream.getvalue())
        seen = np.asarray(Image.open(io.BytesIO(found)).convert("RGB"), int)
        assert np.abs(seen - pixels).mean() <= error
    stream = io.BytesIO()
    Image.fromarray(noise[..., 0] > 127).save(stream, "PNG")  # of a bit for each pixel
    data = {"image/png": base64.b64encode(stream.getvalue()).decode()}
    execute.lighten(data)
    assert base64.b64decode(data["image/png"]) == stream.getvalue(), "none becomes heavier"


@pytest.mark.parametrize("synthetic", [True, False])
def test_pictures_of_real_places_are_not_published_as_files(tmp_path, monkeypatch, synthetic):
    folder, results = tmp_path / "run" / "notebooks", tmp_path / "book" / "results" / "p"
    pictures = folder.parent / "pictures"
    for made in (folder, pictures / "town", pictures / "village", results / "hat-dsd-s0"):
        made.mkdir(parents=True)
    (folder / "steps.json").write_text("{}")
    for name in ("town/SAR", "town/HAT", "village/SAR"):  # the introduction shows the first region, and no HAT
        (pictures / f"{name}.png").touch()
    (results / "hat-dsd-s0" / "record.json").touch()
    monkeypatch.setattr(execute, "root", lambda: tmp_path)
    monkeypatch.setattr(execute, "SOURCES", tmp_path / "notebooks")
    monkeypatch.setattr(execute.records, "read", lambda _: {"dataset": {"synthetic": synthetic}})
    execute.publish("p", folder, [])
    published = [str(path.relative_to(results)) for path in results.glob("pictures/*/*")]
    assert published == (["pictures/town/SAR.png"] if synthetic else [])
    (results / "hat-dsd-s0" / "record.json").unlink()  # nothing says that they are synthetic
    shutil.rmtree(results / "pictures", ignore_errors=True)
    execute.publish("p", folder, [])
    assert not (results / "pictures").exists()


def test_relative_paths_of_the_command_line_mean_what_they_mean_in_the_notebooks(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()  # as of a project of the user's own
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["execute.py", "quick", "-p", "run_root", "runs/mine"])
    found = []
    monkeypatch.setattr(execute, "run", lambda _, given, __: found.append(resolve(given["run_root"])) or (tmp_path, []))
    execute.main()
    assert found == [ROOT / "runs/mine"]


def test_trainings_are_written_for_a_machine_without_notebooks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["execute.py", "quick", "--runs", "runs.yml", "-p", "crop_size", "0"])
    execute.main()
    runs = training.read_runs(tmp_path / "runs.yml")
    assert [run.generator for run in runs] == ["unet", "hat", "s2oformer"]
    given = execute.declared(ROOT / "notebooks" / "03_train.py")
    for run in runs:  # none has the library's own defaults, which are the paper's
        assert (run.epochs, run.depths) == (given["epochs"], given["depths"]) != (128, [4, 4, 4, 4])
        assert run.crop_size is None


@pytest.mark.parametrize(
    ("profile", "file", "says"),
    [
        ("quick", ".", "is a folder: name a file"),
        ("elsewhere", "runs.yml", "trains nothing"),
        ("quick", "/proc/a", "--runs"),
    ],
)
def test_trainings_that_cannot_be_written(tmp_path, monkeypatch, capsys, profile, file, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["execute.py", profile, "--runs", file])
    with pytest.raises(SystemExit) as end:
        execute.main()
    assert end.value.code == 2 and says in capsys.readouterr().err and not (tmp_path / "runs.yml").exists()


def test_one_training_can_be_asked_what_it_will_cost(tmp_path, monkeypatch):
    executed = []
    monkeypatch.setattr(execute, "execute", lambda step, folder: executed.append(step.name))
    execute.run("ombria", {"run_root": str(tmp_path), "dry_run": True}, "03_train_unet")
    assert executed == ["03_train_unet_dry-run"]


def test_a_dry_run_leaves_the_chapter_of_a_training_where_it_is():
    names = [[step.name for step in execute.plan("quick", {"dry_run": dry})] for dry in (False, True)]
    trainings = [{name for name in of if name.startswith("03_train")} for of in names]
    assert trainings[1] == {f"{name}_dry-run" for name in trainings[0]} and len(trainings[0]) == 3


def test_a_failure_is_kept_aside(tmp_path):
    step = execute.Step("01_dataset", notebook_source(tmp_path, "1 / 0\n"))
    kept = f"kept at {tmp_path}/failed/01_dataset.ipynb"
    with pytest.raises(InputError, match=f"01_dataset: ZeroDivisionError.*{kept}"):
        execute.execute(step, tmp_path)
    assert not (tmp_path / "01_dataset.ipynb").exists() and (tmp_path / "failed" / "01_dataset.ipynb").exists()
    execute.execute(dataclasses.replace(step, source=notebook_source(tmp_path, "1 / 1\n")), tmp_path)
    assert (tmp_path / "01_dataset.ipynb").exists() and not (tmp_path / "failed" / "01_dataset.ipynb").exists()


def test_a_killed_kernel_is_one_sentence(tmp_path):
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    with pytest.raises(InputError, match="01_dataset: its kernel was killed"):
        execute.execute(execute.Step("01_dataset", notebook_source(tmp_path, code)), tmp_path)


def test_the_key_follows_source_parameters_and_earlier_steps(tmp_path):
    step = execute.Step("01_dataset", notebook_source(tmp_path, ""), {"a": 1})
    key = execute.key_of(step, [])
    assert key == execute.key_of(step, []) != execute.key_of(step, ["earlier"])
    assert key != execute.key_of(dataclasses.replace(step, parameters={"a": 2}), [])
    (tmp_path / "split.csv").write_text("id,split\n")
    named = dataclasses.replace(step, parameters={"split_file": str(tmp_path / "split.csv")})
    key_of_named = execute.key_of(named, [])
    (tmp_path / "split.csv").write_text("id,split\na,test\n")
    assert key_of_named != execute.key_of(named, []), "a file that a parameter names has changed"
    (tmp_path / "config.json").write_text("{}")
    named = dataclasses.replace(step, parameters={"weights": [str(tmp_path)]})
    key_of_named = execute.key_of(named, [])
    (tmp_path / "config.json").write_text('{"embed_dim": 8}')
    assert key_of_named != execute.key_of(named, []), "weights in a folder that a list names have changed"
    key_of_named = execute.key_of(named, [])
    (tmp_path / "generator.safetensors").write_bytes(b"1")
    assert key_of_named != execute.key_of(named, [])
    notebook_source(tmp_path, "pass\n")
    assert key != execute.key_of(step, [])


@pytest.mark.parametrize(
    ("source", "name"),
    [
        *(("folder", name) for name in ("sar_dir", "opt_dir", "lulc_dir", "lulc_root")),
        *(("sen12ms", name) for name in ("archive_root", "tar_root", "lulc_root")),
    ],
)
def test_the_key_follows_the_files_that_a_data_set_is_made_of(tmp_path, source, name):
    given = {"source": source, name: str(tmp_path / "in")}
    step = execute.Step("01_dataset", notebook_source(tmp_path, ""), given)
    key = execute.key_of(step, [])
    (tmp_path / "in/spring/s2_1").mkdir(parents=True)
    (tmp_path / "in/spring/s2_1/tile.tif").write_bytes(b"1")
    assert key != execute.key_of(step, [])


def test_what_a_step_unpacks_from_its_tar_archives_does_not_make_it_due_again(tmp_path):
    given = {"source": "sen12ms", "archive_root": str(tmp_path / "in"), "tar_root": str(tmp_path / "tars")}
    step = execute.Step("01_dataset", notebook_source(tmp_path, ""), given)
    key = execute.key_of(step, [])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/tile.tif").write_bytes(b"1")
    assert key == execute.key_of(step, [])


@pytest.mark.parametrize("generator", ["unet", "hat", "s2oformer"])
def test_the_papers_profile_trains(generator, dataset, describe, tmp_path):
    """profiles/paper.yml but for width, place, length and parts: bf16, checkpointing, batch 16, whole patches.

    Small, since a processor without bf16 of its own takes minutes for what others do in seconds.
    """
    step = next(step for step in execute.plan("paper", {}) if step.name == f"03_train_{generator}")
    values = execute.declared(step.source) | step.parameters
    few = shutil.copytree(dataset, tmp_path / "few")
    counts = {"train": 16, "validation": 4, "test": 10}
    for split, count in counts.items():
        for path in (few / split).glob("*.npy"):
            np.save(path, np.load(path)[:count])
        pd.read_csv(few / split / "index.csv").head(count).to_csv(few / split / "index.csv", index=False)
    describe(few, counts=counts)
    values |= {"dataset_root": str(few), "run_root": str(tmp_path), "epochs": 1, "num_workers": 0}
    values |= {"embed_dim": 4, "num_heads": (1,) * 4, "dsd_width": 2, "accumulate": 8}
    values |= {"crop_size": 0, "device": "cpu"}
    names = training.Parameters.__dataclass_fields__
    parameters = training.Parameters(**{name: value for name, value in values.items() if name in names})
    run = training.train(parameters)
    record = training.records.read(run)
    assert record["samples_seen"] == 16 and record["parameters"]["precision"] == "bf16-mixed"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("run: [{generator: unet}]", "mine.plan.yml has 'run': it may list runs, regions, scenes and notebooks"),
        ("runs:", "runs must be a list, each entry a mapping"),
        ("runs: [unet]", "runs must be a list, each entry a mapping"),
        ("notebooks: [{name: 01_dataset}]", "notebooks must be a list, each entry a name"),
        ("notebooks: [01_datset]", "names the notebook '01_datset': there are 01_dataset"),
        ("runs: [{seed: '1'}]", "'seed' of mine.plan.yml is '1': the notebook expects int"),
        ("runs: [{generator: hat}, {generator: hat, embed_dim: 12}]", "two executions '03_train_hat'"),
        ("runs: [", "is no YAML in UTF-8"),
        ("runs: [{generator: unet}]\nruns: [{generator: hat}]", "'runs' is given twice"),
    ],
)
def test_faults_of_a_plan_are_named(tmp_path, monkeypatch, content, says):
    monkeypatch.setattr(execute, "PROFILES", tmp_path)
    for name in ("quick.yml", "mine.yml"):
        (tmp_path / name).write_text("")
    (tmp_path / "mine.plan.yml").write_text(content)
    with pytest.raises(InputError, match=says):
        execute.plan("mine", {})


def test_runs_of_one_profile_lie_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "PROFILES", tmp_path)
    monkeypatch.setattr(execute, "execute", lambda step, folder: pytest.fail("it executes before it looks"))
    (tmp_path / "quick.yml").write_text("")
    runs = "runs: [{generator: hat, run_root: runs/b}, {generator: unet, run_root: runs/a}]"
    (tmp_path / "quick.plan.yml").write_text(f"{runs}\nnotebooks: [03_train]")
    with pytest.raises(InputError, match="'quick' gives several run_roots: runs/a, runs/b"):
        execute.run("quick", {}, None)


def test_images_of_ones_own_are_compared_at_places_that_their_plan_names(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "PROFILES", tmp_path)
    (tmp_path / "quick.yml").write_text("")
    (tmp_path / "mine.yml").write_text("{source: folder, dataset_root: data/mine, run_root: runs/mine}")
    (tmp_path / "mine.plan.yml").write_text("regions: [{region: here, longitude: 9.0, latitude: 45.0}]")
    assert "05_compare_here" in [step.name for step in execute.plan("mine", {})]


def test_a_profile_is_not_its_own_base(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "PROFILES", tmp_path)
    for name, base in (("one", "two"), ("two", "one")):
        (tmp_path / f"{name}.yml").write_text(f"base: {base}")
    with pytest.raises(InputError, match="profile 'one' is its own base: one → two → one"):
        execute.plan("one", {})


def test_a_step_that_is_none_is_named(tmp_path):
    said = r"profile 'ombria' begins with '06' \(the plan lists none under scenes\): there are 01_dataset"
    with pytest.raises(InputError, match=said):
        execute.run("ombria", {"run_root": str(tmp_path / "runs")}, "06")
    with pytest.raises(InputError, match="no step of profile 'quick' begins with '3_train': there are 01_dataset"):
        execute.run("quick", {}, "3_train")


def test_the_key_follows_the_library_and_the_times_of_images(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/tile.tif").write_bytes(b"1")
    given = {"source": "folder", "lulc_root": str(tmp_path / "in")}
    step = execute.Step("01_dataset", notebook_source(tmp_path, ""), given)
    key = execute.key_of(step, [])
    os.utime(tmp_path / "in/tile.tif", (1, 1))
    assert key != (later := execute.key_of(step, []))
    monkeypatch.setattr(execute, "code_fingerprint", lambda: "other")
    assert later != execute.key_of(step, [])
