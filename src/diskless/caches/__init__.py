"""The caches of libraries, kept in RAM and filled from a mirror."""
