"""What a journal tells: stories, reasons, differences, and the shortest way to a failure."""
