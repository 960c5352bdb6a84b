"""The model packages that come with volseg, by name."""

from difflib import get_close_matches
from pathlib import Path

from volseg.errors import PackageError

SUFFIX = ".volseg"

_FOLDER = Path(__file__).parent


def packages() -> dict[str, Path]:
    """The bundled packages: name to file, sorted by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob(f"*{SUFFIX}"))}


def find(name_or_path: str | Path) -> Path:
    """The file of a bundled model's name, or the path itself where it is one.

    Raises:
        PackageError: no bundled model of that name (the message suggests the nearest), or no such file.
    """
    path = Path(name_or_path)
    if path.suffix == SUFFIX or len(path.parts) > 1:
        if path.is_file():
            return path
        raise PackageError(f"{path}: there is no such model package file.")
    known = packages()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    near = get_close_matches(str(name_or_path), known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    listed = ", ".join(known) or "none"
    raise PackageError(
        f"no model called '{name_or_path}'.{hint} Bundled models: {listed}. A package of your own is given by its "
        f"path, such as ./mine{SUFFIX}."
    )
