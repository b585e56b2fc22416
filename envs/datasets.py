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
``y_train``, or ``x_test`` and ``y_test``. The training part is taken where it is there. What is
read must have the shape and all the classes of the data set whose name it bears.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from rlplastic.envs.copies import Array
from rlplastic.envs.formats import PARTS, read_cifar, read_idx, read_npz
from rlplastic.errors import UsageError

Piece = tuple[Path, Array, Path, Array]  # images and labels, each after the file they are from

VARIABLE = "RLPLASTIC_DATA"
EMBEDDED = "digits"
Name = Literal["mnist", "fashion-mnist", "emnist", "cifar-10", "digits"]
CLASSES = {"mnist": 10, "fashion-mnist": 10, "emnist": 47, "cifar-10": 10, "digits": 10}
SHAPES = {  # channels, height, width
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "emnist": (1, 28, 28),
    "cifar-10": (3, 32, 32),
}
STOOD_IN_FOR = "mnist"  # by the embedded digits where no folder was given: they are digits too

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

    @cached_property
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
    """The data set of that name from the folder of data.

    Without a folder: `EMBEDDED`, which needs none and stands in for `STOOD_IN_FOR`.

    Raises:
        UsageError: there is no folder, it does not hold the data set, or a file in it is damaged
            or another data set's.
    """
    return _load(name, None if name == EMBEDDED else data_dir())


@cache
def _load(name: str, folder: Path | None) -> Dataset:
    if folder is None and name in (EMBEDDED, STOOD_IN_FOR):
        return _digits()
    if folder is None:
        raise UsageError(
            f"data {name!r}: no folder of data was given; add --data-dir FOLDER.\n"
            f"{_how_to_get(name, Path('FOLDER'))}"
        )
    if not folder.is_dir():
        raise UsageError(f"data folder {folder}: there is no such folder")
    for part in PARTS:
        for place in _folders(name, folder):
            try:
                found = _read_part(name, part, place)
            except UsageError as error:
                raise UsageError(f"{error}\n{_how_to_get(name, folder)}") from error
            if found is not None:
                return found
    ending = ".gz" if name in PREFIX else ""
    files = " or ".join(_files(name, part)[0] + ending for part in PARTS)
    places = ", ".join(map(str, _folders(name, folder)))
    apart = f" (not straight in {folder}: there they are mnist's)" * (name == "fashion-mnist")
    raise UsageError(
        f"data folder {folder}: holds no {name}; looked for {files} (and the files beside it) or "
        f"{name}.npz in {places}{apart}.\n{_how_to_get(name, folder)}"
    )


def _how_to_get(name: str, folder: Path) -> str:
    more = "\nWithout --data-dir the embedded digits are used" * (name == STOOD_IN_FOR)
    return (
        f"Get it from {SOURCES[name]}, or by: rlplastic download {name} --data-dir {folder}{more}"
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
    yield from dict.fromkeys(places)


def _files(name: str, part: str) -> list[str]:
    if name == "cifar-10":
        return BINARY[part]
    start = PREFIX[name][part]
    return [f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte"]


def _spellings(place: Path, file: str) -> list[Path]:
    """A file as published, unpacked, and as some mirrors spell it (``images.idx3-ubyte``)."""
    dotted = file.replace("-idx", ".idx")
    return [place / f"{spelled}{end}" for spelled in (file, dotted) for end in ("", ".gz")]


def _paths(name: str, part: str, place: Path) -> list[Path]:
    """The files of one part, none if not one of them is there.

    Raises:
        UsageError: some are there and others not.
    """
    wanted = _files(name, part)
    paths = [next((p for p in _spellings(place, w) if p.is_file()), None) for w in wanted]
    there = [path for path in paths if path is not None]
    if there and len(there) < len(wanted):
        missing = wanted[paths.index(None)]
        raise UsageError(f"{place / missing}: is missing beside the other files of {name}-{part}")
    return there


def _pieces(name: str, part: str, place: Path) -> Iterator[Piece]:
    """What the files of one part hold, unchecked; nothing if there are none."""
    packed = place / f"{name}.npz"
    if packed.is_file():
        arrays = read_npz(packed, part)
        if arrays is not None:
            yield packed, arrays[0], packed, arrays[1]
        return
    paths = _paths(name, part, place)
    if name == "cifar-10":
        for path in paths:
            images, labels = read_cifar(path)
            yield path, images, path, labels
    elif paths:
        images = read_idx(paths[0])
        if images.ndim == 3:  # emnist is published on its side
            images = (images.swapaxes(1, 2) if name == "emnist" else images)[:, None]
        yield paths[0], images, paths[1], read_idx(paths[1])


def _read_part(name: str, part: str, place: Path) -> Dataset | None:
    """One part of a data set, or None if not one of its files is there.

    Raises:
        UsageError: a file is missing, damaged, or holds something else than its name says.
    """
    pieces = list(_pieces(name, part, place))
    if not pieces:
        return None
    for images_file, images, labels_file, labels in pieces:
        _refuse_images(name, images_file, images)
        _refuse_labels(name, labels_file, labels)
        if len(images) != len(labels):
            raise UsageError(
                f"{labels_file}: {len(labels)} labels for the {len(images)} images of "
                f"{images_file.name}"
            )
    images = np.ascontiguousarray(np.concatenate([images for _, images, _, _ in pieces]))
    labels = np.concatenate([labels for *_, labels in pieces]).astype(np.int64)
    missing = np.setdiff1d(np.arange(CLASSES[name]), labels)
    if missing.size:
        files = " to ".join(dict.fromkeys(str(pieces[end][2]) for end in (0, -1)))
        raise UsageError(f"{files}: no example of class {missing[0]}; {_classes(name)}")
    images.flags.writeable = labels.flags.writeable = False
    return Dataset(name=f"{name}-{part}", images=images, labels=labels)


def _refuse_images(name: str, path: Path, images: Array) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != SHAPES[name]:
        shape = ", ".join(map(str, SHAPES[name]))
        raise UsageError(
            f"{path}: holds {images.dtype} {images.shape}; images of {name} are uint8 [n, {shape}]"
        )


def _refuse_labels(name: str, path: Path, labels: Array) -> None:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise UsageError(
            f"{path}: holds {labels.dtype} {labels.shape}; labels of {name} are integers [n]"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= CLASSES[name]))
    if wrong.size:
        raise UsageError(
            f"{path}: example {wrong[0]} has label {labels[wrong[0]]}; {_classes(name)}"
        )


def _classes(name: str) -> str:
    return f"{name} has {CLASSES[name]} classes, 0 to {CLASSES[name] - 1}, with examples of each"
