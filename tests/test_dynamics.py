"""Physics, wind and friction: the constants of each world, and what they do."""

from __future__ import annotations

import sys
from operator import attrgetter

import gymnasium
import numpy as np
import pytest

from rlplastic.envs import physics
from rlplastic.envs.control import Acrobot, CartPole, MountainCar, Pendulum
from rlplastic.envs.scalar import ShiftedEnv
from rlplastic.envs.schedules import Listed, Periodic
from rlplastic.envs.shifts_dynamics import Friction, Physics, Wind
from rlplastic.envs.stream import Stream
from rlplastic.envs.toy import Cue
from rlplastic.errors import UsageError

BASES = [CartPole(), Acrobot(), MountainCar(), Pendulum()]


def stream_of(base, shift, seed=0, phases=6, copies=2):
    return Stream(base.make(copies), [shift], Periodic(period=40, phases=phases), seed=seed)


def constants(env):
    """Every attribute that can be multiplied, as an array."""
    named = physics.constants_of(env).attributes.values()
    values = [getattr(env.unwrapped, key) for keys in named for key in keys]
    return np.concatenate([np.atleast_1d(np.array(value, dtype=float)) for value in values])


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
def test_every_world_has_constants_of_its_own_within_the_factor(base):
    own = constants(base.make(1).envs[0])
    logs = []
    for seed in range(30):
        stream = stream_of(base, Physics(factor=3.0), seed)
        worlds = []
        for phase in range(6):
            stream.begin(phase)
            first, second = (constants(env) for env in stream.base.envs)
            np.testing.assert_array_equal(first, second)
            worlds.append(first)
        np.testing.assert_array_equal(worlds[0], own)
        assert len({one.tobytes() for one in worlds}) == 6
        ratio = np.stack(worlds[1:])[:, own != 0] / own[own != 0]
        assert (ratio >= 1 / 3 - 1e-9).all()
        assert (ratio <= 3 + 1e-9).all()
        logs.append(np.log(ratio[:, 0]))
        stream.begin(0)
        assert constants(stream.base.envs[0]).tobytes() == own.tobytes()
    logs = np.concatenate(logs) / np.log(3.0)  # uniform from -1 to 1: variance 1/3
    assert abs(logs.mean()) < 4 * np.sqrt(1 / 3 / len(logs))
    assert logs.var() == pytest.approx(1 / 3, rel=0.2)


def test_what_is_computed_from_constants_follows_them():
    stream = stream_of(CartPole(), Physics())
    for phase in (1, 2, 0):
        stream.begin(phase)
        env = stream.base.envs[0].unwrapped
        assert env.total_mass == env.masspole + env.masscart
        assert env.polemass_length == env.masspole * env.length


def test_only_the_named_parameters_change():
    stream = stream_of(CartPole(), Physics(parameters=["force"]))
    stream.begin(1)
    env = stream.base.envs[0].unwrapped
    assert env.force_mag != 10.0
    assert (env.gravity, env.masscart, env.masspole, env.length) == (9.8, 1.0, 0.1, 0.5)


def test_the_first_step_of_a_cart_is_the_one_of_its_equations():
    """Gymnasium's equations at rest, upright: theta'' = -(F/M) / (l (4/3 - m/M))."""
    stream = stream_of(CartPole(), Physics(), copies=1)
    for phase in (0, 1, 2):
        stream.begin(phase)
        stream.reset()
        env = stream.base.envs[0].unwrapped
        env.state = np.zeros(4)
        velocity = stream.step(np.array([1]))[0][0]
        push = env.force_mag / env.total_mass
        turn = -push / (env.length * (4 / 3 - env.masspole / env.total_mass))
        slide = push - env.masspole * env.length * turn / env.total_mass
        np.testing.assert_allclose(velocity[[1, 3]], [0.02 * slide, 0.02 * turn], rtol=1e-5)


def test_worlds_do_not_depend_on_the_way_to_them():
    forward, backward = (stream_of(Acrobot(), Physics()) for _ in "ab")
    seen = {}
    for phase in range(6):
        forward.begin(phase)
        seen[phase] = constants(forward.base.envs[0])
    for phase in reversed(range(6)):
        backward.begin(phase)
        np.testing.assert_array_equal(constants(backward.base.envs[0]), seen[phase])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: stream_of(Cue(), Physics()), "classic control or MuJoCo, or LunarLander"),
        (lambda: stream_of(CartPole(), Physics(parameters=["mass"])), "pole_mass"),
        (lambda: stream_of(CartPole(), Physics(parameters=["force"] * 2)), "each once"),
        (lambda: stream_of(CartPole(), Wind()), "'wind' needs LunarLander"),
        (lambda: stream_of(CartPole(), Friction()), "'friction' needs an environment of MuJoCo"),
    ],
)
def test_what_has_no_such_physics_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_friction_is_log_uniform_for_all_geoms_and_comes_back():
    pytest.importorskip("mujoco")
    from rlplastic.envs.mujoco import Ant

    stream = stream_of(Ant(), Friction(), copies=1)
    model = stream.base.envs[0].unwrapped.model
    own = model.geom_friction.copy()
    assert (own[:, 0] == 1.0).all()
    for phase in (1, 2, 1, 0):
        stream.begin(phase)
        slide = model.geom_friction[:, 0]
        assert len(set(slide)) == 1
        assert (slide[0] == 1.0) == (phase == 0)
        np.testing.assert_array_equal(model.geom_friction[:, 1:], own[:, 1:])
    drawn = [
        Friction().bind(stream.base, seed, 0).content(np.array([1]))[0, 0] for seed in range(400)
    ]
    assert 0.02 <= min(drawn) < 0.025
    assert 1.6 < max(drawn) <= 2.0
    assert np.log(drawn).mean() == pytest.approx(np.log(0.02 * 2) / 2, abs=0.25)


ROBOTS = {  # each constant and what is multiplied by its factor
    "gravity": ["opt.gravity"],
    "mass": ["body_mass", "body_inertia"],
    "friction": ["geom_friction"],
    "torque": ["actuator_gear"],
    "damping": ["dof_damping"],
}


@pytest.mark.parametrize("robot", ["Ant-v5", "Hopper-v5"])
def test_any_robot_has_other_masses_and_gravity_and_its_own_again(robot):
    pytest.importorskip("mujoco")
    env = gymnasium.make(robot).unwrapped
    fields = [field for fields in ROBOTS.values() for field in fields]
    get = {field: attrgetter(field) for field in [*fields, "body_subtreemass", "actuator_acc0"]}
    own = {field: get[field](env.model).copy() for field in get}
    stream = ShiftedEnv(env, [Physics()], Periodic(period=10, phases=4)).stream
    (shift,) = stream.shifts
    assert shift.names == tuple(ROBOTS)
    for phase in (1, 2, 3):
        stream.begin(phase)
        for name, factor in zip(ROBOTS, shift.content(np.array([phase]))[0], strict=True):
            assert 0.5 <= factor <= 2.0
            for field in ROBOTS[name]:
                np.testing.assert_array_equal(get[field](env.model), factor * own[field])
        heavier = env.model.body_mass.sum() / own["body_mass"].sum()
        np.testing.assert_allclose(env.model.body_subtreemass, heavier * own["body_subtreemass"])
        assert (env.model.actuator_acc0 != own["actuator_acc0"]).all()
    stream.begin(0)
    for field, value in own.items():
        np.testing.assert_array_equal(get[field](env.model), value)
    env.close()


def test_an_ant_falls_as_fast_as_the_gravity_of_its_world_says():
    mujoco = pytest.importorskip("mujoco")
    from rlplastic.envs.mujoco import Ant

    stream = stream_of(Ant(), Physics(parameters=["gravity"]), copies=1)
    inner = stream.base.envs[0].unwrapped
    falls = []
    for phase in (0, 1, 2):
        stream.begin(phase)
        stream.reset()
        inner.set_state(inner.init_qpos + 9 * np.eye(15)[2], np.zeros(14))  # high up, at rest
        inner.step(np.zeros(8, np.float32))
        mujoco.mj_subtreeVel(inner.model, inner.data)
        falls.append(inner.data.subtree_linvel[0, 2])  # of its centre of mass: legs move by springs
        assert falls[-1] == pytest.approx(inner.model.opt.gravity[2] * inner.dt, rel=1e-3)
    assert len({round(fall, 3) for fall in falls}) == 3


def test_friction_by_two_shifts_comes_back_from_any_world():
    pytest.importorskip("mujoco")
    from rlplastic.envs.mujoco import Ant

    shifts = [Physics(parameters=["friction"]), Friction()]
    stream = Stream(Ant().make(1), shifts, Listed(period=10, worlds=(2, 0)))
    model = stream.base.envs[0].unwrapped.model
    coefficient = stream.shifts[1].content(np.array([2]))[0, 0]
    assert (model.geom_friction[:, 0] == coefficient).all()
    stream.begin(1)
    assert (model.geom_friction[:, 0] == 1.0).all()
    assert (model.geom_friction[:, 1] == 0.5).all()


def test_a_slippery_ant_does_not_get_as_far():
    pytest.importorskip("mujoco")
    from rlplastic.envs.mujoco import Ant

    ends = []
    for friction in (None, 0.02):
        env = Ant().make(1).envs[0]
        if friction is not None:
            env.unwrapped.model.geom_friction[:, 0] = friction
        env.reset(seed=3)
        rng = np.random.default_rng(0)
        for _ in range(50):
            observation, *_ = env.step(rng.uniform(-1, 1, 8))
        ends.append(observation)
    assert not np.allclose(*ends)


def test_a_lander_falls_with_the_gravity_and_drifts_with_the_wind_of_its_world():
    pytest.importorskip("Box2D")
    from rlplastic.envs.box2d import LunarLander

    for shift in (Physics(), Wind()):
        stream = stream_of(LunarLander(), shift, copies=1)
        falls = []
        for phase in (0, 1, 2, 0):
            stream.begin(phase)
            first = stream.base.reset([1])
            for _ in range(20):
                last = stream.base.step(np.array([0])).final
            inner = stream.base.envs[0].unwrapped
            assert inner.enable_wind == (phase != 0 and isinstance(shift, Wind))
            falls.append((last - first)[0, :4])
            if isinstance(shift, Physics):
                assert inner.world.gravity[1] == pytest.approx(inner.gravity)
                assert -11.91 <= inner.gravity <= -5
        np.testing.assert_array_equal(falls[0], falls[3])
        dimension = 3 if isinstance(shift, Physics) else 2  # vertical, horizontal velocity
        assert len({float(fall[dimension]) for fall in falls}) == 3


def test_a_lander_weighs_and_grips_what_its_world_says():
    pytest.importorskip("Box2D")
    from rlplastic.envs.box2d import LunarLander

    stream = stream_of(LunarLander(), Physics(parameters=["mass", "friction"]), copies=1)
    inner = stream.base.envs[0].unwrapped
    found = []
    for phase in (0, 1, 2, 0):
        stream.begin(phase)
        stream.base.reset([1])
        bodies = [inner.lander, *inner.legs]
        grips = [fixture.friction for body in [*bodies, inner.moon] for fixture in body.fixtures]
        speeds = []
        for _ in range(3):
            stream.base.step(np.array([2]))  # the main engine
            speeds.append(inner.lander.linearVelocity.y)
        push = np.diff(speeds) + 10 / 50  # by the engine alone
        found.append([np.array([body.mass for body in bodies]), np.array(grips), push])
    (mass, grip, push), *others, back = found
    assert [array.tobytes() for array in (mass, grip, push)] == [a.tobytes() for a in back]
    for phase, (other_mass, other_grip, other_push) in enumerate(others, start=1):
        heavier, rougher = stream.shifts[0].content(np.array([phase]))[0]
        np.testing.assert_allclose(other_mass, heavier * mass, rtol=1e-5)
        np.testing.assert_allclose(other_grip, rougher * grip, rtol=1e-5)
        np.testing.assert_allclose(other_push, push / heavier, rtol=1e-2)


@pytest.mark.parametrize(("module", "package"), [("Box2D", "box2d"), ("mujoco", "mujoco")])
def test_a_missing_extra_is_refused_with_the_line_that_installs_it(module, package, monkeypatch):
    from rlplastic.envs.box2d import LunarLander
    from rlplastic.envs.mujoco import Ant

    monkeypatch.setitem(sys.modules, module, None)
    for name in [*sys.modules]:
        if name.startswith(
            ("gymnasium.envs.box2d", "gymnasium.envs.mujoco", "rlplastic.envs.lander")
        ):
            monkeypatch.delitem(sys.modules, name)
    base = {"Box2D": LunarLander, "mujoco": Ant}[module]()
    with pytest.raises(UsageError, match=rf"pip install 'rlplastic\[{package}\]'"):
        base.make(1)
