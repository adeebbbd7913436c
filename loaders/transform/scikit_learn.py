"""What a data set has learned of one feature, as scikit-learn's pipelines take it. Needs no scikit-learn."""

from __future__ import annotations

import functools
import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.transform.forward import Forward, forward
from loaders.transform.inverse import Inverse, inverse


class FeatureTransformer:
    """The transform of a feature with the methods of scikit-learn's transformers; `fit` learns nothing more.

    It can be cloned, put into a `Pipeline` or a `ColumnTransformer`, and pickled: a pickle holds what was learned, and
    needs no data set.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.
        feature: The name of the feature. It needs no other one: no groups, and no mask.
    """

    def __init__(self, root: str | os.PathLike[str], feature: str) -> None:
        self.root = root
        self.feature = feature

    def fit(self, X: Any = None, y: Any = None) -> FeatureTransformer:  # noqa: N803  # as scikit-learn calls it
        """Reads what the data set has learned.

        Returns:
            The object itself.

        Raises:
            ManifestError: As `loaders.forward`.
            ValueError: If there is no such feature, or it needs another one.
        """
        _ = self._learned
        return self

    def fit_transform(self, X: npt.ArrayLike, y: Any = None) -> npt.NDArray[Any]:  # noqa: N803
        """`transform`."""
        return self.transform(X)

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[Any]:  # noqa: N803
        """Transforms rows as the sources have them.

        Args:
            X: `[rows, *shape]`, or `[rows, elements]`.

        Returns:
            The transformed rows, of as many axes as they came with.

        Raises:
            ManifestError: As `loaders.forward`.
            ValueError: As `fit`, or if the rows are of another shape.
        """
        made = self._learned[0]
        rows, flat = self._shaped(np.asarray(X), made.sources[self.feature].shape)
        found: npt.NDArray[Any] = made({self.feature: rows})[self.feature]
        return found.reshape(len(found), -1) if flat else found

    def inverse_transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:  # noqa: N803
        """Takes transformed rows back to raw ones, as `loaders.inverse` does.

        Args:
            X: `[rows, *shape]`, or `[rows, elements]`, as `transform` gives them.

        Returns:
            float64 rows, of as many axes as they came with.

        Raises:
            ManifestError: As `loaders.inverse`.
            ValueError: As `fit`, if the rows are of another shape, or a step has no inverse.
        """
        made, back = self._learned
        rows, flat = self._shaped(np.asarray(X), made.features[0].shape)
        found: npt.NDArray[np.float64] = back(self.feature, rows)
        return found.reshape(len(found), -1) if flat else found

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # as scikit-learn calls it
        """The arguments that it was made with."""
        return {"root": self.root, "feature": self.feature}

    def set_params(self, **params: Any) -> FeatureTransformer:
        """Changes the arguments."""
        for name, value in params.items():
            if name not in self.get_params():
                raise ValueError(f"expected one of {', '.join(self.get_params())}; found {name}")
            setattr(self, name, value)
        self.__dict__.pop("_learned", None)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        # Only scikit-learn asks for them.
        from sklearn.utils import Tags, TargetTags, TransformerTags  # type: ignore[import-untyped]

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            requires_fit=False,
        )

    def __getstate__(self) -> dict[str, Any]:
        _ = self._learned
        return self.__dict__

    @functools.cached_property
    def _learned(self) -> tuple[Forward, Inverse]:
        made = forward(self.root).only([self.feature])
        if not made.features:
            raise ValueError(f"expected a feature of {os.fspath(self.root)}; found {self.feature!r}")
        if made.inputs != (self.feature,):
            others = ", ".join(name for name in made.inputs if name != self.feature)
            raise ValueError(f"feature {self.feature}: expected one that needs no other; found that it needs {others}")
        return made, inverse(self.root)

    def _shaped(self, rows: npt.NDArray[Any], shape: tuple[int | None, ...]) -> tuple[npt.NDArray[Any], bool]:
        """Rows in the shape of the feature, and whether they came flat."""
        flat = rows.ndim == 2 and len(shape) != 1
        if flat and None not in shape:
            if rows.shape[1] != math.prod(size or 0 for size in shape):
                expected = f"rows of shape {list(shape)}, or of all their elements"
                raise ValueError(f"feature {self.feature}: expected {expected}; found {list(rows.shape[1:])}")
            rows = rows.reshape(len(rows), *(size or 0 for size in shape))
        return rows, flat
