"""Random changes of batches, the same whoever reads which batch. NumPy only."""

from loaders.augment.augmentations import (
    Augmentation,
    BandDropout,
    Brightness,
    Contrast,
    CutMix,
    FlipLeftRight,
    FlipUpDown,
    MixUp,
    Noise,
    RandomCrop,
    apply,
)
from loaders.augment.random import Random

__all__ = [
    "Augmentation",
    "BandDropout",
    "Brightness",
    "Contrast",
    "CutMix",
    "FlipLeftRight",
    "FlipUpDown",
    "MixUp",
    "Noise",
    "Random",
    "RandomCrop",
    "apply",
]
