"""Where descriptions of sites are, and which one describes the machine that this process runs on."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hpcxpcs.config.document import Document, Kind, read_document
from hpcxpcs.config.explain import explained
from hpcxpcs.config.problems import KeyPath, Problem, config_error, suggestion
from hpcxpcs.config.site import Site, site_problems
from hpcxpcs.errors import ConfigError

SITE_VARIABLE = "HPCXPCS_SITE"
SUFFIXES = (".yaml", ".yml")
GENERIC = (("sbatch", "generic-slurm"), ("qsub", "generic-pbs"))
"""Which site is meant where nothing is known but that this program is there."""
NO_SCHEDULER = "laptop"

_A_SITE = Kind("scheduler", "`extends: generic-slurm` is a beginning; site_configs/README.md lists the keys")
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class ChosenSite:
    """A site, and in words why it was chosen."""

    site: Site
    why: str


def shipped_folder() -> Path:
    """The folder of the sites that come with the program: inside an installed package, beside that of a clone."""
    inside = _PACKAGE / "site_configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "site_configs"


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the user's own sites: $XDG_CONFIG_HOME/hpcxpcs/sites, by default below ~/.config."""
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "hpcxpcs" / "sites"


def site_files(environ: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """The file of each site by name, the user's own first; they hide shipped ones of the same name."""
    found: dict[str, Path] = {}
    for folder in (user_folder(environ), shipped_folder()):
        for path in sorted(folder.glob("*")):
            if path.suffix in SUFFIXES:
                found.setdefault(path.stem, path)
    return found


def load_site(name_or_path: str | Path, environ: Mapping[str, str] = os.environ) -> Site:
    """The site of this name, or in this file; ConfigError says what is wrong, or which sites there are."""
    path = _file_of(str(name_or_path), environ)
    layers = _layers(path, environ)
    data: Any = {}
    for layer in reversed(layers):
        data = _merged(data, layer.data)
    problems: list[Problem] = []
    try:
        site = Site.model_validate(data)
        problems += site_problems(site)
    except ValidationError as error:
        problems += [explained(detail, data, Site) for detail in error.errors(include_url=False)]
    if problems:
        raise config_error(problems, lambda key: _place(layers, key), str(path))
    return site.located(path.stem, path)


def find_site(
    given: str | None = None,
    environ: Mapping[str, str] = os.environ,
    hostnames: Sequence[str] | None = None,
    program: Callable[[str], str | None] = shutil.which,
) -> ChosenSite:
    """The site to use: the one `given`, that of $HPCXPCS_SITE, a recognised one, a generic one, else a laptop.

    `hostnames` are the names of this machine, by default those that it gives itself.
    """
    if given:
        return ChosenSite(load_site(given, environ), "asked for by --site")
    if named := environ.get(SITE_VARIABLE):
        try:
            return ChosenSite(load_site(named, environ), f"asked for by {SITE_VARIABLE}={named}")
        except ConfigError as error:
            raise ConfigError(f"{SITE_VARIABLE}={named}: {error}") from None
    sites = [load_site(path, environ) for path in site_files(environ).values()]
    if (chosen := _by_environment(sites, environ) or _by_hostname(sites, hostnames)) is not None:
        return chosen
    for name, site in GENERIC:
        if program(name):
            return ChosenSite(
                load_site(site, environ), f"{name} is on PATH, and the machine is not recognised"
            )
    return ChosenSite(load_site(NO_SCHEDULER, environ), "no program of a scheduler is on PATH")


def _by_environment(sites: Sequence[Site], environ: Mapping[str, str]) -> ChosenSite | None:
    """The first site that names variables and all of whose variables have their values."""
    for site in sites:
        if site.environment and all(environ.get(name) == value for name, value in site.environment.items()):
            why = ", ".join(f"{name}={value}" for name, value in site.environment.items())
            return ChosenSite(site, f"recognised by {why}")
    return None


def _by_hostname(sites: Sequence[Site], hostnames: Sequence[str] | None) -> ChosenSite | None:
    """The first site with a pattern that a name of this machine matches."""
    for hostname in _own_names() if hostnames is None else hostnames:
        for site in sites:
            for pattern in site.hostnames:
                if re.fullmatch(pattern, hostname):
                    return ChosenSite(site, f"recognised by the host name {hostname} ({pattern})")
    return None


def _own_names() -> Iterator[str]:
    """The short name first: the full one may take a question to a name server."""
    yield socket.gethostname()
    yield socket.getfqdn()


def _file_of(text: str, environ: Mapping[str, str], base: Path | None = None) -> Path:
    """The file that a name or a path means; a relative path starts at `base`."""
    if "/" in text or text.endswith(SUFFIXES):
        path = (base or Path.cwd()) / Path(text).expanduser()
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such site file")
        return path
    files = site_files(environ)
    if text not in files:
        hint = suggestion(text, files) or f"; there are: {', '.join(sorted(files))}."
        raise ConfigError(
            f"there is no site '{text}'{hint} `hpcxpcs config sites` lists them; your own go to "
            f"{user_folder(environ)}"
        )
    return files[text]


def _layers(path: Path, environ: Mapping[str, str]) -> list[Document]:
    """The description in a file, the one it extends, and so on."""
    layers: list[Document] = []
    files: list[Path] = []
    following: Path | None = path
    while following is not None:
        if following in files:
            chain = " extends ".join(map(str, [*files, following]))
            raise ConfigError(f"{path}: a site cannot extend itself: {chain}")
        files.append(following)
        layers.append(read_document(following, _A_SITE))
        following = _extended(layers[-1], following, environ)
    return layers


def _extended(layer: Document, path: Path, environ: Mapping[str, str]) -> Path | None:
    """The file that a layer extends; one that has the name of a shipped site extends the shipped one."""
    base = layer.data.get("extends")
    if base is None:
        return None
    place = layer.place(("extends",))
    if not isinstance(base, str):
        raise ConfigError(f"{place}extends: must be the name or the file of a site")
    shipped = [shipped_folder() / f"{base}{suffix}" for suffix in SUFFIXES]
    if base == path.stem and path not in shipped and (there := [file for file in shipped if file.is_file()]):
        return there[0]
    try:
        return _file_of(base, environ, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{place}extends: {error}") from None


def _merged(base: Any, changes: Any) -> Any:
    """Sections merged key by key, anything else replaced; null takes away what the base has."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    together = {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}
    return {key: value for key, value in together.items() if value is not None or key not in base}


def _place(layers: Sequence[Document], path: KeyPath) -> str:
    """File and line of a key, or of the nearest one above it, in the first layer that has it."""
    for length in range(len(path), 0, -1):
        for layer in layers:
            if path[:length] in layer.lines:
                return layer.place(path[:length])
    return layers[0].place(())
