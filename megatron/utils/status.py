"""What the exit status of a command means to whoever has started it."""

from __future__ import annotations

EXIT_MISTAKE = 2
"""The user's mistake, or the data's: another try would end the same way."""
EXIT_UNFINISHED = 75
"""Everything is saved and there is work left: start the same command again (``EX_TEMPFAIL`` of ``sysexits.h``)."""
