"""Where the time of loading goes, and what would help."""
