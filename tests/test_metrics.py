import math

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from s2olib import metrics
from s2olib.project import InputError


def images(kind: str, height: int, width: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """A pair of batches in [-1, 1]: noise, or structure (ramps, a bright square, a flat half)."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    noise = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
    if kind == "noise":
        return noise, torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
    real = torch.linspace(-1, 1, width).expand(batch, 3, height, width).clone()
    real[:, 1, : height // 2] = -0.4
    real[1:, :, 3:9, 3:9] = 0.9
    return (real + 0.2 * noise).clamp(-1, 1), real


@pytest.mark.parametrize("kind", ["noise", "structure"])
@pytest.mark.parametrize("size", [(11, 11), (12, 31), (64, 48), (65, 33)])
def test_psnr_and_ssim_equal_scikit_image(kind, size):
    fake, real = (metrics.to_8bit(x) for x in images(kind, *size))
    ours = metrics.psnr(fake, real), metrics.ssim(fake, real)
    for i, (f, r) in enumerate(zip(fake.numpy(), real.numpy(), strict=True)):
        assert ours[0][i].item() == pytest.approx(peak_signal_noise_ratio(r, f, data_range=255), abs=1e-9)
        reference = structural_similarity(
            r, f, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        assert ours[1][i].item() == pytest.approx(reference, abs=1e-6)


def test_8bit_is_what_a_saved_file_holds():
    x = torch.tensor([-3.0, -1.0, -0.999, 0.0, 0.5, 1.0, 1.7])
    assert metrics.to_8bit(x).tolist() == [0, 0, 0, 128, 191, 255, 255]
    assert metrics.to_8bit(x).dtype == torch.float64


def test_ssim_gradient_is_right_and_a_step_along_it_helps():
    fake, real = ((image.double() + 1) * 127.5 for image in images("structure", 12, 13, batch=1))
    fake.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: metrics.ssim(x, real), fake)
    loss = 1 - metrics.ssim(fake, real).mean()
    (gradient,) = torch.autograd.grad(loss, fake)
    assert 1 - metrics.ssim(fake - 0.01 * gradient, real).mean() < loss


def test_ssim_keeps_float32_under_autocast():
    fake, real = ((image + 1) * 127.5 for image in images("structure", 32, 32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = metrics.ssim(fake.bfloat16().float(), real)
    assert under.dtype == torch.float32
    torch.testing.assert_close(under, metrics.ssim(fake.bfloat16().float(), real))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_as_good_as_its_numbers(dtype):
    fake, real = (metrics.to_8bit(image).to(dtype) for image in images("structure", 32, 32))  # exact in both
    lulc, colour = torch.zeros(real.shape[0], 32, 32, dtype=torch.uint8), torch.tensor([10.0, 90.0, 200.0])
    for metric in (
        *(metrics.mse, metrics.psnr, metrics.offset_free_psnr, metrics.sam, metrics.edge_correlation, metrics.ssim),
        metrics.flat_deviation,
        lambda a, b: metrics.skill(a, b, colour),
        lambda a, b: metrics.category_mse(a, b, lulc, 1),
    ):
        torch.testing.assert_close(metric(fake, real), metric(fake.float(), real.float()))
    assert metrics.psnr(real, real).isfinite().all()


def test_identical_images():
    _, real = images("structure", 32, 32)
    row = metrics.patch_metrics(real, real, mean_colour=[0, 0, 0])[1]
    assert row["psnr"] == row["offset_free_psnr"] == pytest.approx(20 * math.log10(255 * 12**0.5))  # rounding's error
    assert (row["ssim"], row["rmse"], row["sam"], row["skill"]) == pytest.approx((1, 0, 0, 1))
    assert row["edge_correlation"] == pytest.approx(1) and row["flat_deviation"] == row["flat_deviation_real"]


def test_mean_colour_has_no_skill_and_no_edges():
    _, real = images("structure", 32, 32)
    colour = real.mean((0, 2, 3))
    flat = colour.view(1, 3, 1, 1).expand_as(real)
    for row in metrics.patch_metrics(flat, real, mean_colour=colour.tolist()):
        assert row["skill"] == 0 and row["edge_correlation"] == 0 and row["flat_deviation"] == 0


def test_offset_free_psnr_forgives_an_offset_alone():
    fake, real = (metrics.to_8bit(x) for x in images("noise", 24, 24))
    assert (metrics.offset_free_psnr(fake, real) >= metrics.psnr(fake, real)).all()
    offset = torch.tensor([5.0, -30.0, 12.0], dtype=torch.float64).view(1, 3, 1, 1)
    torch.testing.assert_close(metrics.offset_free_psnr(fake + offset, real), metrics.offset_free_psnr(fake, real))
    torch.testing.assert_close(metrics.offset_free_psnr(real + offset, real), metrics.psnr(real, real))


def test_category_errors_add_up_to_the_whole():
    fake, real = (metrics.to_8bit(x) for x in images("noise", 20, 30))
    lulc = torch.randint(0, 3, (2, 20, 30), generator=torch.Generator().manual_seed(0))
    share = torch.stack([(lulc == k).double().mean((1, 2)) for k in range(4)], 1)
    parts = metrics.category_mse(fake, real, lulc, 4)
    assert parts[:, 3].isnan().all()
    torch.testing.assert_close((parts * share)[:, :3].sum(1), metrics.mse(fake, real))


def test_a_category_that_is_hit_exactly_has_the_psnr_of_rounding():
    real = torch.zeros(1, 3, 16, 16)
    lulc = torch.zeros(1, 16, 16, dtype=torch.int64)
    (row,) = metrics.patch_metrics(real, real, mean_colour=[0, 0, 0], lulc=lulc, categories=["water"])
    assert row["psnr_water"] == pytest.approx(10 * math.log10(255**2 * 12))


def test_no_data_counts_in_no_category():
    fake, real = images("noise", 16, 16, batch=1)
    lulc = torch.full((1, 16, 16), 255)
    lulc[:, :8] = 1
    names = ("water", "forest")
    (row,) = metrics.patch_metrics(fake, real, mean_colour=[0, 0, 0], lulc=lulc, categories=names)
    upper = metrics.psnr(metrics.to_8bit(fake[:, :, :8]), metrics.to_8bit(real[:, :, :8])).item()
    assert math.isnan(row["psnr_water"]) and row["psnr_forest"] == pytest.approx(upper)


def test_spectral_angle():
    def pixel(*colour):
        return torch.tensor(colour, dtype=torch.float64).view(1, 3, 1, 1)

    assert metrics.sam(pixel(10, 20, 30), pixel(20, 40, 60)).item() == pytest.approx(0, abs=1e-6)
    assert metrics.sam(pixel(1, 0, 0), pixel(1, 1, 0)).item() == pytest.approx(45)
    assert metrics.sam(pixel(0, 0, 0), pixel(0, 0, 0)).item() == 0
    assert metrics.sam(pixel(0, 0, 0), pixel(7, 1, 3)).item() == pytest.approx(90)
    fake, real = (metrics.to_8bit(x) + 1 for x in images("noise", 9, 9))
    cosine = (fake * real).sum(1) / (fake.norm(dim=1) * real.norm(dim=1))
    torch.testing.assert_close(metrics.sam(fake, real), cosine.arccos().rad2deg().mean((1, 2)))


def test_noise_and_clarity_measure_what_they_say():
    step = torch.full((1, 3, 48, 48), 60.0, dtype=torch.float64)
    step[..., 24:] = 180
    noise = torch.randn(step.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = step + 10 * noise[:, :1]
    assert metrics.flat_deviation(step, step).item() == pytest.approx(0, abs=1e-6)
    assert metrics.flat_deviation(noisy, step).item() == pytest.approx(10, rel=0.1)
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(step, (4, 4, 4, 4), mode="replicate"), 9, 1)
    correlations = [metrics.edge_correlation(x, step).item() for x in (step, blurred, step.flip(1).transpose(2, 3))]
    assert correlations[0] == pytest.approx(1) and correlations[0] > correlations[1] > correlations[2]
    assert metrics.edge_correlation(noisy, torch.zeros_like(step)).isnan().all()


def test_patch_metrics_match_one_by_one_whatever_the_batch():
    fake, real = images("structure", 24, 20)
    together = metrics.patch_metrics(fake, real, mean_colour=[0.1, 0, -0.1])
    alone = [metrics.patch_metrics(fake[i, None], real[i, None], mean_colour=[0.1, 0, -0.1])[0] for i in range(2)]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-12)


@pytest.mark.parametrize(
    ("fake", "real", "said"),
    [
        ((1, 3, 16, 16), (1, 3, 16, 17), "fake has shape"),
        ((3, 16, 16), (3, 16, 16), "fake has shape"),
        ((0, 3, 16, 16), (0, 3, 16, 16), "empty"),
        ((1, 3, 16, 10), (1, 3, 16, 10), "11 x 11"),
    ],
)
def test_unusable_images_are_named(fake, real, said):
    with pytest.raises(InputError, match=said):
        metrics.patch_metrics(torch.zeros(fake), torch.zeros(real), mean_colour=[0, 0, 0])


def test_integers_are_refused_since_their_difference_wraps():
    x = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(InputError, match="uint8"):
        metrics.psnr(x, x)


def test_land_cover_of_another_size_is_named():
    x = torch.zeros(1, 3, 16, 16)
    with pytest.raises(InputError, match="lulc"):
        metrics.patch_metrics(x, x, mean_colour=[0, 0, 0], lulc=torch.zeros(1, 8, 8), categories=("water",))


def test_colours_and_categories_that_do_not_fit_are_named():
    image = torch.zeros(1, 3, 16, 16)
    with pytest.raises(InputError, match="mean_colour has 2 numbers, the images 3 bands"):
        metrics.patch_metrics(image, image, mean_colour=[0, 0])
    with pytest.raises(InputError, match="lulc is given without categories"):
        metrics.patch_metrics(image, image, mean_colour=[0, 0, 0], lulc=torch.zeros(1, 16, 16))


def test_noise_and_clarity_equal_plain_filters():
    pairs = images("noise", 24, 31)
    fake, real = (metrics.to_8bit(x) for x in pairs)
    greys = [x.mean(1).numpy() for x in (fake, real)]
    for i in range(2):
        a, b = (np.hypot(ndimage.sobel(g[i], 0), ndimage.sobel(g[i], 1))[1:-1, 1:-1].ravel() for g in greys)
        assert metrics.edge_correlation(fake, real)[i].item() == pytest.approx(np.corrcoef(a, b)[0, 1])
        ours, theirs = (sliding_window_view(g[i], (7, 7)).std((2, 3)).ravel() for g in greys)
        flat = theirs <= np.sort(theirs)[theirs.size // 4 - 1]
        assert metrics.flat_deviation(fake, real)[i].item() == pytest.approx(ours[flat].mean())
        row = metrics.patch_metrics(*(x[i : i + 1] for x in pairs), mean_colour=[0, 0, 0])[0]
        assert row["flat_deviation"] == pytest.approx(ours[flat].mean())
