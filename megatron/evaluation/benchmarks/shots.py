"""Which examples a prompt has."""

from __future__ import annotations

import random

import numpy as np

from megatron.config.benchmark_schema import BenchmarkConfig

# Of the published scripts of EMMA-500.
_PUBLISHED_SEED = 42
_PUBLISHED_RANGE = 1000


class ShotChoice:
    """Chooses the shots of every item of one language; a choice depends on nothing else that is asked.

    Args:
        benchmark: how many, and how they are chosen.
        language: corpus code.
        available: how many there are to choose from.
        seed: of the run.

    Raises:
        ValueError: there are too few.
    """

    def __init__(self, benchmark: BenchmarkConfig, language: str, *, available: int, seed: int) -> None:
        if available < benchmark.shots:
            raise ValueError(
                f"{benchmark.name} asks for {benchmark.shots} shots; "
                f"the {benchmark.shots_from} split of {language} has {available} records"
            )
        self._benchmark, self._language, self._available, self._seed = benchmark, language, available, seed
        self._published = random.Random(_PUBLISHED_SEED)
        self._seeds: list[int] = []

    def of(self, number: int, id: str) -> list[int]:
        """Return the places of the shots of one item, in their order.

        Args:
            number: place of the item in its split.
            id: its id.
        """
        shots, available = self._benchmark.shots, self._available
        if not shots:
            return []
        if self._benchmark.shot_choice == "seeded":
            name = f"{self._seed}:{self._benchmark.name}:{self._language}:{id}"
            return random.Random(name).sample(range(available), shots)
        while len(self._seeds) <= number:
            self._seeds.append(self._published.randint(0, _PUBLISHED_RANGE))
        seed = self._seeds[number]
        if self._benchmark.shot_choice == "published-sample":
            # What `DataFrame.sample(n=shots, random_state=seed)` of pandas does.
            chosen = np.random.RandomState(seed).choice(available, size=shots, replace=False)
            return [int(place) for place in chosen]
        generator = random.Random(seed)
        return [generator.randint(0, available - 1) for _ in range(shots)]
