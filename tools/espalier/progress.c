#include "progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Work that takes less is not worth a line. */
static const double patience = 2, redraw = 0.2, plain_interval = 10;

static volatile sig_atomic_t interrupted;

double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void on_interrupt(int signal) {
    interrupted = signal;
}

static void handle(int signal, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = handler == SIG_IGN ? 0 : SA_RESETHAND; /* the second one ends the program */
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

void progress_catch_interrupt(void) {
    struct sigaction now;
    handle(SIGINT, on_interrupt);
    handle(SIGTERM, on_interrupt);
    if (sigaction(SIGHUP, NULL, &now) == 0 && now.sa_handler != SIG_IGN) /* nohup ignores it */
        handle(SIGHUP, on_interrupt);
    handle(SIGPIPE, SIG_IGN); /* nobody reads the progress any more: no reason to lose the work */
}

int progress_interrupted(void) {
    return interrupted;
}

void progress_init(progress *p, bool quiet) {
    memset(p, 0, sizeof *p);
    p->quiet = quiet;
    p->terminal = isatty(STDERR_FILENO) == 1;
}

void progress_clear(progress *p) {
    if (p->line_open) fputs("\r\033[K", stderr);
    p->line_open = false;
}

void progress_clock(double seconds, char *buf, size_t size) {
    int64_t s = seconds < 0 ? 0 : seconds > 359999 ? 359999 : (int64_t)(seconds + 0.5);
    if (s < 3600)
        snprintf(buf, size, "%" PRId64 ":%02" PRId64, s / 60, s % 60);
    else
        snprintf(buf, size, "%" PRId64 ":%02" PRId64 ":%02" PRId64, s / 3600, s / 60 % 60, s % 60);
}

static void show(progress *p, int64_t done, int64_t total, double now) {
    char left[32] = "", line[160];
    if (total > 0 && done > p->first && done <= total) {
        char clock[24];
        progress_clock((now - p->begin) / (double)(done - p->first) * (double)(total - done), clock,
                   sizeof clock);
        snprintf(left, sizeof left, ", %s left", clock);
    }
    if (total > 0)
        snprintf(line, sizeof line, "%s: %" PRId64 " of %" PRId64 " (%d %%)%s", p->what, done, total,
                 (int)(100.0 * (double)done / (double)total), left);
    else
        snprintf(line, sizeof line, "%s: %" PRId64, p->what, done);
    if (p->terminal) {
        fprintf(stderr, "\r\033[K%s", line);
        p->line_open = true;
    } else {
        fprintf(stderr, "%s\n", line);
    }
    fflush(stderr);
}

void progress_line(progress *p, const char *line) {
    double now = seconds_now();
    if (p->quiet || !p->terminal || now - p->last < redraw) return;
    p->last = now;
    fprintf(stderr, "\r\033[K%s", line);
    p->line_open = true;
    fflush(stderr);
}

bool progress_update(void *user, const char *what, int64_t done, int64_t total) {
    progress *p = user;
    double now = seconds_now();
    if (interrupted) {
        progress_clear(p);
        return false;
    }
    if (strncmp(p->what, what, sizeof p->what - 1) != 0) {
        progress_clear(p);
        snprintf(p->what, sizeof p->what, "%s", what);
        p->begin = now;
        p->last = 0;
        p->first = done;
        return true;
    }
    if (p->quiet || now - p->begin < patience) return true;
    if (p->last != 0 && now - p->last < (p->terminal ? redraw : plain_interval)) return true;
    p->last = now;
    show(p, done, total, now);
    return true;
}
