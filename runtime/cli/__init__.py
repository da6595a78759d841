"""The `trouper` command, one module for each family of commands."""
