from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> pathlib.Path:
    """What the set-up reads, in a directory whose name has a space."""
    root = tmp_path / "a checkout"
    for name in ("setup.py", "pyproject.toml", "constraints.txt", "scripts/environment.sh"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    return root


def _set_up(checkout: pathlib.Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", 'source "$0"; echo done', str(checkout / "scripts" / "environment.sh")],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_python_that_will_do_the_set_up_says_so_and_writes_nothing(checkout: pathlib.Path) -> None:
    done = _set_up(checkout, PYTHON="/bin/false")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "expected Python 3.11 3.12 3.13 with its venv module; found none as /bin/false" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
def test_an_environment_without_a_stamp_is_made_anew_and_a_failed_one_gets_none(
    checkout: pathlib.Path,
) -> None:
    leftover = checkout / ".venv" / "leftover"
    leftover.parent.mkdir()
    leftover.touch()
    # Without an index and wheels pip finds nothing to install.
    done = _set_up(checkout, PYTHON=sys.executable, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "the installation failed; the end of" in done.stderr
    assert "No matching distribution found" in done.stderr
    assert not leftover.exists()
    assert (checkout / ".venv" / "bin" / "python").exists()
    assert not (checkout / ".venv" / "npyflow-stamp").exists()


SKIPPING = """
import pytest

@pytest.mark.skip(reason="no server here")
def test_one():
    pass

def test_other():
    pass
"""


SKIPPED_WHOLE = """
import pytest

pytest.importorskip("no_such_package")
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(
    ("allowed", "passes"),
    [("no server|^module: could not import", True), ("no server", False), ("^module: ", False), ("", False)],
)
def test_a_skip_that_is_not_expected_is_a_failure(
    tmp_path: pathlib.Path, allowed: str, passes: bool, workers: str
) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    (tmp_path / "test_skipped_whole.py").write_text(SKIPPED_WHOLE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.skips", "-n", workers, str(tmp_path)]
    command += ["--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    environment = os.environ | {"NPYFLOW_SKIPS": allowed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed, 2 skipped" in done.stdout
    assert done.returncode == (0 if passes else 1), done.stdout
    assert ("NPYFLOW_SKIPS does not allow: no server here" in done.stdout) is ("no server" not in allowed)
    assert ("does not allow: module: could not import 'no_such_package'" in done.stdout) is ("module" not in allowed)


def test_the_demo_writes_the_arrays_that_the_packages_carry(tmp_path: pathlib.Path) -> None:
    spec = importlib.util.spec_from_file_location("npyflow_demo", ROOT / "scripts" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = demo
    spec.loader.exec_module(demo)

    for name in ("indian_pines", "mnist"):
        (tmp_path / name).mkdir()
    demo.write_indian_pines(tmp_path / "indian_pines")
    pixels = np.load(tmp_path / "indian_pines" / "pixels.npy", mmap_mode="r")
    labels = np.load(tmp_path / "indian_pines" / "labels.npy")
    assert (pixels.shape, pixels.dtype, pixels.flags.f_contiguous) == ((145, 145, 200), np.uint16, True)
    assert (labels.shape, labels.dtype, labels.max()) == ((145, 145), np.uint8, 16)

    demo.write_mnist(tmp_path / "mnist")
    images = [np.load(path) for path in sorted((tmp_path / "mnist").glob("images-*.npy"))]
    digits = np.concatenate([np.load(path) for path in sorted((tmp_path / "mnist").glob("labels-*.npy"))])
    assert [(part.shape, part.dtype) for part in images] == [((1000, 28, 28, 1), np.uint8)] * 5
    assert digits.tolist() == np.repeat(np.arange(10), 500).tolist()


def test_the_files_that_begin_first_are_there() -> None:
    from tests.conftest import LONGEST  # which the slow tests are ordered by

    assert [name for name in LONGEST if not (ROOT / "tests" / name).exists()] == []
