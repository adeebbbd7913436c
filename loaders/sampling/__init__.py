"""Batches from several loaders, and rows by weight."""
