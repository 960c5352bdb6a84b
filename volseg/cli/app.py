"""The `volseg` command: the verbs, and how an error reaches the user.

Importing this file must stay cheap (`volseg --help` answers at once): a verb imports what it needs when it runs.
"""

import io
import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from volseg.cli.check import check
from volseg.cli.convert import convert
from volseg.cli.doctor import doctor
from volseg.cli.evaluate import evaluate
from volseg.cli.info import info
from volseg.cli.inspect import inspect
from volseg.cli.models import models
from volseg.cli.pacs import pacs_app
from volseg.cli.plan import plan
from volseg.cli.predict import predict
from volseg.cli.pretrain import pretrain
from volseg.cli.train import train
from volseg.errors import VolsegError

app = typer.Typer(
    name="volseg",
    help="CT and MR scans in, label maps out. Research software; not a medical device.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (predict, inspect, convert, check, plan, pretrain, train, evaluate, info, models, doctor):
    app.command()(verb)
app.add_typer(pacs_app)


def _print_version(requested: bool) -> None:
    if requested:
        import volseg

        print(f"volseg {volseg.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """CT and MR scans in, label maps out. Research software; not a medical device."""


def main() -> None:
    """Entry point of the `volseg` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code.

    0: done. 1: a mistake of volseg. 2: something the user can act on, told in one paragraph. 130: interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a file name or label the terminal cannot show must not stop a run
            stream.reconfigure(errors="backslashreplace")
    arguments, debug = _take_debug(arguments)
    handler = _PlainLines()
    logger = logging.getLogger("volseg")
    logger.addHandler(handler)
    try:
        typer.main.get_command(app).main(args=arguments, prog_name="volseg")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return 130
    except VolsegError as error:
        if debug:
            traceback.print_exc()
        print(f"volseg: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # noqa: BLE001 - the outermost line of defence: whatever is left is a mistake of volseg
        _print_mistake(error, debug=debug)
        return 1
    finally:
        logger.removeHandler(handler)
    return 0


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """`--debug` counts before and after the verb, up to a `--`."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def _print_mistake(error: Exception, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(
        f"volseg: unexpected {type(error).__name__}: {error}. This should not happen; please report it with the output "
        "of `volseg doctor` and of this command with --debug.",
        file=sys.stderr,
    )


class _PlainLines(logging.Handler):
    """Warnings of the library as plain lines on the current stderr."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        print(f"volseg: {record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)
