"""Pictures to look at: a labelled grid, a first batch."""
