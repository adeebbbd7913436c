"""What a user may write, what is chosen where nothing is said, and the resolved form."""
