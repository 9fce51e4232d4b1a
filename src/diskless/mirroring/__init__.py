"""Filling a mirror in S3 with repositories of the Hugging Face Hub, for `diskless.cache` to read."""
