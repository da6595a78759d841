"""Files that users send to workers, for their tasks to import or to read. Blocks."""

import os
from pathlib import Path

from distributed.utils import import_file


def keep_upload(directory: str, filename: str, data: bytes | str, *, load: bool) -> int:
    """Write a file, and import it if it is a module or an archive of some; its length in bytes.

    Args:
        directory: Where to.
        filename: How it is called there.
        data: What is in it; text is encoded as UTF-8.
        load: Whether to import it, again if it was before.

    Raises:
        ValueError: The name is one of another directory.
        OSError: It cannot be written.
        Exception: Whatever the import raises.
    """
    if filename in {"", ".."} or Path(filename).name != filename:
        raise ValueError(f"{filename!r} is no plain name of a file")
    encoded = data.encode() if isinstance(data, str) else data
    file = Path(directory, filename)
    with file.open("wb") as sink:
        sink.write(encoded)
        sink.flush()
        os.fsync(sink.fileno())
    if load:
        import_file(str(file))
    return len(encoded)
