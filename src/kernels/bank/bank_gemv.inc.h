/* Bank-balanced weights times one to four rows: one body for every instruction set. The including file has
 * the words of words_<width>.h and the tiles of gemv (gemv/gemv.inc.h), and says with GEMV_U8 and GEMV_F32
 * what it wants.
 *
 * A window of the input is held in a register and a vector of weights picks what it multiplies by its
 * positions: one shuffle instruction where a dense kernel has a broadcast. Like there, blocks side by side
 * are streams of memory. */
#include "kernels/bank/bank.h"
#include "kernels/families.h"
#include "kernels/gemv/rows.inc.h"

/* Blocks are short, 12 KB for 4096 inputs that keep 2 of 16, so lines are asked for; behind the end of the
 * blocks of a tile come those of the next. Of a matrix of less than NEAR bytes, which may well be in the
 * second-level cache, nothing is: it would cost a fifth there. */
enum { NEAR = 1 << 20 };

static INLINE bool is_far(const espl__conv *p) {
    return (p->channels + ESPL__NR - 1) / ESPL__NR * p->bank->block >= NEAR;
}

/* The part of the first block to ask for, `bytes` at a time, with those of the blocks beside it. */
typedef struct fetcher {
    const uint8_t *at, *end, *next;
} fetcher;

static INLINE fetcher fetch_from(const espl__bank *k, const uint8_t *w, int bytes, int NRB) {
    return (fetcher){w + AHEAD / bytes * bytes, w + k->block, w + NRB * k->block};
}

static INLINE void fetch_part(fetcher *f, steps w_step, int bytes, int NRB) {
    if (f->at >= f->end) {
        f->at = f->next;
        f->end = f->next + AHEAD; /* no more than that is asked for before the tile ends */
    }
    UNROLL
    for (int n = 0; n < NRB; n++) {
        UNROLL
        for (int i = 0; i < bytes; i += 64) fetch_line(f->at + step_at(w_step, n) + i);
    }
    f->at += bytes;
}

#ifdef GEMV_U8
/* The windows that a vector of weights reads: slots from 4 v on. `left` slots of bank b are there still. */
typedef struct bank_walk {
    const int32_t *off;
    int32_t slots, left;
} bank_walk;

#ifdef TABLES
static INLINE vi table_of(const char *in, const int32_t *off, int windows, bool joined) {
    if (windows == 1) return window_u8(in + off[0]);
    if (joined) return table_u8(in + off[0], windows);
    return windows == 2 ? two_windows(in + off[0], in + off[1])
                        : four_windows(in + off[0], in + off[1], in + off[2], in + off[3]);
}

/* The next vector of weights of every block, the first or the second of its pair. */
static INLINE void step_u8(vi *acc, bank_walk *at, const char *in, steps x_step, const uint8_t *w,
                           steps w_step, int half, bool one_slot, int MR, int NRB) {
    const vi windows = windows_in_table(at->left, at->slots);
    const int count = at->left >= 4 ? 1 : one_slot ? 4 : 2;
    const bool joined = bank_joined(at->off, count);
    vi table[4];
    UNROLL
    for (int m = 0; m < MR; m++) table[m] = table_of(in + step_at(x_step, m), at->off, count, joined);
    UNROLL
    for (int n = 0; n < NRB; n++) {
        const uint8_t *from = w + step_at(w_step, n);
        const vi nibbles = half ? high_nibbles(vi_load(from)) : low_nibbles(vi_load(from));
        const vi order = vi_or(nibbles, windows);
        const w_operand wv = w_load((const int8_t *)from + (1 + half) * BANK_VECTOR);
        UNROLL
        for (int m = 0; m < MR; m++)
            acc[m * NRB + n] = dot(acc[m * NRB + n], x_of(pick_in_table(table[m], order)), wv);
    }
    for (at->left -= 4; at->left <= 0; at->left += at->slots) at->off++;
}
#else
enum { ONE, TWO, FOUR }; /* windows of a vector */

/* One vector of weights of every block, the first or the second of its pair. */
static INLINE void add_vector(vi *acc, const vi window[4][4], some_bytes second, const uint8_t *w,
                              steps w_step, int half, int windows, int MR, int NRB) {
    UNROLL
    for (int n = 0; n < NRB * VPB; n++) {
        const uint8_t *from = w + step_at(w_step, n / VPB) + n % VPB * VL * 4;
        const vi at = half ? high_nibbles(vi_load(from)) : low_nibbles(vi_load(from));
        const w_operand wv = w_load((const int8_t *)from + (1 + half) * BANK_VECTOR);
        UNROLL
        for (int m = 0; m < MR; m++) {
            vi x = pick(window[m][0], at);
            if (windows == TWO) x = pick_some(x, second, window[m][1], at);
            if (windows == FOUR) {
                UNROLL
                for (int i = 1; i < 4; i++) x = pick_some(x, bytes_from(i), window[m][i], at);
            }
            acc[m * NRB * VPB + n] = dot(acc[m * NRB * VPB + n], x_of(x), wv);
        }
    }
}

static INLINE void load_windows(vi window[4][4], const char *in, steps x_step, const int32_t *off, int count,
                                int MR) {
    UNROLL
    for (int m = 0; m < MR; m++) {
        UNROLL
        for (int i = 0; i < count; i++) window[m][i] = window_u8(in + off[i] + step_at(x_step, m));
    }
}

/* The next vector; its four slots lie in one bank or in two. */
static INLINE void two_windows_u8(vi *acc, bank_walk *at, const char *in, steps x_step, const uint8_t *w,
                                  steps w_step, int half, int MR, int NRB) {
    vi window[4][4];
    if (at->left >= 4) {
        load_windows(window, in, x_step, at->off, 1, MR);
        add_vector(acc, window, bytes_from(4), w, w_step, half, ONE, MR, NRB);
        at->left -= 4;
    } else {
        load_windows(window, in, x_step, at->off, 2, MR);
        add_vector(acc, window, bytes_from(at->left), w, w_step, half, TWO, MR, NRB);
        at->left += at->slots - 4;
        at->off++;
    }
    if (at->left == 0) {
        at->left = at->slots;
        at->off++;
    }
}

static INLINE void one_slot_u8(vi *acc, bank_walk *at, const char *in, steps x_step, const uint8_t *w,
                               steps w_step, int half, int MR, int NRB) {
    vi window[4][4];
    load_windows(window, in, x_step, at->off, 4, MR);
    add_vector(acc, window, bytes_from(4), w, w_step, half, FOUR, MR, NRB);
    at->off += 4;
}

static INLINE void step_u8(vi *acc, bank_walk *at, const char *in, steps x_step, const uint8_t *w,
                           steps w_step, int half, bool one_slot, int MR, int NRB) {
    if (one_slot)
        one_slot_u8(acc, at, in, x_step, w, w_step, half, MR, NRB);
    else
        two_windows_u8(acc, at, in, x_step, w, w_step, half, MR, NRB);
}
#endif

/* All of the banks. */
static INLINE void add_pairs(const espl__conv *p, vi *acc, const char *in, const uint8_t *w, bool one_slot,
                             int MR, int NRB) {
    const espl__bank *k = p->bank;
    const int vectors = (int)((int64_t)k->count * k->slots / 4);
    const steps w_step = steps_of(k->block), x_step = steps_of(p->in_step);
    const bool far = is_far(p);
    fetcher ahead = fetch_from(k, w, BANK_PAIR, NRB);
    bank_walk at = {k->off, k->slots, k->slots};
    for (int v = 0; v < vectors; v += 2, w += BANK_PAIR) {
        if (far) fetch_part(&ahead, w_step, BANK_PAIR, NRB);
        step_u8(acc, &at, in, x_step, w, w_step, 0, one_slot, MR, NRB);
        if (v + 1 < vectors) step_u8(acc, &at, in, x_step, w, w_step, 1, one_slot, MR, NRB);
    }
}

static BODY void tile_u8(const espl__conv *p, const char *in, int block, vi *sums, int MR, int NRB) {
    const int NV = NRB * VPB;
    const uint8_t *w = (const uint8_t *)p->w + block * p->bank->block;
    const int32_t *bias = (const int32_t *)p->bias + block * ESPL__NR;
    vi acc[32];
    UNROLL
    for (int i = 0; i < MR * NV; i++) acc[i] = vi_load(bias + i % NV * VL);
    if (p->bank->slots == 1)
        add_pairs(p, acc, in, w, true, MR, NRB);
    else
        add_pairs(p, acc, in, w, false, MR, NRB);
    UNROLL
    for (int i = 0; i < MR * NV; i++) sums[i] = acc[i];
}

#define DEFINE(MR, NRB)                                                                       \
    static void u8_##MR##x##NRB(const espl__conv *p, const char *in, int block, void *sums) { \
        tile_u8(p, in, block, sums, MR, NRB);                                                 \
    }
TILES(DEFINE)
#undef DEFINE
#define ENTRY(MR, NRB) u8_##MR##x##NRB,
static const tile_table u8_tiles = TABLE(ENTRY);
#undef ENTRY

static void bank_gemv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int rows,
                         int block0, int block1) {
    run(u8_tiles, finish_u8, p, (const char *)in, (char *)out, (const char *)res, rows, block0, block1);
}

static void bank_gemv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, const float *res, int rows,
                             int block0, int block1) {
    run(u8_tiles, finish_u8_f32, p, (const char *)in, (char *)out, (const char *)res, rows, block0, block1);
}
#endif

#ifdef GEMV_F32
static INLINE vf value_load(const uint8_t *w, int lane, int values) {
    return values == ESPL_F32   ? vf_load((const float *)(const void *)(w + lane * 4))
           : values == ESPL_F16 ? of_f16(w + lane * 2)
                                : of_bf16(w + lane * 2);
}

/* Of every block the slot whose positions are in `at`, which go on to the next. */
static INLINE void add_slot(vf *acc, vi *at, const window_f32 *window, const uint8_t *w, steps w_step,
                            int size, int values, int MR, int NRB) {
    UNROLL
    for (int n = 0; n < NRB * VPB; n++) {
        const vf wv = value_load(w + step_at(w_step, n / VPB), n % VPB * VL, values);
        UNROLL
        for (int m = 0; m < MR; m++)
            acc[m * NRB * VPB + n] = vf_fma(pick_f32(&window[m], at[n], size), wv, acc[m * NRB * VPB + n]);
        at[n] = next_positions(at[n], size);
    }
}

static BODY void tile_f32(const espl__conv *p, const char *in, int block, vf *sums, int size, int values,
                          int MR, int NRB) {
    const espl__bank *k = p->bank;
    const int NV = NRB * VPB, per = size == 16 ? 8 : 6, bytes = values == ESPL_F32 ? 64 : 32;
    const uint8_t *w = (const uint8_t *)p->w + block * k->block;
    const float *bias = (const float *)p->bias + block * ESPL__NR;
    const steps w_step = steps_of(k->block), x_step = steps_of(p->in_step);
    const int32_t *off = k->off;
    const bool far = is_far(p);
    fetcher ahead = fetch_from(k, w, BANK_VECTOR + per * bytes, NRB);
    window_f32 window[4];
    int left = 0;
    vf acc[32];
    vi at[16];
    UNROLL
    for (int i = 0; i < MR * NV; i++) acc[i] = vf_load(bias + i % NV * VL);
    for (int64_t v = (int64_t)k->count * k->slots; v > 0; v -= per) {
        UNROLL
        for (int n = 0; n < NV; n++) at[n] = vi_load(w + step_at(w_step, n / VPB) + n % VPB * VL * 4);
        if (far) fetch_part(&ahead, w_step, BANK_VECTOR + per * bytes, NRB);
        w += BANK_VECTOR;
        for (int i = v < per ? (int)v : per; i > 0; i--, w += bytes) {
            if (left == 0) {
                left = k->slots;
                UNROLL
                for (int m = 0; m < MR; m++)
                    window[m] =
                        window_load((const float *)(const void *)(in + *off + step_at(x_step, m)), size);
                off++;
            }
            add_slot(acc, at, window, w, w_step, size, values, MR, NRB);
            left--;
        }
    }
    UNROLL
    for (int i = 0; i < MR * NV; i++) sums[i] = acc[i];
}

/* One body for each size and format. */
#define TILE(MR, NRB, name, values)                                                                     \
    static void f32_##name##_##MR##x##NRB(const espl__conv *p, const char *in, int block, void *sums) { \
        if (p->bank->size == ESPL__BANK)                                                                \
            tile_f32(p, in, block, sums, ESPL__BANK, values, MR, NRB);                                  \
        else                                                                                            \
            tile_f32(p, in, block, sums, ESPL__BANK_WIDE, values, MR, NRB);                             \
    }
#define DEFINE(MR, NRB) \
    TILE(MR, NRB, f32, ESPL_F32) TILE(MR, NRB, f16, ESPL_F16) TILE(MR, NRB, bf16, ESPL_BF16)
TILES(DEFINE)
#undef DEFINE
#undef TILE
#define ENTRY(MR, NRB) f32_f32_##MR##x##NRB,
static const tile_table f32_tiles = TABLE(ENTRY);
#undef ENTRY
#define ENTRY(MR, NRB) f32_f16_##MR##x##NRB,
static const tile_table f16_tiles = TABLE(ENTRY);
#undef ENTRY
#define ENTRY(MR, NRB) f32_bf16_##MR##x##NRB,
static const tile_table bf16_tiles = TABLE(ENTRY);
#undef ENTRY

static void bank_gemv_f32(const espl__conv *p, const float *in, float *out, const float *res, int rows,
                          int block0, int block1) {
    const tile_table *tiles = p->bank->values == ESPL_F32   ? &f32_tiles
                              : p->bank->values == ESPL_F16 ? &f16_tiles
                                                            : &bf16_tiles;
    run(*tiles, finish_f32, p, (const char *)in, (char *)out, (const char *)res, rows, block0, block1);
}
#endif
