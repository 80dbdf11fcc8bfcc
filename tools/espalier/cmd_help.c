#include <stdio.h>

#include "cli.h"

typedef struct help_options {
    bool man, markdown;
    int shell; /* of shells, -1: none */
} help_options;

static const struct {
    const char *name;
    void (*print)(FILE *out);
} shells[] = {{"bash", help_bash}, {"zsh", help_zsh}};

static const char *shell_choice(int index) {
    return (size_t)index < COUNT(shells) ? shells[index].name : NULL;
}

static const option options[] = {
    {.name = "man",
     .kind = OPTION_FLAG,
     .offset = offsetof(help_options, man),
     .help = "prints the man page of the program or of the command (roff)"},
    {.name = "markdown",
     .kind = OPTION_FLAG,
     .offset = offsetof(help_options, markdown),
     .help = "prints docs/commands.md"},
    {.name = "completion",
     .kind = OPTION_CHOICE,
     .offset = offsetof(help_options, shell),
     .choices = shell_choice,
     .help = "prints what makes a shell complete command lines of espalier"},
    {0},
};

static json_t *commands_value(void) {
    json_t *root = json_object(), *commands = json_array();
    for (int i = 0; command_at(i); i++) {
        json_t *row = json_object();
        put(row, "name", text_value(command_at(i)->name));
        put(row, "summary", text_value(command_at(i)->summary));
        push(commands, row);
    }
    put(root, "version", text_value(espl_version()));
    put(root, "commands", commands);
    return root;
}

static const char *command_word(int index) {
    return command_at(index) ? command_at(index)->name : NULL;
}

static espl_status run(cli *c, const void *given) {
    const help_options *o = given;
    const command_row *row = c->operand_count ? command_find(c->operands[0]) : NULL;
    if (c->operand_count && !row) return usage_fail(c, "%s: no such command", c->operands[0]);
    if (o->man) {
        help_man(stdout, row);
    } else if (o->markdown) {
        help_markdown(stdout);
    } else if (o->shell >= 0) {
        shells[o->shell].print(stdout);
    } else if (row) {
        help_command(stdout, row);
    } else if (c->common.json) {
        return json_print(c, commands_value());
    } else {
        help_program(stdout);
    }
    return ESPL_OK;
}

const command command_help = {
    .operands = "[COMMAND]",
    .words = command_word,
    .most_operands = 1,
    .options = options,
    .defaults = &(const help_options){.shell = -1},
    .size = sizeof(help_options),
    .run = run,
    .about = "Explains the program, or one command as `espalier COMMAND --help` does.",
    .example = "espalier help compress\nespalier help --man compress | man -l -\n"
               "espalier help --completion bash >~/.local/share/bash-completion/completions/espalier",
};
