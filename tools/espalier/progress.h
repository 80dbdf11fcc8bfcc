/* Progress on standard error, and signals that ask to stop. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct progress {
    bool quiet, terminal;
    bool line_open;     /* a line without its end stands on the terminal */
    char what[64];      /* the work going on */
    double begin, last; /* when it began, when it was last shown */
    int64_t first;      /* what was done of it when it was first heard of */
} progress;

void progress_init(progress *p, bool quiet);
/* An espl_progress; `user` is the progress. False once Ctrl-C was pressed. */
bool progress_update(void *user, const char *what, int64_t done, int64_t total);
/* Removes the line from the terminal, before something else is printed. */
void progress_clear(progress *p);

/* Shows a line: on a terminal in place of the last one, now and then; elsewhere not at all. */
void progress_line(progress *p, const char *line);
/* "0:07", "12:30", "1:02:03" */
void progress_clock(double seconds, char *buf, size_t size);

/* From here on Ctrl-C, SIGTERM (which is how schedulers ask) and SIGHUP ask the work to stop; a second one ends the program
 * at once. Writing to a pipe that nobody reads is an error and no signal. */
void progress_catch_interrupt(void);
/* The number of the signal that asked, 0 if none did. */
int progress_interrupted(void);

double seconds_now(void);

#endif
