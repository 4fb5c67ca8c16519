"""What others route by, for comparison: each policy runs many repetitions at once, as arrays.

Every policy answers `choose(t)` with an arm for each repetition, and is told outcomes by `learn(arms,
rewards)`, late if the bench says so. Sources: SW-UCB is Garivier and Moulines (arXiv 0805.3415) with their
constants B = 1, xi = 0.6; the bucketed rule keeps a success rate over each arm's latest outcomes and sends a
fixed share elsewhere; the breaker opens below a success rate.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Arms = NDArray[np.int64]
Rewards = NDArray[np.float64]
Rng = np.random.Generator


class Policy(Protocol):
    def choose(self, t: int) -> Arms: ...

    def learn(self, arms: Arms, rewards: Rewards) -> None: ...


class Window:
    """Counts and successes of each arm among the latest `size` outcomes of each repetition."""

    def __init__(self, reps: int, arms: int, size: int) -> None:
        self._arm = np.zeros((size, reps), dtype=np.int64)
        self._reward = np.zeros((size, reps))
        self._seen = 0
        self._size = size
        self._rows = np.arange(reps)
        self.counts = np.zeros((reps, arms))
        self.successes = np.zeros((reps, arms))

    def add(self, arms: Arms, rewards: Rewards) -> None:
        slot = self._seen % self._size
        if self._seen >= self._size:
            self.counts[self._rows, self._arm[slot]] -= 1
            self.successes[self._rows, self._arm[slot]] -= self._reward[slot]
        self._arm[slot], self._reward[slot] = arms, rewards
        self.counts[self._rows, arms] += 1
        self.successes[self._rows, arms] += rewards
        self._seen += 1


class PriorityWithBreaker:
    """The first arm whose breaker is closed.

    It opens below 30 % among the latest 20, for 200 transactions.
    """

    def __init__(self, reps: int, arms: int, *, window: int = 20, low: float = 0.3, rest: int = 200) -> None:
        self._latest = np.ones((reps, arms, window))
        self._seen = np.zeros((reps, arms), dtype=np.int64)
        self._open_until = np.zeros((reps, arms), dtype=np.int64)
        self._rows = np.arange(reps)
        self._window, self._low, self._rest = window, low, rest
        self._t = 0

    def choose(self, t: int) -> Arms:
        self._t = t
        return np.asarray(np.argmax(self._open_until <= t, axis=1), dtype=np.int64)

    def learn(self, arms: Arms, rewards: Rewards) -> None:
        rows = self._rows
        self._latest[rows, arms, self._seen[rows, arms] % self._window] = rewards
        self._seen[rows, arms] += 1
        trips = self._latest[rows, arms].mean(axis=1) < self._low
        self._open_until[rows[trips], arms[trips]] = self._t + 1 + self._rest
        self._latest[rows[trips], arms[trips]] = 1.0


class SlidingWindowUcb:
    """The highest upper confidence bound over the latest outcomes."""

    def __init__(self, reps: int, arms: int, *, window: int = 200, xi: float = 0.6) -> None:
        self._window = Window(reps, arms, window)
        self._size, self._xi = window, xi

    def choose(self, t: int) -> Arms:
        counts = self._window.counts
        with np.errstate(divide="ignore", invalid="ignore"):
            bonus = np.sqrt(self._xi * np.log(min(t + 1, self._size)) / counts)
            index = np.where(counts > 0, self._window.successes / counts + bonus, np.inf)
        return np.asarray(np.argmax(index, axis=1), dtype=np.int64)

    def learn(self, arms: Arms, rewards: Rewards) -> None:
        self._window.add(arms, rewards)


class Bucketed:
    """The best success rate over each arm's latest `bucket` outcomes; a share of `hedge` goes anywhere."""

    def __init__(self, reps: int, arms: int, rng: Rng, *, bucket: int, hedge: float = 0.05) -> None:
        self._latest = np.ones((reps, arms, bucket))
        self._sums = np.full((reps, arms), float(bucket))
        self._seen = np.zeros((reps, arms), dtype=np.int64)
        self._rows = np.arange(reps)
        self._bucket, self._hedge, self._rng = bucket, hedge, rng

    def choose(self, t: int) -> Arms:
        reps, arms = self._sums.shape
        best = np.argmax(self._sums + self._rng.random((reps, arms)) * 1e-6, axis=1)
        anywhere = self._rng.integers(0, arms, reps)
        chosen: Arms = np.where(self._rng.random(reps) < self._hedge, anywhere, best)
        return chosen

    def learn(self, arms: Arms, rewards: Rewards) -> None:
        rows = self._rows
        slot = self._seen[rows, arms] % self._bucket
        self._sums[rows, arms] += rewards - self._latest[rows, arms, slot]
        self._latest[rows, arms, slot] = rewards
        self._seen[rows, arms] += 1


class DiscountedThompson:
    """Thompson sampling whose counts shrink by `keep` with every transaction."""

    def __init__(self, reps: int, arms: int, rng: Rng, *, keep: float) -> None:
        self._wins = np.zeros((reps, arms))
        self._losses = np.zeros((reps, arms))
        self._rows = np.arange(reps)
        self._keep, self._rng = keep, rng

    def choose(self, t: int) -> Arms:
        return np.asarray(np.argmax(self._rng.beta(self._wins + 1, self._losses + 1), axis=1), dtype=np.int64)

    def learn(self, arms: Arms, rewards: Rewards) -> None:
        self._wins *= self._keep
        self._losses *= self._keep
        self._wins[self._rows, arms] += rewards
        self._losses[self._rows, arms] += 1 - rewards


class SlidingWindowThompson:
    """Thompson sampling over the latest outcomes only."""

    def __init__(self, reps: int, arms: int, rng: Rng, *, window: int) -> None:
        self._window, self._rng = Window(reps, arms, window), rng

    def choose(self, t: int) -> Arms:
        wins = self._window.successes
        return np.asarray(
            np.argmax(self._rng.beta(wins + 1, self._window.counts - wins + 1), axis=1), dtype=np.int64
        )

    def learn(self, arms: Arms, rewards: Rewards) -> None:
        self._window.add(arms, rewards)
