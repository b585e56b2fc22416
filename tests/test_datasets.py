"""Files of labelled images: every format read exactly, every fault named before anything runs."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import json
import signal
import struct
import sys
import tarfile
import threading
import zipfile

import numpy as np
import pytest

from rlplastic import cli, options, registry
from rlplastic.envs import datasets, download
from rlplastic.errors import UsageError
from rlplastic.plan import make_plan
from rlplastic.planfile import check_folder, write_plan
from rlplastic.request import Request

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
LABELS = np.resize(np.arange(10, dtype=np.uint8), 60)
EMNIST_LABELS = np.resize(np.arange(47, dtype=np.uint8), 60)


def idx(array):
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + (array.tobytes())
    )


def write(folder, name="t10k-{}", images=IMAGES, labels=LABELS, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
        content = gzip.compress(idx(array)) if packed else idx(array)
        (folder / (name.format(kind) + ".gz" * packed)).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    datasets._load.cache_clear()
    yield tmp_path
    datasets._load.cache_clear()


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_read_wherever_they_lie(folder, place, packed):
    write(folder / place, packed=packed)
    found = datasets.load("mnist")
    assert found.name == "mnist-test"
    np.testing.assert_array_equal(found.images[:, 0], IMAGES)
    assert found.labels.tolist() == LABELS.tolist()


def test_the_training_part_comes_first_and_the_digest_is_of_the_arrays(folder):
    write(folder, packed=True)
    test = datasets.load("mnist")
    datasets._load.cache_clear()
    write(folder, "train-{}", IMAGES[:30], LABELS[:30], packed=False)
    assert datasets.load("mnist").name == "mnist-train"
    assert datasets.load("mnist").digest != test.digest
    expected = hashlib.sha256()
    for array in (IMAGES[:, None], LABELS.astype(np.int64)):
        expected.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
    assert test.digest == expected.hexdigest()[:16]


def test_emnist_is_turned_upright_and_fashion_is_not_taken_for_mnist(folder):
    write(folder, "emnist-balanced-test-{}", labels=EMNIST_LABELS)
    np.testing.assert_array_equal(datasets.load("emnist").images[0, 0], IMAGES[0].T)
    write(folder)
    apart = rf"fashion-mnist, {folder}/FashionMNIST/raw \(not straight in {folder}: there they are"
    with pytest.raises(UsageError, match=f"holds no fashion-mnist.*{apart} mnist's"):
        datasets.load("fashion-mnist")
    write(folder / "fashion-mnist")
    assert datasets.load("fashion-mnist").name == "fashion-mnist-test"


def test_cifar_and_npz(folder):
    rows = np.random.default_rng(1).integers(0, 256, (12, 3073), np.uint8)
    rows[:, 0] = np.arange(12) % 10
    (folder / "test_batch.bin").write_bytes(rows.tobytes())
    found = datasets.load("cifar-10")
    np.testing.assert_array_equal(found.images.reshape(12, -1), rows[:, 1:])
    assert found.labels.tolist() == rows[:, 0].tolist()
    np.savez(folder / "mnist.npz", x_test=IMAGES, y_test=LABELS)
    np.testing.assert_array_equal(datasets.load("mnist").images[:, 0], IMAGES)


def test_npz_with_the_channels_last_and_a_column_of_labels_as_keras_has_them(folder):
    images = np.random.default_rng(1).integers(0, 256, (10, 32, 32, 3), np.uint8)
    np.savez(folder / "cifar-10.npz", x_test=images, y_test=np.arange(10)[:, None])
    found = datasets.load("cifar-10")
    assert found.name == "cifar-10-test"
    np.testing.assert_array_equal(found.images[3, 2], images[3, :, :, 2])
    assert found.images.flags.c_contiguous
    assert found.labels.tolist() == list(range(10))


def test_the_digits_need_no_folder():
    digits = datasets.load("digits")
    assert digits.images.shape == (1797, 1, 8, 8)
    assert (int(digits.images.min()), int(digits.images.max())) == (0, 255)
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


FAULTS = {
    "nothing there": (lambda f: None, "(?s)holds no mnist.*Get it from https"),
    "one file missing": (
        lambda f: (f / "t10k-labels-idx1-ubyte.gz").unlink(),
        "t10k-labels-idx1-ubyte: is missing beside",
    ),
    "gzip cut short": (
        lambda f: cut(f / "t10k-images-idx3-ubyte.gz"),
        "images-idx3-ubyte.gz: damaged",
    ),
    "not idx": (
        lambda f: (f / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"hello world")),
        "not an IDX file",
    ),
    "idx cut short": (
        lambda f: (f / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)[:-3])),
        "its head says .60,., which is 60 bytes; it has 57",
    ),
    "fewer labels": (
        lambda f: (f / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[:50]))),
        "t10k-labels-idx1-ubyte.gz: 50 labels for the 60 images of t10k-images-idx3-ubyte.gz",
    ),
    "wrong checksum": (
        lambda f: sums(f, "{}  {}", digest="0" * 64),
        "images-idx3-ubyte.gz: its SHA-256 is .*SHA256SUMS says 0000",
    ),
    "labels that are images": (
        lambda f: (f / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES))),
        r"t10k-labels-idx1-ubyte.gz: holds uint8 \(60, 28, 28\); labels of mnist are integers",
    ),
    "another shape": (
        lambda f: write(f, images=IMAGES[:, :8, :8]),
        r"images-idx3-ubyte.gz: holds uint8 \(60, 1, 8, 8\); images of mnist are uint8 \[n, 1, 28",
    ),
    "a label that is none": (
        lambda f: write(f, labels=changed(7, 200)),
        "labels-idx1-ubyte.gz: example 7 has label 200; mnist has 10 classes, 0 to 9",
    ),
    "a class that is missing": (
        lambda f: write(f, labels=np.where(LABELS == 3, 4, LABELS).astype(np.uint8)),
        "labels-idx1-ubyte.gz: no example of class 3; mnist has 10 classes, 0 to 9",
    ),
    "no examples": (
        lambda f: write(f, images=IMAGES[:0], labels=LABELS[:0]),
        "labels-idx1-ubyte.gz: no example of class 0",
    ),
    "pickled": (
        lambda f: np.savez(f / "mnist.npz", x_test=np.array([{}], dtype=object), y_test=LABELS),
        "mnist.npz: cannot be read",
    ),
    "npz cut short": (
        lambda f: (npz(f, y_test=LABELS), cut(f / "mnist.npz")),
        "mnist.npz: cannot be read: File is not a zip file",
    ),
    "npy": (
        lambda f: (np.save(f / "a.npy", IMAGES), (f / "a.npy").rename(f / "mnist.npz")),
        "mnist.npz: not an .npz archive, as numpy.savez writes it; it begins b'.*NUMPY'",
    ),
    "other keys": (
        lambda f: np.savez(f / "mnist.npz", images=IMAGES, labels=LABELS),
        "mnist.npz: holds images, labels; needed: x_train and y_train, or x_test and y_test",
    ),
    "no labels": (lambda f: npz(f), "mnist.npz: holds x_test; needed: x_train and y_train, or"),
    "labels with fractions": (
        lambda f: npz(f, y_test=LABELS + 0.7),
        r"mnist.npz: holds float64 \(60,\); labels of mnist are integers",
    ),
    "labels that are text": (
        lambda f: npz(f, y_test=LABELS.astype(str)),
        r"mnist.npz: holds <U3 \(60,\); labels of mnist are integers",
    ),
    "labels one-hot": (
        lambda f: npz(f, y_test=np.eye(10, dtype=int)[LABELS]),
        r"mnist.npz: holds int64 \(60, 10\); labels of mnist are integers",
    ),
    "a huge label": (
        lambda f: npz(f, y_test=changed(0, 10**12, np.int64)),
        "mnist.npz: example 0 has label 1000000000000; mnist has 10 classes",
    ),
    "a negative label": (
        lambda f: npz(f, y_test=changed(1, -1, np.int8)),
        "mnist.npz: example 1 has label -1; mnist has 10 classes",
    ),
    "images of numbers in [0, 1]": (
        lambda f: np.savez(f / "mnist.npz", x_test=IMAGES / 255, y_test=LABELS),
        r"mnist.npz: holds float64 \(60, 1, 28, 28\); images of mnist are uint8",
    ),
    "a folder of sums": (
        lambda f: (f / "SHA256SUMS").mkdir(),
        "SHA256SUMS: cannot be read: Is a directory",
    ),
}


def changed(place, label, dtype=np.uint8):
    labels = LABELS.astype(dtype)
    labels[place] = label
    return labels


def npz(folder, **more):
    np.savez(folder / "mnist.npz", x_test=IMAGES, **more)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_file(folder, fault):
    spoil, message = FAULTS[fault]
    if fault != "nothing there":
        write(folder)
    spoil(folder)
    with pytest.raises(UsageError, match=message) as refused:
        datasets.load("mnist")
    assert f"rlplastic download mnist --data-dir {folder}" in str(refused.value)


def test_a_fault_of_cifar_names_the_file_that_has_it(folder):
    def batch(number, labels):
        rows = np.zeros((10, 3073), np.uint8)
        rows[:, 0] = labels
        (folder / f"data_batch_{number}.bin").write_bytes(rows.tobytes())

    for number in range(1, 6):
        batch(number, np.resize(np.arange(9), 10))
    with pytest.raises(UsageError, match=r"batch_1.bin to .*batch_5.bin: no example of class 9"):
        datasets.load("cifar-10")
    batch(5, np.arange(10))
    assert datasets.load("cifar-10").images.shape == (50, 3, 32, 32)
    datasets._load.cache_clear()
    batch(3, 77)
    with pytest.raises(UsageError, match="data_batch_3.bin: example 0 has label 77; cifar-10 has"):
        datasets.load("cifar-10")


def sums(folder, form, digest=None):
    """Write the checksums of all files in a folder, or a wrong one for each."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    lines = [form.format(digest or sha256(path), path.name) for path in paths]
    (folder / "SHA256SUMS").write_text("\n".join(lines))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


FORMS = ["{}  {}", "{}  ./{}", "{} *{}", "SHA256 ({1}) = {0}", "# of today\n{}\t{}\r"]


@pytest.mark.parametrize("form", FORMS)
def test_checksums_are_compared_in_every_form_that_programs_write(folder, form):
    sums(write(folder), form)
    assert len(datasets.load("mnist").labels) == 60
    datasets._load.cache_clear()
    (folder / "SHA256SUMS").unlink()
    sums(folder, form, digest="0" * 64)
    with pytest.raises(UsageError, match=r"images-idx3-ubyte.gz: its SHA-256 is .* says 0000"):
        datasets.load("mnist")


def test_a_file_that_the_sums_do_not_list_is_refused(folder):
    write(folder, packed=True)
    sums(folder, "{}  {}")
    write(folder, packed=False)  # what lies there unpacked is read first
    with pytest.raises(UsageError, match=r"no line for t10k-images-idx3-ubyte; it lists .*\.gz, "):
        datasets.load("mnist")
    sums(folder, "{}  elsewhere/{}")
    with pytest.raises(UsageError, match="it lists elsewhere/SHA256SUMS, elsewhere/t10k"):
        datasets.load("mnist")


@pytest.mark.parametrize("text", ["", "not a sum\n", f"{'0' * 40}  t10k-images-idx3-ubyte.gz\n"])
def test_sums_of_which_no_line_is_understood_are_refused(folder, text):
    (write(folder) / "SHA256SUMS").write_text(text)
    with pytest.raises(UsageError, match="SHA256SUMS: no line of it can be understood; it begins"):
        datasets.load("mnist")


# -- what a cell knows of its data ---------------------------------------------------------------


def base_of(**options_):
    return options.build("environment", {"name": "Images", **options_}, "test")


def test_the_folder_is_no_part_of_a_cell_and_the_data_are(folder, monkeypatch):
    def base():
        datasets._load.cache_clear()
        request = Request(agents=["mlp"], regs=["none"], env="MNIST-Permuted", budget="smoke")
        plan = make_plan(request)
        return plan, plan.cells[-1].identity["stream"]["base"]

    write(folder)
    plan, here = base()
    assert here["used"] == "mnist-test"
    assert str(folder) not in str(plan)
    assert "mnist-test" in plan.tasks["MNIST-observation"]["data"]
    monkeypatch.setenv(datasets.VARIABLE, str(write(folder / "elsewhere")))
    assert base()[1] == here
    write(folder / "elsewhere", images=IMAGES[::-1])
    assert base()[1] != here
    monkeypatch.delenv(datasets.VARIABLE)
    plan, there = base()
    assert there["used"] == "digits"
    assert any("digits stand in for mnist" in note for note in plan.notes)


def test_other_data_than_planned_are_refused(folder):
    write(folder)
    config = registry.load("environment", "Images")(**planned(base_of()))
    datasets._load.cache_clear()
    write(folder, labels=LABELS[::-1])
    with pytest.raises(UsageError, match="what is there now is mnist-test"):
        config.make(2)


def planned(config):
    return {key: value for key, value in options.spec_of(config).items() if key != "name"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": [0, 47]}, "has no class 47; it has 0 to 9"),
        ({"classes": [3]}, "two or more"),
        ({"classes": [3, 3]}, "two or more"),
        ({"size": 61}, "nearest valid: 60"),
    ],
)
def test_classes_and_examples_that_are_not_there_are_refused(folder, asked, message):
    write(folder)
    with pytest.raises(UsageError, match=message):
        base_of(**asked).make(2)


SUITE = """
description = "one task"
family = "supervised"
[budgets.small]
seeds = 1
phases = 2
period = { mlp = 400, random = 1_250 }
[tasks.T-observation]
base = { name = "Images", classes = [0, 12] }
track = "observation"
shifts = [{ name = "permutation" }]
normalise = { random = 50.0, high = 100.0, high_name = "perfect" }
"""

BAD = {
    "cut short": (
        lambda f: cut(f / "t10k-images-idx3-ubyte.gz"),
        "t10k-images-idx3-ubyte.gz: damaged",
    ),
    "another checksum": (
        lambda f: sums(f, "{}  {}", digest="0" * 64),
        "t10k-images-idx3-ubyte.gz: its SHA-256 is",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bench_on_bad_files_writes_nothing_and_says_how_to_get_them(folder, call, fault):
    spoil, message = BAD[fault]
    spoil(write(folder))
    code, said = call(*bench("MNIST-Permuted", "smoke"))
    assert code == 2
    assert message in said
    assert f"rlplastic download mnist --data-dir {folder}" in said
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("", ""), "mnist-test has no class 12; it has 0 to 9"),
        (("[0, 12]", "[0, 1]"), "shift 'permutation' needs a vector of at least two features"),
    ],
)
def test_a_bench_of_what_does_not_fit_the_data_writes_nothing(folder, call, change, message):
    suite = write(folder) / "Mine.toml"
    suite.write_text(SUITE.replace(*change) if change[0] else SUITE)
    code, said = call(*bench(suite, "small"))
    assert code == 2
    assert message in said
    assert not (folder / "out").exists()


def bench(suite, budget):
    """The words of a command in the folder of data."""
    words = ("bench", "--env", suite, "--budget", budget, "--agent", "mlp", "--reg", "none")
    return (*words, "--data-dir", ".", "--out", "out")


@pytest.fixture
def call(folder, capsys, monkeypatch):
    """Calls the program in this process, in the folder of data; gives exit code and message."""
    monkeypatch.chdir(folder)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def program(*words):
        monkeypatch.setattr(sys, "argv", ["rlplastic", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, capsys.readouterr().err

    yield program
    for number, handler in before.items():
        signal.signal(number, handler)


# -- other data than the suite's, by --data -----------------------------------------------------


def plan_with(data, env="MNIST-Permuted/MNIST-observation"):
    datasets._load.cache_clear()
    return make_plan(Request(agents=["mlp"], regs=["none"], env=env, budget="smoke", data=data))


def test_other_data_are_other_cells_and_chance_is_that_of_their_classes(folder):
    write(folder)
    write(folder / "fashion-mnist")
    write(folder, "emnist-balanced-test-{}", labels=EMNIST_LABELS)
    plans = {data: plan_with(data) for data in ("", "mnist", "fashion-mnist", "emnist", "digits")}
    ids = {data: [cell.id for cell in plan.cells] for data, plan in plans.items()}
    assert ids["mnist"] == ids[""]
    assert len({name for one in ids.values() for name in one}) == 4 * len(ids[""])
    for data, used, chance in (
        ("mnist", "mnist-test", 10.0),
        ("fashion-mnist", "fashion-mnist-test", 10.0),
        ("emnist", "emnist-test", 100 / 47),
        ("digits", "digits", 10.0),
    ):
        task = plans[data].tasks["MNIST-observation"]
        assert task["data"].startswith(f"{used} (SHA-256 ")
        assert task["normalise"]["random"] == chance
        assert task["agents"]["mlp"]["scale"] == 100 - chance
        assert task["agents"]["cnn"]["scale"] == 100 - chance
        base = plans[data].cells[0].stream["base"]
        assert (base["data"], base["used"]) == (data, used)


def test_chance_between_two_classes_is_a_half_whatever_the_data(folder):
    write(folder, "emnist-balanced-test-{}", labels=EMNIST_LABELS)
    task = plan_with("emnist", "MNIST-Pairs").tasks["Pairs-dynamics"]
    assert task["normalise"]["random"] == task["agents"]["mlp"]["scale"] == 50.0


def test_a_scale_that_is_no_distance_from_chance_is_not_kept_for_other_data(folder):
    write(folder)
    suite = folder / "Mine.toml"
    agents = '[tasks.T-observation.agents.mlp]\nscale = 37.0\nscale_source = "measured"\n'
    suite.write_text(MINE + agents)
    assert plan_with("", str(suite)).tasks["T-observation"]["agents"]["mlp"]["scale"] == 37.0
    for data in ("mnist", "digits"):
        plan = plan_with(data, str(suite))
        assert plan.tasks["T-observation"]["agents"] == {}
        assert "no pilot of mlp, so no scale and no score: T-observation" in plan.notes


MINE = (
    SUITE.replace(", classes = [0, 12]", "")
    .replace("random = 50.0", "random = 10.0")
    .replace("permutation", "pixels")
    .replace("[budgets.small]", "[budgets.smoke]")
)


def test_a_folder_of_one_data_set_takes_no_other_and_its_report_names_them(folder, call):
    write(folder / "fashion-mnist")
    suite = write(folder) / "Mine.toml"
    suite.write_text(MINE)
    words = (*bench(suite, "smoke"), "--quiet", "--workers", "1", "--data")
    assert call(*words, "fashion-mnist")[0] == 0
    assert "fashion-mnist-test (SHA-256 " in (folder / "out" / "report.md").read_text()
    before = (folder / "out" / "plan.json").read_bytes()
    for more, named in ((["mnist"], "'mnist'"), (None, "None")):
        code, said = call(*words, *more) if more else call(*words[:-1])
        assert code == 2
        assert f"another experiment: data is 'fashion-mnist' there and {named} here" in said
    assert (folder / "out" / "plan.json").read_bytes() == before


def test_a_folder_older_than_the_option_goes_on_with_the_suite_s_data_alone(folder):
    write(folder)
    write_plan(plan_with(""), folder / "out")
    path = folder / "out" / "plan.json"
    old = json.loads(path.read_text())
    del old["protocol"]["data"]
    path.write_text(json.dumps(old))
    assert check_folder(plan_with(""), folder / "out") == old
    with pytest.raises(UsageError, match="data is None there and 'mnist' here"):
        check_folder(plan_with("mnist"), folder / "out")


@pytest.mark.parametrize("data", ["cifar-10", "emnist"])
@pytest.mark.parametrize("agent", ["mlp", "cnn"])
def test_agents_can_be_built_for_images_of_every_shape(folder, call, agent, data):
    rows = np.random.default_rng(1).integers(0, 256, (20, 3073), np.uint8)
    rows[:, 0] = np.arange(20) % 10
    (folder / "test_batch.bin").write_bytes(rows.tobytes())
    write(folder, "emnist-balanced-test-{}", labels=EMNIST_LABELS)
    words = ("--env", "MNIST-Labels", "--budget", "smoke", "--agent", agent, "--reg", "none")
    code, said = call("bench", *words, "--data-dir", ".", "--data", data, "--dry-run")
    assert (code, said) == (0, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("Bits-Regression", "--data", "mnist"),
            "has base environment 'Bits', which shows no data",
        ),
        (
            ("MNIST-Permuted", "--data", "minst"),
            "data = 'minst': input should be 'mnist', 'fashion",
        ),
        (
            ("MNIST-Permuted", "--data", "cifar-10"),
            "holds no cifar-10; looked for data_batch_1.bin",
        ),
    ],
)
def test_data_that_cannot_be_shown_are_refused(folder, call, words, message):
    write(folder)
    code, said = call(*bench(words[0], "smoke"), *words[1:])
    assert code == 2
    assert message in said
    assert not (folder / "out").exists()


def test_no_data_but_digits_stand_in_for_others(monkeypatch):
    monkeypatch.delenv(datasets.VARIABLE)
    for name in ("fashion-mnist", "emnist", "cifar-10"):
        with pytest.raises(UsageError, match=f"(?s)data '{name}': no folder .*--data-dir FOLDER"):
            plan_with(name)
    assert plan_with("mnist").cells[0].stream["base"]["used"] == "digits"


def test_a_suite_that_states_another_chance_than_that_of_its_data_is_refused(folder, call):
    write(folder, "emnist-balanced-test-{}", labels=EMNIST_LABELS)
    suite = folder / "Mine.toml"
    suite.write_text(MINE.replace('"Images"', '"Images", data = "emnist"'))
    code, said = call(*bench(suite, "smoke"))
    assert code == 2
    assert "task 'T-observation': normalise.random = 10, but chance among the 47 classes of" in said
    assert "emnist-test that it shows is 2.128 %; write random = 2.128" in said
    assert not (folder / "out").exists()
    suite.write_text(suite.read_text().replace("random = 10.0", "random = 2.128"))
    assert plan_with("", str(suite)).cells[0].stream["base"]["used"] == "emnist-test"


def test_too_few_worlds_are_told_with_the_classes_and_the_data_that_they_are_of(folder, call):
    suite = write(folder) / "Mine.toml"
    nine = SUITE.replace("[0, 12]", str(list(range(9)))).replace("random = 50.0", "random = 11.11")
    suite.write_text(nine.replace("permutation", "pairs").replace("phases = 2", "phases = 11"))
    code, said = call(*bench(suite, "small"))
    assert code == 2
    assert "shift 'pairs' has 10 worlds (0 to 9, 9 of 10 classes of mnist-test), but the" in said


# -- downloading ---------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    """A folder and the address at which its files are, over real HTTP."""
    place = tmp_path / "served"
    place.mkdir()
    handler = functools.partial(Quiet, directory=str(place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield place, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def publish(monkeypatch, name, url, files, members=()):
    source = download.Source(url=url, files={f.name: md5(f) for f in files}, members=[*members])
    monkeypatch.setitem(download.SOURCES, name, source)


def test_files_are_fetched_once_compared_and_read(served, folder, monkeypatch):
    pytest.importorskip("pooch")
    place, url = served
    write(place)
    files = sorted(place.iterdir())
    publish(monkeypatch, "mnist", url, files)
    found = download.download("mnist", folder)
    assert [path.name for path in found] == [path.name for path in files]
    np.testing.assert_array_equal(datasets.load("mnist").images[:, 0], IMAGES)
    for path in files:
        path.unlink()
    assert download.download("mnist", folder) == found  # nothing is asked for again
    datasets._load.cache_clear()
    write(folder / "mnist", images=IMAGES[::-1])
    with pytest.raises(
        UsageError, match=r"images-idx3-ubyte.gz: its SHA-256 is .*mnist/SHA256SUMS"
    ):
        datasets.load("mnist")
    found[0].write_bytes(b"damaged")
    with pytest.raises(UsageError, match="cannot be downloaded"):
        download.download("mnist", folder)


def test_another_checksum_is_refused_and_nothing_is_left(served, folder, monkeypatch):
    pytest.importorskip("pooch")
    place, url = served
    write(place)
    files = sorted(place.iterdir())
    publish(monkeypatch, "mnist", url, files)
    cut(files[0])
    with pytest.raises(UsageError, match="images-idx3-ubyte.gz: MD5 hash .* does not match"):
        download.download("mnist", folder)
    assert list((folder / "mnist").iterdir()) == []


def test_archives_are_unpacked_where_they_are_looked_for(served, folder, monkeypatch):
    pytest.importorskip("pooch")
    place, url = served
    write(place / "gzip", "emnist-balanced-test-{}", labels=EMNIST_LABELS)
    with zipfile.ZipFile(place / "gzip.zip", "w") as archive:
        for path in sorted((place / "gzip").iterdir()):
            archive.write(path, f"gzip/{path.name}")
    members = [f"gzip/emnist-balanced-test-{k}-ubyte.gz" for k in ("images-idx3", "labels-idx1")]
    publish(monkeypatch, "emnist", url, [place / "gzip.zip"], members)
    download.download("emnist", folder)
    np.testing.assert_array_equal(datasets.load("emnist").images[0, 0], IMAGES[0].T)

    rows = np.zeros((10, 3073), np.uint8)
    rows[:, 0] = np.arange(10)
    (place / "cifar-10-batches-bin").mkdir()
    (place / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(rows.tobytes())
    with tarfile.open(place / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(place / "cifar-10-batches-bin", "cifar-10-batches-bin")
    publish(
        monkeypatch,
        *("cifar-10", url, [place / "cifar-10-binary.tar.gz"]),
        download.SOURCES["cifar-10"].members,
    )
    found = download.download("cifar-10", folder)
    assert datasets.load("cifar-10").images.shape == (10, 3, 32, 32)
    assert [path.name for path in found] == ["test_batch.bin"]
    assert download.download("cifar-10", folder) == found
    datasets._load.cache_clear()
    rows[4, 100] = 1  # no other check of this format would see it
    found[0].write_bytes(rows.tobytes())
    with pytest.raises(UsageError, match="test_batch.bin: its SHA-256 is .*batches-bin/SHA256SUMS"):
        datasets.load("cifar-10")


def test_sums_that_are_there_already_are_not_overwritten(served, folder, monkeypatch):
    pytest.importorskip("pooch")
    place, url = served
    publish(monkeypatch, "mnist", url, sorted(write(place).iterdir()))
    (folder / "mnist").mkdir()
    (folder / "mnist" / "SHA256SUMS").write_text("mine\n")
    download.download("mnist", folder)
    assert (folder / "mnist" / "SHA256SUMS").read_text() == "mine\n"


def test_a_data_set_that_nobody_knows_is_refused(call):
    code, said = call("download", "minst")
    assert code == 2
    assert "Did you mean 'mnist'?" in said
