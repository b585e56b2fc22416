"""When the world changes: every schedule, exact to the step, drawn from the seed alone."""

from __future__ import annotations

import json
import re
from collections import Counter as Tally
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import pytest
import synthetic_records as synthetic
from bases import Counter, steps
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from running import DATA

from rlplastic import options, plots, runner, store
from rlplastic.envs.control import CartPole
from rlplastic.envs.scalar import ShiftedEnv, SingleCopy
from rlplastic.envs.schedules import (
    Cyclic,
    Gradual,
    Listed,
    Once,
    Periodic,
    Random,
    bound,
    phase_at,
)
from rlplastic.envs.shifts import Shift
from rlplastic.envs.shifts_observation import Inversion, Offset
from rlplastic.envs.shifts_reward import Goal, Sign
from rlplastic.envs.stream import Stream
from rlplastic.envs.toy import Corridor, Cue
from rlplastic.errors import UsageError
from rlplastic.metrics import panels
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import summarise
from rlplastic.plan import make_plan
from rlplastic.planfile import write_plan
from rlplastic.reading import read
from rlplastic.report import write_report
from rlplastic.request import Request
from rlplastic.status import read_status

SUITE = str(DATA / "Schedules.toml")
FAR = 1e5  # what a world adds to what is seen, more than an episode has steps


@dataclass(frozen=True, kw_only=True)
class Mark(Shift):
    """Shows and pays the number of the world."""

    on = "observation"
    mixes = True
    name = "mark"

    def observation(self, frames, world):
        return frames + np.stack([FAR * world, 0.0 * world], axis=1)

    def reward(self, reward, world, observation):
        return reward + world


@dataclass
class Expected:
    """A schedule written down in full: lengths of phases, their worlds, steps of each ramp."""

    schedule: object
    lengths: list
    worlds: list
    ramp: float = 0.0

    def __post_init__(self):
        self.ends = list(accumulate(self.lengths))

    def phase(self, clock):
        return min(sum(end <= clock for end in self.ends), len(self.ends) - 1)

    def world(self, clock):
        """Also between two worlds: a number between theirs."""
        phase = self.phase(clock)
        begin = self.ends[phase] - self.lengths[phase]
        before, world = self.worlds[max(0, phase - 1)], self.worlds[phase]
        share = min(1.0, (clock - begin) / self.ramp) if self.ramp and phase else 1.0
        return (1 - share) * before + share * world


def turns(phases, worlds, first):
    order = list(range(phases))
    while any(w >= worlds for w in order):
        order = [w if w < worlds else w - (worlds - first) for w in order]
    return order


@st.composite
def schedules(draw, ticks, seed):
    """A schedule and what it should do, worked out by other means."""
    kind = draw(st.sampled_from(["periodic", "cyclic", "random", "gradual", "once", "list"]))
    period, phases = ticks * draw(st.integers(1, 7)), draw(st.integers(1, 5))
    worlds = draw(st.integers(2, 4))
    first = draw(st.integers(0, worlds - 2))
    again = draw(st.booleans()) if kind != "cyclic" else True
    order = turns(phases, worlds, first) if again else list(range(phases))
    turning = {"worlds": worlds, "first": first} if again else {}
    same = {"period": period, "phases": phases}
    if kind == "periodic":
        return Expected(Periodic(**same), [period] * phases, list(range(phases)))
    if kind == "cyclic":
        return Expected(Cyclic(**same, **turning), [period] * phases, order)
    if kind == "gradual":
        ramp = draw(st.floats(0.05, 1.0))
        schedule = Gradual(**same, ramp=ramp, **turning)
        return Expected(schedule, [period] * phases, order, ramp * period)
    if kind == "once":
        after = draw(st.integers(1, 5))
        return Expected(Once(period=period, after=after, to=3), [after * period, period], [0, 3])
    if kind == "list":
        lengths = draw(st.lists(st.integers(1, 9), min_size=phases, max_size=phases))
        worlds = draw(st.lists(st.integers(0, 5), min_size=phases, max_size=phases))
        assume(all(a != b for a, b in pairwise(worlds)))
        schedule = Listed(period=ticks, worlds=worlds, lengths=lengths)
        return Expected(schedule, [n * ticks for n in lengths], worlds)
    step = ticks * draw(st.integers(1, period // ticks))
    schedule = Random(**same, step=step, **turning)
    drawn = schedule.bind(seed)
    lengths = [drawn.start(k + 1) - drawn.start(k) for k in range(phases)]
    assert all(length > 0 and length % step == 0 for length in lengths)
    return Expected(schedule, lengths, order)


@given(data=st.data())
@settings(max_examples=1000, deadline=None)
def test_the_world_changes_exactly_when_the_schedule_says(data):
    """1 and 8 copies, three boundaries; the scalar environment is a copy of the vectorised one."""
    copies, seed = data.draw(st.sampled_from([1, 8])), data.draw(st.integers(0, 2**31 - 1))
    expected = data.draw(schedules(copies, seed))
    boundary = data.draw(st.sampled_from(["truncate", "step"] + ["episode"] * (not expected.ramp)))
    ends_at, mine = data.draw(st.integers(1, 12)), data.draw(st.integers(0, copies - 1))
    same = {"seed": seed, "boundary": boundary}
    stream = Stream(Counter(copies, ends_at, 0.0), [Mark()], expected.schedule, **same)
    base = SingleCopy(Counter(1, ends_at, 0.0))
    scalar = ShiftedEnv(base, [Mark()], expected.schedule, copies=copies, copy=mine, **same)
    assert (stream.reset()[mine] == scalar.reset()[0]).all()

    age, entered = 0, expected.world(0)
    for clock in range(0, expected.ends[-1] + 3 * copies, copies):
        after = clock + copies
        obs, rewards, dones, infos = stream.step(np.zeros(copies, dtype=int))
        age += 1
        ended, cut = age == ends_at, boundary == "truncate" and after in expected.ends
        assert (dones == (ended or cut)).all()
        world = entered if boundary == "episode" else expected.world(clock)
        assert abs(rewards - world).max() < 1e-6
        seen = age + FAR * world
        if ended or cut:
            for info in infos:
                assert abs(info["terminal_observation"][0] - seen) < 1e-6
                assert info["TimeLimit.truncated"] == (not ended)
            age, entered = 0, expected.world(after)
            seen = FAR * entered
        assert abs(obs[:, 0] - seen).max() < 1e-6
        assert stream.phase == expected.phase(after) == phase_at(stream.schedule, after)

        one, reward, terminated, truncated, _ = scalar.step(0)
        assert (reward, terminated, truncated) == (rewards[mine], ended, cut and not ended)
        if ended or cut:
            assert (one == infos[mine]["terminal_observation"]).all()
            one, _ = scalar.reset()
        assert (one == obs[mine]).all()
        assert scalar.phase == stream.phase


@given(
    seed=st.integers(0, 2**31 - 1),
    units=st.integers(1, 50),
    step=st.integers(1, 5000),
    phases=st.integers(1, 30),
)
@settings(max_examples=200, deadline=None)
def test_random_gaps_come_from_the_seed_alone(seed, units, step, phases):
    schedule = Random(period=units * step, phases=phases, step=step)
    a, b = (Stream(Counter(), [Offset()], schedule, seed=seed).schedule for _ in "ab")
    starts = [a.start(k) for k in range(phases + 1)]
    assert starts == [b.start(k) for k in range(phases + 1)]
    assert [a.world(k) for k in range(phases)] == list(range(phases))
    # a longer run begins with the same phases
    longer = Random(period=units * step, phases=phases + 5, step=step).bind(seed)
    assert [longer.start(k) for k in range(phases + 1)] == starts
    assert (np.diff(starts) % step == 0).all()


def test_random_gaps_are_geometric_with_the_mean_that_was_asked_for():
    drawn = Random(period=400, phases=20_000, step=100).bind(3)
    gaps = np.diff([drawn.start(k) for k in range(20_001)])
    standard = np.sqrt(0.75) / 0.25 * 100 / np.sqrt(len(gaps))
    assert abs(gaps.mean() - 400) < 4 * standard
    counts = Tally(gaps.tolist())
    # geometric: at each step one gap in four ends, however long it is already
    for step in (100, 200, 300, 400, 500):
        alive = sum(n for gap, n in counts.items() if gap >= step)
        assert counts[step] / alive == pytest.approx(0.25, abs=4 * np.sqrt(0.1875 / alive))
    others = [Random(period=400, phases=50, step=100).bind(seed) for seed in range(20)]
    assert len({tuple(drawn.lengths) for drawn in others}) == 20


@pytest.mark.parametrize("boundary", ["truncate", "step"])
def test_a_gradual_world_is_the_mix_of_two_contents(boundary):
    """(1 - m) content(before) + m content(after); world 0 has none, so it counts as zero."""
    schedule = Gradual(period=10, phases=4, ramp=0.6)
    stream = Stream(Counter(), [Offset(sigma=3.0)], schedule, seed=1, boundary=boundary)
    stream.reset()
    contents = [np.zeros(2)] + [stream.shifts[0].content(np.array([k]))[0] for k in (1, 2, 3)]
    for clock, (obs, _, dones, infos) in enumerate(steps(stream, 40)):
        phase, into = divmod(clock, 10)
        share = min(1.0, into / 6) if phase else 1.0
        seen = infos[0]["terminal_observation"] if dones[0] else obs[0]
        moved = (1 - share) * contents[max(0, phase - 1)] + share * contents[phase]
        steps_since = into + 1 if boundary == "truncate" else clock + 1
        np.testing.assert_allclose(seen[0] - steps_since, moved[0], atol=1e-9)


def test_a_ramp_back_to_the_unshifted_world():
    schedule = Gradual(period=4, phases=3, ramp=1.0, worlds=2)
    stream = Stream(Counter(pays=8.0), [Sign()], schedule, boundary="step")
    stream.reset()
    paid = [float(reward[0]) for _, reward, _, _ in steps(stream, 14)]
    assert paid == [8, 8, 8, 8, 8, 4, 0, -4, -8, -4, 0, 4, 8, 8]


def test_a_life_begun_in_a_ramp_is_one_that_came_there_by_itself():
    def make():
        schedule = Gradual(period=40, phases=4, ramp=0.7)
        return Stream(CartPole().make(4), [Offset()], schedule, seed=5)

    arrived, begun = make(), make()
    arrived.reset()
    actions = np.random.default_rng(0).integers(2, size=(35, 4))
    for action in actions[:20]:
        obs, *_ = arrived.step(action)
    begun.begin(2)
    np.testing.assert_array_equal(obs, begun.reset())
    for action in actions[20:]:
        for a, b in zip(arrived.step(action)[:3], begun.step(action)[:3], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_frozen_environment_of_a_world_has_no_ramp():
    stream = Stream(Counter(pays=8.0), [Sign()], Gradual(period=4, phases=2), boundary="step")
    frozen = stream.at(1, Counter(pays=8.0))
    frozen.reset()
    assert [float(reward[0]) for _, reward, _, _ in steps(frozen, 5)] == [-8.0] * 5


def test_specs_survive_and_earlier_ones_stay_as_they_are():
    for schedule in (
        Random(period=40, phases=3, step=10),
        Gradual(period=40, phases=3, ramp=0.25, worlds=2),
        Once(period=40, after=3),
        Listed(period=40, worlds=[0, 2], lengths=[3, 1]),
    ):
        spec = options.spec_of(schedule)
        again = bound(options.build("schedule", spec, "test"), 1)
        ours = bound(schedule, 1)
        assert [again.start(k) for k in range(3)] == [ours.start(k) for k in range(3)]
    for lengths in ((), []):
        spec = options.spec_of(Listed(period=40, worlds=(0, 2), lengths=lengths))
        assert spec == {"name": "list", "period": 40, "worlds": [0, 2]}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Random(period=10, phases=3, step=11), "valid: a step of 1 to 10"),
        (lambda: Random(period=10, phases=3, step=0), "valid: a step of 1 to 10"),
        (lambda: Random(period=-10, phases=3), "a step of 1"),
        (lambda: Random(period=10, phases=3, worlds=1), "worlds = 1; valid: 2 or more, or 0"),
        (lambda: Random(period=10, phases=3, worlds=3, first=2), "valid: 0 to 1"),
        (lambda: Gradual(period=10, phases=3, ramp=0.0), "ramp = 0.0; valid: above 0 and up to 1"),
        (lambda: Gradual(period=10, phases=3, ramp=1.5), "valid: above 0 and up to 1"),
        (lambda: Gradual(period=10, phases=3, worlds=1), "worlds = 1; valid: 2 or more, or 0"),
        (lambda: Once(period=10, phases=3), "phases = 3; valid: 2"),
        (lambda: Listed(period=10, worlds=(0, 1), lengths=(1,)), "1 lengths for 2 worlds"),
        (
            lambda: Stream(Counter(), [], Periodic(period=-4, phases=2)),
            "ends at step -4; valid: an end of 1 or more",
        ),
        (lambda: Stream(Counter(), [], Periodic(period=0, phases=2)), "valid: an end of 1 or more"),
        (lambda: Stream(Counter(), [], Periodic(period=4, phases=0)), "0 phases; valid: 1 or more"),
        (
            lambda: Stream(Counter(2), [], Listed(period=2, worlds=(0, 1), lengths=(3, -1))),
            "phase 1 starts at step 6 and ends at step 4; valid: an end of 8 or more",
        ),
        (
            lambda: Stream(Counter(3), [], Random(period=40, phases=4, step=4)),
            "nearest valid",
        ),
        (lambda: Stream(Counter(), [Offset()], Once(period=4, to=0)), "must differ"),
        (
            lambda: Stream(Cue().make(1), [Inversion()], Gradual(period=4, phases=2)),
            "'inversion' has nothing between two of its worlds",
        ),
        (
            lambda: Stream(Corridor().make(1), [Goal()], Gradual(period=4, phases=2)),
            "'goal' has nothing between two of its worlds",
        ),
        (
            lambda: Stream(Counter(), [Offset()], Gradual(period=4, phases=2), boundary="episode"),
            "a ramp changes the world within an episode; valid: 'truncate', 'step'",
        ),
        (
            lambda: Stream(Counter(), [Sign()], Gradual(period=4, phases=2), clip_reward=True),
            r"only the sign is left.*valid: clip_reward = false",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(make, words):
    with pytest.raises(UsageError, match=words):
        make()


# From plan to report


def plan_of(task, **changes):
    asked = {"agents": ["ppo"], "regs": ["l2init"], "env": f"{SUITE}/{task}", "budget": "short"}
    return make_plan(Request(**{**asked, **changes}))


def test_arms_of_one_seed_have_the_same_phases_and_other_seeds_have_others():
    plan = plan_of("Cue-random", seeds=[0, 1, 2])
    layouts: dict = {}
    for cell in plan.cells:
        if cell.agent == "ppo":
            stream = runner.build_stream(cell)
            layout = tuple(stream.schedule.start(k) for k in range(5))
            assert list(layout) == cell.starts
            assert cell.num_steps == layout[4] - (layout[1] if cell.fresh else 0)
            layouts.setdefault(cell.seed, set()).add(layout)
    assert all(len(found) == 1 for found in layouts.values())  # 4 arms each
    assert len({layout for found in layouts.values() for layout in found}) == 3
    # the spec says nothing of the seed: it is one experiment
    assert len({store.digest(cell.stream) for cell in plan.cells if cell.agent == "ppo"}) == 1


@pytest.mark.parametrize("task", ["Cue-random", "Cue-gradual", "Cue-list", "Cue-once", "Cue-told"])
def test_a_cell_is_run_and_reported_over_the_phases_of_its_schedule(task, tmp_path):
    budget = "tiny" if task == "Cue-once" else "short"
    plan = plan_of(task, regs=["none"], seeds=[1], budget=budget)
    write_plan(plan, tmp_path)
    for cell in plan.cells:
        runner.run_cell(cell, store.CellFolder(tmp_path / cell.id), {"plugins": []})
        lines = (tmp_path / cell.id / "rows.jsonl").read_text().splitlines()
        phases = [row for row in map(json.loads, lines) if row["kind"] == "phase"]
        number = len(cell.starts) - 1
        assert [row["begin"] for row in phases] == cell.starts[int(cell.fresh) : number]
        assert [row["end"] for row in phases] == cell.starts[1 + int(cell.fresh) :]
        if cell.agent == "ppo":
            assert all(row["updates"] > 0 for row in phases)
            during = [row for row in map(json.loads, lines) if row.get("moment") == "during"]
            shifts = range(int(cell.fresh), number)
            assert {row["phase"] for row in during} >= {
                k for k in shifts if cell.starts[k + 1] - cell.starts[k] > 256
            }
    ended = {one.id: one for one in read_status(tmp_path)}
    for cell in plan.cells:
        assert ended[cell.id].step == ended[cell.id].num_steps == cell.num_steps
    results = read(tmp_path)
    records = [record for record in results.records.values() if record.slot[1] == "ppo"]
    assert len(records) == 2
    assert len({str(record.layout) for record in records}) == 1
    text = write_report(tmp_path).with_suffix(".md").read_text()
    assert not re.search(r"\bnan\b", text.lower())
    lengths = {end - begin for begin, end in pairwise(cell.starts)}
    remark = f"phases of {min(lengths):,} to {max(lengths):,} steps"
    assert (remark in text) == (task in ("Cue-random", "Cue-list", "Cue-once"))
    assert ("the agent is told which world it is in" in text) == (task == "Cue-told")


def test_random_play_meets_the_ramp_itself():
    """Between two worlds the random level is between theirs: it is measured there."""
    (gradual,) = (c for c in plan_of("Cue-gradual").cells if c.agent == "random")
    (listed,) = (c for c in plan_of("Cue-list").cells if c.agent == "random")
    assert gradual.stream["schedule"]["name"] == "gradual"
    assert listed.stream["schedule"] == {"name": "list", "period": 512, "worlds": [0, 1]}


@pytest.mark.parametrize(
    ("task", "old", "new", "words"),
    [
        ("random", "step = 128", "step = 100", "multiple of its rollout of 128 .* that is: 128"),
        ("random", "step = 128", "step = 300", "nearest that is: 256"),
        ("random", "step = 128", "step = -1", "greater than 0"),
        ("random", "step = 128", "step = 1024", "valid: a step of 1 to 512"),
        ("random", "step = 128", "stepp = 128", "Did you mean 'step'"),
        ("random", "period = { ppo = 512", "period = { ppo = 64", "a step of 1 to 64"),
        ("gradual", "period = { ppo = 512", "period = { ppo = 64", "nearest that is: 128"),
        ("gradual", "ramp = 0.5", "ramp = 1.5", "less than or equal to 1"),
        ("once", "after = 3", "after = 0", "greater than 0"),
        ("once", "phases = 2", "phases = 3", "phases = 3: input should be 2"),
        ("list", "lengths = [1, 3, 2, 1]", "lengths = [1, 3, 2]", "3 lengths for 4 worlds"),
        ("list", "lengths = [1, 3, 2, 1]", "lengths = [1, 3, -2, 1]", "greater than 0"),
    ],
)
def test_a_suite_that_cannot_be_is_refused_before_the_first_step(task, old, new, words, tmp_path):
    text = (DATA / "Schedules.toml").read_text()
    assert old in text
    file = tmp_path / "Mine.toml"
    file.write_text(text.replace(old, new))
    budget = "tiny" if task == "once" else "short"
    env = f"{file}/Cue-{task}"
    with pytest.raises(UsageError, match=words):
        make_plan(Request(agents=["ppo"], regs=["none"], env=env, budget=budget))


def test_a_phase_in_which_an_agent_would_not_learn_is_refused(tmp_path):
    text = (DATA / "Schedules.toml").read_text().replace("{ ppo = 512", "{ dqn = 9600, ppo = 512")
    (tmp_path / "Mine.toml").write_text(text)
    asked = {"agents": ["dqn"], "regs": ["none"], "env": f"{tmp_path}/Mine.toml/Cue-random"}
    with pytest.raises(UsageError, match="can have only 128 steps.*does not learn before step 300"):
        make_plan(Request(**asked, budget="short", settings=["dqn.learning_starts=300"]))
    assert make_plan(Request(**asked, budget="short", settings=["dqn.learning_starts=100"])).cells


def test_a_pilot_has_a_newborn_of_one_period_whatever_the_schedule():
    from rlplastic.benchmarks import pilot

    for task, world in (("Cue-random", 1), ("Cue-list", 1), ("Cue-gradual", 1)):
        cells = plan_of(task, regs=["none"]).cells
        cell = next(c for c in cells if c.agent == "ppo" and c.fresh)
        short = replace(cell, stream={**cell.stream, "schedule": pilot._two_phases(cell)})
        assert short.starts == [0, 512, 1024]
        assert runner.build_stream(short).schedule.world(1) == world


def test_curves_over_the_steps_since_a_shift_leave_out_phases_that_end_before(
    tmp_path, monkeypatch
):
    """An arm whose return is the number of steps since the shift shows a straight line."""
    ends = list(accumulate([0, 1000, 100, 600, 1000]))
    rows = []
    for k, (begin, end) in enumerate(pairwise(ends)):
        for at in range(0, end - begin, 10):
            one = synthetic.episode(begin + at, begin + at + 10, at + 5.0, phase=k, world=k)
            rows.append(one)
        rows.append(synthetic.phase(k, begin, end))
    schedule = {"name": "periodic", "period": 1000, "phases": 4}  # closed phases say how long
    stream = {"base": "Toy", "schedule": schedule}
    cells = [synthetic.cell(fresh=fresh, stream=stream) for fresh in (False, True)]
    cells.append(synthetic.cell(agent="random", stream=stream))
    for cell in cells:
        mine = [row for row in rows if row["phase"] or not cell["fresh"]]
        synthetic.write_cell(tmp_path, cell, mine)
    synthetic.write_plan(tmp_path, cells, phases=4, time_limit=1)
    study = Study(read(tmp_path))
    drawn: dict = {}
    monkeypatch.setattr(panels.plots, "lines", lambda *a, **k: drawn.update(series=a[2]) or "svg")
    looks = plots.styles(["none"])
    summary = summarise(study, "ppo")
    assert panels.recovery_panel(study, summary, "Toy-observation", looks, "x")() == "svg"
    for one in drawn["series"]:
        assert one.x.max() == pytest.approx(600, rel=0.02)
        np.testing.assert_allclose(one.values[0], one.x, atol=21)  # as wide as a bin of 1,000
