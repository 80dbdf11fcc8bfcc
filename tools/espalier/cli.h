/* What the commands share: the tables that describe them, and the state of one call. */
#ifndef CLI_H
#define CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/context.h"
#include "progress.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- tables ------------------------------------------------------------------------------------------- */

/* What an option is, and the type of the field that it fills. */
typedef enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char *, borrowed from argv; NULL if not given */
    OPTION_LIST,   /* text_list: may be given several times */
    OPTION_INT,    /* int64_t, least .. most */
    OPTION_NUMBER, /* double, least .. most */
    OPTION_BYTES,  /* uint64_t, "512M": K, M, G and T are powers of 1024 */
    OPTION_CHOICE, /* int: index of a name in `choices` */
} option_kind;

typedef struct text_list {
    const char **item;
    int count;
} text_list;

/* One option. A table of them ends with an empty row. Defaults are what the command's `defaults` hold. */
typedef struct option {
    const char *name; /* long name without the dashes */
    char letter;      /* short name or 0 */
    option_kind kind;
    size_t offset;        /* of the field in the command's struct of options */
    const char *argument; /* as the help shows it; NULL for flags and choices */
    const char *help;     /* one sentence without its full stop */
    bool required;
    double least, most;                /* OPTION_INT and OPTION_NUMBER; both 0: any */
    /* Names, NULL past the last one: all there are of OPTION_CHOICE; of OPTION_TEXT those that completion offers
     * beside files. */
    const char *(*choices)(int index);
} option;

typedef struct cli cli;

/* One command: a row of commands.list and this. */
typedef struct command {
    const char *operands; /* "MODEL", as the help shows them */
    const char *(*words)(int index); /* operands that completion offers beside files; NULL: none */
    int least_operands, most_operands;
    const option *options; /* NULL: only the common ones */
    const void *defaults;  /* a struct of `size` bytes that the options fill, copied before; NULL: zeros */
    size_t size;
    espl_status (*run)(cli *c, const void *options);
    const char *about;   /* paragraphs, separated by an empty line */
    const char *example; /* lines, each a command */
} command;

#define X(name, summary) extern const command command_##name;
#include "commands.list"
#undef X

typedef struct command_row {
    const char *name, *summary;
    const command *command;
} command_row;
/* NULL past the last one. */
const command_row *command_at(int index);
const command_row *command_find(const char *name);

/* Options that every command has. */
typedef struct common_options {
    bool help, json, quiet;
    int64_t threads;
    uint64_t memory; /* most bytes; 0: as many as the machine has */
} common_options;
extern const option common_table[];

/* --- one call ------------------------------------------------------------------------------------------ */

struct cli {
    const command_row *row;
    common_options common;
    const char **operands; /* borrowed from argv, NULL past the last one */
    int operand_count;
    espl_context *ctx;
    espl_diag diag;
    bool kept;  /* Ctrl-C lost nothing: the failure's sentence says how to go on */
    bool usage; /* the failure is in how the command was called: the hint follows its sentence */
    progress progress;
};

/* Fills *common, *options (a struct as the command describes) and c->operands from the words after the
 * command's name. Both are to be freed with parse_free. */
ESPL_NODISCARD espl_status parse_arguments(cli *c, int count, char **words, void *options);
void parse_free(cli *c, void *options);
/* The word of a list that `text` was probably meant to be, NULL if none is near. */
const char *nearest(const char *text, const char *(*words)(const void *list, int index), const void *list);

/* Stores the sentence unless there is one, and returns `status`. usage_fail adds the hint to --help. */
espl_status fail(cli *c, espl_status status, const char *fmt, ...) ESPL_PRINTF(3, 4);
espl_status usage_fail(cli *c, const char *fmt, ...) ESPL_PRINTF(2, 3);
espl_status nomem(cli *c);
/* A line on standard error, unless --quiet. */
void note(cli *c, const char *fmt, ...) ESPL_PRINTF(2, 3);

/* --- help, from the tables ------------------------------------------------------------------------------ */

void help_program(FILE *out);
void help_command(FILE *out, const command_row *row);
/* The program's man page, or that of a command. */
void help_man(FILE *out, const command_row *row);
void help_markdown(FILE *out);
/* Completions (completion.c). */
void help_bash(FILE *out);
void help_zsh(FILE *out);
/* "--threads N" of an option into buf. */
const char *option_usage(const option *o, char *buf, size_t size);

/* The networks of the zoo, as words of a command. */
const char *network_word(int index);

/* --- results ----------------------------------------------------------------------------------------- */

/* Prints `root` on standard output and releases it. Whatever could not be put into it makes this fail. */
ESPL_NODISCARD espl_status json_print(cli *c, json_t *root);
/* The same as a text that the caller frees with free(); NULL without memory. Keeps `root`. */
char *json_text(const json_t *root);
/* Puts a value, taking it; a NULL value is remembered as a lack of memory. */
void put(json_t *object, const char *key, json_t *value);
void push(json_t *array, json_t *value);
/* Text that is perhaps no UTF-8, NULL as null; a number, null if it is not finite; a shape as an array. */
json_t *text_value(const char *text);
json_t *number_value(double value);

#endif
