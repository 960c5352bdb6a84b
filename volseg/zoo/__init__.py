"""The model packages that come with volseg, by name; and those of one's own, by path."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from volseg.errors import PackageError

SUFFIX = ".volseg"

_FOLDER = Path(__file__).parent


def packages() -> dict[str, Path]:
    """The bundled packages: name to file, sorted by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob(f"*{SUFFIX}"))}


def find_all(models: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of one model or of several, in order: each a bundled model's name, a package, or a run folder.

    A run folder stands for the packages of its folds, `fold0/NAME.volseg`, `fold1/NAME.volseg` and so on; where it has none,
    for that of all cases, `foldall/NAME.volseg`, or for the one package in it.

    Raises:
        PackageError: no model is given, no such model, or a folder without packages or with packages of several names.
    """
    each = [models] if isinstance(models, (str, Path)) else models
    if not each:
        raise PackageError("no model is given; give the name of a bundled model or the path of a package.")
    return [
        path for model in each for path in ([find(model)] if not _is_folder(model) else _in_folder(model))
    ]


def _is_folder(model: str | Path) -> bool:
    return str(model) != "" and Path(model).is_dir() and str(model) not in packages()


def _in_folder(folder: str | Path) -> list[Path]:
    patterns = f"fold[0-9]*/*{SUFFIX}", f"foldall/*{SUFFIX}", f"*{SUFFIX}"
    found = next(filter(None, (sorted(Path(folder).glob(pattern)) for pattern in patterns)), [])
    names = sorted({path.name for path in found})
    if not found:
        raise PackageError(
            f"{folder}: there is no model package in this folder; expected the folds of a training (fold0/NAME{SUFFIX}, "
            f"fold1/NAME{SUFFIX}, ...) or one package."
        )
    if len(names) > 1:
        raise PackageError(
            f"{folder}: the folder holds packages of several names, of which one is wanted: {', '.join(names)}. Give the "
            "package files themselves, once for each."
        )
    return found


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
