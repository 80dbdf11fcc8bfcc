#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>

#include "ops/ops.h"

void espl__trainer_swap(espl__trainer *t) {
    char *average = espl__optim_average(t->optim), buffer[4096];
    int64_t count;
    char *weights = espl__engine_weights(t->engine, &count);
    if (!average) return;
    size_t bytes = (size_t)count * espl_dtype_bytes(t->real);
    for (size_t i = 0; i < bytes; i += sizeof buffer) {
        size_t n = ESPL_MIN(sizeof buffer, bytes - i);
        memcpy(buffer, weights + i, n);
        memcpy(weights + i, average + i, n);
        memcpy(average + i, buffer, n);
    }
}

espl_status espl__trainer_labels(espl__trainer *t, const espl__batch *b, int64_t *rows, espl_diag *diag) {
    int64_t all = espl__loss_rows(t->loss), classes = espl__loss_classes(t->loss);
    const int64_t *from = b->tokens ? b->targets : b->labels;
    *rows = b->tokens ? b->count * b->sequence : b->count;
    for (int64_t r = 0; r < all; r++) {
        t->labels[r] = r < *rows ? from[r] : -1;
        if (t->s->loss != ESPL__LOSS_MSE + 1 && t->labels[r] >= classes)
            return espl__fail(diag, ESPL_SHAPE,
                              "%s: sample %" PRId64 " of the data has label %" PRId64
                              "; the network tells %" PRId64 " classes apart",
                              t->graph->file, b->tokens ? r : b->index[r], t->labels[r], classes);
    }
    return ESPL_OK;
}

espl_status espl__trainer_target(espl__trainer *t, const espl__batch *b, const void **target,
                                 espl_diag *diag) {
    espl_status status = ESPL_OK;
    *target = t->target;
    if (t->teacher) {
        espl__train_feed_batch(&t->feed, t->teacher, b);
        ESPL_TRY(espl__engine_forward(t->teacher, false, 0, diag));
        *target = espl__engine_output(t->teacher, t->feed.output).data;
    } else if (t->target) {
        int64_t count = t->batch * espl__loss_classes(t->loss);
        for (int64_t i = 0; i < count; i += ESPL__CHUNK) {
            double x[ESPL__CHUNK];
            int64_t n = ESPL_MIN(count - i, ESPL__CHUNK);
            espl__load_f64(ESPL_F32, b->input[0] + i, 1, n, x);
            espl__store_f64(t->real, x, n, espl__at_mut(t->target, t->real, i));
        }
    }
done:
    return status;
}

static espl_status evaluate_batch(espl__trainer *t, const espl__batch *b, espl__loss_sums *sums,
                                  espl_diag *diag) {
    espl_status status = ESPL_OK;
    int64_t rows;
    const void *target;
    ESPL_TRY(espl__trainer_labels(t, b, &rows, diag));
    ESPL_TRY(espl__trainer_target(t, b, &target, diag));
    espl__train_feed_batch(&t->feed, t->engine, b);
    ESPL_TRY(espl__engine_forward(t->engine, false, 0, diag));
    espl__loss_run(t->loss, espl__engine_output(t->engine, t->feed.output).data, t->labels, rows, target, 1,
                   NULL, sums);
    espl__train_feed_carry(&t->feed, t->engine);
done:
    return status;
}

/* The state that training carries waits outside meanwhile. */
static espl_status run_all(espl__trainer *t, espl__loss_sums *sums, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__batch b;
    int64_t steps = espl__loader_steps(t->eval);
    ESPL_TRY(espl__loader_seek(t->eval, 0, 0, diag));
    for (int64_t i = 0; i < steps; i++) {
        ESPL_TRY(espl__loader_next(t->eval, &b, diag));
        ESPL_TRY(evaluate_batch(t, &b, sums, diag));
        espl__trainer_tell(t, ESPL_TRAIN_EVALUATING, i + 1, steps, sums);
    }
done:
    return status;
}

espl_status espl__trainer_evaluate(espl__trainer *t, espl_diag *diag) {
    espl__loss_sums sums = {0};
    espl__train_feed_reset(&t->feed);
    espl__trainer_swap(t);
    espl_status status = run_all(t, &sums, diag);
    espl__trainer_swap(t);
    espl__train_feed_reset(&t->feed);
    if (status != ESPL_OK) return status;
    double all[3] = {sums.loss, (double)sums.rows, (double)sums.correct};
    status = espl__ranks_sum(t->ranks, all, 3);
    t->eval_loss = all[1] > 0 ? all[0] / all[1] : NAN;
    t->eval_top1 = all[1] > 0 ? all[2] / all[1] : NAN;
    return status == ESPL_OK ? status : espl__fail(diag, status, "a rank of the training job is lost");
}
