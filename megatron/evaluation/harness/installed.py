"""lm-evaluation-harness, which is optional."""

from __future__ import annotations

import importlib
from typing import Any

VERSION = "0.4.13"
"""The version of lm_eval that this is made for; another one may have other prompts."""


class HarnessError(ValueError):
    """lm-evaluation-harness, or the data that it is to work on, cannot be used as asked."""


def lm_eval(module: str) -> Any:
    """Return a module of lm_eval, by its name inside the package.

    Raises:
        HarnessError: it is not installed.
    """
    try:
        return importlib.import_module(f"lm_eval.{module}")
    except ImportError as error:
        raise HarnessError(
            f"this needs lm-evaluation-harness, which cannot be imported ({error}): pip install lm_eval=={VERSION}"
        ) from None
