"""The steps of a feature's transform: what each takes and gives, what it learns, and its graph."""
