/* Checkpoints: all that training needs to go on as if it had never stopped, in one file that appears whole or
 * not at all.
 *
 * Bytes: "ESPLCKPT", version (u32), CRC-32 of all behind it (u32), then numbers of 64 bits and byte strings
 * that begin with their length, in the order of the two functions. Little-endian. */
#ifndef ESPL_TRAIN_CHECKPOINT_H
#define ESPL_TRAIN_CHECKPOINT_H

#include "base/base.h"

enum { ESPL__CHECKPOINT_VERSION = 1, ESPL__CHECKPOINT_PARTS = 256, ESPL__CHECKPOINT_STATES = 240 };

/* Numbers of the state. X(field) */
#define ESPL__CHECKPOINT_COUNTS(X)                                                                  \
    X(network)                                                                                      \
    X(epoch) X(step) X(total) X(finished) X(rows) X(correct) X(waited) X(best_epoch) X(optim_steps) \
        X(log_bytes)
#define ESPL__CHECKPOINT_REALS(X)                                                                 \
    X(loss)                                                                                       \
    X(factor) X(schedule_best) X(best_loss) X(best_top1) X(epoch_loss) X(epoch_top1) X(eval_loss) \
        X(eval_top1) X(epoch_seconds) X(epoch_samples)

typedef struct espl__checkpoint {
#define X(name) int64_t name;
    ESPL__CHECKPOINT_COUNTS(X)
#undef X
#define X(name) double name;
    ESPL__CHECKPOINT_REALS(X)
#undef X
    const char *settings; /* lines of YAML; when read, in `bytes` */
    size_t settings_length;
    /* Vectors: where they are in memory, when writing and when reading. */
    struct {
        void *data;
        uint64_t bytes;
    } part[ESPL__CHECKPOINT_PARTS];
    int parts;
    uint8_t *bytes; /* of a file that was read */
    uint64_t length;
} espl__checkpoint;

void espl__checkpoint_add(espl__checkpoint *c, void *data, uint64_t bytes);
ESPL_NODISCARD espl_status espl__checkpoint_write(espl_context *ctx, const espl__checkpoint *c,
                                                  const char *path, espl_diag *diag);
/* Reads numbers and settings; the vectors stay in c->bytes, to be taken by take. */
ESPL_NODISCARD espl_status espl__checkpoint_read(espl_context *ctx, espl__checkpoint *c, const char *path,
                                                 espl_diag *diag);
/* Copies the file's vectors into those of `to` (espl__checkpoint_add), which must have the same sizes. */
ESPL_NODISCARD espl_status espl__checkpoint_take(const espl__checkpoint *c, const espl__checkpoint *to,
                                                 const char *path, espl_diag *diag);
void espl__checkpoint_free(espl_context *ctx, espl__checkpoint *c);

#endif
