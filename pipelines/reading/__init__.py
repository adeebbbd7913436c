"""Rows of the sources: by range, as columns, and which split each belongs to."""
