"""Zarr."""

import zarr

group = zarr.open_group("zarr/train.zarr", mode="r")
numbers = group["one_uint16"][:]

# What follows compares it.
PACKAGE = "zarr"
columns = {name: group[name][:] for name in group}
