"""Checkpoints that were cut, changed, swapped or made elsewhere: never used, never fatal."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import short_cells
import torch
from short_cells import PROVENANCE, Outcome, cell_of

from rlplastic import provenance, runner, snapshot, store
from rlplastic.cell import Cell
from rlplastic.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def cell() -> Cell:
    return cell_of("dqn", "redo:every=30", replay="keep", buffer_size=400)


@pytest.fixture(scope="module")
def whole(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return short_cells.run(cell, tmp_path_factory.mktemp("whole") / "cell")


@pytest.fixture(scope="module")
def interrupted(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cell that was cut off in its third phase, with two checkpoints."""
    path = tmp_path_factory.mktemp("interrupted") / "cell"
    short_cells.run_and_die(cell, path)
    assert {"1.replay", "2.replay"} <= {file.name for file in (path / "checkpoint").iterdir()}
    return path


@pytest.fixture
def copy(interrupted: Path, tmp_path: Path) -> Path:
    shutil.copytree(interrupted, tmp_path / "cell")
    return tmp_path / "cell"


def phase_found(cell: Cell, path: Path, header: dict = PROVENANCE) -> tuple[int | None, str]:
    """The phase at which the cell would go on, and why not at a later one."""
    setting = runner.setting_of(cell, header)
    found = Checkpoints(store.CellFolder(path)).latest(cell.identity, setting, snapshot.unpack)
    return found.checkpoint and found.checkpoint.phase, found.refused


def test_it_goes_on_at_the_newest(cell: Cell, copy: Path, whole: Outcome) -> None:
    assert phase_found(cell, copy) == (2, "")
    assert short_cells.run(cell, copy) == whole


@pytest.mark.parametrize("name", ["2.json", "2.state", "2.replay"])
def test_a_file_cut_at_any_length_is_found_out(cell: Cell, copy: Path, name: str) -> None:
    path = copy / "checkpoint" / name
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 3, 17).astype(int):
        path.write_bytes(content[:length])
        phase, refused = phase_found(cell, copy)
        assert phase == 1, length
        assert refused.startswith("2.json: ")


@pytest.mark.parametrize("name", ["2.state", "2.replay"])
def test_any_changed_bit_is_found_out(cell: Cell, copy: Path, name: str) -> None:
    path = copy / "checkpoint" / name
    content = path.read_bytes()
    rng = random.Random(0)  # noqa: S311
    for _ in range(50):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        assert phase_found(cell, copy) == (
            1,
            f"2.json: {name} is not the file that was written (SHA-256)",
        )


def test_any_changed_bit_of_the_json_is_found_out(cell: Cell, copy: Path) -> None:
    path = copy / "checkpoint" / "2.json"
    content = path.read_bytes()
    rng = random.Random(1)  # noqa: S311
    for _ in range(200):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        phase, _ = phase_found(cell, copy)
        assert phase == 1


def test_files_of_another_checkpoint_are_found_out(cell: Cell, copy: Path) -> None:
    folder = copy / "checkpoint"
    shutil.copy(folder / "1.state", folder / "2.state")
    assert phase_found(cell, copy)[0] == 1
    shutil.copy(folder / "1.json", folder / "2.json")  # a whole one, under another name
    assert phase_found(cell, copy)[0] == 1


@pytest.mark.parametrize("damage", ["shorter", "other", "gone"])
def test_a_record_that_is_not_the_one_it_was(
    cell: Cell, copy: Path, whole: Outcome, damage: str
) -> None:
    rows = copy / "rows.jsonl"
    content = rows.read_bytes()
    if damage == "shorter":
        rows.write_bytes(content[:100])
    elif damage == "other":
        rows.write_bytes(content.replace(b'"length"', b'"lemgth"', 1))
    else:
        rows.unlink()
    assert phase_found(cell, copy)[0] is None
    assert short_cells.run(cell, copy) == whole


def test_a_torn_last_row_is_made_again(cell: Cell, copy: Path, whole: Outcome) -> None:
    rows = copy / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-7])
    assert phase_found(cell, copy)[0] == 2
    assert short_cells.run(cell, copy) == whole


def test_another_version_or_machine_starts_from_nothing_and_says_so(
    cell: Cell, copy: Path, whole: Outcome
) -> None:
    for header, word in (
        ({"provenance": {"versions": {"a": "2"}, "code": "abc"}}, "a was 1, is 2"),
        ({"provenance": {"versions": {"a": "1"}, "code": "abd"}}, "code was abc, is abd"),
        ({"provenance": {**PROVENANCE["provenance"], "plugins": {"p": "1"}}}, "plugins was {}"),
    ):
        phase, refused = phase_found(cell, copy, header)
        assert phase is None
        assert word in refused
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS")
        assert "is ABACUS" in phase_found(cell, copy)[1]
    other = cell_of("dqn", "redo:every=31", replay="keep", buffer_size=400)
    assert phase_found(other, copy) == (None, "2.json: the header is another cell's")
    said: list[dict] = []
    header = {"provenance": {"versions": {"a": "2"}, "code": "abc"}}
    assert short_cells.run(cell, copy, header, said.append) == whole
    assert {"note": "checkpoint not used: 2.json: a was 1, is 2"} in said


def test_one_that_does_not_fit_the_agent_is_dropped(
    cell: Cell, copy: Path, whole: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "unpack", lambda content: {"counters": {}})
    monkeypatch.setattr("rlplastic.life.unpack", snapshot.unpack)
    with pytest.raises(KeyError):
        short_cells.run(cell, copy)
    monkeypatch.undo()
    assert not (copy / "checkpoint").exists()
    assert short_cells.run(cell, copy) == whole


HOSTILE = {
    "a path": ('"2.state"', '"../../2.state"'),
    "an absolute path": ('"2.state"', '"/etc/passwd"'),
    "a number that is none": ('"phase": 2', '"phase": NaN'),
    "a deep nest": ('"phase": 2', f'"phase": {"[" * 5000}{"]" * 5000}'),
    "a huge size": ('"size": ', '"size": 9'),
    "no parts": ('"parts"', '"party"'),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_json(cell: Cell, copy: Path, attack: str) -> None:
    path = copy / "checkpoint" / "2.json"
    old, new = HOSTILE[attack]
    text = path.read_text()
    assert old in text
    text = text.replace(old, new)
    try:  # an attacker computes the digest that belongs to it
        values = {key: value for key, value in json.loads(text).items() if key != "sha256"}
        text = json.dumps({**values, "sha256": store.digest(values)})
    except (ValueError, RecursionError):
        pass
    path.write_text(text)
    assert phase_found(cell, copy)[0] == 1


def test_a_state_is_data(tmp_path: Path) -> None:
    """Pickles and archives of every kind, in the place of a state: refused, and nothing runs."""
    import io
    import pickle  # noqa: TID251 - what an attacker would use
    import zipfile

    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    stream = io.BytesIO()
    torch.save(Payload(), stream)  # noqa: TID251
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data.pkl", pickle.dumps(Payload()))
    for content in (
        pickle.dumps(Payload()),
        stream.getvalue(),
        archive.getvalue(),
        b"",
        b"\xff" * 99,
    ):
        with pytest.raises(snapshot.Unreadable):
            snapshot.unpack(content)
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_kept_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"state.a\[1\].b: a object cannot be kept"):
        snapshot.pack({"a": [0, {"b": object()}]})


def test_a_tree_comes_back_as_it_was() -> None:
    turned = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last)
    tree = {
        "turned": turned,
        "twice": [turned, (1, 2.5, None, True)],
        7: {"unsigned": np.arange(3, dtype=np.uint32)},
        "$dollar": "x",
        "empty": torch.zeros(0, 3),
        "number": np.float32(1.5),
        "infinite": float("-inf"),
        "generator": np.random.default_rng(0).bit_generator.state,
    }
    back = snapshot.unpack(snapshot.pack(tree))
    assert list(back) == list(tree)
    assert back["turned"].stride() == turned.stride()
    assert torch.equal(back["turned"], turned)
    assert back["twice"][0] is back["turned"]
    assert back["twice"][1] == (1, 2.5, None, True)
    assert back[7]["unsigned"].dtype == np.uint32
    assert type(back["number"]) is np.float32
    assert back["infinite"] == float("-inf")
    assert back["generator"] == tree["generator"]
    assert back["empty"].shape == (0, 3)


def test_the_code_has_one_digest_and_a_changed_file_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provenance.code() == provenance.code()
    root = Path(provenance.__file__).parent
    for name in (".", "agents", "envs", "interventions", "probes"):
        shutil.copytree(root / name, tmp_path / "p" / name, dirs_exist_ok=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "p" / "provenance.py"))
    same = provenance.code()
    (tmp_path / "p" / "agents" / "dqn.py").write_text("")
    assert provenance.code() != same


def test_a_header_is_written_once(cell: Cell, copy: Path) -> None:
    before = (copy / "header.json").read_bytes()
    short_cells.run(cell, copy)
    assert (copy / "header.json").read_bytes() == before
    assert json.loads(before)["cell"] == json.loads(json.dumps(cell.identity))
