"""Which picture is in which set: groups and copies on one side, classes in proportion, written as a table."""
