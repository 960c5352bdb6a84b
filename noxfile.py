"""`nox -s lint types tests wheel`: the checks of CI, each in its own virtual environment."""

from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True

PINNED = ("-c", "constraints.txt")
SAMPLE = Path("data_samples/mni152_t1_brain.nii.gz").resolve()


@nox.session
def lint(session: nox.Session) -> None:
    """Lint and formatting."""
    session.install(*PINNED, "ruff")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types."""
    session.install(*PINNED, "-e", ".[dev]")
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """The fast suite; arguments go to pytest."""
    session.install(*PINNED, "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """The built wheel, outside the checkout: the package must not need its source tree."""
    folder = Path(session.create_tmp()).resolve()
    session.run("pip", "wheel", "--no-deps", "--wheel-dir", str(folder), ".")
    (built,) = folder.glob("volseg-*.whl")
    session.install(*PINNED, str(built))
    session.chdir(folder)
    session.run("volseg", "predict", str(SAMPLE), "--output", str(folder / "seg.nii.gz"))
