"""The command lines of benchmarks and long checks: what a module says of itself is their help."""

import argparse
import importlib.metadata
import os
import platform
import sys


def parser_for(text: str | None) -> argparse.ArgumentParser:
    """Shows a module's first line as what it does, and its second paragraph as examples."""
    description, _, rest = (text or "").partition("\n\n")
    examples, _, _ = rest.partition("\n\n")
    return argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def circumstances(*packages: str) -> str:
    """Where figures come from: interpreter, versions, and how busy which processors are."""
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    return ", ".join(
        [
            f"{platform.python_implementation()} {platform.python_version()}",
            *(f"{name} {importlib.metadata.version(name)}" for name in packages),
            f"{os.cpu_count()} processors",
            f"load {load}",
        ]
    )


def tell(text: str) -> None:
    """Say on stderr what is going on: in one line on a terminal, line by line elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)
