/* A packed matrix times one to four rows: one body for every instruction set. The including file has the
 * vector words (simd/<isa>.h) and says how large a tile may be:
 *
 *   TILES_1(X) TILES_2(X) TILES_4(X) TILES_8(X)   X(MR, NRB) for MR = 1, 2, ... rows x NRB blocks of 16
 *                                                 channels
 *   static int blocks_per_tile(int rows, int blocks)
 *
 * and, where bytes have no instruction of their own, GEMV_CENTRED: one row is multiplied less 128, which
 * p->sums make up for, in tiles of
 *
 *   ROW_TILES(X)   X(NRB)
 *
 * Every weight is used once a row, so memory is the limit. One stream of loads gets half of what memory can
 * deliver; a tile reads its NRB blocks side by side, each a stream that the processor prefetches by itself.
 * Explicit prefetches gained nothing beside eight streams, and cost where the weights lie in the third-level
 * cache. */
#include "kernels/families.h"
#include "kernels/gemv/rows.inc.h"
#include "tensor/tensor.h"

#ifdef GEMV_CENTRED
/* One row less 128, split once for all tiles: its groups of four, the bytes' sizes and then their signs. More
 * rows share the work of splitting the weights' bytes, and gain nothing by this. Longer ones, which are rare,
 * are multiplied as several are. */
enum { MOST_GROUPS = 8192 };
typedef struct {
    int32_t rest; /* the |x| of the negative x */
    uint32_t group[MOST_GROUPS][2];
} split_row;

/* Four bytes at a time: those that are negative are turned, and get 1 more. */
static INLINE void split(const char *in, int groups, split_row *to) {
    const uint32_t each = 0x01010101, half = 0x00FF00FF;
    to->rest = 0;
    for (int g = 0; g < groups; g++, in += 4) {
        const uint32_t x = (uint32_t)load4((const uint8_t *)in) ^ (each * 128), sign = x >> 7 & each,
                       turn = sign * 255, size = (x ^ turn) + sign;
        const uint32_t pairs = (size & turn & half) + ((size & turn) >> 8 & half);
        to->rest += (int32_t)((pairs & 0xFFFF) + (pairs >> 16));
        to->group[g][0] = size;
        to->group[g][1] = turn;
    }
}

static BODY void tile_centred(const espl__conv *p, const split_row *in, int block, vi *sums, int NRB) {
    const int NV = NRB * VPB;
    vi acc[32];
    const ptrdiff_t w_block = (ptrdiff_t)p->seg_k * ESPL__NR * 4;
    const int8_t *w = (const int8_t *)p->w + block * w_block;
    const int32_t *bias = (const int32_t *)p->bias + block * ESPL__NR, *sum = p->sums + block * ESPL__NR;
    const uint32_t(*x)[2] = in->group;
    const steps w_step = steps_of(w_block);
    const vi rest = vi_set1(in->rest);
    UNROLL
    for (int n = 0; n < NV; n++) acc[n] = vi_add(vi_add(vi_load(bias + n * VL), vi_load(sum + n * VL)), rest);
    for (int k = p->seg_k; k > 0; k--, w += ESPL__NR * 4, x++) {
        const vi size = vi_set1((int32_t)(*x)[0]), turn = vi_set1((int32_t)(*x)[1]);
        UNROLL
        for (int n = 0; n < NV; n++)
            acc[n] = centred_dot(acc[n], size, turn, vi_load(w + step_at(w_step, n / VPB) + n % VPB * VL * 4));
    }
    UNROLL
    for (int n = 0; n < NV; n++) sums[n] = acc[n];
}
#endif

#ifdef GEMV_U8
static BODY void tile_u8(const espl__conv *p, const char *in, int block, vi *sums, int MR, int NRB) {
    const int NV = NRB * VPB;
    vi acc[32];
    const ptrdiff_t w_block = (ptrdiff_t)p->seg_k * ESPL__NR * 4;
    const int8_t *w = (const int8_t *)p->w + block * w_block;
    const int32_t *bias = (const int32_t *)p->bias + block * ESPL__NR;
    const steps w_step = steps_of(w_block), x_step = steps_of(p->in_step);
    UNROLL
    for (int i = 0; i < MR * NV; i++) acc[i] = vi_load(bias + i % NV * VL);
    for (int k = p->seg_k; k > 0; k--) {
        x_operand x[4];
        UNROLL
        for (int m = 0; m < MR; m++) x[m] = x_load((const uint8_t *)in + step_at(x_step, m));
        UNROLL
        for (int n = 0; n < NV; n++) {
            const w_operand wv = w_load(w + step_at(w_step, n / VPB) + n % VPB * VL * 4);
            UNROLL
            for (int m = 0; m < MR; m++) acc[m * NV + n] = dot(acc[m * NV + n], x[m], wv);
        }
        w += ESPL__NR * 4;
        in += 4;
    }
    UNROLL
    for (int i = 0; i < MR * NV; i++) sums[i] = acc[i];
}
#endif

#ifdef GEMV_F32
/* VL weights; those of 16 bits become f32 on the way. */
static INLINE vf weights_at(const char *w, int values) {
    return values == ESPL_F32   ? vf_load((const float *)(const void *)w)
           : values == ESPL_F16 ? of_f16(w)
                                : of_bf16(w);
}

static BODY void tile_f32(const espl__conv *p, const char *in, int block, vf *sums, int values, int MR,
                          int NRB) {
    const int NV = NRB * VPB;
    vf acc[32];
    const int bytes = values == ESPL_F32 ? 4 : 2;
    const ptrdiff_t w_block = (ptrdiff_t)p->seg_k * ESPL__NR * bytes;
    const char *w = (const char *)p->w + block * w_block;
    const float *bias = (const float *)p->bias + block * ESPL__NR;
    const steps w_step = steps_of(w_block), x_step = steps_of(p->in_step);
    UNROLL
    for (int i = 0; i < MR * NV; i++) acc[i] = vf_load(bias + i % NV * VL);
    for (int k = p->seg_k; k > 0; k--) {
        vf x[4];
        UNROLL
        for (int m = 0; m < MR; m++) x[m] = vf_set1(*(const float *)(in + step_at(x_step, m)));
        if (values != ESPL_F32 &&
            k % 2) { /* lines hold two steps: too few of them are under way by themselves */
            UNROLL
            for (int n = 0; n < NRB; n++) fetch_line(w + step_at(w_step, n) + AHEAD);
        }
        UNROLL
        for (int n = 0; n < NV; n++) {
            const vf wv = weights_at(w + step_at(w_step, n / VPB) + n % VPB * VL * bytes, values);
            UNROLL
            for (int m = 0; m < MR; m++) acc[m * NV + n] = vf_fma(x[m], wv, acc[m * NV + n]);
        }
        w += ESPL__NR * bytes;
        in += 4;
    }
    UNROLL
    for (int i = 0; i < MR * NV; i++) sums[i] = acc[i];
}
#endif

static INLINE const char *first_of(const espl__conv *p, const void *in) {
    assert(p->segments == 1 && p->seg_k >= 0);
    return (const char *)in + p->seg_off[0];
}

#ifdef GEMV_U8
#define DEFINE(MR, NRB)                                                                       \
    static void u8_##MR##x##NRB(const espl__conv *p, const char *in, int block, void *sums) { \
        tile_u8(p, in, block, sums, MR, NRB);                                                 \
    }
TILES(DEFINE)
#undef DEFINE
#define ENTRY(MR, NRB) u8_##MR##x##NRB,
static const tile_table u8_tiles = TABLE(ENTRY);
#undef ENTRY

#ifdef GEMV_CENTRED
#define DEFINE(NRB)                                                                         \
    static void centred_##NRB(const espl__conv *p, const char *in, int block, void *sums) { \
        tile_centred(p, (const split_row *)(const void *)in, block, sums, NRB);             \
    }
ROW_TILES(DEFINE)
#undef DEFINE
#define ENTRY(NRB) [NRB] = {centred_##NRB},
static const tile_table centred_tiles = {ROW_TILES(ENTRY)};
#undef ENTRY
#endif

static INLINE void run_u8(finish_fn *finish, const espl__conv *p, const uint8_t *in, char *out,
                          const char *res, int rows, int block0, int block1) {
#ifdef GEMV_CENTRED
    if (rows == 1 && p->sums && p->seg_k <= MOST_GROUPS) {
        split_row row;
        split(first_of(p, in), p->seg_k, &row);
        run(centred_tiles, finish, p, (const char *)&row, out, res, rows, block0, block1);
        return;
    }
#endif
    run(u8_tiles, finish, p, first_of(p, in), out, res, rows, block0, block1);
}

static void gemv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int rows,
                    int block0, int block1) {
    run_u8(finish_u8, p, in, (char *)out, (const char *)res, rows, block0, block1);
}

static void gemv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, const float *res, int rows,
                        int block0, int block1) {
    run_u8(finish_u8_f32, p, in, (char *)out, (const char *)res, rows, block0, block1);
}
#endif

#ifdef GEMV_F32
#define TILE(MR, NRB, name, values)                                                               \
    static void name##_##MR##x##NRB(const espl__conv *p, const char *in, int block, void *sums) { \
        tile_f32(p, in, block, sums, values, MR, NRB);                                            \
    }
#define DEFINE(MR, NRB) \
    TILE(MR, NRB, f32, ESPL_F32) TILE(MR, NRB, f16, ESPL_F16) TILE(MR, NRB, bf16, ESPL_BF16)
TILES(DEFINE)
#undef DEFINE
#undef TILE
#define ENTRY(MR, NRB) f32_##MR##x##NRB,
static const tile_table f32_tiles = TABLE(ENTRY);
#undef ENTRY
#define ENTRY(MR, NRB) f16_##MR##x##NRB,
static const tile_table f16_tiles = TABLE(ENTRY);
#undef ENTRY
#define ENTRY(MR, NRB) bf16_##MR##x##NRB,
static const tile_table bf16_tiles = TABLE(ENTRY);
#undef ENTRY

static void gemv_f32(const espl__conv *p, const float *in, float *out, const float *res, int rows, int block0,
                     int block1) {
    const tile_table *tiles = p->values == ESPL_F32   ? &f32_tiles
                              : p->values == ESPL_F16 ? &f16_tiles
                                                      : &bf16_tiles;
    run(*tiles, finish_f32, p, first_of(p, in), (char *)out, (const char *)res, rows, block0, block1);
}
#endif
