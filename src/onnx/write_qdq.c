/* Quantizations as QuantizeLinear and DequantizeLinear.
 *
 *   activation:  producer -> x -> QuantizeLinear -> DequantizeLinear -> readers
 *   graph output: the DequantizeLinear takes the output's name, the producer writes NAME_float
 *   constant:    integer initializer -> DequantizeLinear -> readers
 *   f16, bf16:   initializer of that type -> Cast -> readers
 *
 * One pair serves all readers; ONNX Runtime gives each its own DequantizeLinear where its fusions want that. On x86 it
 * turns s8 into u8 first, and only where one DequantizeLinear follows: so in flavour portable a value that no integer
 * kernel stores anyway (it comes from a Relu, say) gets a pair for each reader. The pairs differ in `axis`, which means
 * nothing beside a single scale, because ONNX Runtime merges nodes that are the same. */
#include "onnx/writer.h"

static espl_status check_quant(espl__writer *w, const espl__value *v) {
    const espl__quant *q = &v->quant;
    /* As the standard has it: formats below 8 bits are held in 8. */
    espl_dtype type = espl__format_dtype(q->format);
    const char *why = NULL;
    if (!v->constant && (type == ESPL_S32 || espl_dtype_is_float(type) || espl_format_bits(q->format) < 8))
        why = "is no type of QuantizeLinear";
    else if (v->constant && v->constant->dtype != type)
        why = "does not fit the type of its codes";
    else if (q->axis < 0 && q->count != 1)
        why = "has several scales but no axis";
    else if (q->axis >= 0 && v->known_rank &&
             (q->axis >= v->shape.rank || (v->constant && v->shape.dim[q->axis] != q->count)))
        why = "does not have one scale for each index of its axis";
    for (int64_t i = 0; q->zero && i < q->count && !why; i++) {
        int32_t z = q->zero[i];
        if ((type == ESPL_U8 && (z < 0 || z > 255)) || (type == ESPL_S8 && (z < -128 || z > 127)) ||
            (type == ESPL_S32 && z != 0))
            why = "has a zero point outside its type";
    }
    if (!why && !v->constant && v->is_input && w->is_output[v->id])
        why = "stands on a graph input that is a graph output too, which one name cannot say";
    if (why)
        return espl__fail(w->diag, ESPL_UNSUPPORTED, "value '%.200s': its quantization (%s) %s", w->name[v->id],
                          espl_format_name(q->format), why);
    return ESPL_OK;
}

espl_status espl__writer_name_quantized(espl__writer *w, const espl__value *v) {
    if (!espl__is_quantized(v) || w->uses[v->id] == 0) return ESPL_OK;
    espl_status status = check_quant(w, v);
    if (status != ESPL_OK) return status;
    const char *name = w->name[v->id];
    if (v->constant) return ESPL_OK; /* the DequantizeLinear gives the constant's name */
    if (w->is_output[v->id])
        w->name[v->id] = espl__writer_name(w, &w->value_names, name, "_float");
    else
        w->read[v->id] = espl__writer_name(w, &w->value_names, name, "_dequantized");
    return w->name[v->id] && w->read[v->id] ? ESPL_OK : espl__nomem(w->diag, 0);
}

/* Scale and zero point, which Quantize- and DequantizeLinear share. */
typedef struct grid {
    espl_dtype type;
    const char *scale, *zero;
} grid;

static const void *zero_points(espl__writer *w, const espl__quant *q, espl_dtype type) {
    size_t size = espl_dtype_bytes(type);
    char *data = espl__arena_alloc(&w->arena, (uint64_t)q->count * size);
    /* Little-endian two's complement: the low bytes are the number, as check_quant has seen. */
    for (int64_t i = 0; data && q->zero && i < q->count; i++) memcpy(data + (size_t)i * size, &q->zero[i], size);
    return data;
}

static espl_status write_grid(espl__writer *w, const espl__value *v, const char *base, grid *g) {
    const espl__quant *q = &v->quant;
    espl_shape shape = {.rank = q->axis >= 0 ? 1 : 0, .dim = {q->count}};
    g->type = espl__format_dtype(q->format);
    const void *zero = zero_points(w, q, g->type);
    g->scale = espl__writer_name(w, &w->value_names, base, "_scale");
    g->zero = espl__writer_name(w, &w->value_names, base, "_zero_point");
    if (!zero || !g->scale || !g->zero ||
        !espl__writer_initializer(w, g->scale, ESPL_F32, &shape, q->scale) ||
        !espl__writer_initializer(w, g->zero, g->type, &shape, zero))
        return espl__nomem(w->diag, 0);
    return ESPL_OK;
}

enum { DEFAULT_AXIS = 1 };

/* QuantizeLinear or DequantizeLinear; axis -1: none is written. */
static espl_status write_linear(espl__writer *w, const char *op, const char *base, const char *suffix, int axis,
                                const grid *g, const char *in, const char *out) {
    const char *name = espl__writer_name(w, &w->node_names, base, suffix);
    pb_node *n = name ? espl__writer_node(w, op, name, 3, 1, axis >= 0 ? 1 : 0) : NULL;
    if (!n || (axis >= 0 && !espl__writer_attr_int(w, n, 0, "axis", axis))) return espl__nomem(w->diag, 0);
    n->input[0] = (char *)in;
    n->input[1] = (char *)g->scale;
    n->input[2] = (char *)g->zero;
    n->output[0] = (char *)out;
    return ESPL_OK;
}

/* Nothing has integer kernels for these that round as they store. */
static bool stored_in_float(const espl__node *n) {
    static const char *const names[] = {
        "Relu", "Clip", "Pad", "Max", "Min", "BatchNormalization", "LayerNormalization",
    };
    for (size_t i = 0; n && i < ESPL_COUNT(names); i++)
        if (espl__node_is(n, names[i])) return true;
    return !n; /* a graph input */
}

/* How many pairs the value gets: as many as readers, while there are axes to tell them apart. */
static int pair_count(const espl__writer *w, const espl__value *v) {
    if (w->flavour != ESPL_FLAVOUR_PORTABLE || !stored_in_float(v->producer)) return 1;
    if (w->is_output[v->id] || !v->known_rank) return 1;
    return ESPL_MAX(1, ESPL_MIN(w->uses[v->id], v->shape.rank));
}

/* The pairs after the first. */
static espl_status write_forks(espl__writer *w, const espl__value *v, const char *base, const grid *g) {
    espl_status status = ESPL_OK;
    int pairs = pair_count(w, v);
    if (pairs == 1) return ESPL_OK;
    const char **read = espl__arena_alloc(&w->arena, sizeof *read * (uint64_t)w->uses[v->id]);
    if (!read) return espl__nomem(w->diag, 0);
    for (int k = 0; k < w->uses[v->id]; k++) {
        read[k] = k < pairs ? w->read[v->id] : read[pairs - 1];
        if (k == 0 || k >= pairs) continue;
        const char *codes = espl__writer_name(w, &w->value_names, base, "_quantized");
        read[k] = espl__writer_name(w, &w->value_names, base, "_dequantized");
        if (!codes || !read[k]) return espl__nomem(w->diag, 0);
        int axis = k <= DEFAULT_AXIS ? k - 1 : k;
        ESPL_TRY(write_linear(w, "QuantizeLinear", base, "_QuantizeLinear", axis, g, w->name[v->id], codes));
        ESPL_TRY(write_linear(w, "DequantizeLinear", base, "_DequantizeLinear", axis, g, codes, read[k]));
    }
    w->forks[v->id] = read;
done:
    return status;
}

const char *espl__writer_read(espl__writer *w, const espl__value *v) {
    const char **forks = w->forks[v->id];
    return forks ? forks[w->readers[v->id]++] : w->read[v->id];
}

espl_status espl__writer_round(espl__writer *w, const espl__value *v) {
    espl_status status = ESPL_OK;
    grid g;
    if (!espl__is_quantized(v) || w->uses[v->id] == 0) return ESPL_OK;
    const char *base = w->is_output[v->id] ? w->read[v->id] : w->name[v->id];
    const char *codes = espl__writer_name(w, &w->value_names, base, "_quantized");
    if (!codes) return espl__nomem(w->diag, 0);
    ESPL_TRY(write_grid(w, v, base, &g));
    ESPL_TRY(write_linear(w, "QuantizeLinear", base, "_QuantizeLinear", v->quant.axis, &g, w->name[v->id], codes));
    ESPL_TRY(write_linear(w, "DequantizeLinear", base, "_DequantizeLinear", v->quant.axis, &g, codes, w->read[v->id]));
    ESPL_TRY(write_forks(w, v, base, &g));
    if (g.type != ESPL_S8 || (v->quant.zero && v->quant.zero[0] != 0)) w->asymmetric_activations++;
done:
    return status;
}

/* From 16 bits to f32. */
static espl_status write_cast(espl__writer *w, const char *codes, const char *out) {
    const char *name = espl__writer_name(w, &w->node_names, out, "_Cast");
    pb_node *n = name ? espl__writer_node(w, "Cast", name, 1, 1, 1) : NULL;
    if (!n || !espl__writer_attr_int(w, n, 0, "to", espl__dtype_onnx(ESPL_F32))) return espl__nomem(w->diag, 0);
    n->input[0] = (char *)codes;
    n->output[0] = (char *)out;
    return ESPL_OK;
}

espl_status espl__writer_constant(espl__writer *w, const espl__value *v) {
    espl_status status = ESPL_OK;
    grid g;
    if (w->constant_done[v->id]) return ESPL_OK;
    w->constant_done[v->id] = true;
    const char *name = w->name[v->id], *codes = name;
    bool quantized = espl__is_quantized(v), cast = quantized && espl__format_is_float(v->quant.format);
    if (quantized) codes = espl__writer_name(w, &w->value_names, name, cast ? "_rounded" : "_quantized");
    if (!codes || !espl__writer_initializer(w, codes, v->constant->dtype, &v->constant->shape, v->constant->data))
        return espl__nomem(w->diag, 0);
    if (cast) return write_cast(w, codes, name);
    if (!quantized) return ESPL_OK;
    ESPL_TRY(write_grid(w, v, name, &g));
    ESPL_TRY(write_linear(w, "DequantizeLinear", name, "_DequantizeLinear", v->quant.axis, &g, codes, name));
    if (espl_format_bits(v->quant.format) < 8) w->narrow_constants++;
done:
    return status;
}
