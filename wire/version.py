"""Which trouper this is; journals and peers are told. A test holds it equal to pyproject.toml."""

VERSION = "0.1.0"
