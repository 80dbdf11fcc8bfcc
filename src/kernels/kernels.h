/* Compute on raw pointers. A plain C reference (ref) defines each result; the other instruction sets agree with it bit
 * for bit, floats included: every output element is summed in one fixed order with explicit fma, so vector code works
 * across outputs and never inside a sum. Kernels return void, allocate nothing, and assert what the planner has checked.
 *
 * Activations are NHWC. Quantized activations are u8 whatever the model says: an s8 value is stored with its sign bit
 * flipped and its zero point raised by 128. Weights are s8.
 *
 * One set of function pointers per instruction set is chosen at start; an entry that a set leaves NULL is inherited
 * from the next lower one. ESPL__KERNEL_LIST is the row list: tables, inheritance and checkkern derive from it. */
#ifndef ESPL_KERNELS_H
#define ESPL_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"

/* Output channels are packed in blocks of 16: one 512-bit register of s32 or f32. */
enum { ESPL__NR = 16 };

/* What is done to an accumulator before it is stored. All arrays are padded to a multiple of 16 channels.
 *
 *   q1 = clamp(rne(f32(acc) * mult[c]) + zero, lo, hi)                                     (no residual)
 *   q2 = clamp(rne(fma(f32(q1 - zero), res_scale_own, f32(r - res_zero) * res_scale)) + zero2, lo2, hi2)   (residual r)
 *
 * so that a fused Add gives the integers of an Add that stands alone (see qadd). */
typedef struct espl__epilogue_u8 {
    const float *mult;
    int32_t zero, lo, hi;
    float res_scale_own, res_scale;
    int32_t res_zero, zero2, lo2, hi2;
} espl__epilogue_u8;

/* The arithmetic of a chip whose accumulators are narrow or that has no floating point, to see what would come of it
 * (narrow.c). x is read as x - shift: codes of s8 as the chip has them; the bias is that of such codes then. Sums begin
 * with the bias and take the products one after the other, in the order of the packed weights. */
typedef struct espl__narrow {
    int32_t bits; /* of an accumulator, 2 to 32 */
    int32_t shift;
    bool saturate; /* at every addition; else they wrap */
    bool fixed;    /* q1 by an integer multiplier and a shift (tensor/fixed.h) instead of rne(f32(acc) * mult) */
} espl__narrow;

/* Convolution of rows of output pixels, which is also GEMM (one row of M "pixels", one segment of K).
 *
 * For the output pixel x of row y the kernel reads `segments` runs of seg_k groups of 4 bytes (u8) or of seg_k floats
 * (f32), the s-th at in + y * in_row + x * in_step + seg_off[s]. Undilated: one segment per kernel row, holding kw * channels elements in one run.
 * The border is physically there in the input (filled with the zero point), so there is no edge to test.
 *
 * Weights: [blocks of 16 output channels][segments][seg_k][16][4] s8 (u8 kernels) or [...][16] f32.
 * acc starts at bias[c]; for u8 the zero-point correction -zero_in * sum(w) is folded into it.
 * Accumulation order of f32: segments in order, k in order, acc = fma(x, w, acc).
 *
 * Steps, rows, seg_off: bytes. `pixels` of a call are counted through the rows, the last of which may be shorter.
 * Channels computed: [block0 * 16, min(block1 * 16, channels)); `out` and `res` point at channel 0 of the first pixel.
 * Exactly the valid channels are written. */
struct espl__bank;
struct espl__csr;
struct espl__wonly;
typedef struct espl__conv {
    int32_t segments, seg_k;
    const int32_t *seg_off;
    ptrdiff_t in_step, out_step, res_step;
    int32_t width; /* pixels of a row; 0: all of them, and the next three are not used */
    ptrdiff_t in_row, out_row, res_row;
    /* Groups, or floats, at the begin of each segment that the first pixel of a row reads from the border, and at its end that
     * the last one does. 0 where rows are not whole, or a weight is not finite. Their products may be left out, if the pixel's
     * sums begin with this instead of bias: NULL if that is the same, for borders of zeros. */
    int32_t edge[2];
    const int32_t *edge_bias[2];
    const void *w;
    ptrdiff_t w_block; /* conv_*: bytes from a block of weights to the next, of which these segments are a part; 0: they are all */
    /* Hints: weights that the next call reads, NULL if not known; whether this call finds its own far away, as they have not been
     * read lately. They may be fetched meanwhile. */
    const void *next;
    bool cold;
    const void *const *prepared; /* conv_u8*: NULL, or what prepare made of each block, instead of w */
    const int32_t *sums; /* gemv_u8*: NULL, or 128 times the sum of each channel's weights, padded as bias */
    const struct espl__bank *bank; /* bank_* kernels: what w is, instead of the segments */
    const struct espl__csr *csr;   /* csr_conv_*: what w is, in the order of the segments */
    const struct espl__wonly *wonly; /* wonly_f32: what w is */
    int32_t values;                  /* gemv_f32: an espl_dtype, ESPL_F32 (0), ESPL_F16 or ESPL_BF16, of the weights */
    void *scratch; /* csr_conv_*: espl__csr_scratch_bytes, aligned to 64; of each thread its own */
    const void *bias;            /* int32_t or float, padded to a multiple of 16 */
    int32_t channels;
    espl__epilogue_u8 q; /* u8 -> u8; for u8 -> f32 only q.mult is used: out = f32(acc) * mult + fbias */
    const float *fbias;  /* u8 -> f32 only; NULL: none */
    float flo, fhi;      /* f32 outputs: clamp after everything else; -inf and +inf for none */
    const espl__narrow *narrow; /* heeded by the kernels of espl__kernels_narrow only; NULL: none */
} espl__conv;

static inline ptrdiff_t espl__conv_w_block(const espl__conv *p) {
    return p->w_block ? p->w_block : (ptrdiff_t)p->segments * p->seg_k * 64;
}

/* Weights of which every row (output channel) keeps `slots` in each bank: a window of `size` consecutive elements of the
 * input, the b-th at in + pixel + off[b], all of it inside the input. Where the inputs of a tap are no multiple of `size`,
 * the last window begins early and overlaps the one before it. A slot that a row does not need has the weight 0.
 * The slots of a row are in the order of the inputs, bank after bank, so that f32 sums are those of the dense kernels, which
 * add products with 0 in between.
 *
 * w is packed in blocks of 16 rows (lane = row), `block` bytes each, aligned to 64:
 *
 * u8 x s8, size 16. Banks come in groups of 4 / gcd(slots, 4) (count is a multiple of that; a bank that only fills a group
 *   has off 0 and weights 0), so that a group's slots fill whole words of 4. Slot s of bank b of a group is slot
 *   i = b * slots + s of the group: byte i % 4 of word i / 4. A vector is one word of each row, [16][4] s8. Two vectors
 *   follow one another as
 *       64 bytes of positions: byte j has that of byte j of the first vector in its low four bits, of the second in its high
 *       64 bytes of weights of the first vector, 64 of the second
 *   The last pair may have no use for its second vector, which is there all the same (weights and positions 0).
 *
 * f32, size 16 or 32; `values` says how a weight is stored: ESPL_F32, ESPL_F16 or ESPL_BF16 (bytes 4, 2, 2). A vector is
 *   one slot of each row, [16] values; vectors come bank after bank, slot after slot. `per` = 8 (size 16: 4 bits each) or 6
 *   (size 32: 5 bits each) vectors follow one another as
 *       16 words of positions: that of row r in the i-th vector in bits i * 4 (or i * 5) and up of word r
 *       the vectors, 64 or 32 bytes each; the last group has as many as there are left */
typedef struct espl__bank {
    int32_t count, slots, size;
    const int32_t *off; /* bytes, of `count` windows */
    int32_t values;     /* an espl_dtype: of a weight */
    ptrdiff_t block;
} espl__bank;

/* Weights of few bits with a scale for each group of inputs, times rows of f32 that are rounded on the way (weight-only
 * quantization, or s8 activations). K is cut into units of ESPL__UNIT inputs; the last is filled up with zeros.
 *
 * A row of inputs is rounded unit by unit (block floating point): with m the largest |x| of the unit and `planes` bytes an input
 *
 *   planes 3:  most = 127 * 65536,  q = 65536 * high + 256 * middle + low, all three s8
 *   planes 1:  most = 127
 *   step = m / most,  q = rne(x * (most / m))
 *
 * so that |x - q * step| is at most 2^-23 or 2^-8 of m: three planes are as near as f32 is. Units with m < 2^-100 count as 0. If
 * m is infinite or NaN is among them, step is NaN and q = 0. A rounded row is a record for each unit:
 *     planes 3: 32 high bytes, 32 middle bytes, 32 low bytes, start1, start0 (s32), step (f32)
 *     planes 1: 32 bytes, start0, step
 * where start1 = -offset * (sum of 256 * high + middle) and start0 = -offset * (sum of low, or of q).
 *
 * Weights of `bits` bits (2, 4, 8) are stored as code + offset, offset = 2^(bits - 1), without sign. A block of 16 rows
 * (lane = row), `block` bytes, is group after group, `group` units each (the last may have fewer):
 *     16 scales, f16 or f32
 *     the units, 64 * bits bytes each. A vector is four inputs of each row, [16][4]; byte j of a vector of memory has byte j
 *     of 8 / bits vectors that follow each other, the first in its lowest bits
 *
 * Of a unit, S1 = sum of codes * (256 * high + middle) and S0 = sum of codes * low (or q) are exact in integers;
 *
 *   y[c] = clamp(bias[c] + sum over units u, in order, by fma, of s * (scale[c] * step[u]) + res)
 *   s = fma(f32(S1), 256, f32(S0)), or with one plane f32(S0) */
enum { ESPL__UNIT = 32 };
typedef struct espl__wonly {
    int32_t k, units, group; /* inputs; units of them; units that share a scale */
    int32_t bits, planes;    /* planes: 1 or 3 */
    int32_t scales; /* an espl_dtype: ESPL_F16 or ESPL_F32 */
    ptrdiff_t block;
} espl__wonly;
static inline ptrdiff_t espl__wonly_record(const espl__wonly *k) {
    return ESPL__UNIT * (ptrdiff_t)k->planes + (k->planes == 3 ? 12 : 8);
}

/* Weights without a pattern, row by row (compressed sparse rows), in pieces of so many elements that those of a strip
 * of pixels stay in the first-level cache. An element is 32 bits of a pixel: an f32, or a group of four codes. Row r of
 * block b of 16 rows has in piece q entries[i] for i from start[n] to start[n + 1], n = (b * pieces + q) * 16 + r. Element e
 * of a pixel is the one that conv_* reads e-th: number e % seg_k of segment e / seg_k; an entry's counts from the first of the
 * piece, q * piece. A row's elements ascend, so its sum is conv_f32's without the products with 0. */
typedef struct espl__csr_entry {
    uint32_t element;
    union {
        float weight;
        int8_t codes[4]; /* s8, of a group */
    };
} espl__csr_entry;
typedef struct espl__csr {
    int32_t piece, pieces; /* elements of each piece but the last; how many */
    const int32_t *start;  /* espl__csr_starts */
    const espl__csr_entry *entries;
} espl__csr;

/* Bytes from pixel 0 to pixel i. */
static inline ptrdiff_t espl__pixel_at(int32_t width, int i, ptrdiff_t step, ptrdiff_t row) {
    return width ? i / width * row + i % width * step : i * step;
}

/* Depthwise convolution of rows of output pixels: out[p][c] = sum over taps of in[p][c] * w[tap][c].
 * Weights: [taps][channels padded to 16]; s32 for u8 activations (they hold s8 values), f32 for f32. */
typedef struct espl__dwconv {
    int32_t taps;
    const int32_t *tap_off; /* bytes from the pixel's base */
    ptrdiff_t in_step, out_step, res_step;
    int32_t width; /* as in espl__conv */
    ptrdiff_t in_row, out_row, res_row;
    const void *w;
    const void *bias;
    int32_t channels;
    espl__epilogue_u8 q;
    float flo, fhi;
    const espl__narrow *narrow; /* as in espl__conv */
} espl__dwconv;

/* One row of tiles of Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv:1509.09308): a tile is 2 x 2 output pixels, made of
 * 4 x 4 input pixels d and the 3 x 3 taps g of a channel as Y = A' (sum over channels of (G g G') * (B' d B)) A with
 *
 *        1  0 -1  0           1    0    0
 *   B' = 0  1  1  0       G = 1/2  1/2  1/2      A' = 1  1  1  0
 *        0 -1  1  0           1/2 -1/2  1/2           0  1 -1 -1
 *        0  1  0 -1           0    0    1
 *
 * The sums of the 16 elements are 16 matrix products, which conv_f32 does. Element (i, j) of the 4 x 4, tile t and
 * channel c of either side lie at (4 i + j) * plane + t * tile + 4 c bytes. An image whose height or width is no
 * multiple of a tile's ends in tiles of which only the first rows or columns of outputs are there; what nothing depends on
 * is then not read of the input either: its last row or column is taken again. Steps are bytes.
 *
 * Of codes everything is whole: with 2 G instead of G, products are four times what they should be, and Y / 4 is exact.
 * B' d B of u8 is within 4 * 255, G g G' of s8 within 9 * 128: s16 both (the former at 2 c instead of 4 c bytes), their
 * sums, which conv_s16 makes, s32, as long as four times a sum of the convolution is within 31 bits.
 *
 * Codes may also go by F(4x4, 3x3): tiles of 4 x 4 outputs, 6 x 6 inputs and 36 elements, (i, j) in plane 6 i + j, where
 * the direct way has 144 products.
 *
 *        4  0 -5  0  1  0            6  0  0
 *        0 -4 -4  1  1  0           -4 -4 -4           1  1  1  1  1  0
 *   B' = 0  4 -4 -1  1  0      G =  -4  4 -4      A' = 0  1 -1  2 -2  0
 *        0 -2 -1  2  1  0            1  2  4           0  1  1  4  4  0
 *        0  2 -1 -2  1  0            1 -2  4           0  1 -1  8 -8  2
 *        0  4  0 -5  0  1            0  0 12
 *
 * G here is 24 times the usual one, but 12 times in its last row, which A' makes up for: the products are 576 times what they
 * should be, and B' d B is within 68 * 255, G g G' within 144 * 128. Sums may pass 32 bits and wrap: modulo 2^32 they can be
 * divided by 9 (times 954437177, as 9 * 954437177 = 2^33 + 1), and where Y is within 26 bits a shift by 6 finds it. */
typedef struct espl__winograd {
    int32_t side;          /* outputs of a tile each way: 2, or of codes 4 */
    int32_t width;         /* output pixels of a row */
    int32_t channels;      /* of the input, or of the output */
    ptrdiff_t step, row;   /* from pixel to pixel and row to row of the input, or of the output */
    ptrdiff_t res_step, res_row;
    ptrdiff_t tile, plane;
    float flo, fhi;        /* f32 output: clamp after everything else */
    const int32_t *bias;   /* u8 output: as espl__conv has them */
    espl__epilogue_u8 q;
} espl__winograd;

/* y = clamp(rne(fma(f32(a - za), sa, f32(b - zb) * sb)) + zero, lo, hi) */
typedef struct espl__qadd {
    float sa, sb;
    int32_t za, zb, zero, lo, hi;
} espl__qadd;

/* y = fma((x - mean) / sqrt(mean((x - mean)^2) + epsilon), scale, bias) over one row, the quotient as a product with
 * the reciprocal; both sums in 16 lanes. */
typedef struct espl__layernorm {
    const float *scale, *bias; /* bias NULL: none */
    float epsilon;
} espl__layernorm;

/* X(name, result, arguments): the row list of kernels.
 *  conv_u8:     u8 x s8 -> u8; `res` NULL or the residual operand of q2.
 *  conv_u8_f32: u8 x s8 -> f32.
 *  conv_f32:    f32 -> f32; out = clamp(acc + res, flo, fhi), res may be NULL.
 *  csr_conv_*: conv_* with the weights of p->csr.
 *  bank_conv_*: conv_* with bank-balanced weights: p->bank says what p->w is, segments are not used.
 *  dwconv_*:    the same for depthwise.
 *  winograd_in_f32: B' d B of a row of tiles with `rows` rows of outputs, 1 to p->side; first B' d, element (i, j) = a - b or
 *               a + b as B' says, then times B likewise.
 *  winograd_out_f32: out = clamp(A' m A + res, flo, fhi), res may be NULL; first A' m, then times A, both
 *               (m0 + m1) + m2 and (m1 - m2) - m3.
 *  winograd_in_u8: winograd_in_f32 of codes, to s16.
 *  winograd_out_u8: out = conv_u8's epilogue of (A' m A) / 4, or / 576, + bias; m, and what is read of bias and q.mult, has whole
 *               blocks of 16 channels.
 *  conv_s16:    s16 x s16 -> s32, sums wrap; seg_k is in pairs of inputs, of p->w [channels / 16][segments][seg_k][16][2].
 *               Whole blocks are written.
 *  gemv_*:      conv_* with one segment, made for one to four pixels ("rows"): weights are read once for all.
 *               gemv_u8_f32 also adds `res` (may be NULL): out = clamp(f32(acc) * mult + fbias + res, flo, fhi).
 *  bank_gemv_*: gemv_* with the weights of p->bank, for any number of rows; they are read once for up to four.
 *  wonly_round: rows of f32, in_step bytes apart, as records of espl__wonly, one row's behind the other's.
 *  wonly_f32:   gemv_f32 on such rows, in_step apart, with the weights of p->wonly, for any number of rows.
 *  add_u8:      elementwise, n elements.
 *  lut_u8:      out[i] = table[in[i]].
 *  requant_u8:  out = clamp(rne(f32(in - zin) * scale) + zero, 0, 255).
 *  quantize:    out = clamp(rne(in * inverse) + zero, lo, hi).
 *  dequantize:  out = f32(in - zero) * scale.
 *  max_u8, max_f32: out[c] = max over `count` rows at in[i] of c channels.
 *  sum_u8:      out[c] = sum over `count` rows, s32. sum_f32 likewise, in order.
 *  add_f32, mul_f32, clamp_f32: elementwise.
 *  affine_f32:  out = fma(in, scale, shift).
 *  exp_f32, sigmoid_f32, tanh_f32, erf_f32: the project's own functions, same bits everywhere; in and out may be equal.
 *  gelu_f32, gelu_tanh_f32: x Phi(x) = x / 2 (1 + erf(x / sqrt 2)), and its approximation by tanh.
 *  softmax_f32: of scale * in, one row; scale > 0. What is below e^-80 of the largest is 0.
 *  layernorm_f32: one row, see espl__layernorm.
 *  pack_u8, pack_f32: a matrix that is known only now as the weights of conv_*: element (k, column) lies at
 *               b + k * by_k + column * by_column bytes. To [columns / 16][k / 4][16][4] s8 (the codes with the sign
 *               bit flipped) and their sums per column, padded to 16; to [columns / 16][k][16] f32. Zero-filled.
 *  row_sums_u8: sums of the k codes of each of `rows` rows, `step` bytes apart.
 *  transpose_8, transpose_32: row r, column c of elements of 1 or 4 bytes to row c, column r; steps from row to row in
 *               bytes. */
#define ESPL__KERNEL_LIST(X)                                                                                          \
    X(conv_u8, (const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels, int block0,    \
                int block1))                                                                                          \
    X(conv_u8_f32, (const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0, int block1))          \
    X(conv_f32, (const espl__conv *p, const float *in, float *out, const float *res, int pixels, int block0,          \
                 int block1))                                                                                         \
    X(csr_conv_f32, (const espl__conv *p, const float *in, float *out, const float *res, int pixels, int block0,      \
                     int block1))                                                                                     \
    X(bank_conv_u8, (const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,            \
                     int block0, int block1))                                                                         \
    X(bank_conv_u8_f32, (const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0, int block1))     \
    X(dwconv_u8, (const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels, int block0, \
                  int block1))                                                                                        \
    X(dwconv_f32, (const espl__dwconv *p, const float *in, float *out, const float *res, int pixels, int block0,      \
                   int block1))                                                                                       \
    X(winograd_in_f32, (const espl__winograd *p, const float *in, float *v, int rows))                                \
    X(winograd_out_f32, (const espl__winograd *p, const float *m, float *out, const float *res, int rows))            \
    X(gemv_u8, (const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int rows, int block0,       \
                int block1))                                                                                          \
    X(gemv_u8_f32, (const espl__conv *p, const uint8_t *in, float *out, const float *res, int rows, int block0,       \
                    int block1))                                                                                      \
    X(gemv_f32, (const espl__conv *p, const float *in, float *out, const float *res, int rows, int block0,            \
                 int block1))                                                                                         \
    X(bank_gemv_u8, (const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int rows, int block0, \
                     int block1))                                                                                     \
    X(bank_gemv_u8_f32, (const espl__conv *p, const uint8_t *in, float *out, const float *res, int rows, int block0,  \
                         int block1))                                                                                 \
    X(bank_gemv_f32, (const espl__conv *p, const float *in, float *out, const float *res, int rows, int block0,       \
                      int block1))                                                                                    \
    X(wonly_round, (const espl__wonly *k, const float *in, ptrdiff_t in_step, void *out, int rows))                   \
    X(wonly_f32, (const espl__conv *p, const void *in, float *out, const float *res, int rows, int block0, int block1)) \
    X(add_u8, (const espl__qadd *p, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t n))                     \
    X(lut_u8, (const uint8_t *table, const uint8_t *in, uint8_t *out, int64_t n))                                     \
    X(requant_u8, (float scale, int32_t zin, int32_t zero, const uint8_t *in, uint8_t *out, int64_t n))               \
    X(quantize, (float inverse, int32_t zero, int32_t lo, int32_t hi, const float *in, uint8_t *out, int64_t n))      \
    X(dequantize, (float scale, int32_t zero, const uint8_t *in, float *out, int64_t n))                              \
    X(max_u8, (const uint8_t *const *in, int count, uint8_t *out, int64_t channels))                                  \
    X(max_f32, (const float *const *in, int count, float *out, int64_t channels))                                     \
    X(sum_u8, (const uint8_t *const *in, int count, int32_t *out, int64_t channels))                                  \
    X(sum_f32, (const float *const *in, int count, float *out, int64_t channels))                                     \
    X(add_f32, (const float *a, const float *b, float *out, int64_t n))                                               \
    X(mul_f32, (const float *a, const float *b, float *out, int64_t n))                                               \
    X(clamp_f32, (float lo, float hi, const float *in, float *out, int64_t n))                                        \
    X(exp_f32, (const float *in, float *out, int64_t n))                                                              \
    X(sigmoid_f32, (const float *in, float *out, int64_t n))                                                          \
    X(tanh_f32, (const float *in, float *out, int64_t n))                                                             \
    X(affine_f32, (float scale, float shift, const float *in, float *out, int64_t n))                                 \
    X(erf_f32, (const float *in, float *out, int64_t n))                                                              \
    X(gelu_f32, (const float *in, float *out, int64_t n))                                                             \
    X(gelu_tanh_f32, (const float *in, float *out, int64_t n))                                                        \
    X(softmax_f32, (float scale, const float *in, float *out, int64_t n))                                             \
    X(layernorm_f32, (const espl__layernorm *p, const float *in, float *out, int64_t n))                              \
    X(pack_u8, (const uint8_t *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t columns, int8_t *packed,    \
                int32_t *sums))                                                                                       \
    X(row_sums_u8, (const uint8_t *in, ptrdiff_t step, int64_t rows, int64_t k, int32_t *sums))                       \
    X(pack_f32, (const float *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t columns, float *packed)) \
    X(transpose_8, (const void *in, ptrdiff_t in_step, void *out, ptrdiff_t out_step, int rows, int columns)) \
    X(transpose_32, (const void *in, ptrdiff_t in_step, void *out, ptrdiff_t out_step, int rows, int columns)) \
    X(winograd_in_u8, (const espl__winograd *p, const uint8_t *in, int16_t *v, int rows))                              \
    X(winograd_out_u8, (const espl__winograd *p, const int32_t *m, uint8_t *out, const uint8_t *res, int rows))       \
    X(conv_s16, (const espl__conv *p, const int16_t *in, int32_t *out, int pixels, int block0, int block1))           \
    X(csr_conv_u8, (const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels, int block0, \
                    int block1))                                                                                      \
    X(csr_conv_u8_f32, (const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0, int block1))

typedef struct espl__kernels {
#define X(name, args) void(*name) args;
    ESPL__KERNEL_LIST(X)
#undef X
    /* Weights in the order that this set's conv_u8 and conv_u8_f32 like best; NULL: they read the packed ones
     * only. Made of the packed ones and of segments, seg_k and seg_off. prepare_room: bytes that a block
     * needs while it is prepared, 0 if it cannot be. prepare: writes a block (aligned to 4 bytes) and gives
     * the bytes that count. */
    size_t (*prepare_room)(const espl__conv *p);
    size_t (*prepare)(const espl__conv *p, int block, void *to);
    int s16_rate; /* products of conv_s16 in the time of 100 of conv_u8; 0: 3x3 convolutions of codes never go by them */
    bool sums; /* this set's gemv_u8 and gemv_u8_f32 are faster with espl__conv.sums */
    bool csr_codes; /* this set's csr_conv_u8 and csr_conv_u8_f32 are faster than conv_* with enough zeros */
} espl__kernels;

/* The set for the CPU level in use, and the set of any level the machine has (for checkkern). */
const espl__kernels *espl__kernels_get(void);
const espl__kernels *espl__kernels_at(espl__cpu level);
/* What one instruction set defines, without inheritance; NULL entries are inherited. */
const espl__kernels *espl__kernels_own(espl__cpu level);
/* Whose code a set's kernel of this name is; ESPL__CPU_COUNT if there is no such kernel. */
espl__cpu espl__kernels_origin(espl__cpu level, const char *name);

/* --- packing, shared by all sets -------------------------------------------------------------- */

/* Packed weights: [blocks][segments][ceil(k / 4)][16][4] s8 or [blocks][segments][k][16] f32 with k elements a segment;
 * what a last block or word has too many is 0. Behind those of s8 are ESPL__PACK_SLACK bytes that kernels may read but
 * not use. */
enum { ESPL__PACK_SLACK = 1024 };
size_t espl__pack_s8_bytes(int64_t channels, int64_t segments, int64_t k);
size_t espl__pack_f32_bytes(int64_t channels, int64_t segments, int64_t k);
/* From w: [channels][segments][k]. */
void espl__pack_s8(const int8_t *w, int64_t channels, int64_t segments, int64_t k, int8_t *packed);
void espl__pack_f32(const float *w, int64_t channels, int64_t segments, int64_t k, float *packed);

/* Where the weights stand in a tensor of another order: the k elements of a segment are `taps` runs of `stored` inputs
 * (a multiple of 4 for s8 with several taps), of which the first `real` are there and the others 0. Strides in elements,
 * from one channel, segment, tap, input to the next. */
typedef struct espl__weight_order {
    int64_t channels, segments, taps, stored, real;
    int64_t by_channel, by_segment, by_tap, by_input;
} espl__weight_order;
/* A part of them: blocks of 16 channels, and inputs of every run; input0 is a multiple of 4, input1 too or `stored`. */
typedef struct espl__weight_part {
    int64_t block0, block1, input0, input1;
} espl__weight_part;
espl__weight_order espl__weight_rows(int64_t channels, int64_t segments, int64_t k);
espl__weight_part espl__weight_all(const espl__weight_order *order);
/* w and packed are those of the whole. `flip` is xored to every code: 0x80 makes s8 of u8 codes with zero point 128. */
void espl__pack_s8_part(const espl__weight_order *order, const void *w, uint8_t flip, const espl__weight_part *part,
                        int8_t *packed);
void espl__pack_f32_part(const espl__weight_order *order, const float *w, const espl__weight_part *part, float *packed);
/* espl__conv.sums of `blocks` packed blocks of a matrix of k groups (seg_k). */
void espl__gemv_sums(const void *packed, int64_t blocks, int64_t k, int32_t *sums);
/* A matrix (one segment, one tap) of numbers of 16 bits for gemv_f32, [blocks][k][16]. */
void espl__pack_16(const espl__weight_order *order, const uint16_t *w, uint16_t *packed);
/* What compressed sparse rows are made of: f32, or codes that become s8 as for espl__pack_s8_part. */
typedef struct espl__csr_source {
    const espl__weight_order *order;
    const void *w;
    bool codes;
    uint8_t flip;
} espl__csr_source;
/* Compressed sparse rows that are to be counted and filled: pieces, and no rows yet. */
espl__csr espl__csr_of(const espl__csr_source *source);
/* How many numbers `start` has for so many blocks. */
int64_t espl__csr_starts(const espl__csr *m, int64_t blocks);
/* Of blocks [block0, block1), which come in order: count sets what follows start[0] (0 to begin with), fill writes their
 * weights that are not 0 and where they stand, by m->start. False: more than INT32_MAX weights. */
bool espl__csr_count(const espl__csr_source *source, const espl__csr *m, int64_t block0, int64_t block1, int32_t *start);
void espl__csr_fill(const espl__csr_source *source, const espl__csr *m, int64_t block0, int64_t block1, espl__csr_entry *entries);
/* Of p->scratch: the same for every set. */
size_t espl__csr_scratch_bytes(const espl__conv *p);
/* Adds each channel's codes of the part to sums[channel]. */
void espl__weight_sums(const espl__weight_order *order, const void *w, uint8_t flip, const espl__weight_part *part,
                       int32_t *sums);

/* --- banks, see espl__bank ---------------------------------------------------------------------- */

enum { ESPL__BANK = 16, ESPL__BANK_WIDE = 32 };              /* sizes of windows; s8: the first only */
enum { ESPL__BANK_SLOTS_S8 = 8, ESPL__BANK_SLOTS_F32 = 16 }; /* the most that the kernels take */

/* The slots that the weights need: the most that are not 0 of a row in a window, at least 1. 0: more than `limit`, or a
 * tap has fewer stored inputs than a window. */
int32_t espl__bank_slots_s8(const espl__weight_order *order, const void *w, uint8_t flip, int32_t limit);
int32_t espl__bank_slots_f32(const espl__weight_order *order, const float *w, int32_t size, int32_t limit);
/* Everything but `off`. A block of 16 channels takes `block` bytes. */
espl__bank espl__bank_s8(const espl__weight_order *order, int32_t slots);
espl__bank espl__bank_f32(const espl__weight_order *order, int32_t size, int32_t slots, int32_t values);
/* The windows of a convolution whose segments begin at seg_off, which may be NULL if all do at 0. */
void espl__bank_offsets(const espl__weight_order *order, const espl__bank *bank, const int32_t *seg_off, int32_t *off);
/* w and packed are those of the whole. f16 and bf16 are rounded to nearest even. */
void espl__pack_bank_s8(const espl__weight_order *order, const void *w, uint8_t flip, const espl__bank *bank,
                        int64_t block0, int64_t block1, void *packed);
void espl__pack_bank_f32(const espl__weight_order *order, const float *w, const espl__bank *bank, int64_t block0,
                         int64_t block1, void *packed);

/* --- weights of few bits, see espl__wonly ----------------------------------------------------------- */

/* Where the scales stand: that of channel c and group g at scale[c * by_channel + g * by_group]. */
typedef struct espl__scales {
    const float *scale;
    int64_t by_channel, by_group;
} espl__scales;
/* Weights of `bits` bits, k inputs a channel in groups of `group` inputs, a multiple of ESPL__UNIT or at least k. Scales are
 * kept as f16 if they all are exactly that. */
espl__wonly espl__wonly_of(int64_t channels, int64_t k, int64_t group, int bits, int planes, const espl__scales *scales);
/* Blocks [block0, block1) of a matrix of s8 codes, one segment and one tap; `flip` as in espl__pack_s8_part. `packed` is
 * that of the whole. */
void espl__wonly_pack(const espl__weight_order *order, const void *codes, uint8_t flip, const espl__scales *scales,
                      const espl__wonly *k, int64_t block0, int64_t block1, void *packed);

/* The set in use with kernels that heed `narrow` in place of conv_u8, conv_u8_f32, gemv_u8, gemv_u8_f32 and dwconv_u8;
 * they take weights as they are packed, not prepared and not in banks. */
espl__kernels espl__kernels_narrow(void);

#endif
