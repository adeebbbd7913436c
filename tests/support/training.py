"""A small model, and a training that is stopped."""

import keras


def model_of(seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(1e-6), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


class StoppedError(Exception):
    pass


class Stop(keras.callbacks.Callback):
    """Ends a training after some steps, before or after the other callbacks."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if not self.steps:
            raise StoppedError
