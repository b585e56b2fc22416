"""Formats of labelled images: IDX, CIFAR-10's binary rows, .npz. Nothing is unpickled."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np

from rlplastic.envs import checksums
from rlplastic.envs.copies import Array
from rlplastic.errors import UsageError

PARTS = ("train", "test")


def read_idx(path: Path) -> Array:
    """The array of an IDX file, with ``.gz`` or without (yann.lecun.com/exdb/mnist, "IDX").

    Raises:
        UsageError: not such a file, of another type than unsigned bytes, or cut short.
    """
    content = checksums.read(path)
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{path}: damaged: {error}. Get it again") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise UsageError(f"{path}: not an IDX file of unsigned bytes; it begins {content[:4]!r}")
    head = 4 + 4 * content[3]
    if len(content) < head:
        raise UsageError(f"{path}: damaged: {len(content)} bytes end within the head. Get it again")
    shape = struct.unpack(f">{content[3]}I", content[4:head])
    wanted = int(np.prod(shape, dtype=object))
    if len(content) - head != wanted:
        raise UsageError(
            f"{path}: damaged: its head says {shape}, which is {wanted} bytes; it has "
            f"{len(content) - head}. Get it again"
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def read_cifar(path: Path) -> tuple[Array, Array]:
    """Images and labels of a file of CIFAR-10's binary version: a byte of label, then 3,072.

    Raises:
        UsageError: the file is cut short.
    """
    content = np.frombuffer(checksums.read(path), np.uint8)
    if not content.size or content.size % 3073:
        raise UsageError(f"{path}: damaged: {content.size} bytes are no multiple of 3,073")
    rows = content.reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def read_npz(path: Path, part: str) -> tuple[Array, Array] | None:
    """``x_<part>`` and ``y_<part>`` of an .npz file; None if it has the other part only.

    Images are ``[n, h, w]``, ``[n, c, h, w]``, or ``[n, h, w, 3]``; labels ``[n]`` or ``[n, 1]``.

    Raises:
        UsageError: not such a file, damaged, without these arrays, or holding Python objects,
            which are not unpickled.
    """
    content = checksums.read(path)
    if content[:2] != b"PK":
        raise UsageError(
            f"{path}: not an .npz archive, as numpy.savez writes it; it begins {content[:6]!r}"
        )
    wanted = {f"x_{part}", f"y_{part}"}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            keys = set(arrays.files)
            if wanted <= keys:
                images, labels = (np.asarray(arrays[key]) for key in sorted(wanted))
    except Exception as error:  # a damaged archive makes numpy and zipfile raise what they like
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if not wanted <= keys:
        if not wanted & keys and keys & {f"{kind}_{other}" for kind in "xy" for other in PARTS}:
            return None
        held = ", ".join(sorted(keys)) or "nothing"
        raise UsageError(f"{path}: holds {held}; needed: x_train and y_train, or x_test and y_test")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] == 3:
        images = np.moveaxis(images, -1, 1)
    return images, labels[:, 0] if labels.shape[1:] == (1,) else labels
