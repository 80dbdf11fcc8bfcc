/* The log of training: one line of JSON for each step and each epoch. */
#ifndef ESPL_TRAIN_LOG_H
#define ESPL_TRAIN_LOG_H

#include "base/base.h"

typedef struct espl__train_log {
    espl_context *ctx;
    const char *path;
    int file; /* -1: none */
    bool regular; /* no pipe and no device */
    espl__buffer line;
} espl__train_log;

/* Opens the log and cuts it after `keep` bytes: what was written after the checkpoint that training goes on
 * from. path may be NULL. */
ESPL_NODISCARD espl_status espl__train_log_open(espl_context *ctx, const char *path, int64_t keep,
                                                espl__train_log *out, espl_diag *diag);
void espl__train_log_close(espl__train_log *log);
void espl__train_log_begin(espl__train_log *log);
void espl__train_log_int(espl__train_log *log, const char *key, int64_t value);
/* Nothing for a value that is not finite. */
void espl__train_log_real(espl__train_log *log, const char *key, double value);
ESPL_NODISCARD espl_status espl__train_log_end(espl__train_log *log, espl_diag *diag);
/* Brings all lines to the disk; *bytes: of the log. */
ESPL_NODISCARD espl_status espl__train_log_sync(espl__train_log *log, int64_t *bytes, espl_diag *diag);

#endif
