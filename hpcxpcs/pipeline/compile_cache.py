"""The persistent cache of compiled code: private, and separate for every jaxlib and kind of processor."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from hpcxpcs.errors import OutputError
from hpcxpcs.runtime.machine import cache_folder


def compile_cache(setting: str | None) -> Path | None:
    """Point JAX at the cache folder of this machine (created with mode 0700); None switches the cache off.

    `setting` is runtime.compilation_cache_dir: 'auto', a folder, or None.
    """
    import jax

    if setting is None:
        jax.config.update("jax_compilation_cache_dir", None)
        return None
    base = cache_folder() / "compiled" if setting == "auto" else Path(setting).expanduser()
    folder = base / machine_key()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(
            f"runtime.compilation_cache_dir: {folder} cannot be created ({error.strerror}); "
            "name another folder, or null to do without"
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder


def machine_key(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the cache for this jaxlib and this processor's instruction set: code for one may crash another."""
    import jaxlib

    flags = ""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("flags", "Features", "model name")):
                flags += line
                if line.startswith(("flags", "Features")):
                    break
    digest = hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]
    return f"jaxlib-{jaxlib.__version__}-{digest}"
