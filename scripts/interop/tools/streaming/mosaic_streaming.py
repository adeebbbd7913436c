"""MosaicML Streaming."""

import streaming

rows = streaming.StreamingDataset(local="mds", split="train", batch_size=1, validate_hash="sha256")

# What follows compares it.
PACKAGE = "mosaicml-streaming"
found = [rows[number] for number in range(len(rows))]
columns = {name: [row[name] for row in found] for name in found[0]}
for name in columns:  # complex numbers come as their two parts
    if "complex" in name:
        columns[name] = [value.view(f"complex{16 * value.itemsize}")[..., 0] for value in columns[name]]
