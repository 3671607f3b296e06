"""What a run keeps: checkpoints that survive a kill at any moment, and the weights that a finished run leaves.

A checkpoint holds everything that decides what comes next, the random states of torch, numpy and python included, and
is written aside and renamed. It can be read without executing code that somebody hid in it (torch's `weights_only`).
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import zipfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file

from s2olib.generators.hat import HAT, load_reference_weights
from s2olib.generators.pretrained import WEIGHTS, Generator
from s2olib.project import InputError, code_fingerprint, resolve, write_json, writing

OF_TRAINING = ("drop_path_rate", "checkpointing")  # parameters of a generator that change no image of eval mode

if TYPE_CHECKING:
    from s2olib.training import Parameters


def finished(run: Path, key: dict) -> bool:
    """Whether `run` holds the record of a run with this `key` (parameters, data, code)."""
    return _key_of(run) == key and (run / "record.json").is_file()


def begin(run: Path, key: dict) -> None:
    """Make `run` the folder of a run with `key`; another run's folder is moved to ``superseded``, never overwritten."""
    if _key_of(run) != key:
        if run.exists():
            old = run.parent / "superseded"
            old.mkdir(exist_ok=True)
            places = (old / f"{run.name}.{number}" for number in count())
            os.replace(run, next(place for place in places if not place.exists()))
        write_json(run / "key.json", key)
    for left in run.glob(".*.part*"):  # by a process that was killed while it wrote
        left.unlink()


def save(path: Path, state: dict) -> None:
    """Write a checkpoint; on a full disk the one before stays, and `InputError` says what to do."""
    try:
        with writing(path) as aside:
            torch.save(state, aside)
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter
        free = shutil.disk_usage(path.parent).free / 2**20
        raise InputError(
            f"{path} could not be written ({_reason(error)}; {free:.0f} MiB are free there): make room and "
            "run again; the checkpoint before is kept."
        ) from None


def load(path: Path, key: dict) -> dict:
    """Read a checkpoint of the run with `key`; `InputError` for a damaged one or another run's."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch checks no sums
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        # on the CPU, from where networks and optimizers take it: Adam's counter of steps belongs there
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is damaged in its names fails in many ways
        raise InputError(f"{path} is no checkpoint ({_reason(error)}): delete it, and the run starts anew.") from None
    if not isinstance(state, dict) or state.get("key") != key:
        raise InputError(f"{path} is the checkpoint of a run with other parameters, data or code: delete it.")
    return state


def random_state() -> dict:
    """The random states of torch, numpy and python, of plain types and tensors."""
    name, keys, *rest = np.random.get_state()
    state = {"torch": torch.get_rng_state(), "numpy": (name, keys.tolist(), *rest), "python": random.getstate()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def set_random_state(state: dict) -> None:
    """Go on from what `random_state` gave."""
    torch.set_rng_state(state["torch"].cpu())
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu())


def save_generator(generator: Generator, folder: Path, info: dict, limits: dict, parameters: Parameters) -> None:
    """``generator.safetensors`` and ``config.json`` (network, bands, units, limits, training parameters)."""
    generator.about = {
        "sar": info["sar"] | {"limits": limits["sar"]},
        "opt": info["opt"] | {"limits": limits["opt"]},
        "data": info["fingerprint"],
        "code": code_fingerprint(),
        "parameters": parameters.lasting(),
    }
    generator._save_pretrained(folder)


def weights_of(initial_weights: str) -> list[Path]:
    """The files of `Parameters.initial_weights`; `InputError` where there are none."""
    path = resolve(initial_weights)
    files = [path / name for name in ("config.json", WEIGHTS)] if path.is_dir() else [path]
    for file in files:
        if not file.is_file():
            raise InputError(
                f"initial_weights: {file} does not exist: name a folder with a saved generator, or a file."
            )
    return files


def start(generator: Generator, parameters: Parameters) -> Generator:
    """`generator` with `Parameters.initial_weights`, if there are any; `InputError` where they do not fit."""
    if not parameters.initial_weights:
        return generator
    *_, file = weights_of(parameters.initial_weights)
    if file.name == WEIGHTS:
        other = Generator.from_pretrained(file.parent)
        shapes, given = ({k: v.shape for k, v in of.state_dict().items()} for of in (generator, other))
        if type(other) is not type(generator) or shapes != given:
            raise InputError(
                f"initial_weights '{file.parent}' is a {other.config['name']} of other channels, widths or depths than "
                f"this {generator.config['name']}: give the run its parameters."
            )
        for name, value in other.config.items():
            if name not in OF_TRAINING and value != generator.config.get(name):
                raise InputError(
                    f"initial_weights '{file.parent}' has {name} {value}, this {generator.config['name']} "
                    f"{generator.config.get(name)}: the same weights would make other images."
                )
        generator.load_state_dict(other.state_dict())
        return generator
    if not isinstance(generator, HAT):
        raise InputError(f"initial_weights '{file}' is a file of published HAT weights: they are for generator hat.")
    try:
        weights = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise several kinds
        raise InputError(f"initial_weights '{file}' cannot be read: {_reason(error)}") from None
    load_reference_weights(generator, weights)
    return generator


def load_generator(folder: str | Path) -> tuple[Generator, dict]:
    """The generator of a run in eval mode, and its config; `InputError` for missing or foreign files."""
    folder = resolve(folder)
    for name in ("config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist: train the variant first (03_train).")
    generator = Generator.from_pretrained(folder)
    for image in ("sar", "opt"):
        stated = generator.about.get(image)
        stated = stated if isinstance(stated, dict) else {}
        if missing := [entry for entry in ("bands", "units", "limits") if entry not in stated]:
            lacks = f"no {' or '.join(missing)} of {image}"
            raise InputError(f"{folder}/config.json states {lacks}: it was not left by a training.")
        channels = generator.config["in_channels" if image == "sar" else "out_channels"]
        if wrong := _contradiction(image, stated, channels):
            raise InputError(f"{folder}/config.json states of {image} {wrong}.")
    return generator, generator.about


def _contradiction(image: str, stated: dict, channels: int) -> str:
    """What cannot be in a config's bands, units and limits of so many channels; "" where all can."""
    bands, units, limits = stated["bands"], stated["units"], stated["limits"]
    known = ("dB", "8-bit") if image == "sar" else ("reflectance", "8-bit")
    if not (isinstance(bands, list) and len(bands) == channels and all(isinstance(band, str) for band in bands)):
        return f"bands {bands!r}: name each of the network's {channels} channels"
    if units not in known:
        return f"units {units!r}: they are {' or '.join(known)}"
    try:
        array = np.array(limits, float)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (channels, 2):
        return f"limits {limits!r}: give a low and a high one for each of {channels} bands"
    fit = np.isfinite(array).all() and (array[:, 0] < array[:, 1]).all()
    return "" if fit else f"limits {limits!r}: low must be below high"


def _key_of(run: Path) -> dict | None:
    with suppress(OSError, ValueError):  # none, or a broken one: whose run it was is unknown
        return json.loads((run / "key.json").read_bytes())
    return None


def _reason(error: Exception) -> str:
    """An error's first line; of an empty file's, which says nothing, its name; nothing of how to read one unsafely."""
    if isinstance(error, pickle.UnpicklingError):
        return "it holds no tensors, or not these alone"
    return next(iter(str(error).splitlines()), type(error).__name__)
