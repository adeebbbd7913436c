"""The last stage: checks, schema, statistics and, strictly last, the manifest."""
