/* --help, the man pages and docs/commands.md, all from the same tables; completions are in completion.c. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* A text that is shown in one of three notations. */
typedef enum notation { PLAIN, MAN, MARKDOWN } notation;

static const char purpose[] =
    "Fits a trained neural network to a chip: quantizes it, measures what that costs and gains "
    "on the chip, undoes what does not pay, and writes the result as a model that runs here "
    "and as standard ONNX.";

static const struct {
    const char *code, *meaning;
} exit_codes[] = {
    {"0", "success"},
    {"1", "a check failed: a tolerance or the accuracy budget was not kept"},
    {"2", "bad input: the command line, a file or its contents"},
    {"3", "an internal error, or out of memory"},
    {"130", "stopped by Ctrl-C (129 by SIGHUP, 143 by SIGTERM); nothing was written, of training a checkpoint"},
};

static const struct {
    const char *name, *meaning;
} variables[] = {
    {"ESPL_CPU",
     "the best instruction set that may be used: ref, avx2, avxvnni, avx512, avx512vnni, avx512vbmi or amx"},
    {"ESPL_CHIPS", "a folder of chip profiles of your own: --chip NAME finds NAME.yaml there first"},
    {"ESPL_ASSETS", "replaces `${ESPL_ASSETS}` in the paths of data descriptions (../shared without it)"},
    {"ESPL_TUNE",
     "0: which of two kernels computes a layer with sparse weights is not measured, a rule decides"},
    {"ESPL_DENSE", "what training computes with at most: plain (C), onednn or amx"},
    {"XDG_CACHE_HOME",
     "where what was measured of this machine is kept, peaks and choices of kernels (~/.cache without it)"},
};

const char *option_usage(const option *o, char *buf, size_t size) {
    char letter[8] = "", choices[160] = "";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    size_t used = 0;
    if (o->kind == OPTION_CHOICE)
        for (int i = 0; o->choices(i) && used < sizeof choices; i++)
            used +=
                (size_t)snprintf(choices + used, sizeof choices - used, "%s%s", i ? "|" : "", o->choices(i));
    const char *argument = o->kind == OPTION_CHOICE ? choices : o->argument ? o->argument : "";
    snprintf(buf, size, "%s--%s%s%s", letter, o->name, *argument ? " " : "", argument);
    return buf;
}

/* --- notations ----------------------------------------------------------------------------------------- */

/* Prints the words of `text` up to `end`, broken at `width` columns; lines begin with `indent` spaces, the
 * first one only if `column`, where the output stands, is 0. */
static void print_wrapped(FILE *out, const char *text, const char *end, int column, int indent, int width) {
    bool first = true;
    while (text < end) {
        while (text < end && (*text == ' ' || *text == '\n')) text++;
        size_t n = 0;
        while (text + n < end && text[n] != ' ' && text[n] != '\n') n++;
        if (n == 0) break;
        if (!first && column + 1 + (int)n > width) {
            fputc('\n', out);
            column = 0;
            first = true;
        }
        int space = !first ? 1 : column == 0 ? indent : 0;
        fprintf(out, "%*s%.*s", space, "", (int)n, text);
        column += space + (int)n;
        text += n;
        first = false;
    }
    fputc('\n', out);
}

/* roff takes '\' as an escape and '-' as a hyphen. Returns the columns that the word takes. */
static int print_roff_word(FILE *out, const char *word, int length) {
    int columns = length;
    for (int i = 0; i < length; i++) {
        const char *escape = word[i] == '\\' ? "\\e" : word[i] == '-' ? "\\-" : NULL;
        columns += escape != NULL;
        if (escape)
            fputs(escape, out);
        else
            fputc(word[i], out);
    }
    return columns;
}

/* Words on lines of at most 78 columns: what groff and mandoc want of a source. A line that begins with '.'
 * or '\'' would be a request. Newlines are spaces. */
static void print_roff(FILE *out, const char *text, const char *end) {
    for (int column = 0; text < end;) {
        int n = 0;
        while (text + n < end && text[n] != ' ' && text[n] != '\n') n++;
        bool fits = column == 0 || column + 1 + n <= 70; /* escapes take some more */
        if (n && column) fputc(fits ? ' ' : '\n', out);
        if (n && !fits) column = 0;
        if (n && column == 0 && (*text == '.' || *text == '\'')) fputs("\\&", out);
        if (n) column += 1 + print_roff_word(out, text, n);
        text += n;
        while (text < end && (*text == ' ' || *text == '\n')) text++;
    }
}

static void roff(FILE *out, const char *text) {
    print_roff(out, text, text + strlen(text));
}

/* An argument of a request stands on one line. */
static void roff_line(FILE *out, const char *text) {
    print_roff_word(out, text, (int)strlen(text));
}

/* '<' and '|' mean something in Markdown; `code` is left alone. */
static void markdown(FILE *out, const char *text) {
    bool code = false;
    for (; *text; text++) {
        if (*text == '`') code = !code;
        if (!code && (*text == '<' || *text == '*' || *text == '_')) fputc('\\', out);
        fputc(*text, out);
    }
}

static void paragraphs(FILE *out, notation n, const char *text) {
    for (bool first = true; *text; first = false) {
        const char *end = strstr(text, "\n\n");
        if (!end) end = text + strlen(text);
        if (n == MAN) {
            if (!first) fputs(".PP\n", out);
            print_roff(out, text, end);
            fputc('\n', out);
        } else {
            print_wrapped(out, text, end, 0, 0, n == PLAIN ? 100 : 118);
            fputc('\n', out);
        }
        text = end + strspn(end, "\n");
    }
}

static void heading(FILE *out, notation n, const char *text) {
    if (n == PLAIN) {
        fprintf(out, "%s:\n", text);
    } else if (n == MARKDOWN) {
        fprintf(out, "**%s**\n\n", text);
    } else {
        fputs(".SH ", out);
        for (; *text; text++) fputc(toupper((unsigned char)*text), out);
        fputc('\n', out);
    }
}

/* A term and its explanation, one of a list. */
static void item(FILE *out, notation n, const char *term, const char *text, int width) {
    if (n == PLAIN) {
        if ((int)strlen(term) > width)
            fprintf(out, "  %s\n  %*s  ", term, width, "");
        else
            fprintf(out, "  %-*s  ", width, term);
        print_wrapped(out, text, text + strlen(text), width + 4, width + 4, 110);
    } else if (n == MAN) {
        fputs(".TP\n.B ", out);
        roff_line(out, term);
        fputc('\n', out);
        roff(out, text);
        fputc('\n', out);
    } else {
        fprintf(out, "- `%s`: ", term);
        markdown(out, text);
        fputc('\n', out);
    }
}

/* The first request of a man page. */
static void title(FILE *out, const char *name) {
    fputs(".\\\" Made by espalier help --man; the tables are in tools/espalier.\n.TH ESPALIER", out);
    if (name) fputs("\\-", out);
    for (const char *c = name; c && *c; c++) fputc(toupper((unsigned char)*c), out);
    fprintf(out, " 1 \"%s\" \"espalier %s\" \"User Commands\"\n", ESPL_DATE, espl_version());
}

/* --- one command --------------------------------------------------------------------------------------- */

static int terms_width(const option *table, int width) {
    char term[256];
    for (const option *o = table; o && o->name; o++) {
        int n = (int)strlen(option_usage(o, term, sizeof term));
        if (n > width && n <= 34) width = n;
    }
    return width;
}

static void option_items(FILE *out, notation n, const option *table, int width) {
    char term[256], text[512];
    for (const option *o = table; o && o->name; o++) {
        snprintf(text, sizeof text, "%s%s", o->help, o->required ? " (required)" : "");
        item(out, n, option_usage(o, term, sizeof term), text, width);
    }
}

static void synopsis(const command_row *row, char *buf, size_t size) {
    const command *c = row->command;
    size_t used =
        (size_t)snprintf(buf, size, "espalier %s%s%s", row->name, *c->operands ? " " : "", c->operands);
    for (const option *o = c->options; o && o->name && used < size; o++) {
        if (!o->required) continue;
        char letter[2] = {o->letter, 0};
        used += (size_t)snprintf(buf + used, size - used, " %s%s %s", o->letter ? "-" : "--",
                                 o->letter ? letter : o->name, o->argument);
    }
    if (used < size) snprintf(buf + used, size - used, " [OPTION]...");
}

/* One of the lines of `examples`; returns where the next begins. */
static const char *example_line(FILE *out, notation n, const char *text) {
    const char *end = strchr(text, '\n');
    if (!end) end = text + strlen(text);
    fputs(n == MARKDOWN ? "    $ " : n == PLAIN ? "  " : "", out);
    if (n == MAN)
        print_roff_word(out, text, (int)(end - text));
    else
        fwrite(text, 1, (size_t)(end - text), out);
    fputc('\n', out);
    return end + (*end == '\n');
}

static void examples(FILE *out, notation n, const char *text) {
    if (n == PLAIN) fputc('\n', out);
    heading(out, n, "Examples");
    if (n == MAN) fputs(".nf\n", out);
    while (*text) text = example_line(out, n, text);
    if (n == MAN) fputs(".fi\n", out);
}

static void command_begin(FILE *out, notation n, const command_row *row) {
    char line[512];
    synopsis(row, line, sizeof line);
    if (n == PLAIN) fprintf(out, "Usage: %s\n\n", line);
    if (n == MARKDOWN) fprintf(out, "## espalier %s\n\n    %s\n\n", row->name, line);
    if (n != MAN) return;
    title(out, row->name);
    fprintf(out, ".SH NAME\nespalier\\-%s \\-\n", row->name);
    roff(out, row->summary);
    fputs("\n.SH SYNOPSIS\n.B ", out);
    roff_line(out, line);
    fputs("\n.SH DESCRIPTION\n", out);
}

static void command_text(FILE *out, notation n, const command_row *row) {
    const command *c = row->command;
    command_begin(out, n, row);
    paragraphs(out, n, c->about);
    int width = terms_width(common_table, terms_width(c->options, 0));
    if (c->options && c->options->name) {
        heading(out, n, "Options");
        option_items(out, n, c->options, width);
        if (n != MAN) fputc('\n', out);
    }
    if (n != MARKDOWN) {
        heading(out, n, "Options of every command");
        option_items(out, n, common_table, width);
    }
    if (c->example) examples(out, n, c->example);
    if (n == MAN) fputs(".SH SEE ALSO\n.BR espalier (1)\n", out);
}

void help_command(FILE *out, const command_row *row) {
    command_text(out, PLAIN, row);
}

/* --- the program ------------------------------------------------------------------------------------- */

void help_program(FILE *out) {
    fputs("Usage: espalier COMMAND [ARGUMENT]... [OPTION]...\n\n", out);
    paragraphs(out, PLAIN, purpose);
    fputs("Commands:\n", out);
    for (int i = 0; command_at(i); i++)
        fprintf(out, "  %-10s %s\n", command_at(i)->name, command_at(i)->summary);
    int width = terms_width(common_table, 0);
    fputs("\nOptions of every command:\n", out);
    option_items(out, PLAIN, common_table, width);
    fputs("\nOf the program alone:\n", out);
    item(out, PLAIN, "--version", "prints the version", width);
    fputs("\nExit codes:\n", out);
    for (size_t i = 0; i < COUNT(exit_codes); i++)
        fprintf(out, "  %-4s %s\n", exit_codes[i].code, exit_codes[i].meaning);
    fputs("\nespalier COMMAND --help explains a command.\n", out);
}

static void program_page(FILE *out) {
    title(out, NULL);
    fputs(".SH NAME\nespalier \\- fits a trained neural network to a chip\n", out);
    fputs(
        ".SH SYNOPSIS\n.B espalier\n.I COMMAND\n[\\fIARGUMENT\\fR]... [\\fIOPTION\\fR]...\n.SH DESCRIPTION\n",
        out);
    paragraphs(out, MAN, purpose);
    fputs(".PP\nEvery command has a page of its own,\n.BR espalier\\-compress (1)\nfor example.\n", out);
    fputs(".SH COMMANDS\n", out);
    for (int i = 0; command_at(i); i++) item(out, MAN, command_at(i)->name, command_at(i)->summary, 0);
    heading(out, MAN, "Options of every command");
    option_items(out, MAN, common_table, 0);
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < COUNT(exit_codes); i++)
        item(out, MAN, exit_codes[i].code, exit_codes[i].meaning, 0);
    fputs(".SH ENVIRONMENT\n", out);
    for (size_t i = 0; i < COUNT(variables); i++) item(out, MAN, variables[i].name, variables[i].meaning, 0);
    fputs(".SH SEE ALSO\n", out);
    for (int i = 0; command_at(i); i++)
        fprintf(out, ".BR espalier\\-%s (1)%s\n", command_at(i)->name, command_at(i + 1) ? "," : "");
}

void help_man(FILE *out, const command_row *row) {
    if (row)
        command_text(out, MAN, row);
    else
        program_page(out);
}

void help_markdown(FILE *out) {
    fputs("# Commands\n\nMade by `espalier help --markdown` from the tables in `tools/espalier`; do not edit "
          "by hand.\n\n",
          out);
    paragraphs(out, MARKDOWN, purpose);
    fputs("| command | what it does |\n| --- | --- |\n", out);
    for (int i = 0; command_at(i); i++)
        fprintf(out, "| [%s](#espalier-%s) | %s |\n", command_at(i)->name, command_at(i)->name,
                command_at(i)->summary);
    fputs("\nResults go to standard output; messages, warnings and progress go to standard error.\n\n", out);
    heading(out, MARKDOWN, "Options of every command");
    option_items(out, MARKDOWN, common_table, 0);
    fputs("\n**Exit codes**\n\n", out);
    for (size_t i = 0; i < COUNT(exit_codes); i++)
        item(out, MARKDOWN, exit_codes[i].code, exit_codes[i].meaning, 0);
    fputs("\n**Environment**\n\n", out);
    for (size_t i = 0; i < COUNT(variables); i++)
        item(out, MARKDOWN, variables[i].name, variables[i].meaning, 0);
    for (int i = 0; command_at(i); i++) {
        fputc('\n', out);
        command_text(out, MARKDOWN, command_at(i));
    }
}
