"""The benchmark programs run through, on the smallest of tasks, and say what they measured."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlplastic.benchmarks import coverage, learning, operators, speed, speed_cases, zoo
from rlplastic.benchmarks.speed_limit import Product, limit, seconds
from rlplastic.benchmarks.speed_run import BARE, NONE, PARTS, SAM, SB3, Job, configured

TOY = "Toy-Shifted/Cue-stationary"


def numbers(row):
    return [float(x) for x in re.findall(r"\d+(?:\.\d+)?", row.replace(",", ""))]


@pytest.mark.parametrize("case", speed_cases.CASES.values(), ids=speed_cases.CASES)
def test_each_case_of_the_speed_comparison_has_its_cells(case):
    jobs = speed.jobs_of(case)
    assert {SB3, NONE, SAM} <= set(jobs)
    assert [i["name"] for i in jobs[SAM].cell.intervention] == ["sam"]
    assert jobs[NONE].cell.intervention == jobs[SB3].cell.intervention == []
    config = configured(jobs[NONE].cell)
    for setting in case.settings:
        key, _, value = setting.partition(".")[2].partition("=")
        assert str(getattr(config, key)).lower() == value


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_a_case_is_run_and_told(agent, monkeypatch):
    monkeypatch.setattr(speed, "alone", lambda function, *args: function(*args))
    case = speed_cases.Case(name="toy", agent=agent, task=TOY, steps=256, target=1e-3, sam=0.5)
    lines = list(speed.compare(case, 1))
    rows = {line.split(" | ")[0][2:]: line.split(" | ")[1:] for line in lines if line[:2] == "| "}
    kinds = [kind for kind in speed_cases.KINDS if kind in rows]
    assert kinds == case.kinds
    for kind in kinds:
        rate, per_second, ratio, target, peak, *shares = rows[kind]
        assert numbers(rate)[0] > 0
        assert numbers(per_second)[0] > 0
        assert numbers(peak)[0] > 50
        assert sum(numbers(" ".join(shares))) == pytest.approx(100, abs=4)
        assert len(shares) == len(PARTS)
        assert all(numbers(share)[0] > 0 for share in (shares[0], shares[1], shares[4]))
        assert target.strip() == ("≥ 0.001: met" if kind == NONE else "")
        assert ratio.startswith("1.00") == (kind == SB3) or kind != SB3
    below = "\n".join(lines)
    assert "≤ 0.5: missed" in below  # SAM's two passes are never half of one
    share = re.search(r"; none is at (\d+)% of it", below)
    assert share
    assert 0 < int(share[1]) < 100


def test_the_limit_is_of_the_products_that_training_makes():
    torch.manual_seed(0)
    conv, linear = torch.nn.Conv2d(4, 8, 3, stride=2), torch.nn.Linear(5, 3)
    for layer, shape in ((conv, (6, 4, 9, 9)), (linear, (7, 5))):
        x = torch.randn(shape, requires_grad=True)
        product = Product(layer, x.detach(), first=False)
        out = layer(x)
        with torch.no_grad():
            assert torch.equal(product.forward(), out)
            made = product.backward(torch.ones_like(out))
        out.sum().backward()
        torch.testing.assert_close(made[0], layer.weight.grad, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(made[1], x.grad, rtol=1e-4, atol=1e-4)
        bottom = Product(layer, x.detach(), first=True)
        with torch.no_grad():
            assert bottom.backward(torch.ones_like(out))[1] is None
    every = [Product(linear, torch.randn(512, 5), first=False)]
    assert 0 < seconds(every, backward=False) < 0.1


def test_the_limit_of_a_dqn_counts_acting_and_updates():
    job = speed.jobs_of(speed_cases.Case(name="toy", agent="dqn", task=TOY, steps=64))[NONE]
    often = job.cell.hyperparameters | {"gradient_steps": 64}
    many = job._replace(cell=replace(job.cell, hyperparameters=often))
    assert limit(many) > 5 * limit(job) > 0


def test_both_agents_products_are_found_by_the_profiler_and_the_rows_add_up_to_the_step():
    cell = speed_cases.cell_of(speed_cases.CASES["dqn-minatar"], "none")
    mine, theirs = (operators.profile(Job(cell, kind, 64)) for kind in (BARE, SB3))
    assert mine.operators["addmm"][1] == pytest.approx(theirs.operators["addmm"][1], rel=0.1)
    for name in mine.operators | theirs.operators:
        assert name.isidentifier(), name  # neither nodes of autograd nor annotations
    rows = [line.split("|")[2:4] for line in operators.table(mine, theirs)[2:]]
    taken = [float(seconds.replace(",", "")) for seconds, _ in rows]
    assert sum(taken[:-1]) == pytest.approx(taken[-1], abs=1)
    assert rows[-1][1].strip() == "100.0%"


def test_the_middle_of_profiles_is_of_each_number_on_its_own():
    found = [
        operators.Profile(3.0, {"add": (1.0, 2.0)}),
        operators.Profile(1.0, {"add": (2.0, 2.0), "mul": (3.0, 1.0)}),
        operators.Profile(2.0, {"add": (6.0, 2.0), "mul": (1.0, 1.0)}),
    ]
    middle = operators.middle(found)
    assert middle == operators.Profile(2.0, {"add": (2.0, 2.0), "mul": (1.0, 1.0)})


def test_what_the_zoo_reports_is_reached_or_not():
    case = zoo.CASES["dqn-Acrobot-v1"]
    assert zoo.reached(case, -88.0)
    assert not zoo.reached(case, -88.5)
    assert zoo.reached(zoo.CASES["ppo-CartPole-v1"], 500.0)
    assert not zoo.reached(zoo.CASES["ppo-CartPole-v1"], 499.9)


@pytest.mark.parametrize(
    ("name", "stock"),
    [("dqn-CartPole-v1", False), ("ppo-MountainCar-v0", False), ("ppo-MountainCar-v0", True)],
)
def test_an_agent_of_the_zoo_trains_and_plays(name, stock, monkeypatch):
    monkeypatch.setattr(zoo, "EPISODES", 2)
    monkeypatch.setattr(zoo, "LOOKS", 1)
    monkeypatch.setattr(zoo, "EVALUATIONS", 2)
    found = zoo.train(zoo.Job(zoo.CASES[name], 0, stock, 1_536))
    low, high = (8, 500) if "CartPole" in name else (-200, -80)
    assert low <= found.final <= high
    assert low <= found.best <= high
    (_, _, row) = zoo.table([found])
    assert row.startswith(f"| {name} | 1,536 |")
    assert ("| stable-baselines3 |" in row) == stock


def test_the_area_under_a_learning_curve_is_of_both_kinds_the_same_where_nothing_is_faster():
    request = learning.Request(
        agents=["ppo"],
        regs=["none"],
        env=TOY,
        seeds=[0],
        settings=["ppo.fused=false", "ppo.channels_last=false"],
    )
    cell = next(c for c in learning.make_plan(request).cells if (c.agent, c.arm) == ("ppo", "none"))
    ours, theirs = (learning.area((cell, stock, 1_024)) for stock in (False, True))
    assert ours == theirs
    assert 3 < ours < 10


def test_a_false_word_is_one_of_the_interval_and_the_test_and_holm_takes_some_back(monkeypatch):
    rng = np.random.default_rng(0)
    for _ in range(30):
        plain, after = coverage.false_arms(*coverage.scores(6, 2, 1, rng), rng)
        assert plain == after  # one arm needs no adjustment
        plain, after = coverage.false_arms(*coverage.scores(6, 2, 3, rng), rng)
        assert after == [False] * 3  # 2/64 is the least p, and three times that is above 0.05
    monkeypatch.setattr(coverage, "OWN", 0.0)
    exactly_none = coverage.scores(6, 2, 3, rng)
    assert coverage.false_arms(*exactly_none, rng) == [[False] * 3] * 2
    lower = np.linspace(-2, -1, 12).reshape(6, 2)
    assert coverage.false_plain(lower, rng)
    assert not coverage.false_plain(lower - lower.mean(), rng)
    monkeypatch.setattr(coverage, "OWN", 0.4)
    monkeypatch.setattr(coverage, "STUDIES", 40)
    (plain, alone, said, false), most = (coverage.false_words(10, 2, n, rng) for n in (1, 9))
    assert alone == said < 0.25
    assert max(plain, said) <= false <= plain + said
    assert most[1] > 0
