"""The machine, and who owns it: everything that decides."""
