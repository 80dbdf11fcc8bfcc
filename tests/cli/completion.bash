#!/bin/bash
# Walks the table of commands and options, as --help shows it, and asks bash's completion for each of them: every command,
# every option, every choice of an option must be offered. Prints what is missing.
source <(espalier help --completion bash) || exit 9
bad=0 asked=0

# offers WANTED WORD...: WANTED is among what is offered for the last of the words of a command line.
offers() {
    local wanted=$1 reply
    shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _espalier espalier "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    asked=$((asked + 1))
    for reply in "${COMPREPLY[@]}"; do [ "$reply" = "$wanted" ] && return; done
    echo "not offered for '$*': $wanted"
    bad=1
}

commands=$(espalier --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
touch model.onnx
for command in $commands; do
    offers "$command" espalier "${command:0:2}"
    while read -r letter name argument; do
        offers "--$name" espalier "$command" --
        offers "--$name" espalier "$command" model.onnx "--${name:0:1}"
        [ "$letter" = - ] || offers "-$letter" espalier "$command" -
        case $argument in
        *[a-z0-9]'|'[a-z0-9]*)
            for choice in ${argument//|/ }; do
                offers "$choice" espalier "$command" "--$name" ''
                offers "$choice" espalier "$command" "--$name" = "${choice:0:1}"
            done
            ;;
        *FILE* | DATA | DIR) offers model.onnx espalier "$command" "--$name" mod ;;
        esac
    done < <(espalier "$command" --help |
        sed -nE 's/^  (-([a-z]), )?--([a-z-]+)( ([^ ]+))?( .*)?$/\2 \3 \5/p' | sed 's/^ /- /')
done
offers --version espalier --v
offers cortex-m7 espalier compress --chip cor
offers resnet20 espalier new res
offers probe espalier chip pr
offers model.onnx espalier eval mo
echo "$asked"
exit $bad
