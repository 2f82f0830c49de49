"""The command line: `lrtl VERB`, the same as `python -m lrtl_utils VERB`."""

import os
import sys
import tempfile
import warnings
from functools import cache

import typer

from lrtl_utils.cli import data, export, run, study, sweep
from lrtl_utils.cli.common import fail
from lrtl_utils.config import RunConfig
from lrtl_utils.errors import InputError, printable

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fine-tune pre-trained models on small labelled data sets, and compare them by accuracy and cost.",
)
GROUPS = {
    "One run": (run.run, run.predict),
    "Many runs": (sweep.sweep, sweep.search, sweep.status),
    "What the runs say": (study.compare, study.summary, study.report, study.figures, study.confirm),
    "To other programs": (export.export, export.push),
    "Data, models and records": (data.doctor, data.suggest, data.fetch, data.verify),
}
ABOUT = "\n\n".join(f"{name}: {field.description}." for name, field in RunConfig.model_fields.items())
for title, verbs in GROUPS.items():
    for verb in verbs:
        epilog = f"Parameters:\n\n{ABOUT}" if verb is run.run else None
        app.command(rich_help_panel=title, epilog=epilog)(verb)
app.command(hidden=True)(sweep.work)


def main() -> None:
    """Run the command line; a mistake of the user's is one sentence on stderr and exit status 2."""
    warn = cache(lambda said: print(said, file=sys.stderr))  # many runs read the same data; a kernel has its own stderr
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal may lack a letter of a name
    warnings.showwarning = lambda message, *_args, **_options: warn(printable(f"warning: {message}"))
    try:
        # Kernels and workers are reached by sockets below it, whose whole path has at most 107 bytes.
        if len(os.fsencode(tempfile.gettempdir())) > 60 and os.access("/tmp", os.W_OK):
            os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"
        app(prog_name="lrtl")
    except InputError as error:
        fail(str(error), code=2)
    except OSError as error:  # the disk is full, say
        fail(f"{error.filename or 'The system reports'}: {error.strerror or error}.", code=1)
    except (MemoryError, RuntimeError) as error:  # of torch, where another program fills the card, say
        from lrtl_utils.runs.notebook import OUT_OF_MEMORY, explain

        loop = sys.modules.get("lrtl_utils.methods.loop")
        if loop and isinstance(error, loop.Interrupted):  # by SIGTERM, while an estimate was timed
            fail("Interrupted.", code=143)
        if not (said := explain(type(error).__name__, str(error))).startswith(OUT_OF_MEMORY):
            raise
        fail(said, code=1)
