"""The command as a whole: help, versions, how errors reach the user, exit codes."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import volseg.zoo
from volseg.cli.app import app

VERBS = (
    "predict",
    "inspect",
    "convert",
    "check",
    "plan",
    "pretrain",
    "train",
    "evaluate",
    "info",
    "models",
    "doctor",
)
HEAVY = {
    "torch",
    "monai",
    "numpy",
    "scipy",
    "nibabel",
    "SimpleITK",
    "pydantic",
    "matplotlib",
    "rich",
    "pydicom",
}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_loads_nothing_heavy():
    code = "import sys; from volseg.cli.app import run; run(['--help']); print('LOADED', *sys.modules)"
    result = run_python(code)
    text, _, loaded = result.stdout.partition("LOADED")
    assert all(verb in text for verb in VERBS)
    assert HEAVY.isdisjoint({name.split(".")[0] for name in loaded.split()})


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(volseg_cli, verb):
    outcome = volseg_cli(verb, "--help")
    assert outcome.code == 0
    assert f"volseg {verb}" in outcome.out


def test_every_verb_is_known():
    assert tuple(command.callback.__name__ for command in app.registered_commands) == VERBS


def test_no_arguments_show_the_help(volseg_cli):
    outcome = volseg_cli()
    assert outcome.code in {0, 2}  # typer changed its mind about this one
    assert "predict" in outcome.out + outcome.err


def test_version(volseg_cli):
    try:
        installed = version("volseg")
    except PackageNotFoundError:
        pytest.skip("volseg is not installed")
    assert volseg_cli("--version").out == f"volseg {installed}\n"


def test_python_dash_m():
    result = subprocess.run(
        [sys.executable, "-m", "volseg", "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "Usage: volseg" in result.stdout


@pytest.mark.parametrize("arguments", [("--debug", "info", "nobody"), ("info", "nobody", "--debug")])
def test_debug_shows_the_traceback_of_a_refusal(volseg_cli, arguments):
    outcome = volseg_cli(*arguments)
    assert outcome.code == 2
    assert "Traceback" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("volseg: no model called 'nobody'")


def test_a_file_may_be_called_debug(volseg_cli):
    outcome = volseg_cli("info", "--", "--debug")
    assert outcome.err.startswith("volseg: no model called '--debug'")


@pytest.fixture
def break_info(monkeypatch):
    def with_error(error: BaseException) -> None:
        def find(_: object) -> None:
            raise error

        monkeypatch.setattr(volseg.zoo, "find", find)

    return with_error


def test_a_mistake_of_volseg_is_exit_code_1(volseg_cli, break_info):
    break_info(ZeroDivisionError("division by zero"))
    outcome = volseg_cli("info", "hippocampus")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "ZeroDivisionError: division by zero" in outcome.err
    assert "volseg doctor" in outcome.err
    assert "Traceback" in volseg_cli("info", "hippocampus", "--debug").err


def test_a_stray_end_of_file_is_no_success(volseg_cli, break_info):
    break_info(EOFError())
    assert volseg_cli("info", "hippocampus").code == 1


def test_interrupted(volseg_cli, break_info):
    break_info(KeyboardInterrupt())
    outcome = volseg_cli("info", "hippocampus")
    assert outcome.code == 130
    assert "Traceback" not in outcome.err


def test_exit_code_of_the_process():
    code = "import sys; sys.argv[1:] = ['info', 'nobody']; from volseg.cli import main; main()"
    result = run_python(code)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("volseg: no model called 'nobody'")
    assert result.stderr.count("\n") == 1
