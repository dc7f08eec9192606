"""Prepared matrices kept on disk: named by the stored bytes they come from and by all that was done to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs.data.twotime import AngleMatrix
from hpcxpcs.files.array_store import ArrayStore


@cache
def code_version() -> str:
    """Return a hash of all code of this package: a change in any module may change what a prepared matrix is."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@dataclass
class KeptMatrices:
    """A store of prepared matrices; `tell` hears once when there is no room for more."""

    store: ArrayStore
    tell: Callable[[str], None] = lambda text: None
    _full: bool = field(default=False, init=False)

    def key(self, stored: str, settings: Mapping[str, Any]) -> str:
        """Return the name of what is made with some settings (JSON) from bytes with a hash."""
        text = json.dumps([code_version(), stored, dict(settings)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, key: str) -> AngleMatrix | None:
        """Return a kept matrix, exactly as it was made; None when it has to be made."""
        found = self.store.get(key)
        if found is None:
            return None
        arrays, values = found
        sigma = arrays.get("sigma")
        if sigma is not None and sigma.ndim == 0:
            sigma = np.broadcast_to(sigma, arrays["c2"].shape)
        return AngleMatrix(
            arrays["c2"], arrays["frame_ok"], arrays.get("pair_ok"), sigma, tuple(values["notes"])
        )

    def keep(self, key: str, matrix: AngleMatrix, about: Mapping[str, Any]) -> None:
        """Keep a matrix; `about` (JSON) tells people where it comes from. Without room this does nothing."""
        arrays: dict[str, Any] = {"c2": matrix.c2, "frame_ok": matrix.frame_ok}
        if matrix.pair_ok is not None:
            arrays["pair_ok"] = matrix.pair_ok
        if matrix.sigma is not None:
            arrays["sigma"] = matrix.sigma if any(matrix.sigma.strides) else np.array(matrix.sigma[0, 0])
        if self._full:
            return
        if not self.store.put(key, arrays, {"notes": list(matrix.notes), **about}):
            self._full = True
            self.tell(
                f"{self.store.folder}: no room for prepared matrices; they are made anew in every pass "
                "(runtime.data_cache names another folder, runtime.data_cache_limit its size)"
            )
