"""Pass 2: the rows of each shard, transformed, encoded and written."""
