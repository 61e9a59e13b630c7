from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron.config.corpus_schema import InputConfig, InstructionsConfig, ReadConfig
from megatron.corpus.document import Document
from megatron.corpus.reading.find import find_inputs
from megatron.corpus.reading.read import ReadCounts, read_input


@pytest.fixture
def read() -> Callable[..., tuple[list[Document], ReadCounts]]:
    """Return a function that reads all files of one input; keyword arguments are its settings and the policy's."""

    def run(path: Path, *, template: str = "plain", **settings: Any) -> tuple[list[Document], ReadCounts]:
        policy = ReadConfig(**{key: settings.pop(key) for key in list(settings) if key in ReadConfig.model_fields})
        config = InputConfig(path=str(path), **settings)
        counts, found = ReadCounts(), []
        for file in find_inputs([config]):
            instructions = InstructionsConfig(template=template)
            found += read_input(file, config, policy, counts=counts, instructions=instructions)
        return found, counts

    return run
