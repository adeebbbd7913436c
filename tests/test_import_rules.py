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
