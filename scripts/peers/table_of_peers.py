"""Which tools there are to measure."""

from __future__ import annotations

import dataclasses

from peers.data import KINDS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to build or to load.

    Attributes:
        name: What it is called in options and tables.
        module: The module of `peers`.
        says: What it is.
        environment: The environment that it runs in; "" for npyflow's own.
        variant: What the module is told; for npyflow's builds, options of the command line.
        storage: The module that writes what this one loads, if it is another one.
        kinds: The kinds of rows that it takes.
        unchecked: Whether it makes nothing that could be checked.
    """

    name: str
    module: str
    says: str
    environment: str = ""
    variant: str = ""
    storage: str = ""
    kinds: tuple[str, ...] = tuple(KINDS)
    unchecked: bool = False


BUILDERS = (
    Peer(name="npyflow", module="npyflow", says="`npyflow build`"),
    Peer(
        name="npyflow-1",
        module="npyflow",
        says="`npyflow build --workers=1`",
        variant="--workers=1",
    ),
    Peer(
        name="analysis",
        module="npyflow_analysis",
        says="the analysis of `npyflow build` alone",
        unchecked=True,
    ),
    Peer(name="floor", module="arrays", variant="1", says="NumPy, two passes, no records: the floor"),
    Peer(name="floor-2", module="arrays", variant="2", says="the floor, two processes"),
    Peer(name="tft", module="tft", says="tf.transform as in its tutorial"),
    Peer(
        name="tft-arrow",
        module="tft_arrow",
        variant="2",
        says="tf.transform as an expert writes it: Arrow batches, deep copies, two threads",
    ),
    Peer(name="sklearn", module="scikit_learn", says="scikit-learn's `partial_fit` over memmaps, plain arrays"),
    Peer(name="example", module="tfrecord", says="NumPy and `tf.train.Example` by hand"),
    Peer(name="tfds", module="tfds", environment="tfds", says="TFDS `GeneratorBasedBuilder`"),
    Peer(name="mds", module="streaming_mds", environment="torch", says="MosaicML `MDSWriter`"),
    Peer(name="arrayrecord", module="grain_arrayrecord", environment="grain", says="ArrayRecord"),
    Peer(
        name="ray",
        module="ray_data",
        environment="ray",
        kinds=("tabular",),  # its scaler takes columns of numbers
        says="Ray Data: `read_numpy`, `StandardScaler`, `write_tfrecords`",
    ),
)

LOADERS = (
    Peer(name="npyflow", module="npyflow", says="`loaders.load`"),
    Peer(
        name="npyflow-memory", module="npyflow", variant="memory", says="`loaders.load`, rows in memory, second epoch"
    ),
    Peer(name="npyflow-numpy", module="npyflow_numpy", storage="npyflow", says="`loaders.numpy.Loader`"),
    Peer(name="floor", module="arrays", says="NumPy: rows of a memory-mapped array, the floor"),
    Peer(
        name="tf-memory",
        module="tf_memory",
        variant="slices",
        storage="arrays",
        says="`from_tensor_slices` of arrays in memory",
    ),
    Peer(name="tf-generator", module="tf_memory", variant="generator", storage="arrays", says="`from_generator`"),
    Peer(name="tfrecord", module="tfrecord", says="TFRecords, parsed row by row"),
    Peer(name="tfds", module="tfds", environment="tfds", says="TFDS, first epoch"),
    Peer(name="tfds-cached", module="tfds", environment="tfds", variant="cached", says="TFDS, second epoch, cached"),
    Peer(name="grain", module="grain_arrayrecord", environment="grain", says="Grain and ArrayRecord, threads"),
    Peer(
        name="grain-2",
        module="grain_arrayrecord",
        environment="grain",
        variant="processes",
        says="Grain and ArrayRecord, two processes",
    ),
    Peer(name="mds", module="streaming_mds", environment="torch", says="MosaicML Streaming, two workers"),
    Peer(name="webdataset", module="webdataset_tar", environment="torch", says="WebDataset, two workers"),
    Peer(name="huggingface", module="huggingface", environment="torch", says="Hugging Face datasets, two workers"),
    Peer(
        name="torch",
        module="torch_memmap",
        environment="torch",
        storage="arrays",
        says="PyTorch `DataLoader` of `np.memmap`, two workers",
    ),
)
