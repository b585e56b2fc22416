"""Networks run by hand have the bytes of autograd, and step aside where they are not known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from rlplastic.agents.adam import LeanAdam
from rlplastic.agents.direct import chain_of, huber, huber_slopes, learnt_chain, shown
from rlplastic.agents.features import SmallCNN
from rlplastic.agents.learner import clip

torch.set_num_threads(1)

VECTORS = (spaces.Box(-1, 1, (4,), np.float32), {"net_arch": [32, 16]})
SMALL = (
    spaces.Box(0, 255, (4, 10, 10), np.uint8),
    {"net_arch": [], "features_extractor_class": SmallCNN},
)
NATURE = (
    spaces.Box(0, 255, (4, 84, 84), np.uint8),
    {"net_arch": [8], "features_extractor_class": NatureCNN},
)


def q_net(space, settings, layout):
    torch.manual_seed(0)
    policy = DQNPolicy(space, spaces.Discrete(3), lambda _: 1e-3, **settings)
    return policy.to(memory_format=layout).q_net if len(space.shape) == 3 else policy.q_net


def minibatch(space, layout, size=32):
    rng = np.random.default_rng(0)
    if len(space.shape) == 3:
        shown = torch.from_numpy(rng.integers(0, 256, (size, *space.shape), dtype=np.uint8))
        shown = shown.contiguous(memory_format=layout)
    else:
        shown = torch.from_numpy(rng.normal(size=(size, *space.shape)).astype(np.float32))
    actions = torch.from_numpy(rng.integers(0, 3, (size, 1)))
    nothing = torch.zeros(size, 1)
    batch = ReplayBufferSamples(shown, actions, shown, nothing, nothing, None)
    return batch, torch.from_numpy(rng.normal(size=(size, 1)).astype(np.float32) * 2)


def by_autograd(net, batch, targets):
    chosen = torch.gather(net(batch.observations), 1, batch.actions)
    return F.smooth_l1_loss(chosen, targets)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("space", "settings"), [VECTORS, SMALL, NATURE])
def test_loss_and_gradient_have_the_bytes_of_autograd(space, settings, layout):
    net = q_net(space, settings, layout)
    batch, targets = minibatch(space, layout)
    weights = list(net.parameters())
    theirs = by_autograd(net, batch, targets)
    expected = torch.autograd.grad(theirs, weights)
    ours = huber(net, chain_of(net), batch, targets)
    assert ours.item() == theirs.item()
    found = torch.autograd.grad(ours, weights, retain_graph=True)
    (3 * ours).backward()  # a second pass, with a factor
    for weight, mine, other in zip(weights, found, expected, strict=True):
        assert mine.numpy().tobytes() == other.numpy().tobytes()
        assert mine.stride() == other.stride()
        torch.testing.assert_close(weight.grad, 3 * other, rtol=1e-4, atol=1e-7)
        weight.grad = None
    by_autograd(net, batch, targets).backward()
    left = [(w.grad.numpy().tobytes(), w.grad.stride()) for w in weights]
    loss, slopes = huber_slopes(
        chain_of(net), shown(batch.observations), batch.actions.long(), targets
    )
    assert loss.item() == theirs.item()
    assert [(slopes[w].numpy().tobytes(), slopes[w].stride()) for w in weights] == left


def test_second_derivatives_are_those_of_autograd():
    net = q_net(*VECTORS, torch.contiguous_format)
    batch, targets = minibatch(VECTORS[0], torch.contiguous_format)
    weights = list(net.parameters())
    found = []
    for loss in (by_autograd(net, batch, targets), huber(net, chain_of(net), batch, targets)):
        first = torch.autograd.grad(loss, weights, create_graph=True)
        steepness = sum(g.square().sum() for g in first)
        found.append(torch.autograd.grad(steepness, weights, allow_unused=True))
    assert any(g is not None and g.abs().max() > 0 for g in found[0])
    for theirs, ours in zip(*found, strict=True):
        assert (theirs is None) == (ours is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs)


def test_weights_that_were_changed_between_the_passes_are_an_error_as_with_autograd():
    net = q_net(*VECTORS, torch.contiguous_format)
    batch, targets = minibatch(VECTORS[0], torch.contiguous_format)
    loss = huber(net, chain_of(net), batch, targets)
    with torch.no_grad():
        net.q_net[0].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_network_that_is_not_known_or_looked_at_is_left_to_autograd():
    net = q_net(*VECTORS, torch.contiguous_format)
    assert [type(m) for m in chain_of(net)] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]
    hook = net.q_net[1].register_forward_hook(lambda *_: None)
    assert chain_of(net) is None
    hook.remove()
    assert chain_of(net) is not None
    net.q_net[1] = nn.ELU()
    assert chain_of(net) is None
    net.q_net[1] = nn.ReLU()
    net.q_net.insert(1, nn.LayerNorm(32))
    assert chain_of(net) is None
    assert chain_of(nn.Linear(2, 2)) is None


def test_a_network_whose_inputs_are_made_in_another_way_is_left_to_autograd():
    space, settings = SMALL
    assert chain_of(q_net(space, settings, torch.contiguous_format)) is not None
    raw = {**settings, "normalize_images": False}
    assert chain_of(q_net(space, raw, torch.contiguous_format)) is None
    floats = spaces.Box(0, 1, space.shape, np.float32)
    assert chain_of(q_net(floats, raw, torch.contiguous_format)) is None
    several = spaces.MultiDiscrete([3, 4])  # which stable-baselines3 shows as a one-hot code
    assert chain_of(q_net(several, VECTORS[1], torch.contiguous_format)) is None


def test_weights_that_are_not_learnt_get_no_gradient():
    net = q_net(*VECTORS, torch.contiguous_format)
    assert learnt_chain(net) == chain_of(net)
    net.q_net[0].bias.requires_grad_(False)
    assert learnt_chain(net) is None
    assert chain_of(net) is not None  # it may still act


def test_lean_adam_has_the_bytes_of_torchs_fused_adam_and_its_state():
    nets = [q_net(*VECTORS, torch.contiguous_format) for _ in range(2)]
    made = [
        kind(net.parameters(), lr=1e-2, fused=True)
        for kind, net in zip((torch.optim.Adam, LeanAdam), nets, strict=True)
    ]
    for number in range(4):
        for net, optimizer in zip(nets, made, strict=True):
            optimizer.zero_grad()
            torch.manual_seed(number)
            for place, weight in enumerate(net.parameters()):
                if place != number:  # one has no gradient in this step
                    weight.grad = torch.randn_like(weight)
            optimizer.step()
    for theirs, ours in zip(*(net.parameters() for net in nets), strict=True):
        assert ours.detach().numpy().tobytes() == theirs.detach().numpy().tobytes()
        for name, value in made[0].state[theirs].items():
            assert torch.equal(made[1].state[ours][name], value)


@pytest.mark.parametrize("limit", [0.5, 7.0710678, 7.0710679, 7.071068, 7.08, 100.0])
def test_the_clip_has_the_bytes_of_torchs(limit):
    vectors = [[torch.tensor([3.0, 4.0]), torch.tensor([5.0])] for _ in range(2)]
    held = [[nn.Parameter(v.clone()) for v in vector] for vector in vectors]
    for parameters, vector in zip(held, vectors, strict=True):
        for parameter, gradient in zip(parameters, vector, strict=True):
            parameter.grad = gradient
    theirs = nn.utils.clip_grad_norm_(held[0], limit, foreach=True).item()
    assert clip(vectors[1], limit) == theirs
    for mine, other in zip(vectors[1], held[0], strict=True):
        assert mine.numpy().tobytes() == other.grad.numpy().tobytes()
