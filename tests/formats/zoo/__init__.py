"""The zoo: files that other programs wrote, and the truth about them. One generator a program, `make_<program>.py`."""
