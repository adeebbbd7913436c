"""How batches travel between workers."""

from __future__ import annotations

import pickle
from typing import Any

import apache_beam as beam

from pipelines.reading.batches import values_of


class Batch(dict[str, Any]):
    """The type by which Beam knows a PCollection of batches; the elements themselves are plain dicts."""


class BatchCoder(beam.coders.Coder):  # type: ignore[misc]
    """Pickles batches, and says how large they are without.

    Beam measures elements for its metrics, by encoding them unless a coder knows better: with batches of megabytes
    that took four times as long as reading them.
    """

    def encode(self, batch: dict[str, Any]) -> bytes:
        """Pickles a batch."""
        return pickle.dumps(batch, protocol=5)

    def decode(self, encoded: bytes) -> dict[str, Any]:
        """The batch again."""
        found: dict[str, Any] = pickle.loads(encoded)
        return found

    def estimate_size(self, batch: dict[str, Any]) -> int:
        """The bytes of the arrays."""
        return sum(int(values_of(column).nbytes) for column in batch.values())

    def is_deterministic(self) -> bool:
        """Equal batches may be encoded in several ways."""
        return False

    def to_type_hint(self) -> type[Batch]:
        """The type that it is for."""
        return Batch


beam.coders.registry.register_coder(Batch, BatchCoder)
