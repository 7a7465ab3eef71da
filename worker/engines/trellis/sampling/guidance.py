"""Classifier-free guidance (arXiv:2207.12598) with the rescale of arXiv:2305.08891, section 3.4."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Guidance:
    """How strongly the picture is followed.

    strength: 1 means the picture alone. rescale: 0-1, how much of the guided sample's contrast is put back. sigma_min:
    the noise that is left in a sample, a constant of the trained flow.
    """

    strength: float
    rescale: float
    sigma_min: float

    def combine(self, x: Tensor, time: float, velocities: Tensor) -> Tensor:
        """The guided velocity of x [tokens, channels] from those with and without the picture [2, tokens, channels]."""
        with_picture, without = velocities.unbind(0)
        guided = self.strength * with_picture + (1 - self.strength) * without
        if self.rescale <= 0:
            return guided
        sigma = self.sigma_min + (1 - self.sigma_min) * time
        noisy = (1 - self.sigma_min) * x
        sample = noisy - sigma * guided
        ratio = (noisy - sigma * with_picture).std() / sample.std()
        sample = self.rescale * (sample * ratio) + (1 - self.rescale) * sample
        return (noisy - sample) / sigma
