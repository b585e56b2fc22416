"""Labelled images for supervised streams: read from a folder of data, or embedded.

The folder is a matter of the machine (`--data-dir`, or the variable ``RLPLASTIC_DATA``) and no part
of an experiment's identity; what was read from it is: the name and the SHA-256 of the arrays.

==============  ===============================================================================
name            files, in ``<data-dir>/<name>/``, in torchvision's folder, or in ``<data-dir>/``
==============  ===============================================================================
mnist           ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, or ``t10k-...``
fashion-mnist   the same names; never straight in ``<data-dir>``, where they would be mnist's
emnist          ``emnist-balanced-train-images-idx3-ubyte``, ...; turned upright
cifar-10        ``data_batch_1.bin`` to ``_5``, or ``test_batch.bin``: the binary version
digits          scikit-learn's 1,797 digits of 8 x 8 (UCI, Alpaydin & Kaynak); needs no file
==============  ===============================================================================

IDX files may end in ``.gz``. Each may be one ``<name>.npz`` instead, with ``x_train`` and
``y_train``, or ``x_test`` and ``y_test``. The training part is taken where it is there. Where the
folder has a ``SHA256SUMS``, the files that it lists are compared with it. Nothing is unpickled.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from rlplastic.envs.copies import Array
from rlplastic.errors import UsageError

VARIABLE = "RLPLASTIC_DATA"
EMBEDDED = "digits"
Name = Literal["mnist", "fashion-mnist", "emnist", "cifar-10", "digits"]

TORCHVISION = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "emnist": "EMNIST/raw"}
INSIDE = {"emnist": "gzip", "cifar-10": "cifar-10-batches-bin"}
PREFIX = {
    "mnist": {"train": "train", "test": "t10k"},
    "fashion-mnist": {"train": "train", "test": "t10k"},
    "emnist": {"train": "emnist-balanced-train", "test": "emnist-balanced-test"},
}
BINARY = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
SOURCES = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
    "fashion-mnist": "https://github.com/zalandoresearch/fashion-mnist",
    "emnist": "https://www.nist.gov/itl/products-and-services/emnist-dataset (gzip.zip)",
    "cifar-10": "https://www.cs.toronto.edu/~kriz/cifar.html (binary version)",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Images with labels, or points.

    Attributes:
        name: Which, and which part: ``mnist-test``.
        images: uint8 ``[examples, channels, height, width]``; points float32 ``[examples, 2]``.
        labels: int64 ``[examples]``, from 0.
    """

    name: str
    images: Array
    labels: Array

    @property
    def digest(self) -> str:
        """SHA-256 of shape and bytes of images and labels, its first sixteen characters."""
        found = hashlib.sha256()
        for array in (self.images, self.labels):
            found.update(repr((array.shape, array.dtype.str)).encode())
            found.update(array.tobytes())
        return found.hexdigest()[:16]


def data_dir() -> Path | None:
    """The folder of data that this process was given, or None."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else None


def load(name: str) -> Dataset:
    """The data set of that name from the folder of data; `EMBEDDED` where no folder was given.

    Raises:
        UsageError: the folder does not hold it, or a file in it is damaged.
    """
    return _load(name, None if name == EMBEDDED else data_dir())


@cache
def _load(name: str, folder: Path | None) -> Dataset:
    if folder is None:
        return _digits()
    if not folder.is_dir():
        raise UsageError(f"data folder {folder}: there is no such folder")
    tried = list(_folders(name, folder))
    for part in ("train", "test"):
        for place in tried:
            try:
                found = _read_part(name, part, place)
                if found is not None:
                    return _checked(f"{name}-{part}", *found, place)
            except UsageError as error:
                raise UsageError(f"{error}\n{_how_to_get(name, folder)}") from error
    files = " or ".join(
        _files(name, part)[0] + (".gz" if name in PREFIX else "") for part in ("train", "test")
    )
    raise UsageError(
        f"data folder {folder}: holds no {name}; looked for {files} (and the files beside it) or "
        f"{name}.npz in {', '.join(map(str, tried))}.\n{_how_to_get(name, folder)}"
    )


def _how_to_get(name: str, folder: Path) -> str:
    return (
        f"Get it from {SOURCES[name]}, or by: rlplastic download {name} --data-dir {folder}\n"
        "Without --data-dir the embedded digits are used"
    )


def _digits() -> Dataset:
    from rlplastic.envs.digits import digits

    images, labels = digits()
    return Dataset(name=EMBEDDED, images=images, labels=labels)


def _folders(name: str, folder: Path) -> Iterator[Path]:
    """Where the files of a data set may lie, most particular first."""
    places = [folder / name, folder / name / INSIDE.get(name, "")]  # as `download` leaves it
    places.append(folder / TORCHVISION.get(name, "cifar-10-batches-bin"))
    if name != "fashion-mnist" or folder.name == name:
        places.append(folder)
    yield from (place for place in dict.fromkeys(places) if place.is_dir())


def _files(name: str, part: str) -> list[str]:
    if name == "cifar-10":
        return BINARY[part]
    start = PREFIX[name][part]
    return [f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte"]


def _read_part(name: str, part: str, place: Path) -> tuple[Array, Array] | None:
    """Images and labels of one part, or None if not one of its files is there.

    Raises:
        UsageError: some are there and others not, or one is damaged.
    """
    packed = place / f"{name}.npz"
    if packed.is_file():
        return read_npz(packed, part)
    wanted = _files(name, part)
    paths = [next((p for p in _spellings(place, w) if p.is_file()), None) for w in wanted]
    if not any(paths):
        return None
    for path, file in zip(paths, wanted, strict=True):
        if path is None:
            raise UsageError(f"{place / file}: is missing beside the other files of {name}-{part}")
    there = [path for path in paths if path is not None]
    if name == "cifar-10":
        pieces = [read_cifar(path) for path in there]
        return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])
    images, labels = (read_idx(path) for path in there)
    if images.ndim != 3 or labels.ndim != 1:
        raise UsageError(f"{there[0]}: images of shape {images.shape}, labels {labels.shape}")
    if name == "emnist":  # published on its side
        images = images.transpose(0, 2, 1)
    return images[:, None], labels


def _spellings(place: Path, file: str) -> list[Path]:
    """A file as published, unpacked, and as some mirrors spell it (``images.idx3-ubyte``)."""
    dotted = file.replace("-idx", ".idx")
    return [place / f"{spelled}{end}" for spelled in (file, dotted) for end in ("", ".gz")]


def _checked(name: str, images: Array, labels: Array, place: Path) -> Dataset:
    """The data set, if it is one.

    Raises:
        UsageError: other types, shapes or numbers than those of labelled images.
    """
    where = f"{place}: {name}"
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise UsageError(
            f"{where}: images are {images.dtype} {images.shape}, not uint8 [n, c, h, w]"
        )
    if len(images) != len(labels):
        raise UsageError(f"{where}: {len(images)} images and {len(labels)} labels")
    images, labels = np.ascontiguousarray(images), labels.astype(np.int64)
    if labels.min() < 0:
        raise UsageError(f"{where}: a label is {labels.min()}")
    images.flags.writeable = labels.flags.writeable = False
    return Dataset(name=name, images=images, labels=labels)


# -- formats -------------------------------------------------------------------------------------


def read_idx(path: Path) -> Array:
    """The array of an IDX file, with ``.gz`` or without (yann.lecun.com/exdb/mnist, "IDX").

    Raises:
        UsageError: not such a file, of another type than unsigned bytes, or cut short.
    """
    content = _bytes(path)
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
    content = np.frombuffer(_bytes(path), np.uint8)
    if not content.size or content.size % 3073:
        raise UsageError(f"{path}: damaged: {content.size} bytes are no multiple of 3,073")
    rows = content.reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def read_npz(path: Path, part: str) -> tuple[Array, Array] | None:
    """``x_<part>`` and ``y_<part>`` of an .npz file; None if it has no such part.

    Images are ``[n, h, w]``, ``[n, c, h, w]``, or ``[n, h, w, 3]``.

    Raises:
        UsageError: damaged, or holding Python objects, which are not unpickled.
    """
    _compare(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if f"x_{part}" not in arrays:
                return None
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"].reshape(-1)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] == 3:
        images = np.moveaxis(images, -1, 1)
    return images, labels


def _bytes(path: Path) -> bytes:
    _compare(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _compare(path: Path) -> None:
    """Compare a file with what ``SHA256SUMS`` beside it says, if that lists it.

    Raises:
        UsageError: they differ.
    """
    sums = path.parent / "SHA256SUMS"
    if not sums.is_file():
        return
    text = sums.read_text(encoding="utf-8", errors="replace")
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    listed = {line[1].lstrip("*"): line[0].lower() for line in lines if len(line) == 2}
    if path.name in listed:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != listed[path.name]:
            raise UsageError(
                f"{path}: its SHA-256 is {found}, {sums} says {listed[path.name]}: damaged or "
                "another file. Get it again"
            )
