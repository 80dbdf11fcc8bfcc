/* Completions of command lines for bash and zsh, from the tables that the program parses its options by. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* What may follow an option. */
typedef enum value_kind {
    VALUE_NONE,
    VALUE_NUMBER,
    VALUE_WORDS,
    VALUE_FILES,
    VALUE_WORDS_AND_FILES
} value_kind;

static value_kind kind_of(const option *o) {
    switch (o->kind) {
        case OPTION_FLAG:
            return VALUE_NONE;
        case OPTION_INT:
        case OPTION_NUMBER:
        case OPTION_BYTES:
            return VALUE_NUMBER;
        case OPTION_CHOICE:
            return VALUE_WORDS;
        case OPTION_TEXT:
        case OPTION_LIST:
            break;
    }
    return o->choices ? VALUE_WORDS_AND_FILES : VALUE_FILES;
}

static void print_words(FILE *out, const char *(*words)(int index)) {
    for (int i = 0; words && words(i); i++) fprintf(out, "%s%s", i ? " " : "", words(i));
}

static bool named_before(const option *table, const option *o) {
    for (const option *p = table; p && p->name; p++)
        if (strcmp(p->name, o->name) == 0) return true;
    return false;
}

/* Calls `row` for the options of a command: its own, then the common ones that it has not replaced. */
static void each_option(FILE *out, const command_row *c, void (*row)(FILE *, const char *, const option *)) {
    for (const option *o = c->command->options; o && o->name; o++) row(out, c->name, o);
    for (const option *o = common_table; o->name; o++)
        if (!named_before(c->command->options, o)) row(out, c->name, o);
}

/* --- bash -------------------------------------------------------------------------------------------- */

static void bash_name(FILE *out, const char *name, const option *o) {
    (void)name;
    if (o->letter) fprintf(out, " -%c", o->letter);
    fprintf(out, " --%s", o->name);
}

/* The case of an option that is followed by a value. */
static void bash_value(FILE *out, const char *name, const option *o) {
    value_kind kind = kind_of(o);
    if (kind == VALUE_NONE) return;
    fprintf(out, "    %s:--%s", name, o->name);
    if (o->letter) fprintf(out, " | %s:-%c", name, o->letter);
    fputs(") ", out);
    if (kind == VALUE_NUMBER) {
        fputs("return", out);
    } else {
        fputs("_espalier_offer '", out);
        print_words(out, o->choices);
        fprintf(out, "'%s && return", kind == VALUE_WORDS ? "" : " files");
    }
    fputs(" ;;\n", out);
}

static const char bash_begin[] =
    "# Completion of espalier for bash. Made by espalier help --completion bash.\n"
    "\n"
    "# _espalier_offer WORDS [files]: offers the words that fit, and files.\n"
    "_espalier_offer() {\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$current\")\n"
    "    if [ \"${2:-}\" = files ]; then\n"
    "        local files\n"
    "        mapfile -t files < <(compgen -f -- \"$current\")\n"
    "        COMPREPLY+=(\"${files[@]}\")\n"
    "        compopt -o filenames 2>/dev/null\n"
    "    fi\n"
    "    return 0\n"
    "}\n"
    "\n"
    "_espalier() {\n"
    "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} "
    "command=${COMP_WORDS[1]}\n"
    "    COMPREPLY=()\n"
    "    # bash makes three words of --option=value.\n"
    "    [ \"$previous\" = = ] && previous=${COMP_WORDS[COMP_CWORD - 2]}\n"
    "    [ \"$current\" = = ] && current=\n"
    "    if ((COMP_CWORD == 1)); then\n"
    "        _espalier_offer '";

void help_bash(FILE *out) {
    fputs(bash_begin, out);
    for (int i = 0; command_at(i); i++) fprintf(out, "%s ", command_at(i)->name);
    fputs("--help --version'\n        return\n    fi\n    case $command:$previous in\n", out);
    for (int i = 0; command_at(i); i++) each_option(out, command_at(i), bash_value);
    fputs("    *) ;;\n    esac\n    case $command:$current in\n", out);
    for (int i = 0; command_at(i); i++) {
        fprintf(out, "    %s:-*) _espalier_offer '", command_at(i)->name);
        each_option(out, command_at(i), bash_name);
        fprintf(out, "' ;;\n    %s:*) _espalier_offer '", command_at(i)->name);
        print_words(out, command_at(i)->command->words);
        fputs("' files ;;\n", out);
    }
    fputs("    *) ;;\n    esac\n}\ncomplete -F _espalier espalier\n", out);
}

/* --- zsh --------------------------------------------------------------------------------------------- */

/* A text between single quotes inside the brackets of an option's explanation. */
static void zsh_text(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '\'') fputs("'\\'", out);
        if (*text == '[' || *text == ']' || *text == ':' || *text == '\\') fputc('\\', out);
        fputc(*text, out);
    }
}

/* What _arguments does about a value: words, files or both. */
static void zsh_action(FILE *out, const char *(*words)(int index), bool files) {
    if (!words) {
        fputs(files ? "_files" : " ", out);
        return;
    }
    fputs(files ? "{_alternative \"words:word:(" : "(", out);
    print_words(out, words);
    fputs(files ? ")\" \"files:file:_files\"}" : ")", out);
}

static void zsh_option(FILE *out, const char *name, const option *o) {
    value_kind kind = kind_of(o);
    const char *again = o->kind == OPTION_LIST ? "*" : "", *joined = kind == VALUE_NONE ? "" : "=";
    (void)name;
    fputs("            ", out);
    if (o->letter && o->kind != OPTION_LIST) fprintf(out, "'(-%c --%s)'", o->letter, o->name);
    if (o->letter)
        fprintf(out, "{'%s-%c%s','%s--%s%s'}'[", again, o->letter, *joined ? "+" : "", again, o->name,
                joined);
    else
        fprintf(out, "'%s--%s%s[", again, o->name, joined);
    zsh_text(out, o->help);
    fputc(']', out);
    if (kind != VALUE_NONE) {
        fputc(':', out);
        zsh_text(out, o->argument ? o->argument : o->name);
        fputc(':', out);
        zsh_action(out, o->choices, kind >= VALUE_FILES);
    }
    fputs("' \\\n", out);
}

void help_zsh(FILE *out) {
    fputs("#compdef espalier\n# Completion of espalier for zsh. Made by espalier help --completion zsh.\n\n"
          "_espalier() {\n    local -a names\n    if ((CURRENT == 2)); then\n        names=(\n",
          out);
    for (int i = 0; command_at(i); i++) {
        fprintf(out, "            '%s:", command_at(i)->name);
        zsh_text(out, command_at(i)->summary);
        fputs("'\n", out);
    }
    fputs(
        "        )\n        _describe -t commands command names\n"
        "        _arguments '--help[explains the program]' '--version[prints the version]'\n        return\n"
        "    fi\n    local command=${words[2]}\n    shift words\n    ((CURRENT--))\n    case $command in\n",
        out);
    for (int i = 0; command_at(i); i++) {
        fprintf(out, "    %s)\n        _arguments -S \\\n", command_at(i)->name);
        each_option(out, command_at(i), zsh_option);
        fputs("            '*:", out);
        zsh_text(out, *command_at(i)->command->operands ? command_at(i)->command->operands : "argument");
        fputc(':', out);
        zsh_action(out, command_at(i)->command->words, true);
        fputs("'\n        ;;\n", out);
    }
    fputs("    esac\n}\n\n_espalier \"$@\"\n", out);
}
