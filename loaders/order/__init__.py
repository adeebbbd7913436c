"""Which row comes when: hashes, permutations, epochs, parts of splits and positions. Pure arithmetic in NumPy."""
