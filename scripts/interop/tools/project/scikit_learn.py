"""scikit-learn."""

from sklearn.linear_model import LogisticRegression

import loaders

rows = loaders.open("dataset")["train"][:]
model = LogisticRegression().fit(rows["features"], rows["label"])

# What follows compares it.
PACKAGE = "scikit-learn"
assert model.score(rows["features"], rows["label"]) > 0.8
columns = {name: rows[name] for name in ("row", "features", "label")}
