"""One loop each, no decisions: everything that does things."""
