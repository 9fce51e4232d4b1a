"""`diskless completions SHELL`: prints what makes the Tab key complete commands, options and file names."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

# Arguments that are a file or a directory here, by their names.
_FILES = {"from_cache", "path", "report"}


class Argument(NamedTuple):
    """One option, or one position: without flags, and with the number of it. `words` are all that it may be."""

    flags: tuple[str, ...]
    help: str
    takes_value: bool
    files: bool
    words: tuple[str, ...]


class Command(NamedTuple):
    """A command and what may follow it."""

    name: str
    help: str
    arguments: tuple[Argument, ...]


def add_command(commands: Any, root: argparse.ArgumentParser) -> None:
    """Add `completions`, for all commands of `root`, to the parser's commands."""
    parser = commands.add_parser(
        "completions",
        help="print what makes a shell complete this command",
        description=__doc__,
        epilog='bash: eval "$(diskless completions bash)" in ~/.bashrc; zsh: the same in ~/.zshrc, after compinit; '
        "fish: diskless completions fish > ~/.config/fish/completions/diskless.fish",
    )
    parser.add_argument("shell", choices=sorted(_SCRIPTS), help="whose")
    parser.set_defaults(run=functools.partial(run, root))


def run(root: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Print the script; returns the exit status."""
    print(_SCRIPTS[options.shell](tree(root)), end="")
    return 0


def tree(root: argparse.ArgumentParser) -> list[Command]:
    """Return what a parser takes: first, without a name, what comes before any command."""
    found = [Command("", "", _arguments(root))]
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            found += [Command(name, helps.get(name, ""), _arguments(each)) for name, each in action.choices.items()]
    return found


def _arguments(parser: argparse.ArgumentParser) -> tuple[Argument, ...]:
    return tuple(
        Argument(
            tuple(action.option_strings),
            " ".join((action.help or "").split()),
            action.nargs != 0,
            action.dest in _FILES,
            tuple(map(str, action.choices or ())),
        )
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
    )


def _bash(commands: Sequence[Command]) -> str:
    cases, first = [], [command.name for command in commands if command.name] + _flags(commands[0])
    for command in commands[1:]:
        for argument in command.arguments:
            if argument.flags and argument.takes_value:
                offers = _bash_offers(argument.files, argument.words)
                cases.append(f"        {'|'.join(f'{command.name}:{flag}' for flag in argument.flags)}) {offers} ;;")
    for command in commands[1:]:
        places = [argument for argument in command.arguments if not argument.flags]
        files = any(place.files for place in places)
        words = [word for place in places for word in place.words]
        cases.append(f"        {command.name}:*) {_bash_offers(files, [*_flags(command), *words], command=True)} ;;")
    return f"""_diskless() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W '{" ".join(first)}' -- "$word"))
        return
    fi
    case ${{COMP_WORDS[1]}}:$before in
{chr(10).join(cases)}
    esac
}}
complete -F _diskless diskless
"""


def _bash_offers(files: bool, words: Sequence[str], *, command: bool = False) -> str:
    offers = []
    if words:
        offers.append(f"""COMPREPLY=($(compgen -W '{" ".join(words)}' -- "$word"))""")
    if files:
        names = 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word")'
        offers.append(f"[[ $word == -* ]] || {{ {names}; }}" if command else names)
    return "; ".join(offers) or ":"


def _zsh(commands: Sequence[Command]) -> str:
    names = "\n".join(f"        {_quoted(f'{command.name}:{command.help}')}" for command in commands[1:])
    cases = []
    for command in commands[1:]:
        specifications = " \\\n            ".join(_zsh_specification(argument) for argument in command.arguments)
        cases.append(f"        {command.name})\n            _arguments {specifications} ;;")
    options = " ".join(_zsh_specification(argument) for argument in commands[0].arguments)
    return f"""#compdef diskless
_diskless() {{
    local state line
    local -a commands=(
{names}
    )
    _arguments -C {options} '1: :->command' '*:: :->arguments'
    if [[ $state == command ]]; then
        _describe command commands
    elif [[ $state == arguments ]]; then
        case $line[1] in
{chr(10).join(cases)}
        esac
    fi
}}
if [[ $funcstack[1] == _diskless ]]; then
    _diskless "$@"
else
    compdef _diskless diskless
fi
"""


def _zsh_specification(argument: Argument) -> str:
    offers = "_files" if argument.files else f"({' '.join(argument.words)})" if argument.words else " "
    if not argument.flags:
        return _quoted(f":{_without_colons(argument.help)}:{offers}")
    told = argument.help.replace("[", "\\[").replace("]", "\\]")
    value = f":{_without_colons(argument.help)}:{offers}" if argument.takes_value else ""
    return " ".join(_quoted(f"*{flag}[{told}]{value}") for flag in argument.flags)


def _without_colons(text: str) -> str:
    return text.replace(":", "\\:")


def _fish(commands: Sequence[Command]) -> str:
    lines = ["complete -c diskless -f"]
    for argument in commands[0].arguments:
        lines.append(f"complete -c diskless -n __fish_use_subcommand{_fish_argument(argument)}")
    for command in commands[1:]:
        lines.append(f"complete -c diskless -n __fish_use_subcommand -a {command.name} -d {_quoted(command.help)}")
        for argument in command.arguments:
            if argument.flags or argument.files or argument.words:
                condition = _quoted(f"__fish_seen_subcommand_from {command.name}")
                lines.append(f"complete -c diskless -n {condition}{_fish_argument(argument)}")
    return "\n".join(lines) + "\n"


def _fish_argument(argument: Argument) -> str:
    words = "".join(f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}" for flag in argument.flags)
    if argument.flags and argument.takes_value:
        words += " -r" if argument.files else " -x"
    if argument.files:
        words += " -F"
    if argument.words:
        words += f" -a {_quoted(' '.join(argument.words))}"
    return f"{words} -d {_quoted(argument.help)}" if argument.flags else words


def _quoted(text: str) -> str:
    """Quote for all three shells: none of them reads what is in single quotes, but fish a backslash."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _flags(command: Command) -> list[str]:
    return [flag for argument in command.arguments for flag in argument.flags if flag.startswith("--")]


_SCRIPTS: dict[str, Callable[[Sequence[Command]], str]] = {"bash": _bash, "fish": _fish, "zsh": _zsh}
