/* Matrix products of f32 values on tiles of bfloat16 (train/tiles.h).
 *
 * Blocks of B, as deep and wide as half of the second cache holds in bricks, are packed in turn; then panels
 * of 32 rows of A, each of which goes by the whole block. A brick of B is used m / 16 times, one of A as
 * often as the block has tiles side by side, so that packing (150 to 300 cycles a brick, against 96 of each
 * use) pays unless a side is narrow: such products stay with the table's other library. */
#include "train/amx.h"

#if defined(__x86_64__)
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "train/tiles.h"

enum {
    PANEL = 2 * ROWS,  /* rows or columns of C at once */
    DEEP = 12 * DEPTH, /* of a block of B, and of a panel of A */
    BLOCK = 16 * PANEL /* columns of a block of B */
};

typedef struct space {
    char a[PANEL / ROWS * (DEEP / DEPTH) * BRICK];
    char b[BLOCK / ROWS * (DEEP / DEPTH) * BRICK];
} space;

typedef struct matrix {
    const float *at;
    int64_t row;          /* floats between rows */
    bool inner;           /* rows lie along the inner dimension */
    int64_t outer, depth; /* what there is of both: beyond are zeros */
} matrix;

static __mmask16 mask_of(int64_t count) {
    return count <= 0 ? 0 : count >= 16 ? 0xFFFF : (__mmask16)((1u << count) - 1);
}

/* The words of a brick, value p of the inner dimension beside value p + 16: word (i, p) of the outer's i-th,
 * 16 of each, in the order in which the matrix has them in memory: in[i] has word (i, p) for all p if its
 * rows lie along the inner dimension, else in[p] for all i. */
static inline __attribute__((always_inline)) void pack(const matrix *x, int64_t outer, int64_t depth,
                                                       bool turned, char *to) {
    const float *from = x->at + (x->inner ? outer * x->row + depth : depth * x->row + outer);
    int64_t outers = x->outer - outer, depths = x->depth - depth;
    __mmask16 low = mask_of(x->inner ? depths : outers), high = x->inner ? mask_of(depths - 16) : low;
    int64_t first = x->inner ? outers : depths, second = x->inner ? outers : depths - 16;
    int64_t step = x->inner ? 16 : 16 * x->row;
    __m512i parts[3][ROWS];
    for (int64_t i = 0; i < ROWS; i++) {
        __m512 a = _mm512_maskz_loadu_ps(i < first ? low : 0, from + i * x->row);
        __m512 b = _mm512_maskz_loadu_ps(i < second ? high : 0, from + i * x->row + step);
        if (turned)
            for (int p = 0; p < 3; p++) parts[p][i] = part(&a, &b);
        else
            put(to, i, a, b);
    }
    for (int p = 0; p < 3 && turned; p++) transpose(parts[p], to + p * PLANE);
}

/* A's tiles have a row for each of its rows, B's a column for each of its columns. */
static void pack_a(const matrix *a, int64_t row, int64_t depth, int64_t deep, char *to) {
    for (int64_t k = 0; k < deep; k += DEPTH)
        for (int64_t i = 0; i < PANEL; i += ROWS, to += BRICK)
            if (a->inner)
                pack(a, row + i, depth + k, false, to);
            else
                pack(a, row + i, depth + k, true, to);
}

static void pack_b(const matrix *b, int64_t column, int64_t columns, int64_t depth, int64_t deep, char *to) {
    for (int64_t j = 0; j < columns; j += PANEL)
        for (int64_t k = 0; k < deep; k += DEPTH)
            for (int64_t i = 0; i < PANEL; i += ROWS, to += BRICK)
                if (b->inner)
                    pack(b, column + j + i, depth + k, true, to);
                else
                    pack(b, column + j + i, depth + k, false, to);
}

/* 32 x 32 of C, or as much as there is. */
static void square(const char *a, const char *b, int64_t deep, bool add, float *c, int64_t ldc, int64_t rows,
                   int64_t columns) {
    float part[PANEL * PANEL];
    bool whole = rows >= PANEL && columns >= PANEL;
    rows = ESPL_MIN(rows, PANEL);
    size_t bytes = (size_t)ESPL_MIN(columns, PANEL) * sizeof(float);
    for (int64_t i = 0; !whole && add && i < rows; i++) memcpy(part + i * PANEL, c + i * ldc, bytes);
    if (add)
        load_sums(whole ? c : part, whole ? ldc : PANEL);
    else
        clear_sums();
    for (int64_t k = 0; k < deep; k += DEPTH) multiply(a + k / DEPTH * 2 * BRICK, b + k / DEPTH * 2 * BRICK);
    store_sums(whole ? c : part, whole ? ldc : PANEL);
    for (int64_t i = 0; !whole && i < rows; i++) memcpy(c + i * ldc, part + i * PANEL, bytes);
}

/* The next square's rows come into the cache while this one's products are made. */
static void expect(const float *c, int64_t ldc, int64_t rows) {
    for (int64_t i = 0; i < ESPL_MIN(rows, PANEL); i++) {
        __builtin_prefetch(c + i * ldc, 1);
        __builtin_prefetch(c + i * ldc + 16, 1);
    }
}

/* Depths of one length, so that the last is not the shortest. */
static int64_t block_depth(int64_t k) {
    int64_t blocks = (k + DEEP - 1) / DEEP;
    return ESPL_MAX(DEPTH, (k / ESPL_MAX(1, blocks) + DEPTH - 1) / DEPTH * DEPTH);
}

/* c: row i, column j0 of C */
static void panel(const space *s, int64_t deep, bool add, float *c, int64_t ldc, int64_t rows,
                  int64_t columns) {
    int64_t brick_bytes = (deep + DEPTH - 1) / DEPTH * 2 * BRICK;
    for (int64_t j = 0; j < columns; j += PANEL) {
        if (j + PANEL < columns) expect(c + j + PANEL, ldc, rows);
        square(s->a, s->b + j / PANEL * brick_bytes, deep, add, c + j, ldc, rows, columns - j);
    }
}

static void blocks(const matrix *a, const matrix *b, space *s, bool add, float *c, int64_t ldc) {
    int64_t depth = block_depth(a->depth);
    for (int64_t j = 0; j < b->outer; j += BLOCK)
        for (int64_t k = 0; k < a->depth; k += depth) {
            int64_t columns = ESPL_MIN(BLOCK, b->outer - j), deep = ESPL_MIN(depth, a->depth - k);
            pack_b(b, j, columns, k, deep, s->b);
            for (int64_t i = 0; i < a->outer; i += PANEL) {
                pack_a(a, i, k, deep, s->a);
                panel(s, deep, add || k, c + i * ldc + j, ldc, a->outer - i, columns);
            }
        }
}

/* --- the table's entry ------------------------------------------------------------------------------ */

/* Each thread that multiplies has room of its own until it ends. The interface of a product is without a
 * context, as that of the libraries is, so the room is not of one either. */
static pthread_key_t rooms;
static bool keyed;

static space *room(void) {
    space *s = keyed ? pthread_getspecific(rooms) : NULL;
    if (s || !keyed) return s;
    s = aligned_alloc(64, sizeof *s);
    if (s && pthread_setspecific(rooms, s) != 0) {
        free(s);
        s = NULL;
    }
    return s;
}

/* Whether tiles are faster, in cycles: 32 of AVX-512's products in one, of which three quarters are reached.
 */
static bool pays(bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
    int64_t rows = (m + ROWS - 1) / ROWS, columns = (n + ROWS - 1) / ROWS, deep = (k + DEPTH - 1) / DEPTH;
    int64_t passes = (n + BLOCK - 1) / BLOCK;
    double uses = 130.0 * (double)((rows + 1) / 2 * ((columns + 1) / 2) * 4 * deep);
    double packs =
        (double)deep * ((tb ? 350 : 200) * (double)columns + (ta ? 350 : 200) * (double)(rows * passes));
    return uses + packs + 3000 < (double)m * (double)n * (double)k / 24;
}

static espl__gemm_f32_fn others;

static void gemm_f32(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                     const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    space *s = pays(ta, tb, m, n, k) ? room() : NULL;
    if (!s) {
        others(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    matrix left = {a, lda, !ta, m, k}, right = {b, ldb, tb, n, k};
    begin_tiles();
    blocks(&left, &right, s, beta != 0, c, ldc);
    _tile_release();
}

void espl__amx_gemm_open(espl__dense *table) {
    keyed = keyed || pthread_key_create(&rooms, free) == 0;
    others = table->gemm_f32;
    table->gemm_f32 = gemm_f32;
}
#endif
