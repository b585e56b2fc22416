"""Churn reduction against the formula written out."""

from __future__ import annotations

import pytest
import torch
from test_agents import DQN_SETTINGS, PPO_SETTINGS, parameter_bytes, train

from rlplastic.agents.dqn import DQN
from rlplastic.agents.ppo import PPO
from rlplastic.interventions import Interventions
from rlplastic.interventions.cchain import ChurnReduction
from rlplastic.interventions.sam import SAM

torch.set_num_threads(1)


def agent_with(algorithm, *members, steps=None, env="CartPole-v1"):
    settings, enough = (DQN_SETTINGS, 300) if algorithm is DQN else (PPO_SETTINGS, 128)
    chosen = enough if steps is None else steps
    return train(algorithm, env, chosen, **settings, interventions=Interventions(members))


def outputs(model, observations):
    if isinstance(model, DQN):
        return model.q_net(observations)
    return model.policy.get_distribution(observations).distribution.logits


@pytest.mark.parametrize(("algorithm", "warmup"), [(DQN, 0), (DQN, 10_000), (PPO, 10_000)])
def test_the_penalty_is_the_formula_written_out(algorithm, warmup):
    chain = ChurnReduction(strength=0.5, warmup=warmup)
    model = agent_with(algorithm, chain)
    drawn = chain.state["observations"][-1]
    with torch.no_grad():
        before = outputs(model, drawn).clone()
        for p in model.scope("all"):
            p.add_(0.01 * torch.randn_like(p))
    chain.state.update(loss=0.3, churn=0.7)
    chain.state["outputs"][-1] = before
    chain.before_update(model)  # what was drawn last is what is compared now
    model.last_terms = {"critic": torch.tensor(-2.0)}
    if algorithm is PPO:
        model.last_terms |= {"actor": torch.tensor(-5.0), "entropy": torch.tensor(1.0)}
        chain.state.update(weight=7.0, losses=-1.0, churns=2.0, count=3)
    penalty = chain.penalty(model)
    now = outputs(model, drawn)
    if algorithm is DQN:
        churn = (now - before).square().mean()
        mean_loss, mean_churn = 0.999 * 0.3 + 0.001 * 2.0, 0.999 * 0.7 + 0.001 * churn.item()
        weight = 0.5 * (50 if warmup else 0.01 * mean_loss / (mean_churn + 1e-8))
        assert chain.state["loss"] == pytest.approx(mean_loss)
    else:
        churn, weight = -(before.exp() * now).sum(dim=1).mean(), 0.5 * 7.0
        assert chain.state["losses"] == pytest.approx(-1.0 - 5.0 + 1.0)
        assert chain.state["churns"] == pytest.approx(2.0 + churn.item())
        assert chain.state["count"] == 4
    torch.testing.assert_close(penalty, weight * churn)
    assert churn > 0
    again = chain.penalty(model)  # the second pass of an update: the same λ and batch
    torch.testing.assert_close(again, penalty, rtol=0, atol=0)
    ours = torch.autograd.grad(penalty, model.scope("all"), allow_unused=True)
    theirs = torch.autograd.grad(weight * churn, model.scope("all"), allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) is (b is None)
        assert a is None or torch.allclose(a, b)


def test_the_weight_of_ppo_is_of_means_over_rollouts_and_one_before_the_eleventh():
    chain = ChurnReduction()
    model = agent_with(PPO, chain, steps=0)
    mean_loss = mean_churn = 0.0
    for rollout in range(1, 14):
        loss, churn = -0.01 * rollout, 0.5 + 0.01 * rollout
        chain.state.update(losses=6 * loss, churns=6 * churn, count=6)
        chain.new_objective(model)
        mean_loss = 0.98 * mean_loss + 0.02 * abs(loss)
        mean_churn = 0.98 * mean_churn + 0.02 * churn
        expected = 1.0 if rollout < 10 else 1e4 * mean_loss / mean_churn
        assert chain.state["weight"] == pytest.approx(expected, rel=1e-5)
        chain.new_objective(model)  # without an update there is nothing to take note of
        assert chain.state["rollouts"] == rollout


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_the_reference_batch_was_drawn_one_update_ago_and_is_not_the_minibatch(algorithm):
    chain = ChurnReduction()
    model = agent_with(algorithm, chain)
    first, second = chain.state["observations"]
    assert first.shape == second.shape == model.last_batch.observations.shape
    assert not torch.equal(first, second)
    assert not torch.equal(second, model.last_batch.observations)
    with torch.no_grad():  # old outputs are of older weights
        assert not torch.equal(outputs(model, second), chain.state["outputs"][1])
    if algorithm is PPO:
        stored = torch.as_tensor(model.rollout_buffer.observations)
    else:
        stored = torch.as_tensor(model.replay_buffer.observations[: model.replay_buffer.size(), 0])
    for row in second:
        assert (stored == row).all(dim=1).any()


def test_the_update_goes_on_with_the_loss_before_the_penalty():
    seen = []

    class Spy(ChurnReduction):
        name = "cchain"

        def _weigh(self, agent, churn):
            seen.append(float(agent.last_terms["critic"]))
            return super()._weigh(agent, churn)

    class Bare(DQN):
        def losses(self, batch):
            found = super().losses(batch)
            bare.append(found._terms(())["critic"].item())
            return found

    bare = []
    settings = {**DQN_SETTINGS, "interventions": Interventions([Spy(), SAM()])}
    model = train(Bare, steps=300, **settings)
    assert model.num_updates > 50
    assert seen == bare[1:]  # in the first update there is nothing to compare with


def test_churn_is_smaller_with_it():
    """After the same number of updates, one more update changes the outputs elsewhere less."""

    def churn(*members):
        torch.manual_seed(0)
        model = agent_with(DQN, *members, steps=400)
        total, reference = 0.0, model.reference(256, torch.Generator().manual_seed(1))
        for _ in range(50):
            with torch.no_grad():
                before = outputs(model, reference).clone()
            model.train(1, 32)
            with torch.no_grad():
                total += (outputs(model, reference) - before).square().mean().item()
        return total

    assert churn(ChurnReduction(strength=100.0)) < 0.7 * churn()


def test_its_draws_leave_the_agents_own_alone():
    plain = agent_with(DQN)
    zero = agent_with(DQN, ChurnReduction(strength=0.0))
    assert parameter_bytes(plain) == parameter_bytes(zero)


def test_a_gaussian_policy_is_kept_by_its_means():
    chain = ChurnReduction()
    model = agent_with(PPO, chain, env="Pendulum-v1")
    chain.check(model)
    assert chain.state["outputs"][0].shape == (32, 1)
    assert chain.state["churns"] > 0
