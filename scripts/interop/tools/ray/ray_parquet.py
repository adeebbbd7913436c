"""Ray Data, of Parquet files."""

import ray

rows = ray.data.read_parquet("parquet/train").take_all()

# What follows compares it.
PACKAGE = "ray"
columns = {name: [row[name] for row in rows] for name in rows[0]}
ray.shutdown()
