#include <stdio.h>

#include "cli.h"

typedef struct help_options {
    bool man, markdown;
} help_options;

static const option options[] = {
    {.name = "man",
     .kind = OPTION_FLAG,
     .offset = offsetof(help_options, man),
     .help = "prints the man page (roff)"},
    {.name = "markdown",
     .kind = OPTION_FLAG,
     .offset = offsetof(help_options, markdown),
     .help = "prints docs/commands.md"},
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

static espl_status run(cli *c, const void *given) {
    const help_options *o = given;
    if (o->man) {
        help_man(stdout);
    } else if (o->markdown) {
        help_markdown(stdout);
    } else if (c->operand_count) {
        const command_row *row = command_find(c->operands[0]);
        if (!row) return usage_fail(c, "%s: no such command", c->operands[0]);
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
    .most_operands = 1,
    .options = options,
    .size = sizeof(help_options),
    .run = run,
    .about = "Explains the program, or one command as `espalier COMMAND --help` does.",
    .example = "espalier help compress\nespalier help --man | man -l -",
};
