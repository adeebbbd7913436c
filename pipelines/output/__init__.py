"""The output directory: its paths, which build it holds, records of tasks, and the lock that keeps two builds out."""
