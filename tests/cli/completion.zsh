#!/bin/zsh
# The same walk for zsh: the specifications that its completion gives to _arguments name every command, option and choice.
emulate -L zsh
setopt extendedglob
bad=0 asked=0
_arguments() { given+=("$@") }
_describe() { given+=("${(@P)argv[-1]}") }
espalier help --completion zsh >_espalier || exit 9
zsh -n _espalier || exit 9

# specify WORD...: what is specified for a command line.
specify() {
    local -a words=("$@")
    integer CURRENT=$#
    given=()
    source ./_espalier
}
# has WHAT PATTERN: a specification matches.
has() {
    ((asked++))
    [[ -n ${(M)given:#${~2}} ]] && return
    print -r -- "not specified: $1"
    bad=1
}

typeset -a given names
names=($(espalier --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'))
specify espalier ''
for command in $names; do has $command "$command:*"; done
has --version '--version*'
for command in $names; do
    specify espalier $command ''
    espalier $command --help | sed -nE 's/^  (-([a-z]), )?--([a-z-]+)( ([^ ]+))?( .*)?$/\2 \3 \5/p' |
        sed 's/^ /- /' >options
    while read -r letter name argument; do
        has "$command --$name" "(\([^)]##\)|)([*]|)--$name(=|)\[*"
        [[ $letter == - ]] || has "$command -$letter" "(\([^)]##\)|)([*]|)-$letter(+|)\[*"
        if [[ $argument == *[a-z0-9]'|'[a-z0-9]* ]]; then
            has "$command --$name ${argument}" "*--$name=\[*:\(${argument//|/ }\)"
        fi
    done <options
done
print $asked
exit $bad
