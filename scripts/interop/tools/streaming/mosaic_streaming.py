"""MosaicML Streaming.

A line more: their `MDSWriter`, as its index is made by one process
"""

import streaming

import loaders

kinds = {"features": "ndarray:float32:4", "axes_uint16": "ndarray:uint16:2,3", "row": "int64"}
with streaming.MDSWriter(out="mds", columns=kinds) as writer:
    for row in loaders.open("dataset")["train"]:
        writer.write({name: row[name] for name in kinds})
rows = streaming.StreamingDataset(local="mds", batch_size=1)

# What follows compares it.
PACKAGE = "mosaicml-streaming"
found = [rows[number] for number in range(len(rows))]
columns = {name: [row[name] for row in found] for name in found[0]}
