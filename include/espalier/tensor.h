/* Element types, shapes and dense tensors, and the three axes of an encoding:
 * pattern (where are the non-zeros), format (how is a value represented), coding (how are bytes stored). */
#ifndef ESPALIER_TENSOR_H
#define ESPALIER_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, name, bytes per element in memory, ONNX TensorProto.DataType). The one list of element types. Of 4 bits there is
 * one in a byte.
 * The numbers of this list are written to .espl files: append, never reorder. */
#define ESPL_DTYPE_LIST(X)  \
    X(F32, "f32", 4, 1)     \
    X(U8, "u8", 1, 2)       \
    X(S8, "s8", 1, 3)       \
    X(U16, "u16", 2, 4)     \
    X(S16, "s16", 2, 5)     \
    X(S32, "s32", 4, 6)     \
    X(S64, "s64", 8, 7)     \
    X(BOOL, "bool", 1, 9)   \
    X(F16, "f16", 2, 10)    \
    X(F64, "f64", 8, 11)    \
    X(U32, "u32", 4, 12)    \
    X(U64, "u64", 8, 13)    \
    X(BF16, "bf16", 2, 16)  \
    X(E4M3, "e4m3", 1, 17)  \
    X(E5M2, "e5m2", 1, 19)  \
    X(U4, "u4", 1, 21)      \
    X(S4, "s4", 1, 22)      \
    X(STRING, "string", 16, 8)

typedef enum espl_dtype {
#define ESPL_DTYPE_ENUM(NAME, name, bytes, onnx) ESPL_##NAME,
    ESPL_DTYPE_LIST(ESPL_DTYPE_ENUM)
#undef ESPL_DTYPE_ENUM
    ESPL_DTYPE_COUNT
} espl_dtype;

const char *espl_dtype_name(espl_dtype dtype);
size_t espl_dtype_bytes(espl_dtype dtype);
bool espl_dtype_is_float(espl_dtype dtype);

/* An element of a tensor of strings: `length` bytes, UTF-8 as a rule, not ended by a zero byte; of the empty string `bytes`
 * may be NULL. The text has an owner of its own:
 * - of a tensor that a function returned for espl_tensor_free, the tensor: text and elements go together;
 * - of a session's outputs the session, whoever has the elements: it lives until the next run or the session's end;
 * - of what a program makes the program: espl_tensor_free frees the elements of espl_tensor_alloc only. */
typedef struct espl_text {
    const char *bytes;
    uint64_t length;
} espl_text;

#define ESPL_MAX_RANK 8

/* dim[i] >= 0, or ESPL_DIM_UNKNOWN in a graph whose dynamic dimensions are not bound yet. */
#define ESPL_DIM_UNKNOWN (-1)
typedef struct espl_shape {
    int rank;
    int64_t dim[ESPL_MAX_RANK];
} espl_shape;

/* Dense, row-major, innermost dimension last. `data` is borrowed unless the function that
 * returned the tensor says otherwise. A scalar has rank 0 and one element. */
typedef struct espl_tensor {
    espl_dtype dtype;
    espl_shape shape;
    void *data;
} espl_tensor;

/* Number of elements; ESPL_DIM_UNKNOWN if a dimension is unknown or the product overflows. */
int64_t espl_shape_count(const espl_shape *shape);
bool espl_shape_equal(const espl_shape *a, const espl_shape *b);
/* Writes "1x3x224x224" ("?" for unknown dimensions) to buf and returns buf. */
const char *espl_shape_text(const espl_shape *shape, char *buf, size_t size);
/* Reads "1x3x224x224"; false if malformed. An empty string is a scalar. */
bool espl_shape_parse(const char *text, espl_shape *shape);

/* Allocates the elements (uninitialised; strings are empty) from ctx; free with espl_tensor_free. */
ESPL_NODISCARD espl_status espl_tensor_alloc(espl_context *ctx, espl_dtype dtype, const espl_shape *shape,
                                             espl_tensor *out, espl_diag *diag);
void espl_tensor_free(espl_context *ctx, espl_tensor *tensor);

/* NumPy .npy, versions 1 to 3, little-endian, C order (Fortran order is refused). The tensor read is owned by the
 * caller. Writing appears whole or not at all. */
ESPL_NODISCARD espl_status espl_npy_read(espl_context *ctx, const char *path, espl_tensor *out, espl_diag *diag);
ESPL_NODISCARD espl_status espl_npy_write(espl_context *ctx, const char *path, const espl_tensor *tensor,
                                          espl_diag *diag);

/* --- the three axes ------------------------------------------------------------------- */

/* X(NAME, name, parameters, what it is). Numbers are written to .espl files: append, never reorder. The parameters
 * follow the name in a text: N:M two integers, RxC two, P% a share of weights that go, [global] an optional word. "2:4"
 * alone means "nm 2:4". */
#define ESPL_PATTERN_LIST(X)                                                                                         \
    X(DENSE, "dense", "", "every weight is stored")                                                                  \
    X(UNSTRUCTURED, "unstructured", "P% [global]", "the smallest weights of the layer go, or of all layers together") \
    X(NM, "nm", "N:M", "of every M consecutive weights along the inputs the N largest stay")                         \
    X(BANK, "bank", "N:M", "the same, each row cut into banks of M: bank-balanced sparsity (BBS), up to M = 32 and more") \
    X(BLOCK, "block", "RxC P%", "blocks of R outputs x C inputs go as a whole")                                      \
    X(ROW, "row", "P%", "all weights of an output go")                                                               \
    X(COLUMN, "column", "P%", "all weights of an input (at one tap) go")                                             \
    X(KERNEL, "kernel", "P%", "all taps between an input and an output channel go")

/* How a code becomes a number, before scale, zero point and offset.
 * FLOAT: the number itself, without a scale. FP8: a small float. INTEGER: the code. LOG2: code c of b bits is
 * sign(c) * 2^(|c| - m), m = 2^(b-1) - 1 (2^b - 1 unsigned), and 0 is 0. TERNARY, BINARY: the code. */
#define ESPL_FORMAT_KIND_LIST(X) X(FLOAT) X(FP8) X(INTEGER) X(LOG2) X(TERNARY) X(BINARY)
typedef enum espl_format_kind {
#define X(NAME) ESPL_FORMAT_KIND_##NAME,
    ESPL_FORMAT_KIND_LIST(X)
#undef X
    ESPL_FORMAT_KIND_COUNT
} espl_format_kind;

/* X(NAME, name, kind, bits, is signed, what it is). Constants are stored packed in that many bits. Numbers
 * are written to .espl files: append, never reorder. */
#define ESPL_FORMAT_LIST(X)                                                                             \
    X(F32, "f32", FLOAT, 32, 1, "IEEE 754 single precision")                                            \
    X(U8, "u8", INTEGER, 8, 0, "unsigned 8-bit integer, scale and zero point")                          \
    X(S8, "s8", INTEGER, 8, 1, "signed 8-bit integer, scale and zero point")                            \
    X(S32, "s32", INTEGER, 32, 1, "signed 32-bit integer with a scale (biases of integer layers)")      \
    X(S2, "s2", INTEGER, 2, 1, "signed 2-bit integer weights, computed as s8")                          \
    X(S3, "s3", INTEGER, 3, 1, "signed 3-bit integer weights, computed as s8")                          \
    X(S4, "s4", INTEGER, 4, 1, "signed 4-bit integer weights, computed as s8")                          \
    X(S5, "s5", INTEGER, 5, 1, "signed 5-bit integer weights, computed as s8")                          \
    X(S6, "s6", INTEGER, 6, 1, "signed 6-bit integer weights, computed as s8")                          \
    X(S7, "s7", INTEGER, 7, 1, "signed 7-bit integer weights, computed as s8")                          \
    X(F16, "f16", FLOAT, 16, 1, "IEEE 754 half precision, computed as f32")                             \
    X(BF16, "bf16", FLOAT, 16, 1, "f32 without its lower 16 bits, computed as f32")                     \
    X(TF32, "tf32", FLOAT, 19, 1, "f32 with a mantissa of 10 bits, computed as f32")                    \
    X(E4M3, "e4m3", FP8, 8, 1, "8-bit float: 4 bits of exponent, up to 448, scaled, computed as f32")   \
    X(E5M2, "e5m2", FP8, 8, 1, "8-bit float: 5 bits of exponent, up to 57344, scaled, computed as f32") \
    X(S16, "s16", INTEGER, 16, 1, "signed 16-bit integer with a scale, computed as f32")                \
    X(U2, "u2", INTEGER, 2, 0, "unsigned 2-bit integer activations, computed as u8")                    \
    X(U3, "u3", INTEGER, 3, 0, "unsigned 3-bit integer activations, computed as u8")                    \
    X(U4, "u4", INTEGER, 4, 0, "unsigned 4-bit integer activations, computed as u8")                    \
    X(U5, "u5", INTEGER, 5, 0, "unsigned 5-bit integer activations, computed as u8")                    \
    X(U6, "u6", INTEGER, 6, 0, "unsigned 6-bit integer activations, computed as u8")                    \
    X(U7, "u7", INTEGER, 7, 0, "unsigned 7-bit integer activations, computed as u8")                    \
    X(LOG3, "log3", LOG2, 3, 1, "sign and power of two in 3 bits (LogNet), computed as f32")            \
    X(LOG4, "log4", LOG2, 4, 1, "sign and power of two in 4 bits (LogNet), computed as f32")            \
    X(LOG5, "log5", LOG2, 5, 1, "sign and power of two in 5 bits (LogNet), computed as f32")            \
    X(LOG6, "log6", LOG2, 6, 1, "sign and power of two in 6 bits (LogNet), computed as f32")            \
    X(LOG7, "log7", LOG2, 7, 1, "sign and power of two in 7 bits (LogNet), computed as f32")            \
    X(LOG8, "log8", LOG2, 8, 1, "sign and power of two in 8 bits (LogNet), computed as f32")            \
    X(ULOG3, "ulog3", LOG2, 3, 0, "unsigned power of two in 3 bits for activations, computed as f32")   \
    X(ULOG4, "ulog4", LOG2, 4, 0, "unsigned power of two in 4 bits for activations, computed as f32")   \
    X(ULOG5, "ulog5", LOG2, 5, 0, "unsigned power of two in 5 bits for activations, computed as f32")   \
    X(ULOG6, "ulog6", LOG2, 6, 0, "unsigned power of two in 6 bits for activations, computed as f32")   \
    X(ULOG7, "ulog7", LOG2, 7, 0, "unsigned power of two in 7 bits for activations, computed as f32")   \
    X(TERNARY, "ternary", TERNARY, 2, 1, "-1, 0, +1 times a scale (TWN), computed as s8")               \
    X(BINARY, "binary", BINARY, 1, 1, "-1, +1 times a scale (XNOR-Net), computed as s8")                \
    X(BINARY01, "binary01", BINARY, 1, 0, "0, 1 times a scale, and an offset, computed as f32")

/* X(NAME, name, what it is) */
#define ESPL_CODING_LIST(X)                                          \
    X(RAW, "raw", "whole bytes")                                     \
    X(PACKED, "packed", "codes of b bits packed without gaps")

typedef enum espl_pattern {
#define X(NAME, name, parameters, text) ESPL_PATTERN_##NAME,
    ESPL_PATTERN_LIST(X)
#undef X
    ESPL_PATTERN_COUNT
} espl_pattern;
typedef enum espl_format {
#define X(NAME, name, kind, bits, sign, text) ESPL_FORMAT_##NAME,
    ESPL_FORMAT_LIST(X)
#undef X
    ESPL_FORMAT_COUNT
} espl_format;
typedef enum espl_coding {
#define X(NAME, name, text) ESPL_CODING_##NAME,
    ESPL_CODING_LIST(X)
#undef X
    ESPL_CODING_COUNT
} espl_coding;

const char *espl_pattern_name(espl_pattern pattern);
const char *espl_format_name(espl_format format);
const char *espl_coding_name(espl_coding coding);
int espl_format_bits(espl_format format);
espl_format_kind espl_format_kind_of(espl_format format);
bool espl_format_is_signed(espl_format format);
/* false if there is no such name. */
bool espl_pattern_parse(const char *name, espl_pattern *out);
bool espl_format_parse(const char *name, espl_format *out);

/* A pattern with its parameters. All zero: dense. */
typedef struct espl_sparsity {
    espl_pattern pattern;
    int32_t n, m;          /* NM, BANK: n of m stay, 1 <= n < m */
    int32_t rows, columns; /* BLOCK */
    float share;           /* UNSTRUCTURED, BLOCK, ROW, COLUMN, KERNEL: of weights that go, 0 to 1 */
    bool global;           /* UNSTRUCTURED: of all layers with this pattern together, not of each */
} espl_sparsity;

enum { ESPL_SPARSITY_TEXT = 64, ESPL_SPARSITY_FORMS = 256, ESPL_BANK_MAX = 1 << 16 };
/* "bank 2:16", "2:4", "unstructured 90%", "block 4x4 80%"; writes it to buf (ESPL_SPARSITY_TEXT bytes are enough) and
 * returns buf. */
const char *espl_sparsity_text(const espl_sparsity *sparsity, char *buf, size_t size);
/* false if the text is none, or a number is out of its range. */
bool espl_sparsity_parse(const char *text, espl_sparsity *out);
/* The forms that parse takes, for messages: "dense, unstructured P%, ..."; writes them to buf (ESPL_SPARSITY_FORMS bytes
 * are enough) and returns buf. */
const char *espl_sparsity_forms(char *buf, size_t size);
/* Whether both ask for the same zeros: "2:4" and "bank 2:4" do. */
bool espl_sparsity_equal(const espl_sparsity *a, const espl_sparsity *b);
/* The share of zeros that the pattern asks for, 0 to 1. */
double espl_sparsity_share(const espl_sparsity *sparsity);

#ifdef __cplusplus
}
#endif
#endif
