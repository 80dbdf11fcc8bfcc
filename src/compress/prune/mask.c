/* From a pattern and saliencies to which weights stay. Two kinds of patterns:
 *  - banks (N:M): in every bank the N most salient stay;
 *  - units (single weights, blocks, rows, columns, kernels): the units of least mean saliency go as a whole.
 */
#include "compress/prune/prune.h"

#include <math.h>
#include <stdlib.h>

/* Saliencies are not negative, so their bits have the order of their values, and a NaN is above all. */
static uint32_t key_of(float saliency) {
    uint32_t bits;
    memcpy(&bits, &saliency, sizeof bits);
    return bits & 0x7FFFFFFF;
}

/* --- units ------------------------------------------------------------------------------------------- */

typedef struct units {
    espl__unit grid;
    int64_t count;
    float *saliency;
} units;

/* Which units go: those with a smaller key, and of those with the same key all but the first `stay`. */
typedef struct cut {
    uint32_t key;
    int64_t stay;
} cut;

/* Counts the keys of which the upper bits are `prefix`, by their next 16 bits. */
static void count_keys(const units *u, int parts, uint32_t prefix, int shift, int64_t *histogram) {
    memset(histogram, 0, sizeof *histogram << 16);
    for (int p = 0; p < parts; p++)
        for (int64_t i = 0; i < u[p].count; i++) {
            uint32_t key = key_of(u[p].saliency[i]);
            if (shift || key >> 16 == prefix) histogram[key >> shift & 0xFFFF]++;
        }
}

/* The cut below which `go` units lie: a radix selection in two steps, exact and without sorting. */
static cut find_cut(const units *u, int parts, int64_t go, int64_t *histogram) {
    uint32_t prefix = 0, digit = 0;
    for (int shift = 16; shift >= 0; shift -= 16) {
        count_keys(u, parts, prefix, shift, histogram);
        for (digit = 0; digit < 0xFFFF && histogram[digit] <= go; digit++) go -= histogram[digit];
        prefix = prefix << 16 | digit;
    }
    return (cut){prefix, histogram[digit] - go};
}

/* The mean saliency of every unit, summed in double in the order of the matrix. Sums of single weights are
 * the weights' saliencies and need no room. */
static void add_up(const espl__prune_part *part, const units *u, double *sum) {
    const espl__matrix *m = &part->matrix;
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t t = 0; t < m->taps; t++) {
            int64_t first = espl__unit_at(&u->grid, r, t), at = espl__matrix_at(m, r, t, 0);
            for (int64_t i = 0; i < m->inputs; i++, at += m->by_input)
                if (sum)
                    sum[first + i / u->grid.inputs] += (double)part->saliency[at];
                else
                    u->saliency[first + i] = part->saliency[at];
        }
    for (int64_t k = 0; sum && k < u->count; k++)
        u->saliency[k] = (float)(sum[k] / (double)espl__unit_size(&u->grid, m, k));
}

static espl_status weigh_units(espl_context *ctx, const espl_sparsity *pattern, const espl__prune_part *part,
                               units *u, espl_diag *diag) {
    u->grid = espl__pattern_unit(pattern, &part->matrix);
    u->count = espl__unit_count(&u->grid);
    bool single = u->count == espl__matrix_count(&part->matrix);
    double *sum = single ? NULL : espl__calloc(ctx, (uint64_t)u->count, sizeof *sum);
    u->saliency = espl__calloc(ctx, (uint64_t)u->count, sizeof *u->saliency);
    bool good = u->saliency && (single || sum);
    if (good) add_up(part, u, sum);
    espl__free(ctx, sum);
    return good ? ESPL_OK : espl__nomem(diag, (uint64_t)u->count * sizeof *sum);
}

/* `equal` counts the units at the cut over all parts. */
static void keep_units(const units *u, cut c, const espl__prune_part *part, int64_t *equal) {
    const espl__matrix *m = &part->matrix;
    for (int64_t k = 0; k < u->count; k++) {
        uint32_t key = key_of(u->saliency[k]);
        bool stays = key == c.key ? (*equal)++ < c.stay : key > c.key;
        u->saliency[k] = stays ? 1.0f : 0.0f;
    }
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t t = 0; t < m->taps; t++) {
            int64_t first = espl__unit_at(&u->grid, r, t), at = espl__matrix_at(m, r, t, 0);
            for (int64_t i = 0; i < m->inputs; i++)
                part->keep[at + i * m->by_input] = u->saliency[first + i / u->grid.inputs] > 0;
        }
}

static espl_status mask_units(espl_context *ctx, const espl_sparsity *pattern, const espl__prune_part *parts,
                              int count, espl_diag *diag) {
    espl_status status = ESPL_OK;
    units *u = espl__calloc(ctx, (uint64_t)count, sizeof *u);
    int64_t *histogram = espl__calloc(ctx, 1 << 16, sizeof *histogram), all = 0, equal = 0;
    if (!u || !histogram) {
        status = espl__nomem(diag, sizeof *histogram << 16);
        goto done;
    }
    for (int p = 0; p < count; p++) {
        ESPL_TRY(weigh_units(ctx, pattern, &parts[p], &u[p], diag));
        all += u[p].count;
    }
    int64_t go = llround(espl_sparsity_share(pattern) * (double)all);
    cut c = go < all ? find_cut(u, count, go, histogram) : (cut){UINT32_MAX, 0};
    for (int p = 0; p < count; p++) keep_units(&u[p], c, &parts[p], &equal);
done:
    for (int p = 0; u && p < count; p++) espl__free(ctx, u[p].saliency);
    espl__free(ctx, u);
    espl__free(ctx, histogram);
    return status;
}

/* --- banks ------------------------------------------------------------------------------------------- */

static int descending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* The n most salient of `length` weights, `step` elements apart. */
static void mask_bank(const float *saliency, int64_t length, int64_t step, int64_t n, uint64_t *order,
                      uint8_t *keep) {
    for (int64_t i = 0; i < length; i++) {
        order[i] = (uint64_t)key_of(saliency[i * step]) << 32 | (uint32_t)(ESPL_BANK_MAX - i);
        keep[i * step] = 0;
    }
    if (length > n) qsort(order, (size_t)length, sizeof *order, descending);
    for (int64_t i = 0; i < n && i < length; i++)
        keep[(ESPL_BANK_MAX - (int64_t)(uint32_t)order[i]) * step] = 1;
}

static espl_status mask_banks(espl_context *ctx, const espl_sparsity *pattern, const espl__prune_part *parts,
                              int count, espl_diag *diag) {
    uint64_t *order = espl__calloc(ctx, (uint64_t)pattern->m, sizeof *order);
    if (!order) return espl__nomem(diag, (uint64_t)pattern->m * sizeof *order);
    for (int p = 0; p < count; p++) {
        const espl__matrix *m = &parts[p].matrix;
        for (int64_t r = 0; r < m->rows; r++)
            for (int64_t t = 0; t < m->taps; t++)
                for (int64_t i = 0; i < m->inputs; i += pattern->m) {
                    int64_t at = espl__matrix_at(m, r, t, i);
                    mask_bank(parts[p].saliency + at, ESPL_MIN(pattern->m, m->inputs - i), m->by_input,
                              pattern->n, order, parts[p].keep + at);
                }
    }
    espl__free(ctx, order);
    return ESPL_OK;
}

/* --- the table --------------------------------------------------------------------------------------- */

static espl_status mask_all(espl_context *ctx, const espl_sparsity *pattern, const espl__prune_part *parts,
                            int count, espl_diag *diag) {
    (void)ctx, (void)pattern, (void)diag;
    for (int p = 0; p < count; p++) memset(parts[p].keep, 1, (size_t)espl__matrix_count(&parts[p].matrix));
    return ESPL_OK;
}

static espl_status (*const makers[ESPL_PATTERN_COUNT])(espl_context *, const espl_sparsity *,
                                                       const espl__prune_part *, int, espl_diag *) = {
    [ESPL_PATTERN_DENSE] = mask_all,    [ESPL_PATTERN_UNSTRUCTURED] = mask_units,
    [ESPL_PATTERN_NM] = mask_banks,     [ESPL_PATTERN_BANK] = mask_banks,
    [ESPL_PATTERN_BLOCK] = mask_units,  [ESPL_PATTERN_ROW] = mask_units,
    [ESPL_PATTERN_COLUMN] = mask_units, [ESPL_PATTERN_KERNEL] = mask_units,
};

espl_status espl__prune_masks(espl_context *ctx, const espl_sparsity *pattern, const espl__prune_part *parts,
                              int count, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int together = pattern->global ? count : 1;
    for (int p = 0; p < count && status == ESPL_OK; p += together)
        status = makers[pattern->pattern](ctx, pattern, parts + p, together, diag);
    return status;
}
