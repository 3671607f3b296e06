"""The generators: values against plain formulas, any size, gradients, precision, complexity, faults."""

import importlib.util
import inspect
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from s2olib.data.triplets import Triplets
from s2olib.generators import (
    HAT,
    Generator,
    UNet,
    complexity,
    create_generator,
    generator_names,
    load_reference_weights,
    pad_to_multiple,
    rhag,
)
from s2olib.generators.rhag import RHAG
from s2olib.generators.s2oformer import Bilinear, S2OFormer
from s2olib.project import InputError

HERE = Path(__file__).parent
SMALL = {
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "window_size": 4,
    "squeeze_factor": 2,
    "drop_path_rate": 0.0,
}
TALK = {"depths": [4] * 4, "num_heads": [4] * 4, "window_size": 8}


def small(name: str, **changes):
    torch.manual_seed(0)
    config = {"embed_dim": 4, "levels": 4} if name == "unet" else SMALL
    return create_generator(name, **{"in_channels": 2, "out_channels": 3, **config, **changes})


@pytest.fixture(scope="module")
def golden():
    """A HAT eight channels wide: weights, input and what the plain formulas give, as ``golden/make.py`` wrote them."""
    return np.load(HERE / "golden" / "hat_tiny.npz")


@pytest.fixture(scope="module")
def plain():
    spec = importlib.util.spec_from_file_location("plain_hat", HERE.parent / "bench" / "plain_hat.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.plain_hat


def golden_hat(golden):
    model = create_generator(**json.loads(str(golden["config"]))).eval()
    weights = {name.removeprefix("weights/"): torch.from_numpy(golden[name]).float() for name in golden if "/" in name}
    model.load_state_dict(weights)
    return model


def test_hat_agrees_with_the_plain_formulas_and_the_golden_file(golden, plain):
    model, sar = golden_hat(golden), torch.from_numpy(golden["input"])
    outputs = []
    for group in model.groups:
        group.register_forward_hook(lambda module, inputs, output: outputs.append(output.flatten(1, 2)))
    with torch.no_grad():
        image = model(sar)
        again, groups = plain(model.state_dict(), model.config, sar)
    expected = [golden["output"], golden["group0"], golden["group1"]]
    for ours, theirs, value in zip([image, *outputs], [again, *groups], expected, strict=True):
        np.testing.assert_allclose(ours, value, atol=1e-5)
        np.testing.assert_allclose(theirs, value, atol=1e-5)


def test_hat_gradients_agree_with_the_plain_formulas(golden, plain):
    model, sar = golden_hat(golden), torch.from_numpy(golden["input"])
    loss = model(sar).square().mean()
    ours = torch.autograd.grad(loss, model.parameters())
    theirs = torch.autograd.grad(
        plain(dict(model.named_parameters()), model.config, sar)[0].square().mean(), model.parameters()
    )
    for (name, _), a, b in zip(model.named_parameters(), ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("window_size", "overlap_ratio", "heads"), [(2, 1.0, 1), (4, 0.0, 8), (5, 0.4, 2), (6, 0.34, 4), (7, 2.0, 2)]
)
def test_any_legal_window_overlap_and_heads_agree_with_the_plain_formulas(plain, window_size, overlap_ratio, heads):
    legal = {"window_size": window_size, "overlap_ratio": overlap_ratio, "num_heads": [heads] * 2, "mlp_ratio": 1.5}
    model = small("hat", **legal, compress_ratio=2, conv_scale=0.5).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # the tables of positions among them: as they begin, none could be told from another
            torch.nn.init.normal_(parameter, std=0.5)
    model, sar = model.double(), torch.randn(1, 2, 3 * window_size, 2 * window_size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(sar), plain(model.state_dict(), model.config, sar)[0], atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("strip", [1, 8 * 12 * 8, 2 * 16 * 12 * 8])  # a row of windows, some rows, two images
def test_strips_change_neither_output_nor_gradients(monkeypatch, strip):
    sar, results = torch.randn(3, 2, 16, 12), []
    for elements in (2**30, strip):
        monkeypatch.setattr(rhag, "STRIP", elements)
        model = small("hat")
        image = model(sar)
        image.square().sum().backward()
        with torch.no_grad():
            results.append([image.detach(), model(sar), *(p.grad for p in model.parameters())])
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-4)


PUBLISHED = {
    "stem": "conv_first",
    "norm_in": "patch_embed.norm",
    "groups": "layers",
    "blocks": "residual_group.blocks",
    "overlap": "residual_group.overlap_attn",
    "attention": "attn",
    "bias_table": "relative_position_bias_table",
    "norm_out": "norm",
    "conv_out": "conv_after_body",
}
BRANCHES = {
    "conv.conv1": "conv_block.cab.0",
    "conv.conv2": "conv_block.cab.2",
    "conv.squeeze": "conv_block.cab.3.attention.1",
    "conv.excite": "conv_block.cab.3.attention.3",
    "head.0": "conv_before_upsample.0",
    "head.2": "conv_last",
}


def published_name(name: str) -> str:
    """Our parameter's name in the published state dictionaries."""
    parts = name.split(".")
    if parts[-2:] in (["attention", "bias"], ["overlap", "bias"]):
        parts[-1] = "bias_table"
    name = ".".join(PUBLISHED.get(part, part) for part in parts)
    for ours, theirs in BRANCHES.items():
        name = name.replace(ours, theirs)
    return name


def test_published_weights_load_and_their_upsampler_is_named(golden):
    model, sar = golden_hat(golden), torch.from_numpy(golden["input"])
    published = {published_name(name): value for name, value in model.state_dict().items()}
    for name in published:  # channel attention is made of 1x1 convolutions there
        if "cab.3" in name and name.endswith("weight"):
            published[name] = published[name][..., None, None]
    published |= {"upsample.0.weight": torch.zeros(8, 8, 3, 3), "relative_position_index_SA": torch.zeros(16, 16)}
    other = create_generator(**model.config).eval()
    with pytest.warns(UserWarning, match=r"upsample\.0\.weight"):
        assert load_reference_weights(other, {"params_ema": published}) == ["upsample.0.weight"]
    with torch.no_grad():
        torch.testing.assert_close(other(sar), model(sar))
    with pytest.warns(
        UserWarning, match=r"upsample\.0\.weight"
    ):  # the last step's, which were averaged into the others
        load_reference_weights(other, {"params": {n: v + 1 for n, v in published.items()}, "params_ema": published})
    assert torch.equal(other.stem.weight, model.stem.weight)

    plain = {name: value for name, value in published.items() if not name.startswith("upsample.")}
    for channels in (1, 3):
        foreign = create_generator(**model.config | {"in_channels": channels})
        before = foreign.stem.bias.clone()
        with pytest.warns(UserWarning, match=r"conv_first\.bias; layers that keep their values: stem$"):
            assert load_reference_weights(foreign, plain) == ["conv_first.weight", "conv_first.bias"]
        assert torch.equal(foreign.stem.bias, before)  # not half a layer
    headless = {name: value for name, value in plain.items() if not name.startswith("conv_last")}
    with pytest.warns(UserWarning, match=r"left out: none; layers that keep their values: head\.2$"):
        assert load_reference_weights(other, headless) == []
    with pytest.raises(InputError, match=r"layers\.2\..* has no place in this HAT"):
        load_reference_weights(other, published | {"layers.2.conv.weight": torch.zeros(8, 8, 3, 3)})
    for name in ("absolute_pos_embed", "layers_extra.weight"):  # what its network adds is not left out
        with pytest.raises(InputError, match=f"weight {name} has no place in this HAT"):
            load_reference_weights(other, published | {name: torch.zeros(1, 16, 8)})
    kernel = published["conv_after_body.weight"]
    with pytest.raises(InputError, match=r"conv_after_body\.weight has shape"):
        load_reference_weights(other, published | {"conv_after_body.weight": kernel.reshape(*kernel.shape[:2], 1, 9)})
    wrapped = {"state_dict": {f"module.{name}": value for name, value in plain.items()}}
    assert load_reference_weights(other, wrapped) == []
    for name in ("norm.weight", "layers.1.conv.bias"):
        lacking = {key: value for key, value in published.items() if key != name}
        with pytest.raises(InputError, match=f"lack {name.replace('norm', 'norm_out').replace('layers', 'groups')}"):
            load_reference_weights(other, lacking)
    narrow = create_generator(**model.config | {"embed_dim": 4})
    with pytest.raises(InputError, match="has shape"):
        load_reference_weights(narrow, published)


def test_what_is_no_state_dict_is_named():
    for weights in (None, [], {"params_ema": None}, {"conv_first.weight": [1.0]}):
        with pytest.raises(InputError, match="these are no weights"):
            load_reference_weights(small("hat"), weights)


def test_shifted_windows_never_mix_opposite_sides_of_the_image():
    torch.manual_seed(0)
    attention = RHAG(8, 2, 2, window_size=4).blocks[1].attention
    y = torch.randn(1, 12, 12, 8)
    changed = y.clone()
    changed[:, -2:] += 10  # the two rows that the shift brings beside the first two
    with torch.no_grad():
        difference = (attention(changed) - attention(y)).abs().amax((0, 2, 3))  # per row
    assert difference[:2].max() < 1e-6
    assert difference[-2:].min() > 1e-3


@pytest.mark.parametrize("name", generator_names())
@pytest.mark.parametrize("size", [(16, 16), (18, 34), (2, 6)])
def test_any_even_size_band_count_and_batch_of_one_trains(name, size):
    model = small(name, in_channels=1, out_channels=5).train()
    image = model(torch.randn(1, 1, *size))
    assert image.shape == (1, 5, *size)
    assert image.isfinite().all()


def test_networks_begin_as_pix2pix_and_the_linear_layers_of_hat():
    torch.manual_seed(0)
    for module in UNet(2, 3, embed_dim=16).modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # pix2pix
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
    for module in HAT(2, 3, embed_dim=48, depths=[1], num_heads=[2], window_size=8, squeeze_factor=2).modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert not module.bias.any()
        elif isinstance(module, rhag.WindowAttention | rhag.OCAB):
            assert module.bias.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("name", generator_names())
def test_every_parameter_gets_a_gradient(name):
    model = small(name).train()
    model(torch.randn(2, 2, 32, 32)).square().sum().backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


@pytest.mark.parametrize("name", generator_names())
def test_images_of_a_batch_do_not_see_each_other(name):
    model, sar = small(name).eval(), torch.randn(3, 2, 24, 40)
    with torch.inference_mode():
        together, alone = model(sar), torch.cat([model(image[None]) for image in sar])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", generator_names())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_finite_and_near(name, dtype):
    model, sar = small(name).eval(), torch.randn(2, 2, 32, 32)
    sar[0] = 1.0  # nothing to see
    with torch.autocast("cpu", dtype=dtype):
        half = model(sar)
    half.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert (half.float() - model(sar)).abs().max() < 0.1
    with torch.autocast("cpu", dtype=dtype), torch.inference_mode():
        torch.testing.assert_close(model(sar).float(), half.float(), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("training", [True, False])
def test_blocks_compile_as_one_graph(training):
    torch.manual_seed(0)
    group, x = RHAG(8, 2, 2, window_size=4).train(training), torch.randn(1, 12, 8, 8)
    with torch.set_grad_enabled(training):
        compiled = torch.compile(group, backend="aot_eager", fullgraph=True)  # raises where the graph would break
        torch.testing.assert_close(compiled(x), group(x), atol=1e-5, rtol=1e-4)


def test_other_sizes_compile_as_one_graph_too():
    torch._dynamo.reset()
    group = RHAG(8, 2, 2, window_size=4).eval()
    compiled = torch.compile(group, backend="aot_eager", fullgraph=True)  # at the second size with sizes as symbols
    for height, width in ((8, 8), (12, 8), (16, 20)):
        x = torch.randn(1, height, width, 8)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), group(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_learn_what_the_others_do(monkeypatch, checkpointing):
    called = []

    def counted(kind, program):
        return lambda *given: called.append(kind) or program(*given)

    for kind in rhag.PROGRAMS:  # another backend's code takes minutes to make on two cores
        program = torch.compile(kind.forward, backend="aot_eager", dynamic=False)
        monkeypatch.setitem(rhag.PROGRAMS, kind, counted(kind, program))
    model = small("hat", checkpointing=checkpointing, drop_path_rate=0.5).train()
    sar, results = torch.randn(3, 2, 16, 16), []
    for compiled in (False, True):
        for group in model.groups:
            group.compiled = compiled
        torch.manual_seed(1)  # the same blocks are dropped
        image = model(sar)
        image.square().mean().backward()
        results.append([image.detach(), *(p.grad for p in model.parameters())])
        model.zero_grad()
    assert set(called) == set(rhag.PROGRAMS)
    for plain, other in zip(*results, strict=True):
        torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-4)


def test_what_inference_has_kept_serves_training():
    group, x = RHAG(8, 2, 2, window_size=12), torch.randn(1, 24, 36, 8)  # a window that no other test has
    with torch.inference_mode():
        group.eval()(x)
    group.train()(x).square().sum().backward()
    assert all(block.attention.bias.grad.abs().sum() > 0 for block in group.blocks)


def test_stochastic_depth_reaches_attention_and_mlp_apart(monkeypatch):
    torch.manual_seed(0)
    group, x = RHAG(8, 1, 2, window_size=4, drop_path=[0.5]).train(), torch.randn(2, 8, 8, 8)
    block, results = group.blocks[0], []
    first, second = torch.eye(2).view(2, 2, 1, 1, 1)  # each keeps a branch of one image
    for factors in ((first, first), (second, first), (first, second)):
        monkeypatch.setattr(rhag, "survival", lambda *_, factors=factors: factors)
        inside = []
        hook = block.register_forward_hook(lambda *_, inside=inside: inside.append(_[2]))
        group(x)
        hook.remove()
        torch.testing.assert_close(inside[0], block(x, *factors))
        results.append(inside[0])
    assert all(not torch.allclose(results[0][0], other[0]) for other in results[1:])


@pytest.mark.parametrize("name", ["hat", "s2oformer"])
def test_stochastic_depth_grows_over_the_blocks_of_all_groups(name):
    model = small(name, depths=[2, 1, 3], num_heads=[2, 2, 2], drop_path_rate=0.5)
    rates = [rate for group in model.groups for rate in group.drop_path]
    assert rates == pytest.approx(np.linspace(0, 0.5, 6))


@pytest.mark.parametrize("name", ["hat", "s2oformer"])
def test_every_group_has_the_parameters_that_were_given(name):
    given = {"compress_ratio": 2, "squeeze_factor": 4, "conv_scale": 0.2, "overlap_ratio": 1.0, "mlp_ratio": 3.0}
    given |= {"window_size": 4, "checkpointing": True}
    expected = RHAG(8, 2, 2, **given)
    shapes = {key: value.shape for key, value in expected.state_dict().items()}
    for group in small(name, **given).groups:
        assert {key: value.shape for key, value in group.state_dict().items()} == shapes
        assert group.checkpointing and [block.conv_scale for block in group.blocks] == [0.2, 0.2]


def test_defaults_are_the_published_ones():
    """HAT's of its authors' configuration for natural images, S2OFormer's of the talk."""
    published = {"compress_ratio": 3, "squeeze_factor": 30, "conv_scale": 0.01, "overlap_ratio": 0.5, "mlp_ratio": 2.0}
    published |= {"drop_path_rate": 0.1, "head_dim": 64}
    for kind, own in (
        (HAT, {"embed_dim": 180, "depths": (6,) * 6, "num_heads": (6,) * 6, "window_size": 16}),
        (S2OFormer, {"embed_dim": 96, "depths": (4,) * 4, "num_heads": (4,) * 4, "window_size": 8}),
    ):
        defaults = {name: of.default for name, of in inspect.signature(kind.__init__).parameters.items()}
        assert defaults | own | published == defaults


def test_stochastic_depth_drops_whole_branches_and_keeps_their_mean():
    torch.manual_seed(0)
    factors = torch.cat(rhag.survival(torch.zeros(4000, 2, 2, 1), 0.25))
    assert sorted(set(factors.flatten().tolist())) == pytest.approx([0, 1 / 0.75]) and abs(factors.mean() - 1) < 0.05
    assert all((factor == 1).all() for factor in rhag.survival(torch.zeros(9, 2, 2, 1), 0.0))


@pytest.mark.parametrize("name", ["hat", "s2oformer"])
def test_checkpointing_changes_neither_output_nor_gradients(name):
    sar, results = torch.randn(2, 2, 16, 16), []
    for checkpointing in (False, True):
        model = small(name, checkpointing=checkpointing, drop_path_rate=0.5).train()
        torch.manual_seed(1)  # the same blocks are dropped
        image = model(sar)
        image.square().sum().backward()
        results.append([image, *(p.grad for p in model.parameters())])
    for kept, again in zip(*results, strict=True):
        torch.testing.assert_close(kept, again)


def test_published_sizes():
    two = {"in_channels": 2, "out_channels": 3}
    with torch.device("meta"):
        unet = complexity(create_generator("unet", **two), (1, 2, 256, 256))
    assert [round(unet[0] / 1e6, 2), round(unet[1] / 1e9, 2)] == [54.41, 6.03]
    for name in ("unet", "hat", "s2oformer"):
        assert complexity(small(name).bfloat16(), (1, 2, 64, 64)) == complexity(small(name), (1, 2, 64, 64))
    for width, parameters, macs in ((96, 2.89, 205.8), (180, 9.96, 684.0)):
        with torch.device("meta"):
            hat, ours = (create_generator(name, **two, **TALK, embed_dim=width) for name in ("hat", "s2oformer"))
        count = complexity(hat, (1, 2, 256, 256))
        assert [round(count[0] / 1e6, 2), round(count[1] / 1e9, 1)] == [parameters, macs]
        lighter = complexity(ours, (1, 2, 256, 256))
        assert lighter[0] <= count[0]
        assert lighter[1] <= 0.6 * count[1]


def test_an_interpolated_step_up_is_bilinear_and_costs_what_a_pixel_shuffle_costs():
    step = Bilinear(4).double()
    coarse, fine = torch.randn(2, 3, 5, 4, dtype=torch.double), torch.randn(2, 6, 10, 4, dtype=torch.double)
    expected = F.interpolate(step.up(coarse).movedim(-1, 1), scale_factor=2, mode="bilinear").movedim(1, -1)
    torch.testing.assert_close(step(coarse, fine), expected + step.skip(fine))
    costs = [complexity(small("s2oformer", upsampling=kind), (1, 2, 64, 64))[1] for kind in ("shuffle", "bilinear")]
    assert costs[0] == costs[1]


def test_unet_steps_up_by_interpolation_and_a_convolution():
    """Its outermost step, plainly written, gives the image; a constant map leaves no grid but at the border."""
    model, features = small("unet", upsampling="bilinear").eval(), []
    model.up[0].register_forward_hook(lambda module, inputs, output: features.extend([inputs[0], output]))
    with torch.no_grad():
        image = model(torch.randn(2, 2, 48, 32))
        coarse = F.relu(features[0])
        fine = F.interpolate(coarse, scale_factor=2, mode="bilinear")
        torch.testing.assert_close(
            image, torch.tanh(F.conv2d(fine, model.up[0][2].weight, model.up[0][2].bias, padding=1))
        )
        for kind, flat in (("bilinear", True), ("transposed", False)):
            step = small("unet", upsampling=kind).up[0].eval()
            inner = step(torch.ones(1, 8, 8, 8))[..., 2:-2, 2:-2]
            assert (inner.std((2, 3)).max() < 1e-6) == flat
    assert model.config["upsampling"] == "bilinear"


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 6])
def test_s2oformer_is_lighter_than_hat_for_any_number_of_groups(groups):
    config = SMALL | {"depths": [1] * groups, "num_heads": [2] * groups, "embed_dim": 16}
    ours, hat = (small(name, **config) for name in ("s2oformer", "hat"))
    (p, m), (p_hat, m_hat) = (complexity(model, (1, 2, 64, 64)) for model in (ours, hat))
    assert p <= p_hat
    assert m <= m_hat


@pytest.mark.parametrize("name", generator_names())
def test_config_survives_json_and_rebuilds_the_model(name):
    model = small(name)
    again = create_generator(**json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    assert again.config == model.config


@pytest.mark.parametrize("name", generator_names())
def test_a_saved_generator_comes_back_by_the_hubs_way(name, tmp_path):
    model, sar = small(name).eval(), torch.randn(1, 2, 16, 16)
    model.about = {"sar": {"units": "dB"}}
    model.save_pretrained(tmp_path)
    assert {"config.json", "generator.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert len(modes) == 1, "whoever may read the configuration may read the weights"
    again = Generator.from_pretrained(tmp_path)
    assert type(again) is type(model)
    assert again.config == model.config
    assert again.about["sar"] == {"units": "dB"}
    with torch.no_grad():
        torch.testing.assert_close(again(sar=sar), model(sar))


def test_a_relative_folder_is_the_same_for_writing_and_reading(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    small("unet").save_pretrained("saved/unet")
    assert (tmp_path / "saved/unet/config.json").is_file()
    assert Generator.from_pretrained("saved/unet").config == small("unet").config


def test_faults_of_saved_generators_are_named(tmp_path):
    small("unet").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds a UNet, not a HAT"):
        HAT.from_pretrained(tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="map_location 'cuda' cannot be used here"):
            Generator.from_pretrained(tmp_path, map_location="cuda")
    with pytest.raises(InputError, match="from_pretrained has no option 'out_channels'"):
        Generator.from_pretrained(tmp_path, out_channels=5)
    weights = tmp_path / "generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="does not fit"):
        Generator.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no config\.json of a generator"):
        Generator.from_pretrained(tmp_path)
    for content in ("{", '{"generator": {"name": "unet"}}', '{"generator": "unet"}'):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=r"config\.json does not describe a generator"):
            Generator.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff{}")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        Generator.from_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"config\.json is a file: name the folder"):
        Generator.from_pretrained(tmp_path / "config.json")
    with pytest.raises(InputError, match=r"here/missing' is no folder, and no repository of the hub"):
        Generator.from_pretrained(tmp_path / "not/here/missing")
    with pytest.raises(InputError, match=r"missing does not exist, and the folder above it does"):
        Generator.from_pretrained(tmp_path / "missing")
    for nothing in (None, ""):
        with pytest.raises(InputError, match="is no place: name a folder"):
            Generator.from_pretrained(nothing)
    with pytest.raises(InputError, match=r"config\.json is a file: name a folder to write"):
        small("unet").save_pretrained(tmp_path / "config.json")


def test_a_saved_generator_goes_to_the_device_that_is_asked_for(tmp_path):
    small("unet").save_pretrained(tmp_path)
    assert all(p.is_meta for p in Generator.from_pretrained(tmp_path, map_location="meta").parameters())


@pytest.mark.parametrize("name", generator_names())
def test_input_that_no_generator_takes_is_named(name):
    model, sar = small(name).eval(), torch.zeros(1, 2, 16, 16)
    with pytest.raises(InputError, match=r"\(1, 3, 16, 16\): this generator takes \(B, 2, H, W\)"):
        model(torch.zeros(1, 3, 16, 16))
    with pytest.raises(InputError, match=r"\(0, 2, 16, 16\): this generator takes"):
        model(sar[:0])
    with pytest.raises(InputError, match="sar is a ndarray: a generator takes a tensor"):
        model(sar.numpy())
    with pytest.raises(InputError, match="sar is a NoneType"):
        model()
    with pytest.raises(InputError, match=r"sar is torch\.float64 and the weights are torch\.float32: convert one"):
        model(sar.double())
    with pytest.raises(InputError, match=r"sar is torch\.float64 and the weights are torch\.float32: convert one"):
        model.train()(sar.double())
    model.eval()
    sar[0, 1, 3, 5] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        model(sar)


def test_padding_mirrors_as_often_as_needed():
    x = torch.arange(3.0).view(1, 1, 1, 3)
    padded = pad_to_multiple(x, 8)
    assert padded.shape == (1, 1, 8, 8)
    assert padded[0, 0, 5].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    fits = torch.zeros(1, 1, 8, 16)
    assert pad_to_multiple(fits, 8) is fits


@pytest.mark.parametrize(
    ("name", "config", "culprit"),
    [
        ("gan", {}, "'gan'"),
        ("unet", {"depths": [2]}, "'depths'"),
        ("hat", {"levels": 3}, "'levels'"),
        ("hat", {"embed_dim": 10, "num_heads": [4] * 6}, "num_heads 4"),
        ("hat", {"depths": [2, 2]}, "depths has 2"),
        ("hat", {"window_size": 7}, "window_size 7"),
        ("hat", {"window_size": 1}, "window_size 1 leaves nothing to attend to"),
        ("hat", {"overlap_ratio": 3.0}, "overlap_ratio 3.0"),
        ("hat", {"depths": []}, "depths"),
        ("hat", {"mlp_ratio": -1}, "mlp_ratio"),
        ("hat", {"mlp_ratio": 0.005}, "mlp_ratio 0.005 leaves no hidden channel"),
        ("s2oformer", {"mlp_ratio": 0}, "mlp_ratio 0 leaves no hidden channel"),
        ("hat", {"mlp_ratio": math.inf}, "mlp_ratio"),
        ("hat", {"drop_path_rate": 1.0}, "drop_path_rate"),
        ("hat", {"checkpointing": 1}, "checkpointing"),
        ("s2oformer", {"embed_dim": 6, "num_heads": [2] * 4}, "embed_dim 6"),
        ("s2oformer", {"embed_dim": 0}, "embed_dim is 0"),
        ("s2oformer", {"window_size": "8"}, "window_size is '8'"),
        ("s2oformer", {"upsampling": "nearest"}, "upsampling is 'nearest'"),
        ("s2oformer", {"upsampling": 2}, "upsampling is 2"),
        ("unet", {"upsampling": "shuffle"}, "upsampling is 'shuffle'"),
        ("unet", {"levels": True}, "levels"),
        ("unet", {"levels": 1}, "levels"),
        ("unet", {"in_channels": 0}, "in_channels"),
    ],
)
def test_bad_configurations_are_named(name, config, culprit):
    with pytest.raises(InputError, match=culprit):
        create_generator(name, **{"in_channels": 2, "out_channels": 3, **config})


def test_a_class_of_its_own_names_a_bad_configuration_too():
    for make, culprit in (
        (lambda: HAT(2, 3, num_heads=[0]), "num_heads is"),
        (lambda: HAT(0), "in_channels is 0"),
        (lambda: UNet(2, 3, embed_dim=np.int64(8)), r"embed_dim is np\.int64\(8\)"),  # config.json would hold 64
        (lambda: RHAG(8, 2, 2, window_size=6), "window_size 6 .* overlaps by 3 pixels"),
    ):
        with pytest.raises(InputError, match=culprit):
            make()
    with pytest.raises(TypeError, match="levels"):
        HAT(2, 3, levels=3)
    assert UNet(1, out_channels=5, embed_dim=4, levels=2).config["embed_dim"] == 4


def test_a_network_of_ones_own_may_have_parameters_of_any_kind():
    class Narrow(UNet):
        def __init__(self, in_channels=2, width: "int | None" = 4, *rest, note=None, **config) -> None:
            super().__init__(in_channels, 3, embed_dim=width, levels=2)

    assert Narrow(2, 8, "a", note=object(), other=1)(torch.zeros(1, 2, 8, 8)).shape == (1, 3, 8, 8)


def test_import_needs_neither_rasterio_nor_jupyter():
    code = (
        "import s2olib.generators, sys; print([m for m in ('rasterio', 'IPython', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_topology_trains_alike_each_time_for_as_many_steps_as_asked(dataset, monkeypatch):
    monkeypatch.syspath_prepend(HERE.parent)
    topology = importlib.import_module("bench.topology")
    given = {"steps": 3, "crop": 16, "batch": len(Triplets(dataset, "train")) // 2, "learning_rate": 1e-3}
    curves = [topology.run(dataset, "first", 0, **given)["curve"] for _ in range(2)]
    assert curves[0] == curves[1] and [row["step"] for row in curves[0]] == [3]  # two in an epoch


def test_networks_make_of_random_weights_what_they_did():
    spec = importlib.util.spec_from_file_location("make", HERE / "golden" / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    expected = json.loads((HERE / "golden" / "outputs.json").read_text())
    assert expected.keys() == make.NETWORKS.keys()
    for name, network in make.NETWORKS.items():
        for found, one in zip(make.numbers(network()), expected[name], strict=True):
            assert found == pytest.approx(one, rel=1e-6, abs=1e-8), name


def test_the_unet_drops_out_in_three_levels_as_pix2pix():
    up = create_generator("unet", in_channels=2, out_channels=3, embed_dim=1, levels=8).up
    dropped = {level: layer.p for level, part in enumerate(up) for layer in part if isinstance(layer, nn.Dropout)}
    assert dropped == {4: 0.5, 5: 0.5, 6: 0.5}


def test_a_network_works_after_one_was_traced_with_tensors_without_numbers():
    how = {"embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 20}  # of which nothing has been kept yet
    network = create_generator("hat", in_channels=1, out_channels=3, **how).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        network(torch.rand(1, 1, 40, 20))
    image = network(torch.rand(1, 1, 40, 20))
    assert type(image) is torch.Tensor and image.isfinite().all()
