"""PPO's loss without a graph: autograd's gradient to the last bit."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import nn

from rlplastic.agents.critics import Critic
from rlplastic.agents.features import SmallCNN
from rlplastic.agents.networks import ACTIVATIONS, set_channels_last
from rlplastic.agents.policies import LeanCnnPolicy, LeanPolicy
from rlplastic.agents.ppo import PPO
from rlplastic.agents.surrogate import Surrogate, judged
from rlplastic.agents.towers import ByHand
from rlplastic.interventions import Interventions, total
from rlplastic.interventions.sam import SAM

torch.set_num_threads(1)
VECTORS = spaces.Box(-1, 1, (5,), np.float32)
FRAMES = spaces.Box(0, 255, (4, 10, 10), np.uint8)


def drawn(seed, size, actions, spread):
    """A minibatch, logits and values; log-ratios are about as large as the spread."""
    made = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=made)  # noqa: E731
    logits, values = normal(size, actions) * (1 + spread), normal(size, 1)
    taken = torch.randint(actions, (size,), generator=made)
    near = judged(logits, taken).log_prob
    batch = RolloutBufferSamples(
        normal(size, 5),
        taken.float().unsqueeze(1),
        values.flatten() + normal(size) * 0.1,
        near + normal(size) * spread,
        normal(size),
        normal(size),
    )
    return batch, taken, logits, values


def surrogate_of(batch, taken, **changes):
    chosen = {
        "clip_range": 0.2,
        "clip_range_vf": None,
        "ent_coef": 0.01,
        "vf_coef": 0.5,
        "critic": Critic(kind="mse"),
    }
    advantages = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
    return Surrogate(batch=batch, actions=taken, advantages=advantages, **{**chosen, **changes})


def terms_of(surrogate, logits, values):
    policy = judged(logits, surrogate.actions)
    compared = surrogate.compared(policy.log_prob)
    loss = surrogate.value_loss(values)
    return surrogate.terms(compared, policy.entropy, loss)[0]


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    size=st.sampled_from([2, 3, 8, 48, 64, 100]),
    actions=st.integers(2, 7),
    spread=st.sampled_from([0.0, 1e-7, 0.01, 0.2, 2.0, 30.0]),
    normalised=st.booleans(),
    clip_range=st.sampled_from([1e-7, 0.1, 0.2, 0.9]),
    clip_range_vf=st.sampled_from([None, 0.05, 10.0]),
    ent_coef=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    vf_coef=st.sampled_from([0.0, 0.5, 0.7, 1.0]),
    kind=st.sampled_from(["mse", "huber"]),
)
def test_the_gradient_has_the_bytes_of_autograds(
    seed, size, actions, spread, normalised, clip_range, clip_range_vf, ent_coef, vf_coef, kind
):
    batch, taken, logits, values = drawn(seed, size, actions, spread)
    surrogate = surrogate_of(
        batch,
        taken,
        clip_range=clip_range,
        clip_range_vf=clip_range_vf,
        ent_coef=ent_coef,
        vf_coef=vf_coef,
        critic=Critic(kind=kind),
    )
    if not normalised:
        surrogate = replace(surrogate, advantages=batch.advantages)
    leaves = [logits.clone().requires_grad_(), values.clone().requires_grad_()]
    terms = terms_of(surrogate, *leaves)
    wanted = torch.autograd.grad(total(terms), leaves)
    with torch.no_grad():
        policy = judged(logits, taken)
        found = (
            surrogate.by_logits(policy, surrogate.compared(policy.log_prob)),
            surrogate.by_values(values),
        )
        again = terms_of(surrogate, logits, values)
    for name, term in terms.items():
        torch.testing.assert_close(term.detach(), again[name], rtol=0, atol=0, equal_nan=True)
    for ours, theirs in zip(found, wanted, strict=True):
        # a zero's sign may differ; both may have left the finite numbers, in the same places
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_the_gradient_is_that_of_the_written_formula():
    """Of one transition each: inside, clipped away, and outside where the clip does not bind."""
    logits = torch.tensor([[0.3, -0.2, 0.9]] * 3, dtype=torch.float64)
    taken = torch.tensor([0, 0, 0])
    policy = judged(logits, taken)
    ratios = torch.tensor([1.1, 1.5, 0.5], dtype=torch.float64)
    batch = RolloutBufferSamples(
        torch.zeros(3, 5),
        taken,
        torch.zeros(3, dtype=torch.float64),
        policy.log_prob - ratios.log(),
        torch.tensor([2.0, 2.0, 2.0], dtype=torch.float64),
        torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64),
    )
    surrogate = replace(surrogate_of(batch, taken, ent_coef=0.0), advantages=batch.advantages)
    found = surrogate.by_logits(policy, surrogate.compared(policy.log_prob))
    taken_or_not = torch.tensor([1.0, 0.0, 0.0]) - policy.probs[0]
    factors = torch.tensor([2 * 1.1, 0.0, 2 * 0.5]).unsqueeze(1)
    torch.testing.assert_close(found, -factors * taken_or_not / 3, check_dtype=False)
    by_values = surrogate.by_values(torch.zeros(3, 1, dtype=torch.float64))
    wanted = torch.tensor([[-1.0], [-2.0], [-4.0]], dtype=torch.float64) / 3
    torch.testing.assert_close(by_values, wanted)  # half of twice the distance, averaged


POLICIES = [
    (LeanPolicy, VECTORS, {"activation_fn": kind, "net_arch": [16, 8]})
    for kind in ACTIVATIONS.values()
] + [
    (LeanCnnPolicy, FRAMES, {"features_extractor_class": SmallCNN, "net_arch": net, **shared})
    for net in ([], [16])
    for shared in ({"share_features_extractor": True}, {"share_features_extractor": False})
]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kind", "space", "chosen"), POLICIES)
def test_every_weights_gradient_has_the_bytes_of_autograds(kind, space, chosen, layout):
    torch.manual_seed(0)
    policy = kind(space, spaces.Discrete(3), lambda _: 1e-3, **chosen)
    if layout is torch.channels_last:
        set_channels_last(policy)
    batch, taken, _, _ = drawn(1, 64, 3, 0.3)
    obs = torch.as_tensor(np.stack([space.sample() for _ in range(64)]))
    shown = policy.prepared(obs.to(memory_format=layout) if obs.ndim == 4 else obs)
    surrogate = surrogate_of(batch, taken)
    parameters = list(policy.parameters())

    def by_autograd(names):
        values, log_prob, entropy = policy.evaluated(shown, taken)
        compared = surrogate.compared(log_prob)
        terms = surrogate.terms(compared, entropy, surrogate.value_loss(values))[0]
        chosen = total({name: terms[name] for name in names})
        return torch.autograd.grad(chosen, parameters, allow_unused=True)

    by_hand = ByHand(policy.towers(), shown, surrogate)
    statistics = by_hand.look()
    terms, parts = by_hand("total", "critic", "others")
    assert by_hand("critic")[0]["critic"].item() == terms["critic"].item()
    assert statistics["value_loss"].item() == 2 * terms["critic"].item()
    everything = ("actor", "entropy", "critic")
    for names, part in zip((everything, ("critic",), ("actor", "entropy")), parts, strict=True):
        for parameter, theirs in zip(parameters, by_autograd(names), strict=True):
            ours = part.get(parameter)
            assert (ours is None) == (theirs is None)
            if theirs is not None:
                assert ours.equal(theirs)
                assert ours.stride() == parameter.stride()
    (alone,) = by_hand("critic")[1]
    assert all(alone[parameter].equal(g) for parameter, g in parts[1].items())


def test_acting_has_the_bytes_of_the_modules():
    torch.manual_seed(0)
    for kind, space, chosen in POLICIES:
        policy = kind(space, spaces.Discrete(3), lambda _: 1e-3, **chosen)
        shown = policy.prepared(torch.as_tensor(np.stack([space.sample() for _ in range(8)])))
        slow = policy.said(shown)  # with a graph
        with torch.no_grad():
            fast, values = policy.said(shown), policy.valued(shown)
        assert all(a.equal(b) for a, b in zip(slow, fast, strict=True))
        assert values.equal(slow[1])


def test_what_is_not_known_is_left_to_autograd():
    policy = LeanPolicy(VECTORS, spaces.Discrete(3), lambda _: 1e-3)
    assert policy.towers().learnt
    hook = policy.value_net.register_forward_hook(lambda *_: None)
    assert policy.towers() is None
    hook.remove()
    policy.value_net.bias.requires_grad_(False)
    assert not policy.towers().learnt
    policy.mlp_extractor.policy_net.insert(0, nn.ReLU())  # would write into what both read
    assert policy.towers() is None
    policy.mlp_extractor.policy_net[0] = nn.LayerNorm(5)
    assert policy.towers() is None


class Unknown(nn.Tanh):
    """The same function in a class that is not known."""


@pytest.mark.parametrize("members", [(), (SAM(),), (SAM(every=2),)])
@pytest.mark.parametrize("extra", [{}, {"target_kl": 0.003}, {"clip_range_vf": 0.1}])
def test_a_training_without_graphs_has_the_bytes_of_one_with_them(members, extra):
    ends = []
    for kind in (nn.Tanh, Unknown):
        model = PPO(
            "MlpPolicy",
            gymnasium.make("CartPole-v1"),
            n_steps=64,
            batch_size=32,
            n_epochs=3,
            ent_coef=0.01,
            seed=0,
            device="cpu",
            policy_kwargs={"activation_fn": kind},
            interventions=Interventions([replace(member) for member in members]),
            **extra,
        )
        assert (model.policy.towers() is None) == (kind is Unknown)
        model.learn(256)
        log = {k: v for k, v in model.logger.name_to_value.items() if k.startswith("train/")}
        weights = b"".join(p.detach().numpy().tobytes() for p in model.policy.parameters())
        ends.append((model.num_updates, weights, log))
    assert ends[0][0] > 0
    assert ends[0] == ends[1]
