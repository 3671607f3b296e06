"""Training of one variant: a generator under structural and semantic supervision, in one readable loop.

After the talk (generator + Deep Semantic Discriminator), with pix2pix's PatchGAN as an option (Isola et al. 2017). One
step is: the DSD learns to segment a real SAR-optical pair; then, frozen, it tells the generator how far its image is
from the real one in the deepest feature map. Land cover is needed for the first half alone. Lightning Fabric places
things on one device or several (DDP) and sets the precision; nothing else is hidden.

    python -m s2olib.training RUNS.yml                              # a queue of runs, on a machine without jupyter
    torchrun --nnodes 2 --nproc-per-node 4 -m s2olib.training RUNS.yml    # runs with num_nodes: 2 and devices: 4
"""

from __future__ import annotations

import copy
import json
import math
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import lightning_fabric as fabric_
import numpy as np
import torch
import yaml
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, default_collate
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from s2olib import checkpoints, records
from s2olib.data.labels import LabelledTriplets, pseudo_labels
from s2olib.data.triplets import Triplets
from s2olib.dsd import DSD
from s2olib.evaluation import evaluate
from s2olib.generators import complexity, create_generator, generator_parameters
from s2olib.generators.rhag import RHAG
from s2olib.generators.upsampling import check_upsampling
from s2olib.losses import (
    FeatureLoss,
    discriminator_loss,
    generator_adversarial_loss,
    mean_iou,
    optical_sensitivity,
    segmentation_loss,
    ssim_loss,
)
from s2olib.metrics import SSIM_WINDOW, psnr, to_8bit
from s2olib.patchgan import SMALLEST, PatchGAN
from s2olib.project import (
    FULL,
    InputError,
    alone,
    code_fingerprint,
    fingerprint,
    parse_yaml,
    resolve,
    told_in_a_sentence,
    writable,
)

GIB = 2**30
CODE = ("training", "evaluation", "generators", "dsd", "losses", "patchgan", "metrics", "baselines")
CODE += ("checkpoints", "data/triplets", "data/labels", "data/landcover")
SENSITIVE = 0.1  # least dependence of the deepest map on the optical image for the feature loss to mean anything
DSD_SCHEDULES = ("joint", "warm-up", "frozen", "random")


@dataclass(frozen=True)
class Parameters:
    """Everything that determines a run; the names are those of the notebook ``03_train``, which leaves `betas` alone.

    These are Adam's published ones, which the talk does not state. `upsampling` "shuffle" leaves a network its own step
    up (S2OFormer's pixel shuffle, U-Net's transposed convolution), "bilinear" interpolates; HAT has none. `crop_size`
    None, or 0, trains on whole patches; `sar_shift` makes their radar brighter or darker, by up to this share of its
    range, each time anew. A weight of 0 leaves a loss, and the network behind it, out. `batch_size` is that of a step,
    over all devices and parts.

    `dsd_schedule`: in "joint" the DSD learns in every epoch and judges in every epoch; with "warm-up" it judges only
    after `dsd_warmup` epochs; with "frozen" it learns in these alone and judges in the others. "random", a control, is
    "warm-up" with weights that stay as they were drawn: only BatchNorm's running statistics follow the real pairs.
    `class_weights` are the categories' in the DSD's cross-entropy, none: all alike. `label_merge`, `label_size_m` and
    `label_permutation` are those of `LabelledTriplets`.

    `initial_weights` begins from a saved generator of the same kind: a folder with ``generator.safetensors``, or a file
    of published HAT weights for HAT.

    `resident` keeps the training split on the device; `compiled` has the steps of HAT and S2OFormer compiled block by
    block, which takes a minute before the first; `checkpoint_minutes` is the most that a kill can cost (0: one step).
    None of them changes the result by more than rounding.
    """

    dataset_root: str
    run_root: str
    generator: str = "s2oformer"
    tag: str = "dsd"
    seed: int = 0
    epochs: int = 128
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "constant"
    embed_dim: int = 96
    depths: Sequence[int] = (4, 4, 4, 4)
    num_heads: Sequence[int] = (4, 4, 4, 4)
    window_size: int = 8
    mlp_ratio: float = 2.0
    upsampling: str = "shuffle"
    crop_size: int | None = None
    sar_shift: float = 0.0
    l1_weight: float = 1.0
    dsd_weight: float = 0.02
    gan_weight: float = 0.0
    ssim_weight: float = 0.0
    dsd_width: int = 32
    dsd_encoder: str = "snunet"
    dsd_schedule: str = "joint"
    dsd_warmup: int = 1
    class_weights: tuple[float, ...] = ()
    label_merge: str = ""
    label_size_m: float = 0.0
    label_permutation: bool = False
    precision: str = "32-true"
    checkpointing: bool = False
    initial_weights: str = ""
    devices: int = 1
    num_nodes: int = 1
    device: str = "auto"
    num_workers: int = 0
    resident: bool = False
    compiled: bool = False
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        numbers = {"int": int, "float": int | float, "str": str, "bool": bool}
        for name, given in self.__dataclass_fields__.items():
            value, kind = getattr(self, name), numbers.get(given.type)
            if kind and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)):
                hint = ": YAML takes 3e-4 for text, so write 3.0e-4" if given.type == "float" else ""
                raise InputError(f"{name} is {value!r}: it must be of type {given.type}{hint}.")
        for name in ("learning_rate", "label_size_m", "mlp_ratio", "checkpoint_minutes"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: it must be a number of at least 0.")
        if not (self.crop_size is None or type(self.crop_size) is int):
            raise InputError(f"crop_size is {self.crop_size!r}: it must be a whole number, or 0 for whole patches.")
        object.__setattr__(self, "crop_size", self.crop_size or None)
        for name in ("dataset_root", "run_root"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty: give a folder.")
        for name in ("betas", "class_weights", "depths", "num_heads"):
            if not isinstance(getattr(self, name), list | tuple):
                raise InputError(f"{name} is {getattr(self, name)!r}: it must be a list of numbers.")
        positive = ["epochs", "batch_size", "accumulate", "embed_dim", "dsd_width", "learning_rate"]
        positive += ["devices", "num_nodes"]
        for name in positive:
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be positive.")
        for name in ("l1_weight", "dsd_weight", "gan_weight", "ssim_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: a loss weight is 0 (left out) or positive.")
        if self.l1_weight + self.dsd_weight + self.gan_weight + self.ssim_weight == 0:
            raise InputError("l1_weight, dsd_weight, gan_weight and ssim_weight are all 0: nothing would be learned.")
        parts = self.accumulate * self.devices * self.num_nodes
        if self.batch_size % parts:
            raise InputError(
                f"accumulate x devices x num_nodes = {parts} does not divide batch_size {self.batch_size}."
            )
        rest = self.l1_weight + self.gan_weight + self.ssim_weight
        if rest == 0 and self.dsd_schedule != "joint":
            raise InputError(f"dsd_schedule {self.dsd_schedule!r} needs another loss than the DSD's until that judges.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}: it must be within 0 and 2³² − 1.")
        if self.num_workers < 0:
            raise InputError(f"num_workers is {self.num_workers}: it must be 0 or more.")
        numeric = all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in self.betas)
        if len(self.betas) != 2 or not numeric:
            raise InputError(f"betas are {self.betas}: give two, each at least 0 and less than 1.")
        numeric = all(isinstance(weight, int | float) and 0 <= weight < math.inf for weight in self.class_weights)
        if not numeric or (self.class_weights and not any(self.class_weights)):
            raise InputError(f"class_weights are {self.class_weights}: give numbers of at least 0, one above 0.")
        if not self.tag or {"/", "\0"} & {*self.tag} or len(self.tag.encode()) > 200:
            raise InputError(
                f"tag is {self.tag!r}: it is part of the run's folder name, and must have 1 to 200 bytes, no / and NUL."
            )
        if self.precision not in ("32-true", "bf16-mixed", "16-mixed"):
            raise InputError(
                f"precision is {self.precision!r}: weights stay in float32, so choose 32-true, bf16-mixed or 16-mixed."
            )
        if self.schedule not in ("constant", "cosine"):
            raise InputError(f"schedule is {self.schedule!r}: it must be 'constant' or 'cosine'.")
        check_upsampling(self.upsampling, "shuffle")
        if self.upsampling != "shuffle" and self.generator == "hat":
            raise InputError(
                f"upsampling is {self.upsampling!r}: HAT has no coarser maps to bring up, so leave it out."
            )
        if self.dsd_schedule not in DSD_SCHEDULES:
            raise InputError(f"dsd_schedule is {self.dsd_schedule!r}: it must be one of {', '.join(DSD_SCHEDULES)}.")
        if self.dsd_weight and self.dsd_schedule != "joint" and not 0 < self.dsd_warmup < self.epochs:
            raise InputError(f"dsd_warmup is {self.dsd_warmup}: it must be at least 1 and less than epochs.")

    @property
    def run(self) -> Path:
        """The run's folder."""
        return resolve(self.run_root) / records.run_name(self.generator, self.tag, self.seed)

    def lasting(self) -> dict:
        """The parameters that change the result: not where files are, which device works, nor how it is fed."""
        where = ("dataset_root", "run_root", "device", "num_workers", "resident", "compiled", "checkpoint_minutes")
        return json.loads(json.dumps({key: value for key, value in asdict(self).items() if key not in where}))

    def generator_config(self, sar_channels: int, opt_channels: int, size: int) -> dict:
        """Arguments of `create_generator` for patches of `size` pixels: those of these parameters that it takes.

        U-Net takes as many levels as the patches allow.
        """
        takes = {*generator_parameters(self.generator)} & {field.name for field in fields(self)}
        config = {name: getattr(self, name) for name in sorted(takes)}
        if self.generator == "unet":
            upsampling = "transposed" if self.upsampling == "shuffle" else self.upsampling
            config |= {"levels": max(2, min(8, int(math.log2(size)))), "upsampling": upsampling}
        return {"in_channels": sar_channels, "out_channels": opt_channels} | config

    def training_data(self) -> LabelledTriplets:
        """The training split as this run sees it."""
        labels = {name: getattr(self, name) for name in ("label_merge", "label_size_m", "label_permutation")}
        made = {"crop_size": self.crop_size, "sar_shift": self.sar_shift, "seed": self.seed}
        return LabelledTriplets(self.dataset_root, "train", **made, **labels)

    def validation_data(self) -> LabelledTriplets:
        """The validation split, with the training split's merge where it has labels: pseudo-categories it has not."""
        labelled = Triplets(self.dataset_root, "validation").has_lulc
        return LabelledTriplets(self.dataset_root, "validation", label_merge=self.label_merge if labelled else "")


class EpochOrder(Sampler[list[int]]):
    """Batches of a permutation of the items, from seed and epoch alone, begun at `start`: one process's part of each.

    Together the processes' parts are the batch that one process alone would see. Items that fill no batch are left out
    of the epoch: a last batch of one would break BatchNorm.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.world_size, self.epoch, self.start = rank, world_size, 0, 0

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        items = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        batches = items[: len(self) * self.batch_size].reshape(len(self), self.world_size, -1)
        return iter(batches[self.start :, self.rank].tolist())


class Resident:
    """A training split held on the device, cropped there: the batches of a `DataLoader`, without reading or scaling."""

    def __init__(self, data: Triplets, order: EpochOrder, device: torch.device) -> None:
        self.data, self.order = data, order
        items = [data.scaled(i) for i in tqdm(range(len(data)), desc="training split to the device", leave=False)]
        names = [name for name in items[0] if name != "item"]
        self.maps = {name: torch.stack([item.pop(name) for item in items]).to(device) for name in names}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for items in self.order:
            windows = [(i, ..., *self.data.window(i)) for i in items]
            batch = {name: [values[window] for window in windows] for name, values in self.maps.items()}
            batch["sar"] = list(map(self.data.shifted, items, batch["sar"]))
            yield {"item": torch.tensor(items)} | {name: torch.stack(values) for name, values in batch.items()}


@dataclass
class Progress:
    """Where a run stands: `step` steps of `epoch` are done, their losses summed in `totals`."""

    epoch: int = 0
    step: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    curves: list[dict] = field(default_factory=list)
    best_epoch: int = -1
    best_psnr: float = -math.inf
    seconds: float = 0.0


def train(parameters: Parameters) -> Path:
    """Train one variant, evaluate its best epoch on the test split once, and leave its record; return the run's folder.

    A finished run with the same parameters, data and code is returned at once. One killed at any moment goes on after
    its last checkpoint with the same result, bit for bit on a CPU, as if it had never stopped. A run of the same name
    with other parameters, data or code is moved to ``<run_root>/superseded``, never overwritten.

    With several devices this starts one process each (forked from a notebook, else spawned: a script needs its
    ``if __name__ == "__main__"``); under torchrun or Slurm every process calls this function. The result is that of one
    process but for what a batch shares, as BatchNorm and the dice loss see a process's part and running statistics are
    averaged after each step, and for dropout and stochastic depth, which each process draws for itself.

    Raises `InputError` before any work for a dataset or parameter that cannot be used and for a run that another
    process is training, and when a loss or weight is no longer finite, naming the step and the patches.
    """
    processes = parameters.devices * parameters.num_nodes
    if TorchElasticEnvironment.detect():
        started = {name: int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE")}
        if [*started.values()] != [parameters.devices, processes]:
            raise InputError(
                f"torchrun has started {started['WORLD_SIZE']} processes, {started['LOCAL_WORLD_SIZE']} of them here, "
                f"and the run has {parameters.devices} devices and {parameters.num_nodes} num_nodes: let them agree."
            )
    data = checked_data(parameters)
    key = {"parameters": parameters.lasting(), "code": code_fingerprint(*CODE)}
    key |= {"data": data.info["fingerprint"], "limits": data.limits, "pixel_size_m": data.info["pixel_size_m"]}
    if parameters.initial_weights:
        key["initial_weights"] = fingerprint(*checkpoints.weights_of(parameters.initial_weights))
    if parameters.label_merge:
        key["labels"] = data.info["lulc"]["codes"]
    if checkpoints.finished(parameters.run, key):
        return parameters.run
    strategy: str | DDPStrategy = "auto"
    if processes > 1:
        outside = TorchElasticEnvironment.detect() or SLURMEnvironment.detect()  # the processes are there already
        if parameters.num_nodes > 1 and not outside and "NODE_RANK" not in os.environ:
            raise InputError(
                f"num_nodes is {parameters.num_nodes}, and nothing says which of them this is: start it by torchrun "
                "or Slurm on each."
            )
        start = "popen" if outside else "fork" if hasattr(sys, "ps1") else "spawn"
        strategy = DDPStrategy(start_method=start, broadcast_buffers=False)
    device, named, number = parameters.device.partition(":")
    one = device == "cuda" and number.isdecimal()
    if device not in ("auto", "cpu", "cuda") or (named and not one):  # Apple's GPUs have no float64, as metrics need
        raise InputError(f"device is '{parameters.device}': choose auto, cpu, cuda, or cuda:1 and so on.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if parameters.precision == "16-mixed" and device == "cpu":
        raise InputError("precision is '16-mixed', which no CPU computes in: choose bf16-mixed or 32-true there.")
    if one and processes > 1:
        raise InputError(
            f"device '{parameters.device}' is one: leave its number out, or set devices and num_nodes to 1."
        )
    try:
        fabric = fabric_.Fabric(
            accelerator=device,
            strategy=strategy,
            devices=[int(number)] if one else parameters.devices,
            num_nodes=parameters.num_nodes,
            precision=parameters.precision,
        )
    except (RuntimeError, ValueError) as error:
        chosen = f"device '{parameters.device}', precision '{parameters.precision}'"
        raise InputError(f"{chosen} cannot be had here: {' '.join(str(error).split())}") from None
    try:
        fabric.launch(partial(_train_alone, parameters=parameters, key=key))
    except torch.multiprocessing.ProcessRaisedException as error:  # of one of several processes, as text
        name, _, said = str(error).strip().splitlines()[-1].partition(": ")
        if not name.endswith(InputError.__name__):
            raise
        raise InputError(said) from None
    return parameters.run


def checked_data(parameters: Parameters) -> LabelledTriplets:
    """The training split, once all is said that is wrong with it and with what it is to be trained with: `InputError`.

    Devices are not looked for: what a run will cost may be asked on another machine.
    """
    data = parameters.training_data()
    if len(data) < parameters.batch_size:
        raise InputError(
            f"batch_size {parameters.batch_size} is more than the {len(data)} training patches of {data.folder}."
        )
    for split, purpose in (("validation", "the best epoch cannot be chosen"), ("test", "nothing can be measured")):
        if not len(Triplets(parameters.dataset_root, split)):
            raise InputError(f"{data.folder.parent}/{split} holds no patches: {purpose}.")
    size = parameters.crop_size or data.info["patch_size"]
    for needs, pixels in (("gan_weight", SMALLEST), ("ssim_weight", SSIM_WINDOW)):
        if getattr(parameters, needs) and size < pixels:
            raise InputError(f"{needs} needs images of {pixels} pixels, not {size}: raise crop_size or leave it out.")
    if data.info["patch_size"] < SSIM_WINDOW:
        raise InputError(
            f"{data.folder} has patches below {SSIM_WINDOW} pixels, which SSIM cannot measure: build larger ones."
        )
    if parameters.dsd_weight and not data.has_lulc:
        raise InputError(f"{data.folder} has no lulc.npy: the DSD learns from it, so set dsd_weight to 0.")
    if parameters.class_weights and len(parameters.class_weights) != data.num_classes:
        raise InputError(
            f"class_weights has {len(parameters.class_weights)} numbers, {data.folder} {data.num_classes} categories: "
            f"give one for each of {', '.join(data.categories)}."
        )
    if parameters.initial_weights:
        if parameters.run.resolve() in (place := resolve(parameters.initial_weights).resolve(), place.parent):
            raise InputError(
                f"initial_weights '{parameters.initial_weights}' are of this run itself, which would take their place: "
                "give it another tag or seed."
            )
        config = parameters.generator_config(data.sar_channels, data.opt_channels, size)
        checkpoints.start(create_generator(parameters.generator, **config), parameters)
    return data


def _train_alone(fabric: fabric_.Fabric, parameters: Parameters, key: dict) -> None:
    """What each process does: `_train`, with the run's folder locked by the one that writes into it."""
    with ExitStack() as locked:
        if fabric.is_global_zero:
            with writable("run_root", parameters.run_root):
                locked.enter_context(alone(parameters.run, "tag"))
        try:
            _train(fabric, parameters, key)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise InputError(
                f"run_root '{parameters.run_root}', or {error.filename or 'its disk'}, takes no more "
                f"({error.strerror}): make room and run again; what was written is whole."
            ) from error


def _train(fabric: fabric_.Fabric, parameters: Parameters, key: dict) -> None:
    """The loop."""
    run, main = parameters.run, fabric.is_global_zero
    _forget_peak_memory(fabric.device)
    if parameters.compiled:
        torch.compiler.reset()  # a program for each size; those of earlier runs count against the compiler's limit
    fabric_.seed_everything(parameters.seed, verbose=False)
    data = parameters.training_data()
    validation = parameters.validation_data()
    networks = _Networks(parameters, data, fabric)
    order = EpochOrder(len(data), parameters.batch_size, parameters.seed, fabric.global_rank, fabric.world_size)
    loader = Resident(data, order, fabric.device) if parameters.resident else _loader(data, order, parameters, fabric)
    expected = _rehearse(networks, data, order, run)
    if main:  # only now: what cannot be trained leaves another run of that name where it is
        checkpoints.begin(run, key)
    fabric.barrier()

    progress = Progress()
    fabric_.seed_everything(parameters.seed + fabric.global_rank, verbose=False)  # dropout differs between processes
    if (run / "last.ckpt").is_file():
        state = checkpoints.load(run / "last.ckpt", key)
        networks.load(state["networks"])
        progress = Progress(**state["progress"])
        checkpoints.set_random_state(state["random"][fabric.global_rank])
    clock = checked = time.monotonic()

    def checkpoint() -> None:
        nonlocal clock, checked
        now = time.monotonic()
        progress.seconds += now - clock
        clock = checked = now
        state = {"key": key, "networks": networks.state(), "progress": vars(progress)}
        state["random"] = _gathered(fabric, checkpoints.random_state())
        if main:
            checkpoints.save(run / "last.ckpt", state)

    def due() -> bool:
        return fabric.broadcast(time.monotonic() - checked >= 60 * parameters.checkpoint_minutes)

    total, done = len(order) * parameters.epochs, progress.epoch * len(order) + progress.step
    board = SummaryWriter(run / "tensorboard", purge_step=done) if main else None
    bar = tqdm(total=total, initial=done, desc=run.name, unit="step", disable=not main)
    while progress.epoch < parameters.epochs:
        order.epoch, order.start = progress.epoch, progress.step
        data.set_epoch(progress.epoch)
        networks.begin_epoch(progress.epoch)
        for batch in loader:
            losses = networks.step(batch)
            if not all(map(math.isfinite, losses.values())):
                raise _not_finite(run, progress, f"the loss is not finite ({losses})", data, batch)
            progress.step += 1
            for name, value in losses.items():
                progress.totals[name] = progress.totals.get(name, 0.0) + value / len(order)
                if main and progress.step % 10 == 0:
                    board.add_scalar(f"step/{name}", value, progress.epoch * len(order) + progress.step)
            bar.update()
            if due():
                if not networks.finite():
                    raise _not_finite(run, progress, "a weight is not finite", data, batch)
                checkpoint()
        if not networks.finite():
            raise _not_finite(run, progress, "a weight is not finite", data, batch)
        if main:  # the other processes wait at the next step
            row = {"epoch": progress.epoch, **progress.totals, **networks.validate(validation)}
            if math.isnan(row["validation_psnr"]):
                raise InputError(
                    f"{run.name}: an image made of a validation patch is not finite after epoch {progress.epoch}; "
                    "lower learning_rate. The last good checkpoint is kept."
                )
            progress.curves.append(row)
            bar.set_postfix_str(f"validation {row['validation_psnr']:.2f} dB")
            if networks.dsd_judges and not row.get("optical_sensitivity", 1) >= SENSITIVE:  # NaN, too
                bar.write(
                    f"{run.name}, epoch {progress.epoch}: the DSD hardly sees the optical image "
                    f"({row['optical_sensitivity']:.3f}, below {SENSITIVE}): its loss supervises next to nothing",
                    file=sys.stderr,
                )
            for name in row:
                board.add_scalar(f"epoch/{name}", row[name], progress.epoch)
            board.add_image("SAR, optical, generated", networks.samples(validation), progress.epoch)
            if networks.dsd_judges and row["validation_psnr"] > progress.best_psnr:  # before, it is another variant
                progress.best_epoch, progress.best_psnr = progress.epoch, row["validation_psnr"]
                networks.best = {k: value.detach().cpu().clone() for k, value in networks.bare.state_dict().items()}
        progress.epoch, progress.step, progress.totals = progress.epoch + 1, 0, {}
        if progress.epoch == parameters.epochs or due():
            checkpoint()
    bar.close()
    if main:
        board.close()
        networks.bare.load_state_dict(networks.best)
        _finish(networks, parameters, progress, data, expected)


def _loader(data: Triplets, order: EpochOrder, parameters: Parameters, fabric: fabric_.Fabric) -> DataLoader:
    """Batches read by workers; their own random source, so that starting them does not move torch's."""
    workers = {"num_workers": parameters.num_workers, "persistent_workers": parameters.num_workers > 0}
    pinned = fabric.device.type == "cuda"
    return DataLoader(data, batch_sampler=order, generator=torch.Generator(), pin_memory=pinned, **workers)


def _rehearse(networks: _Networks, data: Triplets, order: EpochOrder, run: Path) -> float | None:
    """Say what the run will take, before its first step: seconds of all steps, from two steps that are then undone.

    None for a run of less than ten steps, which are sooner made than told. Raises `InputError` if a step does not fit
    the device's memory or the checkpoints do not fit the disk.
    """
    needed = 2 * sum(value.numel() * 4 for module in networks.modules.values() for value in module.parameters()) * 4
    if shutil.disk_usage(next(folder for folder in (run, *run.parents) if folder.exists())).free < needed:
        raise InputError(
            f"{run} needs {needed / 2**20:.0f} MiB for checkpoints, more than its disk has free: make room."
        )
    steps = len(order) * networks.parameters.epochs
    if steps < 10:
        return None
    before = copy.deepcopy(networks.state())
    batch = default_collate([data[i] for i in next(iter(order))])
    networks.begin_epoch(networks.parameters.epochs - 1)  # where the DSD judges, and learns if it still does by then
    try:
        networks.step(batch)
        started = time.monotonic()
        networks.step(batch)
    except torch.OutOfMemoryError:
        raise InputError(
            f"a step of batch_size {networks.parameters.batch_size} does not fit the device's memory: raise "
            "accumulate, or set checkpointing."
        ) from None
    seconds = (time.monotonic() - started) * steps
    networks.load(before)
    if networks.fabric.is_global_zero:
        print(
            f"{run.name}: {steps:,} steps, about {seconds / 60:.1f} minutes without "
            f"validation, {peak_memory(networks.fabric.device):.2f} GiB",
            file=sys.stderr,
        )
    return seconds


def _not_finite(run: Path, progress: Progress, what: str, data: Triplets, batch: dict) -> InputError:
    ids = ", ".join(data.index["id"].iloc[batch["item"].tolist()].astype(str))
    return InputError(
        f"{run.name}: {what} in epoch {progress.epoch}, step {progress.step}, on patches {ids}; lower learning_rate, "
        "or look at these patches. The last good checkpoint is kept."
    )


def _gathered(fabric: fabric_.Fabric, value: dict) -> list[dict]:
    """`value` of every process, in the order of their ranks."""
    values = [value] * fabric.world_size
    if fabric.world_size > 1:
        torch.distributed.all_gather_object(values, value)
    return values


@torch.compiler.set_stance("force_eager")
def _finish(
    networks: _Networks, parameters: Parameters, progress: Progress, data: Triplets, expected: float | None
) -> None:
    """Weights, the one reading of the test split, and the record."""
    run, device = parameters.run, networks.fabric.device
    checkpoints.save_generator(networks.bare, run, data.info, data.limits, parameters)
    patches = evaluate(networks.bare, parameters.dataset_root, "test", device)
    records.log_reading(run.parent, run.name)
    patch_size = data.info["patch_size"]
    weights, macs = complexity(networks.bare, (1, data.sar_channels, patch_size, patch_size))
    samples = len(data) // parameters.batch_size * parameters.batch_size * parameters.epochs
    record = {
        "generator": parameters.generator,
        "tag": parameters.tag,
        "seed": parameters.seed,
        "parameters": parameters.lasting(),
        "dataset": describe(data),
        "complexity": {"parameters": weights, "macs": macs, "patch_size": patch_size},
        "hardware": records.machine(device) | {"devices": networks.fabric.world_size},
        "curves": progress.curves,
        "best_epoch": progress.best_epoch,
        "samples_seen": samples,
        "metrics": records.summarise(patches),
        "evaluation": records.evaluation_conditions(patches, "test"),
        "cost": {
            "train_seconds": progress.seconds,
            "expected_seconds": expected,
            "samples_per_second": samples / progress.seconds,
            "peak_memory_gib": peak_memory(device),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "crop_size": parameters.crop_size or patch_size,
        },
    }
    records.write(run, record, patches)


class _Networks:
    """Generator, DSD and PatchGAN with their optimizers: what one step updates and one checkpoint holds."""

    def __init__(self, parameters: Parameters, data: Triplets, fabric: fabric_.Fabric) -> None:
        self.parameters, self.fabric = parameters, fabric
        size = parameters.crop_size or data.info["patch_size"]
        config = parameters.generator_config(data.sar_channels, data.opt_channels, size)
        makers = {"generator": lambda: checkpoints.start(create_generator(parameters.generator, **config), parameters)}
        if parameters.dsd_weight:
            shape = (data.sar_channels, data.opt_channels, data.num_classes, parameters.dsd_width)
            makers["dsd"] = lambda: DSD(*shape, parameters.dsd_encoder)
        if parameters.gan_weight:
            makers["patchgan"] = lambda: PatchGAN(data.sar_channels, data.opt_channels)
        self.modules, self.optimizers = {}, {}
        for name, make in makers.items():
            torch.manual_seed(parameters.seed)  # a network begins alike, whatever stands beside it
            module = make()
            if fabric.device.type == "cuda":
                module.to(memory_format=torch.channels_last)  # what its tensor cores convolve
            optimizer = torch.optim.Adam(module.parameters(), parameters.learning_rate, betas=parameters.betas)
            for group in module.modules():
                if isinstance(group, RHAG):
                    group.compiled = parameters.compiled
            self.modules[name], self.optimizers[name] = fabric.setup(module, optimizer)
        self.bare = self.modules["generator"].module
        self.class_weights = torch.tensor(parameters.class_weights) if parameters.class_weights else None
        self.feature_loss = FeatureLoss(self.modules["dsd"].module).to(fabric.device) if parameters.dsd_weight else None
        self.best: dict[str, Tensor] = {}
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """The learning rate (constant, or a half cosine to 0), and whether the DSD sees pairs, learns and judges."""
        p = self.parameters
        factor = 0.5 * (1 + math.cos(math.pi * epoch / p.epochs)) if p.schedule == "cosine" else 1.0
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = p.learning_rate * factor
        warming = epoch < p.dsd_warmup
        self.dsd_sees = warming or p.dsd_schedule != "frozen"
        self.dsd_learns = self.dsd_sees and p.dsd_schedule != "random"
        self.dsd_judges = p.dsd_schedule == "joint" or not (warming and p.dsd_weight)

    def step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One optimizer step of each network on this process's part of a batch; the losses' values."""
        batch = {name: value.to(self.fabric.device, non_blocking=True) for name, value in batch.items()}
        count = self.parameters.accumulate
        chunks = {name: value.chunk(count) for name, value in batch.items()}
        parts = [{name: values[i] for name, values in chunks.items()} for i in range(count)]
        self.totals: dict[str, Tensor] = {}
        for module in self.modules.values():
            module.train()
        if "dsd" in self.modules and self.dsd_sees:
            for part in parts:
                with torch.set_grad_enabled(self.dsd_learns):
                    logits, _ = self.modules["dsd"](part["sar"], part["opt"])
                if self.dsd_learns:
                    loss = segmentation_loss(logits, part["lulc"], class_weights=self.class_weights)
                    self._backward("segmentation", loss)
            if self.dsd_learns:
                self._update("dsd")
        fakes = []
        for part in parts:
            fakes.append(self.modules["generator"](part["sar"]))
            self._backward("generator", self._generator_loss(part, fakes[-1]))
            fakes[-1] = fakes[-1].detach()
        self._update("generator")
        if "patchgan" in self.modules:
            for part, made in zip(parts, fakes, strict=True):
                real = self.modules["patchgan"](part["sar"], part["opt"])
                fake = self.modules["patchgan"](part["sar"], made)
                self._backward("discriminator", discriminator_loss(real, fake))
            self._update("patchgan")
        self._average_buffers()
        values = torch.stack(list(self.totals.values())).tolist()  # the device is waited for once, not for each loss
        return dict(zip(self.totals, values, strict=True))

    def _generator_loss(self, part: dict, fake: Tensor) -> Tensor:
        p = self.parameters
        terms = {"l1": (p.l1_weight, nn.functional.l1_loss(fake, part["opt"]))}
        if p.dsd_weight and self.dsd_judges:
            with self.fabric.autocast():
                terms["feature"] = (p.dsd_weight, self.feature_loss(part["sar"], part["opt"], fake))
        if p.gan_weight:
            patchgan = self.modules["patchgan"].module.requires_grad_(False)  # it judges, and learns nothing from that
            with self.fabric.autocast():
                logits = patchgan(part["sar"], fake).float()
            patchgan.requires_grad_(True)
            terms["adversarial"] = (p.gan_weight, generator_adversarial_loss(logits))
        if p.ssim_weight:
            terms["ssim"] = (p.ssim_weight, ssim_loss(fake, part["opt"]))
        for name, (_, loss) in terms.items():
            self._note(name, loss)
        return sum(weight * loss for weight, loss in terms.values() if weight)

    def _backward(self, name: str, loss: Tensor) -> None:
        self.fabric.backward(loss / self.parameters.accumulate)
        self._note(name, loss)

    def _note(self, name: str, loss: Tensor) -> None:
        self.totals[name] = self.totals.get(name, 0.0) + loss.detach() / self.parameters.accumulate

    def _update(self, name: str) -> None:
        self.optimizers[name].step()
        self.optimizers[name].zero_grad(set_to_none=True)

    def _average_buffers(self) -> None:
        """Running statistics and losses become those of all processes, each of which has seen its part alone."""
        if self.fabric.world_size == 1:
            return
        owners = [module.module for module in self.modules.values()] + [self.feature_loss] * bool(self.feature_loss)
        values = [b for owner in owners for b in owner.buffers() if b.is_floating_point()] + list(self.totals.values())
        mean = self.fabric.all_reduce(torch.cat([value.float().flatten() for value in values]), reduce_op="mean")
        for value, average in zip(values, mean.split([value.numel() for value in values]), strict=True):
            value.copy_(average.view_as(value))

    def finite(self) -> bool:
        """Whether every weight is a number: only then is a checkpoint worth keeping."""
        weights = (value for module in self.modules.values() for value in module.parameters())
        return bool(torch.stack([value.detach().isfinite().all() for value in weights]).all())

    @torch.compiler.set_stance("force_eager")  # for a few images nothing is compiled anew
    @torch.no_grad()
    def samples(self, validation: Triplets, count: int = 4) -> Tensor:
        """SAR (first band), optical and generated images (three bands) of the first validation patches, (3, rows,
        columns) uint8."""
        items = [validation[i] for i in range(min(count, len(validation)))]
        sar, opt = (torch.stack([item[name] for item in items]).to(self.fabric.device) for name in ("sar", "opt"))
        fake, bands = self.bare.eval()(sar), [0, 1, 2] if opt.shape[1] > 2 else [0, 0, 0]
        views = torch.stack([sar[:, [0, 0, 0]], opt[:, bands], fake[:, bands]], 1)  # (count, 3 views, 3, H, W)
        rows = to_8bit(views).byte().permute(2, 0, 3, 1, 4)  # (3, count, H, views, W)
        return rows.flatten(3).flatten(1, 2)

    @torch.compiler.set_stance("force_eager")
    @torch.no_grad()
    def validate(self, validation: Triplets) -> dict[str, float]:
        """PSNR on the validation split; of the DSD mIoU, the variance of its deepest channels, optical sensitivity."""
        device, total = self.fabric.device, 0.0
        self.bare.eval()
        ious, variances, sensitivities = [], [], []
        for batch in DataLoader(validation, 8):
            sar, opt = batch["sar"].to(device), batch["opt"].to(device)
            with self.fabric.autocast():
                fake = self.bare(sar).float()
            total += psnr(to_8bit(fake), to_8bit(opt)).sum().item() if fake.isfinite().all() else math.nan
            if self.feature_loss is not None:
                dsd = self.modules["dsd"].module.eval()
                logits, deepest = dsd(sar, opt)
                variances.append(deepest.var((0, 2, 3), correction=0).mean().item())
                if len(sar) > 1:
                    sensitivities += optical_sensitivity(dsd, sar, opt, opt.roll(1, 0)).tolist()
                target = batch["lulc"] if "lulc" in batch else pseudo_labels(validation, batch["opt"])
                if target is not None:
                    ious.append((logits.argmax(1).cpu(), target))
        row = {"validation_psnr": total / len(validation)}
        if variances:
            row["feature_variance"] = float(np.mean(variances))
        if sensitivities:  # a single patch has no other to compare with
            row["optical_sensitivity"] = float(np.mean(sensitivities))
        if ious:
            predicted, target = (torch.cat(tensors) for tensors in zip(*ious, strict=True))
            row["validation_miou"] = float(mean_iou(predicted, target, validation.num_classes))
        return row

    def state(self) -> dict:
        """Everything a checkpoint must hold of the networks."""
        return {
            "modules": {name: module.module.state_dict() for name, module in self.modules.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "feature_loss": self.feature_loss.state_dict() if self.feature_loss is not None else None,
            "precision": self.fabric.strategy.precision.state_dict(),  # the scale of 16-mixed
            "best": self.best,
        }

    def load(self, state: dict) -> None:
        """Take everything from `state`."""
        for name, module in self.modules.items():
            module.module.load_state_dict(state["modules"][name])
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        if self.feature_loss is not None:
            self.feature_loss.load_state_dict(state["feature_loss"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.best = state["best"]


def describe(data: Triplets) -> dict:
    """What a record says of the data: enough to know what a number means."""
    info = data.info
    return {
        "name": data.folder.parent.name,
        "limits": data.limits,
        **{key: info[key] for key in ("source", "synthetic", "fingerprint", "patch_size", "resolution_factor")},
        **{key: info[key] for key in ("pixel_size_m", "counts", "lulc")},
        "bands": {"sar": info["sar"]["bands"], "opt": info["opt"]["bands"]},
        "units": {"sar": info["sar"]["units"], "opt": info["opt"]["units"]},
    }


def _forget_peak_memory(device: torch.device) -> None:
    """What earlier runs of this process needed is not this one's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux


def peak_memory(device: torch.device) -> float:
    """GiB: of a GPU what torch held, else the process's largest resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    with suppress(OSError, StopIteration):  # Linux
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def main() -> None:
    """Train the runs of a YAML file, a list of mappings of `Parameters`, one after the other."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit("usage: python -m s2olib.training RUNS.yml (a list of runs, each a mapping of parameters)")
    with told_in_a_sentence("from the last checkpoint"):
        for run in read_runs(Path(sys.argv[1])):
            print(train(run))


def read_runs(path: Path) -> list[Parameters]:
    """The runs of a YAML file; raises `InputError` for what is none, and for two that would take one folder."""
    try:
        entries = parse_yaml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no list of runs: {' '.join(str(error).split())}") from None
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise InputError(f"{path} is no list of runs: give a list, each entry a mapping of parameters to values.")
    known, runs = Parameters.__dataclass_fields__, {}
    for number, entry in enumerate(entries, 1):
        if unknown := [str(name) for name in entry if name not in known]:
            raise InputError(f"{path}, run {number}: there is no parameter {', '.join(unknown)}.")
        if missing := [name for name in ("dataset_root", "run_root") if name not in entry]:
            raise InputError(f"{path}, run {number}: {' and '.join(missing)} must be given.")
        run = Parameters(**entry)
        if run.run in runs:
            raise InputError(f"{path}, run {number} would take the place of {run.run}: give it another tag or seed.")
        runs[run.run] = run
    return [*runs.values()]


if __name__ == "__main__":
    main()
