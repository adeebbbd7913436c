"""What a build will read, write and take, told before it begins."""
