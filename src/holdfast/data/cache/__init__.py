"""Decoded pictures that are kept: one mapped file, filled by many processes, safe against kills."""
