/* One compression while it goes on: compress.c decides, result.c says what came of it. */
#ifndef ESPL_COMPRESS_JOB_H
#define ESPL_COMPRESS_JOB_H

#include "compress/trial.h"

struct espl__result_private {
    espl__arena arena;
};

/* The state of one compression. */
typedef struct job {
    task k;
    espl_compress_options o; /* k.o: the caller's, with what the recipe says filled in */
    espl__recipe *recipe;
    espl_chip *chip; /* if the caller gave none */
    decision *decisions;
    const char **why; /* by node; NULL: nothing special */
    double *error;    /* by node: relative error of the output with it alone quantized; 0: not computed */
    espl_result *r;
    trial before, now;
} job;

/* A text that lives as long as the result; "" without memory. */
const char *espl__say(job *j, const char *fmt, ...) ESPL_PRINTF(2, 3);
/* What each layer got and why, the recipe that says the same, and the totals. */
ESPL_NODISCARD espl_status espl__job_result(job *j, espl_diag *diag);

#endif
