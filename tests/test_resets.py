"""Surgery on weights: what is touched, what is not, and the optimizer's memory of it."""

from __future__ import annotations

import pytest
import torch
from test_agents import DQN_SETTINGS, PPO_SETTINGS, parameter_bytes, train

from rlplastic.agents.dqn import DQN
from rlplastic.agents.ppo import PPO
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions, surgery
from rlplastic.interventions.cbp import ContinualBackprop
from rlplastic.interventions.crelu import CReLU, Fourier
from rlplastic.interventions.layernorm import LayerNorm
from rlplastic.interventions.moments import AdamRel, MomentReset
from rlplastic.interventions.redo import ReDo, renew
from rlplastic.interventions.reset import Reset, ResetAtShift
from rlplastic.interventions.snp import ShrinkAndPerturb, shrink_and_perturb
from rlplastic.interventions.trac import BETAS, TRAC

torch.set_num_threads(1)


def dqn(*members, steps=300, env="CartPole-v1", policy="MlpPolicy", **settings):
    return train(DQN, steps=steps, **DQN_SETTINGS, interventions=Interventions(members), **settings)


def ppo(*members, steps=128, **settings):
    given = {**PPO_SETTINGS, **settings}
    return train(PPO, steps=steps, **given, interventions=Interventions(members))


def values_of(model):
    return {p: p.detach().clone() for p in model.policy.parameters()}


def moments(model, parameter):
    return model.policy.optimizer.state.get(parameter)


@pytest.mark.parametrize("make", [dqn, ppo])
@pytest.mark.parametrize("scope", ["head", "backbone", "all"])
def test_a_reset_draws_its_scope_anew_and_forgets_just_its_moments(make, scope):
    reset = ResetAtShift(scope=scope)
    model = make(reset)
    before = values_of(model)
    model.interventions.at_shift(model, 1)
    chosen = {id(p) for p in model.scope(scope)}
    twins = {id(t): p for p, t in model.targets().items()}
    for parameter, old in before.items():
        source = twins.get(id(parameter), parameter)
        if id(source) in chosen:
            assert source.numel() == 1 or not torch.equal(parameter, old) or not source.any()
            assert torch.equal(parameter, source)
            assert moments(model, source) is None
        else:
            assert torch.equal(parameter, old)
            if source is parameter:
                assert moments(model, parameter)["exp_avg"].any()
    model.learn(128, reset_num_timesteps=False)
    assert reset.state["resets"] == 1


def test_a_reset_comes_after_every_nth_update_of_the_life():
    reset = Reset(every=10)
    model = dqn(reset, steps=300)
    assert reset.state["resets"] == model.num_updates // 10 > 5


def test_a_newborn_policy_has_the_agents_distribution_and_draws_from_its_generator_alone():
    model = ppo(LayerNorm(), steps=0)
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    one, two = model.newborn(generator), model.newborn(generator)
    assert torch.equal(torch.get_rng_state(), state)
    again = model.newborn(torch.Generator().manual_seed(1))
    for a, b, c, mine in zip(
        *(list(n.parameters()) for n in (one, two, again, model.policy)), strict=True
    ):
        assert torch.equal(a, c)
        assert a.shape == mine.shape
        if a.ndim > 1:
            assert not torch.equal(a, b)
            assert a.std().item() == pytest.approx(mine.std().item(), rel=0.5)


def test_e12_shrink_and_perturb_at_its_ends():
    model = dqn(ShrinkAndPerturb(), steps=300)
    (member,) = model.interventions.members
    before = values_of(model)
    shrink_and_perturb(member, model, "all", 1.0)
    for parameter in model.scope("all"):
        assert torch.equal(parameter, before[parameter])
    state = member.generator.get_state()
    shrink_and_perturb(member, model, "all", 0.0)
    member.generator.set_state(state)
    fresh = surgery.newborn_values(model, member.generator)
    for parameter in model.scope("all"):
        assert torch.equal(parameter, fresh[parameter])
        assert torch.equal(model.targets()[parameter], fresh[parameter])
    member.generator.set_state(state)
    before = values_of(model)
    shrink_and_perturb(member, model, "all", 0.3)
    for parameter in model.scope("all"):
        expected = 0.3 * before[parameter] + 0.7 * fresh[parameter]
        torch.testing.assert_close(parameter.detach(), expected)


def kill(layer, unit):
    """No activation, whatever comes in."""
    with torch.no_grad():
        layer.weights.weight[unit] = 0
        layer.weights.bias[unit] = -1


@pytest.mark.parametrize("extra", [(), (LayerNorm(),)], ids=["plain", "layernorm"])
def test_e10_recycling_a_silent_unit_leaves_the_function_and_forgets_its_moments(extra):
    redo = ReDo(every=10**9, tau=0.0)
    model = dqn(redo, *extra)
    layer = model.layers("all")[0]
    if extra:
        with torch.no_grad():
            layer.norm.weight[3], layer.norm.bias[3] = 0, -1
    else:
        kill(layer, 3)
    observations = model.last_batch.observations
    before, outputs = values_of(model), model.values(observations).detach()
    redo.recycle(model)
    assert redo.state["recycled"] >= 1
    if not extra:  # a norm mixes the units of its layer
        assert torch.equal(model.values(observations).detach(), outputs)
    weight, reader = layer.weights.weight, layer.readers[0].weight
    assert weight[3].any()
    assert not reader[:, 3].any()
    assert not model.targets()[reader][:, 3].any()
    assert torch.equal(model.targets()[weight][3], weight[3])
    for kept in ("exp_avg", "exp_avg_sq"):
        assert not moments(model, weight)[kept][3].any()
        assert not moments(model, layer.weights.bias)[kept][3].any()
        assert not moments(model, reader)[kept][:, 3].any()
    alive = (weight.detach() == before[weight]).all(dim=1)
    assert layer.units // 4 <= alive.sum() < layer.units
    assert moments(model, weight)["exp_avg"][alive].any()


@pytest.mark.parametrize("doubled", [CReLU, Fourier])
def test_the_columns_of_a_unit_are_found_behind_two_outputs_and_a_flattened_map(doubled):
    model = dqn(doubled(), steps=0)
    for layer in model.layers("all"):
        units = torch.zeros(layer.units, dtype=torch.bool)
        units[1] = True
        ((weight, mask),) = layer.outgoing(units)
        assert mask.shape == weight.shape
        columns = mask.any(dim=0).nonzero().flatten().tolist()
        assert columns == [1, 1 + layer.units]


def small_cnn(*members):
    import gymnasium
    import numpy as np
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Noise(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        action_space = gymnasium.spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 1.0, False, self.np_random.random() < 0.1, {}

    venv = DummyVecEnv([Noise])
    venv.seed(0)
    return DQN(
        "CnnPolicy",
        venv,
        seed=0,
        device="cpu",
        buffer_size=200,
        learning_starts=20,
        channels_last=True,
        policy_kwargs={"net_arch": []},
        interventions=Interventions(members),
    ).learn(40)


@pytest.mark.parametrize("extra", [(), (LayerNorm(),), (CReLU(),)], ids=["plain", "norm", "crelu"])
def test_renewing_units_of_convolutions_silences_exactly_them(extra):
    model = small_cnn(ReDo(every=10**9), *extra)
    layers = model.layers("all")
    assert [layer.units for layer in layers] == [
        units // (2 if extra and isinstance(extra[0], CReLU) else 1) for units in (32, 64, 64, 512)
    ]
    fresh = surgery.newborn_values(model, model.interventions.members[0].generator)
    for layer in layers:
        units = torch.zeros(layer.units, dtype=torch.bool)
        units[5] = True
        renew(model, [(layer, units)], fresh)
        before = model.values(model.last_batch.observations).detach()
        with torch.no_grad():
            for parameter, mask in layer.incoming(units):
                parameter[mask] += 7.0  # whatever it does now, nobody listens
        after = model.values(model.last_batch.observations).detach()
        if not layer.norm:  # a norm mixes the units of its layer
            torch.testing.assert_close(after, before, rtol=0, atol=0)
        for parameter, mask in layer.outgoing(units):
            assert not parameter[mask].any()
            assert parameter[~mask].any()


def test_continual_backprop_renews_the_least_useful_of_the_old_units():
    cbp = ContinualBackprop(rate=0.0, maturity=5, decay=0.9)
    model = dqn(cbp)
    layer = model.layers("all")[0]
    for _ in range(60):
        cbp.after_update(model)
    ((_, output),) = surgery.outputs(model, [layer])
    utility = output.abs().mean(dim=(0, 1)) * layer.readers[0].weight.detach().abs().sum(dim=0)
    with torch.no_grad():
        layer.readers[0].weight[:, 7] *= 0.0
        utility[7] = -1
    cbp.state["layer0"]["utility"][7] = 0.0
    lowest = [7, *(utility == 0).nonzero().flatten().tolist()]
    object.__setattr__(cbp, "rate", (len(lowest) + 0.01) / layer.units)
    before = values_of(model)
    cbp.after_update(model)
    rows = (layer.weights.weight.detach() != before[layer.weights.weight]).any(dim=1)
    assert rows.nonzero().flatten().tolist() == sorted(lowest)
    alive = next(unit for unit in range(layer.units) if unit not in lowest)
    assert cbp.state["layer0"]["age"][7] == 0 < cbp.state["layer0"]["age"][alive]
    assert not layer.readers[0].weight[:, 7].any()
    assert cbp.state["renewed"] == 2 * len(lowest)  # as many in each hidden layer


def test_continual_backprop_moves_the_mean_effect_into_the_next_bias():
    cbp = ContinualBackprop(rate=0.0, maturity=0, decay=0.5)
    model = dqn(cbp)
    layer = model.layers("all")[0]
    with torch.no_grad():  # a unit that always says 2
        layer.weights.weight[4] = 0
        layer.weights.bias[4] = 2.0
        layer.readers[0].weight[:, 4] = 1e-5
    for _ in range(40):
        cbp.after_update(model)
    observations = model.last_batch.observations
    before = model.values(observations).detach()
    units = torch.zeros(layer.units, dtype=torch.bool)
    units[4] = True
    with torch.no_grad():
        layer.readers[0].weight[:, 4] = 0.3
    loud = model.values(observations).detach()
    cbp._leave_the_mean(model, 0, layer, units)
    renew(model, [(layer, units)], surgery.newborn_values(model, cbp.generator))
    after = model.values(observations).detach()
    torch.testing.assert_close(after, loud, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, loud)


def test_old_units_are_renewed_at_the_stated_rate():
    cbp = ContinualBackprop(rate=0.01, maturity=10)
    model = dqn(cbp, steps=400)
    total = sum(layer.units for layer in model.layers("all"))
    most = 0.01 * total * (model.num_updates - 10)
    assert 0.4 * most < cbp.state["renewed"] <= most


def test_scopes_without_hidden_units_are_refused():
    members = Interventions([ReDo()])
    model = train(
        DQN, steps=0, **DQN_SETTINGS, policy_kwargs={"net_arch": []}, interventions=members
    )
    with pytest.raises(UsageError, match="no hidden units"):
        members.check(model)


def test_adamrel_restarts_the_count_and_keeps_the_moments():
    model = dqn(AdamRel())
    kept = moments(model, model.scope("all")[0])
    average = kept["exp_avg"].clone()
    model.interventions.new_objective(model)
    assert kept["step"].item() == 0
    assert torch.equal(kept["exp_avg"], average)


def test_a_moment_reset_comes_with_every_new_target_network():
    model = dqn(MomentReset(), steps=398)  # the target network is new at step 200
    step = moments(model, model.scope("all")[0])["step"].item()
    assert step == pytest.approx((398 - 200) / 2, abs=1)
    assert dqn(steps=398).num_updates > step + 20


def test_trac_is_the_algorithm_written_out():
    model = ppo(TRAC(), steps=0)
    plain = ppo(steps=0)
    assert parameter_bytes(model) == parameter_bytes(plain)
    from scipy.special import erfi

    theta0 = torch.cat([p.detach().double().flatten() for p in model.scope("all")])
    trac = model.interventions.members[0]
    optimizer = model.policy.optimizer
    S, v, sigma = 0.0, torch.zeros(6).double(), torch.full((6,), 1e-8).double()
    betas = torch.tensor(BETAS).double()
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        before = torch.cat([p.detach().double().flatten() for p in model.scope("all")])
        trac.before_update(model)
        for p in model.scope("all"):
            p.grad = 1 + 0.1 * torch.randn(p.shape, generator=generator)
        g = torch.cat([p.grad.double().flatten() for p in model.scope("all")])
        optimizer.step()
        u = torch.cat([p.detach().double().flatten() for p in model.scope("all")]) - before
        trac.after_update(model)
        d = (before - theta0) / (S + 1e-8)
        h = d @ g
        v, sigma = betas**2 * v + h**2, betas * sigma - h
        argument = sigma / (2**0.5 * v.sqrt() + 1e-8)
        S = float((1e-8 / erfi(0.5**0.5) * torch.tensor(erfi(argument.numpy()))).sum())
        expected = theta0 + max(S, 0.0) * (d + u)
        found = torch.cat([p.detach().double().flatten() for p in model.scope("all")])
        assert trac.state["S"] == pytest.approx(S, rel=1e-3)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert S > 1e-6
