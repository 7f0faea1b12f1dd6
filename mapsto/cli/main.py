"""`mapsto VERB …`: read the words, run the verb, and end every fault in one line and an exit code.

0 done · 2 something to put right · 75 stopped, run again to resume · 130 interrupted · 141 nobody reads the output ·
1 a fault of Mapsto's own. `MAPSTO_TRACEBACK=1` shows where an error came from.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import version

from mapsto.cli import parser, show
from mapsto.core.errors import MapstoError


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code."""
    words = list(sys.argv[1:] if words is None else words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # odd text in the data must not end a run
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # other people's deprecations are not our users' concern
    try:
        code = _answer(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's last flush is quiet
        return 141
    except KeyboardInterrupt:
        return _fault("interrupted", 130, words)
    except MapstoError as fault:
        return _fault(str(fault), fault.exit_code, words)
    except Exception as fault:
        what = f"{type(fault).__name__}: {fault}".rstrip(": ")
        return _fault(f"{what} (a fault of mapsto's own; MAPSTO_TRACEBACK=1 shows where)", 1, words)


def _answer(words: Sequence[str]) -> int:
    try:
        request = parser.read(words)
    except SystemExit as left:  # --help
        return int(left.code or 0)
    if request.version:
        print(f"mapsto {version('mapsto')}")
    elif request.verb is None:
        parser.build()[0].print_help()
    else:
        from mapsto.cli import verbs

        return verbs.VERBS[request.verb](request)
    return 0


def _fault(message: str, code: int, words: Sequence[str]) -> int:
    if os.environ.get("MAPSTO_TRACEBACK"):
        traceback.print_exc()
    line = show.one_line(message)
    if "--json" in words:
        show.document({"error": line, "code": code})
    print(f"mapsto: error: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
