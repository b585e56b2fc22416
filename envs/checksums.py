"""Files of data, read once, and compared with the ``SHA256SUMS`` that lies beside them.

=======================================  ===================================
line                                     written by
=======================================  ===================================
``<64 hex digits>  name``                ``sha256sum *``
``<64 hex digits>  ./name``              ``sha256sum ./*``
``<64 hex digits> *name``                ``sha256sum --binary *``
``SHA256 (name) = <64 hex digits>``      ``sha256sum --tag *``, BSD's ``sha256``
=======================================  ===================================

Who puts sums into a folder wants its files compared: a file without a line is refused too.
"""

from __future__ import annotations

import hashlib
import os.path
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from rlplastic import store
from rlplastic.errors import UsageError

SUMS = "SHA256SUMS"
LINES = (
    re.compile(r"(?P<digest>[0-9a-fA-F]{64})\s+\*?(?P<name>.+)"),
    re.compile(r"SHA256\s*\((?P<name>.+)\)\s*=\s*(?P<digest>[0-9a-fA-F]{64})"),
)
SHOWN = 4  # names, or characters of ten each, of a file that cannot be used


def read(path: Path) -> bytes:
    """The bytes of a file, which are those that `SUMS` in its folder lists, if there is one.

    Raises:
        UsageError: the file or its sums cannot be read, or the sums are others, or have no line
            for it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    sums = path.parent / SUMS
    if not sums.exists():
        return content
    listed = list(_listed(sums))
    wanted = [digest for name, digest in listed if _same(name, path)]
    if not wanted:
        names = ", ".join(name for name, _ in listed[:SHOWN]) + ", ..." * (len(listed) > SHOWN)
        raise UsageError(
            f"{path}: {sums} has no line for {path.name}; it lists {names}. Add the line that "
            f"'sha256sum {path.name}' writes there, or remove {SUMS}: then nothing is compared"
        )
    found = hashlib.sha256(content).hexdigest()
    for digest in wanted:
        if digest != found:
            raise UsageError(
                f"{path}: its SHA-256 is {found}, {sums} says {digest}: damaged or another file. "
                "Get it again"
            )
    return content


def write(paths: Iterable[Path]) -> None:
    """List files in the `SUMS` of their folders, where there is none yet: it may be the user's."""
    lines: dict[Path, list[str]] = {}
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.setdefault(path.parent / SUMS, []).append(f"{digest}  {path.name}\n")
    for sums, listed in lines.items():
        if not sums.exists():
            store.write_text(sums, "".join(listed))


def _listed(sums: Path) -> Iterator[tuple[str, str]]:
    """Names and digests of a file of sums.

    Raises:
        UsageError: it cannot be read, or not one line of it.
    """
    try:
        text = sums.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UsageError(f"{sums}: cannot be read: {error.strerror}") from error
    lines = [line.strip() for line in text.splitlines()]
    found = [match for line in lines for form in LINES if (match := form.fullmatch(line))]
    if not found:
        raise UsageError(
            f"{sums}: no line of it can be understood; it begins {text[: 10 * SHOWN]!r}. Write it "
            f"anew by 'sha256sum * > {SUMS}', or remove it: then nothing is compared"
        )
    for match in found:
        yield match["name"], match["digest"].lower()


def _same(name: str, path: Path) -> bool:
    """A name as it was written in the folder (``./name``), or in full."""
    return os.path.normpath(path.parent.absolute() / name) == os.path.normpath(path.absolute())
