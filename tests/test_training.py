"""Training: what is resumed is what would have been; land cover never reaches the generator; faults say what to do."""

import dataclasses
import errno
import json
import math
import multiprocessing
import os
import random
import re
import resource
import shutil
import time
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from s2olib import budget, checkpoints, project, records, training
from s2olib.data.triplets import Triplets
from s2olib.dsd import DSD
from s2olib.evaluation import Judge, evaluate
from s2olib.generators import GENERATORS, Generator, complexity, create_generator
from s2olib.losses import FeatureLoss, mean_iou
from s2olib.metrics import psnr, to_8bit
from s2olib.patchgan import PatchGAN
from s2olib.project import InputError

KILLS = int(os.environ.get("S2OLIB_KILLS", "2"))  # more for a thorough check


@pytest.fixture
def small(dataset, tmp_path):
    """A run of seconds: every network a few channels wide."""
    return training.Parameters(
        dataset_root=str(dataset),
        run_root=str(tmp_path),
        generator="unet",
        epochs=2,
        batch_size=16,
        embed_dim=4,
        depths=(2, 2),
        num_heads=(2, 2),
        crop_size=32,
        dsd_width=2,
        device="cpu",
    )


def start_and_kill(parameters, checkpoint_count, seconds):
    """Start a run in a process of its own; kill it some seconds after its first step or so many checkpoints."""
    process = multiprocessing.get_context("fork").Process(target=training.train, args=(parameters,))
    board, last = parameters.run / "tensorboard", parameters.run / "last.ckpt"
    boards, seen = len(list(board.glob("*"))), {last.stat().st_mtime_ns if last.is_file() else 0}
    process.start()
    while process.is_alive() and (len(list(board.glob("*"))) == boards or len(seen) <= checkpoint_count):
        seen.add(last.stat().st_mtime_ns if last.is_file() else 0)
        time.sleep(0.002)
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode < 0


def same(a, b):
    """Whether two finished runs have the same weights, metrics and curves, bit for bit."""
    first, second = (load_file(run / "generator.safetensors") for run in (a, b))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (a / "patches.csv").read_bytes() == (b / "patches.csv").read_bytes()
    assert records.read(a)["curves"] == records.read(b)["curves"]
    return True


def test_the_best_epochs_weights_are_kept_and_measured_and_a_rehearsal_leaves_nothing(small, tmp_path, monkeypatch):
    small, validate, bonus = dataclasses.replace(small, epochs=3, dsd_schedule="joint"), training._Networks.validate, []

    def favours_the_first(networks, data):
        row = validate(networks, data)
        bonus.append(0 if bonus else 50)
        return row | {"validation_psnr": row["validation_psnr"] + bonus[-1]}

    monkeypatch.setattr(training._Networks, "validate", favours_the_first)
    run = training.train(small)
    record, (network, _) = records.read(run), checkpoints.load_generator(run)
    items = [small.validation_data()[i] for i in range(len(small.validation_data()))]
    sar, opt = (torch.stack([item[name] for item in items]) for name in ("sar", "opt"))
    with torch.no_grad():
        measured = psnr(to_8bit(network(sar)), to_8bit(opt)).mean().item()
    assert record["best_epoch"] == 0
    assert record["curves"][0]["validation_psnr"] - 50 == pytest.approx(measured, abs=0.01)
    assert record["cost"]["expected_seconds"] > 0  # it was rehearsed
    bonus.clear()
    monkeypatch.setattr(training, "_rehearse", lambda *_: None)
    assert same(run, training.train(dataclasses.replace(small, run_root=str(tmp_path / "not rehearsed"))))


def test_killed_and_resumed_equals_never_killed(small, tmp_path):
    small = dataclasses.replace(small, epochs=2 + KILLS // 4, crop_size=64)  # with as many levels as dropout needs
    network = create_generator("unet", **small.generator_config(2, 3, 64))
    assert any(isinstance(module, torch.nn.Dropout) for module in network.modules())
    whole = training.train(dataclasses.replace(small, run_root=str(tmp_path / "whole")))
    small = dataclasses.replace(small, checkpoint_minutes=0)  # a checkpoint after each step: kills meet its writing too
    generator, positions = random.Random(0), []
    for _ in range(KILLS):
        assert start_and_kill(small, generator.randint(0, 2), generator.uniform(0, 0.1))
        if (small.run / "last.ckpt").is_file():
            state = torch.load(small.run / "last.ckpt", weights_only=True)["progress"]
            positions.append((state["epoch"], state["step"]))
    assert positions == sorted(positions) and any(step for _, step in positions)  # one at least within an epoch
    assert not (small.run / "record.json").exists()
    assert same(whole, training.train(small))
    assert not list(small.run.glob(".*.part*"))


def test_a_run_begins_from_saved_weights(small, tmp_path, monkeypatch):
    first = training.train(small)
    saved, begun = load_file(first / "generator.safetensors"), []

    def stop(networks, *_):
        begun.append(networks.bare.state_dict())
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_rehearse", stop)
    again = dataclasses.replace(small, tag="again", initial_weights=str(first))
    with pytest.raises(KeyboardInterrupt):
        training.train(again)
    assert all(torch.equal(value, saved[name]) for name, value in begun[0].items())
    for own in (first, first / "generator.safetensors", small.run_root + "/../" + first.parent.name + "/" + first.name):
        with pytest.raises(InputError, match="are of this run itself"):
            training.train(dataclasses.replace(small, initial_weights=str(own)))
    assert load_file(first / "generator.safetensors").keys() == saved.keys() and not list(first.parent.glob("supers*"))
    hat = dataclasses.replace(again, generator="hat", window_size=4)
    with pytest.raises(InputError, match="is a unet of other channels, widths or depths than this hat"):
        training.train(hat)
    with pytest.raises(InputError, match="is a unet of other channels, widths or depths than this unet"):
        training.train(dataclasses.replace(again, embed_dim=8))
    (tmp_path / "half").mkdir()
    shutil.copy(first / "generator.safetensors", tmp_path / "half")
    with pytest.raises(InputError, match=r"initial_weights: .*half/config\.json does not exist"):
        training.train(dataclasses.replace(again, initial_weights=str(tmp_path / "half")))
    other = training.create_generator("hat", **{**hat.generator_config(2, 3, hat.crop_size), "conv_scale": 1.0})
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match=r"has conv_scale 1\.0, this hat 0\.01: the same weights would make other"):
        training.train(dataclasses.replace(hat, initial_weights=str(tmp_path / "other")))
    with pytest.raises(InputError, match=r"initial_weights: .*nowhere does not exist"):
        training.train(dataclasses.replace(again, initial_weights=str(tmp_path / "nowhere")))
    torch.save({"params": {"conv_first.weight": torch.zeros(4, 2, 3, 3)}}, tmp_path / "hat.pth")
    with pytest.raises(InputError, match="are for generator hat"):
        training.train(dataclasses.replace(again, initial_weights=str(tmp_path / "hat.pth")))
    save_file({"conv_first.weight": torch.zeros(4, 2, 3, 3)}, tmp_path / "hat.safetensors")
    for name in ("hat.pth", "hat.safetensors"):
        with pytest.raises(InputError, match="the weights lack"):
            training.train(dataclasses.replace(hat, initial_weights=str(tmp_path / name)))
    (tmp_path / "hat.pth").write_text("no weights")
    with pytest.raises(InputError, match=r"hat\.pth' cannot be read: it holds no tensors, or not these alone$"):
        training.train(dataclasses.replace(hat, initial_weights=str(tmp_path / "hat.pth")))


def test_weights_begin_a_training_that_only_checkpoints_or_drops_paths_otherwise(tmp_path):
    given = {"in_channels": 1, "out_channels": 1, "embed_dim": 4, "depths": (1,), "num_heads": (1,), "window_size": 4}
    saved = create_generator("hat", **given, checkpointing=True, drop_path_rate=0.5)
    saved.save_pretrained(tmp_path)
    torch.save({"params_ema": saved.state_dict()}, tmp_path / "hat.pth")
    save_file(saved.state_dict(), tmp_path / "hat.safetensors")
    for name in ("", "generator.safetensors", "hat.pth", "hat.safetensors"):  # a folder, its file, published weights
        parameters = training.Parameters(dataset_root="none", run_root="none", initial_weights=str(tmp_path / name))
        begun = checkpoints.start(create_generator("hat", **given), parameters).state_dict()
        assert all(torch.equal(value, begun[key]) for key, value in saved.state_dict().items()), name


class Hidden:
    """What makes a folder when it is unpickled without care."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_that_is_hidden_in_a_file_of_weights_is_not_run(tmp_path):
    torch.save({"key": {}, "conv_first.weight": Hidden(tmp_path / "made")}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth is no checkpoint \(it holds no tensors, or not these alone\)"):
        checkpoints.load(tmp_path / "weights.pth", {})
    parameters = training.Parameters(
        dataset_root="none", run_root="none", initial_weights=str(tmp_path / "weights.pth")
    )
    hat = create_generator("hat", in_channels=1, out_channels=1, embed_dim=4, depths=(1,), num_heads=(1,))
    with pytest.raises(InputError, match=r"weights\.pth' cannot be read: it holds no tensors, or not these alone$"):
        checkpoints.start(hat, parameters)
    assert not (tmp_path / "made").exists()


def test_categories_are_weighted_in_what_the_dsd_learns(small):
    count = training.Triplets(small.dataset_root, "train").num_classes
    small = dataclasses.replace(small, epochs=1)
    weights = ((), (1.0,) * count, (9.0,) + (1.0,) * (count - 1))
    runs = [training.train(dataclasses.replace(small, tag=f"w{i}", class_weights=w)) for i, w in enumerate(weights)]
    none, alike, first = (records.read(run)["curves"][0]["segmentation"] for run in runs)
    assert none == pytest.approx(alike, rel=1e-5) and abs(first - none) > 1e-3
    with pytest.raises(InputError, match=rf"class_weights has 1 numbers, .* {count} categories: give one for each of"):
        training.train(dataclasses.replace(small, class_weights=(1.0,)))


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_pictures_of_a_training_show_three_bands(bands):
    networks = SimpleNamespace(fabric=SimpleNamespace(device="cpu"), bare=torch.nn.Conv2d(2, bands, 1))
    items = [{"sar": torch.zeros(2, 8, 8), "opt": torch.zeros(bands, 8, 8)}] * 4
    assert training._Networks.samples(networks, items).shape == (3, 4 * 8, 3 * 8)


@pytest.mark.parametrize("seen", [0.03, math.nan])
def test_a_dsd_that_hardly_sees_the_optical_image_is_said_where_it_judges(small, monkeypatch, capsys, seen):
    monkeypatch.setattr(training, "optical_sensitivity", lambda dsd, sar, *_: torch.full((len(sar),), seen))
    training.train(dataclasses.replace(small, dsd_schedule="warm-up"))
    said = capsys.readouterr().err
    assert f"epoch 1: the DSD hardly sees the optical image ({seen:.3f}, below 0.1)" in said
    assert "epoch 0: the DSD" not in said


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


def test_a_run_that_is_being_trained_is_left_alone(small, monkeypatch):
    small = dataclasses.replace(small, epochs=1)
    other, validate, run = dataclasses.replace(small, dsd_weight=0.0), training._Networks.validate, small.run

    def meanwhile(*args):
        monkeypatch.setattr(training._Networks, "validate", validate)
        before = {path: path.read_bytes() for path in run.parent.rglob("*") if path.is_file()}
        monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
        for second in (small, other, dataclasses.replace(other, devices=2)):
            with pytest.raises(InputError, match=r"^'.*unet-dsd-s0' is being written by .* give another tag$"):
                training.train(second)
        assert before == {path: path.read_bytes() for path in run.parent.rglob("*") if path.is_file()}
        return validate(*args)

    monkeypatch.setattr(training._Networks, "validate", meanwhile)
    training.train(small)
    assert records.read(run)["parameters"] == small.lasting()
    assert [path.name for path in sorted(run.parent.iterdir())] == ["test_readings.csv", run.name]
    with project.alone(run, "tag"):
        assert training.train(small) == run  # it is finished, and only read
    training.train(other)
    assert records.read(run)["parameters"] == other.lasting()
    assert records.read(run.parent / "superseded" / f"{run.name}.0")["parameters"] == small.lasting()


def test_a_run_of_data_that_are_scaled_otherwise_is_another(small, tmp_path):
    root = shutil.copytree(small.dataset_root, tmp_path / "data")
    small = dataclasses.replace(small, dataset_root=str(root), epochs=1)
    run = training.train(small)
    before, info = records.read(run), json.loads((root / "dataset.json").read_text())
    info["opt"]["limits"] = [[0.0, 1.0]] * 3  # which no patch's bytes tell
    (root / "dataset.json").write_text(json.dumps(info))
    training.train(small)
    assert records.read(run.parent / "superseded" / f"{run.name}.0") == before
    assert records.read(run)["dataset"]["limits"]["opt"] == info["opt"]["limits"]


def test_what_a_run_hangs_on_besides_its_parameters_makes_it_another(small, tmp_path, monkeypatch):
    keys, root = [], shutil.copytree(small.dataset_root, tmp_path / "data")
    small = dataclasses.replace(small, dataset_root=str(root))
    monkeypatch.setattr(checkpoints, "finished", lambda run, key: keys.append(key) is None)
    info = json.loads((root / "dataset.json").read_text())
    for metres in (10.0, 20.0):  # on which the size of labels in pixels hangs
        (root / "dataset.json").write_text(json.dumps(info | {"pixel_size_m": metres}))
        training.train(small)
    for seed in range(2):
        torch.manual_seed(seed)
        create_generator("unet", **small.generator_config(2, 3, 32)).save_pretrained(tmp_path / "begun")
        training.train(dataclasses.replace(small, initial_weights=str(tmp_path / "begun")))
    assert all(first != second for first, second in combinations(keys, 2))


def test_a_run_root_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"run_root '.*file/runs' cannot be written \(Not a directory\)"):
        training.train(dataclasses.replace(small, run_root=str(tmp_path / "file/runs")))


def test_labels_are_merged_where_training_alone_has_them(small, tmp_path):
    root = shutil.copytree(small.dataset_root, tmp_path / "data")
    for split in ("validation", "test"):
        (root / split / "lulc.npy").unlink()  # as with pseudo-categories
    run = training.train(dataclasses.replace(small, dataset_root=str(root), epochs=1, label_merge="twelve"))
    assert records.read(run)["parameters"]["label_merge"] == "twelve"


def test_validation_has_the_training_splits_classes(small):
    for merge, count in (("", 4), ("twelve", 12)):
        run = dataclasses.replace(small, label_merge=merge)
        assert run.training_data().num_classes == run.validation_data().num_classes == count


def test_a_run_begins_anew_when_a_merge_of_its_legend_has_changed(small, tmp_path):
    root = shutil.copytree(small.dataset_root, tmp_path / "data")
    legend = yaml.safe_load((Path(project.__file__).parent / "data/legends/hrlulc-v21.11.yml").read_text())
    info = json.loads((root / "dataset.json").read_text())
    info["lulc"]["legend"] = str(tmp_path / "own.yml")
    (root / "dataset.json").write_text(json.dumps(info))
    run, readings = dataclasses.replace(small, dataset_root=str(root), epochs=1, label_merge="two"), []
    for codes in ([1], [1], [1, 2]):
        legend["merges"]["two"] = {"low": codes, "high": [code for code in legend["names"] if code not in codes]}
        (tmp_path / "own.yml").write_text(yaml.safe_dump(legend, sort_keys=False))
        readings.append(records.read(training.train(run))["cost"]["finished"])
        assert len(list(run.run.parent.glob("superseded/*"))) == (len(codes) == 2)
    assert readings[0] == readings[1]


def test_a_checkpoint_is_written_when_it_is_due(small, tmp_path, monkeypatch):
    written, save = [], checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda *given: (written.append(given), save(*given)))
    counts = []
    for minutes in (0.0, 60.0):
        started, chosen = time.monotonic(), dataclasses.replace(small, run_root=str(tmp_path / f"{minutes}"))
        run = training.train(dataclasses.replace(chosen, checkpoint_minutes=minutes))
        assert records.read(run)["cost"]["train_seconds"] < time.monotonic() - started, "none is counted twice"
        counts.append(len(written) - sum(counts))
    steps = len(training.EpochOrder(len(small.training_data()), small.batch_size, 0)) * small.epochs
    assert counts[0] >= steps > counts[1] == 1


def test_evaluation_without_land_cover_is_the_same(small, build_synthetic):
    root = build_synthetic(48, 48)
    run = training.train(dataclasses.replace(small, dataset_root=str(root), epochs=1))
    generator, _ = checkpoints.load_generator(run)
    batch = torch.stack([Triplets(root, "test")[i]["sar"] for i in range(2)])
    with_map, fake = evaluate(generator, root, "test"), generator(batch)
    for split in ("train", "validation", "test"):
        (root / split / "lulc.npy").unlink()
    assert "lulc" not in Triplets(root, "test")[0]
    without = evaluate(generator, root, "test")
    assert torch.equal(generator(batch), fake)
    gone = set(with_map) - set(without)
    assert gone and all(name.startswith(("psnr_", "semantic_")) for name in gone)
    assert with_map.drop(columns=list(gone)).equals(without)
    with pytest.raises(InputError, match=r"lulc\.npy"):
        training.train(dataclasses.replace(small, dataset_root=str(root), tag="again"))


def test_an_evaluation_keeps_every_bit_of_float32_and_leaves_the_switch_as_it_was(small, monkeypatch):
    seen = []

    def generator(sar):
        seen.append(torch.backends.cudnn.allow_tf32)
        return sar[:, :1].repeat(1, 3, 1, 1)

    for before in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
        evaluate(generator, small.dataset_root, "test")
        assert torch.backends.cudnn.allow_tf32 == before
    assert seen and not any(seen)


def test_a_run_says_what_it_measured(small):
    run = training.train(dataclasses.replace(small, gan_weight=0.01, ssim_weight=0.1, accumulate=2, epochs=1))
    record, patches = records.read(run), records.read_patches(run)
    assert {"segmentation", "l1", "feature", "adversarial", "ssim", "discriminator"} <= set(record["curves"][0])
    assert record["metrics"]["psnr"]["mean"] == pytest.approx(patches["psnr"].mean(), abs=1e-5)
    test = Triplets(small.dataset_root, "test")
    item, (generator, config) = test[3], checkpoints.load_generator(run)
    with torch.no_grad():
        value = psnr(to_8bit(generator(item["sar"][None])), to_8bit(item["opt"][None])).item()
    assert patches["psnr"][3] == pytest.approx(value, abs=1e-4)
    assert config["sar"]["limits"] == test.limits["sar"]
    colour = to_8bit(torch.stack([item["opt"] for item in Triplets(small.dataset_root, "train")]).mean((0, 2, 3)))
    for i in range(len(test)):  # what one colour is worth that was learned from the training split
        of_one_colour = (to_8bit(test[i]["opt"]) - colour.view(3, 1, 1)).square().mean().item()
        assert patches["mse_mean_colour"][i] == pytest.approx(of_one_colour, abs=1e-4)
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
    with pytest.raises(InputError, match=r"not finite .* in epoch 0, step 0, on patches ROIs"):
        training.train(dataclasses.replace(small, learning_rate=1e18))
    assert not (small.run / "record.json").exists()


@pytest.mark.parametrize(("minutes", "step"), [(0.0, "1"), (60.0, "[0-9]+")])
def test_a_weight_that_is_not_finite_reaches_no_checkpoint(small, monkeypatch, minutes, step):
    monkeypatch.setattr(training._Networks, "finite", lambda _: False)
    with pytest.raises(InputError, match=rf"a weight is not finite in epoch 0, step {step}, on patches ROIs"):
        training.train(dataclasses.replace(small, checkpoint_minutes=minutes))
    assert not (small.run / "last.ckpt").exists()


def test_a_board_shows_each_step_once_though_a_run_was_killed(small, monkeypatch):
    small, step, done = dataclasses.replace(small, batch_size=2, dsd_weight=0.0), training._Networks.step, []
    count = len(training.EpochOrder(len(small.training_data()), 2, 0))
    monkeypatch.setattr(training, "_rehearse", lambda *_: None)

    def stops(networks, batch):
        done.append(batch)
        if len(done) == count + 11:
            raise KeyboardInterrupt
        return step(networks, batch)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training._Networks, "step", stops)
        training.train(small)
    board = EventAccumulator(str(training.train(small) / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("epoch/l1")] == [0, 1]
    tens = range(10, count + 1, 10)
    assert [event.step for event in board.Scalars("step/l1")] == [*tens, *(count + ten for ten in tens)]


def test_images_that_are_not_finite_are_not_left_out(small, monkeypatch):
    validate = training._Networks.validate

    def overflown(networks, validation):
        hook = networks.bare.register_forward_hook(lambda _module, _inputs, made: made * math.inf)
        row = validate(networks, validation)
        hook.remove()
        return row

    monkeypatch.setattr(training._Networks, "validate", overflown)
    with pytest.raises(InputError, match=r"a validation patch is not finite after epoch 0; lower learning_rate"):
        training.train(small)
    assert not (small.run / "record.json").exists()

    def broken(sar):
        return torch.where(torch.arange(len(sar)).view(-1, 1, 1, 1) == 1, math.nan, sar[:, :1].expand(-1, 3, -1, -1))

    second = Triplets(small.dataset_root, "test").index["id"][1]
    with pytest.raises(InputError, match=f"the generated image of patch {second} is not finite"):
        evaluate(broken, small.dataset_root, "test")


@pytest.mark.parametrize(
    "change", [{"dsd_encoder": "resnet81"}, {"dsd_width": 0}, {"gan_weight": 1.0, "crop_size": 16}]
)
def test_what_cannot_be_trained_leaves_the_run_of_that_name(small, change):
    training.train(small)
    before = (small.run / "record.json").read_bytes()
    with pytest.raises(InputError):
        training.train(dataclasses.replace(small, **change))
    assert (small.run / "record.json").read_bytes() == before
    assert not (small.run.parent / "superseded").exists()


def test_a_fault_in_one_of_several_processes_is_one_sentence(small, monkeypatch):
    monkeypatch.setattr(training.sys, "ps1", ">>> ", raising=False)  # forked, as from a notebook
    with pytest.raises(InputError, match=r"^dsd_encoder 'resnet81' is neither"):
        training.train(dataclasses.replace(small, devices=2, dsd_encoder="resnet81"))


def test_a_data_set_that_was_copied_half_is_named_before_work_starts(small, tmp_path):
    whole = tmp_path / "copy"
    shutil.copytree(small.dataset_root, whole)
    run = dataclasses.replace(small, dataset_root=str(whole))
    (whole / "test" / "opt.npy").write_bytes((whole / "test" / "opt.npy").read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"test/opt\.npy cannot be read"):
        training.train(run)
    (whole / "test" / "index.csv").unlink()
    with pytest.raises(InputError, match=r"test/index\.csv does not exist"):
        training.train(run)
    (whole / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset\.json is not as this version writes it"):
        training.train(run)
    assert not small.run.exists()


@pytest.mark.parametrize(("encoder", "size"), [("snunet", 16), ("snunet", 100), ("resnet18", 32), ("resnet18", 48)])
def test_judging_is_counted_as_autograd_does_it(encoder, size):
    with torch.device("meta"):
        dsd = DSD(2, 3, 4, 8, encoder)
        sar, real, fake = (torch.empty(1, bands, size, size) for bands in (2, 3, 3))
    with FlopCounterMode(display=False) as counter:
        FeatureLoss(dsd).to("meta").eval()(sar, real, fake.requires_grad_()).backward()
    for training_mode in (True, False):
        dsd.train(training_mode)
        assert budget._judging(dsd, sar.shape, real.shape) == counter.get_total_flops() // 2
        assert dsd.training == training_mode


def test_the_estimate_counts_what_will_be_done(small, monkeypatch):
    cost = budget.estimate(dataclasses.replace(small, dsd_weight=0.0))
    samples = len(Triplets(small.dataset_root, "train")) // 16 * 16 * 2
    generator = training.create_generator("unet", in_channels=2, out_channels=3, embed_dim=4, levels=5)
    assert cost["samples"] == samples and cost["steps"] == samples / 16
    whole, same = (budget.estimate(dataclasses.replace(small, dsd_weight=0.0, crop_size=size)) for size in (None, 64))
    assert whole == same != cost, "patches are of 64 pixels"
    assert cost["petaflop"] * 1e15 == pytest.approx(samples * 6 * complexity(generator, (1, 2, 32, 32))[1])
    for starts_threads in ("torch.Tensor.backward", "torch.autograd.backward", "torch.autograd.grad"):
        monkeypatch.setattr(starts_threads, None)  # after which no process can be forked where there is a GPU
    tight = budget.estimate(small, memory_gib=cost["memory_gib"] / 3)
    assert tight["accumulate"] > budget.estimate(small)["accumulate"] == 1
    network = DSD(2, 3, 4, small.dsd_width)
    dsd = complexity(network, (1, 2, 32, 32), (1, 3, 32, 32))[1]
    in_sar, in_opt = (
        complexity(encoder, (1, bands, 32, 32))[1]
        for encoder, bands in ((network.sar_encoder, 2), (network.opt_encoder, 3))
    )
    fusion = complexity(network.fuse[-1], (1, 2 * network.deepest_channels, 2, 2))[1]
    judging = 2 * (in_sar + in_opt + fusion) + in_opt + fusion  # both images, and the fake one's gradient
    for changed, passes, judged in (
        ({"dsd_schedule": "joint"}, 3, 1),
        ({"dsd_schedule": "warm-up", "dsd_warmup": 1}, 3, 1 / 2),  # of two epochs
        ({"dsd_schedule": "frozen", "dsd_warmup": 1}, 3 / 2, 1 / 2),
        ({"dsd_schedule": "random", "dsd_warmup": 1}, 1, 1 / 2),
    ):
        more = budget.estimate(dataclasses.replace(small, **changed))["petaflop"] - cost["petaflop"]
        assert more * 1e15 == pytest.approx(samples * 2 * (passes * dsd + judged * judging))
    for encoder in ("skresnet18", "rexnet_100"):  # BatchNorm on the mean of a map, of which one sample has one value
        encoded = dataclasses.replace(small, dsd_encoder=encoder)
        more = budget.estimate(encoded)["petaflop"] - cost["petaflop"]
        with torch.device("meta"):
            network = DSD(2, 3, 4, small.dsd_width, encoder)
        dsd = complexity(network, (2, 2, 32, 32), (2, 3, 32, 32))[1] / 2
        judging = budget._judging(network, (1, 2, 32, 32), (1, 3, 32, 32))
        assert more * 1e15 == pytest.approx(samples * 2 * (3 * dsd + judging))
    patchgan = complexity(PatchGAN(2, 3), (1, 2, 32, 32), (1, 3, 32, 32))[1]
    more = budget.estimate(dataclasses.replace(small, dsd_weight=0.0, gan_weight=1.0))["petaflop"] - cost["petaflop"]
    assert more * 1e15 == pytest.approx(samples * 2 * 8 * patchgan)
    for change in ({"devices": 2}, {"num_nodes": 2}):
        shared = budget.estimate(dataclasses.replace(small, dsd_weight=0.0, **change))
        assert shared["hours"] == pytest.approx(cost["hours"] / 2) and shared["memory_gib"] < cost["memory_gib"]
    fixed = 16 * sum(parameter.numel() for parameter in generator.parameters()) / 2**30  # four float32 for each weight
    halved = budget.estimate(dataclasses.replace(small, dsd_weight=0.0, precision="bf16-mixed"))["memory_gib"]
    assert halved - fixed == pytest.approx((cost["memory_gib"] - fixed) / 2)
    kept, recomputed = (
        budget.estimate(dataclasses.replace(small, generator="hat", dsd_weight=0.0, checkpointing=on))
        for on in (False, True)
    )
    assert recomputed["memory_gib"] < kept["memory_gib"] / 2
    assert recomputed["petaflop"] == pytest.approx(kept["petaflop"] * 4 / 3), "forward once more"
    assert budget.estimate(dataclasses.replace(small, dsd_weight=0.0, checkpointing=True)) == cost, "which unet has not"


@pytest.mark.parametrize("name", ["unet", "hat"])
def test_the_estimate_of_memory_is_what_autograd_keeps(small, name):
    chosen = dataclasses.replace(small, generator=name, dsd_weight=0.0, crop_size=32)
    network = training.create_generator(name, **chosen.generator_config(2, 3, 32)).train()
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.zeros(4, 2, 32, 32))
    weights = {parameter.data_ptr(): parameter.nbytes for parameter in network.parameters()}
    real = sum(tensor.nbytes for place, tensor in kept.items() if place not in weights) / 4
    estimated = budget.estimate(chosen)["memory_gib"] * 2**30 - 4 * sum(weights.values())
    assert estimated / chosen.batch_size == pytest.approx(real, rel=0.1)


def test_the_estimate_of_memory_counts_the_discriminators(small):
    without = budget.estimate(dataclasses.replace(small, dsd_weight=0.0))["memory_gib"]
    chosen = (({}, DSD(2, 3, 4, small.dsd_width)), ({"dsd_weight": 0.0, "gan_weight": 1.0}, PatchGAN(2, 3)))
    for change, network in chosen:
        kept = {}

        def pack(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network.train()(torch.zeros(4, 2, 32, 32), torch.zeros(4, 3, 32, 32))
        weights = {parameter.data_ptr(): parameter.nbytes for parameter in network.parameters()}
        real = sum(storage.nbytes() for place, storage in kept.items() if place not in weights) / 4
        more = (budget.estimate(dataclasses.replace(small, **change))["memory_gib"] - without) * 2**30
        assert more == pytest.approx(4 * sum(weights.values()) + real * small.batch_size, rel=0.1)


def test_a_batch_is_parted_as_often_as_the_memory_asks_for(small):
    small = dataclasses.replace(small, dsd_weight=0.0, gan_weight=1.0)  # whose weights need more than its maps
    for parts in (1, 2, 4, 16):
        needed = budget.estimate(dataclasses.replace(small, accumulate=parts))["memory_gib"]
        assert budget.estimate(small, memory_gib=needed + 1e-9)["accumulate"] == parts
    assert budget.estimate(small, memory_gib=1e-9)["accumulate"] == small.batch_size


def test_hours_are_those_of_the_arithmetic_and_both_half_precisions_need_half(small):
    small = dataclasses.replace(small, dsd_weight=0.0)
    cost = budget.estimate(small, tflops=2.0)
    assert cost["hours"] == pytest.approx(cost["petaflop"] * 1e15 / 2e12 / 3600)
    generator = training.create_generator("unet", in_channels=2, out_channels=3, embed_dim=4, levels=5)
    assert cost["generator_gmac"] == pytest.approx(complexity(generator, (1, 2, 32, 32))[1] / 1e9)
    half = [budget.estimate(dataclasses.replace(small, precision=name)) for name in ("bf16-mixed", "16-mixed")]
    assert half[0] == half[1] != budget.estimate(small)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 10_000}, "batch_size"),
        ({"accumulate": 3}, "accumulate"),
        ({"l1_weight": -1.0}, "l1_weight"),
        ({"l1_weight": 0.0, "dsd_weight": 0.0}, "nothing would be learned"),
        ({"schedule": "linear"}, "schedule"),
        ({"seed": -1}, "seed"),
        ({"epochs": 1.5}, "epochs is 1.5: it must be of type int"),
        ({"learning_rate": "3e-4"}, "write 3.0e-4"),
        ({"betas": (1.5, 0.9)}, "betas"),
        ({"class_weights": (0.0, 0.0)}, "class_weights are"),
        ({"class_weights": (1.0, -1.0)}, "class_weights are"),
        ({"class_weights": ("a", "b")}, "class_weights are"),
        ({"num_workers": -1}, "num_workers"),
        ({"tag": "dsd/long"}, "tag"),
        ({"precision": "bf16-true"}, "bf16-mixed"),
        ({"generator": "s2oformer", "upsampling": "nearest"}, "upsampling"),
        ({"generator": "hat", "upsampling": "bilinear"}, "HAT has no coarser maps"),
        ({"dsd_schedule": "never"}, "dsd_schedule"),
        ({"dsd_schedule": "frozen", "dsd_warmup": 2}, "dsd_warmup"),
        ({"dsd_schedule": "warm-up", "l1_weight": 0.0, "dsd_weight": 1.0}, "another loss than the DSD's"),
        ({"devices": 3}, "devices"),
        ({"precision": "bf17"}, "bf16-mixed"),
        ({"precision": "16-mixed", "device": "cpu"}, "no CPU computes in"),
        ({"betas": (0.9,)}, "betas are .*give two"),
        ({"betas": 0.9}, "betas is 0.9: it must be a list"),
        ({"class_weights": 1.0}, "class_weights is 1.0: it must be a list"),
        ({"crop_size": "64"}, "crop_size is '64'"),
        ({"sar_shift": 1.5}, "sar_shift is 1.5"),
        ({"sar_shift": float("nan")}, "sar_shift is nan"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"label_size_m": -500.0}, "label_size_m is -500.0"),
        ({"ssim_weight": float("nan")}, "ssim_weight is nan"),
        ({"run_root": ""}, "run_root is empty: give a folder"),
        ({"num_nodes": 2, "batch_size": 4}, "num_nodes is 2, .*torchrun"),
        ({"tag": "x" * 201}, "must have 1 to 200 bytes"),
        ({"tag": "x\0y"}, "no / and NUL"),
        ({"batch_size": 1024}, "batch_size 1024 is more than the [0-9]+ training patches"),
        ({"ssim_weight": 1.0, "crop_size": 8, "embed_dim": 4}, "ssim_weight needs images of 11 pixels, not 8"),
        ({"class_weights": (1.0,)}, "class_weights has 1 numbers"),
        ({"initial_weights": "nowhere"}, "nowhere does not exist"),
        ({"device": "mps"}, "device is 'mps'"),
        ({"device": "cuda:x"}, "device is 'cuda:x': choose"),
        ({"device": "cpu:0"}, "device is 'cpu:0': choose"),
        pytest.param(
            {"device": "cuda"},
            "device 'cuda'.* cannot be had here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can be had"),
        ),
        ({"label_merge": "five"}, "no merge 'five': .*twelve"),
        ({"generator": "vgg"}, "vgg"),
        ({"dataset_root": "/nowhere"}, "nowhere"),
        ({"crop_size": 4096}, "crop_size"),
        ({"epochs": True}, "epochs is True: it must be of type int"),
        ({"checkpoint_minutes": -1.0}, "checkpoint_minutes is -1.0"),
        ({"num_nodes": 0}, "num_nodes is 0: it must be positive"),
        ({"accumulate": 0}, "accumulate is 0: it must be positive"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"tag": "\xe9" * 101}, "must have 1 to 200 bytes"),
        ({"betas": (0.9, 1.0)}, "betas are"),
        ({"dsd_schedule": "warm-up", "dsd_warmup": 0}, "dsd_warmup is 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_work(small, change, says):
    with pytest.raises(InputError, match=says):
        training.train(dataclasses.replace(small, **change))
    assert not (small.run / "last.ckpt").exists()
    if not {"device", "num_nodes"} & {*change}:  # which another machine may have
        with pytest.raises(InputError, match=says):
            budget.estimate(dataclasses.replace(small, **change))


def test_the_least_that_can_be_trained_on_is_taken(small, describe, tmp_path):
    root = shutil.copytree(small.dataset_root, tmp_path / "data")
    small = dataclasses.replace(small, dataset_root=str(root))
    for change in (
        {"batch_size": len(small.training_data())},
        {"crop_size": training.SMALLEST, "gan_weight": 1.0},
        {"crop_size": training.SSIM_WINDOW, "ssim_weight": 1.0},
    ):
        training.checked_data(dataclasses.replace(small, **change))

    def cut(size):
        for path in root.glob("*/*.npy"):
            np.save(path, np.load(path)[..., :size, :size])
        describe(root, patch_size=size)

    cut(training.SSIM_WINDOW)
    training.checked_data(dataclasses.replace(small, crop_size=None))
    cut(training.SSIM_WINDOW - 1)
    with pytest.raises(InputError, match="patches below 11 pixels, which SSIM cannot measure"):
        training.checked_data(dataclasses.replace(small, crop_size=None))


def test_checkpoints_that_cannot_be_used(small):
    with pytest.raises(InputError, match=r"config\.json does not exist"):
        checkpoints.load_generator(small.run)
    run = training.train(dataclasses.replace(small, epochs=1))
    (run / "generator.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"generator\.safetensors"):
        checkpoints.load_generator(run)
    config = json.loads((run / "config.json").read_text())
    config["generator"]["embed_dimm"] = config["generator"].pop("embed_dim")
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="embed_dimm"):
        checkpoints.load_generator(run)
    create_generator("unet", in_channels=2, out_channels=3, embed_dim=4, levels=4).save_pretrained(run)
    with pytest.raises(InputError, match="states no bands or units or limits of sar"):
        checkpoints.load_generator(run)
    other = Generator.from_pretrained(run)
    other.about = {"sar": {"bands": ["VV", "VH"], "units": "dB", "limits": [[-25, 0], [-32, -5]]}, "opt": {"bands": []}}
    other.save_pretrained(run)
    with pytest.raises(InputError, match="states no units or limits of opt"):
        checkpoints.load_generator(run)
    good = {"bands": ["red", "green", "blue"], "units": "reflectance", "limits": [[0, 0.3]] * 3}
    for wrong, says in (
        ({"bands": "red"}, "bands 'red': name each of the network's 3"),
        ({"bands": ["red"]}, "name each of the network's 3"),
        ({"bands": [1, 2, 3]}, "name each of the network's 3"),
        ({"units": "dB"}, "units 'dB': they are reflectance or 8-bit"),
        ({"limits": [0, 0.3] * 3}, "a low and a high one for each of 3"),
        ({"limits": None}, "a low and a high one for each of 3"),
        ({"limits": [[0, 0.3]]}, "a low and a high one for each of 3"),
        ({"limits": {"low": 0, "high": 0.3}}, "a low and a high one for each of 3"),
        ({"limits": [["a", "b"]] * 3}, "a low and a high one for each of 3"),
        ({"limits": [[0.3, 0]] * 3}, "low must be below high"),
    ):
        other.about["opt"] = good | wrong
        other.save_pretrained(run)
        with pytest.raises(InputError, match=rf"config\.json states of opt .*{says}"):
            checkpoints.load_generator(run)
    other.about["sar"]["units"] = "linear"
    other.save_pretrained(run)
    with pytest.raises(InputError, match=r"config\.json states of sar units 'linear': they are dB or 8-bit"):
        checkpoints.load_generator(run)
    for nothing in (5, ["bands", "units", "limits"]):
        other.about["sar"] = nothing
        other.save_pretrained(run)
        with pytest.raises(InputError, match=r"config\.json states no bands or units or limits of sar"):
            checkpoints.load_generator(run)


def test_the_learning_rate_follows_half_a_cosine(small):
    data = Triplets(small.dataset_root, "train", crop_size=32)
    fabric = training.fabric_.Fabric(accelerator="cpu", devices=1)
    networks = training._Networks(dataclasses.replace(small, schedule="cosine", epochs=10), data, fabric)
    networks.begin_epoch(5)
    rates = [group["lr"] for optimizer in networks.optimizers.values() for group in optimizer.param_groups]
    assert all(math.isclose(rate, small.learning_rate / 2) for rate in rates)


@pytest.mark.parametrize(
    ("schedule", "sees", "learns", "judges"),
    [
        ("joint", [True, True, True], [True, True, True], [True, True, True]),
        ("warm-up", [True, True, True], [True, True, True], [False, True, True]),
        ("frozen", [True, False, False], [True, False, False], [False, True, True]),
        ("random", [True, True, True], [False, False, False], [False, True, True]),
    ],
)
def test_a_dsd_sees_learns_and_judges_as_scheduled(small, schedule, sees, learns, judges):
    chosen = dataclasses.replace(small, epochs=3, dsd_schedule=schedule)
    data = chosen.training_data()
    batch = torch.utils.data.default_collate([data[i] for i in range(4)])
    networks = training._Networks(chosen, data, training.fabric_.Fabric(accelerator="cpu", devices=1))
    dsd = networks.modules["dsd"]
    for epoch, (sees_now, learns_now, judges_now) in enumerate(zip(sees, learns, judges, strict=True)):
        networks.begin_epoch(epoch)
        before = [[value.clone() for value in values()] for values in (dsd.buffers, dsd.parameters)]
        losses = networks.step(batch)
        after = (dsd.buffers(), dsd.parameters())
        moved = [any((a != b).any() for a, b in zip(*pair, strict=True)) for pair in zip(before, after, strict=True)]
        assert moved == [sees_now, learns_now] and ("feature" in losses) == judges_now


def test_the_best_epoch_is_one_that_the_dsd_has_judged(small, monkeypatch):
    scores = iter([30.0, 20.0, 10.0])
    monkeypatch.setattr(training._Networks, "validate", lambda self, data: {"validation_psnr": next(scores)})
    run = training.train(dataclasses.replace(small, epochs=3, dsd_schedule="warm-up"))
    assert records.read(run)["best_epoch"] == 1


def test_without_a_dsd_any_epoch_may_be_the_best(small, monkeypatch):
    scores = iter([30.0, 20.0, 10.0])
    monkeypatch.setattr(training._Networks, "validate", lambda self, data: {"validation_psnr": next(scores)})
    alone = dataclasses.replace(small, epochs=3, dsd_schedule="warm-up", dsd_warmup=3, dsd_weight=0.0)
    assert records.read(training.train(alone))["best_epoch"] == 0


def test_a_replaced_run_never_overwrites_one_that_was_replaced_before(tmp_path):
    for number in range(3):
        checkpoints.begin(tmp_path / "run", {"number": number})
    shutil.rmtree(tmp_path / "superseded" / "run.0")
    checkpoints.begin(tmp_path / "run", {"number": 3})
    kept = {path.name: json.loads((path / "key.json").read_text())["number"] for path in tmp_path.glob("*/run.*")}
    assert kept == {"run.0": 2, "run.1": 1}


def test_what_a_killed_process_was_writing_is_cleared_away_and_what_it_had_written_stays(tmp_path):
    checkpoints.begin(tmp_path / "run", {"number": 0})
    for name in (".last.99999.part.ckpt", "last.ckpt"):
        (tmp_path / "run" / name).touch()
    checkpoints.begin(tmp_path / "run", {"number": 0})
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"key.json", "last.ckpt"}


def test_the_order_is_shared_among_processes_and_begins_anywhere():
    alone = training.EpochOrder(50, 8, seed=3)
    alone.epoch = 2
    batches = list(alone)
    parts = []
    for rank in range(2):
        part = training.EpochOrder(50, 8, seed=3, rank=rank, world_size=2)
        part.epoch, part.start = 2, 4
        parts.append(list(part))
    assert [first + second for first, second in zip(*parts, strict=True)] == batches[4:]
    assert len(batches) == 6 and len({item for batch in batches for item in batch}) == 48


@pytest.mark.parametrize("change", [{"num_workers": 2}, {"resident": True}])
def test_batches_are_the_same_however_they_are_fed(small, change):
    def batches(parameters):
        data = parameters.training_data()
        order = training.EpochOrder(len(data), 8, parameters.seed)
        fabric = training.fabric_.Fabric(accelerator="cpu", devices=1)
        loader = (
            training.Resident(data, order, fabric.device)
            if parameters.resident
            else training._loader(data, order, parameters, fabric)
        )
        for order.epoch in range(2):
            data.set_epoch(order.epoch)
            yield from loader

    small = dataclasses.replace(small, sar_shift=0.2)
    pairs = list(zip(batches(small), batches(dataclasses.replace(small, **change)), strict=True))
    assert len(pairs) > 4 and not torch.equal(pairs[0][0]["sar"], pairs[-1][0]["sar"])
    for first, second in pairs:
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_learn_what_one_does(small, tmp_path, monkeypatch):
    """A transformer without BatchNorm or stochastic depth and a DSD whose BatchNorm stands still: nothing is left that
    a process's part decides. Stochastic depth is drawn by each process for itself: with it, weights differ by steps.
    """
    config = training.Parameters.generator_config
    monkeypatch.setattr(training.Parameters, "generator_config", lambda *of: config(*of) | {"drop_path_rate": 0.0})
    forward = torch.nn.BatchNorm2d.forward
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", lambda self, x: forward(self.eval(), x))
    chosen = dataclasses.replace(small, generator="hat", embed_dim=8, ssim_weight=0.5, dsd_schedule="random")
    one = training.train(dataclasses.replace(chosen, run_root=str(tmp_path / "one")))
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)  # as in a notebook: forked, which is faster than spawned
    two = training.train(dataclasses.replace(chosen, run_root=str(tmp_path / "two"), devices=2))
    start = training._Networks(chosen, chosen.training_data(), training.fabric_.Fabric(accelerator="cpu", devices=1))
    weights = [load_file(run / "generator.safetensors") for run in (one, two)]
    moved = {name: (value - start.bare.state_dict()[name]).abs().max() for name, value in weights[0].items()}
    assert max(moved.values()) > 1e-3  # a hundred times what is tolerated
    torch.testing.assert_close(*weights, atol=1e-5, rtol=0)
    curves = [records.read(run)["curves"][0] for run in (one, two)]
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
    assert records.read(two)["hardware"]["devices"] == 2


def test_statistics_are_averaged_over_processes(small, monkeypatch):
    average = training._Networks._average_buffers

    def watched(networks):
        def gathered():
            owners = [networks.modules[name].module for name in ("generator", "dsd")] + [networks.feature_loss]
            values = [value.flatten() for owner in owners for value in owner.buffers() if value.is_floating_point()]
            return networks.fabric.all_gather(torch.cat(values))  # (processes, values)

        before = gathered()
        average(networks)
        after = gathered()
        assert not torch.equal(before[0], before[1])  # each has seen its own part
        for process in after:
            torch.testing.assert_close(process, before.mean(0))

    monkeypatch.setattr(training._Networks, "_average_buffers", watched)
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    run = training.train(dataclasses.replace(small, epochs=1, devices=2))
    assert records.read(run)["hardware"]["devices"] == 2


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    path, key = tmp_path / "last.ckpt", {"data": "a"}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 2**20))
    checkpoints.save(path, {"key": key, "weights": torch.ones(10)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"last\.ckpt could not be written .*; 3 MiB are free there\): make room"):
            checkpoints.save(path, {"key": key, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.load(path, key)["weights"].sum() == 10
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_disk_that_fills_up_is_said_and_the_run_goes_on_later(small, monkeypatch):
    whole = records.read(training.train(dataclasses.replace(small, tag="whole")))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for module, name in ((checkpoints, "begin"), (training.SummaryWriter, "add_image"), (records, "log_reading")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, full)
            with pytest.raises(
                InputError, match=r"run_root '.*', or its disk, takes no more \(No space left on device\): make room"
            ):
                training.train(small)
    assert records.read(training.train(small))["metrics"] == whole["metrics"]


def test_a_disk_that_fails_otherwise_is_not_called_full(small, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoints, "begin", broken)
    with pytest.raises(OSError, match="Input/output error"):
        training.train(small)


@pytest.mark.parametrize("devices", [1, 4])
def test_processes_of_torchrun_are_those_of_the_run(small, devices, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"torchrun has started 2 processes, 2 of them here, .* {devices} devices"):
        training.train(dataclasses.replace(small, devices=devices))
    assert not small.run.exists()


def test_another_runs_checkpoint_is_refused(small):
    run = training.train(dataclasses.replace(small, epochs=1))
    key = json.loads((run / "key.json").read_text())
    for content, says in [({"key": key | {"data": "other"}}, "other parameters, data or code"), ([1], "other")]:
        torch.save(content, run / "last.ckpt")
        (run / "record.json").unlink(missing_ok=True)
        with pytest.raises(InputError, match=says):
            training.train(dataclasses.replace(small, epochs=1))
    torch.save({"key": key, "weights": torch.ones(9999)}, run / "last.ckpt")
    changed = bytearray((run / "last.ckpt").read_bytes())
    changed[len(changed) // 2] ^= 1  # a weight, which would be read as another number
    for content in (b"PK damaged", b"", changed):
        (run / "last.ckpt").write_bytes(content)
        with pytest.raises(InputError, match=r"is no checkpoint \(.+\): delete it"):
            training.train(dataclasses.replace(small, epochs=1))
    (run / "key.json").write_bytes(b"")  # a disk was full
    training.train(dataclasses.replace(small, epochs=1))
    assert records.read(run) and (run.parent / "superseded" / f"{run.name}.0/last.ckpt").is_file()


def test_a_checkpoint_of_a_gpu_is_read_where_there_is_none(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        checkpoints.save(tmp_path / "last.ckpt", {"key": {}, "weights": torch.ones(3)})
    weights = checkpoints.load(tmp_path / "last.ckpt", {})["weights"]
    assert weights.device.type == "cpu" and weights.tolist() == [1, 1, 1]


def test_random_states_are_all_restored():
    state = checkpoints.random_state()
    first = torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()
    checkpoints.set_random_state(state)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == first


def test_what_does_not_fit_the_disk_is_refused_before_work(small, monkeypatch):
    monkeypatch.setattr(training.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 10, 10))
    with pytest.raises(InputError, match="MiB for checkpoints"):
        training.train(small)
    assert not (small.run / "last.ckpt").exists()


def test_a_queue_of_runs(small, tmp_path, monkeypatch, capsys):
    runs = tmp_path / "runs.yml"
    entry = dataclasses.asdict(dataclasses.replace(small, epochs=1, dsd_weight=0.0))
    runs.write_text(json.dumps([entry, entry | {"tag": "other"}]))
    monkeypatch.setattr("sys.argv", ["training", str(runs)])
    training.main()
    assert capsys.readouterr().out.split() == [str(tmp_path / f"unet-{tag}-s0") for tag in ("dsd", "other")]
    for content, says in (
        (b"[{epoch: 3}]", ", run 1: there is no parameter epoch"),
        (b"[{dataset_root: here}]", ", run 1: run_root must be given"),
        (b"{epochs: 3}", " is no list of runs: give a list"),
        (b"[{epochs: 3, epochs: 2}]", " is no list of runs: 'epochs' is given twice"),
        ("[{tag: \xe9poch}]".encode("latin-1"), " is no list of runs: .*decode"),
        (json.dumps([entry, entry | {"epochs": 2}]).encode(), ", run 2 would take the place of .*unet-dsd-s0"),
    ):
        runs.write_bytes(content)
        with pytest.raises(SystemExit) as end:
            training.main()
        assert end.value.code == 2 and re.match(rf"error: .*runs\.yml{says}", capsys.readouterr().err)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["a.yml", "b.yml"]])
def test_a_queue_of_runs_says_how_it_is_called(monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["training", *arguments])
    with pytest.raises(SystemExit, match=r"^usage: python -m s2olib.training RUNS.yml"):
        training.main()


def test_explaining_the_code_makes_no_run_stale(monkeypatch):
    prints = []
    for code in (
        'def loss(x):\n    return {"l1": abs(x)}\n',
        '"""Losses."""\n\n\ndef loss(x):  # of an image\n    """Its size."""\n    return {"l1": abs(\n        x)}\n',
        'def loss(x):\n    return {"l2": abs(x)}\n',
    ):
        monkeypatch.setattr(project, "SOURCES", {Path("losses.py"): code.encode(), Path("metrics.py"): b""})
        prints.append(project.code_fingerprint("losses"))
    assert prints[0] == prints[1] != prints[2]
    for table in (b"water: [1]", b"water:\n- 1  # and nothing else", b"water: [2]"):
        monkeypatch.setitem(project.SOURCES, Path("legends/map.yml"), table)
        prints.append(project.code_fingerprint("losses", "legends"))
    assert prints[2] != prints[3] == prints[4] != prints[5]


def made(chosen):
    """The networks of a run that has not begun, and a batch for them."""
    data = chosen.training_data()
    fabric = training.fabric_.Fabric(accelerator="cpu", devices=1)
    return training._Networks(chosen, data, fabric), default_collate([data[i] for i in range(4)])


def test_each_epoch_is_ordered_and_cropped_anew_and_curves_hold_means(small, monkeypatch):
    seen, step = [], training._Networks.step

    def watched(networks, batch):
        losses = step(networks, batch)
        seen.append((batch["item"].tolist(), batch["sar"].mean((1, 2, 3)).tolist(), losses["l1"]))
        return losses

    monkeypatch.setattr(training._Networks, "step", watched)
    monkeypatch.setattr(training, "_rehearse", lambda *_: None)
    record = records.read(training.train(small))
    curves, samples, cost = record["curves"], record["samples_seen"], record["cost"]
    assert samples == sum(len(items) for items, *_ in seen) < len(small.training_data()) * small.epochs
    assert cost["samples_per_second"] == pytest.approx(samples / cost["train_seconds"])
    epochs = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    for epoch, curve in zip(epochs, curves, strict=True):
        assert curve["l1"] == pytest.approx(np.mean([l1 for *_, l1 in epoch]))
    assert [items for items, *_ in epochs[0]] != [items for items, *_ in epochs[1]]
    first, second = (
        {item: mean for items, means, _ in epoch for item, mean in zip(items, means, strict=True)} for epoch in epochs
    )
    assert any(first[item] != second[item] for item in first.keys() & second.keys())


def test_a_generators_loss_is_the_weighted_sum_of_what_is_noted(small):
    weights = {"l1": 2.0, "dsd": 0.5, "gan": 0.25, "ssim": 0.125}
    given = {f"{name}_weight": weight for name, weight in weights.items()}
    networks, batch = made(dataclasses.replace(small, betas=(0.5, 0.9), **given))
    assert {group["betas"] for of in networks.optimizers.values() for group in of.param_groups} == {(0.5, 0.9)}
    networks.totals, fake = {}, networks.bare(batch["sar"])
    loss, noted = networks._generator_loss(batch, fake).item(), networks.totals
    names = {"l1": "l1", "dsd": "feature", "gan": "adversarial", "ssim": "ssim"}
    assert loss == pytest.approx(sum(weights[name] * noted[of].item() for name, of in names.items()))
    assert noted["l1"].item() == pytest.approx((fake - batch["opt"]).abs().mean().item())


def test_the_patchgan_learns_which_pair_is_real_and_from_its_own_loss_alone(small, monkeypatch):
    networks, batch = made(dataclasses.replace(small, gan_weight=1.0))
    patchgan, asked = networks.modules["patchgan"], []
    expected = patchgan.train()(batch["sar"], batch["opt"])

    def watched(real, fake):
        asked.append(real)
        return (real + fake).mean() * 0

    monkeypatch.setattr(training, "discriminator_loss", watched)
    before = [parameter.clone() for parameter in patchgan.parameters()]
    networks.step(batch)
    torch.testing.assert_close(asked[0], expected)
    assert all(torch.equal(a, b) for a, b in zip(before, patchgan.parameters(), strict=True))


def test_networks_train_again_after_a_validation(small):
    networks, batch = made(small)
    networks.validate(Triplets(small.dataset_root, "validation"))
    networks.step(batch)
    assert all(module.training for module in networks.modules["generator"].modules())
    assert networks.modules["dsd"].training


def test_a_validation_moves_no_statistics(small):
    networks, _ = made(small)
    buffers = [buffer for module in networks.modules.values() for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    networks.validate(Triplets(small.dataset_root, "validation"))
    assert before and all(torch.equal(a, b) for a, b in zip(before, buffers, strict=True))


def test_a_network_begins_alike_whatever_stands_beside_it(small):
    alone, beside = (made(dataclasses.replace(small, dsd_weight=weight, gan_weight=1.0))[0] for weight in (0.0, 0.02))
    for name, module in alone.modules.items():
        other = beside.modules[name].state_dict()
        assert all(torch.equal(value, other[of]) for of, value in module.state_dict().items())


def test_no_gradient_is_left_for_the_next_step(small):
    networks, batch = made(dataclasses.replace(small, gan_weight=1.0))
    networks.step(batch)
    assert all(value.grad is None for module in networks.modules.values() for value in module.parameters())


def test_a_rehearsal_is_of_steps_in_which_the_dsd_judges(small, monkeypatch):
    judged = []

    def rehearsed(networks, batch):
        judged.append(networks.dsd_judges)
        if len(judged) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._Networks, "step", rehearsed)
    with pytest.raises(KeyboardInterrupt):
        training.train(dataclasses.replace(small, epochs=10, dsd_schedule="warm-up"))
    assert judged == [True, True] and not small.run.exists()


def test_the_peak_of_memory_is_in_gib():
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert 0.05 < training.peak_memory(torch.device("cpu")) < most


def test_what_validation_says_of_the_dsd(small):
    networks, _ = made(small)
    data = Triplets(small.dataset_root, "validation")
    row = networks.validate(data)
    dsd = networks.modules["dsd"].module.eval()
    batch = default_collate([data[i] for i in range(len(data))])
    with torch.no_grad():
        logits = dsd(batch["sar"], batch["opt"])[0]
        assert row["validation_miou"] == pytest.approx(mean_iou(logits.argmax(1), batch["lulc"], data.num_classes))
        parts = [slice(i, i + 8) for i in range(0, len(data), 8)]
        variances = [dsd.deepest(batch["sar"][p], batch["opt"][p]).var((0, 2, 3), correction=0).mean() for p in parts]
    assert row["feature_variance"] == pytest.approx(np.mean(variances), rel=1e-4)
    assert row["optical_sensitivity"] > 0


def test_one_weight_of_the_dsd_that_is_no_number_is_found(small):
    networks, _ = made(small)
    assert networks.finite()
    with torch.no_grad():
        next(networks.modules["dsd"].parameters()).view(-1)[0] = math.nan
    assert not networks.finite()


def test_parameters_reach_the_network(small):
    changed = {"embed_dim": 12, "depths": [1, 1], "num_heads": [3, 3], "window_size": 4, "mlp_ratio": 3.0}
    changed |= {"generator": "hat", "checkpointing": True}
    config = dataclasses.replace(small, **changed).generator_config(2, 3, 64)
    assert {name: value for name, value in changed.items() if name != "generator"}.items() <= config.items()


def test_a_config_states_bands_units_and_limits_of_both_images_and_which_data_they_are(small, tmp_path):
    data = Triplets(small.dataset_root, "train")
    network = create_generator("unet", **small.generator_config(2, 3, 32))
    checkpoints.save_generator(network, tmp_path / "saved", data.info, data.limits, small)
    about = checkpoints.load_generator(tmp_path / "saved")[1]
    for image in ("sar", "opt"):
        assert about[image] == data.info[image] | {"limits": data.limits[image]}
    assert about["data"] == json.loads(Path(small.dataset_root, "dataset.json").read_text())["fingerprint"]
    assert about["code"] == project.code_fingerprint() != about["data"] and about["parameters"] == small.lasting()


def test_semantic_accuracy_is_of_what_was_generated(small):
    def flat(sar):
        return torch.zeros(len(sar), 3, *sar.shape[2:])

    table = evaluate(flat, small.dataset_root, "test")
    assert table["semantic_accuracy"].mean() < table["semantic_accuracy_real"].mean() - 0.2
    assert evaluate(flat, small.dataset_root, "test").equals(table)


def test_pixels_without_land_cover_are_neither_learned_from_nor_judged(small, tmp_path):
    root = shutil.copytree(small.dataset_root, tmp_path / "data")
    for split, nothing in (("train", np.s_[:, :20]), ("test", np.s_[0]), ("test", np.s_[1, :, :40])):
        codes = np.load(root / split / "lulc.npy")
        codes[nothing] = 0
        np.save(root / split / "lulc.npy", codes)
    table, judge = evaluate(lambda sar: sar[:, [0, 1, 0]], root, "test"), Judge.fit(Triplets(root, "train"))
    item = Triplets(root, "test")[1]
    known = item["lulc"] < 4
    assert not known[:, :40].any() and known[:, 40:].float().mean() > 0.9
    for column, image in (("semantic_accuracy", item["sar"][[0, 1, 0]]), ("semantic_accuracy_real", item["opt"])):
        right = (judge(image[None])[0] == item["lulc"])[known].float().mean().item()
        assert np.isnan(table[column][0]) and table[column][1] == pytest.approx(right)


def test_what_makes_another_run(small):
    orders = [list(training.EpochOrder(50, 8, seed=seed)) for seed in (0, 1)]
    assert orders[0] != orders[1]
    data = [dataclasses.replace(small, seed=seed).training_data() for seed in (0, 1)]
    assert any(data[0].window(i) != data[1].window(i) for i in range(8))
    assert small.lasting() != dataclasses.replace(small, learning_rate=1e-3).lasting()
    loaded = {getattr(value, "__module__", None) or "" for value in vars(training).values()}
    modules = {name.removeprefix("s2olib.").replace(".", "/") for name in loaded if name.startswith("s2olib.")}
    for module in modules - {"project"}:
        assert any(module == code or module.startswith(f"{code}/") for code in training.CODE), module


def test_what_says_where_and_how_fast_makes_no_other_run(small):
    where = {"dataset_root": "here", "run_root": "there", "device": "cuda", "num_workers": 2, "resident": True}
    where |= {"compiled": True, "checkpoint_minutes": 1.0}
    assert dataclasses.replace(small, **where).lasting() == small.lasting()
    assert small.lasting().keys() == dataclasses.asdict(small).keys() - where.keys()


def test_no_epoch_of_one_seed_is_in_the_order_of_anothers():
    orders = [training.EpochOrder(50, 8, seed=seed) for seed in (0, 1)]
    orders[0].epoch = 1
    assert list(orders[0]) != list(orders[1])


def test_a_network_of_your_own_is_trained_and_loaded_as_the_documentation_says(small, monkeypatch, tmp_path):
    page = (Path(__file__).parents[1] / "book/reproduce/own.md").read_text()
    names = {"__name__": "mine"}
    exec(page.split("*A network of your own*")[1].split("```python\n")[1].split("```")[0], names)
    monkeypatch.setitem(GENERATORS, "mine", names["Mine"])
    own = dataclasses.replace(small, generator="mine", checkpointing=True)
    cost = budget.estimate(own)
    weights, macs = complexity(names["Mine"](2, 3, embed_dim=4), (1, 2, 32, 32))
    assert cost["generator_gmac"] == macs / 1e9
    run = training.train(own)
    record = records.read(run)
    assert record["complexity"]["parameters"] == weights == 4 * (2 * 81 + 1) + 3 * (4 * 81 + 1)
    network, about = checkpoints.load_generator(run)
    assert type(network) is names["Mine"] and about["generator"]["embed_dim"] == 4
    measured = evaluate(network, small.dataset_root, "test")
    assert measured["psnr"].mean() == pytest.approx(record["metrics"]["psnr"]["mean"])
    network.save_pretrained(tmp_path / "saved")
    again, sar = Generator.from_pretrained(tmp_path / "saved"), torch.rand(1, 2, 40, 24)
    assert torch.equal(again(sar), network(sar)) and again(sar).shape == (1, 3, 40, 24)


@pytest.mark.parametrize("name", ["unet", "hat", "s2oformer"])
def test_generators_are_exported(small, name):
    network = create_generator(name, **dataclasses.replace(small, generator=name).generator_config(2, 3, 32)).eval()
    sar = torch.rand(2, 2, 32, 32) * 2 - 1
    exported = torch.export.export(network, (sar,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    other = torch.rand(5, 2, 32, 32) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(exported.module()(other), network(other), atol=1e-5)
