"""The public names of `loaders`: each is there, shown and documented, and imports no framework that it needs not."""

import importlib
import inspect
import subprocess
import sys

import pytest

import loaders

MODULES = ("augment", "jax", "numpy", "torch")
WITH_TENSORFLOW = {"BackupAndRestore", "KerasState", "Loader", "load", "tfrecords", "track"}
CLASSES = [
    "FeatureTransformer",
    "Inverse",
    "KerasState",
    "Loader",
    "Mixture",
    "TransformLayer",
    "WeightedLoader",
    "augment.Random",
    "numpy.Loader",
    "jax.Loader",
    "torch.Loader",
]


def installed(module):
    return importlib.util.find_spec(module) is not None


def with_marks(names):
    """Names as parameters, those that need another framework than TensorFlow marked as slow: it comes later in CI."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name.split(".")[0] in ("jax", "torch") else ()) for name in names
    ]


def public(name):
    found = loaders
    for part in name.split("."):
        if part in ("jax", "torch"):
            pytest.importorskip(part)
        found = getattr(found, part)
    return found


def test_dir_shows_what_can_be_used():
    missing = {name for name in ("jax", "torch") if not installed(name)}

    assert dir(loaders) == sorted(set(loaders.__all__) - missing)
    assert set(MODULES) - missing <= set(dir(loaders))


def test_dir_leaves_out_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "torch" else None)

    assert set(loaders.__all__) - set(dir(loaders)) == WITH_TENSORFLOW | {"jax", "TransformLayer"}


@pytest.mark.parametrize("name", with_marks(loaders.__all__))
def test_each_name_is_documented(name):
    found = public(name)

    if name != "AUTOTUNE":  # a number, whose documentation is beside it
        assert inspect.getdoc(found)


@pytest.mark.parametrize("name", with_marks(CLASSES))
def test_each_method_is_documented(name):
    undocumented = [
        method
        for method, function in inspect.getmembers(public(name), inspect.isfunction)
        if method[0] != "_" and function.__module__.startswith("loaders") and not inspect.getdoc(function)
    ]
    assert not undocumented


def test_errors_are_of_the_kinds_that_programs_catch():
    errors = {name for name in loaders.__all__ if name.endswith("Error")}

    assert errors == {"ManifestError", "RecordError", "ShardError", "StateError"}
    assert issubclass(loaders.ManifestError, ValueError)
    assert issubclass(loaders.StateError, ValueError)
    assert issubclass(loaders.ShardError, OSError)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'loaders' has no attribute 'no_such_thing'"):
        loaders.no_such_thing  # noqa: B018 - to name it is what is tested


ALONE = sorted(set(loaders.__all__) - WITH_TENSORFLOW - {"jax", "torch", "TransformLayer"})


@pytest.mark.parametrize("names", [[], ALONE], ids=["package", "names"])
def test_what_needs_no_framework_imports_none(names):
    program = (
        "import sys, loaders\n"
        f"for name in {names}: getattr(loaders, name)\n"
        "print(*sorted({'tensorflow', 'keras', 'torch', 'jax', 'apache_beam', 'pipelines'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
