"""The shortest code of a user of each tool, tried on data sets of every dtype: `scripts/interop.sh`."""
