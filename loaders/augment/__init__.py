"""Random changes of batches, the same whoever reads which batch. NumPy only."""

from loaders.augment.augmentation import Augmentation, apply
from loaders.augment.blending import CutMix, MixUp
from loaders.augment.geometry import FlipLeftRight, FlipUpDown, RandomCrop
from loaders.augment.intensity import BandDropout, Brightness, Contrast, Noise
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
