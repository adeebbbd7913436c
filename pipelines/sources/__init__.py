"""What arrays there are: files found, headers read, everything checked, before a value is read."""
