"""Runs a drill in simulated mode.

Draws the world, sends it through Holdfast and the baselines, audits, and judges.

Holdfast runs in this process; the oracle and the baselines run beside it in a process of their own, from the
same scenario and seed. Nothing is sampled, and nothing in the result depends on how fast the machine is.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

from holdfast.drills import judge
from holdfast.drills.auditor import Audit, audit
from holdfast.drills.baselines import NAMES, PolicyRun, run_baseline
from holdfast.drills.draw import NEVER, Draw
from holdfast.drills.oracle import completable
from holdfast.drills.scenario import Scenario
from holdfast.drills.world import HoldfastRun, not_collecting, run_holdfast

Progress = Callable[[str, float], None]
"""Told what is being done (`holdfast`, `oracle`, or a baseline) and the share of it that is over."""
Figures = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the other process works out."""

    possible: list[bool]
    baselines: tuple[PolicyRun, ...]


def drill(
    scenario: Scenario,
    *,
    seed: int | None = None,
    progress: Progress = lambda _what, _share: None,
    beside: bool = True,
) -> Figures:
    """Run the drill and return its report, as documented in `docs/reference/drills.md`.

    The same scenario and seed give the same report, key for key. `beside=False` keeps everything in this
    process.
    """
    chosen = scenario.seed if seed is None else seed
    draw = Draw(scenario, chosen)
    if not beside:
        other = work_beside(scenario, chosen)
        run = run_holdfast(draw, lambda share: progress("holdfast", share))
        return report(draw, run, other.possible, other.baselines)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        waiting: Future[_Beside] = pool.submit(work_beside, scenario, chosen)
        run = run_holdfast(draw, lambda share: progress("holdfast", share))
        progress("baselines", 0.0)
        other = waiting.result()
        progress("baselines", 1.0)
    return report(draw, run, other.possible, other.baselines)


def work_beside(scenario: Scenario, seed: int) -> _Beside:
    """Return the oracle's word and the baselines' runs."""
    with not_collecting():
        draw = Draw(scenario, seed)
        return _Beside(completable(draw), tuple(run_baseline(name, draw) for name in NAMES))


def report(draw: Draw, run: HoldfastRun, possible: list[bool], baselines: tuple[PolicyRun, ...]) -> Figures:
    """Return the drill's figures: the stable keys first, then what the pictures are drawn from."""
    scenario = draw.scenario
    audited = audit(run, draw)
    done = run.done_s
    in_time = judge.in_time(done, draw)
    succeeded = sum(end < NEVER for end in done)
    ended_s = None if run.ended_s == NEVER else max(0.0, run.ended_s - judge.last_fault_end_s(draw))
    figures: Figures = {
        "scenario": scenario.name,
        "mode": "simulated",
        "seed": draw.seed,
        "continuity": round(judge.continuity(done, draw, possible), 6),
        "attempted": len(draw.arrive_s),
        "completed_in_deadline": in_time,
        "completed_later": succeeded - in_time,
        "oracle_completable": sum(possible),
        "declined": len(done) - succeeded - audited.in_doubt,
        "in_doubt": audited.in_doubt,
        "double_charges_kept": audited.double_charges_kept,
        "money_lost_minor": audited.money_lost_minor,
        "asset": scenario.asset,
        "books_balanced": audited.books_balanced,
        "announced_twice": audited.announced_twice,
        "detect_s": judge.detected_s(draw, run.seen),
        "moved_s": judge.moved_s(draw, run.tries),
        "recover_s": judge.recovered_s(draw, done, possible),
        "backlog_s": None if ended_s is None else round(ended_s, 3),
        "baselines": {one.name: judge.judge_baseline(one, draw, possible) for one in baselines},
        "waits_ms": judge.percentiles_ms(
            [end - at for end, at in zip(done, draw.arrive_s, strict=True) if end < NEVER]
        ),
        "findings": list(audited.findings),
        "passed": passed(audited, judge.continuity(done, draw, possible)),
    }
    figures["about"] = _about(scenario)
    figures["timeline"] = _timeline(draw, run, possible, baselines)
    return figures


def passed(audited: Audit, reached: float) -> bool:
    """Return whether the drill reached the bars.

    Continuity 0.99, no double charge, no money lost, books balanced.
    """
    clean = audited.double_charges_kept == 0 and audited.money_lost_minor == 0 and audited.books_balanced
    return reached >= judge.RECOVERED and clean and audited.announced_twice == 0


def _about(scenario: Scenario) -> Figures:
    """Return what a reader of the report alone needs to know of the scenario."""
    return {
        "title": scenario.title,
        "title_zh": scenario.title_zh,
        "source": scenario.source,
        "cause": scenario.cause,
        "story": scenario.story,
        "story_zh": scenario.story_zh,
        "duration_s": scenario.duration_s,
        "deadline_s": scenario.deadline_s,
        "rails": [rail.name for rail in scenario.rails],
        "faults": [
            {"target": f.target, "kind": f.kind.value, "share": f.share, "from_s": f.from_s, "to_s": f.to_s}
            for f in scenario.faults
        ],
    }


def _timeline(
    draw: Draw, run: HoldfastRun, possible: list[bool], baselines: tuple[PolicyRun, ...]
) -> Figures:
    """Return counts per step of `step_s` seconds, by the moment at which payments came."""
    could = [at for at, yes in zip(draw.arrive_s, possible, strict=True) if yes]
    completed = {"holdfast": judge.completed_per_step(run.done_s, draw)}
    completed |= {one.name: judge.completed_per_step(one.done_s, draw) for one in baselines}
    tries = {
        name: judge.per_step([one.at_s for one in run.tries if one.rail == name], draw) for name in run.rails
    }
    return {
        "step_s": judge.STEP_S,
        "came": judge.per_step(draw.arrive_s, draw),
        "possible": judge.per_step(could, draw),
        "completed": completed,
        "first_tries": tries,
        "waiting": run.in_doubt[:: judge.STEP_S],
    }
