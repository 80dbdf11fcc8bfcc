#include "data/batch.h"

#include <inttypes.h>

/* The place of the draws of an epoch's order, where that of a sample has its index. */
#define ORDER_PLACE UINT64_MAX

/* --- options --------------------------------------------------------------------------------------- */

static espl_status check_options(const espl__loader_options *o, espl_diag *diag) {
    if (o->batch < 1 || o->batch > ESPL__LOADER_MOST)
        return espl__fail(diag, ESPL_INVALID, "a batch of %" PRId64 " samples: give 1 to %d", o->batch,
                          ESPL__LOADER_MOST);
    if (o->ranks < 1 || o->rank < 0 || o->rank >= o->ranks)
        return espl__fail(diag, ESPL_INVALID, "there is no rank %d of %d", o->rank, o->ranks);
    if (o->batch % o->ranks != 0)
        return espl__fail(diag, ESPL_INVALID,
                          "a batch of %" PRId64
                          " samples cannot be cut into equal parts for %d ranks; give a "
                          "multiple of %d",
                          o->batch, o->ranks, o->ranks);
    if (o->prefetch < 0 || o->prefetch > ESPL__LOADER_MOST_PREFETCH)
        return espl__fail(diag, ESPL_INVALID, "%d batches made ahead: give 0 to %d", o->prefetch,
                          ESPL__LOADER_MOST_PREFETCH);
    return ESPL_OK;
}

/* Zaremba's arrangement: N tokens in B columns of N / B, the last of which is a target only. */
static espl_status count_text_steps(espl__batcher *b, espl_diag *diag) {
    const espl_dataset *d = b->dataset;
    const espl__loader_options *o = &b->options;
    b->sequence = o->sequence ? o->sequence : d->shape[0].dim[0];
    b->column = d->token_count / o->batch;
    if (b->sequence < 1 || b->sequence > ESPL__TEXT_MAX_SEQUENCE)
        return espl__fail(diag, ESPL_INVALID, "a sequence of %" PRId64 " tokens: give 1 to %d", b->sequence,
                          ESPL__TEXT_MAX_SEQUENCE);
    b->steps = (b->column - 1) / b->sequence;
    if (b->column > b->sequence) return ESPL_OK;
    return espl__fail(diag, ESPL_INVALID,
                      "the %" PRId64 " tokens of %s in %" PRId64 " columns are %" PRId64
                      " each, and a step of %" PRId64 " and the token behind it need %" PRId64
                      "; give a smaller batch or sequence",
                      d->token_count, d->file, o->batch, b->column, b->sequence, b->sequence + 1);
}

static espl_status count_steps(espl__batcher *b, espl_diag *diag) {
    const espl__loader_options *o = &b->options;
    if (b->dataset->tokens) return count_text_steps(b, diag);
    b->samples = espl_dataset_count(b->dataset);
    b->steps = b->samples / o->batch + (!o->drop_last && b->samples % o->batch != 0);
    if (b->steps == 0)
        return espl__fail(diag, ESPL_INVALID,
                          "the %" PRId64 " samples of %s do not fill one batch of %" PRId64
                          "; give a smaller batch or keep the last one",
                          b->samples, b->dataset->file, o->batch);
    if (o->shuffle && b->samples > UINT32_MAX)
        return espl__fail(diag, ESPL_LIMIT, "%s: %" PRId64 " samples are too many to shuffle",
                          b->dataset->file, b->samples);
    return ESPL_OK;
}

/* --- create and free --------------------------------------------------------------------------------- */

static espl_status prepare_images(espl__batcher *b, espl_diag *diag) {
    espl_dataset *d = b->dataset;
    int64_t size = espl_shape_count(&d->shape[0]);
    b->raw = espl__calloc(b->ctx, (uint64_t)ESPL_MAX(size, 1), sizeof *b->raw);
    if (!b->raw) return espl__nomem(diag, (uint64_t)size * sizeof *b->raw);
    /* Other kinds have their samples in memory as it is. */
    uint64_t limit = b->options.cache ? b->options.cache : ESPL__LOADER_CACHE;
    espl__cache_init(&b->cache, d, d->kind->picture ? limit : 0);
    return espl__augmenter_create(d, b->options.augment, &b->augmenter, diag);
}

espl_status espl__batcher_create(espl_context *ctx, espl_dataset *d, const espl__loader_options *options,
                                 espl__batcher *b, espl_diag *diag) {
    espl_status status = ESPL_OK;
    *b = (espl__batcher){.ctx = ctx, .dataset = d, .options = *options, .ordered = -1};
    if (options->ranks == 0 && options->rank == 0) b->options.ranks = 1;
    ESPL_TRY(check_options(&b->options, diag));
    ESPL_TRY(count_steps(b, diag));
    if (options->shuffle && !b->sequence) {
        b->order = espl__calloc(ctx, (uint64_t)b->samples, sizeof *b->order);
        if (!b->order) {
            status = espl__nomem(diag, (uint64_t)b->samples * sizeof *b->order);
            goto done;
        }
    }
    b->images = d->inputs == 1 && d->shape[0].rank == 3;
    if (b->images) ESPL_TRY(prepare_images(b, diag));
done:
    return status;
}

void espl__batcher_free(espl__batcher *b) {
    espl__free(b->ctx, b->order);
    espl__free(b->ctx, b->raw);
    espl__cache_free(&b->cache);
    espl__augmenter_free(&b->augmenter);
}

static espl_status create_text_store(const espl__batcher *b, espl__batch_store *s, espl_diag *diag) {
    uint64_t count = (uint64_t)(b->options.batch / b->options.ranks * b->sequence);
    s->tokens = espl__calloc(b->ctx, count, sizeof *s->tokens);
    s->targets = espl__calloc(b->ctx, count, sizeof *s->targets);
    return s->tokens && s->targets ? ESPL_OK : espl__nomem(diag, count * sizeof *s->tokens);
}

espl_status espl__batch_store_create(const espl__batcher *b, espl__batch_store *s, espl_diag *diag) {
    uint64_t most = (uint64_t)(b->options.batch / b->options.ranks);
    *s = (espl__batch_store){0};
    if (b->sequence) return create_text_store(b, s, diag);
    for (int i = 0; i < b->dataset->inputs; i++) {
        uint64_t size = (uint64_t)espl_shape_count(&b->dataset->shape[i]);
        s->input[i] =
            size <= UINT64_MAX / sizeof(float) ? espl__calloc(b->ctx, most, size * sizeof(float)) : NULL;
        if (!s->input[i]) return espl__nomem(diag, most * size * sizeof(float));
    }
    s->labels = espl__calloc(b->ctx, most, sizeof *s->labels);
    s->index = espl__calloc(b->ctx, most, sizeof *s->index);
    return s->labels && s->index ? ESPL_OK : espl__nomem(diag, most * sizeof *s->index);
}

void espl__batch_store_free(espl_context *ctx, espl__batch_store *s) {
    for (int i = 0; i < ESPL__DATA_MAX_INPUTS; i++) espl__free(ctx, s->input[i]);
    espl__free(ctx, s->labels);
    espl__free(ctx, s->index);
    espl__free(ctx, s->tokens);
    espl__free(ctx, s->targets);
    *s = (espl__batch_store){0};
}

/* --- a batch ------------------------------------------------------------------------------------------- */

static void order_epoch(espl__batcher *b, int64_t epoch) {
    if (!b->order || b->ordered == epoch) return;
    espl__rng rng = espl__rng_at(b->options.seed, (uint64_t)epoch, ORDER_PLACE);
    for (int64_t i = 0; i < b->samples; i++) b->order[i] = i;
    espl__rng_shuffle(&rng, b->order, b->samples);
    b->ordered = epoch;
}

static espl_status make_sample(espl__batcher *b, int64_t epoch, int64_t index, int64_t place,
                               espl__batch_store *s, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_dataset *d = b->dataset;
    ESPL_TRY(espl_dataset_label(d, index, &s->labels[place], diag));
    for (int i = 0; i < d->inputs; i++) {
        float *out = s->input[i] + place * espl_shape_count(&d->shape[i]);
        if (!b->images) {
            ESPL_TRY(espl_dataset_read(d, i, index, out, diag));
            continue;
        }
        const uint8_t *bytes;
        const float *floats;
        ESPL_TRY(espl__cache_read(&b->cache, index, b->raw, &bytes, &floats, diag));
        espl__augment_draw draw = espl__augment_choose(&b->augmenter, b->options.seed, epoch, index);
        if (bytes)
            espl__augment_bytes(&b->augmenter, &draw, bytes, out);
        else
            espl__augment_floats(&b->augmenter, &draw, floats, out);
    }
done:
    return status;
}

/* Token t of this rank's column c. */
static void make_text(const espl__batcher *b, int64_t epoch, int64_t step, espl__batch_store *s,
                      espl__batch *batch) {
    const espl__loader_options *o = &b->options;
    int64_t columns = o->batch / o->ranks;
    *batch = (espl__batch){.epoch = epoch,
                           .step = step,
                           .count = columns,
                           .total = o->batch,
                           .sequence = b->sequence,
                           .tokens = s->tokens,
                           .targets = s->targets};
    for (int64_t c = 0; c < columns; c++) {
        const int32_t *from = b->dataset->tokens + (o->rank * columns + c) * b->column + step * b->sequence;
        for (int64_t t = 0; t < b->sequence; t++) {
            s->tokens[t * columns + c] = from[t];
            s->targets[t * columns + c] = from[t + 1];
        }
    }
}

espl_status espl__batch_make(espl__batcher *b, int64_t epoch, int64_t step, espl__batch_store *s,
                             espl__batch *batch, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__loader_options *o = &b->options;
    if (b->sequence) {
        make_text(b, epoch, step, s, batch);
        return ESPL_OK;
    }
    int64_t first = step * o->batch, total = ESPL_MIN(o->batch, b->samples - first);
    int64_t begin = total * o->rank / o->ranks, end = total * (o->rank + 1) / o->ranks;
    *batch = (espl__batch){.epoch = epoch,
                           .step = step,
                           .count = end - begin,
                           .total = total,
                           .inputs = b->dataset->inputs,
                           .labels = s->labels,
                           .index = s->index};
    for (int i = 0; i < batch->inputs; i++) batch->input[i] = s->input[i];
    order_epoch(b, epoch);
    for (int64_t k = 0; k < batch->count; k++) {
        int64_t place = first + begin + k;
        s->index[k] = b->order ? b->order[place] : place;
        ESPL_TRY(make_sample(b, epoch, s->index[k], k, s, diag));
    }
done:
    return status;
}
