/* One compression while it goes on: compress.c decides, result.c says what came of it. */
#ifndef ESPL_COMPRESS_JOB_H
#define ESPL_COMPRESS_JOB_H

#include "compress/repair/repair.h"
#include "compress/trial.h"

struct espl__result_private {
    espl__arena arena;
};

/* A layer and what a search goes by. */
typedef struct blamed {
    int node;
    double damage; /* as espl__damage_sum */
} blamed;

/* The state of one compression. */
typedef struct job {
    task k;
    espl_compress_options o; /* k.o: the caller's, with what the recipe says filled in */
    espl_compress_options asked; /* the caller's, as they came */
    const espl_graph *source;    /* the caller's network; k.graph: with repairs of the first stage, all weights f32 */
    espl_graph *prepared;        /* that one, if it is another */
    espl__repairs repairs;
    int first_repairs; /* of the first stage so many, plus 1; 0: all */
    double seconds[ESPL__REPAIR_COUNT]; /* that those of the first stage took */
    espl__recipe *recipe;
    espl_chip *chip; /* if the caller gave none */
    espl__observer observer;
    bool observer_given; /* by the caller or the recipe */
    decision *decisions;
    const char **why; /* by node; NULL: nothing special */
    espl_damage *alone; /* by node: with it alone quantized; error NaN: not computed */
    const char *fallback_chip; /* if neither the caller nor the recipe names one */
    espl_result *r;
    trial before, now;
} job;

/* A text that lives as long as the result; "" without memory. */
const char *espl__say(job *j, const char *fmt, ...) ESPL_PRINTF(2, 3);
/* Takes over the options, reads the recipe, makes the first decisions and calibrates. To be closed whatever it returns. */
ESPL_NODISCARD espl_status espl__job_open(job *j, espl_context *ctx, const espl_graph *graph,
                                          const espl_compress_options *options, espl_diag *diag);
void espl__job_close(job *j);

/* Which repairs are asked for; those of the first stage, on a copy of the network; those of the other stages, on a trial
 * that was built. The first trial so repaired is scored after each of them, for the report. */
ESPL_NODISCARD espl_status espl__job_repairs(job *j, espl_diag *diag);
ESPL_NODISCARD espl_status espl__job_prepare(job *j, espl_diag *diag);
ESPL_NODISCARD espl_status espl__job_repair(job *j, trial *t, espl_diag *diag);

/* What each layer got and why, the recipe that says the same, and the totals. */
ESPL_NODISCARD espl_status espl__job_result(job *j, espl_diag *diag);
/* Bytes of the f32 network's file. */
uint64_t espl__job_bytes_before(const job *j);

struct probe;
/* The damage that each quantized layer does when it alone is quantized, into j->alone; and the layers, worst first
 * (room for one a node). */
ESPL_NODISCARD espl_status espl__blame_alone(job *j, const struct probe *p, blamed *list, int *count,
                                             espl_diag *diag);
/* Tells how far the work is; ESPL_CANCELLED if it is to stop. */
ESPL_NODISCARD espl_status espl__job_progress(job *j, const char *what, int64_t done, int64_t total,
                                              espl_diag *diag);

#endif
