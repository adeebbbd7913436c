"""The on-disk contract: what a data set, a record and a frame are. `pipelines` writes what is said here."""
