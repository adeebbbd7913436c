"""The bytes of shards: mapped files, copies in a cache, ranges of remote files, and what is damaged among them."""
