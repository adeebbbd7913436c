"""The names in the directory of a data set, apart from those of its splits and shards."""

from __future__ import annotations

MANIFEST = "manifest.json"

TRANSFORM = "transform"
"""The directory of the transform."""

FITTED = "fitted.npz"
"""The constants of the transform."""

OF_FUNCTION = "preprocessing_fn"
"""What of `FITTED` a function of the user's own has learned: a description in JSON, and arrays below that name."""

MOMENTS = "moments.npz"
"""The exact sums that statistics are made of."""

SAMPLE = "sample.npz"
"""Some values of some training rows, of which `STATISTICS_PROTO` has histograms."""

GOLDEN = "golden.npz"
"""Some rows, and what the transform makes of them."""

SCHEMA = "schema.pbtxt"
"""What tools of TensorFlow find in a record, where a record is a row."""

INDICATOR_SUFFIX = "_missing"
"""The end of the name of a feature that tells which values of another were missing."""

STATISTICS = "statistics.npz"
STATISTICS_PROTO = "statistics.pb"

CROISSANT = "croissant.json"
"""What catalogues and search engines know of a data set."""

OF_TFDS = ("dataset_info.json", "features.json")
"""The splits and the features for TensorFlow Datasets, where a record is a row and nothing was appended."""

OF_RECORDS = (SCHEMA, *OF_TFDS)
"""What tools read the shards by that take a record for a row."""

SOURCES = "sources.json"
"""The parts that a data set was made of, by which rows that are appended are told from those that are there."""

TRANSFORM_MOMENTS = "transform_moments.npz"
"""The moments of the rows that the transform was learned from, where rows have been appended since."""

REPORT = "report.html"
"""A page that shows the data set. The manifest does not list it: it can be made again at any time."""

ALWAYS = (STATISTICS, STATISTICS_PROTO)
"""The files that every data set has beside its shards and the manifest."""

OPTIONAL = (CROISSANT, *OF_RECORDS, FITTED, MOMENTS, SAMPLE, GOLDEN, SOURCES, TRANSFORM_MOMENTS)
"""Those that it has where there is something to say."""

OF_TRAINING_ROWS = (STATISTICS, STATISTICS_PROTO, FITTED, MOMENTS, SAMPLE, GOLDEN, TRANSFORM_MOMENTS)
"""What was learned from training rows; a data set that uses another's transform has copies of the other's."""

RESERVED = frozenset({TRANSFORM, MANIFEST, *ALWAYS, *OPTIONAL, REPORT})
"""What no split can be called."""

BUILD = "_build"
"""The directory of everything that is not part of the finished data set; it goes when the manifest comes."""

STATE = f"{BUILD}/state.json"
"""The file that says which build is at work, or has stopped."""

STAGED = f"{BUILD}/publish"
"""Where the files beside the shards are made. A manifest lists them there only while they take the places of those of
another data set, or of fewer rows."""

LOCK = "_lock"
"""The file that says who builds; it goes when the build ends, and one that is left is in nobody's way."""


def is_file_name(text: object) -> bool:
    """Whether a text names something in a directory, and no way out of it."""
    return isinstance(text, str) and text not in ("", ".", "..") and not set(text) & {"/", "\\", "\0"}


def is_split_name(text: object) -> bool:
    """Whether a split can be called so: its shards lie in a directory of that name."""
    return is_file_name(text) and text not in (*RESERVED, BUILD, LOCK)
