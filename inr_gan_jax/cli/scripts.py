"""Completion scripts for bash, zsh and fish: the flags of all commands, as each shell wants them.

The scripts hold everything, and start nothing.
"""

import shlex
from collections.abc import Callable, Sequence
from typing import NamedTuple

from inr_gan_jax.cli.commands import COMMANDS

CONFIG = "config object"  # the kind of --config: a file or a name; its keys are --config.KEY
MANY = "paths"  # with commas between them


class Flag(NamedTuple):
    """A flag of a command, in the words that --helpxml has for it."""

    name: str
    text: str
    kind: str  # of its values
    values: tuple[str, ...]  # all of them, or none where others are possible

    @property
    def bare(self) -> bool:
        """Whether it stands without a value."""
        return self.kind == "bool"

    @property
    def files(self) -> bool:
        """Whether it names files or folders."""
        return self.kind in ("path", MANY, CONFIG)

    def words(self, configs: Sequence[str]) -> Sequence[str]:
        """The values that are known."""
        return configs if self.kind == CONFIG else self.values


Described = dict[str, list[Flag]]  # the flags of each command


def _configured(described: Described) -> list[str]:
    """The commands that have --config."""
    return [name for name, flags in described.items() if any(f.kind == CONFIG for f in flags)]


def _operand(name: str, flags: list[Flag]) -> Flag | None:
    """The flag that a first word without dashes means."""
    return next((flag for flag in flags if flag.name == COMMANDS[name].operand), None)


def _filled(template: str, **parts: str) -> str:
    for name, part in parts.items():
        template = template.replace(f"@{name}@", part)
    return template


_BASH = """\
# bash completion for inr-gan; made by: inr-gan completion bash
_inr_gan() {
    local line=${COMP_LINE:0:COMP_POINT} command='' flag='' words='' files='' prefix='' word value
    local -a typed
    # shellcheck disable=SC2162 # an escaped blank does not end a word
    read -a typed <<<"$line"
    [[ $line != *[[:blank:]] ]] || typed+=('')
    local -i last=$((${#typed[@]} - 1))
    word=${typed[last]} value=${typed[last]}
    ((last < 2)) || command=${typed[1]}
    if [[ $word == --*=* ]]; then # bash mostly takes = for the end of a word
        flag=${word%%=*} value=${word#*=}
        [[ $COMP_WORDBREAKS == *=* ]] || prefix=$flag=
    elif ((last > 2)) && [[ ${typed[last - 1]} == --* && $word != -* ]]; then
        flag=${typed[last - 1]}
        [[ $flag != *=* ]] || flag=''
    fi
    case "$command $flag" in
@CASES@
    esac
    [[ $word != --config.* || $words != *' --config.' ]] || words='@KEYS@'
    if [[ $files == many && $value == *,* ]]; then
        prefix+=${value%,*}, value=${value##*,}
    fi
    COMPREPLY=()
    if [[ $files && $value != -* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -P "$prefix" -f -- "$value")
    fi
    mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -P "$prefix" -W "$words" -- "$value")
    if [[ $files == many || (${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.]) ]]; then
        compopt -o nospace 2>/dev/null # there is more to come
    fi
}
complete -F _inr_gan inr-gan
"""


def bash(described: Described, configs: Sequence[str], keys: Sequence[str]) -> str:
    """The script for bash: what may follow each command, and each of its flags."""
    cases = [(["' '"], described, "")]
    for name, flags in described.items():
        first = _operand(name, flags)
        words = [f"--{flag.name}" + "=" * (not flag.bare) for flag in flags]
        words += ["--config."] if name in _configured(described) else []
        words = [*(first.words(configs) if first else ()), *words]
        bare = [shlex.quote(f"{name} --{flag.name}") for flag in flags if flag.bare]
        cases.append(([f"'{name} '", *bare], words, "one" if first and first.files else ""))
        for flag in flags:
            files = ("many" if flag.kind == MANY else "one") if flag.files else ""
            if files or flag.values:
                cases.append(([f"'{name} --{flag.name}'"], flag.words(configs), files))
    lines = [
        f"        {' | '.join(patterns)}) words='{' '.join(words)}' files={files or repr('')} ;;"
        for patterns, words, files in cases
    ]
    return _filled(_BASH, CASES="\n".join(lines), KEYS=" ".join(f"--{key}=" for key in keys))


_ZSH = """\
#compdef inr-gan
# zsh completion for inr-gan; made by: inr-gan completion zsh
_inr_gan_config() {
    _alternative 'names:configuration:(@CONFIGS@)' 'files:file:_files'
}
_inr_gan() {
    local -a commands=(
@COMMANDS@
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    ((CURRENT--))
    if [[ $command == (@CONFIGURED@) && $words[CURRENT] == --config.* ]]; then
        compadd -S '' -- @KEYS@
        return
    fi
    case $command in
@CASES@
    esac
}
if [[ $funcstack[1] == _inr_gan ]]; then _inr_gan "$@"; else compdef _inr_gan inr-gan; fi
"""


def zsh(described: Described, configs: Sequence[str], keys: Sequence[str]) -> str:
    """The script for zsh, which also shows what each command and flag is for."""

    def action(flag: Flag) -> str:
        if flag.kind == CONFIG:
            return "_inr_gan_config"
        if flag.files:
            return "_sequence _files" if flag.kind == MANY else "_files"
        return f"({' '.join(flag.values)})" if flag.values else " "

    def spec(flag: Flag) -> str:
        text = "".join(f"\\{c}" if c in "[]\\" else c for c in flag.text)
        value = "" if flag.bare else f":{flag.name}:{action(flag)}"
        return shlex.quote(f"--{flag.name}{'=' * (not flag.bare)}[{text}]{value}")

    cases = []
    for name, flags in described.items():
        specs = [spec(flag) for flag in flags]
        if first := _operand(name, flags):
            specs.append(shlex.quote(f"1:{first.name}:{action(first)}"))
        cases.append(f"        {name}) _arguments {' '.join(specs)} ;;")
    return _filled(
        _ZSH,
        CONFIGS=" ".join(configs),
        COMMANDS="\n".join(f"        {shlex.quote(f'{n}:{COMMANDS[n].text}')}" for n in described),
        CONFIGURED="|".join(_configured(described)),
        KEYS=" ".join(f"--{key}=" for key in keys),
        CASES="\n".join(cases),
    )


_FISH = """\
# fish completion for inr-gan; made by: inr-gan completion fish
function __inr_gan_is
    set -l typed (commandline -opc)
    test (count $typed) -gt 1; and contains -- $typed[2] $argv
end
function __inr_gan_keys_of
    __inr_gan_is $argv; and string match -q -- '--config.*' (commandline -ct)
end
complete -c inr-gan -f
@LINES@
"""


def fish(described: Described, configs: Sequence[str], keys: Sequence[str]) -> str:
    """The script for fish, which also shows what each command and flag is for."""

    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = []
    for name, flags in described.items():
        text = quoted(COMMANDS[name].text)
        lines.append(f"complete -c inr-gan -n __fish_use_subcommand -a {name} -d {text}")
        within = f"complete -c inr-gan -n '__inr_gan_is {name}'"
        first = _operand(name, flags)
        for flag in flags:
            value = "" if flag.bare else " -r -F" if flag.files else " -x"
            words = flag.words(configs)
            value += f" -a {quoted(' '.join(words))}" if words else ""
            lines.append(f"{within} -l {flag.name}{value} -d {quoted(flag.text)}")
            if flag == first:
                lines.append(within + (" -F" if flag.files else f" -a '{' '.join(words)}'"))
    condition = f"__inr_gan_keys_of {' '.join(_configured(described))}"
    words = " ".join(f"--{key}=" for key in keys)
    lines.append(f"complete -c inr-gan -n '{condition}' -a '{words}'")
    return _filled(_FISH, LINES="\n".join(lines))


SHELLS: dict[str, Callable[[Described, Sequence[str], Sequence[str]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
}
