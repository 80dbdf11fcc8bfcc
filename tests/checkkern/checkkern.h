/* What the checks share: buffers that end at a forbidden page, hostile numbers, comparison and counting. */
#ifndef CHECKKERN_H
#define CHECKKERN_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../cases.h"

#include "base/base.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

extern espl__rng rng;

/* Uniform in [lo, hi]. */
int between(int lo, int hi);
/* How many of so many cases are run: a part of them for checksums, and under a sanitizer. */
int cases(int all);
/* True one time in n. */
bool one_in(int n);

/* `bytes` bytes that end where memory ends: reading or writing one more is a fault. `slot` names the buffer;
 * taking a slot again gives it up. Filled with random bytes, and so are the MARGIN bytes before it. */
enum { MARGIN = 256 };
enum {
    SLOT_IN,
    SLOT_B,
    SLOT_RES,
    SLOT_W,
    SLOT_PREPARED,
    SLOT_SUMS,
    SLOT_BANK,
    SLOT_BIAS,
    SLOT_MULT,
    SLOT_FBIAS,
    SLOT_BLANK,
    SLOT_WANT,
    SLOT_GOT,
    SLOTS
};
void *take(int slot, size_t bytes);
/* Outputs of one case. take_outputs gives the reference its own; blank is what they hold beforehand, so a
 * byte nobody writes shows and a byte written outside does too. take_again gives the same blank output to one
 * more kernel. */
typedef struct {
    void *blank, *want;
    size_t bytes;
} outputs;
outputs take_outputs(size_t bytes);
void *take_again(const outputs *o);

/* Ordinary values, and in hostile mode NaN, infinities, zeros, subnormals and huge values among them. */
void fill_f32(float *x, int64_t n, float scale, bool hostile);
float hostile_float(void);

/* Levels above ref that define this kernel themselves; up to ESPL_CPU. */
#define FOR_LEVELS(level, name)                                     \
    ESPL__CPU_LEVELS(level, 1) \
        if (espl__kernels_own((espl__cpu)level)->name)

/* One check. `what` describes the case. */
ESPL_PRINTF(4, 5) void expect(bool ok, const char *kernel, int level, const char *what, ...);
/* Equal bytes, from MARGIN before the buffers on. */
bool same_bytes(const outputs *o, const void *got);
/* The same, any NaN equal to any other. */
bool same_floats(const outputs *o, const void *got);

#define X(name, args) void check_##name(void);
ESPL__KERNEL_LIST(X)
#undef X
void check_packing(void);
void check_bank_packing(void);
void check_csr_packing(void);
void check_wonly_packing(void);
void check_conv_rows(void);
void check_dwconv_packed(void);
/* A tensor in one of the orders that layers have: channels of their own [segment][tap][input] with the inputs
 * first or last, or a matrix whose channels follow each other. `unit`: elements of a word. */
espl__weight_order random_order(int64_t unit);

void bench_all(const char *only);
/* Register-only rates of one level, in 1e9 operations a second: u8 x s8 products and f32 products, 2 each. */
double peak_u8(espl__cpu level);
double peak_f32(espl__cpu level);

#endif
