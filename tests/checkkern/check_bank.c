/* Bank-balanced weights: their packing against dense kernels, and the kernels. */
#include "conv_case.h"

/* --- packing ----------------------------------------------------------------------------------------- */

static int64_t stands_at(const espl__weight_order *o, int64_t channel, int64_t tap, int64_t input) {
    return channel * o->by_channel + tap / o->taps * o->by_segment + tap % o->taps * o->by_tap +
           input * o->by_input;
}

/* The most non-zeros of a row in a window; the last window of a tap is short here, as it counts its own only.
 */
static int32_t most_in_a_window(const espl__weight_order *o, const void *w, bool s8, uint8_t zero,
                                int32_t size) {
    int32_t most = 1;
    for (int64_t c = 0; c < o->channels; c++)
        for (int64_t tap = 0; tap < o->segments * o->taps; tap++)
            for (int64_t first = 0; first < o->real; first += size) {
                int32_t count = 0;
                for (int64_t i = first; i < ESPL_MIN(first + size, o->real); i++) {
                    int64_t at = stands_at(o, c, tap, i);
                    count += s8 ? ((const uint8_t *)w)[at] != zero : ((const float *)w)[at] != 0.0f;
                }
                most = ESPL_MAX(most, count);
            }
    return o->stored < size ? 0 : most;
}

/* Weights of which one in `keep` is there, so that windows need few slots or too many. f32 ones are such as
 * the format can say. */
static void *random_sparse(size_t count, bool s8, uint8_t zero, int32_t values) {
    uint8_t *w = take(SLOT_IN, count * (s8 ? 1 : 4));
    const int keep = between(2, 12);
    for (size_t i = 0; i < count; i++) {
        float x = one_in(keep) ? espl__rng_float(&rng) - 0.5f : 0.0f;
        if (values == ESPL_F16) x = espl__half_to_float(espl__half_from_float(x));
        if (values == ESPL_BF16) x = espl__bfloat_to_float(espl__bfloat_from_float(x));
        if (s8)
            w[i] = one_in(keep) ? w[i] : zero;
        else
            memcpy(w + 4 * i, &x, 4);
    }
    return w;
}

/* The same product as a dense convolution of one pixel and by banks. */
typedef struct product {
    espl__weight_order order;
    espl__bank bank;
    espl__conv dense, sparse;
    int32_t seg_off[4], off[512];
    const void *in;
} product;

static void random_product(product *t, int unit) {
    const espl__weight_order *o = &t->order;
    int64_t reach = 0, k = o->taps * o->stored;
    for (int s = 0; s < o->segments; s++) {
        t->seg_off[s] = unit * between(0, 50);
        reach = ESPL_MAX(reach, t->seg_off[s] + (unit == 1 ? (k + 3) / 4 * 4 : k * 4));
    }
    void *in = take(SLOT_B, (size_t)reach);
    if (unit == 4) fill_f32(in, reach / 4, 1.0f, false);
    t->in = in;
    const int channels = (int)o->channels;
    t->dense = (espl__conv){.segments = (int32_t)o->segments,
                            .seg_k = (int32_t)(unit == 1 ? (k + 3) / 4 : k),
                            .seg_off = t->seg_off,
                            .channels = channels,
                            .flo = -INFINITY,
                            .fhi = INFINITY};
    float *bias = take(SLOT_BIAS, (size_t)round16(channels) * 4);
    if (unit == 4) fill_f32(bias, round16(channels), 1.0f, false);
    t->dense.bias = bias;
    t->dense.q.mult = random_mults(channels, false);
}

/* Packs in two parts, up to a forbidden page. */
static void pack_bank(product *t, const void *w, bool s8, uint8_t zero) {
    const int64_t blocks = (t->order.channels + 15) / 16, cut = between(0, (int)blocks);
    uint8_t *packed = take(SLOT_PREPARED, (size_t)(blocks * t->bank.block));
    for (int part = 0; part < 2; part++) {
        const int64_t from = part ? cut : 0, to = part ? blocks : cut;
        if (s8)
            espl__pack_bank_s8(&t->order, w, zero, &t->bank, from, to, packed);
        else
            espl__pack_bank_f32(&t->order, w, &t->bank, from, to, packed);
    }
    if (t->bank.count > (int32_t)ESPL_COUNT(t->off)) exit(2);
    espl__bank_offsets(&t->order, &t->bank, t->seg_off, t->off);
    t->bank.off = t->off;
    t->sparse = t->dense;
    t->sparse.bank = &t->bank;
    t->sparse.w = packed;
}

static void *pack_dense(const espl__weight_order *o, const void *w, bool s8, uint8_t zero) {
    const espl__weight_part all = espl__weight_all(o);
    const int64_t k = o->taps * o->stored;
    void *dense = take(SLOT_W, s8 ? espl__pack_s8_bytes(o->channels, o->segments, k)
                                  : espl__pack_f32_bytes(o->channels, o->segments, k));
    if (s8)
        espl__pack_s8_part(o, w, zero, &all, dense);
    else
        espl__pack_f32_part(o, w, &all, dense);
    return dense;
}

static void check_bank_order(bool s8) {
    product t = {.order = random_order(s8 ? 4 : 1)};
    const espl__weight_order *o = &t.order;
    const int32_t size = s8 || one_in(2) ? 16 : 32, values = one_in(2)   ? ESPL_F32
                                                             : one_in(2) ? ESPL_F16
                                                                         : ESPL_BF16;
    const uint8_t zero = s8 && one_in(2) ? 0x80 : 0;
    const size_t count = (size_t)(o->channels * o->segments * o->taps * o->real);
    const void *w = random_sparse(count, s8, zero, values);
    const int32_t limit = between(1, 16), most = most_in_a_window(o, w, s8, zero, size);
    const int32_t can = ESPL_MIN(limit, s8 ? 8 : 16), want = most <= can ? most : 0;
    const int32_t slots =
        s8 ? espl__bank_slots_s8(o, w, zero, limit) : espl__bank_slots_f32(o, w, size, limit);
    const char *name = s8 ? "bank_slots_s8" : "bank_slots_f32";
    expect(slots == want, name, 0, "%d channels, %d of %d inputs: %d, not %d", (int)o->channels, (int)o->real,
           (int)o->stored, slots, want);
    if (slots == 0) return;
    t.bank = s8 ? espl__bank_s8(o, slots) : espl__bank_f32(o, size, slots, values);
    random_product(&t, s8 ? 1 : 4);
    t.dense.w = pack_dense(o, w, s8, zero);
    pack_bank(&t, w, s8, zero);
    outputs out = take_outputs((size_t)o->channels * 4);
    float *got = take_again(&out);
    const espl__kernels *ref = espl__kernels_own((espl__cpu)0);
    const int blocks = round16((int)o->channels) / 16;
    if (s8) {
        ref->conv_u8_f32(&t.dense, t.in, out.want, 1, 0, blocks);
        ref->bank_gemv_u8_f32(&t.sparse, t.in, got, NULL, 1, 0, blocks);
    } else {
        ref->conv_f32(&t.dense, t.in, out.want, NULL, 1, 0, blocks);
        ref->bank_gemv_f32(&t.sparse, t.in, got, NULL, 1, 0, blocks);
    }
    expect(same_floats(&out, got), s8 ? "pack_bank_s8" : "pack_bank_f32", 0,
           "%d channels, %d x %d x %d of %d, %d:%d", (int)o->channels, (int)o->segments, (int)o->taps,
           (int)o->real, (int)o->stored, slots, size);
}

void check_bank_packing(void) {
    check_bank_order(true);
    check_bank_order(false);
}

/* --- the kernels: any bytes are weights -------------------------------------------------------------- */

typedef struct bank_case {
    conv_case c;
    espl__bank bank;
    int32_t off[256];
} bank_case;

#define BANK_FORMAT "%d:%d in %d banks of type %d, %d channels, %d rows, blocks %d to %d%s"
#define BANK_ARGS(t)                                                                                \
    (t).bank.slots, (t).bank.size, (t).bank.count, (t).bank.values, (t).c.p.channels, (t).c.pixels, \
        (t).c.block0, (t).c.block1, (t).c.res ? ", residual" : ""

/* Windows anywhere, before the row too, and the last ends where memory does. Half of the time most follow one another, as those of
 * layers do. */
static void random_windows(bank_case *t, int unit) {
    espl__conv *p = &t->c.p;
    int64_t low = 0, reach = 0;
    t->c.hostile = one_in(4);
    random_blocks(&t->c);
    t->c.pixels = between(1, 9);
    p->in_step = unit * between(1, 40);
    const bool joined = one_in(2);
    for (int i = 0; i < t->bank.count; i++) {
        const bool follows = joined && i > 0 && !one_in(8);
        t->off[i] = follows ? t->off[i - 1] + unit * t->bank.size : unit * between(-50, 3000);
        low = ESPL_MIN(low, t->off[i]);
        reach = ESPL_MAX(reach, t->off[i] + (int64_t)unit * t->bank.size);
    }
    const size_t bytes = (size_t)(reach - low + p->in_step * (t->c.pixels - 1));
    uint8_t *in = take(SLOT_IN, bytes);
    if (unit == 4) fill_f32((float *)(void *)in, (int64_t)bytes / 4, 1.0f, t->c.hostile);
    t->c.in = in - low;
    t->bank.off = t->off;
    p->bank = &t->bank;
    p->w = take(SLOT_W, (size_t)(round16(p->channels) / 16 * t->bank.block));
}

static void random_bank_u8(bank_case *t) {
    static const int groups[9] = {0, 4, 2, 4, 1, 4, 2, 4, 1};
    const int slots = between(1, 8), group = groups[slots],
              count = group * between(1, one_in(8) ? 60 / group : 3);
    t->bank = (espl__bank){count, slots, 16, NULL, ESPL_S8, (count * slots / 4 + 1) / 2 * 192};
    random_windows(t, 1);
    espl__conv *p = &t->c.p;
    const int channels = round16(p->channels);
    if (one_in(8)) { /* the extreme products: 255 times -128 and 127, at any position */
        for (int i = 0; i < count; i++)
            for (int r = 0; r < t->c.pixels; r++)
                memset((uint8_t *)t->c.in + r * p->in_step + t->off[i], 255, 16);
        for (ptrdiff_t i = 0; i < channels / 16 * t->bank.block; i++)
            ((uint8_t *)p->w)[i] = one_in(3) ? 127 : 128;
    }
    int32_t *bias = take(SLOT_BIAS, (size_t)channels * sizeof *bias);
    for (int i = 0; i < channels; i++) bias[i] = between(-(1 << 20), 1 << 20);
    p->bias = bias;
}

/* Words of positions are random and remain; the values are ordinary ones, or anything. */
static void random_values(const espl__bank *k, uint8_t *w, ptrdiff_t blocks, bool hostile) {
    const int per = k->size == 16 ? 8 : 6, vector = k->values == ESPL_F32 ? 64 : 32;
    for (uint8_t *block = w; block < w + blocks * k->block; block += k->block)
        for (int v = 0; v < k->count * k->slots; v++) {
            uint8_t *to = block + v / per * (64 + per * vector) + 64 + v % per * vector;
            float x[16];
            uint16_t half[16];
            fill_f32(x, 16, 1.0f, hostile);
            for (int i = 0; i < 16; i++)
                half[i] = k->values == ESPL_F16 ? espl__half_from_float(x[i]) : espl__bfloat_from_float(x[i]);
            if (!hostile || k->values == ESPL_F32 || one_in(2))
                memcpy(to, k->values == ESPL_F32 ? (void *)x : (void *)half, (size_t)vector);
        }
}

static void random_bank_f32(bank_case *t) {
    const int size = one_in(2) ? 16 : 32, per = size == 16 ? 8 : 6, slots = between(1, 16);
    const int count = between(1, one_in(8) ? 200 : 9), vectors = slots * count;
    const espl_dtype values = one_in(2) ? ESPL_F32 : one_in(2) ? ESPL_F16 : ESPL_BF16;
    const int bytes = (vectors + per - 1) / per * 64 + vectors * (values == ESPL_F32 ? 64 : 32);
    t->bank = (espl__bank){count, slots, size, NULL, values, (bytes + 63) / 64 * 64};
    random_windows(t, 4);
    const int channels = round16(t->c.p.channels);
    random_values(&t->bank, (uint8_t *)t->c.p.w, channels / 16, t->c.hostile);
    float *bias = take(SLOT_BIAS, (size_t)channels * sizeof *bias);
    fill_f32(bias, channels, 1.0f, t->c.hostile);
    t->c.p.bias = bias;
}

void check_bank_gemv_u8(void) {
    for (int i = 0; i < cases(2000); i++) {
        bank_case t = {0};
        random_bank_u8(&t);
        const conv_case *c = &t.c;
        t.c.p.q = random_epilogue(c->p.channels, c->hostile);
        random_outputs(&t.c, 1, one_in(2));
        espl__kernels_own((espl__cpu)0)
            ->bank_gemv_u8(&c->p, c->in, c->out.want, c->res, c->pixels, c->block0, c->block1);
        expect(wrote_its_own(c, 1), "bank_gemv_u8", 0, BANK_FORMAT ": wrote elsewhere", BANK_ARGS(t));
        FOR_LEVELS(level, bank_gemv_u8) {
            uint8_t *got = take_again(&c->out);
            espl__kernels_own((espl__cpu)level)
                ->bank_gemv_u8(&c->p, c->in, got, c->res, c->pixels, c->block0, c->block1);
            expect(same_bytes(&c->out, got), "bank_gemv_u8", level, BANK_FORMAT, BANK_ARGS(t));
        }
    }
}

void check_bank_gemv_u8_f32(void) {
    for (int i = 0; i < cases(2000); i++) {
        bank_case t = {0};
        random_bank_u8(&t);
        const conv_case *c = &t.c;
        t.c.p.q.mult = random_mults(c->p.channels, c->hostile);
        random_clamp(&t.c.p.flo, &t.c.p.fhi);
        if (one_in(2)) {
            float *fbias = take(SLOT_FBIAS, (size_t)round16(c->p.channels) * sizeof *fbias);
            fill_f32(fbias, round16(c->p.channels), 10.0f, c->hostile);
            t.c.p.fbias = fbias;
        }
        random_outputs(&t.c, 4, one_in(2));
        espl__kernels_own((espl__cpu)0)
            ->bank_gemv_u8_f32(&c->p, c->in, c->out.want, c->res, c->pixels, c->block0, c->block1);
        expect(wrote_its_own(c, 4), "bank_gemv_u8_f32", 0, BANK_FORMAT ": wrote elsewhere", BANK_ARGS(t));
        FOR_LEVELS(level, bank_gemv_u8_f32) {
            float *got = take_again(&c->out);
            espl__kernels_own((espl__cpu)level)
                ->bank_gemv_u8_f32(&c->p, c->in, got, c->res, c->pixels, c->block0, c->block1);
            expect(same_floats(&c->out, got), "bank_gemv_u8_f32", level, BANK_FORMAT, BANK_ARGS(t));
        }
    }
}

void check_bank_gemv_f32(void) {
    for (int i = 0; i < cases(2000); i++) {
        bank_case t = {0};
        random_bank_f32(&t);
        const conv_case *c = &t.c;
        random_clamp(&t.c.p.flo, &t.c.p.fhi);
        random_outputs(&t.c, 4, one_in(2));
        espl__kernels_own((espl__cpu)0)
            ->bank_gemv_f32(&c->p, c->in, c->out.want, c->res, c->pixels, c->block0, c->block1);
        expect(wrote_its_own(c, 4), "bank_gemv_f32", 0, BANK_FORMAT ": wrote elsewhere", BANK_ARGS(t));
        FOR_LEVELS(level, bank_gemv_f32) {
            float *got = take_again(&c->out);
            espl__kernels_own((espl__cpu)level)
                ->bank_gemv_f32(&c->p, c->in, got, c->res, c->pixels, c->block0, c->block1);
            expect(same_floats(&c->out, got), "bank_gemv_f32", level, BANK_FORMAT, BANK_ARGS(t));
        }
    }
}
