"""A loader's state in TensorFlow's checkpoints and in Keras."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import keras  # type: ignore[import-untyped]
import tensorflow as tf

from loaders.order.state import StateError

MAX_STATES = 100
"""How many states `KerasState` keeps: a model that is older than all is refused."""


class Checkpointable(tf.train.experimental.PythonState):  # type: ignore[misc]  # TensorFlow has no types
    """What `tf.train.Checkpoint` saves and restores of a loader: its state.

    Args:
        loader: Any loader that has `state_dict` and `load_state_dict`.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def serialize(self) -> str:
        """The state as JSON."""
        return json.dumps(self._loader.state_dict())

    def deserialize(self, string_value: bytes) -> None:
        """Loads a state.

        Raises:
            StateError: If it is of another data set or order.
        """
        self._loader.load_state_dict(json.loads(string_value))


def track(loader: Any) -> Checkpointable:
    """Makes a loader's state a part of a checkpoint: `tf.train.Checkpoint(model=model, loader=track(loader))`.

    Args:
        loader: Any loader that has `state_dict` and `load_state_dict`.
    """
    return Checkpointable(loader)


class BackupAndRestore(keras.callbacks.BackupAndRestore):  # type: ignore[misc]  # Keras has no types
    """Keras's callback, but one that was itself restored knows in which epoch it saves.

    Keras's saves epoch 0 until the first epoch after it was restored ends; killed before, a training begins again to
    count its epochs.
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes the epoch."""
        self._current_epoch = epoch


class KerasState(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Lets `model.fit(loader.dataset(), ...)` begin where the model is that another callback restored.

    The loader's state is saved when a training begins and at the end of each epoch, with the optimizer's step. When the
    first epoch begins, the loader goes as many batches on from the last such state as the model has made steps since
    then: so it does not matter how often the model is saved, nor at which moment a training was killed. A model of step
    0, or one for which no state was ever saved, begins where the loader is.

    Each epoch of Keras is one iteration of the loader. A batch counts when its step is over: those that were made ahead
    do not.

    Args:
        loader: The `loaders.Loader`, `loaders.Mixture` or `loaders.WeightedLoader` whose `dataset()` is fitted.
        path: The file of the states, which is replaced as a whole.

    Raises:
        ValueError: When a training begins, if `steps_per_execution` does not divide the batches of an iteration; at the
            end of an epoch, if the optimizer has not made one step for each batch.
        StateError: When a training begins, if there is no state of the model's step or before, or it is of another
            epoch.
    """

    def __init__(self, loader: Any, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._loader, self._path = loader, pathlib.Path(path)
        self._saved: list[dict[str, Any]] = []
        self._begins, self._batches = True, 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Prepares for the first epoch; the model may not be restored yet."""
        steps = self.model.steps_per_execution
        if self._loader.epochs is not None and len(self._loader) % steps:
            raise ValueError(
                f"steps_per_execution: expected a divisor of the {len(self._loader)} batches of an epoch; found {steps}"
            )
        self._begins = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Goes to where the model is, where the training begins."""
        if self._begins:
            self._saved = self._restore(epoch)
            self._save(epoch)
        elif self._loader.is_over():
            self._loader.skip_iteration()
        self._begins, self._batches = False, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Ends an epoch that is shorter than others because it was resumed.

        Raises:
            OutOfRangeError: There, which Keras takes for the end of the data. Else the step would meet it, and would
                have advanced the optimizer's step and the random seeds by then, which do not wait for the data.
        """
        if self._loader.is_over():
            raise tf.errors.OutOfRangeError(None, None, "the epoch that was resumed is over")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts batches."""
        # One call is of several where the model has steps_per_execution.
        self._loader.advance(batch + 1 - self._batches)
        self._batches = batch + 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves a state."""
        steps = self._step() - self._saved[-1]["step"]
        if steps != self._batches:
            raise ValueError(f"optimizer: expected a step for each of {self._batches} batches; found {steps} steps")
        self._save(epoch)

    def _restore(self, epoch: int) -> list[dict[str, Any]]:
        """Goes to where the model is; returns the states that are saved up to there."""
        step, saved = self._step(), json.loads(self._path.read_text()) if self._path.exists() else []
        if not step or not saved:
            if self._loader.is_over():
                self._loader.skip_iteration()
            self._loader.advance(0)  # Keras may have looked at a batch before
            return []
        before = [state for state in saved if state["step"] <= step]
        if not before:
            raise StateError(f"{self._path}: expected a state of step {step} or before; found {saved[0]['step']}")
        last, loader = before[-1], self._loader
        loader.load_state_dict(last["state"])
        first = loader.epoch if loader.epochs is not None else 0
        loader.advance(step - last["step"], batch_size=last["batch_size"])
        if loader.epochs is not None:
            held = last["epoch"] + loader.epoch // loader.epochs - first // loader.epochs
            over = loader.is_over()
            if epoch != held and not (over and epoch == held + 1):
                raise StateError(
                    f"{self._path}: expected epoch {held + over}, where the model of step {step} "
                    f"is; found {epoch}. loaders.BackupAndRestore restores it, initial_epoch sets it"
                )
            if epoch > held:
                loader.skip_iteration()
        return before

    def _save(self, epoch: int) -> None:
        state = {"step": self._step(), "epoch": epoch, "batch_size": self._loader.batch_size}
        self._saved = [*self._saved, state | {"state": self._loader.state_dict()}][-MAX_STATES:]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(json.dumps(self._saved))
        new.replace(self._path)

    def _step(self) -> int:
        return int(self.model.optimizer.iterations)
