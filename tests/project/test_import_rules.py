import os
import pathlib
import subprocess
import sys

import loaders

OPTIONAL = {"torch", "jax"}  # each imports the package of its name, which need not be there
NAMES = {path.stem for path in pathlib.Path(loaders.__file__).parent.glob("*.py")} - OPTIONAL
MODULES = sorted(f"loaders.{name}" for name in NAMES if name[0] != "_")
CONTRACT = ("spec", "manifest", "order", "chunks", "frames", "info", "invert")
NUMPY_READER = (
    "bench",
    "cursor",
    "timing",
    "numpy",
    "rows",
    "mapped",
    "records",
    "streams",
    "state",
    "elements",
    "checksum",
    "mixing",
    "reading",
    "store",
    "cache",
    "skipped",
    "mixture",
    "weighted",
    "allocator",
)
WITHOUT_TENSORFLOW = ["loaders", *(f"loaders.{name}" for name in CONTRACT + NUMPY_READER)]


def imported_by(modules):
    code = f"import sys, {', '.join(modules)}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_loaders_import_nothing_of_the_build():
    found = imported_by(MODULES)

    assert {"loaders", "tensorflow"} <= found
    assert not found & {"apache_beam", "tensorflow_transform", "tfx_bsl", "pipelines"}


def test_the_contract_imports_no_tensorflow():
    assert set(WITHOUT_TENSORFLOW) <= {"loaders", *MODULES}
    assert not imported_by(WITHOUT_TENSORFLOW) & {"tensorflow", "keras"}


def test_quick_imports_leave_keras_3_and_the_collector_out():
    code = (
        "import gc, sys\n"
        "from pipelines.runners.quiet import quick_imports\n"
        "with quick_imports():\n"
        "    resting = not gc.isenabled()\n"
        "    import tensorflow\n"
        "print(resting, gc.isenabled(), 'keras.src' in sys.modules)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "True True False\n"
