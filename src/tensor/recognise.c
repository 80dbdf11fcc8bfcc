/* Which pattern the zeros of a weight matrix satisfy. With fewer than LEAST zeros it is dense. Else the first
 * of these:
 *
 *  1. row, column, kernel, then blocks from large to small (the list below): units that are zero as a whole
 * explain the zeros, that is, of the weights outside them fewer than STRAY are zero;
 *  2. N:M for M of 4 (nm) and of 8, 16, 32, 64 (bank): N is the largest number of non-zeros of any bank, and
 * so many are in nearly all of them: of the N places of each bank at least FILLED hold a non-zero. Of several
 * M the one whose banks are filled best, of equal ones the smallest: 2:4 is also 4:8, but not the other way;
 *  3. unstructured.
 *
 * Not all has to be exact, since weights that stayed may be 0 too: rounding to few bits makes zeros. */
#include <math.h>

#include "tensor/sparse.h"

#define LEAST 0.3
#define STRAY 0.1
#define FILLED 0.85
enum { RUNS = 64, RUN = 64 };

typedef struct look {
    const espl__matrix *m;
    const uint8_t *kept; /* by element of the tensor */
    int64_t count, kept_count;
    uint8_t *live; /* scratch: room for `count` */
} look;

/* Runs of elements all over the tensor: enough to see that it has few zeros. */
static bool seems_dense(const espl_tensor *t, int64_t count) {
    int64_t zeros = 0;
    if (count < 4 * RUNS * RUN) return false;
    for (int64_t r = 0; r < RUNS; r++) {
        int64_t from = count / RUNS * r;
        for (int64_t i = from; i < from + RUN; i++) zeros += espl__is_zero(t, i);
    }
    return (double)zeros < LEAST / 3 * RUNS * RUN;
}

static double four_digits(double share) {
    return round(share * 1e4) / 1e4;
}

/* --- units ------------------------------------------------------------------------------------------- */

/* Whether what is zero is zero because its whole unit is; sets the share. */
static bool explains(const look *l, espl_sparsity *pattern) {
    const espl__matrix *m = l->m;
    espl__unit u = espl__pattern_unit(pattern, m);
    int64_t units = espl__unit_count(&u), dead = 0, live = 0;
    if (units == l->count || units < 2) return false;
    memset(l->live, 0, (size_t)units);
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t t = 0; t < m->taps; t++) {
            int64_t first = espl__unit_at(&u, r, t), at = espl__matrix_at(m, r, t, 0);
            for (int64_t i = 0; i < m->inputs; i++, at += m->by_input)
                l->live[first + i / u.inputs] |= l->kept[at];
        }
    for (int64_t k = 0; k < units; k++) {
        dead += !l->live[k];
        if (l->live[k]) live += espl__unit_size(&u, m, k);
    }
    pattern->share = (float)four_digits((double)dead / (double)units);
    return (double)(live - l->kept_count) <= STRAY * (double)live;
}

/* Large before small, so that a block is not taken for many. */
static const int8_t sizes[][2] = {{32, 32}, {16, 16}, {8, 8}, {4, 4}, {1, 32}, {32, 1},
                                  {1, 16},  {16, 1},  {1, 8}, {8, 1}, {1, 4},  {4, 1}};

/* Every larger block is made of these two. */
static bool is_block(const look *l, espl_sparsity *out) {
    espl_sparsity wide = {.pattern = ESPL_PATTERN_BLOCK, .rows = 1, .columns = 4}, high = wide;
    high.rows = 4;
    high.columns = 1;
    bool by_inputs = explains(l, &wide), by_rows = explains(l, &high);
    for (size_t i = 0; i < ESPL_COUNT(sizes) && (by_inputs || by_rows); i++) {
        *out = (espl_sparsity){.pattern = ESPL_PATTERN_BLOCK, .rows = sizes[i][0], .columns = sizes[i][1]};
        if ((out->rows > 1 && !by_rows) || (out->columns > 1 && !by_inputs)) continue;
        if (out->rows <= l->m->rows && out->columns <= l->m->inputs && explains(l, out)) return true;
    }
    return false;
}

static bool is_unit(const look *l, espl_sparsity *out) {
    static const espl_pattern whole[] = {ESPL_PATTERN_ROW, ESPL_PATTERN_COLUMN, ESPL_PATTERN_KERNEL};
    for (size_t i = 0; i < ESPL_COUNT(whole); i++) {
        *out = (espl_sparsity){.pattern = whole[i]};
        if (explains(l, out)) return true;
    }
    return is_block(l, out);
}

/* --- banks ------------------------------------------------------------------------------------------- */

/* Non-zeros of the bank that begins at an element. */
static int32_t in_bank(const look *l, int64_t at, int64_t length) {
    int32_t n = 0;
    for (int64_t i = 0; i < length; i++) n += l->kept[at + i * l->m->by_input];
    return n;
}

/* How many places each row has at one tap if a bank keeps n. */
static int64_t places(const look *l, int32_t n, int32_t m) {
    return l->m->inputs / m * n + ESPL_MIN(n, l->m->inputs % m);
}

/* The largest number of non-zeros in a bank of m; gives up (m) once they fill their places too badly. */
static int32_t fullest(const look *l, int32_t m) {
    const espl__matrix *x = l->m;
    int32_t most = 1;
    for (int64_t r = 0; r < x->rows; r++) {
        for (int64_t t = 0; t < x->taps; t++)
            for (int64_t i = 0; i < x->inputs; i += m) {
                int32_t n = in_bank(l, espl__matrix_at(x, r, t, i), ESPL_MIN(m, x->inputs - i));
                most = ESPL_MAX(most, n);
            }
        if ((double)l->kept_count < FILLED * (double)(x->rows * x->taps * places(l, most, m))) return m;
    }
    return most;
}

static bool is_banks(const look *l, espl_sparsity *out) {
    double best = FILLED;
    for (int32_t m = 4; m <= 64 && m <= l->m->inputs; m *= 2) {
        int32_t n = fullest(l, m);
        if (n >= m) continue;
        double filled = (double)l->kept_count / (double)(l->m->rows * l->m->taps * places(l, n, m));
        if (filled < best + (best > FILLED ? 0.01 : 0)) continue;
        best = filled;
        *out = (espl_sparsity){.pattern = m == 4 ? ESPL_PATTERN_NM : ESPL_PATTERN_BANK, .n = n, .m = m};
    }
    return out->m > 0;
}

/* --- the whole --------------------------------------------------------------------------------------- */

static void recognise(look *l, espl_sparsity *out) {
    double share = (double)(l->count - l->kept_count) / (double)l->count;
    *out = (espl_sparsity){.pattern = ESPL_PATTERN_DENSE};
    if (share < LEAST || is_unit(l, out)) return;
    *out = (espl_sparsity){.pattern = ESPL_PATTERN_DENSE};
    if (is_banks(l, out)) return;
    *out = (espl_sparsity){.pattern = ESPL_PATTERN_UNSTRUCTURED, .share = (float)four_digits(share)};
}

espl_status espl__pattern_recognise(espl_context *ctx, const espl__matrix *m, const espl_tensor *t,
                                    espl_sparsity *out, espl_diag *diag) {
    look l = {.m = m, .count = espl__matrix_count(m)};
    *out = (espl_sparsity){.pattern = ESPL_PATTERN_DENSE};
    if (l.count < 2 || seems_dense(t, l.count)) return ESPL_OK;
    uint8_t *kept = espl__alloc(ctx, (uint64_t)l.count * 2);
    if (!kept) return espl__nomem(diag, (uint64_t)l.count * 2);
    for (int64_t i = 0; i < l.count; i++) l.kept_count += kept[i] = !espl__is_zero(t, i);
    l.kept = kept;
    l.live = kept + l.count;
    recognise(&l, out);
    espl__free(ctx, kept);
    return ESPL_OK;
}

double espl__pattern_balance(const espl_sparsity *pattern, const espl__matrix *m, const espl_tensor *t) {
    int64_t length = pattern->m ? pattern->m : m->taps * m->inputs, in_all = 0, most = 0, here = 0, count = 0;
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t k = 0; k < m->taps; k++)
            for (int64_t i = 0; i < m->inputs; i++) {
                here += !espl__is_zero(t, espl__matrix_at(m, r, k, i));
                bool end = pattern->m ? (i + 1) % length == 0 : i + 1 == m->inputs && k + 1 == m->taps;
                if (!end && !(pattern->m && i + 1 == m->inputs)) continue;
                if (end) { /* a short last bank is no measure */
                    in_all += here;
                    most = ESPL_MAX(most, here);
                    count++;
                }
                here = 0;
            }
    return most ? (double)in_all / (double)count / (double)most : 1;
}
