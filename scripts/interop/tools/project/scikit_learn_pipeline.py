"""scikit-learn's Pipeline, with the transform."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.pipeline import make_pipeline

import loaders

rows = np.load("raw.npy")
pipeline = make_pipeline(loaders.FeatureTransformer("scaled", "features"), KMeans(3, random_state=0)).fit(rows)

# What follows compares it.
PACKAGE = "scikit-learn"
stored = loaders.open("scaled")["train"][:]
transformed = pipeline[:-1].transform(rows)
np.testing.assert_array_equal(transformed[stored["row"]], stored["features"])
back = pipeline[:-1].inverse_transform(transformed).astype(np.float32)
np.testing.assert_allclose(back, rows, rtol=1e-5, atol=1e-6)
count = None
