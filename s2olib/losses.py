"""What generator and discriminators minimise: semantic, feature, adversarial and structural losses.

The talk names only the feature loss, an MSE at the deepest feature map of the Deep Semantic Discriminator; the
adversarial loss is pix2pix's (Isola et al., CVPR 2017), the others are choices of this project.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from s2olib.dsd import DSD
from s2olib.metrics import ssim
from s2olib.project import InputError

MOMENTUM = 0.1  # of the running statistics of features


def segmentation_loss(
    logits: Tensor, target: Tensor, ignore_index: int = 255, class_weights: Tensor | Sequence[float] | None = None
) -> Tensor:
    """Cross-entropy plus dice of `logits` (B, K, H, W) against `target` (B, H, W) int64 categories, a scalar.

    Pixels of `ignore_index` count nowhere; a target of nothing else gives 0. Dice sums over the batch's pixels per
    class and is averaged over the classes that occur in the target.
    """
    if not logits.numel():
        raise InputError(f"logits have shape {tuple(logits.shape)}: a loss needs at least one image with pixels.")
    if target.shape != (logits.shape[0], *logits.shape[2:]):
        raise InputError(f"target has shape {tuple(target.shape)}, logits {tuple(logits.shape)}: give one per pixel.")
    if target.dtype != torch.int64:
        raise InputError(f"target is {target.dtype}: give categories as int64.")
    if class_weights is not None and torch.as_tensor(class_weights).shape != logits.shape[1:2]:
        given = tuple(torch.as_tensor(class_weights).shape)
        raise InputError(f"class_weights has shape {given}: give one number for each of {logits.shape[1]} classes.")
    logits = logits.float()
    known = target != ignore_index  # (B, H, W)
    classes = target.where(known, 0)
    if target.device.type == "cpu" and not 0 <= classes.min() <= classes.max() < logits.shape[1]:  # a GPU would wait
        found = f"{classes.min()} to {classes.max()}"
        raise InputError(f"target has categories from {found}: logits have {logits.shape[1]}, counted from 0.")
    log_probability = logits.log_softmax(1)
    weight = known.float() if class_weights is None else known * torch.as_tensor(class_weights).to(logits)[classes]
    nll = -log_probability.gather(1, classes[:, None])[:, 0]  # (B, H, W)
    cross_entropy = (nll * weight).sum() / weight.sum().clamp(min=1e-6)

    truth = F.one_hot(classes, logits.shape[1]).movedim(-1, 1) * known[:, None]  # (B, K, H, W)
    probability = log_probability.exp() * known[:, None]
    pixels = (0, 2, 3)
    overlap, total = (probability * truth).sum(pixels), probability.sum(pixels) + truth.sum(pixels)  # (K,)
    present = truth.sum(pixels) > 0
    dice = ((1 - 2 * overlap / total.clamp(min=1e-6)) * present).sum() / present.sum().clamp(min=1)
    return cross_entropy + dice


class FeatureLoss(nn.Module):
    """MSE between real and fake optical images at the DSD's deepest feature map, in units of each channel's deviation.

    Without that scale the loss would depend on how large the DSD's features happen to be and fade or explode as it
    learns. Running mean and variance per channel are taken from real images while this module is in training mode; the
    variance averages each batch's squared distances from the mean as it was then, and so lacks, like BatchNorm's, what
    the mean moved afterwards. Only `fake` receives a gradient: for this step the DSD is in evaluation mode and its
    weights are frozen. The DSD itself is not part of the state dictionary.
    """

    def __init__(self, dsd: DSD) -> None:
        super().__init__()
        self._dsd = [dsd]  # in a list: the DSD is no part of this module's state
        self.register_buffer("mean", torch.zeros(dsd.deepest_channels))
        self.register_buffer("variance", torch.ones(dsd.deepest_channels))
        self.register_buffer("updates", torch.tensor(0))

    def forward(self, sar: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        """A scalar from `sar` (B, Cs, H, W), `real` and `fake` (B, Co, H, W)."""
        dsd = self._dsd[0]
        modes, frozen = [(m, m.training) for m in dsd.modules()], [p for p in dsd.parameters() if p.requires_grad]
        dsd.eval()
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            with torch.no_grad():
                target = dsd.deepest(sar, real).float()
            features = dsd.deepest(sar, fake).float()
        finally:
            for module, training in modes:  # of which some may be kept in evaluation mode
                module.training = training
            for parameter in frozen:
                parameter.requires_grad_(True)
        if self.training:
            self._update(target)
        deviation = self.variance.sqrt()
        # A channel that never fires must not turn the fake's first activation into an enormous error.
        deviation = deviation.clamp(min=0.1 * deviation.mean().clamp(min=1e-6)).view(1, -1, 1, 1)
        return F.mse_loss(features / deviation, target / deviation)

    @torch.no_grad()
    def _update(self, target: Tensor) -> None:
        rate = max(MOMENTUM, 1 / (int(self.updates) + 1))  # a plain average at first
        self.updates += 1
        centred = target - self.mean.view(1, -1, 1, 1)
        moments = torch.stack([centred.mean((0, 2, 3)), centred.square().mean((0, 2, 3))])
        if distributed.is_available() and distributed.is_initialized():  # each process holds a part of the batch
            distributed.all_reduce(moments)
            moments /= distributed.get_world_size()
        step = rate * moments[0]
        self.mean += step
        self.variance.lerp_(moments[1] - 2 * step * moments[0] + step.square(), rate)  # around the mean as it is now


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """pix2pix's discriminator objective, a scalar: half the binary cross-entropies of real pairs and of fake ones."""
    real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return (real + fake) / 2


def generator_adversarial_loss(fake_logits: Tensor) -> Tensor:
    """pix2pix's adversarial objective of the generator, a scalar: fake pairs should be taken for real ones."""
    return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


def ssim_loss(fake: Tensor, real: Tensor) -> Tensor:
    """1 − SSIM of images in [-1, 1], averaged over the batch, a scalar.

    SSIM compares means by their ratio and is defined for values from 0 on: brought to 0..255, as it is measured. What
    is darker than -1 can look alike in it though it is not: a network that does not clip needs L1 beside it.
    """
    return 1 - ssim((fake + 1) * 127.5, (real + 1) * 127.5).mean()


@torch.no_grad()
def optical_sensitivity(dsd: DSD, sar: Tensor, opt: Tensor, other_opt: Tensor) -> Tensor:
    """How far the deepest map depends on the optical image, (B,): ‖f(sar, opt) − f(sar, other)‖ / ‖f(sar, opt)‖.

    0 means that a feature loss there can teach the generator nothing; it is that of a patch with a map of zeros, too.
    Evaluate with `dsd.eval()`.
    """
    features = dsd.deepest(sar, opt).flatten(1)
    moved, size = (features - dsd.deepest(sar, other_opt).flatten(1)).norm(dim=1), features.norm(dim=1)
    return torch.where(size > 0, moved / size, 0)


def mean_iou(prediction: Tensor, target: Tensor, num_classes: int) -> float:
    """Intersection over union, averaged over the classes that occur in either; NaN where no pixel has a class.

    `prediction` and `target` (B, H, W) hold classes 0..num_classes−1; pixels whose target is anything else are no data.
    """
    if prediction.shape != target.shape:
        raise InputError(
            f"prediction has shape {tuple(prediction.shape)}, target {tuple(target.shape)}: give one class each."
        )
    target, prediction = target.long(), prediction.long()  # products of bytes wrap around
    known = (target >= 0) & (target < num_classes)
    if known.any() and not 0 <= prediction[known].min() <= prediction[known].max() < num_classes:
        found = f"{prediction[known].min()} to {prediction[known].max()}"
        raise InputError(f"prediction has classes from {found}: there are {num_classes}, counted from 0.")
    pairs = target[known] * num_classes + prediction[known]
    confusion = torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
    both = confusion.diagonal()
    either = confusion.sum(0) + confusion.sum(1) - both
    return (both[either > 0] / either[either > 0]).mean().item()
