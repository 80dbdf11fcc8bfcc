/* From sums to what is stored: the vector form of conv/epilogue.h. The tiles leave
 * their sums in memory, [pixel][channel] of 32 bits: the store ports are idle then, and one copy of this code
 * serves all.
 *
 * A code is clamp(rne(x) + zero, lo, hi). x is capped before it is rounded, since what does not fit 32 bits
 * would turn negative; NaN does turn into INT32_MIN, which gives the lowest code as it must. Four vectors are
 * then narrowed to bytes together: narrowing saturates, so lo and hi, which lie in 0..255, are applied to
 * bytes.
 *
 * Behind a ReLU a code is mostly plain: its zero point is 0 and its bounds are those of a byte, which
 * narrowing applies by itself, and no x leaves 32 bits because all multipliers are below 1. */
#include <assert.h>
#include <math.h>

enum { VPB = ESPL__NR / VL };       /* vectors a block of 16 channels */
enum { PARTS = 4 * VL / ESPL__NR }; /* blocks whose codes fill one vector */

typedef struct {
    vi zero, lo, hi; /* 16, 8 and 8 bits a lane */
} bounds;

static INLINE bounds bounds_of(int32_t zero, int32_t lo, int32_t hi) {
    assert(0 <= lo && lo <= hi && hi <= 255 && 0 <= zero && zero <= 255);
    return (bounds){v16_set1(zero), v8_set1(lo), v8_set1(hi)};
}

static INLINE vi round_capped(vf x) {
    return vi_rne(vf_min(vf_set1(1024.0f), x));
}

static INLINE vi bounded(vi codes, bounds b) {
    return v8_min(v8_max(codes, b.lo), b.hi);
}

/* What a residual needs: the first code less its zero point, as a float, then the sum. Rounding is monotone
 * and the bounds are integers, so they may be applied first; max takes its second operand for NaN, which is
 * the lowest code. */
typedef struct {
    vf lo, hi, own, scale;
    vi zero;
} residual;

static INLINE residual residual_of(const espl__epilogue_u8 *q) {
    return (residual){vf_set1((float)(q->lo - q->zero)), vf_set1((float)(q->hi - q->zero)),
                      vf_set1(q->res_scale_own), vf_set1(q->res_scale), vi_set1(q->res_zero)};
}

static INLINE vf add_residual(vf x, vi res, const residual *r, const bool PLAIN) {
    const vf own = vf_rne(vf_min(vf_max(x, r->lo), r->hi));
    return vf_fma(own, r->own, vf_mul(vf_of(PLAIN ? res : vi_sub(res, r->zero)), r->scale));
}

/* Where the channels from c on lie; of `channels`, the ones behind are neither read nor written. */
typedef struct {
    int c, channels;
    char *out;
    ptrdiff_t out_step;
    const char *res;
    ptrdiff_t res_step;
} place;

/* The codes of one vector: `count` pixels from m on, `blocks` blocks each, laid out for PARTS / H pixels and
 * H blocks. */
static INLINE void store_codes(const espl__epilogue_u8 *q, const int32_t *sums, int stride, int m, int count,
                               int H, int blocks, place at, bounds b, const residual *r, const bool PLAIN) {
    const int valid = PLAIN ? H * ESPL__NR : at.channels - at.c;
    vi y[4];
    if (PLAIN) blocks = H;
    UNROLL
    for (int i = 0; i < 4; i++) {
        /* A part that is not there repeats one that is. */
        const int pixel = m + (i / VPB / H < count ? i / VPB / H : 0),
                  block = i / VPB % H < blocks ? i / VPB % H : 0;
        const int first = block * ESPL__NR + i % VPB * VL;
        vf x = vf_mul(vf_of(vi_load(sums + pixel * stride + first)), vf_load(q->mult + at.c + first));
        if (r) {
            const uint8_t *from = (const uint8_t *)at.res + pixel * at.res_step + at.c + first;
            const vi res = PLAIN ? vi_load_u8(from) : vi_load_u8_part(from, valid - first);
            x = add_residual(x, res, r, PLAIN);
        }
        y[i] = PLAIN ? vi_rne(x) : round_capped(x);
    }
    uint8_t *to = (uint8_t *)at.out + m * at.out_step + at.c;
    const vi codes = PLAIN ? narrow_plain(y) : bounded(narrow(y, b.zero), b);
    if (PLAIN && H == PARTS)
        vi_store(to, codes);
    else
        store_parts(to, at.out_step, codes, H, count, valid < blocks * ESPL__NR ? valid : blocks * ESPL__NR);
}

static INLINE void store_pixels(const espl__epilogue_u8 *q, const int32_t *sums, int stride, int pixels,
                                int H, int blocks, place at, bounds b, const residual *r, const bool PLAIN) {
    const int G = PARTS / H;
    int m = 0;
    for (; m + G <= pixels; m += G) store_codes(q, sums, stride, m, G, H, blocks, at, b, r, PLAIN);
    if (m < pixels) store_codes(q, sums, stride, m, pixels - m, H, blocks, at, b, r, PLAIN);
}

/* sums: [pixels][nrb][16]. */
static INLINE void store_blocks(const espl__epilogue_u8 *q, const int32_t *sums, int nrb, int pixels,
                                place at, bounds b, const residual *r, const bool PLAIN) {
    const int stride = nrb * ESPL__NR;
    if (nrb == 1)
        store_pixels(q, sums, stride, pixels, 1, 1, at, b, r, PLAIN);
    else if (nrb == 2)
        store_pixels(q, sums, stride, pixels, 2, 2, at, b, r, PLAIN);
    else
        for (; nrb > 0; nrb -= PARTS, sums += PARTS * ESPL__NR, at.c += PARTS * ESPL__NR)
            store_pixels(q, sums, stride, pixels, PARTS, nrb < PARTS ? nrb : PARTS, at, b, r, PLAIN);
}

/* Sums are below 2^31; a multiplier that is NaN gives the lowest code either way. */
static INLINE bool plain_mults(const float *mult, int count) {
    int over = 0;
    for (int i = 0; i < count; i++) over |= fabsf(mult[i]) >= 1.0f;
    return over == 0;
}

/* A residual's own part is a code less its zero point, whatever the multipliers are. */
static INLINE bool plain_residual(const espl__epilogue_u8 *q) {
    const float most = 1 << 20;
    return fabsf(q->res_scale_own) < most && fabsf(q->res_scale) < most && q->res_zero == 0;
}

/* Whole blocks, enough for whole vectors or too few for one. */
static INLINE bool whole_blocks(int nrb, place at) {
    return at.channels - at.c >= nrb * ESPL__NR && (nrb <= 2 || nrb % PARTS == 0);
}

static INLINE void store_u8(const espl__epilogue_u8 *q, const int32_t *sums, int nrb, int pixels, place at) {
    const bool whole = whole_blocks(nrb, at);
    if (at.res) {
        const residual r = residual_of(q);
        const bounds b = bounds_of(q->zero2, q->lo2, q->hi2);
        if (whole && q->zero2 == 0 && q->lo2 == 0 && q->hi2 == 255 && plain_residual(q))
            store_blocks(q, sums, nrb, pixels, at, b, &r, true);
        else
            store_blocks(q, sums, nrb, pixels, at, b, &r, false);
    } else {
        const bounds b = bounds_of(q->zero, q->lo, q->hi);
        if (whole && q->zero == 0 && q->lo == 0 && q->hi == 255 &&
            plain_mults(q->mult + at.c, nrb * ESPL__NR))
            store_blocks(q, sums, nrb, pixels, at, b, NULL, true);
        else
            store_blocks(q, sums, nrb, pixels, at, b, NULL, false);
    }
}

/* NaN passes: min and max return their second operand then. */
static INLINE vf clamp(vf x, vf lo, vf hi) {
    return vf_min(hi, vf_max(lo, x));
}

static INLINE void store_block_f32(float flo, float fhi, const float *sums, int stride, int pixels,
                                   place at) {
    const vf lo = vf_set1(flo), hi = vf_set1(fhi);
    UNROLL
    for (int v = 0; v < VPB; v++) {
        const int c = at.c + v * VL, valid = at.channels - c;
        if (valid <= 0) break;
        const float *from = sums + v * VL;
        char *o = at.out + c * (ptrdiff_t)sizeof(float);
        const char *r = at.res ? at.res + c * (ptrdiff_t)sizeof(float) : NULL;
        for (int m = 0; m < pixels; m++, o += at.out_step, from += stride) {
            vf x = vf_load(from);
            if (r) x = vf_add(x, vf_load_part((const float *)(r + m * at.res_step), valid));
            vf_store_part((float *)o, clamp(x, lo, hi), valid);
        }
    }
}
