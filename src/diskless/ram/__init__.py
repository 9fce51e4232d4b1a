"""Where the bytes live: RAM files, their Backings, and the Budget."""
