"""The on-disk contract: names, manifest, and the layout of records, which are encoded and read here. NumPy only."""
