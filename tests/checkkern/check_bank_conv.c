/* Convolution with bank-balanced weights, against the same convolution with the zeros in place: windows are
 * segments of 16 inputs then. The dense reference is checked by itself. */
#include "conv_case.h"

enum { WINDOW = 16 };

static const espl__kernels *dense(void) {
    return espl__kernels_own(ESPL__CPU_REF);
}

static int gcd4(int n) {
    return n % 4 == 0 ? 4 : n % 2 == 0 ? 2 : 1;
}

/* Windows side by side as the taps of a kernel have them, the last of a tap perhaps overlapping, or anywhere.
 * The last ones may only fill a group; returns how many do not. */
static int random_windows(conv_case *c, espl__bank *bank, bool large) {
    const int group = 4 / gcd4(bank->slots), most = large ? MAX_SEGMENTS : 12;
    const int real = between(1, most), tap = between(1, 9), overlap = one_in(2) ? 0 : between(1, 15);
    const int from_tap = between(1, 300);
    const bool anywhere = one_in(4);
    bank->count = (real + group - 1) / group * group;
    for (int b = 0; b < bank->count; b++) {
        const int at = b / tap * from_tap + b % tap * WINDOW - (b % tap && b % tap == tap - 1 ? overlap : 0);
        c->seg_off[b] = b >= real ? 0 : anywhere ? between(-200, 200) : at;
    }
    bank->off = c->seg_off;
    c->p.segments = bank->count;
    c->p.seg_k = WINDOW / 4;
    return real;
}

/* Leaves `kept` weights of a row's window: each with the probability that the rest is enough. */
static void prune_window(int8_t *w, int kept) {
    for (int i = 0; i < WINDOW; i++) {
        if (between(1, WINDOW - i) <= kept)
            kept--;
        else
            w[i / 4 * 64 + i % 4] = 0;
    }
}

/* The non-zero weights of a row's window into its slots, from s on. */
static void pack_window(const int8_t *w, int s, uint8_t *to, int row) {
    for (int i = 0; i < WINDOW; i++) {
        const int8_t value = w[i / 4 * 64 + i % 4];
        if (value == 0) continue;
        uint8_t *pair = to + s / 8 * 192;
        const int at = row * 4 + s % 4, second = s / 4 % 2;
        pair[at] = (uint8_t)(pair[at] | i << (second ? 4 : 0));
        pair[64 + second * 64 + at] = (uint8_t)value;
        s++;
    }
}

/* Prunes the weights of c and gives the same convolution with packed ones. */
static espl__conv banked(const conv_case *c, espl__bank *bank, int real) {
    const int blocks = round16(c->p.channels) / 16;
    bank->block = (bank->count * bank->slots / 4 + 1) / 2 * 192;
    const size_t bytes = (size_t)blocks * (size_t)bank->block;
    uint8_t *packed = memset(take(SLOT_BANK, bytes), 0, bytes);
    for (int i = 0; i < blocks * bank->count * 16; i++) {
        const int row = i % 16, b = i / 16 % bank->count, block = i / 16 / bank->count;
        int8_t *w = (int8_t *)c->p.w + i / 16 * WINDOW * 16 + row * 4;
        prune_window(w, b >= real ? 0 : one_in(8) ? between(0, bank->slots) : bank->slots);
        pack_window(w, b * bank->slots, packed + block * bank->block, row);
    }
    espl__conv p = c->p;
    p.bank = bank;
    p.w = packed;
    p.segments = p.seg_k = 0;
    p.seg_off = NULL;
    return p;
}

static int random_bank(conv_case *c, espl__bank *bank, bool large) {
    random_shape(c, 1, false, false);
    const int real = random_windows(c, bank, large);
    place_input(c, 1);
    random_weights_u8(c);
    return real;
}

#define BANK_FORMAT "%d of 16, %d windows, %d channels, %d pixels in rows of %d, blocks %d to %d%s"
#define BANK_ARGS(c, bank)                                                                       \
    (bank).slots, (bank).count, (c).p.channels, (c).pixels, (c).p.width, (c).block0, (c).block1, \
        (c).res ? ", residual" : ""

void check_bank_conv_u8(void) {
    for (int i = 0; i < cases(3000); i++) {
        conv_case c = {0};
        espl__bank bank = {.slots = between(1, 8), .size = WINDOW};
        const int real = random_bank(&c, &bank, i % 20 == 0);
        c.p.q = random_epilogue(c.p.channels, c.hostile);
        random_outputs(&c, 1, one_in(2));
        const espl__conv p = banked(&c, &bank, real);
        dense()->conv_u8(&c.p, c.in, c.out.want, c.res, c.pixels, c.block0, c.block1);
        ESPL__CPU_LEVELS(level, 0) {
            const espl__kernels *own = espl__kernels_own((espl__cpu)level);
            if (!own->bank_conv_u8) continue;
            uint8_t *got = take_again(&c.out);
            own->bank_conv_u8(&p, c.in, got, c.res, c.pixels, c.block0, c.block1);
            expect(same_bytes(&c.out, got), "bank_conv_u8", level, BANK_FORMAT, BANK_ARGS(c, bank));
        }
    }
}

void check_bank_conv_u8_f32(void) {
    for (int i = 0; i < cases(1500); i++) {
        conv_case c = {0};
        espl__bank bank = {.slots = between(1, 8), .size = WINDOW};
        const int real = random_bank(&c, &bank, i % 20 == 0);
        c.p.q.mult = random_mults(c.p.channels, c.hostile);
        random_clamp(&c.p.flo, &c.p.fhi);
        if (one_in(2)) {
            float *fbias = take(SLOT_FBIAS, (size_t)round16(c.p.channels) * sizeof *fbias);
            fill_f32(fbias, round16(c.p.channels), 10.0f, c.hostile);
            c.p.fbias = fbias;
        }
        random_outputs(&c, 4, false);
        const espl__conv p = banked(&c, &bank, real);
        dense()->conv_u8_f32(&c.p, c.in, c.out.want, c.pixels, c.block0, c.block1);
        ESPL__CPU_LEVELS(level, 0) {
            const espl__kernels *own = espl__kernels_own((espl__cpu)level);
            if (!own->bank_conv_u8_f32) continue;
            float *got = take_again(&c.out);
            own->bank_conv_u8_f32(&p, c.in, got, c.pixels, c.block0, c.block1);
            expect(same_floats(&c.out, got), "bank_conv_u8_f32", level, BANK_FORMAT, BANK_ARGS(c, bank));
        }
    }
}
