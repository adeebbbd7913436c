"""Containers of arrays: their headers, and the bytes of their rows."""
