/* Floor 1 for the floors above. */
#ifndef ESPL_TENSOR_INTERNAL_H
#define ESPL_TENSOR_INTERNAL_H

#include "base/base.h"
#include "espalier/tensor.h"

size_t espl__tensor_bytes(const espl_tensor *tensor);
/* A tensor of its own, its strings' text included (espl_tensor_free). */
ESPL_NODISCARD espl_status espl__tensor_copy(espl_context *ctx, const espl_tensor *from, espl_tensor *out,
                                             espl_diag *diag);

/* --- tensors of strings. Operators that move elements copy (pointer, length) pairs; text is made by few, and stands behind
 * the elements of the tensor that it was made for, in one block with them. */
/* Bytes of all texts; saturates. Of other types 0. */
uint64_t espl__text_bytes(const espl_tensor *tensor);
/* Of a block for the elements and `text` more bytes; saturates. */
uint64_t espl__text_block(const espl_tensor *tensor, uint64_t text);
/* Copies elements and text of `from` into `block`, which has the room that espl__text_block says. */
void espl__text_copy(const espl_tensor *from, void *block);
bool espl__text_equal(const espl_text *a, const espl_text *b);
/* Whether every element that has a length has bytes. */
bool espl__text_present(const espl_tensor *tensor);

int espl__dtype_onnx(espl_dtype dtype);
bool espl__dtype_from_onnx(int64_t onnx, espl_dtype *out);

/* How the numbers of one tensor are represented: r = scale[c] * (q - zero[c]) + offset[c], where q is the number that
 * the code stands for (espl__format_decode).
 * axis -1: one scale for the tensor; else one per index of that axis, or with groups [index][group]: `group` elements
 * that follow each other along group_axis share one, the last of them perhaps fewer. */
typedef struct espl__quant {
    espl_format format; /* F32: not quantized */
    int axis;
    int64_t count; /* scales */
    float *scale;
    int32_t *zero; /* NULL: all 0 */
    float *offset; /* NULL: all 0 */
    int64_t group; /* 0: none */
    int group_axis;
} espl__quant;
/* Scales that a tensor of this shape has by axis and groups; -1: they do not fit it. */
int64_t espl__quant_scales(const espl__quant *q, const espl_shape *shape);
/* The same format, and one scale and one zero point that are the same. */
static inline bool espl__same_grid(const espl__quant *a, const espl__quant *b) {
    return a->format == b->format && a->count == 1 && b->count == 1 && a->scale[0] == b->scale[0] &&
           (a->zero ? a->zero[0] : 0) == (b->zero ? b->zero[0] : 0);
}
/* Which scale belongs to an element: walks a tensor in the order of its elements. */
typedef struct espl__scale_walk {
    int64_t channels, inner, groups, group, group_dim, group_inner;
} espl__scale_walk;
espl__scale_walk espl__scale_walk_of(const espl__quant *q, const espl_shape *shape);
static inline int64_t espl__scale_at(const espl__scale_walk *w, int64_t element) {
    int64_t c = element / w->inner % w->channels;
    return w->groups == 1 ? c : c * w->groups + element / w->group_inner % w->group_dim / w->group;
}

/* The numbers of a tensor: of its codes if q's format is not F32, else of its elements. false if the type has none. */
bool espl__quant_read(const espl_tensor *codes, const espl__quant *q, float *out);

/* A weight tensor as `taps` matrices of rows x inputs: products are summed over inputs and taps. Element (row, tap, input)
 * is element row * by_row + tap * by_tap + input * by_input of the tensor. A convolution [O][I][kh][kw] has kh * kw taps. */
typedef struct espl__matrix {
    int64_t rows, taps, inputs, by_row, by_tap, by_input;
} espl__matrix;
/* All axes but two are the taps; false if their elements are not evenly spaced, or an axis is none of the shape's. */
bool espl__matrix_of(const espl_shape *shape, int row_axis, int inner_axis, espl__matrix *out);
static inline int64_t espl__matrix_count(const espl__matrix *m) {
    return m->rows * m->taps * m->inputs;
}
static inline int64_t espl__matrix_at(const espl__matrix *m, int64_t row, int64_t tap, int64_t input) {
    return row * m->by_row + tap * m->by_tap + input * m->by_input;
}

/* What goes or stays as a whole in a pattern without banks: so many rows x taps x inputs (fewer at the far ends), and how
 * many of them there are each way. They are counted in the order rows, taps, inputs. */
typedef struct espl__unit {
    int64_t rows, taps, inputs, high, deep, wide;
} espl__unit;
espl__unit espl__pattern_unit(const espl_sparsity *pattern, const espl__matrix *m);
static inline int64_t espl__unit_count(const espl__unit *u) {
    return u->high * u->deep * u->wide;
}
/* The first of the units that row and tap pass; the one that an input is in is input / u->inputs further. */
static inline int64_t espl__unit_at(const espl__unit *u, int64_t row, int64_t tap) {
    return (row / u->rows * u->deep + tap / u->taps) * u->wide;
}
/* Weights of the index-th unit. */
int64_t espl__unit_size(const espl__unit *u, const espl__matrix *m, int64_t index);

/* The pattern that a tensor's zeros satisfy, and the axes of its rows and inputs. */
typedef struct espl__zeros {
    espl_sparsity pattern;
    int row_axis, inner_axis;
} espl__zeros;

/* Formats whose numbers mean themselves and are computed as f32; the others have scales. */
static inline bool espl__format_is_float(espl_format format) {
    return espl_format_kind_of(format) == ESPL_FORMAT_KIND_FLOAT;
}
/* Formats whose codes are the numbers, in 8 bits: what the integer kernels multiply. */
bool espl__format_is_code8(espl_format format);
/* The nearest code to x, which is divided by the scale already: to even where two are as near, saturating, the code of 0 for
 * NaN where there is no NaN. Not for kind FLOAT. */
int32_t espl__format_encode(espl_format format, float x);
/* The number that a code stands for, before scale, zero point and offset. */
float espl__format_decode(espl_format format, int32_t code);
/* The largest number of a code. */
float espl__format_largest(espl_format format);
/* The nearest number of the format, scale 1; of any kind. */
float espl__format_round(espl_format format, float x);
/* The nearest number of a grid. Integers are rounded before the zero point is added, as QuantizeLinear does
 * it: that is another code where two are as near and the zero point is odd. */
float espl__grid_round(espl_format format, float scale, int32_t zero, float x);
/* The element type of a constant that holds the codes of a format. */
espl_dtype espl__format_dtype(espl_format format);

/* Whether weights of pattern `a` satisfy `b` too: 2:16 is also 4:32, and 90 % of zeros are also 80 %. */
bool espl__sparsity_implies(const espl_sparsity *a, const espl_sparsity *b);
/* The tightest pattern that the zeros of a matrix satisfy; recognise.c says how it is chosen. The share is the one that is
 * there. A tensor without many zeros costs a look at a few thousand elements. */
ESPL_NODISCARD espl_status espl__pattern_recognise(espl_context *ctx, const espl__matrix *m, const espl_tensor *tensor,
                                                   espl_sparsity *out, espl_diag *diag);
/* How evenly the non-zeros lie: the mean number in a bank over the largest, of patterns without banks in a row. 1: all have
 * the same, or none has any. */
double espl__pattern_balance(const espl_sparsity *pattern, const espl__matrix *m, const espl_tensor *tensor);

/* Smallest and largest code of an integer, log2, ternary or binary format, as Espalier produces them. */
void espl__format_range(espl_format format, int32_t *lo, int32_t *hi);

/* Bits that hold 0 to n. */
static inline int espl__bits_for(int64_t n) {
    int bits = 0;
    while (bits < 63 && n >> bits) bits++;
    return bits;
}
/* A number of up to 32 bits at bit `at` of a sequence, least significant bit first; put: where all is 0 yet. */
static inline void espl__bits_put(uint8_t *to, uint64_t at, uint32_t v) {
    for (uint64_t all = (uint64_t)v << (at & 7), i = at >> 3; all; all >>= 8) to[i++] |= (uint8_t)all;
}
static inline uint32_t espl__bits_get(const uint8_t *from, uint64_t at, int bits) {
    uint64_t v = 0;
    unsigned skip = at & 7, end = skip + (unsigned)bits;
    for (unsigned i = 0; i < end; i += 8) v |= (uint64_t)from[(at >> 3) + i / 8] << i;
    return (uint32_t)(v >> skip & (((uint64_t)1 << bits) - 1));
}
/* The same as two's complement; 1 to 32 bits. */
static inline int32_t espl__bits_get_signed(const uint8_t *from, uint64_t at, int bits) {
    return (int32_t)(espl__bits_get(from, at, bits) << (32 - bits)) >> (32 - bits);
}

/* Codes of `bits` packed without gaps, least significant bit first; pack and unpack: 1 to 8. */
static inline size_t espl__codes_bytes(int64_t count, int bits) {
    return ((size_t)count * (size_t)bits + 7) / 8;
}
void espl__codes_pack(const int8_t *codes, int64_t count, int bits, uint8_t *out);
void espl__codes_unpack(const uint8_t *in, int64_t count, int bits, int8_t *codes);
/* The same for the elements of a constant of the format, in as many bits as it has (docs/format.md): -1 and +1 are 1 and 0,
 * and of f32's bits the upper 19. Whether it has such a form: else its elements are whole bytes. */
bool espl__format_packs(espl_format format);
void espl__format_pack(espl_format format, const void *elements, int64_t count, uint8_t *out);
void espl__format_unpack(espl_format format, const uint8_t *in, int64_t count, void *elements);

/* f16 and bf16 as bits; to nearest even, NaN stays NaN. */
float espl__half_to_float(uint16_t h);
uint16_t espl__half_from_float(float x);
/* Whether f16 holds each of these exactly, none of them NaN. */
bool espl__are_halves(const float *x, int64_t count);
float espl__bfloat_to_float(uint16_t b);
uint16_t espl__bfloat_from_float(float x);

/* Round to nearest even, exact for |x| < 2^22, and vectorised by every compiler. */
static inline int32_t espl__rne(float x) {
    float shifted = x + 12582912.0f; /* 1.5 * 2^23 */
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4B400000;
}

/* The one requantization of the project: clamp(rne(x) + zero, lo, hi); NaN gives the code of the smallest
 * value. */
static inline int32_t espl__requantize(float x, int32_t zero, int32_t lo, int32_t hi) {
    x = x > -1024.0f ? x : -1024.0f;
    x = x < 1024.0f ? x : 1024.0f;
    int32_t q = espl__rne(x) + zero;
    return q < lo ? lo : q > hi ? hi : q;
}

#endif
