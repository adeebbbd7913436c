"""A loader's state in TensorFlow's checkpoints and in Keras."""

from __future__ import annotations

import json
import math
import os
import pathlib
from typing import Any

import keras  # type: ignore[import-untyped]
import tensorflow as tf

from loaders.order.state import StateError

MAX_STATES = 100
"""How many states `KerasState` keeps: a model that is older than all is refused."""


class _State(tf.train.experimental.PythonState):  # type: ignore[misc]  # TensorFlow has no types
    """What `tf.train.Checkpoint` saves and restores of a loader: its state, as JSON."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def serialize(self) -> str:
        return json.dumps(self._loader.state_dict())

    def deserialize(self, string_value: bytes) -> None:
        self._loader.load_state_dict(json.loads(string_value))


def track(loader: Any) -> tf.train.experimental.PythonState:
    """Makes a loader's state a part of a checkpoint: `tf.train.Checkpoint(model=model, loader=track(loader))`.

    To restore a state of another data set or order is a `StateError`.

    Args:
        loader: Any loader that has `state_dict` and `load_state_dict`.
    """
    return _State(loader)


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
    do not. A step that loss scaling skips, whose gradients overflow, is known by the scale, which it halves; a state is
    saved after each. To see it, the scale is read after every step.

    Args:
        loader: The `loaders.Loader`, `loaders.Mixture` or `loaders.WeightedLoader` whose `dataset()` is fitted.
        path: The file of the states, which is replaced as a whole.

    Raises:
        ValueError: When a training begins, if `steps_per_execution` does not divide the batches of an iteration; at the
            end of an epoch, if the optimizer has neither made nor skipped a step for each batch.
        StateError: When a training begins, if there is no state of the model's step or before, or it is of another
            epoch.
    """

    def __init__(self, loader: Any, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._loader, self._path = loader, pathlib.Path(path)
        self._saved: list[dict[str, Any]] = []
        self._begins, self._scaled, self._epoch = True, False, 0
        self._batches = self._batches_saved = 0
        self._train_function: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Prepares for the first epoch; the model may not be restored yet."""
        steps = self.model.steps_per_execution
        if self._loader.epochs is not None and len(self._loader) % steps:
            raise ValueError(
                f"steps_per_execution: expected a divisor of the {len(self._loader)} batches of an epoch; found {steps}"
            )
        self._begins, self._scaled = True, isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Goes to where the model is, where the training begins."""
        self._epoch, self._batches = epoch, 0
        if self._begins:
            self._saved = self._restore(epoch)
            self._save()
        elif self._loader.is_over():
            self._loader.skip_iteration()
        self._begins, self._batches_saved = False, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Ends an epoch that is shorter than others because it was resumed.

        Raises:
            StopIteration: There, which Keras takes for the end of the data on every backend. Else the step would meet
                it, and would have advanced the optimizer's step and the random seeds by then, which do not wait for
                the data.
        """
        if not self._loader.is_over():
            return
        if batch or keras.backend.backend() != "jax":
            raise StopIteration
        # Keras's loop for JAX fails in an epoch without a step, so there is one that does nothing.
        self._train_function = self.model.train_function
        self.model.train_function = lambda state, iterator: ({}, state)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts batches."""
        if self._train_function is not None:
            self.model.train_function, self._train_function = self._train_function, None
            return
        # One call is of several where the model has steps_per_execution.
        self._loader.advance(batch + 1 - self._batches)
        self._batches = batch + 1
        if self._scaled and _skipped(self._saved[-1], self._place()):
            self._check_and_save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves a state."""
        self._check_and_save()

    def _check_and_save(self) -> None:
        last, place, batches = self._saved[-1], self._place(), self._batches - self._batches_saved
        steps = place["step"] - last["step"] + _skipped(last, place)
        if steps != batches:
            raise ValueError(f"optimizer: expected a step for each of {batches} batches; found {steps} steps")
        self._save()

    def _restore(self, epoch: int) -> list[dict[str, Any]]:
        """Goes to where the model is; returns the states that are saved up to there."""
        place, saved = self._place(), json.loads(self._path.read_text()) if self._path.exists() else []
        step = place["step"]
        begun = step or (self._scaled and place["scale"] != self.model.optimizer.initial_scale)
        if not begun or not saved:
            if self._loader.is_over():
                self._loader.skip_iteration()
            self._loader.advance(0)  # Keras may have looked at a batch before
            return []
        before = [state for state in saved if state["step"] <= step and _skipped(state, place) >= 0]
        if not before:
            raise StateError(f"{self._path}: expected a state of step {step} or before; found {saved[0]['step']}")
        last, loader = before[-1], self._loader
        loader.load_state_dict(last["state"])
        first = loader.epoch if loader.epochs is not None else 0
        loader.advance(step - last["step"] + _skipped(last, place), batch_size=last["batch_size"])
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

    def _save(self) -> None:
        state = self._place() | {"epoch": self._epoch, "batch_size": self._loader.batch_size}
        self._saved = [*self._saved, state | {"state": self._loader.state_dict()}][-MAX_STATES:]
        self._batches_saved = self._batches
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(json.dumps(self._saved))
        new.replace(self._path)

    def _place(self) -> dict[str, Any]:
        """Where the model is: the steps that it has made, and what tells those that it has skipped."""
        optimizer = self.model.optimizer
        place = {"step": int(optimizer.iterations)}
        if not self._scaled:
            return place
        finite, scale = (
            (optimizer.step_counter, optimizer.dynamic_scale) if optimizer.built else (0, optimizer.initial_scale)
        )
        return place | {"scale": float(scale), "finite": int(finite), "growth": optimizer.dynamic_growth_steps}


def _skipped(before: dict[str, Any], place: dict[str, Any]) -> int:
    """How many steps a model has skipped since it was at a place, if those come after the ones it has made.

    Each halves the scale, which is doubled after `growth` steps without one. Negative if the model was there later.
    """
    if "scale" not in place or "scale" not in before:
        return 0
    doubled: int = (before["finite"] + place["step"] - before["step"]) // before["growth"]
    return round(math.log2(before["scale"] / place["scale"])) + doubled
