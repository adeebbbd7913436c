"""Accelerate."""

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from loaders.torch import Loader

accelerator = Accelerator(cpu=True)
model = torch.nn.Linear(4, 4)
batches = DataLoader(Loader("dataset", "train", batch_size=16), batch_size=None)
model, optimizer, batches = accelerator.prepare(model, torch.optim.Adam(model.parameters()), batches)
seen = []
for batch in batches:
    optimizer.zero_grad()
    accelerator.backward(torch.nn.functional.cross_entropy(model(batch["features"]), batch["label"]))
    optimizer.step()
    seen.append(batch)

# What follows compares it.
PACKAGE = "accelerate"
columns = [{name: list(values) for name, values in batch.items()} for batch in seen]
