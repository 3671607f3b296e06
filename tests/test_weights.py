"""Shipped weights load and say what they are; what may not be shipped is not."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from s2olib import records
from s2olib.checkpoints import load_generator
from s2olib.generators import create_generator
from s2olib.generators.pretrained import Generator
from s2olib.project import InputError
from s2olib.training import Parameters, train

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import execute  # noqa: E402
import ship  # noqa: E402

SHIPPED = sorted(path.parent for path in (ROOT / "weights").glob("*/config.json"))


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_weights_make_pictures_and_belong_to_a_published_record(folder):
    network = Generator.from_pretrained(folder)
    channels = len(network.about["sar"]["bands"])
    sar = torch.rand(1, channels, 40, 72, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        picture = network(sar)
        assert picture.shape == (1, 3, 40, 72) and picture.isfinite().all()
        assert (network(-sar) - picture).abs().mean() > 1e-3, "the picture does not depend on the radar"
    profile, generator = folder.name.rsplit("-", 1)
    record = records.read(ROOT / "book" / "results" / profile / records.run_name(generator, "dsd", 0))
    assert record["dataset"]["fingerprint"] == network.about["data"]
    assert record["parameters"] == network.about["parameters"]
    card = (folder / "README.md").read_text()
    assert "not for measurement" in card and "{mean:.2f}".format(**record["metrics"]["psnr"]) in card
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15 * 2**20


def card_of(patches: int, low: float = 0.1) -> str:
    """The card of a run with so many test patches of one place, each of 20 dB, SSIM 0.5 and skill 0.25."""
    record = records.read(ROOT / "book" / "results" / "ombria" / "s2oformer-dsd-s0") | {"best_epoch": 4}
    record["metrics"]["skill"]["low"] = low
    scores = {"psnr": 20.0, "ssim": 0.5, "skill": 0.25, "mse_mean_colour": 650.0}
    frame = pd.DataFrame({"id": [f"{i:02}" for i in range(patches)], "group": "kaga"}).assign(**scores)
    return ship.model_card(record, frame, {"parameters": {"credit": "Somebody"}}, "mit")


def test_a_card_holds_each_score_in_its_column_and_of_one_cluster_no_interval():
    assert "| where | patches in clusters | PSNR (dB) | SSIM | skill |" in card_of(30)
    scores = "20.00 [20.00, 20.00] | 0.500 [0.500, 0.500] | 0.250 [0.250, 0.250]"
    assert f"| all | 30 in 3 | {scores} |" in card_of(30)
    assert "| all | 5 in 1 | 20.00 | 0.500 | 0.250 |" in card_of(5)
    assert "(number 5 is kept)" in card_of(30), "epochs are counted from 1"


def test_a_card_scores_each_place_where_there_are_several():
    assert "| kaga |" not in card_of(30)
    record = records.read(ROOT / "book" / "results" / "ombria" / "s2oformer-dsd-s0")
    places = [
        pd.DataFrame({"id": [f"{place}{i:02}" for i in range(30)], "group": place, "psnr": psnr})
        for place, psnr in (("mikuni", 10.0), ("kaga", 20.0))
    ]
    patches = pd.concat(places, ignore_index=True).assign(ssim=0.5, skill=0.25, mse_mean_colour=650.0)
    card = ship.model_card(record, patches, {"parameters": {"credit": "Somebody"}}, "mit")
    assert "| kaga | 30 in 3 | 20.00 [20.00, 20.00] |" in card and "| mikuni | 30 in 3 | 10.00 [10.00, 10.00] |" in card


def test_a_card_says_from_what_and_how_the_weights_were_learned():
    run = ROOT / "book" / "results" / "ombria" / "s2oformer-dsd-s0"
    record, patches = records.read(run) | {"seed": 3}, records.read_patches(run)
    card = ship.model_card(record, patches, {"parameters": {"credit": "Somebody"}}, "mit", "amplitude over its mean")
    assert "\n# s2oformer, trained on ombria-20m\n" in card
    assert "\n104 test patches, none of which it saw in training (albania, france);\n" in card
    limits = [[0.0, 255.0]]
    for row in (
        f"| input | VV, 8-bit, limits {limits}, (B, 1, H, W) in [-1, 1] |",
        f"| output | SWIR, NIR, green, 8-bit, limits {3 * limits}, (B, 3, H, W) in [-1, 1] |",
        "| pixels | 20 m |",
        "| scaling | amplitude over its mean |",
        "| weights | 66,851 |",
        "| training | 400 patches, 12,000 crops in 30 epochs (number 21 is kept), seed 3; "
        "a discriminator that learned pseudo-categories (dark, red-brown, mixed, green) |",
        "| data | Somebody |",
    ):
        assert f"\n{row}\n" in card
    record["dataset"] |= {"synthetic": True, "lulc": None, "pixel_size_m": None}
    card = ship.model_card(record, patches, {"parameters": {"credit": ""}}, "mit")
    for row in ("| pixels | of unknown size |", "| scaling | not stated |", "| data | folder (synthetic) |"):
        assert f"\n{row}\n" in card
    assert "seed 3; a discriminator that learned no categories |" in card
    record["parameters"]["dsd_weight"] = 0.0
    card = ship.model_card(record, patches, {"parameters": {"credit": ""}}, "mit")
    assert "seed 3; no discriminator of meaning |" in card


def test_the_command_line_ships_what_it_names(monkeypatch, capsys):
    given = ["socal", "hat", "--licence", "mit", "--scaling", "amplitude"]
    monkeypatch.setattr("sys.argv", ["ship.py", *given])
    monkeypatch.setattr(ship, "ship", lambda *given: given)
    ship.main()
    assert capsys.readouterr().out == "('socal', 'hat', 'mit', 'amplitude')\n"


@pytest.mark.parametrize(
    ("low", "said", "warned"),
    [
        (0.1, "above 0 by its whole interval", False),
        (-0.1, "not above 0 by its interval", True),
        (np.nan, "of one cluster, and has no interval", True),
    ],
)
def test_a_card_says_whether_the_network_is_better_than_one_colour(low, said, warned):
    card = card_of(30, low)
    assert f"Here it\nis {said}" in card and ("not shown to be better than that colour" in card) == warned


def test_the_card_of_a_network_that_nobody_trained_states_no_licence(tmp_path):
    create_generator("unet", in_channels=1, out_channels=3, embed_dim=4, levels=2).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "license" not in card and "not for measurement" in card


@pytest.mark.parametrize("limits", [[-np.inf, 0.0], [-25.0, np.inf], [np.nan, 0.0], [0.0, -25.0], [0.0, 0.0]])
def test_limits_that_scale_nothing_are_refused(tmp_path, limits):
    create_generator("unet", in_channels=2, out_channels=1, embed_dim=4, levels=2).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    stated = {"bands": ["VV", "VH"], "units": "dB", "limits": [[-25.0, 0.0], limits]}
    optical = {"bands": ["red"], "units": "8-bit", "limits": [[0, 255]]}
    (tmp_path / "config.json").write_text(json.dumps(config | {"sar": stated, "opt": optical}))
    with pytest.raises(InputError, match=r"config\.json states of sar limits .*: low must be below high"):
        load_generator(tmp_path)
    right = stated | {"limits": [[-25, 0], [-32, -5]]}
    (tmp_path / "config.json").write_text(json.dumps(config | {"sar": right, "opt": optical}))
    assert load_generator(tmp_path)[1]["sar"] == right


def test_weights_in_whole_numbers_and_a_config_nested_without_end_are_refused(tmp_path):
    network = create_generator("unet", in_channels=1, out_channels=1, embed_dim=4, levels=2)
    network.save_pretrained(tmp_path)
    whole = {name: value.to(torch.int8) for name, value in network.state_dict().items()}
    save_file(whole, tmp_path / "generator.safetensors")
    with pytest.raises(InputError, match=r"generator\.safetensors does not fit its config\.json: .* holds torch\.int8"):
        Generator.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"config\.json does not describe a generator"):
        Generator.from_pretrained(tmp_path)


def test_a_run_is_shipped_with_its_card_and_never_without_a_licence_of_its_data(dataset, tmp_path, monkeypatch):
    small = {"epochs": 1, "batch_size": 8, "crop_size": 32, "embed_dim": 8, "depths": (2,) * 4, "num_heads": (2,) * 4}
    train(Parameters(str(dataset), str(tmp_path / "runs"), dsd_weight=0.0, **small))
    profile = {"dataset_root": str(dataset), "run_root": str(tmp_path / "runs")}
    monkeypatch.setattr(execute, "read_profile", lambda name: (profile, None))
    monkeypatch.setattr(ship, "root", lambda: tmp_path)
    target = ship.ship("synthetic", "s2oformer", "cc-by-4.0")
    assert target == tmp_path / "weights" / "synthetic-s2oformer"
    assert Generator.from_pretrained(target)(torch.zeros(1, 2, 32, 32)).shape == (1, 3, 32, 32)
    card = (target / "README.md").read_text()
    assert "license: cc-by-4.0" in card
    Generator.from_pretrained(target).save_pretrained(tmp_path / "again")
    again = (tmp_path / "again/README.md").read_text()  # the hub writes the header in its own way
    assert "license: cc-by-4.0" in again and again.endswith(card.partition("# s2oformer")[2])
    create_generator("unet", in_channels=1, out_channels=3, embed_dim=4, levels=2).save_pretrained(tmp_path / "used")
    Generator.from_pretrained(target).save_pretrained(tmp_path / "used")
    assert "license: cc-by-4.0" in (tmp_path / "used/README.md").read_text(), "not the card of what was there"
    with pytest.raises(InputError, match=r"save_directory .* cannot be written"):
        Generator.from_pretrained(target).save_pretrained("/proc/nowhere")
    with pytest.raises(InputError, match="names no terms: give copernicus"):
        ship.ship("synthetic", "s2oformer", "other")
    with monkeypatch.context() as patched, pytest.raises(InputError, match=r"s2oformer-l1-s0/record\.json does not"):
        patched.setattr(execute, "read_profile", lambda name: (profile | {"tag": "l1"}, None))
        ship.ship("synthetic", "s2oformer", "mit")
    free = (ship.ship("synthetic", "s2oformer", "copernicus") / "README.md").read_text()
    assert free.startswith("---\nlicense: other\nlicense_name: copernicus-sentinel-data\nlicense_link: https://")
    size = sum(path.stat().st_size for path in target.iterdir()) / 2**20
    with monkeypatch.context() as patched, pytest.raises(InputError, match=f"at most {0.9 * size} are shipped"):
        patched.setattr(ship, "MOST", 0.9 * size)
        ship.ship("large", "s2oformer", "mit")
    assert not (tmp_path / "weights" / "large-s2oformer").exists()

    info = json.loads((dataset / "dataset.json").read_text())
    (run,) = (tmp_path / "runs").glob("s2oformer-*")
    record, unproved = records.read(run), "these pictures are not shown to be better than that colour"
    for low, says in ((0.01, "above 0 by its whole interval"), (0.0, unproved), (-0.01, unproved), (np.nan, unproved)):
        record["metrics"]["skill"]["low"] = low
        card = ship.model_card(record, records.read_patches(run), info, "mit")
        assert says in card and (unproved in card) == (says == unproved)
        assert ("of one cluster" in card) == np.isnan(low)
    info |= {"source": "folder", "parameters": info["parameters"] | {"credit": ""}}
    with monkeypatch.context() as patched, pytest.raises(InputError, match="without a licence, or none in `credit`"):
        patched.setattr(ship, "Triplets", lambda *_: SimpleNamespace(info=info))
        ship.ship("other", "s2oformer", "mit")
    info["parameters"]["credit"] = "Somebody (no licence stated)"
    monkeypatch.setattr(ship, "Triplets", lambda *_: SimpleNamespace(info=info))
    with pytest.raises(InputError, match="without a licence"):
        ship.ship("other", "s2oformer", "mit")
    info["sar"]["limits"][0][0] -= 1
    with pytest.raises(InputError, match="trained on other data"):
        ship.ship("other", "s2oformer", "mit")
    assert not (tmp_path / "weights" / "other-s2oformer").exists()
