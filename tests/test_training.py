"""Training: what is resumed is what would have been; land cover never reaches the generator; faults say what to do."""

import dataclasses
import json
import math

import pytest
import torch
from safetensors.torch import load_file

from s2olib import records, training
from s2olib.data.triplets import Triplets
from s2olib.generators import complexity
from s2olib.metrics import psnr, to_8bit
from s2olib.project import InputError


@pytest.fixture
def small(dataset, tmp_path):
    """A run of seconds: every network a few channels wide."""
    return training.Parameters(
        dataset_root=str(dataset),
        run_root=str(tmp_path),
        generator="unet",  # the one with dropout: its random state must survive an interruption
        epochs=2,
        batch_size=16,
        embed_dim=4,
        depths=(2, 2),
        num_heads=(2, 2),
        crop_size=32,
        dsd_width=2,
        device="cpu",
    )


class Killed(Exception):
    pass


def test_killed_and_resumed_equals_never_killed(small, tmp_path, monkeypatch):
    whole = training.train(dataclasses.replace(small, run_root=str(tmp_path / "whole")))
    step, steps = training._Networks.step, []

    def dies(self, batch):
        steps.append(batch)
        if len(steps) == per_epoch + 2:  # in the second epoch
            raise Killed
        return step(self, batch)

    per_epoch = len(Triplets(small.dataset_root, "train")) // small.batch_size
    monkeypatch.setattr(training._Networks, "step", dies)
    with pytest.raises(Killed):
        training.train(small)
    assert not (small.run / "record.json").exists()
    monkeypatch.setattr(training._Networks, "step", step)
    resumed = training.train(small)

    a, b = load_file(whole / "generator.safetensors"), load_file(resumed / "generator.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert (whole / "patches.csv").read_bytes() == (resumed / "patches.csv").read_bytes()
    assert records.read(whole)["curves"] == records.read(resumed)["curves"]


def test_a_finished_run_is_not_run_again_and_another_is_kept(small, monkeypatch):
    run = training.train(dataclasses.replace(small, epochs=1))
    before = (run / "record.json").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(training._Networks, "step", lambda *_: pytest.fail("trained again"))
        training.train(dataclasses.replace(small, epochs=1))
    assert (run / "record.json").stat().st_mtime_ns == before
    training.train(dataclasses.replace(small, epochs=1, dsd_weight=0.0))
    old = records.read(run.parent / "superseded" / f"{run.name}.0")
    assert old["parameters"]["dsd_weight"] > 0 and records.read(run)["parameters"]["dsd_weight"] == 0


def test_evaluation_without_land_cover_is_the_same(small, build_synthetic):
    root = build_synthetic(48, 48)
    run = training.train(dataclasses.replace(small, dataset_root=str(root), epochs=1))
    generator, _ = training.load_generator(run)
    batch = torch.stack([Triplets(root, "test")[i]["sar"] for i in range(2)])
    with_map, fake = training.evaluate(generator, root, "test"), generator(batch)
    for split in ("train", "validation", "test"):
        (root / split / "lulc.npy").unlink()
    assert "lulc" not in Triplets(root, "test")[0]
    without = training.evaluate(generator, root, "test")
    assert torch.equal(generator(batch), fake)
    gone = set(with_map) - set(without)
    assert gone and all(name.startswith("psnr_") for name in gone)
    assert with_map.drop(columns=list(gone)).equals(without)
    with pytest.raises(InputError, match=r"lulc\.npy"):
        training.train(dataclasses.replace(small, dataset_root=str(root), tag="again"))


def test_a_run_says_what_it_measured(small):
    run = training.train(dataclasses.replace(small, gan_weight=0.01, ssim_weight=0.1, accumulate=2, epochs=1))
    record, patches = records.read(run), records.read_patches(run)
    assert {"segmentation", "l1", "feature", "adversarial", "ssim", "discriminator"} <= set(record["curves"][0])
    assert record["metrics"]["psnr"]["mean"] == pytest.approx(patches["psnr"].mean(), abs=1e-5)
    test = Triplets(small.dataset_root, "test")
    item, (generator, config) = test[3], training.load_generator(run)
    with torch.no_grad():
        value = psnr(to_8bit(generator(item["sar"][None])), to_8bit(item["opt"][None])).item()
    assert patches["psnr"][3] == pytest.approx(value, abs=1e-4)
    assert config["sar"]["limits"] == test.limits["sar"]
    error = patches["rmse"] ** 2  # skill is pooled over patches
    assert record["metrics"]["skill"]["mean"] == pytest.approx(1 - error.sum() / patches["mse_mean_colour"].sum(), 1e-4)


def test_accumulating_gives_the_step_of_the_whole_batch(small, monkeypatch):
    monkeypatch.setattr(training, "create_generator", lambda *_, **__: torch.nn.Conv2d(2, 3, 3, padding=1))
    data = Triplets(small.dataset_root, "train", crop_size=32)
    batch = torch.utils.data.default_collate([data[i] for i in range(16)])
    weights = []
    for parts in (1, 4):  # no DSD: the statistics of its BatchNorm are those of a part
        torch.manual_seed(0)
        chosen = dataclasses.replace(small, dsd_weight=0.0, accumulate=parts)
        networks = training._Networks(chosen, data, training.fabric_.Fabric(accelerator="cpu", devices=1))
        networks.step(batch)
        weights.append(networks.bare.weight)
    torch.testing.assert_close(weights[0], weights[1], atol=1e-6, rtol=0)


def test_a_loss_that_is_not_finite_names_the_patches(small):
    with pytest.raises(InputError, match=r"not finite in epoch 0 .* patches ROIs"):
        training.train(dataclasses.replace(small, learning_rate=1e18))
    assert not (small.run / "record.json").exists()


def test_the_estimate_counts_what_will_be_done(small):
    cost = training.estimate(dataclasses.replace(small, dsd_weight=0.0))
    samples = len(Triplets(small.dataset_root, "train")) // 16 * 16 * 2
    generator = training.create_generator("unet", in_channels=2, out_channels=3, embed_dim=4, levels=5)
    assert cost["samples"] == samples
    assert cost["petaflop"] * 1e15 == pytest.approx(samples * 6 * complexity(generator, (1, 2, 32, 32))[1])
    tight = training.estimate(small, memory_gib=cost["memory_gib"] / 3)
    assert tight["accumulate"] > training.estimate(small)["accumulate"] == 1
    less = [
        training.estimate(dataclasses.replace(small, generator="hat", dsd_weight=0.0, checkpointing=on))["memory_gib"]
        for on in (False, True)
    ]
    assert less[1] < less[0] / 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 10_000}, "batch_size"),
        ({"accumulate": 3}, "accumulate"),
        ({"l1_weight": -1.0}, "l1_weight"),
        ({"l1_weight": 0.0, "dsd_weight": 0.0}, "nothing would be learned"),
        ({"schedule": "linear"}, "schedule"),
        ({"generator": "vgg"}, "vgg"),
        ({"dataset_root": "/nowhere"}, "nowhere"),
        ({"crop_size": 4096}, "crop_size"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_work(small, change, says):
    with pytest.raises(InputError, match=says):
        training.train(dataclasses.replace(small, **change))
    assert not (small.run / "last.ckpt").exists()


def test_checkpoints_that_cannot_be_used(small):
    with pytest.raises(InputError, match=r"config\.json does not exist"):
        training.load_generator(small.run)
    run = training.train(dataclasses.replace(small, epochs=1))
    (run / "generator.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"generator\.safetensors"):
        training.load_generator(run)
    config = json.loads((run / "config.json").read_text())
    config["generator"]["embed_dimm"] = config["generator"].pop("embed_dim")
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="embed_dimm"):
        training.load_generator(run)


def test_the_learning_rate_follows_half_a_cosine(small):
    data = Triplets(small.dataset_root, "train", crop_size=32)
    fabric = training.fabric_.Fabric(accelerator="cpu", devices=1)
    networks = training._Networks(dataclasses.replace(small, schedule="cosine", epochs=10), data, fabric)
    networks.set_learning_rate(5)
    rates = [group["lr"] for optimizer in networks.optimizers.values() for group in optimizer.param_groups]
    assert all(math.isclose(rate, small.learning_rate / 2) for rate in rates)
