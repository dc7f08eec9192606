"""Configurations of the homodyne and heterodyne programs: recognised, translated and accounted for key by key."""

from hpcxpcs.config.dialects.accept import from_old, warning
from hpcxpcs.config.dialects.recognise import DIALECTS, dialect_of
from hpcxpcs.config.dialects.rules import Fate, Record
from hpcxpcs.config.dialects.translate import TABLES, Translation

__all__ = [
    "DIALECTS",
    "TABLES",
    "Fate",
    "Record",
    "Translation",
    "dialect_of",
    "from_old",
    "warning",
]
