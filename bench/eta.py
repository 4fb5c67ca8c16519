"""`make bench-eta`: how often it is over by the time that an estimate gives.

Histories of incidents of several shapes, drawn by seed, in the order of time. At moments of each incident
(at once, and after a quarter, half and twice the usual time, while it goes on) an estimate is made from what
was known then: earlier incidents, those that still go on, and how earlier estimates did. The first third of
each history is for learning and not counted.

Ratios: `coverage_80_SHAPE`, how often it was over by the time given with 80 %. Beside it the same for what
others publish: the mean minus what has passed, and a constant (the 80 % quantile of all past durations).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bench.report import report
from holdfast.status.estimate.remaining import chance_of, estimate
from holdfast.status.estimate.survival import Past

SEED: Final = 20_261_127
COMPONENTS: Final = ("north", "south", "harbour", "ledger", "qr")
CAUSES: Final = ("technical", "technical", "technical", "security", "regulatory")
MOMENTS: Final = (0.0, 0.25, 0.5, 1.0, 2.0)
"""When estimates are made, in medians of all durations."""

Shape = Callable[[np.random.Generator, int, int, int], float]
"""Draws a duration in minutes, of the incident `number` of `count`, of a component."""


def _lognormal(draw: np.random.Generator, component: int, _number: int, _count: int) -> float:
    return float(np.exp(np.log(20 + 15 * component) + 1.0 * draw.normal()))


def _weibull(draw: np.random.Generator, component: int, _number: int, _count: int) -> float:
    return float((30 + 10 * component) * draw.weibull(1.8))


def _pareto(draw: np.random.Generator, component: int, _number: int, _count: int) -> float:
    return float((5 + 5 * component) * (1 + draw.pareto(1.3)))


def _two_kinds(draw: np.random.Generator, component: int, _number: int, _count: int) -> float:
    restart = draw.random() < 0.7
    return float(np.exp(np.log(6 if restart else 180 + 20 * component) + 0.4 * draw.normal()))


def _drifting(draw: np.random.Generator, component: int, number: int, count: int) -> float:
    better = 1.0 - 0.6 * number / count
    return float(np.exp(np.log((30 + 20 * component) * better) + 0.9 * draw.normal()))


SHAPES: Final[dict[str, Shape]] = {
    "lognormal": _lognormal,
    "weibull": _weibull,
    "pareto": _pareto,
    "two_kinds": _two_kinds,
    "drifting": _drifting,
}


@dataclass(slots=True)
class _Score:
    """How often it was over in time, and how far off the middle was."""

    half: list[bool] = field(default_factory=list)
    most: list[bool] = field(default_factory=list)
    late: list[bool] = field(default_factory=list)
    naive: list[bool] = field(default_factory=list)
    constant: list[bool] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)


def _history(shape: Shape, count: int, seed: int) -> list[Past]:
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        component = int(draw.integers(len(COMPONENTS)))
        minutes = min(60 * 24 * 20, shape(draw, component, number, count))
        made.append(Past(minutes * 60, True, COMPONENTS[component], CAUSES[component]))
    return made


def _back(shape: Shape, count: int, seed: int) -> _Score:
    history, score = _history(shape, count, seed), _Score()
    kept: list[float] = []
    for number, one in enumerate(history):
        past = history[:number]
        usual_s = statistics.median([each.duration_s for each in past]) if past else 2_700.0
        told: list[float] = []
        for moment in MOMENTS:
            elapsed_s = moment * usual_s
            if elapsed_s >= one.duration_s:
                break
            real_s = one.duration_s - elapsed_s
            made = estimate(past, one.component, one.cause, elapsed_s, kept)
            told.append(chance_of(made, real_s))
            if number < count // 3:
                continue
            durations = [each.duration_s for each in past]
            score.half.append(real_s <= made.half_s)
            score.most.append(real_s <= made.most_s)
            if moment >= 1.0:
                score.late.append(real_s <= made.most_s)
            score.naive.append(real_s <= statistics.fmean(durations) - elapsed_s)
            score.constant.append(real_s <= float(np.quantile(durations, 0.8)))
            score.errors.append(abs(made.half_s - real_s) / real_s)
        kept += told
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--incidents", type=int, default=300, help="of each history")
    parser.add_argument("--histories", type=int, default=6, help="of each shape")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--quick", action="store_true", help="only prove that it works")
    options = parser.parse_args()
    count, histories = (90, 2) if options.quick else (options.incidents, options.histories)
    rows: list[tuple[str, ...]] = [
        (
            "durations",
            "80 % held",
            "… when late",
            "50 % held",
            "mean - elapsed",
            "constant",
            "error of the middle",
        )
    ]
    ratios: dict[str, float] = {}
    for place, (name, shape) in enumerate(SHAPES.items()):
        all_ = _Score()
        for number in range(histories):
            one = _back(shape, count, options.seed + 100 * place + number)
            for part in ("half", "most", "late", "naive", "constant", "errors"):
                getattr(all_, part).extend(getattr(one, part))
        share = {
            part: statistics.fmean(getattr(all_, part))
            for part in ("half", "most", "late", "naive", "constant")
        }
        ratios[f"coverage_80_{name}"] = share["most"]
        ratios[f"coverage_80_late_{name}"] = share["late"]
        ratios[f"coverage_50_{name}"] = share["half"]
        rows.append(
            (
                name,
                *(f"{share[part] * 100:.1f} %" for part in ("most", "late", "half", "naive", "constant")),
                f"{statistics.median(all_.errors):.2f}",
            )
        )
    report(
        "eta",
        ratios=ratios,
        figures={"incidents": count * histories},
        table=rows,
        notes=[
            "Each estimate knew only what had happened before it.",
            "Late: after the median of all or later.",
        ],
    )


if __name__ == "__main__":
    main()
