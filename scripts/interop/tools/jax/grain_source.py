"""Grain, row by row."""

import grain

import loaders

batches = grain.MapDataset.source(loaders.open("plain")["train"]).shuffle(seed=1).batch(16)

# What follows compares it.
PACKAGE = "grain"
columns = list(batches)
