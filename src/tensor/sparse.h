/* How an .espl file stores a tensor of which most elements are 0: values first, then their positions, each a
 * whole number of bytes. docs/format.md has the layouts bit by bit. */
#ifndef ESPL_SPARSE_H
#define ESPL_SPARSE_H

#include "tensor/tensor.h"

/* A stored tensor has at most so many elements for each of its bytes, or it is filled up: a file cannot ask
 * for more memory than that. */
enum { ESPL__SPARSE_ELEMENTS_A_BYTE = 64 };

typedef struct espl__sparse {
    espl__zeros zeros; /* the pattern decides the layout */
    espl_dtype type;   /* of the elements: F32, F16, BF16 or S8 */
    int value_bits;    /* that a value takes: those of the type, or 2 to 7 for codes in S8 */
    int gap_bits;      /* unstructured: that the zeros between two values are counted in, at most 31 */
    int64_t values;    /* stored; NM and BANK: follows from the shape */
    /* What follows from these and the shape. */
    espl__matrix matrix;
    uint64_t value_bytes, count_bytes,
        bytes; /* of the values, of the counts behind them (unstructured), of all */
} espl__sparse;

/* 0 or -0, of the types that constants of weights have: F32, F16, BF16, S32, S8, U8. */
bool espl__is_zero(const espl_tensor *tensor, int64_t index);
/* How many elements are. */
int64_t espl__zeros_count(const espl_tensor *tensor);
/* Fills in what follows from the shape; false if a number is out of its range. */
bool espl__sparse_complete(espl__sparse *layout, const espl_shape *shape);
/* The layout of a tensor that `zeros` speaks of. If the tensor does not satisfy the pattern, that of an
 * unstructured one; false: `zeros` says dense, or there is no layout for such elements. */
bool espl__sparse_of(const espl_tensor *tensor, int value_bits, const espl__zeros *zeros, espl__sparse *out);
/* layout->bytes bytes. An element of -0 that is not stored comes back as 0. */
void espl__sparse_encode(const espl__sparse *layout, const espl_tensor *tensor, uint8_t *out);
/* The other way, from bytes that nobody vouches for; the tensor has layout->type and the shape of complete.
 */
ESPL_NODISCARD espl_status espl__sparse_decode(const espl__sparse *layout, const uint8_t *in,
                                               espl_tensor *tensor, espl_diag *diag);

#endif
