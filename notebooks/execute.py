"""Execute the notebooks of a profile in order: sources in, executed and normalised notebooks out.

    python notebooks/execute.py quick
    python notebooks/execute.py paper -p archive_root /data/SEN12MS -p lulc_root /data/HRLULC --only 03_train
    python notebooks/execute.py quick --publish
    python notebooks/execute.py paper --runs RUNS.yml

A profile is ``profiles/NAME.yml``, flat papermill parameters, each handed to the notebooks that declare it; a key that
none declares is an error. What it does not say is as in the profile that its key `base` names, in the end as in the
notebooks. ``profiles/NAME.plan.yml`` (else that of its base, else ``quick.plan.yml``) lists the variants that
``03_train`` is executed for, the regions of ``05_compare``, the scenes of ``06_translate``, and under `notebooks` which
notebooks there are at all (else every one but ``07_elsewhere``). Executed notebooks land in ``<run_root>/notebooks``; a
step is skipped whose source, library, parameters, earlier steps, images and results are unchanged, a failed one is kept
in ``failed/``. ``--publish`` copies notebooks and records of what is up to date to where they are committed, if
anything but cost changed. ``--runs`` writes the trainings' parameters, those left at their defaults too, for a machine
with the library alone.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jupytext
import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from PIL import Image
from traitlets.config import Config

from s2olib import figures, records, training
from s2olib.project import (
    InputError,
    code_fingerprint,
    fingerprint,
    parse_yaml,
    resolve,
    root,
    told_in_a_sentence,
    writable,
    write_json,
    writing,
)

SOURCES = Path(__file__).parent
PROFILES = SOURCES / "profiles"
DATASET, MODELS, TRAIN, TRANSLATE, ELSEWHERE = "01_dataset", "02_models", "03_train", "06_translate", "07_elsewhere"
OF_DATA_ALONE = (MODELS, TRAIN)  # which show no run but their own
PLANNED = {TRAIN: "runs", "05_compare": "regions", TRANSLATE: "scenes"}  # what a plan lists for a notebook
IMAGES = {  # parameters that name folders of images, by source; the embedded archive is written by its step
    "folder": ("sar_dir", "opt_dir", "lulc_dir", "lulc_root"),
    "sen12ms": ("archive_root", "tar_root", "lulc_root"),
}
FOLDERS = ("dataset_root", "run_root")  # that are written, and cannot be left empty
WEIGHTS = ("config.json", "generator.safetensors")  # of a folder that a parameter names
LARGE = 150_000  # bytes of a PNG
LONGEST = 80  # characters of a folder, below which a socket must have at most 107
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@dataclass
class Step:
    """One notebook with the parameters it is given; `name` is that of the executed notebook."""

    name: str
    source: Path
    parameters: dict = field(default_factory=dict)

    @cached_property
    def values(self) -> dict[str, object]:
        """All that the notebook declares, as it is given or by default."""
        return declared(self.source) | self.parameters


def declared(source: Path) -> dict[str, object]:
    """The parameters of a py:percent notebook with their defaults; raises `InputError` if it has no such cell."""
    notebook = jupytext.read(source)
    cells = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise InputError(f"{source} has {len(cells)} cells tagged `parameters`: it must have one.")
    defaults: dict[str, object] = {}
    exec(cells[0], defaults)
    defaults.pop("__builtins__"), defaults.pop("__annotations__", None)
    return defaults


def read_yaml(path: Path, what: str) -> dict:
    """A YAML mapping; `InputError` says which `what` there are if `path` is missing."""
    if not path.is_file():
        names = sorted(p.stem for p in PROFILES.glob("*.yml") if not p.stem.endswith(".plan"))
        raise InputError(f"{what} {path.stem!r} is unknown: there are {', '.join(names)}.")
    try:
        content = parse_yaml(path.read_bytes()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no YAML in UTF-8 ({' '.join(str(error).split())}).") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a mapping of parameters to values.")
    return content


def read_profile(profile: str, *heirs: str) -> tuple[dict, Path]:
    """A profile's parameters and its plan; what it leaves out is its `base`'s, and in the end the profile quick's."""
    if profile in heirs:
        raise InputError(f"profile {profile!r} is its own base: {' → '.join((*heirs, profile))}.")
    parameters = read_yaml(PROFILES / f"{profile}.yml", "profile")
    path, base = PROFILES / f"{profile}.plan.yml", parameters.pop("base", "quick")
    if profile == "quick":
        return parameters, path
    inherited, plan_of_base = read_profile(base, *heirs, profile)
    return inherited | parameters, path if path.is_file() else plan_of_base


def read_plan(path: Path, sources: list[str]) -> dict[str, list]:
    """What a plan lists; raises `InputError` for what is no list or not one of `PLANNED`."""
    content = read_yaml(path, "plan")
    for key, value in content.items():
        kind = str if key == "notebooks" else dict
        if key not in (*PLANNED.values(), "notebooks"):
            raise InputError(f"{path.name} has {key!r}: it may list {', '.join(PLANNED.values())} and notebooks.")
        if not isinstance(value, list) or not all(isinstance(entry, kind) for entry in value):
            raise InputError(
                f"{path.name}: {key} must be a list, each entry {'a name' if kind is str else 'a mapping'}."
            )
    for name in set(content.get("notebooks", [])) - set(sources):
        raise InputError(f"{path.name} names the notebook {name!r}: there are {', '.join(sources)}.")
    return content


def plan(profile: str, overrides: dict) -> list[Step]:
    """The steps of a profile in order, each with its own parameters, checked before anything is executed."""
    parameters, path = read_profile(profile)
    parameters |= overrides
    sources = {source.stem: source for source in sorted(SOURCES.glob("[0-9][0-9]_*.py"))}
    content = read_plan(path, [*sources])
    chosen = content.get("notebooks", [stem for stem in sources if stem != ELSEWHERE])
    defaults = {stem: declared(source) for stem, source in sources.items()}
    folders = parameters.get("source") == "folder"
    for key in FOLDERS if folders or parameters.get("source") == "sen12ms" else ():
        if key not in parameters:
            raise InputError(
                f"profile {profile!r} gives no {key}: without one, your images would take the synthetic ones' place."
            )
    for key, value in parameters.items():
        owners = [stem for stem in sources if key in defaults[stem]]
        if not owners:
            raise InputError(f"parameter {key!r} of profile {profile!r} is declared by no notebook.")
        for stem in (stem for stem in owners if stem in chosen):
            check_type(key, value, defaults[stem][key], f"profile {profile!r}")

    steps = []
    for stem, source in sources.items():
        if stem not in chosen:
            continue
        own = {key: value for key, value in parameters.items() if key in defaults[stem]}
        for entry in entries(stem, content):
            unknown = set(entry) - set(defaults[stem])
            if unknown:
                raise InputError(f"{path.name}: {stem} declares no parameter {', '.join(sorted(map(str, unknown)))}.")
            for key, value in entry.items():
                check_type(key, value, defaults[stem][key], path.name)
            given = own | entry | {key: overrides[key] for key in overrides if key in defaults[stem]}
            if folders and path.name == "quick.plan.yml" and "longitude" in entry:
                continue  # in Japan
            if folders and stem == TRANSLATE and not given.get("scene"):
                continue  # the synthetic scene is not of the bands that such weights ask for
            name = stem + suffix(stem, defaults[stem] | given) if entry else stem
            name += "_dry-run" * (given.get("dry_run") is True)  # and the chapter of a finished training stays
            if name in {step.name for step in steps}:
                raise InputError(
                    f"{path.name} has two executions {name!r}: tell them apart by "
                    f"{'tag or seed' if stem == TRAIN else 'another name'} (one given with -p is that of all)."
                )
            steps.append(Step(name, source, given))
    return steps


def entries(stem: str, content: dict[str, list]) -> list[dict]:
    """The plan's parameter sets for a notebook: one execution each."""
    return content.get(PLANNED[stem], [{}] if stem == TRAIN else []) if stem in PLANNED else [{}]


def suffix(stem: str, values: dict) -> str:
    """What tells the executions of one notebook apart; the main variants carry the generator's name alone."""
    if stem == TRAIN:
        main = values["tag"] == "dsd" and values["seed"] == 0
        return f"_{values['generator']}" if main else f"_{values['generator']}-{values['tag']}-s{values['seed']}"
    if stem == "05_compare":
        return f"_{values['region']}"
    return "".join(f"_{Path(values[name]).stem}" for name in ("scene", "weights") if values[name])


def check_type(key: str, value: object, default: object, where: str) -> None:
    """Refuse a value whose type is not the default's (an int passes as a float, anything where the default is None)."""
    numbers = (int, float)
    if value in (None, "") and key in FOLDERS:
        raise InputError(f"parameter {key!r} of {where} is empty: give a folder, or leave the line out.")
    if default is None or value is None or type(value) is type(default):
        return
    if isinstance(default, float) and type(value) in numbers:
        return
    hint = ""
    with contextlib.suppress(TypeError, ValueError):
        hint = f", so write {float(value):.1e}" if isinstance(default, float) and float(value) else ""
    raise InputError(f"parameter {key!r} of {where} is {value!r}: the notebook expects {type(default).__name__}{hint}.")


def key_of(step: Step, earlier: list[str]) -> str:
    """Fingerprint of a step's source, of the library, of its parameters, and of the files and weights that these name;
    of what shows runs, of the records of all that there are, since others may train beside a plan; of what makes the
    data set, of names, sizes and times of the images in its folders, unless it writes these itself.

    Other folders of data are not read: the steps before, which made or checked them, stand for them. Of the data set
    its own record is read as well, since it may have been made with other parameters than the plan's.
    """
    content = [
        step.source.read_text("utf-8"),
        code_fingerprint(),
        json.dumps(step.parameters, sort_keys=True),
        *earlier,
    ]
    for folder in (step.values.get("run_root"), step.values.get("beside")) if step.source.stem != TRAIN else ():
        content += [fingerprint(record) for record in sorted(resolve(folder).glob("*/record.json"))] if folder else []
    if step.source.stem == DATASET:
        given = {name: step.values.get(name) for name in IMAGES.get(step.values.get("source"), ())}
        if given.get("tar_root"):
            given.pop("archive_root")  # which is filled from there
        for folder in (resolve(value) for value in given.values() if value):
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            content += [f"{file} {(stat := file.stat()).st_size} {stat.st_mtime_ns}" for file in files]
    elif "dataset_root" in step.values:
        built = resolve(step.values["dataset_root"]) / "dataset.json"
        content += [fingerprint(built)] if built.is_file() else []
    names = (name for value in step.values.values() for name in (value if isinstance(value, list) else [value]))
    for name in (name for name in names if isinstance(name, str) and name):
        with contextlib.suppress(InputError):  # a text that begins with a tilde names nobody's home
            path = resolve(name)
            files = (file for file in (path, *(path / name for name in WEIGHTS)) if os.path.isfile(file))
            content += [fingerprint(file) for file in files]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def is_of(notebook: Path, source: Path) -> bool:
    """Are an executed notebook's cells those of its source as it is now?"""
    cells = nbformat.read(notebook, 4).cells
    given = [cell.source for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    return given == [cell.source for cell in jupytext.read(source).cells]


def given_to(notebook: Path) -> dict[str, object]:
    """The parameters that an executed notebook was given."""
    cells = nbformat.read(notebook, 4).cells
    parameters: dict[str, object] = {}
    for cell in (cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])):
        exec(cell.source, parameters)
    parameters.pop("__builtins__", None)
    return parameters


def outputs(step: Step) -> list[Path]:
    """Files beside the notebook that a finished step has left."""
    values = step.values
    if step.source.stem == DATASET:
        exported = [resolve(values["geotiff_dir"]) / "export.json"] if values.get("geotiff_dir") else []
        return [resolve(values["dataset_root"]) / "dataset.json", *exported]
    if step.source.stem == TRAIN:
        run = records.run_name(values["generator"], values["tag"], values["seed"])
        return [resolve(values["run_root"]) / run / "record.json"]
    return []


def made_by(step: Step) -> list[str]:
    """Fingerprints of `outputs`, which something else may have made anew since the step showed them."""
    return [fingerprint(path) for path in outputs(step) if path.is_file()]


def normalise(path: Path) -> None:
    """Drop what differs between two equal executions and lighten the pictures.

    That is ids, time stamps, progress bars, and where a slow machine breaks a cell's printing into several pieces.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {"kernelspec": KERNEL}
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i:02d}"
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            printed: list = []
            for output in (out for out in cell.outputs if out.get("name") != "stderr"):
                if printed and output.output_type == printed[-1].output_type == "stream":
                    printed[-1].text += output.text
                else:
                    printed.append(output)
            cell.outputs = printed
            for output in cell.outputs:
                lighten(output.get("data", {}))
    nbformat.write(notebook, path)


def lighten(data: dict[str, str]) -> None:
    """Keep a large picture as JPEG, since satellite images and speckle make PNGs of megabytes, and a drawing in 256
    colours: it has few, and many shades of their edges."""
    if "image/png" not in data:
        return
    png, stream = base64.b64decode(data.pop("image/png")), io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if len(png) > LARGE:
        picture.save(stream, "JPEG", quality=80, optimize=True, progressive=True)
        data["image/jpeg"] = base64.b64encode(stream.getvalue()).decode()
    else:
        drawing = picture.getcolors(4096) is not None
        (picture.quantize(256) if drawing else picture).save(stream, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(min(png, stream.getvalue(), key=len)).decode()


def execute(step: Step, folder: Path) -> None:
    """Run one step; the notebook appears in `folder` if it succeeds, in ``folder/failed`` if not."""
    target = folder / f"{step.name}.ipynb"
    failed = folder / "failed" / target.name
    failed.unlink(missing_ok=True)
    with writable("the temporary folder", tempfile.gettempdir()), tempfile.TemporaryDirectory() as scratch:
        if len(scratch) > LONGEST:
            raise InputError(f"the temporary folder '{scratch}' has too long a name: set TMPDIR to a shorter one.")
        source, aside = Path(scratch) / "source.ipynb", Path(scratch) / "executed.ipynb"
        notebook = jupytext.read(step.source)
        notebook.metadata["kernelspec"] = KERNEL
        jupytext.write(notebook, source)
        kernels = Config(
            {
                # A kernel listens on a socket of this machine alone, which no kernel of another execution may share.
                "KernelManager": {"transport": "ipc", "ip": str(Path(scratch) / "kernel")},
                "NotebookClient": {"extra_arguments": ["--log-level=CRITICAL"]},  # being closed is nothing to report
            }
        )
        # papermill fills in what stands in braces, such as in a temporary folder's name
        places = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, aside)]
        try:
            papermill.execute_notebook(
                *places,
                step.parameters,
                cwd=SOURCES,
                kernel_name="python3",
                progress_bar=False,
                stderr_file=sys.stderr if sys.stderr.isatty() else None,  # progress bars, live
                config=kernels,
            )
        except PapermillExecutionError as error:
            with writable("run_root", folder.parent):
                failed.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(aside, failed)
            raise InputError(f"{step.name}: {error.ename}: {error.evalue} (the notebook is kept at {failed})") from None
        except DeadKernelError:
            raise InputError(
                f"{step.name}: its kernel was killed, most likely for want of memory: lower batch_size or raise "
                "accumulate"
            ) from None
        normalise(aside)
        with writable("run_root", folder.parent), writing(target) as final:
            shutil.move(aside, final)


def run(profile: str, overrides: dict, only: str | None) -> tuple[Path, list[Step]]:
    """Execute what is not up to date; returns the folder of executed notebooks and the steps that are."""
    steps = plan(profile, overrides)
    run_roots = {step.values.get("run_root") for step in steps} - {None}
    run_roots = run_roots or {(read_profile(profile)[0] | overrides).get("run_root", "")} - {""}
    if not run_roots:
        raise InputError(f"profile {profile!r} gives no run_root, where executed notebooks are to lie.")
    if len(run_roots) != 1:
        raise InputError(f"profile {profile!r} gives several run_roots: {', '.join(sorted(run_roots))}.")
    folder = resolve(run_roots.pop()) / "notebooks"
    with writable("run_root", folder):
        folder.mkdir(parents=True, exist_ok=True)
    state_path = folder / "steps.json"
    state = _state(state_path)
    names = [step.name for step in steps]
    exact = {only, f"{only}_dry-run"} & {*names}
    if only and not any(name.startswith(only) for name in names):
        keys = [key for stem, key in PLANNED.items() if stem.startswith(only)]
        hint = f" (the plan lists none under {' or '.join(keys)})" if keys else ""
        raise InputError(f"no step of profile {profile!r} begins with {only!r}{hint}: there are {', '.join(names)}.")
    data_key, all_keys, current = [], [], []
    for number, step in enumerate(steps, 1):
        stem = step.source.stem
        key = key_of(step, data_key if stem in OF_DATA_ALONE else all_keys)
        data_key = [key] if stem == DATASET else data_key
        left_out = only and not (step.name in exact if exact else step.name.startswith(only))
        done = all(path.is_file() for path in outputs(step))
        all_keys.append(key if done or not left_out else "not yet")  # what comes later shows the runs that there are
        place = f"[{number}/{len(steps)}] {step.name}"
        notebook = folder / f"{step.name}.ipynb"
        known = state.get(step.name, {})
        if known.get("key") == key and notebook.is_file() and done and known.get("made") == made_by(step):
            current.append(step)
            if not left_out:
                print(f"{place} is up to date")
            continue
        if left_out:
            continue
        print(place, flush=True)
        started = time.time()
        execute(step, folder)
        state = _state(state_path)  # others may work in this folder
        state[step.name] = {"key": key, "seconds": round(time.time() - started, 1), "made": made_by(step)}
        with writable("run_root", folder.parent):
            write_json(state_path, state)
        current.append(step)
        print(f"{place} done in {time.time() - started:.0f} s")
    return folder, current


def _state(path: Path) -> dict[str, dict]:
    """What is known of finished steps; nothing where that cannot be read, as after a disk was full."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_bytes())
    return {}


def publish(profile: str, folder: Path, steps: list[Step]) -> None:
    """Copy the notebooks of steps to ``notebooks/executed/<profile>``, records, pictures and times to ``book/results``.

    Pictures are copied of synthetic data alone, those that the introduction shows: real images stand in the notebooks'
    few panels, with their credit.
    """
    executed, results = SOURCES / "executed" / profile, root() / "book" / "results" / profile
    executed.mkdir(parents=True, exist_ok=True)
    state = _state(folder / "steps.json")
    changed = not (results / "steps.json").is_file()
    for step in steps:
        source, target = folder / f"{step.name}.ipynb", executed / f"{step.name}.ipynb"
        if source.is_file() and not (target.is_file() and target.read_bytes() == source.read_bytes()):
            shutil.copyfile(source, target)
            changed = True
            print(f"published {target.relative_to(root())}")
        if step.source.stem == TRAIN:
            run = outputs(step)[0].parent
            if (run / "record.json").is_file() and records.publish(run, results / run.name):
                print(f"published book/results/{profile}/{run.name}")
    kinds = {records.read(path.parent)["dataset"]["synthetic"] for path in results.glob("*/record.json")}
    regions = sorted((folder.parent / "pictures").glob("*"))
    for picture in regions[0].glob("*.png") if kinds == {True} and regions else ():
        if picture.stem in figures.INTRODUCED:
            target = results / "pictures" / regions[0].name / picture.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, target)
    if changed:  # else a machine's mood alone would make a commit
        seconds = _state(results / "steps.json")
        seconds |= {step.name: {"seconds": state[step.name]["seconds"]} for step in steps if step.name in state}
        there = {path.stem for path in executed.glob("*.ipynb")}
        write_json(results / "steps.json", {name: row for name, row in seconds.items() if name in there})


def write_runs(steps: list[Step], path: Path) -> None:
    """The trainings among the steps as YAML for ``python -m s2olib.training``, on a machine without notebooks."""
    known = training.Parameters.__dataclass_fields__
    values = [step.values for step in steps if step.source.stem == TRAIN]
    runs = [{name: value for name, value in of.items() if name in known} for of in values]
    if not runs:
        raise InputError("--runs: the profile trains nothing.")
    if path.is_dir():
        raise InputError(f"--runs {path} is a folder: name a file.")
    with writable("--runs", path), writing(path) as aside:
        aside.write_text(yaml.safe_dump(runs, sort_keys=False))


def parsed(key: str, value: str) -> object:
    """A value of the command line, which is YAML."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"parameter {key!r} is {value!r}: that is no YAML value.") from None


def main() -> None:
    """Command line; exit code 0 when everything is executed, 2 for a failed step or input that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="a file of notebooks/profiles without its ending")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="override a parameter"
    )
    parser.add_argument("--only", metavar="PREFIX", help="only this step, or those whose name begins so")
    parser.add_argument("--publish", action="store_true", help="copy the results to where they are committed")
    parser.add_argument("--runs", metavar="FILE", type=Path, help="write the trainings for s2olib.training, and stop")
    arguments = parser.parse_args()
    runs = arguments.runs and arguments.runs.absolute()
    os.chdir(SOURCES)  # as notebooks are executed, so that relative paths mean the same here and there
    with told_in_a_sentence("from the last finished step or checkpoint"):
        overrides = {key: parsed(key, value) for key, value in arguments.p}
        if runs:
            write_runs(plan(arguments.profile, overrides), runs)
            return
        if arguments.publish and any(step.values.get("dry_run") for step in plan(arguments.profile, overrides)):
            raise InputError("a dry run is no result: leave --publish out, or dry_run.")
        folder, steps = run(arguments.profile, overrides, arguments.only)
        if arguments.publish:
            with writable("the folder of committed results", root()):
                publish(arguments.profile, folder, steps)


if __name__ == "__main__":
    main()
