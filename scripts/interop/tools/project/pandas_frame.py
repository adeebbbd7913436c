"""pandas."""

import pandas as pd
import pyarrow as pa

import loaders

frame = pa.table(loaders.open("dataset")["train"]).to_pandas()

# What follows compares it.
PACKAGE = "pandas"
assert isinstance(frame, pd.DataFrame)
columns = {name: frame[name].tolist() for name in frame.columns}
