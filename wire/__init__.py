"""What is said: the vocabulary of workers, and how it becomes bytes. Imports nothing of ours."""
