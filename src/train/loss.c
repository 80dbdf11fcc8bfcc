#include "train/loss.h"

#include <math.h>

#include "kernels/kernels.h"

struct espl__loss {
    espl_context *ctx;
    espl__pool *pool;
    espl__loss_options options;
    espl_dtype real;
    int64_t rows, classes;
    double *row_loss; /* added up in order, whatever thread made them */
    bool *row_correct;
    void *scratch; /* a row for each thread */
};

typedef struct job {
    espl__loss *loss;
    const void *output, *target;
    void *gradient;
    const int64_t *labels;
    int64_t rows;
    double scale;
} job;

static bool counts(const espl__loss *l, const int64_t *labels, int64_t r, int64_t rows) {
    if (r >= rows) return false;
    bool needs_label = l->options.kind == ESPL__LOSS_CROSS_ENTROPY ||
                       (l->options.kind == ESPL__LOSS_DISTILLATION && l->options.hard > 0);
    return !needs_label || (labels && labels[r] >= 0);
}

#define REAL_FILE "train/loss.inc.h"
#include "train/real.h"

espl_status espl__loss_create(espl_context *ctx, const espl__loss_options *options, const espl_tensor *output,
                              espl__loss **out, espl_diag *diag) {
    *out = NULL;
    int last = output->shape.rank - 1;
    while (last > 1 && output->shape.dim[last] == 1) last--;
    int64_t count = espl_shape_count(&output->shape);
    if (last < 1 || count < 1)
        return espl__fail(diag, ESPL_SHAPE,
                          "a loss needs an output with a batch and at least one number for each sample");
    espl__loss *l = espl__calloc(ctx, 1, sizeof *l);
    if (!l) return espl__nomem(diag, sizeof *l);
    *l =
        (espl__loss){.ctx = ctx, .pool = espl__context_pool(ctx), .options = *options, .real = output->dtype};
    if (l->options.temperature <= 0) l->options.temperature = 1;
    l->classes = output->shape.dim[last];
    if (options->kind == ESPL__LOSS_MSE) l->classes = count / output->shape.dim[0]; /* a sample */
    l->rows = count / l->classes;
    l->row_loss = espl__calloc(ctx, (uint64_t)l->rows, sizeof *l->row_loss);
    l->row_correct = espl__calloc(ctx, (uint64_t)l->rows, sizeof *l->row_correct);
    l->scratch = espl__calloc(ctx, (uint64_t)l->classes * (uint64_t)espl__pool_threads(l->pool),
                              espl_dtype_bytes(l->real));
    if (!l->row_loss || !l->row_correct || !l->scratch) {
        espl__loss_destroy(&l);
        return espl__nomem(diag, (uint64_t)count);
    }
    *out = l;
    return ESPL_OK;
}

void espl__loss_destroy(espl__loss **loss) {
    espl__loss *l = *loss;
    if (!l) return;
    *loss = NULL;
    espl__free(l->ctx, l->row_loss);
    espl__free(l->ctx, l->row_correct);
    espl__free(l->ctx, l->scratch);
    espl__free(l->ctx, l);
}

int64_t espl__loss_rows(const espl__loss *l) {
    return l->rows;
}
int64_t espl__loss_classes(const espl__loss *l) {
    return l->classes;
}

int64_t espl__loss_valid(const espl__loss *l, const int64_t *labels, int64_t rows) {
    int64_t n = 0;
    for (int64_t r = 0; r < ESPL_MIN(rows, l->rows); r++) n += counts(l, labels, r, rows);
    return n;
}

void espl__loss_run(espl__loss *l, const void *output, const int64_t *labels, int64_t rows,
                    const void *target, double scale, void *gradient, espl__loss_sums *sums) {
    job j = {l, output, target, gradient, labels, ESPL_MIN(rows, l->rows), scale};
    espl__parallel_for(l->pool, l->rows, l->real == ESPL_F64 ? range_f64 : range_f32, &j);
    for (int64_t r = 0; r < l->rows; r++) {
        sums->loss += l->row_loss[r];
        sums->correct += l->row_correct[r];
    }
    sums->rows += espl__loss_valid(l, labels, rows);
}
