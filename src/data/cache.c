#include "data/cache.h"

void espl__cache_init(espl__cache *c, espl_dataset *d, uint64_t limit) {
    *c = (espl__cache){
        .dataset = d, .count = d->count, .size = espl_shape_count(&d->shape[0]), .limit = limit};
    if (c->size <= 0 || (uint64_t)c->size > limit / (uint64_t)c->count) return;
    c->bytes = espl__alloc(d->ctx, (uint64_t)c->count * (uint64_t)c->size);
    c->known = espl__calloc(d->ctx, (uint64_t)c->count, sizeof *c->known);
    if (!c->bytes || !c->known) espl__cache_free(c);
}

void espl__cache_free(espl__cache *c) {
    if (!c->dataset) return;
    espl__free(c->dataset->ctx, c->bytes);
    espl__free(c->dataset->ctx, c->floats);
    espl__free(c->dataset->ctx, c->known);
    c->bytes = NULL;
    c->floats = NULL;
    c->known = NULL;
}

static bool all_bytes(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!(x[i] >= 0 && x[i] <= 255 && (float)(uint8_t)x[i] == x[i])) return false;
    return true;
}

/* The first sample that is not all bytes turns the whole cache to floats, if that fits. */
static void become_floats(espl__cache *c) {
    espl_context *ctx = c->dataset->ctx;
    uint64_t all = (uint64_t)c->count * (uint64_t)c->size;
    float *floats = all <= c->limit / sizeof(float) ? espl__alloc(ctx, all * sizeof(float)) : NULL;
    if (!floats) {
        espl__cache_free(c);
        return;
    }
    for (int64_t i = 0; i < c->count; i++)
        for (int64_t k = i * c->size; c->known[i] && k < (i + 1) * c->size; k++) floats[k] = c->bytes[k];
    espl__free(ctx, c->bytes);
    c->bytes = NULL;
    c->floats = floats;
}

static void keep(espl__cache *c, int64_t index, const float *x) {
    if (c->bytes && !all_bytes(x, c->size)) become_floats(c);
    if (!c->known) return;
    for (int64_t k = 0, at = index * c->size; k < c->size; k++) {
        if (c->bytes)
            c->bytes[at + k] = (uint8_t)x[k];
        else
            c->floats[at + k] = x[k];
    }
    c->known[index] = true;
}

espl_status espl__cache_read(espl__cache *c, int64_t index, float *scratch, const uint8_t **bytes,
                             const float **floats, espl_diag *diag) {
    *bytes = NULL;
    *floats = scratch;
    if (!c->known || !c->known[index]) {
        espl_status status = espl__dataset_raw(c->dataset, 0, index, scratch, diag);
        if (status == ESPL_OK) keep(c, index, scratch);
        return status;
    }
    if (c->bytes)
        *bytes = c->bytes + index * c->size;
    else
        *floats = c->floats + index * c->size;
    return ESPL_OK;
}
