"""What trouper raises at its users: the root of it, and what concerns words and keys."""


class TrouperError(Exception):
    """Any error of trouper's own."""


class InvalidKey(TrouperError, TypeError):
    """A key that is not text, a number, bytes, None, or a tuple of such."""
