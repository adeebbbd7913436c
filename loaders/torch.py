"""Feeds PyTorch: `loaders.numpy.Loader` as an `IterableDataset`, also for `torchdata`'s `StatefulDataLoader`."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise ImportError("loaders.torch needs PyTorch: pip install 'npyflow[torch]'") from error

from loaders import numpy
from loaders.options import Keywords, Options, check_shard, shows
from loaders.order import hashing
from loaders.order.epoch import ShardOptions

__all__ = ["Loader", "ShardOptions", "tensors"]

EPOCH_BITS = 31


@shows(Options)
class Loader(IterableDataset):  # type: ignore[misc]  # torch is optional, so mypy may not see it
    """Yields batches of tensors: pass it to `DataLoader(loader, batch_size=None, ...)`, or iterate it.

    With `num_workers=k`, worker w reads batches number w, w + k, … of this host; `DataLoader` takes them in turn, so
    that batches and their order are those of no workers. Each iteration of the `DataLoader` has the next epochs, as
    each of `loaders.numpy.Loader` has.

    Args:
        root: As in `loaders.numpy.Loader`.
        split: As in `loaders.numpy.Loader`.
        **options: The fields of `loaders.options.Options`, as keywords.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If an option's value is of another type.
        ValueError: If an option's value is not allowed; when it is iterated, if a `DataLoader` has a `batch_size`.
    """

    def __init__(self, root: str | os.PathLike[str], split: str, **options: Unpack[Keywords]) -> None:
        super().__init__()
        self._loader, self._shard = numpy.Loader(root, split, **options), options.get("shard")
        self._pass = torch.zeros(1, dtype=torch.int64).share_memory_()
        # What a worker has done: its batches since the state that all workers began with.
        self._start = self._loader.state_dict()
        self._yielded = self._workers = 0
        self._resumes = False

    def __len__(self) -> int:
        """How many batches one iteration has.

        Raises:
            TypeError: If it has no end.
        """
        return len(self._loader)

    def __getstate__(self) -> dict[str, Any]:
        # Workers that are not forked know nothing of the processes that have met in this one.
        check_shard(self._shard)
        return self.__dict__

    def __iter__(self) -> Iterator[Any]:
        _check_caller()
        worker = get_worker_info()
        if worker is None:
            if self._resumes:
                raise ValueError(f"expected a state of no workers; found one of {self._workers}")
            return (tensors(batch) for batch in self._loader)
        return self._share(worker)

    def _share(self, worker: Any) -> Iterator[Any]:
        """The batches of a worker."""
        if self._resumes:
            if self._workers != worker.num_workers:
                raise ValueError(f"expected a state of {worker.num_workers} workers; found one of {self._workers}")
            self._set_pass(worker, self._start["epoch"])
        else:
            # An iteration that was left counts as if it had ended.
            epoch = self._loader.next_epoch(self._start["epoch"]) if self._yielded else self._first(worker)
            if epoch > self._loader.state_dict()["epoch"]:
                self._loader.load_state_dict(self._loader.state_dict() | {"epoch": epoch, "rows": 0})
            self._start, self._workers, self._yielded = self._loader.state_dict(), worker.num_workers, 0
        self._resumes = False
        return self._run(worker)

    def _run(self, worker: Any) -> Iterator[Any]:
        first = self._yielded * worker.num_workers + worker.id
        # The `DataLoader` itself asks for some batches ahead.
        for _, batch in self._loader.iterate(first=first, stride=worker.num_workers, prefetch=0):
            self._yielded += 1
            yield tensors(batch)
        self._start, self._yielded = self._loader.state_dict(), 0

    def _first(self, worker: Any) -> int:
        """The epoch that this pass begins with.

        Workers are made anew for each pass of a `DataLoader` and know nothing of the last one; `self._pass` does, which
        they share. It holds a hash of the pass and its first epoch in one number, which is written at once, so that
        workers that begin together read, or write, the same.
        """
        found, epoch = divmod(int(self._pass), 1 << EPOCH_BITS)
        if not found:
            epoch = self._loader.epoch
        elif found != _hash(worker):
            epoch = self._loader.next_epoch(epoch)
        self._set_pass(worker, epoch)
        return epoch

    def _set_pass(self, worker: Any, epoch: int) -> None:
        self._pass[0] = _hash(worker) << EPOCH_BITS | epoch

    def state_dict(self) -> dict[str, Any]:
        """Which rows are consumed; in a worker of a `StatefulDataLoader`, what it has yielded.

        Returns:
            JSON values, under 1 KB. Outside of workers it is the state of `loaders.numpy.Loader`, which either loads.
        """
        if get_worker_info() is None or not self._workers:
            return self._loader.state_dict()
        return {"loader": self._start, "workers": self._workers, "yielded": self._yielded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next iteration go on with the batch after the state.

        Args:
            state: What `state_dict` gave. That of a worker needs as many workers again.

        Raises:
            StateError: If it is of another data set or order; it is a `ValueError`.
        """
        self._loader.load_state_dict(state.get("loader", state))
        self._start = self._loader.state_dict()
        self._workers, self._yielded = state.get("workers", 0), state.get("yielded", 0)
        self._resumes = "workers" in state
        if get_worker_info() is None:
            self._pass[0] = 0


def _check_caller() -> None:
    """Checks that no `DataLoader` makes batches of the batches.

    A data set is not told what becomes of its elements; the object that asks for them knows, and calls from above.

    Raises:
        ValueError: If one does.
    """
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self") if "self" in frame.f_code.co_varnames[:1] else None
        if getattr(caller, "auto_collation", False) and isinstance(getattr(caller, "dataset", None), IterableDataset):
            raise ValueError(
                "batch_size of DataLoader: expected None, as loaders.torch.Loader yields whole batches: "
                "DataLoader(loader, batch_size=None, num_workers=...); found a DataLoader that makes batches of them"
            )
        frame = frame.f_back


def _hash(worker: Any) -> int:
    """31 bits that are the same for all workers of a pass, and others for the next pass."""
    return hashing.derive(worker.seed - worker.id) >> (64 - EPOCH_BITS) | 1


def tensors(batch: Any) -> Any:
    """A batch of NumPy arrays as tensors that share their memory; strings become lists of `bytes`."""
    if isinstance(batch, dict):
        return {name: tensors(values) for name, values in batch.items()}
    if isinstance(batch, tuple):
        return tuple(tensors(values) for values in batch)
    return batch.tolist() if batch.dtype == object else torch.from_numpy(batch)
