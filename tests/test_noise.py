import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transmooth.noise import add_noise, block_key, draw_sigmas, training_key
from transmooth.smoothing.decision import ESTIMATION, PILOT, SELECTION


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_blocks_of_an_image_have_seeds_of_their_own_even_in_32_bits(seed: int, index: int) -> None:
    # The CPU generator reads the low 32 bits: two equal ones would count the same noise twice.
    streams = (SELECTION, ESTIMATION, PILOT)
    keys = {block_key(seed, index, stream, block) % 2**32 for stream in streams for block in range(500)}
    assert len(keys) == 1500


def test_images_and_seeds_have_keys_of_their_own() -> None:
    keys = {block_key(seed, index, ESTIMATION, 0) for seed in range(30) for index in range(300)}
    assert len(keys) == 9000
    assert training_key(0, 1, 2) != training_key(0, 2, 1)


def test_sigmas_are_uniform_over_the_set() -> None:
    drawn = draw_sigmas((0.0, 0.25, 1.0), 30_000, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.float32
    for sigma in (0.0, 0.25, 1.0):
        assert (drawn == sigma).float().mean().item() == pytest.approx(1 / 3, abs=0.012)


def test_noise_has_the_sigma_of_its_image_and_clean_stays_clean() -> None:
    images = torch.full((3, 3, 64, 64), 0.5)
    noisy = add_noise(images, torch.tensor([0.0, 0.25, 1.0]), torch.Generator().manual_seed(0))
    assert torch.equal(noisy[0], images[0])
    assert (noisy[1] - 0.5).std().item() == pytest.approx(0.25, rel=0.03)
    assert (noisy[2] - 0.5).std().item() == pytest.approx(1.0, rel=0.03)
    assert noisy[2].min() < 0  # not clipped


def test_noise_does_not_depend_on_the_order_of_memory() -> None:
    images, sigma = torch.rand(4, 3, 8, 8), torch.tensor([0.0, 0.25, 0.5, 1.0])
    last = images.contiguous(memory_format=torch.channels_last)
    noisy, noisy_last = (add_noise(each, sigma, torch.Generator().manual_seed(0)) for each in (images, last))
    assert torch.equal(noisy, noisy_last)
    assert noisy.is_contiguous()
    assert noisy_last.is_contiguous(memory_format=torch.channels_last)
