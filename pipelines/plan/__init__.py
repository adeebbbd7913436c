"""Which rows feed which shard, as a pure function of (source table, configuration, seed)."""
