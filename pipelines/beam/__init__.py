"""Transforms for Beam pipelines of one's own: rows read from arrays, and data sets written of any rows."""

from pipelines.beam.read import ReadNpy
from pipelines.beam.transform import Analyze, Transform
from pipelines.beam.write import WriteDataset
from pipelines.reading.batches import Ragged

__all__ = ["Analyze", "Ragged", "ReadNpy", "Transform", "WriteDataset"]
