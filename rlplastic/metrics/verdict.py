"""The sentence at the head of a report, or the reason why there is none.

A sentence is printed only where it could have come out otherwise: with at least six paired
complete seeds (a sign-flip test with five cannot reach p < 0.05), nothing missing, and periods
that are long enough for a newborn to learn. Otherwise the reason stands in its place.

It says that something differs only if the interval of the IQM *and* the sign-flip test of the mean
say so, in the same direction, the test adjusted for the number of interventions: without that, a
fourth of reports on nine arms that do nothing would say that one does something. Percentile
intervals of a few seeds are too narrow, which is why the test is asked too. How often they hold the
truth, and how often a whole sentence holds a false word, is in ``docs/coverage.md``.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from rlplastic.aggregate import Estimate
from rlplastic.metrics.digits import show
from rlplastic.metrics.study import REFERENCE, Study
from rlplastic.metrics.summary import Arm, Score, Summary
from rlplastic.record import FloatArray

SEEDS_NEEDED = 6
SIGNIFICANT = 0.05
IMPORTED = "imported"  # the budget of a folder that holds the runs of other programs


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be said of one agent.

    Attributes:
        obstacles: Why there is no verdict, the most basic first; empty if there is one.
        sentence: The verdict, or the obstacles.
    """

    obstacles: list[str]
    sentence: str


def judge(study: Study, summary: Summary) -> Verdict:
    """The sentence that the scores of an agent allow."""
    obstacles = _obstacles(study, summary)
    sentence = " ".join(f"{why}." for why in obstacles)
    return Verdict(obstacles=obstacles, sentence=sentence or _sentence(summary))


def _obstacles(study: Study, summary: Summary) -> list[str]:
    agent, found = summary.agent, list[str]()
    headline = [task for task in summary.all_tasks if study.in_headline(task, agent)]
    cells = [r for r in study.results.of(agent=agent)]
    cells += [r for task in headline for r in study.results.of(agent="random", task=task)]
    open_cells = Counter(record.status for record in cells if not record.finished)
    if open_cells:
        parts = ", ".join(f"{n} {status}" for status, n in sorted(open_cells.items()))
        found.append(f"Unfinished: of {len(cells)} cells, {parts}")
    too_short = {task: study.too_short(task, agent) for task in headline}
    reasons = [f"{task}: {why}" for task, why in too_short.items() if why]
    if study.protocol.get("too_short"):
        reasons.insert(0, str(study.protocol["too_short"]).rstrip(". "))
    if study.num_phases < 2:
        reasons.insert(0, "there is no shift")
    if reasons:
        more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
        found.append(f"Too short to judge plasticity: {'; '.join(reasons[:3])}{more}")
    lacking = _lacking(study, summary, headline)
    return [*found, lacking] if lacking else found


def _lacking(study: Study, summary: Summary, headline: list[str]) -> str:
    """What there would have to be for a verdict; empty if it is all there."""
    agent, tasks = summary.agent, summary.all_tasks
    if study.published:
        return f"No verdict: a published protocol with a metric of its own, {study.published}"
    if tasks and all(study.averages(task) for task in tasks):
        return (
            "No verdict: the logs hold a moving mean, which reaches back over the shifts, and no "
            "episodes"
        )
    if not any(study.facts(task, agent) for task in tasks):
        if study.protocol.get("budget") == IMPORTED:
            return "No verdict: no scale was given, in which S and P are measured (import --scale)"
        return (
            "No verdict: the suite states no scale for this agent, which its pilot measures "
            "(python -m rlplastic.benchmarks.pilot)"
        )
    if not headline:
        if any(study.measurable(task, agent) for task in tasks):
            return "No verdict: only the negative control was run"
        return "No verdict: no task is measurable for this agent"
    if len(summary.seeds) < SEEDS_NEEDED:
        return f"Too few seeds for a verdict: {len(summary.seeds)} complete, {SEEDS_NEEDED} needed"
    if all(arm.plasticity is None for arm in summary.arms):
        broken = any(arm.broken_newborns for arm in summary.arms)
        lack = "newborns diverged, and there is nothing" if broken else "there are no newborn arms"
        return f"No verdict: {lack} to compare with"
    if all(arm.performance is None for arm in summary.arms):
        return "No verdict: there is no random level, so no P, without which S says little"
    return ""


def _sentence(summary: Summary) -> str:
    arms = {arm.reg: arm for arm in summary.arms}
    none = arms.pop(REFERENCE, None)
    several = "s" * (len(summary.tasks) != 1)
    sized = f"{len(summary.seeds)} seeds x {len(summary.tasks)} task{several}"
    said = [] if none is None else [_plain_agent(f"{summary.agent} ({sized})", none)]
    if arms:
        broken = 0 if none is None else none.broken_newborns
        told = [_comparison(arm, len(summary.seeds), broken) for arm in arms.values()]
        said.append(f"Against it, {'; '.join(told)}.")
    said += _of_several(list(arms.values()))
    lost = [f"{arm.broken_lives} of {arm.reg}" for arm in summary.arms if arm.broken_lives]
    if lost:
        said.append(f"Lives that diverged, and count as random from then on: {', '.join(lost)}.")
    return " ".join(said)


def _of_several(arms: list[Arm]) -> list[str]:
    """What the adjustment for several arms has taken from the words, if anything."""
    fragile = [arm.reg for arm in arms if _fragile(arm)]
    if not fragile:
        return []
    found = (
        f"Adjusted for {len(arms)} interventions (Holm); alone, {', '.join(fragile)} would differ"
    )
    # the smallest p of a sign-flip test, times the arms, is the smallest that Holm leaves
    enough = math.ceil(math.log2(2 * len(arms) / SIGNIFICANT + 1e-9))
    if max(len(score.seeds) for arm in arms for score in _scores(arm)) < enough:
        return [f"{found}, and of so many none could with fewer than {enough} seeds."]
    return [f"{found}."]


def _plain_agent(agent: str, none: Arm) -> str:
    if none.broken_newborns:
        return (
            f"With {agent}, the plain agent (none) is not judged, "
            f"since {none.broken_newborns} of its newborn cells diverged."
        )
    if none.plasticity is None or none.performance is None:
        return f"With {agent}, the plain agent (none) is not judged."
    interval, mean = none.plasticity.iqm, none.plasticity.mean.point
    sure = none.newborn_p is not None and none.newborn_p < SIGNIFICANT
    words = "is not told apart from its newborns"
    if sure and interval.high < 1 and mean < 1:
        words = "loses plasticity"
    elif sure and interval.low > 1 and mean > 1:
        words = "learns faster than its newborns"
    scores = f"(S = {show(interval)}, P = {show(none.performance.iqm)}; 95 % intervals)"
    return f"With {agent}, the plain agent (none) {words} {scores}."


def _comparison(arm: Arm, seeds: int, broken: int = 0) -> str:
    """What one arm did, unless newborns diverged: its own, or so many of ``none``.

    Args:
        arm: The arm.
        seeds: That are complete; said where a score has fewer.
        broken: Newborn cells of ``none`` that diverged.
    """
    if arm.broken_newborns or broken:
        number = arm.broken_newborns or broken
        return f"{arm.reg} is not judged, since {number} newborn cell(s) diverged"
    words: list[str] = []
    for name, score in (("S", arm.plasticity), ("P", arm.performance)):
        if score is None or score.difference is None or len(score.seeds) < SEEDS_NEEDED:
            return f"{arm.reg} is not judged, since it has too few complete seeds"
        verb = "does not clearly change"
        if _differs(score):
            verb = "raises" if score.difference.low > 0 else "lowers"
        same = bool(words) and words[0].startswith(verb)
        few = f", {len(score.seeds)} seeds" * (len(score.seeds) < seeds)
        gain = show(score.difference, signed=True)
        words.append(f"{'' if same else verb + ' '}{name} ({gain}{few})")
    return f"{arm.reg} {' and '.join(words)}"


def _differs(score: Score) -> bool:
    """Whether both the interval and the adjusted test say that a difference is not zero."""
    return _apart(score, score.p if score.adjusted_p is None else score.adjusted_p)


def apart(interval: Estimate, scores: FloatArray) -> bool:
    """Whether an interval of the IQM leaves 0 out on the side of the mean, which is tested.

    An arm that helps most runs and ruins a few has a higher IQM and a lower mean; of it neither
    word is true.
    """
    mean = float(scores.mean())
    return interval.low > 0 < mean or interval.high < 0 > mean


def _apart(score: Score, p: float | None) -> bool:
    if score.difference is None or score.differences is None or p is None:
        return False
    return p < SIGNIFICANT and apart(score.difference, score.differences)


def _fragile(arm: Arm) -> bool:
    """Whether a difference is not spoken of for the adjustment alone."""
    if arm.broken_newborns:
        return False
    return any(_apart(score, score.p) and not _differs(score) for score in _scores(arm))


def _scores(arm: Arm) -> list[Score]:
    return [score for score in (arm.plasticity, arm.performance) if score is not None]
