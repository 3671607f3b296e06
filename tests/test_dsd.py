"""The Deep Semantic Discriminator and PatchGAN: shapes, dependence on both modalities, gradients, faults."""

import pytest
import torch
from torch import nn

from s2olib.dsd import DSD, ChannelAttention
from s2olib.losses import FeatureLoss
from s2olib.patchgan import PatchGAN
from s2olib.project import InputError


def small(**changes):
    torch.manual_seed(0)
    return DSD(**{"sar_channels": 1, "opt_channels": 3, "num_classes": 4, "width": 4, **changes})


@pytest.mark.parametrize(("size", "deep"), [((32, 48), (2, 3)), ((34, 66), (3, 5)), ((16, 8), (2, 2))])
def test_shapes_for_any_size_while_training_on_one_patch(size, deep):
    logits, deepest = small().train()(torch.randn(1, 1, *size), torch.randn(1, 3, *size))
    assert logits.shape == (1, 4, *size)
    assert deepest.shape == (1, 64, *deep)
    assert logits.isfinite().all()


@pytest.mark.parametrize("mode", [True, False])
def test_the_deepest_map_sees_both_images(mode):
    dsd = small().train(mode)
    sar, opt = (torch.randn(2, c, 32, 32, requires_grad=True) for c in (1, 3))
    # of one output, since BatchNorm makes the plain sum of a training batch constant
    for_sar, for_opt = torch.autograd.grad(dsd(sar, opt)[1].square().sum(), (sar, opt))
    assert for_sar.abs().max() > 1e-4
    assert for_opt.abs().max() > 1e-4


def test_deepest_is_the_same_map_without_the_decoder():
    dsd = small().eval()
    sar, opt = torch.randn(2, 1, 40, 32), torch.randn(2, 3, 40, 32)
    with torch.no_grad():
        torch.testing.assert_close(dsd.deepest(sar, opt), dsd(sar, opt)[1])


ENCODERS = ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"]
ENCODERS += [
    "maxvit_rmlp_pico_rw_256",
    "legacy_xception",
    "mobilevitv2_050",
]  # of one size; odd maps


@pytest.mark.parametrize("encoder", ENCODERS)
def test_any_timm_encoder_serves_and_its_deepest_map_sees_both_images(encoder):
    dsd = small(encoder=encoder)
    sar, opt = (torch.randn(1, c, 34, 66, requires_grad=True) for c in (1, 3))
    logits, deepest = dsd(sar, opt)
    assert logits.shape == (1, 4, 34, 66)
    assert deepest.shape == (1, dsd.deepest_channels, 2, 3)
    for gradient in torch.autograd.grad(deepest.square().sum(), (sar, opt)):
        assert gradient.abs().max() > 1e-5
    judge = FeatureLoss(dsd)
    assert judge(sar.detach(), opt.detach(), torch.zeros_like(opt)) > 0


def test_attention_to_channels_sees_their_maximum():
    flat, spike = torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 4, 4)
    spike[..., 0, 0], spike[..., 0, 1] = 5, -5  # of the same mean
    torch.manual_seed(0)
    attention = ChannelAttention(8, 1)
    assert (attention(spike) - attention(flat)).abs().max() > 1e-3


def test_reductions_of_an_encoder_need_not_divide_each_other():
    dsd = small(encoder="crossvit_9_240")
    assert dsd.sar_encoder.reductions == [12, 17]
    for size in ((64, 64), (100, 40)):
        assert dsd(torch.randn(1, 1, *size), torch.randn(1, 3, *size))[0].shape == (1, 4, *size)


def test_every_parameter_gets_a_gradient():
    dsd = small(width=8).train()
    logits, _ = dsd(torch.randn(2, 1, 32, 32), torch.randn(2, 3, 32, 32))
    logits.square().sum().backward()
    # a bias before BatchNorm is subtracted again: its gradient is rounding error
    idle = [name for name, p in dsd.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


def test_it_learns_to_tell_what_only_one_modality_shows():
    dsd = small().train()
    optimizer = torch.optim.Adam(dsd.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        sar, opt = (torch.randn(4, c, 32, 32, generator=generator).sign() for c in (1, 3))
        target = (sar[:, 0] > 0) * 2 + (opt[:, 1] > 0) * 1
        loss = torch.nn.functional.cross_entropy(dsd(sar, opt)[0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3  # chance is ln 4 = 1.39, one modality alone ln 2 = 0.69


def test_patches_of_a_batch_do_not_see_each_other_in_evaluation():
    dsd = small().eval()
    sar, opt = torch.randn(2, 1, 32, 32), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(dsd(sar, opt)[0][:1], dsd(sar[:1], opt[:1])[0], atol=1e-5, rtol=1e-4)


def test_faults_are_named():
    with pytest.raises(InputError, match="num_classes is 0"):
        small(num_classes=0)
    with pytest.raises(InputError, match="'nonsense' is neither 'snunet' nor a timm model"):
        small(encoder="nonsense")
    with pytest.raises(InputError, match=r"'csatv2' makes no feature maps of images of 128 pixels"):
        small(encoder="csatv2")  # for three bands alone
    with pytest.raises(InputError, match=r"'rexnet_100' cannot take 1 x 64 x 64 pixels .*: give it more images"):
        small(encoder="rexnet_100")(torch.randn(1, 1, 64, 64), torch.randn(1, 3, 64, 64))
    for judge in (small(), PatchGAN(1, 3)):
        for shape in ((1, 3, 32, 64), (1, 3, 64, 32), (2, 3, 32, 32)):
            with pytest.raises(InputError, match="not the same patches"):
                judge(torch.randn(1, 1, 32, 32), torch.randn(shape))
    with pytest.raises(InputError, match="at least 32"):
        PatchGAN(1, 3)(torch.randn(1, 1, 16, 64), torch.randn(1, 3, 16, 64))


@pytest.mark.parametrize("judge", [small, lambda: PatchGAN(1, 3)])
def test_other_channels_are_named(judge):
    with pytest.raises(InputError, match=r"opt has shape \(1, 4, 32, 32\): this discriminator takes \(B, 3, H, W\)"):
        judge()(torch.randn(1, 1, 32, 32), torch.randn(1, 4, 32, 32))
    sar, opt = torch.zeros(1, 2, 32, 32), torch.zeros(1, 3, 32, 32)
    for discriminator in (DSD(2, 3, 4, 4).eval(), PatchGAN(2, 3).eval()):
        with pytest.raises(InputError, match=r"opt is torch\.uint8: a discriminator takes numbers from -1 to 1"):
            discriminator(sar, opt.byte())
        with pytest.raises(InputError, match="sar is a NoneType: a discriminator takes tensors"):
            discriminator(None, opt)
        with pytest.raises(InputError, match=r"sar has shape \(0, 2, 32, 32\): this discriminator takes"):
            discriminator(sar[:0], opt[:0])
        with pytest.raises(InputError, match=r"opt is torch\.float64 and the weights are torch\.float32"):
            discriminator.train()(sar, opt.double())
        discriminator.eval()
        with pytest.raises(InputError, match="sar holds values that are not finite"):
            discriminator(sar + torch.nan, opt)
    with pytest.raises(InputError, match=r"sar has shape"):
        judge()(torch.randn(1, 2, 32, 32), torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("value", [0, -5, "2", 2.0, True])
def test_channels_that_are_no_count_are_named(value):
    for kind in (DSD, PatchGAN):
        with pytest.raises(InputError, match=rf"^opt_channels is {value!r}: a {kind.__name__} needs a whole number of"):
            kind(2, value)


def test_patchgan_is_the_published_size_and_sees_70_pixels():
    assert round(sum(p.numel() for p in PatchGAN(2, 3).parameters()) / 1e6, 2) == 2.77
    torch.manual_seed(0)
    judge = PatchGAN(1, 3).eval()
    opt = torch.randn(1, 3, 256, 256, requires_grad=True)
    logits = judge(torch.randn(1, 1, 256, 256), opt)
    assert logits.shape == (1, 1, 30, 30)
    seen = torch.autograd.grad(logits[0, 0, 15, 15], opt)[0].abs().sum((0, 1))  # (H, W)
    rows = seen.sum(1).nonzero()
    assert (rows.max() - rows.min() + 1).item() == 70


def test_patchgan_begins_as_pix2pix_does():
    torch.manual_seed(0)
    for module in PatchGAN(2, 3).modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(float(isinstance(module, nn.BatchNorm2d)), abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.2)
            assert module.bias is None or not module.bias.any()


def test_segmentation_teaches_every_map_of_a_timm_encoder():
    torch.manual_seed(0)
    dsd = DSD(2, 3, 4, 8, "resnet18")
    dsd(torch.randn(2, 2, 64, 64), torch.randn(2, 3, 64, 64))[0].square().mean().backward()
    assert not [name for name, parameter in dsd.named_parameters() if parameter.grad is None]
