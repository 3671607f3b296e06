"""Training and evaluation of one variant: a generator under structural and semantic supervision, in one readable loop.

After the talk (generator + Deep Semantic Discriminator), with pix2pix's PatchGAN as an option (Isola et al. 2017). One
step is: the DSD learns to segment a real SAR-optical pair; then, frozen, it tells the generator how far its image is
from the real one in the deepest feature map. Land cover is needed for the first half alone: `evaluate` never reads it
but to report per category. Lightning Fabric places things on CPU or GPU and sets the precision; nothing else is hidden.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import lightning_fabric as fabric_
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from tqdm.auto import tqdm

from s2olib import records
from s2olib.baselines import MeanColour
from s2olib.data.triplets import Triplets
from s2olib.dsd import DSD
from s2olib.generators import complexity, create_generator
from s2olib.losses import (
    FeatureLoss,
    discriminator_loss,
    generator_adversarial_loss,
    mean_iou,
    optical_sensitivity,
    segmentation_loss,
    ssim_loss,
)
from s2olib.metrics import patch_metrics, psnr, to_8bit
from s2olib.patchgan import PatchGAN
from s2olib.project import InputError, code_fingerprint, resolve, writing

GIB = 2**30
CODE = ("training", "generators", "dsd", "losses", "patchgan", "metrics", "data/triplets", "data/landcover")


@dataclass(frozen=True)
class Parameters:
    """Everything that determines a run; the names are those of the notebook ``03_train``.

    `betas` are Adam's published ones, which the talk does not state. `crop_size` None trains on whole patches. A weight
    of 0 leaves a loss, and the network behind it, out.
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
    depths: tuple[int, ...] = (4, 4, 4, 4)
    num_heads: tuple[int, ...] = (4, 4, 4, 4)
    window_size: int = 8
    mlp_ratio: float = 2.0
    crop_size: int | None = None
    l1_weight: float = 1.0
    dsd_weight: float = 0.1
    gan_weight: float = 0.0
    ssim_weight: float = 0.0
    dsd_width: int = 32
    precision: str = "32-true"
    checkpointing: bool = False
    device: str = "auto"
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "embed_dim", "learning_rate"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be positive.")
        for name in ("l1_weight", "dsd_weight", "gan_weight", "ssim_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: a loss weight is 0 (left out) or positive.")
        if self.l1_weight + self.dsd_weight + self.gan_weight + self.ssim_weight == 0:
            raise InputError("l1_weight, dsd_weight, gan_weight and ssim_weight are all 0: nothing would be learned.")
        if self.batch_size % self.accumulate:
            raise InputError(f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}.")
        if self.schedule not in ("constant", "cosine"):
            raise InputError(f"schedule is {self.schedule!r}: it must be 'constant' or 'cosine'.")

    @property
    def run(self) -> Path:
        """The run's folder."""
        return resolve(self.run_root) / records.run_name(self.generator, self.tag, self.seed)

    def lasting(self) -> dict:
        """The parameters that change the result: not where files are, nor which device does the work."""
        where = ("dataset_root", "run_root", "device", "num_workers")
        return json.loads(json.dumps({key: value for key, value in asdict(self).items() if key not in where}))

    def generator_config(self, sar_channels: int, opt_channels: int, size: int) -> dict:
        """Arguments of `create_generator` for patches of `size` pixels; U-Net takes as many levels as they allow."""
        channels = {"in_channels": sar_channels, "out_channels": opt_channels, "embed_dim": self.embed_dim}
        if self.generator == "unet":
            return channels | {"levels": max(2, min(8, int(math.log2(size))))}
        transformer = ("depths", "num_heads", "window_size", "mlp_ratio", "checkpointing")
        return channels | {name: getattr(self, name) for name in transformer}


def estimate(parameters: Parameters, *, tflops: float = 78.0, memory_gib: float = 40.0) -> dict:
    """What a run will cost, before it starts: samples, FLOPs, memory and hours.

    FLOPs count forward and backward as three times the forward MACs (four with activation checkpointing) for the
    generator, the DSD's own step and the passes of real and fake images through it. `tflops` is what the device is
    assumed to sustain: 78 is a quarter of an A100's bf16 peak. Memory is what autograd keeps at the networks' forward
    passes plus weights and Adam's moments; `accumulate` is the least that fits `memory_gib`.
    """
    data = Triplets(resolve(parameters.dataset_root), "train", crop_size=parameters.crop_size)
    size = parameters.crop_size or data.info["patch_size"]
    config = parameters.generator_config(data.sar_channels, data.opt_channels, size)
    with torch.device("meta"):
        generator = create_generator(parameters.generator, **config)
        dsd = DSD(data.sar_channels, data.opt_channels, max(data.num_classes, 1), parameters.dsd_width)
    sar, opt = (1, data.sar_channels, size, size), (1, data.opt_channels, size, size)
    weights, macs = complexity(generator, sar)
    recomputed = parameters.checkpointing and parameters.generator != "unet"
    flops = 2 * macs * (4 if recomputed else 3)
    half = 2 if parameters.precision.startswith("bf16") or parameters.precision.startswith("16") else 4
    kept = _saved_elements(generator, sar)
    if recomputed:  # one block at a time is computed again, beside what lies between the blocks
        plain = create_generator(parameters.generator, **config | {"checkpointing": False}).to("meta")
        kept += _saved_elements(plain, sar) // (sum(parameters.depths) + len(parameters.depths))
    if parameters.dsd_weight:
        dsd_weights, dsd_macs = complexity(dsd, sar, opt)
        weights += dsd_weights
        flops += 2 * dsd_macs * (3 + 1 + 2)  # its own step; the real image forward; the fake one forward and back
        kept += _saved_elements(dsd, sar, opt)
    steps = max(1, len(data) // parameters.batch_size) * parameters.epochs
    samples = steps * parameters.batch_size
    fixed = weights * 4 * 4 / GIB  # weights, gradients and two moments in float32
    per_sample = kept * half / GIB
    fits = max(1, int((memory_gib - fixed) / per_sample))
    divisors = [n for n in range(1, parameters.batch_size + 1) if parameters.batch_size % n == 0]
    accumulate = next((n for n in divisors if parameters.batch_size // n <= fits), parameters.batch_size)
    return {
        "samples": samples,
        "steps": steps,
        "generator_gmac": macs / 1e9,
        "petaflop": flops * samples / 1e15,
        "memory_gib": fixed + per_sample * parameters.batch_size / parameters.accumulate,
        "hours": flops * samples / (tflops * 1e12) / 3600,
        "accumulate": accumulate,
    }


def _saved_elements(network: nn.Module, *shapes: tuple[int, ...]) -> int:
    """Elements that autograd keeps of a forward pass, counted on the meta device, where nothing is computed."""
    kept: dict[int, Tensor] = {}  # held, so that no identity is used twice

    def pack(tensor: Tensor) -> Tensor:
        kept[id(tensor)] = tensor
        return tensor

    inputs = [torch.empty(shape, device="meta", requires_grad=True) for shape in shapes]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.to("meta")(*inputs)
    weights = {id(parameter) for parameter in network.parameters()}
    return sum(tensor.numel() for key, tensor in kept.items() if key not in weights)


class EpochOrder(Sampler[int]):
    """A permutation of the items for each epoch, from seed and epoch alone: a resumed run sees the same order."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        return iter(np.random.default_rng((self.seed, self.epoch)).permutation(self.length).tolist())


def train(parameters: Parameters) -> Path:
    """Train one variant, evaluate its best epoch on the test split once, and leave its record; return the run's folder.

    A finished run with the same parameters, data and code is returned at once. An interrupted one goes on after its
    last full epoch with the same result, bit for bit on a CPU, as if it had never stopped. A run of the same name with
    other parameters, data or code is moved to ``<run_root>/superseded``, never overwritten.

    Raises `InputError` before any work for a dataset or parameter that cannot be used, and when the loss is no longer
    finite, naming the step and the patches.
    """
    root, run = resolve(parameters.dataset_root), parameters.run
    data = Triplets(root, "train", crop_size=parameters.crop_size, seed=parameters.seed)
    validation = Triplets(root, "validation")
    if len(data) < parameters.batch_size:
        raise InputError(f"batch_size {parameters.batch_size} is more than the {len(data)} training patches of {root}.")
    if not len(validation):
        raise InputError(f"{root}/validation holds no patches: the best epoch cannot be chosen.")
    if parameters.dsd_weight and not data.has_lulc:
        raise InputError(f"{root}/train has no lulc.npy: the DSD learns from it, so set dsd_weight to 0.")
    key = {"parameters": parameters.lasting(), "data": data.info["fingerprint"], "code": code_fingerprint(*CODE)}
    if _belongs(run, key) and (run / "record.json").is_file():
        return run

    fabric = fabric_.Fabric(
        accelerator="auto" if parameters.device == "auto" else parameters.device.split(":")[0],
        devices=1,
        precision=parameters.precision,
    )
    fabric_.seed_everything(parameters.seed, verbose=False)
    started, before = time.time(), 0.0
    networks = _Networks(parameters, data, fabric)
    order = EpochOrder(len(data), parameters.seed)
    loader = DataLoader(
        data, parameters.batch_size, sampler=order, num_workers=parameters.num_workers, drop_last=True
    )  # a last batch of one would break BatchNorm
    curves: list[dict] = []
    best = {"epoch": -1, "psnr": -math.inf}
    if (run / "last.ckpt").is_file():
        state = torch.load(run / "last.ckpt", map_location=fabric.device, weights_only=False)
        networks.load(state["networks"])
        curves, best, before = state["curves"], state["best"], state["seconds"]
        torch.set_rng_state(state["rng"].cpu())
        if fabric.device.type == "cuda":
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda_rng"]])

    bar = tqdm(total=len(loader) * parameters.epochs, initial=len(loader) * len(curves), desc=run.name, unit="step")
    for epoch in range(len(curves), parameters.epochs):
        order.epoch = epoch
        data.set_epoch(epoch)
        networks.set_learning_rate(epoch)
        totals: dict[str, float] = {}
        for batch in loader:
            losses = networks.step(batch)
            if not all(math.isfinite(value) for value in losses.values()):
                ids = ", ".join(data.index["id"].iloc[batch["item"].tolist()].astype(str))
                raise InputError(
                    f"{run.name}: the loss is not finite in epoch {epoch} ({losses}) on patches {ids}; "
                    "lower learning_rate, or look at these patches. The last good checkpoint is kept."
                )
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value / len(loader)
            bar.update()
        row = {"epoch": epoch, **totals, **networks.validate(validation)}
        curves.append(row)
        bar.set_postfix_str(f"validation {row['validation_psnr']:.2f} dB")
        if row["validation_psnr"] > best["psnr"]:
            best = {"epoch": epoch, "psnr": row["validation_psnr"]}
            networks.best = {name: value.detach().cpu().clone() for name, value in networks.bare.state_dict().items()}
        state = {
            "networks": networks.state(),
            "curves": curves,
            "best": best,
            "seconds": before + time.time() - started,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if fabric.device.type == "cuda" else [],
        }
        with writing(run / "last.ckpt") as aside:
            torch.save(state, aside)
    bar.close()

    networks.bare.load_state_dict(networks.best)
    save_generator(networks.bare, run, data.info, data.limits, parameters)
    seconds = before + time.time() - started
    patches = evaluate(networks.bare, root, "test", fabric.device)
    _log_reading(run)
    weights, macs = complexity(networks.bare, (1, data.sar_channels, *[data.info["patch_size"]] * 2))
    size = parameters.crop_size or data.info["patch_size"]
    record = {
        "generator": parameters.generator,
        "tag": parameters.tag,
        "seed": parameters.seed,
        "parameters": parameters.lasting(),
        "dataset": describe(data),
        "complexity": {"parameters": weights, "macs": macs, "patch_size": data.info["patch_size"]},
        "hardware": records.machine(fabric.device),
        "curves": curves,
        "best_epoch": best["epoch"],
        "samples_seen": len(loader) * parameters.batch_size * parameters.epochs,
        "metrics": records.summarise(patches),
        "evaluation": records.evaluation_conditions(patches, "test"),
        "cost": {
            "train_seconds": seconds,
            "samples_per_second": len(loader) * parameters.batch_size * parameters.epochs / seconds,
            "peak_memory_gib": _peak_memory(fabric.device),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "crop_size": size,
        },
    }
    records.write(run, record, patches)
    return run


class _Networks:
    """Generator, DSD and PatchGAN with their optimizers: what one step updates and one checkpoint holds."""

    def __init__(self, parameters: Parameters, data: Triplets, fabric: fabric_.Fabric) -> None:
        self.parameters, self.fabric = parameters, fabric
        size = parameters.crop_size or data.info["patch_size"]
        config = parameters.generator_config(data.sar_channels, data.opt_channels, size)
        modules: dict[str, nn.Module] = {"generator": create_generator(parameters.generator, **config)}
        if parameters.dsd_weight:
            modules["dsd"] = DSD(data.sar_channels, data.opt_channels, data.num_classes, parameters.dsd_width)
        if parameters.gan_weight:
            modules["patchgan"] = PatchGAN(data.sar_channels, data.opt_channels)
        self.modules, self.optimizers = {}, {}
        for name, module in modules.items():
            optimizer = torch.optim.Adam(module.parameters(), parameters.learning_rate, betas=parameters.betas)
            self.modules[name], self.optimizers[name] = fabric.setup(module, optimizer)
        self.bare = self.modules["generator"].module
        self.feature_loss = FeatureLoss(self.modules["dsd"].module).to(fabric.device) if parameters.dsd_weight else None
        self.best: dict[str, Tensor] = {}

    def set_learning_rate(self, epoch: int) -> None:
        """Constant, or a half cosine from `learning_rate` to 0 over the epochs."""
        factor = 1.0
        if self.parameters.schedule == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * epoch / self.parameters.epochs))
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.parameters.learning_rate * factor

    def step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One optimizer step of each network on a batch; the losses' values."""
        parts = [
            {name: value.to(self.fabric.device, non_blocking=True) for name, value in batch.items() if name != "item"}
        ]
        if self.parameters.accumulate > 1:
            chunks = {name: value.chunk(self.parameters.accumulate) for name, value in parts[0].items()}
            parts = [dict(zip(chunks, part, strict=True)) for part in zip(*chunks.values(), strict=True)]
        totals: dict[str, float] = {}

        def backward(name: str, loss: Tensor) -> None:
            self.fabric.backward(loss / len(parts))
            totals[name] = totals.get(name, 0.0) + loss.item() / len(parts)

        for module in self.modules.values():
            module.train()
        if "dsd" in self.modules:
            for part in parts:
                logits, _ = self.modules["dsd"](part["sar"], part["opt"])
                backward("segmentation", segmentation_loss(logits, part["lulc"]))
            self._update("dsd")
        fakes = []
        if "patchgan" in self.modules:
            for part in parts:
                fakes.append(self.modules["generator"](part["sar"]))
                real = self.modules["patchgan"](part["sar"], part["opt"])
                fake = self.modules["patchgan"](part["sar"], fakes[-1].detach())
                backward("discriminator", discriminator_loss(real, fake))
            self._update("patchgan")
        for i, part in enumerate(parts):
            fake = fakes[i] if fakes else self.modules["generator"](part["sar"])
            backward("generator", self._generator_loss(part, fake, totals, len(parts)))
        self._update("generator")
        return totals

    def _generator_loss(self, part: dict, fake: Tensor, totals: dict, count: int) -> Tensor:
        p = self.parameters
        terms = {"l1": (p.l1_weight, nn.functional.l1_loss(fake, part["opt"]))}
        if p.dsd_weight:
            with self.fabric.autocast():
                terms["feature"] = (p.dsd_weight, self.feature_loss(part["sar"], part["opt"], fake))
        if p.gan_weight:
            terms["adversarial"] = (
                p.gan_weight,
                generator_adversarial_loss(self.modules["patchgan"](part["sar"], fake)),
            )
        if p.ssim_weight:
            terms["ssim"] = (p.ssim_weight, ssim_loss(fake, part["opt"]))
        for name, (_, loss) in terms.items():
            totals[name] = totals.get(name, 0.0) + loss.item() / count
        return sum(weight * loss for weight, loss in terms.values() if weight)

    def _update(self, name: str) -> None:
        self.optimizers[name].step()
        for optimizer in self.optimizers.values():  # a discriminator also collects gradients in the generator's step
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def validate(self, validation: Triplets) -> dict[str, float]:
        """PSNR on the validation split; mIoU, feature variance and optical sensitivity of the DSD."""
        device, total = self.fabric.device, 0.0
        self.bare.eval()
        ious, variances, sensitivities = [], [], []
        for batch in DataLoader(validation, 8):
            sar, opt = batch["sar"].to(device), batch["opt"].to(device)
            total += psnr(to_8bit(self.bare(sar)), to_8bit(opt)).sum().item()
            if self.feature_loss is not None:
                dsd = self.modules["dsd"].module.eval()
                logits, deepest = dsd(sar, opt)
                variances.append(deepest.var().item())
                if len(sar) > 1:
                    sensitivities.append(optical_sensitivity(dsd, sar, opt, opt.roll(1, 0)).mean().item())
                if "lulc" in batch:
                    ious.append((logits.argmax(1).cpu(), batch["lulc"]))
        row = {"validation_psnr": total / len(validation)}
        if variances:
            row |= {"feature_variance": float(np.mean(variances)), "optical_sensitivity": float(np.mean(sensitivities))}
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
            "best": self.best,
        }

    def load(self, state: dict) -> None:
        """Take everything from `state`."""
        for name, module in self.modules.items():
            module.module.load_state_dict(state["modules"][name])
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        if self.feature_loss is not None:
            self.feature_loss.load_state_dict(state["feature_loss"])
        self.best = state["best"]


@torch.no_grad()
def evaluate(
    generator: nn.Module,
    dataset_root: str | Path,
    split: str,
    device: torch.device | str = "cpu",
    *,
    batch_size: int = 8,
    limits: dict | None = None,
) -> pd.DataFrame:
    """Metrics of every patch of a split, a row each, from the generator alone in eval mode and float32.

    `generator` is a network or a fitted baseline: anything that maps SAR in [-1, 1] to optical in [-1, 1]. Land cover,
    where there is any, adds ``psnr_<category>`` columns and changes nothing else.
    """
    triplets = Triplets(resolve(dataset_root), split, limits=limits)
    if not len(triplets):
        raise InputError(f"{dataset_root}/{split} holds no patches: there is nothing to evaluate.")
    colour = MeanColour.fit(Triplets(resolve(dataset_root), "train", limits=limits)).colour
    if isinstance(generator, nn.Module):
        generator.eval().to(device)
    rows = []
    for batch in DataLoader(triplets, batch_size):
        fake = generator(batch["sar"].to(device)).float()
        rows += patch_metrics(
            fake,
            batch["opt"].to(device),
            mean_colour=colour,
            lulc=batch["lulc"].to(device) if "lulc" in batch else None,
            categories=triplets.categories if "lulc" in batch else (),
        )
    names = [name for name in ("id", "scene", "group", "row", "col") if name in triplets.index]
    return pd.concat([triplets.index[names].reset_index(drop=True), pd.DataFrame(rows)], axis=1)


def save_generator(generator: nn.Module, folder: Path, info: dict, limits: dict, parameters: Parameters) -> None:
    """``generator.safetensors`` and ``config.json`` (network, bands, units, limits, training parameters)."""
    with writing(folder / "generator.safetensors") as aside:
        save_file({name: value.contiguous() for name, value in generator.state_dict().items()}, aside)
    config = {
        "generator": generator.config,
        "sar": info["sar"] | {"limits": limits["sar"]},
        "opt": info["opt"] | {"limits": limits["opt"]},
        "data": info["fingerprint"],
        "code": code_fingerprint(),
        "parameters": parameters.lasting(),
    }
    with writing(folder / "config.json") as aside:
        aside.write_text(json.dumps(config, indent=1) + "\n")


def load_generator(folder: str | Path) -> tuple[nn.Module, dict]:
    """The generator of a run in eval mode, and its config; `InputError` for missing or foreign files."""
    folder = resolve(folder)
    for name in ("config.json", "generator.safetensors"):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist: train the variant first (03_train).")
    try:
        config = json.loads((folder / "config.json").read_text())
        generator = create_generator(**config["generator"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{folder}/config.json does not describe a generator ({error}).") from None
    try:
        generator.load_state_dict(load_file(folder / "generator.safetensors"))
    except Exception as error:  # safetensors and torch raise several kinds for a corrupt or foreign file
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder}/generator.safetensors does not fit config.json: {reason}") from None
    return generator.eval(), config


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


def _belongs(run: Path, key: dict) -> bool:
    """Whether `run` was begun with `key`; a folder that was not is moved aside, and a new one is begun."""
    path = run / "key.json"
    if path.is_file() and json.loads(path.read_text()) == key:
        return True
    if run.exists():
        old = run.parent / "superseded"
        old.mkdir(exist_ok=True)
        count = len(list(old.glob(f"{run.name}.*")))
        os.replace(run, old / f"{run.name}.{count}")
    with writing(path) as aside:
        aside.write_text(json.dumps(key, indent=1) + "\n")
    return False


def _log_reading(run: Path) -> None:
    """Note that the test split was read for this run."""
    with open(run.parent / "test_readings.csv", "a") as log:
        log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')},{run.name}\n")


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
