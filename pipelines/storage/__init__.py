"""Files near and far: listed, read by ranges, written, tried again after an error."""
