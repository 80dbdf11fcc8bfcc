/* Progress on standard error, and Ctrl-C. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
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

/* From here on Ctrl-C asks the work to stop (a second one ends the program at once). */
void progress_catch_interrupt(void);
bool progress_interrupted(void);

double seconds_now(void);

#endif
