"""Grain."""

import grain

import loaders

rows = loaders.open("dataset")["train"]
batches = grain.MapDataset.range(len(rows)).shuffle(seed=1).batch(16).map(rows.__getitem__)

# What follows compares it.
PACKAGE = "grain"
columns = list(batches)
