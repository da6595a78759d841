"""What one side says of itself when it says hello, and the limits that it sets."""

import msgspec

from trouper.wire.limits import CAPABILITIES, ENDPOINT_NBYTES, NAME_LENGTH, Limits


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What one side says of itself in every handshake, and the limits that it sets."""

    role: str
    name: str
    capabilities: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    """Those capabilities without which it does not want a session."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        """What no other side would take is refused here.

        Raises:
            ValueError: A name is empty or too long, there are too many, or this side requires what
                it cannot do.
        """
        texts = (self.role, self.name, *self.capabilities, *self.required)
        for text in texts:
            check_name(text)
        if (
            max(len(self.capabilities), len(self.required)) > CAPABILITIES
            or sum(len(text.encode()) for text in texts) > ENDPOINT_NBYTES
        ):
            raise ValueError(
                f"role, name and capabilities are more than {CAPABILITIES} capabilities, "
                f"or longer than {ENDPOINT_NBYTES:,} bytes together"
            )
        lacking = sorted(set(self.required).difference(self.capabilities))
        if lacking:
            raise ValueError(f"capabilities are required that are not offered: {lacking}")


def check_name(text: str) -> None:
    """Whether this can be a name in a handshake.

    Raises:
        ValueError: It cannot.
    """
    text.encode()  # UnicodeEncodeError is a ValueError
    if not 1 <= len(text) <= NAME_LENGTH:
        raise ValueError(f"a name has to have 1 to {NAME_LENGTH} characters: {text!r:.80}")
