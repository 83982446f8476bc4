"""Odd images: what each is, its bytes, and what must come out."""
