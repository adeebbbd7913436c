"""PyTorch's DataLoader."""

from torch.utils.data import DataLoader

import loaders

batches = list(DataLoader(loaders.open("plain")["train"], batch_size=16, shuffle=True))

# What follows compares it.
PACKAGE = "torch"
columns = batches
