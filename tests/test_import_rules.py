import pathlib
import subprocess
import sys

import loaders

MODULES = sorted(f"loaders.{p.stem}" for p in pathlib.Path(loaders.__file__).parent.glob("*.py") if p.stem[0] != "_")
WITHOUT_TENSORFLOW = [
    "loaders",
    *(f"loaders.{name}" for name in ("spec", "manifest", "order", "chunks", "info", "invert")),
]


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
