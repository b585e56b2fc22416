"""Data sets from where they are published, with `pooch`, which compares their checksums.

Nothing is downloaded by a bench: ``rlplastic download mnist --data-dir data`` does it, once, and
`rlplastic.envs.datasets` reads what it leaves there. The MD5 sums are those that torchvision
(``torchvision/datasets/mnist.py``) and, for CIFAR-10, the data set's own page have published. They
are of the packed files, which the same data packed again are not: so a bench does not ask for them,
but for the SHA-256 that is written beside the files here, once they have been compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlplastic.envs import checksums
from rlplastic.errors import UsageError, unknown


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a data set is published.

    Attributes:
        url: What the names of the files are appended to.
        files: MD5 of each.
        members: What is unpacked of each, if they are archives; empty: they are read as they are.
    """

    url: str
    files: Mapping[str, str]
    members: list[str] = field(default_factory=list)


SOURCES: dict[str, Source] = {
    "mnist": Source(
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        files={
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion-mnist": Source(
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        files={
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "emnist": Source(
        url="https://biometrics.nist.gov/cs_links/EMNIST/",
        files={"gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"},
        members=[
            f"gzip/emnist-balanced-{part}-{kind}-ubyte.gz"
            for part in ("train", "test")
            for kind in ("images-idx3", "labels-idx1")
        ],
    ),
    "cifar-10": Source(
        url="https://www.cs.toronto.edu/~kriz/",
        files={"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        members=["cifar-10-batches-bin"],
    ),
}


def download(name: str, folder: Path) -> list[Path]:
    """Fetch a data set into ``<folder>/<name>/``; what is there and whole is not fetched again.

    Returns:
        The files that `rlplastic.envs.datasets` reads; ``SHA256SUMS`` beside them lists them.

    Raises:
        UsageError: no such data set, no `pooch`, no answer, or files with another checksum.
    """
    if name not in SOURCES:
        raise unknown("data set", name, SOURCES)
    try:
        import pooch
        import requests
    except ImportError:
        raise UsageError(
            "downloading needs pooch, which is not installed: pip install 'rlplastic[data]'"
        ) from None
    source, found = SOURCES[name], list[Path]()
    for file, md5 in source.files.items():
        url = source.url + file
        try:
            fetched = pooch.retrieve(
                url, f"md5:{md5}", file, folder / name, _unpacking(file, source.members)
            )
        except ValueError as error:  # what pooch raises where the checksum is another
            raise UsageError(f"{url}: {error}") from error
        except (requests.RequestException, OSError) as error:
            raise UsageError(f"{url}: cannot be downloaded: {error}") from error
        paths = [Path(path) for path in ([fetched] if isinstance(fetched, str) else fetched)]
        found += [path for path in paths if path.name != checksums.SUMS]  # of an earlier time
    checksums.write(found)
    return sorted(found)


def _unpacking(file: str, members: list[str]) -> object:
    """What unpacks an archive beside itself; None if it is none."""
    import pooch

    if not members:
        return None
    kind = pooch.Unzip if file.endswith(".zip") else pooch.Untar
    return kind(members=members, extract_dir=".")
