/* espalier: finds the command, parses its arguments, runs it, and turns its status into an exit code. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "host_peak.h"
#include "text.h"

static const command_row rows[] = {
#define X(name, summary) {#name, summary, &command_##name},
#include "commands.list"
#undef X
};

const option common_table[] = {
    {.name = "help",
     .letter = 'h',
     .kind = OPTION_FLAG,
     .offset = offsetof(common_options, help),
     .help = "explains the command"},
    {.name = "json",
     .kind = OPTION_FLAG,
     .offset = offsetof(common_options, json),
     .help = "prints the result as JSON"},
    {.name = "quiet",
     .letter = 'q',
     .kind = OPTION_FLAG,
     .offset = offsetof(common_options, quiet),
     .help = "no progress, no messages and no warnings; errors are still told"},
    {.name = "threads",
     .kind = OPTION_INT,
     .offset = offsetof(common_options, threads),
     .argument = "N",
     .help = "threads to use (default 0: all cores)",
     .least = 0,
     .most = 1024},
    {.name = "max-memory",
     .kind = OPTION_BYTES,
     .offset = offsetof(common_options, memory),
     .argument = "SIZE",
     .help = "most memory to use, such as 512M or 2G (default: all of the machine); a model or data that needs more is "
             "refused"},
    {0},
};

const command_row *command_at(int index) {
    return (size_t)index < COUNT(rows) ? &rows[index] : NULL;
}

const command_row *command_find(const char *name) {
    for (size_t i = 0; i < COUNT(rows); i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}

/* --- messages ---------------------------------------------------------------------------------------- */

static espl_status vfail(cli *c, espl_status status, const char *fmt, va_list args) {
    if (c->diag.status != ESPL_OK) return status;
    vsnprintf(c->diag.message, sizeof c->diag.message, fmt, args);
    c->diag.status = status;
    text_tame(c->diag.message);
    return status;
}

espl_status fail(cli *c, espl_status status, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vfail(c, status, fmt, args);
    va_end(args);
    return status;
}

espl_status usage_fail(cli *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vfail(c, ESPL_INVALID, fmt, args);
    va_end(args);
    c->usage = true;
    return ESPL_INVALID;
}

espl_status nomem(cli *c) {
    return fail(c, ESPL_NOMEM, "out of memory");
}

void note(cli *c, const char *fmt, ...) {
    if (c->common.quiet) return;
    char line[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    text_tame(line);
    progress_clear(&c->progress);
    fprintf(stderr, "%s\n", line);
}

static void on_log(void *user, espl_log_level level, const char *line) {
    if (level == ESPL_LOG_WARN) note(user, "warning: %s", line);
    if (level == ESPL_LOG_INFO) note(user, "note: %s", line);
}

/* --- one call ---------------------------------------------------------------------------------------- */

static espl_status create_context(cli *c) {
    espl_config config = {.log = on_log, .user = c, .threads = (int)c->common.threads,
                          .max_memory = c->common.memory};
    return espl_context_create(&config, &c->ctx, &c->diag);
}

/* A full disk or a closed pipe is no success. Half of an output that failed earlier is worth nothing more either. */
static espl_status flush_output(cli *c) {
    errno = 0;
    bool failed = fflush(stdout) != 0;
    if (!failed && !ferror(stdout)) return ESPL_OK;
    return fail(c, ESPL_IO, "standard output: cannot be written%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
}

/* A file that we open must not get the number of a stream that the caller closed: messages would go into it. */
static bool hold_streams(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) return false;
    return true;
}

static int report(cli *c, espl_status status) {
    progress_clear(&c->progress);
    if (status == ESPL_OK) return 0;
    const int code = progress_interrupted() ? 128 + progress_interrupted() : espl_status_exit_code(status);
    if (c->kept && !c->diag.message[0]) return code; /* another process says it */
    if (progress_interrupted() && !c->kept) {
        if (!c->common.quiet) fprintf(stderr, "espalier: stopped; nothing was written\n");
        return code;
    }
    if (c->diag.message[0])
        fprintf(stderr, "espalier: %s\n", c->diag.message);
    else if (status != ESPL_CHECK_FAILED)
        fprintf(stderr, "espalier: %s\n", espl_status_message(status));
    if (c->usage) fprintf(stderr, "espalier %s --help explains the command\n", c->row->name);
    return code;
}

static int run_command(const command_row *row, int count, char **words) {
    cli c = {.row = row};
    void *options = calloc(1, row->command->size + 1);
    if (!options) {
        fprintf(stderr, "espalier: out of memory\n");
        return 3;
    }
    espl_status status = parse_arguments(&c, count, words, options);
    progress_init(&c.progress, c.common.quiet);
    if (status == ESPL_OK && c.common.help) {
        help_command(stdout, row);
    } else if (status == ESPL_OK) {
        status = create_context(&c);
        int known = status == ESPL_OK ? read_choices(&c) : 0;
        if (status == ESPL_OK) status = row->command->run(&c, options);
        if (c.ctx && espl_tune_count(c.ctx) > known) keep_choices(&c);
    }
    if (status == ESPL_OK) status = flush_output(&c);
    int code = report(&c, status);
    espl_context_destroy(&c.ctx);
    parse_free(&c, options);
    free(options);
    return code;
}

static const char *row_word(const void *unused, int index) {
    (void)unused;
    return command_at(index) ? command_at(index)->name : NULL;
}

static int unknown_command(const char *word) {
    const char *what = word[0] == '-' ? "option" : "command", *near = nearest(word, row_word, NULL);
    if (near)
        fprintf(stderr, "espalier: %s: no such %s; did you mean %s?\n", word, what, near);
    else
        fprintf(stderr, "espalier: %s: no such %s; espalier --help lists the commands\n", word, what);
    return 2;
}

int main(int count, char **words) {
    const char *word = count > 1 ? words[1] : NULL;
    cli c = {0};
    if (!hold_streams()) return 2;
    if (!word) {
        help_program(stderr);
        return 2;
    }
    if (strcmp(word, "--version") == 0) {
        printf("espalier %s (%s kernels)\n", espl_version(), espl_cpu_name());
        return report(&c, flush_output(&c));
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        help_program(stdout);
        return report(&c, flush_output(&c));
    }
    const command_row *row = command_find(word);
    return row ? run_command(row, count - 2, words + 2) : unknown_command(word);
}
