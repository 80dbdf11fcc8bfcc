/* What a test took. */
#ifndef CLOCK_H
#define CLOCK_H

#include <time.h>

/* Seconds of the processor: a machine that is busy with others makes nothing slow. */
static inline double processor_seconds(clockid_t clock) {
    struct timespec t = {0, 0};
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Those of this program. */
static inline double seconds_worked(void) {
    return processor_seconds(CLOCK_PROCESS_CPUTIME_ID);
}

#endif
