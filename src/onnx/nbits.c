/* MatMulNBits of ONNX Runtime's own operators: Y = A B^T (+ bias), where B [N][K] has 4 (or 2, or 8) bits and
 * a scale for each `block_size` of a row's elements. It is read as MatMul by a constant of grouped codes:
 *
 *   B        u8 [N][blocks][block_size * bits / 8], the lower bits first
 *   scales   [N][blocks]
 *   zeros    u8, packed like B, each row in whole bytes; without them 2^(bits - 1)
 *
 * An unsigned code c less 2^(bits - 1) is a signed one; its zero point z likewise. A grid of ours has no
 * scales of 0 or below: s (c - z) = |s| (~c - ~z),  and where s = 0 the codes are z and the scale is 1. */
#include "onnx/onnx_impl.h"

#include <inttypes.h>
#include <math.h>

enum { A, B, SCALES, ZEROS, ORDER, BIAS, INPUTS };

typedef struct nbits {
    int64_t k, n, bits, block, blocks;
    const espl_tensor *codes, *scale, *zero;
} nbits;

static int64_t attr(const pb_node *from, const char *name, int64_t fallback) {
    for (size_t i = 0; i < from->n_attribute; i++)
        if (from->attribute[i]->name && strcmp(from->attribute[i]->name, name) == 0 &&
            from->attribute[i]->has_i)
            return from->attribute[i]->i;
    return fallback;
}

static espl_status refuse(espl_diag *diag, const char *what) {
    return espl__fail(diag, ESPL_UNSUPPORTED, "%s", what);
}

/* A constant of that type and so many elements. */
static espl_status constant(espl__value *const *inputs, int index, const char *what, espl_dtype type,
                            int64_t count, const espl_tensor **out, espl_diag *diag) {
    const espl__value *v = inputs[index];
    if (!v || !v->constant) return espl__fail(diag, ESPL_UNSUPPORTED, "its %s are not constant", what);
    if (v->constant->dtype != type)
        return espl__fail(diag, ESPL_UNSUPPORTED, "its %s are %s, only %s is supported", what,
                          espl_dtype_name(v->constant->dtype), espl_dtype_name(type));
    if (espl_shape_count(&v->constant->shape) != count)
        return espl__fail(diag, ESPL_SHAPE,
                          "has %" PRId64 " %s where K, N, bits and block_size make %" PRId64,
                          espl_shape_count(&v->constant->shape), what, count);
    *out = v->constant;
    return ESPL_OK;
}

static int64_t bytes_of(int64_t codes, int64_t bits) {
    return (codes * bits + 7) / 8;
}

static espl_status read_parts(const pb_node *from, espl__value *const *inputs, nbits *m, espl_diag *diag) {
    espl_status status = ESPL_OK;
    *m = (nbits){attr(from, "K", 0),
                 attr(from, "N", 0),
                 attr(from, "bits", 4),
                 attr(from, "block_size", 0),
                 0,
                 NULL,
                 NULL,
                 NULL};
    if (m->bits != 2 && m->bits != 4 && m->bits != 8)
        return refuse(diag, "bits other than 2, 4 and 8 are not supported");
    if (m->k < 1 || m->n < 1 || m->k > INT32_MAX || m->n > INT32_MAX || m->block < 16 || m->block > 1 << 16 ||
        (m->block & (m->block - 1)) != 0)
        return espl__fail(diag, ESPL_FORMAT, "its K, N or block_size cannot be");
    if (!inputs[A]) return espl__fail(diag, ESPL_FORMAT, "has no input A");
    if (inputs[ORDER]) return refuse(diag, "groups in another order (g_idx) are not supported");
    m->blocks = (m->k - 1) / m->block + 1;
    ESPL_TRY(constant(inputs, B, "weights", ESPL_U8, m->n * m->blocks * (m->block * m->bits / 8), &m->codes,
                      diag));
    ESPL_TRY(constant(inputs, SCALES, "scales", ESPL_F32, m->n * m->blocks, &m->scale, diag));
    if (inputs[ZEROS])
        ESPL_TRY(constant(inputs, ZEROS, "zero points", ESPL_U8, m->n * bytes_of(m->blocks, m->bits),
                          &m->zero, diag));
    for (int64_t i = 0; i < m->n * m->blocks; i++) {
        float s = ((const float *)m->scale->data)[i];
        if (!isfinite(s)) return espl__fail(diag, ESPL_FORMAT, "its scale %" PRId64 " is not finite", i);
    }
done:
    return status;
}

/* The index-th code of packed ones, as a signed one. */
static int code_at(const uint8_t *bytes, int64_t index, int64_t bits) {
    int64_t at = index * bits;
    return (bytes[at / 8] >> (at % 8) & ((1 << bits) - 1)) - (1 << (bits - 1));
}

/* One block of a row: codes, scale and zero point. */
static void read_block(const nbits *m, int64_t row, int64_t block, int8_t *codes, float *scale,
                       int32_t *zero) {
    const uint8_t *packed =
        (const uint8_t *)m->codes->data + (row * m->blocks + block) * (m->block * m->bits / 8);
    const int64_t from = block * m->block, to = ESPL_MIN(from + m->block, m->k);
    const float s = ((const float *)m->scale->data)[row * m->blocks + block];
    int z = 0;
    if (m->zero)
        z = code_at((const uint8_t *)m->zero->data + row * bytes_of(m->blocks, m->bits), block, m->bits);
    for (int64_t k = from; k < to; k++) {
        int c = code_at(packed, k - from, m->bits);
        codes[k * m->n + row] = (int8_t)(s > 0 ? c : s < 0 ? ~c : z);
    }
    *scale = s != 0 ? fabsf(s) : 1;
    *zero = s < 0 ? ~z : z;
}

/* B^T [K][N]. */
static espl__value *weights(espl_graph *g, const nbits *m) {
    const espl_shape shape = {.rank = 2, .dim = {m->k, m->n}};
    const espl_format format = m->bits == 2 ? ESPL_FORMAT_S2 : m->bits == 4 ? ESPL_FORMAT_S4 : ESPL_FORMAT_S8;
    const int64_t count = m->n * m->blocks;
    bool zeros = false;
    espl_tensor *t = espl__graph_tensor(g, ESPL_S8, &shape, NULL);
    float *scale = espl__arena_alloc(&g->arena, sizeof *scale * (uint64_t)count);
    int32_t *zero = espl__arena_alloc(&g->arena, sizeof *zero * (uint64_t)count);
    espl__value *v = espl__graph_value(g, NULL);
    if (!t || !scale || !zero || !v) return NULL;
    for (int64_t i = 0; i < count; i++) {
        read_block(m, i / m->blocks, i % m->blocks, t->data, &scale[i], &zero[i]);
        zeros |= zero[i] != 0;
    }
    v->constant = t;
    v->dtype = ESPL_F32;
    v->shape = shape;
    v->known_rank = true;
    v->quant = (espl__quant){format, 1, count, scale, zeros ? zero : NULL, NULL, m->block, 0};
    return v;
}

static espl__node *node(espl_graph *g, const char *op, const char *name, espl__value *a, espl__value *b,
                        espl__value *y) {
    espl__node *n = espl__graph_node(g, espl__op_find("", op), name, 2, 1, 0);
    if (!n) return NULL;
    n->opset = g->opset;
    n->inputs[0] = a;
    n->inputs[1] = b;
    espl__node_set_output(n, 0, y);
    return n;
}

bool espl__onnx_is_nbits(const char *domain, const char *op) {
    return strcmp(domain, "com.microsoft") == 0 && strcmp(op, "MatMulNBits") == 0;
}

espl_status espl__onnx_nbits(espl_graph *g, const pb_node *from, espl__value *const *given, int count,
                             espl__value *y, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__value *inputs[INPUTS] = {NULL};
    nbits m;
    if (count > INPUTS || !y) return espl__fail(diag, ESPL_FORMAT, "has %d inputs or no output", count);
    for (int i = 0; i < count; i++) inputs[i] = given[i];
    ESPL_TRY(read_parts(from, inputs, &m, diag));
    espl__value *w = weights(g, &m), *product = inputs[BIAS] ? espl__graph_value(g, NULL) : y;
    const char *name = from->name ? from->name : "";
    if (!w || !product || !node(g, "MatMul", name, inputs[A], w, product)) return espl__nomem(diag, 0);
    if (inputs[BIAS] && !node(g, "Add", "", product, inputs[BIAS], y)) return espl__nomem(diag, 0);
done:
    return status;
}
