"""FS-DGPM: its directions, its update against one written out in torch, and what it keeps."""

from __future__ import annotations

import copy

import pytest
import torch
from test_supervised import learner, stream_of
from torch.func import functional_call

from rlplastic.errors import UsageError
from rlplastic.interventions import subspace, surgery

torch.set_num_threads(1)
SMALL = {"mlp": {"hidden": (12, 8)}, "cnn": {"channels": (4, 6), "hidden": (8,)}}


def trained(name="mlp", reg="fs-dgpm:memory=60", worlds=1, **settings):
    """An agent that has just been told of the last of so many shifts."""
    stream = stream_of([{"name": "pixels"}], period=400, phases=4)
    agent = learner(
        stream, name, reg, **{**SMALL[name], "momentum": 0.9, "num_envs": 16, **settings}
    )
    for world in range(worlds):
        agent.learn(400)
        agent.at_shift(world + 1, "clear")
    return agent


def method(agent):
    return agent.interventions.members[0]


def test_a_basis_holds_the_share_and_no_direction_more():
    drawn = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=drawn))[0]
    sides = torch.linalg.qr(torch.randn(20, 4, generator=drawn))[0]
    rows = sides @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0])) @ axes[:4]
    for share, count in [(9 / 14 - 0.01, 1), (9 / 14 + 0.01, 2), (0.93, 3), (1 - 1e-11, 3)]:
        found = subspace.basis(rows, share)
        assert found.shape == (6, count)
        torch.testing.assert_close(found.T @ found, torch.eye(count), rtol=0, atol=1e-6)
        # of the axes' own span, up to the sign
        inside = found.T @ axes[:count].T
        torch.testing.assert_close(inside.abs(), torch.eye(count), rtol=0, atol=1e-5)
    assert subspace.basis(torch.zeros(5, 3), 0.99).shape == (3, 0)


def test_rows_of_a_convolution_are_the_patches_that_its_outputs_are_computed_from():
    agent = trained("cnn")
    layers = surgery.weight_layers(agent, "all")
    observations = agent.last_batch.observations
    outputs = []
    hook = layers[1].register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    rows = subspace.inputs_of(agent, layers, observations)
    hook.remove()
    made = rows[1] @ layers[1].weight.detach().flatten(1).T + layers[1].bias.detach()
    expected = outputs[0].permute(0, 2, 3, 1).reshape(made.shape)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-6)
    assert [r.shape[1] for r in rows] == [layer.weight[0].numel() for layer in layers]


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_outputs_for_old_examples_hardly_move_where_every_direction_is_kept(name):
    """With λ = 1 and all of the inputs' squares, a step changes nothing but the biases' part."""
    agent = trained(name, "fs-dgpm:memory=10:rate=0:share=1:temperature=40", learning_rate=0.03)
    member = method(agent)
    old = member.state["observations"].clone()
    layers = surgery.weight_layers(agent, "all")
    inputs = subspace.inputs_of(agent, layers, old)
    before = [layer.weight.detach().clone() for layer in layers]
    agent.learn(64)
    moved = [
        (layer.weight.detach() - start).flatten(1)
        for layer, start in zip(layers, before, strict=True)
    ]
    for change, rows in zip(moved, inputs, strict=True):
        assert (change @ rows.T).abs().max() < 1e-5
    assert max(change.abs().max() for change in moved) > 1e-4


def replica(agent, importance):
    """The loss of some examples at weights moved by ε, as a function of λ, in torch alone."""
    member, batch = method(agent), agent.last_batch
    network = copy.deepcopy(agent.policy)
    names = {id(p): name for name, p in agent.policy.named_parameters()}
    layers = [names[id(layer.weight)] for layer in surgery.weight_layers(agent, "all")]
    weights = {name: p.detach().clone() for name, p in agent.policy.named_parameters()}

    def loss(at, x, y):
        return torch.nn.functional.cross_entropy(functional_call(network, at, (x,)), y)

    drawn = torch.Generator()
    drawn.set_state(member.generator.get_state())
    count = min(member.state["seen"], member.memory)
    chosen = torch.randperm(count, generator=drawn)[:16]
    joined = (
        torch.cat([batch.observations, member.state["observations"][chosen]]),
        torch.cat([batch.answers, member.state["answers"][chosen]]),
    )
    total, offset = [], dict.fromkeys(weights, 0.0)
    for half in (slice(0, 8), slice(8, 16)):
        at = {n: (w + offset[n]).detach().requires_grad_() for n, w in weights.items()}
        g = torch.autograd.grad(
            loss(at, batch.observations[half], batch.answers[half]), list(at.values())
        )
        for name, slope in zip(at, g, strict=True):
            if name in layers:
                place = layers.index(name)
                m = member.state["bases"][place]
                flat = slope.flatten(1) @ m @ torch.diag(importance[place]) @ m.T
                slope = flat.view_as(slope)
            offset[name] = offset[name] + member.climb * slope
        leaves = {n: w.clone().requires_grad_() for n, w in weights.items()}
        moved = {n: leaf + offset[n] for n, leaf in leaves.items()}
        height = loss(moved, *joined) / 2
        found = torch.autograd.grad(height, [*leaves.values(), *importance], retain_graph=True)
        total = [a + b for a, b in zip(total or [0.0] * len(found), found, strict=True)]
    slopes = total[len(weights) :]
    return dict(zip(weights, total[: len(weights)], strict=True)), slopes, layers


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_an_update_is_the_algorithm_written_out(name):
    agent = trained(name, "fs-dgpm:memory=60:share=0.8:temperature=1:climb=0.5:rate=2:limit=50")
    agent.learn(16)  # so that λ is not the same for all
    member = method(agent)
    importance = [
        member.importance(k).clone().requires_grad_() for k in range(len(member.state["bases"]))
    ]
    weights, slopes, layers = replica(agent, importance)
    velocity = [0.9 * v + s for v, s in zip(member.state["momentum"], slopes, strict=True)]
    logits = [x - 2 * v for x, v in zip(member.state["logits"], velocity, strict=True)]
    assert max(float(s.abs().max()) for s in slopes) > 1e-4
    for parameter in agent.policy.parameters():
        parameter.grad = None
    member.gradient(agent, agent.losses(agent.last_batch))
    for ours, theirs in zip(member.state["logits"], logits, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    for name, parameter in agent.policy.named_parameters():
        expected = weights[name]
        if name in layers:
            place = layers.index(name)
            m, share = member.state["bases"][place], logits[place].sigmoid()
            flat = expected.flatten(1)
            expected = (flat - flat @ m @ torch.diag(share) @ m.T).view_as(expected)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


def test_before_the_first_shift_it_climbs_and_descends_in_all_directions():
    agent = trained(worlds=0, reg="fs-dgpm:climb=0:memory=1:limit=1e9")
    plain = trained(worlds=0, reg="none")
    agent.learn(16)
    plain.learn(16)
    for a, b in zip(agent.policy.parameters(), plain.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_the_reservoir_holds_every_example_with_the_same_chance():
    counts = torch.zeros(80)
    agent = trained(worlds=0)
    member, batch_type = method(agent), agent.batch_type
    for _ in range(400):
        member.begin(agent)
        for start in range(0, 80, 16):
            numbers = torch.arange(start, start + 16)
            member._remember(batch_type(numbers.float().unsqueeze(1), numbers))
        kept = member.state["answers"]
        assert member.state["observations"].flatten().long().tolist() == kept.tolist()
        assert len(set(kept.tolist())) == 60
        counts[kept] += 1
    assert (counts / 400 - 0.75).abs().max() < 5 * (0.75 * 0.25 / 400) ** 0.5


def test_a_shift_forgets_the_momentum_and_asks_for_a_little_more_of_the_inputs():
    agent = trained(reg="fs-dgpm:share=0.5:growth=0.2:memory=60")
    assert not agent.policy.optimizer.state
    first = [m.shape[1] for m in method(agent).state["bases"]]
    agent.at_shift(3, "clear")  # 0.5 + 2 x 0.2
    later = [m.shape[1] for m in method(agent).state["bases"]]
    assert all(a <= b for a, b in zip(first, later, strict=True))
    assert sum(later) > sum(first)


def test_another_optimizer_is_refused():
    with pytest.raises(UsageError, match=r"fs-dgpm: needs SGD.*has LeanAdam.*optimizer=sgd"):
        trained(optimizer="adam", worlds=0)
