/* Which form a quantized value gets: the lowest operator set that holds its numbers exactly.
 *
 *   13   DequantizeLinear of s8, u8, s32; Cast of f16 and bf16
 *   19   DequantizeLinear of 8-bit floats
 *   21   DequantizeLinear of s4, s16, and in blocks
 *
 * Codes that are not the numbers but stand for few powers of two (log3 to log5) are integers times a smaller
 * scale. What has an offset, or is wider than that, is written as the numbers in f32.
 *
 * Flavour ort-x86 follows what ONNX Runtime makes of a file on x86 (docs/results.md has the times):
 * - layers with rounded inputs become integer kernels if weights are s8, not if they are s4;
 * - a MatMul by a constant DequantizeLinear becomes MatMulNBits; behind any other operator DequantizeLinear
 * is computed in every run, where Cast and Mul are folded once.
 *
 * Both flavours write 8-bit floats around a layer as Cast and Mul: of QuantizeLinear and DequantizeLinear
 * ONNX Runtime 1.30 makes integer kernels that cannot take them, or drops a Relu before them. */
#include "onnx/form.h"

enum { OPSET_CAST = 13, OPSET_LINEAR = 13, OPSET_FP8 = 19, OPSET_NARROW = 21 };
/* How a constant is read. */
enum { READ_ROUNDED = 1 /* beside an input that is rounded */, READ_BY_MATMUL = 2, READ_OTHERWISE = 4 };

int espl__form_log2_steps(espl_format f) {
    return (1 << (espl_format_bits(f) - 1)) - 1;
}

/* The type whose elements are the format's numbers, up to a factor; F32: none. */
static espl_dtype linear_type(espl_format f) {
    const int bits = espl_format_bits(f);
    switch (espl_format_kind_of(f)) {
        case ESPL_FORMAT_KIND_FP8:
            return f == ESPL_FORMAT_E4M3 ? ESPL_E4M3 : ESPL_E5M2;
        case ESPL_FORMAT_KIND_INTEGER:
            if (bits == 32) return ESPL_S32;
            if (bits == 16) return ESPL_S16;
            return !espl_format_is_signed(f) ? ESPL_U8 : bits <= 4 ? ESPL_S4 : ESPL_S8;
        case ESPL_FORMAT_KIND_LOG2:
            if (!espl_format_is_signed(f) || espl__form_log2_steps(f) > 15) return ESPL_F32;
            return espl__form_log2_steps(f) <= 3   ? ESPL_S4
                   : espl__form_log2_steps(f) <= 7 ? ESPL_S8
                                                   : ESPL_S16;
        case ESPL_FORMAT_KIND_TERNARY:
        case ESPL_FORMAT_KIND_BINARY:
            return espl_format_is_signed(f) ? ESPL_S4 : ESPL_F32;
        default:
            return ESPL_F32;
    }
}

static int opset_of(espl_dtype type, bool blocks) {
    if (type == ESPL_S4 || type == ESPL_S16 || blocks) return OPSET_NARROW;
    return type == ESPL_E4M3 || type == ESPL_E5M2 ? OPSET_FP8 : OPSET_LINEAR;
}

static bool has_zeros(const espl__quant *q) {
    for (int64_t i = 0; q->zero && i < q->count; i++)
        if (q->zero[i] != 0) return true;
    return false;
}

static bool is_small_float(espl_dtype type) {
    return type == ESPL_E4M3 || type == ESPL_E5M2;
}

static espl__form form_of_constant(const espl__value *v, espl_flavour flavour, int read, int newest) {
    const espl__quant *q = &v->quant;
    const espl__form plain = {.kind = ESPL__FORM_PLAIN, .type = ESPL_F32};
    if (q->format == ESPL_FORMAT_F16 || q->format == ESPL_FORMAT_BF16)
        return (espl__form){.kind = ESPL__FORM_CAST, .type = v->constant->dtype, .opset = OPSET_CAST};
    espl__form f = {.kind = ESPL__FORM_LINEAR, .type = linear_type(q->format)};
    if (f.type == ESPL_F32 || q->offset || (q->group > 0 && newest < OPSET_NARROW)) return plain;
    for (int64_t i = 0; i < q->count && espl_format_kind_of(q->format) == ESPL_FORMAT_KIND_LOG2; i++)
        if (q->scale[i] < 1e-30f) return plain; /* divided further it would not be exact */
    const bool fuses = flavour == ESPL_FLAVOUR_ORT_X86 && (read & READ_ROUNDED) && q->group == 0;
    if (f.type == ESPL_S4 && (fuses || newest < OPSET_NARROW)) f.type = ESPL_S8;
    f.opset = opset_of(f.type, q->group > 0);
    if (f.opset > newest) return plain;
    const bool small = is_small_float(f.type), rounded = (read & READ_ROUNDED) != 0;
    const bool folds = (read & READ_OTHERWISE) || small || f.type == ESPL_S16;
    bool scaled = small && rounded;
    if (flavour == ESPL_FLAVOUR_ORT_X86 && f.type != ESPL_S32) scaled |= folds && (small || !rounded);
    if (scaled && q->group == 0 && !has_zeros(q)) f.kind = ESPL__FORM_SCALED;
    return f;
}

static espl__form form_of_value(const espl__value *v, int newest) {
    const espl_format format = v->quant.format;
    const espl__form plain = {.kind = ESPL__FORM_PLAIN, .type = ESPL_F32};
    espl__form f = {.kind = ESPL__FORM_LINEAR};
    if (format == ESPL_FORMAT_F16 || format == ESPL_FORMAT_BF16)
        return (espl__form){ESPL__FORM_CAST, espl__format_dtype(format), format == ESPL_FORMAT_F16,
                            OPSET_CAST};
    switch (espl_format_kind_of(format)) {
        case ESPL_FORMAT_KIND_FP8:
            f.type = linear_type(format);
            f.kind = ESPL__FORM_SCALED;
            break;
        case ESPL_FORMAT_KIND_INTEGER:
            f.type = espl_format_bits(format) == 16  ? ESPL_S16
                     : espl_format_is_signed(format) ? ESPL_S8
                                                     : ESPL_U8;
            f.clip = espl_format_bits(format) < 8;
            break;
        default:
            return plain;
    }
    f.opset = opset_of(f.type, false);
    return f.opset > newest ? plain : f;
}

/* How each constant is read. */
static void find_readers(const espl_graph *g, uint8_t *read) {
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        const bool recurrent = espl__node_is(n, "LSTM") || espl__node_is(n, "GRU") || espl__node_is(n, "RNN");
        bool rounded = false; /* recurrent layers have no integer kernels there */
        for (int j = 0; j < n->input_count && !recurrent; j++)
            rounded |= espl__is_quantized(n->inputs[j]) && !n->inputs[j]->constant;
        for (int j = 0; j < n->input_count; j++)
            if (n->inputs[j] && n->inputs[j]->constant)
                read[n->inputs[j]->id] |= rounded                                ? READ_ROUNDED
                                          : espl__node_is(n, "MatMul") && j == 1 ? READ_BY_MATMUL
                                                                                 : READ_OTHERWISE;
    }
}

espl__form *espl__onnx_forms(espl__arena *arena, const espl_graph *g, espl_flavour flavour, int newest) {
    espl__form *forms = espl__arena_alloc(arena, sizeof *forms * ((uint64_t)g->value_count + 1));
    uint8_t *read = espl__arena_alloc(arena, (uint64_t)g->value_count + 1);
    if (!forms || !read) return NULL;
    find_readers(g, read);
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        if (!espl__is_quantized(v)) continue;
        forms[i] = v->constant ? form_of_constant(v, flavour, read[i], newest) : form_of_value(v, newest);
    }
    return forms;
}
