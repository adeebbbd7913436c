"""A finished data set again: verified, compared, added to, its transform used for other rows; how far a build is."""
