"""What the modules of `loaders` need at run time; `lint-imports` checks what they say in their text."""

import os
import pkgutil
import subprocess
import sys

import pytest

import loaders

OPTIONAL = ("loaders.torch", "loaders.jax")
"""Each imports the package of its name, which need not be there."""

TENSORFLOW = ("loaders.tensorflow", "loaders.transform.saved_model", "loaders.diagnostics.measured_tensorflow")
"""All that may import TensorFlow: the pipelines of `tf.data`, what measures them, and the transform, a SavedModel."""

KERAS = ("loaders.transform.keras_ops", "loaders.transform.layer")
"""They import Keras, and with it its backend."""

MODULES = sorted(module.name for module in pkgutil.walk_packages(loaders.__path__, "loaders."))


def below(module, names):
    return any(module == name or module.startswith(f"{name}.") for name in names)


def imported_by(modules):
    code = f"import sys, {', '.join(modules)}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_modules_of_every_folder_are_found():
    assert {"loaders.version", "loaders.format", "loaders.format.spec", "loaders.numpy", *OPTIONAL} <= set(MODULES)


def test_loaders_import_nothing_of_the_build():
    found = imported_by([name for name in MODULES if not below(name, OPTIONAL)])

    assert {"loaders", "tensorflow"} <= found
    assert not found & {"apache_beam", "tensorflow_transform", "tfx_bsl", "pipelines"}


def test_what_is_outside_of_the_folder_tensorflow_imports_no_tensorflow():
    found = imported_by(["loaders", *(name for name in MODULES if not below(name, OPTIONAL + TENSORFLOW + KERAS))])

    assert "loaders" in found
    assert not found & {"tensorflow", "keras", "torch", "jax"}


@pytest.mark.slow
def test_quick_imports_leave_keras_3_and_the_collector_out():
    code = (
        "import gc, sys\n"
        "from pipelines.runners.process_setup import quick_imports\n"
        "with quick_imports():\n"
        "    resting = not gc.isenabled()\n"
        "    import tensorflow\n"
        "print(resting, gc.isenabled(), 'keras.src' in sys.modules)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "True True False\n"


@pytest.mark.parametrize(
    ("framework", "uses"),
    [
        ("tensorflow", "loaders.load('nowhere', 'train', batch_size=1)"),
        ("tensorflow", "loaders.Loader"),
        ("tensorflow", "__import__('loaders.transform.saved_model')"),
        ("torch", "loaders.torch"),
        ("jax", "loaders.jax"),
    ],
)
def test_without_a_framework_the_error_names_the_extra(framework, uses):
    program = (
        f"import sys\nsys.modules[{framework!r}] = None\nimport loaders\n"
        f"try:\n    {uses}\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f": pip install 'npyflow[{framework}]'\n")
