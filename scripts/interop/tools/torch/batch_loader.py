"""PyTorch's DataLoader, batches by loaders.torch.

A line more: `batch_size=None`, as batches are whole; without it, it is refused
"""

from torch.utils.data import DataLoader

from loaders.torch import Loader

batches = list(DataLoader(Loader("dataset", "train", batch_size=16), batch_size=None, num_workers=2))

# What follows compares it.
PACKAGE = "torch"
columns = [{name: list(values) for name, values in batch.items()} for batch in batches]
