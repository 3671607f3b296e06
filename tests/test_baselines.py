from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from s2olib import metrics
from s2olib.baselines import BASELINES, HistogramMatching, MeanColour, Regression, local_statistics, sample_pixels
from s2olib.data.triplets import Triplets
from s2olib.metrics import mse
from s2olib.project import InputError


def triplets(count: int, colour, *, seed: int = 0, bands: int = 2, size: int = 48) -> list[dict[str, torch.Tensor]]:
    """A data set of smooth random SAR patches whose optical images are `colour` of the SAR."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, bands, 6, 6, generator=generator) * 2 - 1
    sar = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    return [{"sar": s, "opt": o} for s, o in zip(sar, colour(sar), strict=True)]


def linear(sar: torch.Tensor) -> torch.Tensor:
    vv, vh = sar[:, 0], sar[:, 1]
    return torch.stack([0.5 * vv + 0.3 * vh, -0.4 * vv, 0.6 * vh - 0.2], 1)


def batch(items: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([item["sar"] for item in items]), torch.stack([item["opt"] for item in items])


def test_mean_colour():
    train = triplets(5, linear)
    sar, opt = batch(train)
    painted = MeanColour.fit(train)(sar)
    torch.testing.assert_close(painted, opt.mean((0, 2, 3)).view(1, 3, 1, 1).expand_as(opt))
    assert painted.shape == opt.shape
    many = [{"sar": sar[0], "opt": torch.full_like(opt[0], i / 4000)} for i in range(4001)]  # every patch counts
    torch.testing.assert_close(MeanColour.fit(many).colour, torch.full((3,), 0.5))


def test_histogram_matching_undoes_a_monotonic_curve():
    def curve(sar):
        return torch.cat([sar**3, torch.tanh(2 * sar), 0.3 * sar + 0.1], 1)

    train, test = triplets(40, curve, bands=1), triplets(4, curve, bands=1, seed=1)
    sar, opt = batch(test)
    assert (HistogramMatching.fit(train)(sar) - opt).abs().mean() < 0.02


def test_histogram_matching_gives_the_optical_distribution_even_where_sar_is_unrelated():
    train = triplets(60, lambda sar: torch.rand(len(sar), 3, 48, 48, generator=torch.Generator().manual_seed(9)) - 0.5)
    fake = HistogramMatching.fit(train)(batch(train)[0])
    levels = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(np.quantile(fake[:, 1].numpy(), levels), levels - 0.5, atol=0.02)


def test_histogram_matching_survives_a_saturated_band():
    train = triplets(4, lambda sar: sar.repeat(1, 3, 1, 1), bands=1)
    for item in train:
        item["sar"] = item["sar"].clamp(min=0)  # half of the values are one value
    sar, opt = batch(train)
    fake = HistogramMatching.fit(train)(sar)
    assert fake.isfinite().all()
    saturated = fake[(sar == 0).expand_as(fake)]
    torch.testing.assert_close(saturated, opt.min().expand_as(saturated), msg="the darkest of their colours")


def test_regression_recovers_a_linear_relation():
    train, test = triplets(30, linear), triplets(4, linear, seed=1)
    sar, opt = batch(test)
    regression, mean = Regression.fit(train)(sar), MeanColour.fit(train)(sar)
    assert regression.shape == opt.shape and regression.dtype == torch.float32
    assert (mse(regression, opt) < 0.05 * mse(mean, opt)).all()


def test_regression_sees_texture():
    """Two textures of one mean: only the deviation tells them apart."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for i in range(20):
        rough = float(i % 2)
        sar = (0.05 + 0.4 * rough) * torch.randn(1, 48, 48, generator=generator)
        items.append({"sar": sar, "opt": torch.full((3, 48, 48), rough - 0.5)})
    sar, opt = batch(items[16:])
    assert mse(Regression.fit(items[:16])(sar), opt).max() < 0.03
    assert mse(HistogramMatching.fit(items[:16])(sar), opt).min() > 0.1


def test_local_statistics_are_those_of_the_cut_window():
    sar = torch.rand(1, 2, 30, 26, generator=torch.Generator().manual_seed(0))
    expected = torch.empty(1, 14, 30, 26)
    expected[:, :2] = sar
    for i, reach in enumerate((1, 4, 10)):  # of windows of 3, 9 and 21
        for row, column in product(range(30), range(26)):
            window = sar[0, :, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
            deviation, mean = torch.std_mean(window, (1, 2), correction=0)
            expected[0, 4 * i + 2 : 4 * i + 6, row, column] = torch.cat([mean, deviation])
    torch.testing.assert_close(local_statistics(sar), expected, atol=1e-5, rtol=1e-4)


def test_local_statistics_are_as_exact_far_from_the_first_pixel_of_a_scene():
    sar = torch.rand(1, 1, 500, 400, generator=torch.Generator().manual_seed(0))
    far, near = (local_statistics(image)[..., -20:, -20:] for image in (sar, sar[..., -40:, -40:]))
    torch.testing.assert_close(far, near, atol=1e-5, rtol=0)


def test_values_that_hardly_differ_have_a_deviation_that_is_a_number():
    differing = torch.randint(0, 2, (1, 1, 60, 60), generator=torch.Generator().manual_seed(0))
    assert local_statistics(0.9 + 6e-8 * differing).isfinite().all()


def test_regression_leaves_no_value_outside_the_range_where_colours_are_saturated():
    train = triplets(6, lambda sar: sar.sum(1, keepdim=True).clamp(-1, 1).repeat(1, 3, 1, 1), size=32)
    assert Regression.fit(train)(3 * batch(train)[0]).abs().max() == 1


def test_pixels_are_drawn_over_the_whole_split():
    items = [{"opt": torch.full((1, 8, 8), float(i))} for i in range(400)]
    drawn, _ = sample_pixels(items, lambda item: item["opt"], lambda item: item["opt"], 0)
    patches = drawn.unique()
    assert len(patches) < 400 and patches.mean().item() == pytest.approx(199.5, abs=15)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_seeded_stays_in_range_and_refuses_nothing_to_fit_on(name):
    train = triplets(6, linear, size=32)
    sar, opt = batch(train)
    first, second = (BASELINES[name].fit(train, seed=3)(sar * 1.5) for _ in range(2))
    assert torch.equal(first, second) and first.shape == opt.shape and first.abs().max() <= 1
    half = BASELINES[name].fit(train, seed=3)(sar.bfloat16().requires_grad_())
    assert half.dtype == torch.bfloat16 and half.shape == opt.shape
    with pytest.raises(InputError, match="triplets"):
        BASELINES[name].fit([])


def test_images_of_another_method_are_scored_as_the_documentation_says(dataset, tmp_path):
    page = (Path(__file__).parents[1] / "book/reproduce/own.md").read_text()
    code = page.split("*Another method's images*")[1].split("```python\n")[1].split("```")[0]
    test, references = Triplets(dataset, "test"), []
    for number, (name, item) in enumerate(zip(test.index["id"], test, strict=True)):
        real = metrics.to_8bit(item["opt"]).numpy().astype(np.uint8).transpose(1, 2, 0)
        theirs = np.where(real < 128, real + 3 + number % 5, real - 3)
        Image.fromarray(theirs.astype(np.uint8)).save(tmp_path / f"{name}.png")
        references.append(peak_signal_noise_ratio(real, theirs.astype(np.uint8), data_range=255))
    names = {}
    exec(code.replace("data/mine-10m", str(dataset)).replace("their_images", str(tmp_path)), names)
    assert names["patches"]["psnr"].to_numpy() == pytest.approx(references, abs=1e-6) and len(references) > 8
