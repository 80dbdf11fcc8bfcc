/* How wide an accumulator must be: the sums of each output channel of an integer layer, for every input there
 * can be.
 *
 * A sum begins with start = bias - Z_x * sum(w), in units of S_x * S_w, and takes w_q * x_q one after the
 * other, x_q a code of the input's format, so no partial sum leaves
 *
 *   start + sum of min(w_q * lo, w_q * hi)  to  start + sum of max(w_q * lo, w_q * hi),      lo <= x_q <= hi
 *
 * as lo <= 0 <= hi; and there are inputs that reach both ends. P bits suffice if and only if these are within
 * -2^(P-1) to 2^(P-1) - 1. With lo = 0 that is the exact test max(sum w+, sum |w-|) * max x_q of methods.md,
 * and with any lo it implies nothing less than sum |w_q| * max |x_q| < 2^(P-1), which is sufficient where
 * start is 0. */
#ifndef ESPL_ACCUMULATOR_H
#define ESPL_ACCUMULATOR_H

#include "graph/graph.h"

typedef struct espl__bounds {
    int64_t lo, hi;
} espl__bounds;
/* Of one row: `count` codes of weights from w, `by` apart. */
espl__bounds espl__accumulator_bounds(const int8_t *w, int64_t count, int64_t by, int64_t start, int32_t lo,
                                      int32_t hi);
/* Bits that hold both ends; 1 at least. */
int espl__accumulator_bits(espl__bounds bounds);

/* What a layer needs: bits 0: it is none that is computed in integers. */
typedef struct espl__accumulator {
    int bits;     /* of its widest row */
    int64_t rows; /* output channels */
} espl__accumulator;
espl__accumulator espl__accumulator_of(const espl_graph *g, const espl__node *node);
/* Rows that need more than so many bits. */
int64_t espl__accumulator_failing(const espl_graph *g, const espl__node *node, int bits);

/* X(NAME, name, what it is): what to do with rows that need more. */
#define ESPL__OVERFLOW_LIST(X)                                                                            \
    X(SHRINK, "shrink", "the scales of rows that do not fit grow, and codes get smaller, until they do") \
    X(REFUSE, "refuse", "a network of which a row does not fit is refused, with a sentence that names the layer")
/* X(NAME, name, what it is): the arithmetic of other chips that sessions emulate (espl_arithmetic). */
#define ESPL__EMULATION_LIST(X)                                                                           \
    X(WRAP, "wrap", "accumulators of P bits that keep the lower bits of a sum")                           \
    X(SATURATE, "saturate", "accumulators of P bits that stop at their ends, at every addition")          \
    X(FIXED, "fixed", "sums become codes by an integer multiplier of 31 bits and a shift: no floating point")
typedef enum espl__overflow {
#define X(NAME, name, text) ESPL__OVERFLOW_##NAME,
    ESPL__OVERFLOW_LIST(X)
#undef X
        ESPL__OVERFLOW_COUNT
} espl__overflow;

/* Makes `bits` suffice for the node, or says why not. weights: those of input 1 as they were before they were
 * rounded; NULL: what the codes stand for. *shrunk: rows that got other codes. */
ESPL_NODISCARD espl_status espl__accumulator_limit(espl_graph *g, espl__node *node,
                                                   const espl_tensor *weights, int bits,
                                                   espl__overflow overflow, int64_t *shrunk, espl_diag *diag);

#endif
