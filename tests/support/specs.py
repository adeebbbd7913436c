"""Features of every kind, as sources have them."""

from loaders.format.spec import FeatureSpec


def spec(name, dtype, shape=(), unit=""):
    return FeatureSpec(name=name, dtype=dtype, shape=shape, unit=unit)


FEATURES = {
    each.name: each
    for each in (
        spec("x", "float32", (4,)),
        spec("label", "int64"),
        spec("keep", "bool"),
        spec("site", "string"),
        spec("score", "float32", (1,)),
        spec("phase", "complex64"),
        spec("steps", "float32", (None, 2)),
        spec("at", "int64", unit="datetime64[ns]"),
    )
}
