"""Files that others wrote, opened inertly: nothing in them is run, imported or looked up."""
