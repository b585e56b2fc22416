"""Probes of updates, gradients and trainability, against what they say they are."""

from __future__ import annotations

import math

import pytest
import torch
from test_probes import dqn, ppo, value
from test_supervised import learner, stream_of

from rlplastic.agents.predictor import Predictor
from rlplastic.interventions.reset import ResetAtShift
from rlplastic.probes import trainability
from rlplastic.probes.updates import SINGLE

torch.set_num_threads(1)
MAKES = pytest.mark.parametrize("make", [dqn, ppo])


def flat(tensors):
    return torch.cat([x.detach().reshape(-1) for x in tensors])


@MAKES
def test_the_distance_to_the_beginning_is_that_of_the_parameters(make):
    born, model = make(steps=0), make()
    expected = (flat(model.scope("critic")) - flat(born.scope("critic"))).norm().item()
    assert value("distance_to_init", model) == pytest.approx(expected, rel=1e-5)
    assert expected > 0.01
    born.last_batch = model.last_batch
    assert value("distance_to_init", born) == 0


@MAKES
def test_update_size_is_the_step_that_adam_makes_without_a_new_gradient(make):
    model = make()
    optimizer = model.policy.optimizer
    sizes = value("update_size", model), value("effective_step", model)
    weights = model.scope("critic")
    steps, rates = [], []
    for p in weights:
        kept, group = optimizer.state[p], optimizer.param_groups[0]
        t = kept["step"].item()
        v = kept["exp_avg_sq"] / (1 - 0.999**t)
        steps.append(group["lr"] * kept["exp_avg"] / (1 - 0.9**t) / (v.sqrt() + group["eps"]))
        rates.append(group["lr"] / (v.sqrt() + group["eps"]))
    assert sizes[0] == pytest.approx(flat(steps).norm().item(), rel=1e-4)
    assert sizes[1] == pytest.approx(flat(rates).median().item(), rel=1e-4)


@MAKES
def test_next_update_size_is_the_step_that_torchs_adam_makes_on_the_minibatch(make):
    model = make()
    found = value("next_update_size", model)
    optimizer, weights = model.policy.optimizer, model.scope("critic")
    optimizer.zero_grad()
    model.losses(model.last_batch)("critic")["critic"].backward()
    before = flat(weights)
    optimizer.step()
    assert found == pytest.approx((flat(weights) - before).norm().item(), rel=1e-3)
    assert value("next_update_size", make(steps=0)) is None


def test_a_stale_second_moment_makes_the_first_step_after_a_change_large():
    model = dqn()
    settled = value("next_update_size", model)
    for kept in model.policy.optimizer.state.values():
        kept["exp_avg"] *= 1e-3
        kept["exp_avg_sq"] *= 1e-6
        kept["step"].fill_(10_000)
    jumped = value("next_update_size", model)
    count = sum((p.grad != 0).sum().item() for p in model.scope("critic") if p.grad is not None)
    assert count
    rate = model.policy.optimizer.param_groups[0]["lr"]
    bound = rate * 0.1 / math.sqrt(0.001) * math.sqrt(count)  # where the gradient is all there is
    assert 0.5 * bound < jumped < 1.01 * bound
    assert jumped > settled


@MAKES
def test_churn_is_what_an_update_on_half_of_the_batch_does_to_the_other_half(make):
    model = make()
    found = value("churn", model)
    batch, half = model.last_batch, 16
    one = type(batch)(*(None if x is None else x[:half] for x in batch))
    optimizer = model.policy.optimizer
    optimizer.zero_grad()
    model.losses(one)("critic")["critic"].backward()
    with torch.no_grad():
        before = model.values(batch.observations[half:])
        optimizer.step()
        after = model.values(batch.observations[half:])
    assert found == pytest.approx((after - before).abs().mean().item(), rel=1e-3)


@MAKES
def test_the_cosine_of_gradients_is_the_mean_over_pairs_of_transitions(make):
    model = make()
    batch, rows = model.last_batch, []
    for i in range(SINGLE):
        one = type(batch)(*(None if x is None else x[i : i + 1] for x in batch))
        loss = model.losses(one)("critic")["critic"]
        rows.append(flat(torch.autograd.grad(loss, model.scope("critic"))))
    pairs = [
        torch.cosine_similarity(rows[i], rows[j], dim=0).item()
        for i in range(SINGLE)
        for j in range(SINGLE)
        if i != j
    ]
    assert value("gradient_cosine", model) == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
    same = batch._replace(**{k: x[:1].expand(32, *x.shape[1:]) for k, x in named(batch)})
    model.last_batch = same
    assert value("gradient_cosine", model) == pytest.approx(1.0, abs=1e-5)


def named(batch):
    return [(k, x) for k, x in batch._asdict().items() if x is not None]


@MAKES
def test_the_spread_of_gradients_is_in_decades(make):
    model = make()
    loss = model.losses(model.last_batch)("critic")["critic"]
    sizes = [
        g.square().mean().sqrt().item() for g in torch.autograd.grad(loss, model.scope("critic"))
    ]
    expected = math.log10(max(sizes) / min(sizes))
    assert value("gradient_spread", model) == pytest.approx(expected, abs=1e-4)


def test_the_entropy_of_a_policy_is_that_of_its_logits():
    model = ppo()
    x = model.last_batch.observations
    logits = model.policy.get_distribution(x).distribution.logits
    expected = -(logits.exp() * logits).sum(dim=1).mean().item()
    assert value("policy_entropy", model) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.zero_()
    assert value("policy_entropy", model) == pytest.approx(math.log(2), rel=1e-6)


@MAKES
def test_a_newborn_is_as_trainable_as_a_newborn_and_a_dead_critic_is_not(make):
    reset = ResetAtShift()
    model = make(reset)
    healthy = value("trainability", model)
    assert 0.3 < healthy < 1.02
    kill(model, make)
    assert value("trainability", model) > max(1.03, 1.05 * healthy)


def test_the_fit_is_a_hundred_steps_of_adam():
    model = dqn()
    x = model.last_batch.observations
    targets = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
    start = [p.detach().clone() for p in model.scope("critic")]
    towards = trainability._towards(model, model.last_batch, targets)
    found = trainability.fitted(model, towards, [p.clone() for p in start])
    for p, before in zip(model.scope("critic"), start, strict=True):
        assert torch.equal(p, before)
    net = model.q_net.q_net
    with torch.no_grad():
        moved = targets + net(x).mean()
    expected = after_a_hundred_steps(net, lambda: (net(x) - moved).square().mean())
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("reg", ["none", "layernorm"])
def test_a_known_chain_fits_as_its_graph_does(reg, monkeypatch):
    """Supervised agents' networks are run by hand where they can be."""
    agent = learner(stream_of(), reg=reg, hidden=(12, 9))
    agent.learn(320)
    probes = trainability.trainability, trainability.capacity, trainability.fresh_fit
    with monkeypatch.context() as patch:
        made, by_hand = [], trainability._by_hand
        patch.setattr(trainability, "_by_hand", lambda *given: made.append(1) or by_hand(*given))
        found = [probe(agent, agent.last_batch) for probe in probes]
    assert len(made) == (7 if reg == "none" else 0)
    monkeypatch.setattr(Predictor, "chain", lambda self: None)
    expected = [probe(agent, agent.last_batch) for probe in probes]
    assert found == pytest.approx(expected, rel=1e-4)


def after_a_hundred_steps(net, loss):
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return loss().item()


def test_fresh_fit_is_the_loss_of_the_critic_that_learns_on_beside_a_newborns():
    model = dqn()
    found, batch = value("fresh_fit", model), model.last_batch
    losses = model.losses(batch)
    generator = torch.Generator().manual_seed(trainability.SEED + model.num_updates)
    fresh = model.newborn(generator).q_net.state_dict()
    mine = after_a_hundred_steps(model.q_net, lambda: losses("critic")["critic"])
    model.q_net.load_state_dict(fresh)
    newborn = after_a_hundred_steps(model.q_net, lambda: losses("critic")["critic"])
    assert found == pytest.approx(mine / newborn, rel=1e-3)
    assert newborn > 0


def kill(model, make):
    """Hidden units that say the same whatever they see: only the outputs' biases can learn."""
    with torch.no_grad():
        for layer in model.layers("critic"):
            layer.weights.weight.zero_()
            layer.weights.bias.fill_(-1.0 if make is dqn else 1e9)  # relu is 0, tanh is 1


@MAKES
def test_a_newborn_can_make_what_newborns_say_and_a_dead_critic_nothing_of_it(make):
    model = make(steps=64 if make is ppo else 120)
    assert 0.8 < value("capacity", model) <= 1
    kill(model, make)
    # the best constant leaves the variance, which is 1
    assert value("capacity", model) == pytest.approx(0, abs=0.05)
    assert value("fresh_fit", model) > 1


def test_capacity_does_not_depend_on_the_level_of_the_critic():
    model = dqn()
    before = value("capacity", model)
    with torch.no_grad():
        model.scope("head")[-1].add_(100.0)
    assert value("capacity", model) == pytest.approx(before, abs=0.01)
