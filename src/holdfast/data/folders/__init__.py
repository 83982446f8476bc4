"""Folders of class folders: millions of names, listed, put in natural order and made into a collection."""
