"""Files of ``torch.save``, read without running anything that they ask for."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from megatron.checkpoint.convert.source import ConversionError


class Nothing:
    """Stands for objects of classes that are not known here: optimizers, arguments, states of random numbers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Take an item of what was a list."""

    def extend(self, items: Any) -> None:
        """Take items of what was a list."""


@contextmanager
def _nothing_allowed() -> Iterator[None]:
    """Forget for a while what other libraries have told PyTorch to trust, as megatron.core does when it is imported."""
    trusted = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.add_safe_globals(trusted)


def read_pickled(path: Path, keep: Mapping[str, type] = MappingProxyType({})) -> dict[str, Any]:
    """Read a dictionary that ``torch.save`` wrote. Its tensors stay in the file until they are used.

    Only tensors and plain values are read, by PyTorch's ``weights_only``. Objects of other classes become objects
    that hold nothing; functions of the operating system are refused.

    Args:
        path: the file.
        keep: classes by their full names whose objects are read as they are: only such as do nothing when made.

    Raises:
        ConversionError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [record.filename for record in archive.infolist() if record.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ConversionError(
            f"{path} is no whole file that torch.save has written (PyTorch 1.6 or later): {error}"
        ) from None
    if packed:
        # A few bytes could unfold to any number. PyTorch never packs.
        raise ConversionError(f"{path} is not read: {packed[0]} in it is packed, which torch.save never does")
    try:
        with _nothing_allowed():
            unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            with torch.serialization.safe_globals([(keep.get(name, Nothing), name) for name in unknown]):
                found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise ConversionError(
            f"{path} is not read: it asks for code to be run, or is pickled in another way than torch.save's own"
        ) from None
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ConversionError(
            f"{path} is no whole file that torch.save has written (PyTorch 1.6 or later): {reason}"
        ) from None
    if not isinstance(found, dict):
        raise ConversionError(f"{path} holds a {type(found).__name__}, not a dictionary of tensors")
    return found
