"""What a program calls, and what it gets back. `pipelines` exports it; the command line is a layer on it."""
