"""CSVs that name pictures and say what is to be learnt of them: a class, several labels, numbers, points."""
