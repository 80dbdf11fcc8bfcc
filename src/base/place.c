/* Offsets for buffers that live for a while each: the largest first, each at the lowest offset that none alive at the
 * same time covers. */
#include "base/base.h"

#include <stdlib.h>

static int by_size(const void *a, const void *b) {
    const espl__span *x = *(espl__span *const *)a, *y = *(espl__span *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : x < y ? -1 : 1;
}

static void place(espl__span *b, espl__span *const *placed, int count) {
    b->offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int j = 0; j < count; j++) {
            const espl__span *o = placed[j];
            bool together = o->first <= b->last && b->first <= o->last;
            if (together && o->offset < b->offset + b->bytes && b->offset < o->offset + o->bytes) {
                b->offset = o->offset + o->bytes;
                moved = true;
            }
        }
    }
}

espl_status espl__place(espl_context *ctx, espl__span *spans, int count, uint64_t most, uint64_t *total,
                        espl_diag *diag) {
    espl__span **order = espl__calloc(ctx, (uint64_t)count + 1, sizeof *order);
    if (!order) return espl__nomem(diag, sizeof *order);
    for (int i = 0; i < count; i++) order[i] = &spans[i];
    qsort(order, (size_t)count, sizeof *order, by_size);
    *total = 0;
    for (int i = 0; i < count && *total <= most; i++) {
        place(order[i], order, i);
        *total = ESPL_MAX(*total, order[i]->offset + order[i]->bytes);
    }
    espl__free(ctx, order);
    return ESPL_OK;
}
