"""Steps that turn the last axis into its principal components."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pipelines.statistics.covariance import Covariance, principal_components
from pipelines.statistics.estimators import Estimator
from pipelines.steps.options import Count
from pipelines.steps.step import Arrays, Constants, Shape, Step, ValueSpec, not_zero

MAX_WIDTH = 4096


class Pca(Step):
    """The first principal components of the last axis; where rows have several axes, every vector along it counts."""

    key = "pca"
    analyzer = "pca"
    takes_over = False
    constants = ("mean", "components", "scale")
    components: Count

    def output(self, value: ValueSpec) -> ValueSpec:
        width = value.shape[-1] if value.shape else 1
        if not value.shape or not self.components <= width <= MAX_WIDTH:
            raise ValueError(
                f"{self.key}: expected a last axis of {self.components} to {MAX_WIDTH} elements; "
                f"found shape {value.shape}"
            )
        return dataclasses.replace(value, dtype="float64", shape=(*value.shape[:-1], self.components))

    def shapes(self, value: ValueSpec) -> dict[str, Shape]:
        width = value.shape[-1]
        return {"mean": (width,), "components": (self.components, width), "scale": (self.components,)}

    def estimator(self, value: ValueSpec) -> Estimator:
        return Covariance(width=value.shape[-1])

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        """The eigenvectors of the greatest eigenvalues.

        Raises:
            ValueError: If values are missing: their covariance need not have such components.
        """
        count = int(result["count"].flat[0])
        if (result["count"] != count).any():
            found = int(result["count"].max() - result["count"].min())
            raise ValueError(f"expected no missing value; found {found}, which `impute` would fill")
        known = np.isfinite(result["covariance"]).all()
        covariance = result["covariance"] if known else np.zeros_like(result["covariance"])
        components, variances = principal_components(covariance, self.components, rows=max(count, 2))
        scale = self._scale(variances) if known else np.full(self.components, np.nan)
        return {"mean": result["mean"], "components": components, "scale": scale}

    def _scale(self, variances: Any) -> Any:
        return np.ones_like(variances)


class Whiten(Pca):
    """Principal components of variance 1 (with n - 1 in its divisor, as scikit-learn has it)."""

    key = "whiten"
    analyzer = "whiten"

    def _scale(self, variances: Any) -> Any:
        return not_zero(np.sqrt(np.maximum(variances, 0.0)))
