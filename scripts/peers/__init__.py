"""The tools that `scripts/benchmark.py` measures, a module for each, which `peers.run` runs."""
