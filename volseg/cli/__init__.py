"""The command line: one file per verb, each parses, makes one call and prints. The only prints of volseg are here."""

from volseg.cli.app import main

__all__ = ["main"]
