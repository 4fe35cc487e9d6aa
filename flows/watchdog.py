"""Run a command for as long as whoever started this lives: `python -m rnnforecast.flows.watchdog COMMAND ...`.

Standard input is the lifeline: when it closes, because its other end was closed or was killed, the command and
everything that it started end too. So no server outlives the command that needed it, not even after a SIGKILL.
"""

import os
import signal
import subprocess
import sys
import threading
from typing import Final

GRACE_SECONDS: Final = 5.0


def main(command: list[str]) -> int:
    """Run `command` in a process group of its own; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a Ctrl-C is for whoever started us, who then closes the lifeline
        signal.signal(number, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_hear_signals)
    threading.Thread(target=_end_with_lifeline, args=(child,), daemon=True).start()
    return child.wait()


def _hear_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _end_with_lifeline(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1):  # not sys.stdin: a thread that waits in its buffer makes the interpreter's end a crash
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
