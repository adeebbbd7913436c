"""How fast a loader is, where its time goes, and how well an epoch is mixed."""
