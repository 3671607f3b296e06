"""What every generator has beside its layers: its configuration, a check of its input, and the hub's way to keep it.

A saved generator is a folder, or a repository of the Hugging Face Hub, with ``generator.safetensors`` and a
``config.json`` whose entry "generator" builds the network again. A training run's folder is one too; it says more in
``config.json`` (bands, units, limits), which is kept as `about` and saved again.
"""

from __future__ import annotations

import inspect
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
from safetensors.torch import load_file, save
from torch import Tensor, nn

from s2olib.project import InputError, resolve, writable, write_json, writing

WEIGHTS = "generator.safetensors"


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


LEGAL = {  # by a parameter's annotation: whether a value will do, and what will
    "int": (_is_count, "a whole number of at least 1"),
    "float": (lambda value: type(value) in (int, float) and 0 <= value < math.inf, "a number ≥ 0"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "str": (lambda value: isinstance(value, str), "a name"),
    "Sequence[int]": (
        lambda value: isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_count, value)),
        "a list of whole numbers of at least 1",
    ),
}


CARD = """---
library_name: s2olib
tags: [sar, remote-sensing, image-to-image]
---
# {name}

Turns radar into a picture. **Generated, not observed, and not for measurement.**
"""


class Generator(nn.Module, PyTorchModelHubMixin):
    """A network from SAR (B, in_channels, H, W) to an image; with ``save_pretrained`` and ``push_to_hub``.

    Raises `InputError` for a parameter of another kind than its annotation says, for input with other channels and, in
    eval mode, for input that is not finite; in training, where looking would make a GPU wait, the loss tells.
    """

    def __new__(cls, *arguments: Any, **named: Any) -> Generator:
        known = inspect.signature(cls.__init__).parameters
        for key, value in [*zip(list(known)[1:], arguments, strict=False), *named.items()]:
            if key in known and known[key].annotation in LEGAL:  # Python names unknown ones
                _check_value(key, value, known[key].annotation)
        return super().__new__(cls, *arguments, **named)

    def __init__(self) -> None:
        super().__init__()
        self.about: dict[str, Any] = {}
        self.card = ""
        self.register_forward_pre_hook(_check_input, with_kwargs=True)

    @property
    def config(self) -> dict[str, Any]:
        """Plain numbers, names and lists that build this network again: ``create_generator(**config)``."""
        arguments = self._hub_mixin_config.items()
        plain = {key: list(value) if isinstance(value, list | tuple) else value for key, value in arguments}
        return {"name": type(self).__name__.lower(), **plain}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Whichever network was saved, in eval mode, from a folder or a repository of the hub; `options` are the hub's.

        Raises `InputError` for a folder or repository that is missing or does not hold a generator.
        """
        known = {*inspect.signature(PyTorchModelHubMixin.from_pretrained).parameters, "map_location"}
        for name in options.keys() - (known - {"model_kwargs"}):
            raise InputError(
                f"from_pretrained has no option '{name}': a saved network is built as its config.json says."
            )
        if not isinstance(pretrained_model_name_or_path, str | Path) or not str(pretrained_model_name_or_path):
            raise InputError(
                f"{pretrained_model_name_or_path!r} is no place: name a folder or repository that holds a generator."
            )
        folder = resolve(pretrained_model_name_or_path)
        place = folder if folder.is_dir() else str(pretrained_model_name_or_path)
        if folder.is_file():
            raise InputError(f"{folder} is a file: name the folder that holds a generator.")
        if place is not folder and "/" in place and folder.parent.is_dir():
            raise InputError(f"{folder} does not exist, and the folder above it does: name one that holds a generator.")
        try:
            return super().from_pretrained(place, **options)
        except InputError:
            raise
        except (json.JSONDecodeError, AttributeError, TypeError, RecursionError, RuntimeError) as error:
            raise InputError(f"{place}/config.json does not describe a generator ({error}).") from None
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            if place is folder:
                raise InputError(f"{place}/config.json cannot be read ({reason}).") from None
            raise InputError(f"'{place}' is no folder, and no repository of the hub to be had ({reason}).") from None

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write weights, ``config.json`` and a model card to a folder that `from_pretrained` reads by the same name;
        `options` are the hub's. The card is that which the weights were loaded with, in the place of another."""
        folder = resolve(save_directory)
        if folder.is_file():
            raise InputError(f"{folder} is a file: name a folder to write the generator to.")
        with writable("save_directory", folder):
            folder.mkdir(parents=True, exist_ok=True)
            if self.card:  # the hub leaves one that is there
                (folder / "README.md").unlink(missing_ok=True)
        return super().save_pretrained(folder, **options)

    def generate_model_card(self, *arguments: Any, **named: Any) -> ModelCard:
        """The card that lay beside the weights when they were loaded; else one that states no licence."""
        return ModelCard(self.card or CARD.format(name=self.config["name"]))

    def _save_pretrained(self, save_directory: Path) -> None:
        with writable("save_directory", save_directory):
            with writing(save_directory / WEIGHTS) as aside:
                # safetensors' own way to a file makes it the owner's alone
                aside.write_bytes(save({name: value.contiguous() for name, value in self.state_dict().items()}))
            write_json(save_directory / "config.json", self.about | {"generator": self.config})

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        config: dict[str, Any] | None = None,
        map_location: str = "cpu",
        **download: Any,
    ) -> Generator:
        from s2olib.generators import create_generator  # which imports this module

        if config is None or "generator" not in config:
            raise InputError(f"{model_id} has no config.json of a generator: name a folder or repository that has one.")
        model = create_generator(**config["generator"])
        if not isinstance(model, cls):
            raise InputError(f"{model_id} holds a {type(model).__name__}, not a {cls.__name__}: load it as that.")
        folder = Path(model_id)
        path = folder / WEIGHTS if folder.is_dir() else hf_hub_download(model_id, WEIGHTS, **download)
        try:
            weights, own = load_file(path), model.state_dict()
            for name in sorted(weights.keys() & own.keys()):  # torch would make numbers of whole numbers
                if weights[name].is_floating_point() != own[name].is_floating_point():
                    raise ValueError(f"{name} holds {weights[name].dtype}")
            model.load_state_dict(weights)
        except PermissionError:
            raise InputError(f"{path} may not be read: change its permissions.") from None
        except Exception as error:  # safetensors and torch raise several kinds for a missing, corrupt or foreign file
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path} does not fit its config.json: {reason}") from None
        model.about = config
        with suppress(OSError, ValueError):  # no card, or one that is no text
            local = folder.is_dir() and folder / "README.md"
            model.card = Path(local or hf_hub_download(model_id, "README.md", **download)).read_text("utf-8")
        try:
            return model.to(map_location).eval()
        except (RuntimeError, AssertionError) as error:  # torch says both of a device that is not there
            raise InputError(f"map_location '{map_location}' cannot be used here: choose 'cpu' ({error}).") from None


def _check_input(model: Generator, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
    sar, channels = given[0] if given else named.get("sar"), model._hub_mixin_config["in_channels"]
    if not isinstance(sar, Tensor):
        raise InputError(f"sar is a {type(sar).__name__}: a generator takes a tensor (B, {channels}, H, W).")
    if sar.ndim != 4 or sar.shape[1] != channels or not all(sar.shape):
        raise InputError(f"sar has shape {tuple(sar.shape)}: this generator takes (B, {channels}, H, W).")
    if not sar.is_floating_point():
        raise InputError(
            f"sar is {sar.dtype}: a generator takes numbers from -1 to 1, so scale it by the bands' limits."
        )
    if torch.compiler.is_compiling() or sar.is_meta:
        return
    dtype = next(model.parameters()).dtype
    if sar.dtype != dtype and not torch.is_autocast_enabled(sar.device.type):
        raise InputError(f"sar is {sar.dtype} and the weights are {dtype}: convert one of them.")
    if not (model.training or sar.isfinite().all()):
        raise InputError("sar holds values that are not finite: fill what has no data before a generator sees it.")


def _check_value(key: str, value: Any, annotation: str) -> None:
    """Raise `InputError` unless `value` is what the parameter's annotation says."""
    legal, expected = LEGAL[annotation]
    if not legal(value):
        raise InputError(f"{key} is {value!r}: give {expected}.")
