"""Completion for bash, zsh and fish: the scripts to load, and the words that they ask for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import wait

from mnclient.shell.complete import Candidate, Need, complete, nothing_live
from mnclient.shell.execute import Runner
from mnclient.shell.live import LiveNames
from mnclient.shell.syntax import Word, split

LIVE_WAIT_S = 1.0
WAIT = "HARDPOINT_COMPLETION_WAIT"
"""Names the variable with the seconds that completion waits for names of the fleet, instead of one."""

SCRIPTS = {
    "bash": """\
_hardpoint() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT}
    COMPREPLY=($(hardpoint _complete bash "$line" 2>/dev/null))
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *' ' ]]; then compopt -o nospace; fi
    compopt -o nosort 2>/dev/null
}
complete -o nospace -F _hardpoint hardpoint
""",
    "zsh": """\
#compdef hardpoint
_hardpoint() {
    local -a found
    found=("${(@f)$(hardpoint _complete zsh "${LBUFFER}" 2>/dev/null)}")
    [[ -n "${found[1]}" ]] && compadd -Q -S '' -U -- "${found[@]}"
}
compdef _hardpoint hardpoint
""",
    "fish": """\
complete -c hardpoint -f -a '(hardpoint _complete fish (commandline -cp) 2>/dev/null)'
""",
}

OWN_OPTIONS = {
    "up": ("--state", "--port", "--listen", "--detach"),
    "down": ("--state",),
    "simulate": ("--hosts", "--state", "--machine", "--port", "--lose", "--silently", "--recover"),
    "cli": ("--url", "--output"),
    "login": ("--url", "--account", "--password-stdin"),
    "logout": (),
    "job": ("--url", "--output"),
    "shell-output": ("--url", "--output"),
    "completion": ("bash", "zsh", "fish"),
}
"""The commands of `hardpoint` with what completes them; a test holds it to the command line."""

_BASH_BREAKS = "=:><"


def candidates(shell: str, line: str) -> list[str]:
    """Return what a line may go on with, each as the shell is to put it in place of the word it is at."""
    words = split(line)
    if line[-1:].isspace() or len(words) < 1:
        words.append(Word("", len(line)))
    if len(words) < 2:
        return []
    typed = words[-1].text
    if len(words) == 2:
        return [f"{c} " for c in OWN_OPTIONS if c.startswith(typed)]
    command = words[1].text
    if typed.startswith("-") or command != "cli":
        return [f"{o} " for o in OWN_OPTIONS.get(command, ()) if o.startswith(typed)]
    if words[-2].text == "--output":
        return [f"{form} " for form in ("table", "json", "yaml") if form.startswith(typed)]
    begin, url = _command(words[2:])
    if begin is None:
        return []
    found = _found(line[begin:], url)
    return [_as_typed(shell, candidate, typed) for candidate in found]


def _command(words: Sequence[Word]) -> tuple[int | None, str | None]:
    """Return where the operation begins, behind the options; and the --url that was given."""
    url, position = None, 0
    while position < len(words):
        text = words[position].text
        if text in ("--url", "--output"):
            if text == "--url" and position + 1 < len(words):
                url = words[position + 1].text
            position += 2
        elif text.startswith("-"):
            position += 1
        else:
            return words[position].start, url
    return None, url


def _found(command: str, url: str | None) -> list[Candidate]:
    runner = Runner.start(url, "json")
    found = complete(command, runner.connection.description, nothing_live)
    if found.candidates:
        return found.candidates
    live = LiveNames(runner.connection)
    asked: list[Need] = complete(command, runner.connection.description, live.get).needs
    with contextlib.suppress(RuntimeError):
        wait([live.fetch(need) for need in asked], timeout=_patience_s())
    live.close()
    return complete(command, runner.connection.description, live.get).candidates


def _patience_s() -> float:
    try:
        return float(os.environ.get(WAIT, LIVE_WAIT_S))
    except ValueError:
        return LIVE_WAIT_S


def _as_typed(shell: str, candidate: Candidate, typed: str) -> str:
    """bash puts a candidate in place of the part behind the last `=`; the others of the whole word."""
    text = candidate.text
    if shell == "bash":
        cut = max(typed.rfind(char) for char in _BASH_BREAKS) + 1
        text = text[cut:]
    return text + (" " if candidate.closed else "")
