"""Transforms for Beam pipelines of one's own: rows read from arrays, and data sets written of any rows."""

from pipelines.beam.read import ReadNpy

__all__ = ["ReadNpy"]
