"""Completion in bash, zsh and fish: click finds what may follow, and the scripts here put it into the line.

click's own scripts take a word such as `--log.level=de` or `--qmail.queue=bulk=/var` for one that is wholly replaced, or
(bash) for several. Here a script hands over the line up to the cursor, and is told which part of the last word stays.
"""

import os
from typing import Any, ClassVar

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

PROGRAM = "qmail-exporter"
_VARIABLE = "_QMAIL_EXPORTER_COMPLETE"

_BASH = """\
# Completion of %(prog_name)s for bash.
%(complete_func)s() {
    local kind value help
    COMPREPLY=()
    # Each line is a kind, a value and a text, apart by tabs. bash itself keeps what stands before = and :.
    while IFS=$'\\t' read -r kind value help; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMPLETE_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s
# Completion of %(prog_name)s for zsh.
_%(prog_name)s() {
    local line kind value help kept
    local -a fields plain
    local -i paths=0 directories=0
    for line in "${(@f)$(COMPLETE_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" %(complete_var)s=zsh_complete $words[1] 2>/dev/null)}"; do
        fields=("${(@ps:\\t:)line}")
        kind=$fields[1] value=$fields[2] help=$fields[3]
        case $kind in
            kept) kept=$value ;;
            dir) directories=1 ;;
            file) paths=1 ;;
            plain) plain+=("${value//:/\\\\:}${help:+:$help}") ;;
        esac
    done
    [[ -n $kept ]] && compset -P "${(b)kept}"
    (( directories )) && _path_files -/
    (( paths )) && _path_files
    (( $#plain )) && _describe -V '' plain
}
# Found in $fpath, this file is the first call of the function that it has just replaced.
if [[ $funcstack[1] == _%(prog_name)s ]]; then
    _%(prog_name)s "$@"
else
    compdef _%(prog_name)s %(prog_name)s
fi
"""

_FISH = """\
# Completion of %(prog_name)s for fish.
function %(complete_func)s
    set -l kept ''
    for line in (COMPLETE_LINE=(commandline -cp) %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null)
        set -l fields (string split \\t -- $line)
        switch $fields[1]
            case kept
                set kept $fields[2]
            case dir
                for path in (__fish_complete_directories "$fields[2]" '')
                    echo $kept$path
                end
            case file
                for path in (__fish_complete_path "$fields[2]" '')
                    echo $kept$path
                end
            case plain
                echo $kept$fields[2]\\t$fields[3]
        end
    end
end
complete --command %(prog_name)s --no-files --arguments '(%(complete_func)s)'
"""


class _Shell(ShellComplete):
    """What the shells have in common: the line in a variable, and lines of fields apart by tabs as the answer."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the last one, and the last one as far as it is typed."""
        line = os.environ.get("COMPLETE_LINE", "")
        words = split_arg_string(line)
        last = "" if not words or line[-1:].isspace() else words.pop()
        return words[1:], last

    def complete(self) -> str:
        """Return the answer: first what stays of the last word, then what may come after it."""
        args, last = self.get_completion_args()
        items = self.get_completions(args, last)
        path = next((str(item.value) for item in items if item.type != "plain"), None)
        if path is not None:
            kept = last.removesuffix(path)
        else:
            kept = "".join(last.rpartition("=")[:2]) if last.startswith("-") else ""
        return "\n".join([f"kept\t{kept}", *map(self.format_completion, items)])

    def format_completion(self, item: "CompletionItem[Any]") -> str:
        """Return the kind, the value and the text for people."""
        return f"{item.type}\t{item.value}\t{(item.help or '').partition('. ')[0]}"


class _Bash(_Shell):
    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = _BASH


class _Zsh(_Shell):
    name: ClassVar[str] = "zsh"
    source_template: ClassVar[str] = _ZSH


class _Fish(_Shell):
    name: ClassVar[str] = "fish"
    source_template: ClassVar[str] = _FISH


_SHELLS: dict[str, type[_Shell]] = {each.name: each for each in (_Bash, _Zsh, _Fish)}


def register() -> None:
    """Have click answer the scripts that are written here."""
    for each in _SHELLS.values():
        add_completion_class(each)


def script(program: click.Command, shell: str) -> str:
    """Return the script for a shell: bash, zsh or fish."""
    return _SHELLS[shell](program, {}, PROGRAM, _VARIABLE).source()
