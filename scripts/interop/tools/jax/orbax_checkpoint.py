"""Orbax."""

import pathlib

import numpy as np
import orbax.checkpoint as ocp

from loaders.numpy import Loader

loader = Loader("dataset", "train", batch_size=16)
batches = [next(iter(loader))]
save, load = ocp.args.JsonSave, ocp.args.JsonRestore
with ocp.CheckpointManager(pathlib.Path("orbax").resolve()) as manager:
    weights = ocp.args.StandardSave({"weights": np.zeros(4)})
    manager.save(0, args=ocp.args.Composite(model=weights, loader=save(loader.state_dict())))
    manager.wait_until_finished()
    restored = manager.restore(0, args=ocp.args.Composite(loader=load()))
loader = Loader("dataset", "train", batch_size=16)
loader.load_state_dict(restored["loader"])
batches += loader

# What follows compares it.
PACKAGE = "orbax-checkpoint"
columns = batches
