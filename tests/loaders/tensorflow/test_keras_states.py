"""`KerasState` on other backends of Keras, and with steps that loss scaling skips."""

import os
import pathlib
import subprocess
import sys

import keras
import pytest

from loaders import Loader
from loaders.tensorflow import keras as training
from tests.support.training import Stop, StoppedError, model_of

ROOT = pathlib.Path(__file__).parents[3]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Your input ran out of data")]

RESUMED = """
import pathlib, sys
import keras
from loaders import BackupAndRestore, KerasState, Loader
from loaders.order import chunks
from tests.support.training import Stop, StoppedError, model_of

chunks.CHUNK_BYTES, chunks.WINDOW_BYTES = 300, 200

def fit(stop=None, name="whole", **options):
    loader = Loader(sys.argv[1], "train", batch_size=10, as_supervised=True)
    here = pathlib.Path(sys.argv[2]) / name
    callbacks = [KerasState(loader, here / "states.json"), BackupAndRestore(here / "backup", **options)]
    model = model_of()
    try:
        model.fit(loader.dataset(), epochs=3, callbacks=[*callbacks, *[Stop(stop)] * bool(stop)], verbose=0)
    except StoppedError:
        pass
    return loader, model

_, whole = fit()
for stop in (4, 3):  # the second one at the end of an epoch, of which nothing is left
    fit(stop, "parts", save_freq=3)
loader, model = fit(None, "parts", save_freq=3)
assert int(model.optimizer.iterations) == 18
assert loader.epoch == 2
for found, expected in zip(model.get_weights(), whole.get_weights(), strict=True):
    assert found.tobytes() == expected.tobytes()
print(keras.backend.backend())
"""


def test_a_training_on_jax_resumes(root, tmp_path):
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RESUMED, str(root), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "jax\n"


@pytest.mark.parametrize(("save_freq", "stops"), [(4, (5, 6, 5)), (1, (3, 7))])
def test_steps_that_loss_scaling_skips_are_counted(root, tmp_path, save_freq, stops):
    def fit(stop=None, name="parts"):
        loader = Loader(root, "train", batch_size=10, as_supervised=True)
        backup = training.BackupAndRestore(tmp_path / name / "backup", save_freq=save_freq)
        callbacks = [training.KerasState(loader, tmp_path / name / "states.json"), backup]
        if stop:
            callbacks.insert(0, Stop(stop))
        model = model_of()
        # Gradients overflow where the scale is too high, at the beginning and whenever it has grown.
        scaled = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(0.01), initial_scale=2.0**109, dynamic_growth_steps=3
        )
        model.compile(scaled, "mse")
        model.fit(loader.dataset(), epochs=3, callbacks=callbacks, verbose=0)
        return loader, model

    _, whole = fit(name="whole")
    assert 4 < int(whole.optimizer.iterations) < 16
    for stop in stops:
        with pytest.raises(StoppedError):
            fit(stop)
    loader, model = fit()

    assert int(model.optimizer.iterations) == int(whole.optimizer.iterations)
    assert float(model.optimizer.dynamic_scale) == float(whole.optimizer.dynamic_scale)
    assert loader.epoch == 2
    for found, expected in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert found.tobytes() == expected.tobytes()


def test_gradient_accumulation_is_refused_with_loss_scaling(root, tmp_path):
    model = model_of()
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(gradient_accumulation_steps=2), initial_scale=1.0),
        "mse",
    )
    loader = Loader(root, "train", batch_size=10, as_supervised=True)
    with pytest.raises(ValueError, match="optimizer: expected a step for each of 6 batches; found 3 steps"):
        model.fit(loader.dataset(), callbacks=[training.KerasState(loader, tmp_path / "states.json")], verbose=0)
