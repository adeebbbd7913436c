"""The distribution: what it requires, pins and holds."""

from __future__ import annotations

import ast
import collections
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from loaders.version import VERSION

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("loaders", "pipelines")
PYTHONS = ("3.11", "3.12", "3.13")
PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!]+)(?:; (?P<marker>.+))?")

# The modules that are not called what their distributions are.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "apache_beam": "apache-beam",
    "google.protobuf": "protobuf",
    "google_crc32c": "google-crc32c",
    "grpc": "grpcio",
    "tensorflow_metadata": "tensorflow-metadata",
    "tensorflow_transform": "tensorflow-transform",
    "tfx_bsl": "tfx-bsl",
    "yaml": "PyYAML",
}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(extra: str | None) -> set[str]:
    """The names that the installed distribution requires, with or without an extra."""
    found = set()
    for line in importlib.metadata.requires("npyflow") or ():
        requirement, _, marker = line.partition(";")
        if marker.strip() == (f'extra == "{extra}"' if extra else ""):
            found.add(_normal(re.split(r"[<>=!~\[ ]", requirement.strip(), maxsplit=1)[0]))
    return found


def _imported(path: pathlib.Path) -> set[str]:
    """The third-party modules that a file imports anywhere, by the names in `DISTRIBUTIONS` or their first part."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    known = tuple(DISTRIBUTIONS)
    short = {next((key for key in known if f"{name}.".startswith(f"{key}.")), name.split(".")[0]) for name in names}
    return short - set(sys.stdlib_module_names) - set(PACKAGES)


def _modules(package: str) -> list[pathlib.Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _undeclared(package: str, declared: set[str]) -> dict[str, set[str]]:
    """The files of a package that import what is not declared, and what that is."""
    found = {}
    for path in _modules(package):
        missing = {name for name in _imported(path) if _normal(DISTRIBUTIONS.get(name, name)) not in declared}
        if missing:
            found[path.relative_to(ROOT).as_posix()] = missing
    return found


def test_base_requirements_leave_tensorflow_out() -> None:
    assert _requirements(None) == {"fsspec", "google-crc32c", "msgspec", "numpy"}
    assert [_requirements(extra) for extra in ("tensorflow", "jax")] == [{"tensorflow"}, {"jax"}]
    assert "tensorflow" in _requirements("pipelines")


def test_loaders_import_base_requirements_only() -> None:
    # The others are named by the modules that are of no use without them.
    undeclared = _undeclared("loaders", _requirements(None) | {"tensorflow"})
    optional = {
        "loaders/format/arrow.py": {"pyarrow"},
        "loaders/format/savedmodel.py": {"google.protobuf"},  # TensorFlow requires it
        "loaders/jax.py": {"jax"},
        "loaders/order/epoch.py": {"jax", "torch"},  # which host this is, for who has them
        "loaders/torch.py": {"torch"},
        "loaders/tensorflow/keras.py": {"keras"},  # TensorFlow requires it
        "loaders/transform/scikit_learn.py": {"sklearn"},  # which alone asks for what it is imported for
        "loaders/transform/keras_ops.py": {"keras"},
        "loaders/transform/layer.py": {"keras"},
        "loaders/transform/ops.py": {"array_api_compat", "jax"},  # whose arrays are given has them
    }
    assert undeclared == optional


def test_pipelines_import_what_the_extra_requires() -> None:
    declared = _requirements(None) | _requirements("pipelines")
    assert _undeclared("pipelines", declared) == {
        "pipelines/exports/arrayrecord.py": {"array_record"},
        "pipelines/exports/zarr.py": {"zarr"},
        "pipelines/results.py": {"pandas"},  # for who asks a result for its DataFrame
        "pipelines/sources/formats/hdf5.py": {"h5py"},
        "pipelines/sources/formats/zarr.py": {"zarr"},
    }
    extras = {
        "hdf5": "h5py",
        "zarr": "zarr",
        "arrayrecord": "array-record",
        "s3": "s3fs",
        "gcs": "gcsfs",
        "azure": "adlfs",
    }
    assert {extra: _requirements(extra) for extra in extras} == {extra: {name} for extra, name in extras.items()}


def test_an_import_that_is_not_declared_is_found() -> None:
    assert set(_undeclared("pipelines", _requirements(None))) >= {"pipelines/config/schema.py"}


def test_the_extra_requires_only_what_pipelines_import() -> None:
    imported = set().union(*(_imported(path) for path in _modules("pipelines")))
    assert _requirements("pipelines") <= {_normal(DISTRIBUTIONS.get(name, name)) for name in imported}


def test_constraints_are_sorted_pins_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not PIN.fullmatch(pin)] == []
    assert pins == sorted(pins, key=str.upper)
    names = collections.Counter(_normal(pin.split("==")[0]) for pin in pins)
    for name, count in names.items():
        markers = [match["marker"] for pin in pins if (match := PIN.fullmatch(pin)) and _normal(match["name"]) == name]
        assert count == 1 or (None not in markers and len(set(markers)) == count), name


def test_every_requirement_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_normal(match["name"]) for line in lines if (match := PIN.fullmatch(line))}
    extras = importlib.metadata.metadata("npyflow").get_all("Provides-Extra") or ()
    required = set().union(*map(_requirements, (None, *extras)))
    assert required - pinned == set()


def test_the_pythons_are_the_same_everywhere() -> None:
    metadata = importlib.metadata.metadata("npyflow")
    versions = [line.rpartition(" ")[2] for line in metadata.get_all("Classifier") or () if ":: Python :: 3." in line]
    assert versions == list(PYTHONS)
    assert metadata["Requires-Python"] == f">={PYTHONS[0]}"
    assert f"PYTHONS=({' '.join(PYTHONS)})" in (ROOT / "scripts" / "environment.sh").read_text(encoding="utf-8")


def test_the_version_stands_in_one_place() -> None:
    assert importlib.metadata.version("npyflow") == VERSION
    files = [ROOT / "setup.py", ROOT / "pyproject.toml", *(path for name in PACKAGES for path in _modules(name))]
    holding = [
        path.relative_to(ROOT).as_posix() for path in files if f'"{VERSION}"' in path.read_text(encoding="utf-8")
    ]
    assert holding == ["loaders/version.py"]


def test_the_command_is_the_main_function_of_the_cli() -> None:
    (script,) = (
        entry for entry in importlib.metadata.distribution("npyflow").entry_points if entry.group == "console_scripts"
    )
    assert (script.name, script.value) == ("npyflow", "pipelines.cli.main:main")
    assert callable(script.load())


def _call_backend(hook: str, tree: pathlib.Path, out: pathlib.Path) -> None:
    program = f"import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(out)], cwd=tree, check=True, capture_output=True)


def test_a_wheel_from_an_sdist_holds_every_module(tmp_path: pathlib.Path) -> None:
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns(".*", "out", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=ignored)
    _call_backend("build_sdist", tree, tmp_path)
    (archive,) = tmp_path.glob("npyflow-*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    _call_backend("build_wheel", tmp_path / f"npyflow-{VERSION}", tmp_path)
    (wheel,) = tmp_path.glob("npyflow-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.split("/")[0] in PACKAGES}
    expected = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in _modules(name)}
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pipelines" / "page").glob("page.*")}
    assert len(page) == 2
    assert held == expected | page | {f"{name}/py.typed" for name in PACKAGES}


def _dockerfile(*names: str) -> list[tuple[str, str]]:
    """The instructions of the Dockerfile that have one of these names."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in lines if name in names]


def _image_gets(tree: pathlib.Path) -> None:
    """Copies to a tree what the image's own instructions copy from the checkout, and what `.dockerignore` lets pass."""
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    passed = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    for _, what in _dockerfile("COPY"):
        if what.startswith("--from"):
            continue
        *names, target = what.split()
        assert set(names) <= passed
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(ROOT / name, tree / target / name)


def test_the_image_has_the_tested_versions() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    beam = next(pin.split("==")[1] for pin in pins if pin.startswith("apache-beam=="))
    ((_, default),) = _dockerfile("ARG")
    assert default in [f"PYTHON={version}" for version in PYTHONS]
    assert _dockerfile("FROM") == [
        ("FROM", f"apache/beam_python${{PYTHON}}_sdk:{beam} AS beam"),
        ("FROM", "python:${PYTHON}-slim"),
    ]
    install, check = (command for _, command in _dockerfile("RUN"))
    extras = "pipelines,hdf5,zarr,arrayrecord,s3,gcs,azure"
    assert install == f"pip install --no-cache-dir --constraint constraints.txt '.[{extras}]' && pip check"
    assert check.startswith("python -c ")
    assert _dockerfile("ENTRYPOINT") == [("ENTRYPOINT", '["/opt/apache/beam/boot"]')]
    assert ("COPY", "--from=beam /opt/apache/beam /opt/apache/beam") in _dockerfile("COPY")


@pytest.mark.slow
def test_the_check_of_the_image_passes_with_what_it_gets(tmp_path: pathlib.Path) -> None:
    """The last command that the image runs, in an environment that has no other part of the checkout."""
    from tests.support.dataflow_service import install, make_environment

    (tmp_path / "tree").mkdir()
    _image_gets(tmp_path / "tree")
    python = make_environment(tmp_path / "environment")
    install(tmp_path / "tree", tmp_path / "environment")
    (_, check) = _dockerfile("RUN")
    program = re.fullmatch(r'python -c "(.*)"', check[1])
    assert program is not None
    done = subprocess.run([str(python), "-I", "-c", program[1]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "environment" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / "loaders")
    done = subprocess.run([str(python), "-I", "-c", program[1]], cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'loaders'" in done.stderr  # nothing of it comes from elsewhere
