"""The losses: values against plain formulas, ignored pixels, where gradients go."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from s2olib.dsd import DSD
from s2olib.losses import (
    FeatureLoss,
    discriminator_loss,
    generator_adversarial_loss,
    mean_iou,
    optical_sensitivity,
    segmentation_loss,
    ssim_loss,
)
from s2olib.metrics import ssim, to_8bit
from s2olib.project import InputError


def example(classes: int = 3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 4, 5, generator=generator)
    target = torch.randint(0, classes, (2, 4, 5), generator=generator)
    target[0, :2] = 255
    return logits.requires_grad_(), target


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_segmentation_loss_is_cross_entropy_plus_dice_pixel_by_pixel(weights):
    logits, target = example()
    dice = []
    probability = logits.softmax(1)
    for category in range(3):
        overlap = total = 0.0
        for b in range(2):
            for i in range(4):
                for j in range(5):
                    if target[b, i, j] != 255:
                        p, t = probability[b, category, i, j].item(), float(target[b, i, j] == category)
                        overlap, total = overlap + p * t, total + p + t
        dice.append(1 - 2 * overlap / total)
    expected = F.cross_entropy(logits, target, weight=weights, ignore_index=255).item() + sum(dice) / 3
    assert segmentation_loss(logits, target, class_weights=weights).item() == pytest.approx(expected, rel=1e-5)


def test_targets_and_weights_of_another_kind_are_named():
    logits, target = example()
    with pytest.raises(InputError, match=r"target is torch\.uint8"):
        segmentation_loss(logits, target.byte())
    for wrong in (3, -1):
        with pytest.raises(InputError, match=r"target has categories from .*: logits have 3, counted from 0"):
            segmentation_loss(logits, target.where(target != 2, wrong))
    for given, shape in ((torch.ones(4), r"\(4,\)"), (torch.ones(3, 1), r"\(3, 1\)"), ([1.0, 2.0], r"\(2,\)")):
        with pytest.raises(InputError, match=f"class_weights has shape {shape}: give one number for each of 3 classes"):
            segmentation_loss(logits, target, class_weights=given)
    listed = segmentation_loss(logits, target, class_weights=[1.0, 2.0, 3.0])
    assert listed == segmentation_loss(logits, target, class_weights=torch.tensor([1.0, 2.0, 3.0]))


def test_a_class_that_does_not_occur_adds_no_dice():
    logits, target = example()
    target = target.where(target != 1, 0)
    known = target != 255
    dice = []
    for category in (0, 2):
        probability, truth = logits.softmax(1)[:, category][known], (target == category)[known].float()
        dice.append(1 - 2 * (probability * truth).sum() / (probability.sum() + truth.sum()))
    expected = F.cross_entropy(logits, target, ignore_index=255) + sum(dice) / 2
    torch.testing.assert_close(segmentation_loss(logits, target), expected)


def test_ignored_pixels_count_nowhere():
    logits, target = example()
    changed = logits.detach().clone()
    changed[0, :, :2] += 100
    torch.testing.assert_close(segmentation_loss(logits, target), segmentation_loss(changed, target))
    segmentation_loss(logits, target).backward()
    assert (logits.grad[0, :, :2] == 0).all()
    assert (logits.grad[0, :, 2:] != 0).any()


def test_a_batch_without_any_known_pixel_gives_zero():
    logits, target = example()
    loss = segmentation_loss(logits, torch.full_like(target, 255))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_perfect_segmentation_costs_nothing():
    _, target = example()
    logits = 50.0 * F.one_hot(target.where(target != 255, 0), 3).movedim(-1, 1).float()
    assert segmentation_loss(logits, target).item() == pytest.approx(0, abs=1e-5)


def test_segmentation_target_of_another_size_is_named():
    logits, target = example()
    with pytest.raises(InputError, match=r"\(2, 4, 4\)"):
        segmentation_loss(logits, target[..., :4])
    with pytest.raises(InputError, match=r"logits have shape \(0, 3, 8, 8\): a loss needs at least one image"):
        segmentation_loss(torch.zeros(0, 3, 8, 8), torch.zeros(0, 8, 8, dtype=torch.int64))


@pytest.fixture
def judged():
    torch.manual_seed(0)
    dsd = DSD(1, 3, 4, width=4)
    sar, real, fake = (torch.randn(2, c, 32, 32) for c in (1, 3, 3))
    return dsd, sar, real, fake.requires_grad_()


def test_feature_loss_reaches_the_fake_alone_and_leaves_the_dsd_as_it_was(judged):
    dsd, sar, real, fake = judged
    dsd.train()
    next(dsd.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in dsd.state_dict().items()}
    flags = [p.requires_grad for p in dsd.parameters()]
    sar.requires_grad_()
    FeatureLoss(dsd)(sar.detach(), real.requires_grad_(), fake).backward()
    assert fake.grad.abs().sum() > 0
    assert real.grad is None
    assert all(p.grad is None for p in dsd.parameters())
    assert dsd.training
    assert [p.requires_grad for p in dsd.parameters()] == flags
    for name, value in dsd.state_dict().items():  # BatchNorm's statistics too
        torch.testing.assert_close(value, before[name])


def test_feature_loss_is_zero_for_the_real_image_alone(judged):
    dsd, sar, real, fake = judged
    loss = FeatureLoss(dsd)
    assert loss(sar, real, real) == 0
    assert loss(sar, real, fake) > 0


def test_feature_loss_does_not_depend_on_how_large_the_features_are(judged):
    dsd, sar, real, fake = judged
    plain = FeatureLoss(dsd)(sar, real, fake).item()
    dsd.deepest = lambda sar, opt: 1000 * DSD.deepest(dsd, sar, opt)
    assert plain > 0.01
    assert FeatureLoss(dsd)(sar, real, fake).item() == pytest.approx(plain, rel=1e-4)


def test_feature_statistics_are_those_of_real_features(judged):
    dsd, sar, _, fake = judged
    loss = FeatureLoss(dsd)
    seen = []
    for _ in range(10):  # as long as they are a plain average
        real = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            seen.append(dsd.eval().deepest(sar, real))
        loss(sar, real, fake)
    features = torch.cat(seen).movedim(1, 0).flatten(1)  # (channels, values)
    torch.testing.assert_close(loss.mean, features.mean(1), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(loss.variance, features.var(1), atol=1e-4, rtol=0.1)

    mean = loss.mean
    for _ in range(3):  # from then on the newest batch counts a tenth
        real = torch.randn(2, 3, 32, 32) + 3
        with torch.no_grad():
            mean = 0.9 * mean + 0.1 * dsd.eval().deepest(sar, real).mean((0, 2, 3))
        loss(sar, real, fake)
    torch.testing.assert_close(loss.mean, mean, atol=1e-5, rtol=1e-3)

    kept = loss.state_dict()
    assert set(kept) == {"mean", "variance", "updates"}
    again = FeatureLoss(dsd)
    again.load_state_dict(kept)
    value = again.eval()(sar, real, fake)
    torch.testing.assert_close(again.mean, kept["mean"])
    torch.testing.assert_close(value, loss.eval()(sar, real, fake))


def test_a_channel_that_never_fires_counts_in_a_tenth_of_the_others_deviation():
    dsd = SimpleNamespace(deepest_channels=2, modules=list, parameters=list, eval=lambda: None)
    dsd.deepest = lambda sar, opt: opt
    loss = FeatureLoss(dsd).eval()
    loss.variance[:] = torch.tensor([0.0, 4.0])  # mean deviation 1, floor 0.1
    real, fake = torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 3.0)
    assert loss(None, real, fake).item() == pytest.approx(((3 / 0.1) ** 2 + (3 / 2) ** 2) / 2)


def test_modes_and_gradients_of_the_dsd_are_left_as_they_were(judged):
    dsd, sar, real, fake = judged
    first = dsd.train().get_submodule(next(name for name, _ in dsd.named_modules() if name))
    first.eval().requires_grad_(False)  # as one does with an encoder that is to stay as it is
    modes = [module.training for module in dsd.modules()]
    trained = [parameter.requires_grad for parameter in dsd.parameters()]
    FeatureLoss(dsd)(sar, real, fake.requires_grad_()).backward()
    assert [module.training for module in dsd.modules()] == modes and len({*modes}) == 2
    assert [parameter.requires_grad for parameter in dsd.parameters()] == trained and len({*trained}) == 2


def test_optical_sensitivity_is_zero_only_for_the_same_image(judged):
    dsd, sar, real, fake = judged
    dsd.eval()
    assert optical_sensitivity(dsd, sar, real, real).tolist() == [0, 0]
    assert (optical_sensitivity(dsd, sar, real, fake) > 1e-3).all()
    with torch.no_grad():
        for parameter in dsd.opt_encoder.parameters():
            parameter.zero_()
    assert (optical_sensitivity(dsd, sar, real, fake) == 0).all()
    with torch.no_grad():  # nothing is left of the deepest map
        for parameter in dsd.parameters():
            parameter.zero_()
    assert (optical_sensitivity(dsd, sar, real, fake) == 0).all()


def test_a_patch_without_any_feature_has_no_optical_sensitivity():
    only_other = SimpleNamespace(deepest=lambda sar, opt: opt.relu())
    real, fake = torch.stack([torch.ones(3, 4, 4), -torch.ones(3, 4, 4)]), torch.ones(2, 3, 4, 4) / 2
    assert optical_sensitivity(only_other, None, real, fake).tolist() == [0.5, 0]


def test_mean_iou_counts_by_hand():
    target = torch.tensor([[[0, 0, 1, 255]]])
    prediction = torch.tensor([[[0, 1, 1, 2]]])
    assert mean_iou(prediction, target, 4) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert math.isnan(mean_iou(prediction, torch.full_like(target, 255), 4))
    nineteen = torch.full((1, 4, 4), 19, dtype=torch.uint8)
    assert mean_iou(nineteen, nineteen, 20) == 1
    with pytest.raises(InputError, match=r"prediction has shape .*2.*, target .*: give one class each"):
        mean_iou(prediction[..., :2], target, 4)
    with pytest.raises(InputError, match="prediction has classes from 0 to 1: there are 1, counted from 0"):
        mean_iou(prediction, target, 1)


def test_adversarial_losses_at_chance_and_when_right():
    undecided = torch.zeros(1, 1, 3, 3)
    assert discriminator_loss(undecided, undecided).item() == pytest.approx(math.log(2))
    assert discriminator_loss(undecided + 20, undecided - 20) < 1e-6
    assert generator_adversarial_loss(undecided - 20).item() == pytest.approx(20, rel=1e-4)


def test_ssim_loss_falls_towards_the_real_image():
    torch.manual_seed(0)
    real = torch.rand(1, 3, 24, 24) * 2 - 1
    fake = (real + 0.3 * torch.randn_like(real)).requires_grad_()
    loss = ssim_loss(fake, real)
    loss.backward()
    assert 0 < loss < 1
    assert ssim_loss(fake.detach() - 0.02 * fake.grad / fake.grad.abs().max(), real) < loss
    assert ssim_loss(real, real).item() == pytest.approx(0, abs=1e-6)


def test_ssim_loss_asks_for_what_is_measured():
    torch.manual_seed(0)
    real = 0.05 + 0.05 * torch.randn(2, 3, 32, 32)  # around the middle of the range, where signed means cancel
    fake = real - 0.1
    assert ssim_loss(fake, real).item() == pytest.approx(1 - ssim(to_8bit(fake), to_8bit(real)).mean().item(), abs=2e-3)
    assert ssim_loss(fake, real) < 0.1
