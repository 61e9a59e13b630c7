"""A small real tokenizer."""

from __future__ import annotations

from tests.unit.tokenizer.conftest import sp_model

__all__ = ["sp_model"]
