"""Segmentation of the object from its background."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.domain.parameters import Background
from tests.unit.worker.engines.relief.sample_images import (
    GREY,
    NEARLY_WHITE,
    ORANGE,
    clutter,
    cut,
    disc_share,
    opaque,
    painted,
    plain,
)
from worker.engine import InputImage
from worker.engines.relief.segmentation import extract_matte


def object_mask(image: InputImage, background: Background = "auto") -> NDArray[np.bool_]:
    return extract_matte(image.rgba, background, has_alpha=image.has_alpha) > 0.5


def overlap(image: InputImage, share: NDArray[np.float32], background: Background = "auto") -> float:
    """Return the intersection over union of the matte and the expected object."""
    inside, expected = object_mask(image, background), share > 0.5
    return float((inside & expected).sum() / (inside | expected).sum())


@pytest.mark.parametrize("colour", [ORANGE, GREY, (30, 34, 60), NEARLY_WHITE], ids=["orange", "grey", "dark", "white"])
@pytest.mark.parametrize("shadow", [0, 0.3], ids=["no shadow", "soft shadow"])
def test_product_on_white_is_found_without_its_shadow(colour: tuple[int, int, int], shadow: float) -> None:
    """A product on a plain background is segmented along its edge, a white one too, without its soft shadow."""
    image = opaque(painted(disc_share(), colour, plain(shadow=shadow)))
    # The white one's lower edge disappears in the shadow: its exact position is not visible.
    assert overlap(image, disc_share()) > (0.9 if colour == NEARLY_WHITE and shadow else 0.98)


def test_product_on_a_coloured_background_is_found_without_its_shadow() -> None:
    """A shadow on blue paper is a darker blue, not another colour."""
    image = opaque(painted(disc_share(), ORANGE, plain((70, 120, 210), shadow=0.4)))
    assert overlap(image, disc_share()) > 0.95


def test_hard_shadow_next_to_a_product_is_removed() -> None:
    """A shadow with a sharp edge is recognized by hue and position: at the foot, beyond the object's hull."""
    background = plain()
    background[135:158, 110:190] *= 0.8
    assert overlap(opaque(painted(disc_share(), ORANGE, background)), disc_share()) > 0.95


def test_hole_in_a_product_is_open() -> None:
    """Where the background is visible through the object, there is no object."""
    share = disc_share(hole_px=20)
    assert overlap(opaque(painted(share, ORANGE, plain())), share) > 0.95


def test_white_product_has_no_holes() -> None:
    """A product as pale as the background has no holes: its bright middle belongs to it."""
    image = opaque(painted(disc_share(), NEARLY_WHITE, plain()))
    assert object_mask(image)[90:110, 90:110].all()


def test_product_before_clutter_is_found() -> None:
    """The object's own colours separate it from a background of many colours."""
    assert overlap(opaque(painted(disc_share(), ORANGE, clutter())), disc_share()) > 0.9


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    colours=st.integers(1, 255),
    background=st.sampled_from(["auto", "keep", "remove"]),
    has_alpha=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_image_gives_a_matte(
    height: int, width: int, colours: int, background: Background, has_alpha: bool, seed: int
) -> None:
    """Whatever the pixels are, each gets a share between 0 and 1."""
    rgba = np.random.default_rng(seed).integers(0, colours, (height, width, 4), np.uint8)
    share = extract_matte(rgba, background, has_alpha=has_alpha)
    assert (height, width) == share.shape
    assert 0 <= share.min() <= share.max() <= 1


def test_empty_image_shows_nothing() -> None:
    """A bare background has no object."""
    assert not object_mask(opaque(painted(disc_share() * 0, ORANGE, plain()))).any()


def test_alpha_channel_is_used() -> None:
    """With an alpha channel the object is what the channel covers."""
    assert overlap(cut(disc_share()), disc_share()) == 1


def test_translucent_object_is_an_object() -> None:
    """Glass that lets most light through is fully covered."""
    assert overlap(cut(disc_share(), alpha=0.3), disc_share()) > 0.97


def test_shadow_in_the_alpha_channel_is_dropped() -> None:
    """A soft black shadow in the alpha channel does not become part of the object."""
    image = cut(disc_share(30))
    shadow = (disc_share(80) > 0.5) & (disc_share(30) == 0)
    image.rgba[shadow] = (0, 0, 0, 90)
    assert overlap(image, disc_share(30)) > 0.85


def test_dust_and_pinholes_are_removed() -> None:
    """A few stray pixels are not part of the object, and a few missing ones are no hole."""
    image = cut(disc_share())
    image.rgba[5:7, 5:7, 3] = 255
    image.rgba[99:101, 99:101, 3] = 0
    assert overlap(image, disc_share()) == 1


def test_kept_background_makes_the_whole_image_the_object() -> None:
    """`keep` without alpha takes the whole image."""
    assert object_mask(opaque(painted(disc_share(), ORANGE, plain())), "keep").all()


def test_background_is_removed_on_request_despite_alpha() -> None:
    """`remove` segments inside of what the alpha channel covers."""
    rgba = opaque(painted(disc_share(40), ORANGE, plain())).rgba
    rgba[:3, :, 3] = 0
    assert overlap(InputImage(rgba, has_alpha=True), disc_share(40), "remove") > 0.95
