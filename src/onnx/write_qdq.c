/* Quantizations as ONNX has them; form.c says which of these a value gets.
 *
 *   activation:  producer -> x -> QuantizeLinear -> DequantizeLinear -> readers; codes of fewer than 8 bits behind a Clip
 *   8-bit float: x -> Div by the scale -> Cast -> Cast to f32 -> Mul by the scale
 *   f16, bf16:   x -> Cast -> Cast to f32
 *   graph output: the last of them takes the output's name, the producer writes NAME_float
 *   constant:    initializer of codes -> DequantizeLinear, or Cast (and Mul by the scale) -> readers
 *
 * One pair serves all readers; ONNX Runtime gives each its own DequantizeLinear where its fusions want that. On x86 it
 * turns s8 into u8 first, and only where one DequantizeLinear follows: so in flavour portable a value that no integer
 * kernel stores anyway (it comes from a Relu, say) gets a pair for each reader. The pairs differ in `axis`, which means
 * nothing beside a single scale, because ONNX Runtime merges nodes that are the same. */
#include "onnx/writer.h"

static bool zero_fits(int32_t z, espl_dtype type) {
    switch (type) {
        case ESPL_U8:
            return z >= 0 && z <= 255;
        case ESPL_S8:
            return z >= -128 && z <= 127;
        case ESPL_S4:
            return z >= -8 && z <= 7;
        case ESPL_S16:
            return z >= INT16_MIN && z <= INT16_MAX;
        default:
            return z == 0;
    }
}

static espl_status check_quant(espl__writer *w, const espl__value *v) {
    const espl__quant *q = &v->quant;
    const espl__form *form = &w->forms[v->id];
    const char *why = NULL;
    if (!v->constant && q->format == ESPL_FORMAT_S32)
        why = "is no type of QuantizeLinear";
    else if (v->constant && v->constant->dtype != espl__format_dtype(q->format))
        why = "does not fit the type of its codes";
    else if (q->axis < 0 && q->count != 1)
        why = "has several scales but no axis";
    else if (v->constant ? espl__quant_scales(q, &v->constant->shape) != q->count : q->axis >= 0 || q->count != 1)
        why = "does not have one scale for each index of its axis";
    for (int64_t i = 0; q->zero && i < q->count && !why; i++)
        if (form->kind == ESPL__FORM_LINEAR && !zero_fits(q->zero[i], form->type)) why = "has a zero point outside its type";
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
    if (w->forms[v->id].kind == ESPL__FORM_PLAIN) return ESPL_OK;
    if (w->is_output[v->id])
        w->name[v->id] = espl__writer_name(w, &w->value_names, name, "_float");
    else
        w->read[v->id] = espl__writer_name(w, &w->value_names, name, "_dequantized");
    return w->name[v->id] && w->read[v->id] ? ESPL_OK : espl__nomem(w->diag, 0);
}

/* --- nodes ---------------------------------------------------------------------------------------- */

/* A node between two names; its further inputs, up to two, may be NULL. */
static pb_node *put_node(espl__writer *w, const char *op, const char *base, int attrs, const char *in, const char *second,
                         const char *third, const char *out) {
    char suffix[40] = "_";
    strncat(suffix, op, sizeof suffix - 2);
    const char *name = out ? espl__writer_name(w, &w->node_names, base, suffix) : NULL;
    pb_node *n = name ? espl__writer_node(w, op, name, 1 + (second != NULL) + (third != NULL), 1, attrs) : NULL;
    if (!n) return NULL;
    n->input[0] = (char *)in;
    if (second) n->input[1] = (char *)second;
    if (third) n->input[2] = (char *)third;
    n->output[0] = (char *)out;
    return n;
}

/* A name for what a step in between gives. */
static const char *between(espl__writer *w, const char *base, const char *suffix) {
    return espl__writer_name(w, &w->value_names, base, suffix);
}

static bool put_cast(espl__writer *w, const char *base, espl_dtype to, const char *in, const char *out) {
    pb_node *n = in ? put_node(w, "Cast", base, 1, in, NULL, NULL, out) : NULL;
    return n && espl__writer_attr_int(w, n, 0, "to", espl__dtype_onnx(to));
}

static const char *put_number(espl__writer *w, const char *base, const char *suffix, float x) {
    static const espl_shape scalar = {.rank = 0};
    const char *name = between(w, base, suffix);
    float *data = espl__arena_alloc(&w->arena, sizeof *data);
    if (!name || !data) return NULL;
    *data = x;
    return espl__writer_initializer(w, name, ESPL_F32, &scalar, data) ? name : NULL;
}

/* The name of x bounded to the numbers of the format: its codes', or those that f16 has. */
static const char *put_clip(espl__writer *w, const espl__value *v, const char *base) {
    const espl__quant *q = &v->quant;
    float lo = -65504, hi = 65504;
    if (!espl__format_is_float(q->format)) {
        const int32_t zero = q->zero ? q->zero[0] : 0;
        int32_t least, most;
        espl__format_range(q->format, &least, &most);
        lo = (float)(least - zero) * q->scale[0];
        hi = (float)(most - zero) * q->scale[0];
    }
    const char *min = put_number(w, base, "_min", lo), *max = put_number(w, base, "_max", hi);
    const char *out = between(w, base, "_clipped");
    return min && max && put_node(w, "Clip", base, 0, w->name[v->id], min, max, out) ? out : NULL;
}

/* QuantizeLinear or DequantizeLinear; axis -1: none is written. */
static espl_status write_linear(espl__writer *w, const char *op, const char *base, int axis, int64_t block,
                                const espl__scales *s, const char *in, const char *out) {
    pb_node *n = in && out ? put_node(w, op, base, (axis >= 0) + (block > 0), in, s->scale, s->zero, out) : NULL;
    if (!n || (axis >= 0 && !espl__writer_attr_int(w, n, 0, "axis", axis)) ||
        (block > 0 && !espl__writer_attr_int(w, n, 1, "block_size", block)))
        return espl__nomem(w->diag, 0);
    return ESPL_OK;
}

enum { DEFAULT_AXIS = 1 };

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
static espl_status write_forks(espl__writer *w, const espl__value *v, const char *base, const char *x,
                               const espl__scales *s) {
    espl_status status = ESPL_OK;
    int pairs = pair_count(w, v);
    if (pairs == 1) return ESPL_OK;
    const char **read = espl__arena_alloc(&w->arena, sizeof *read * (uint64_t)w->uses[v->id]);
    if (!read) return espl__nomem(w->diag, 0);
    for (int k = 0; k < w->uses[v->id]; k++) {
        read[k] = k < pairs ? w->read[v->id] : read[pairs - 1];
        if (k == 0 || k >= pairs) continue;
        const char *codes = between(w, base, "_quantized");
        read[k] = between(w, base, "_dequantized");
        int axis = k <= DEFAULT_AXIS ? k - 1 : k;
        ESPL_TRY(write_linear(w, "QuantizeLinear", base, axis, 0, s, x, codes));
        ESPL_TRY(write_linear(w, "DequantizeLinear", base, axis, 0, s, codes, read[k]));
    }
    w->forks[v->id] = read;
done:
    return status;
}

const char *espl__writer_read(espl__writer *w, const espl__value *v) {
    const char **forks = w->forks[v->id];
    return forks ? forks[w->readers[v->id]++] : w->read[v->id];
}

static espl_status round_linear(espl__writer *w, const espl__value *v, const char *base, const char *x) {
    espl_status status = ESPL_OK;
    espl__scales s = {.type = w->forms[v->id].type};
    const char *codes = between(w, base, "_quantized");
    ESPL_TRY(espl__writer_scales(w, v, base, &s, false));
    ESPL_TRY(write_linear(w, "QuantizeLinear", base, -1, 0, &s, x, codes));
    ESPL_TRY(write_linear(w, "DequantizeLinear", base, -1, 0, &s, codes, w->read[v->id]));
    ESPL_TRY(write_forks(w, v, base, x, &s));
    w->asymmetric_activations += s.type != ESPL_S8 || (v->quant.zero && v->quant.zero[0] != 0);
done:
    return status;
}

static espl_status round_cast(espl__writer *w, const espl__value *v, const char *base, const char *x) {
    const espl__form *form = &w->forms[v->id];
    const bool scaled = form->kind == ESPL__FORM_SCALED;
    const char *scale = scaled ? put_number(w, base, "_scale", v->quant.scale[0]) : NULL;
    const char *codes = between(w, base, "_rounded");
    if (scaled) {
        const char *divided = between(w, base, "_divided"), *whole = between(w, base, "_whole");
        if (!scale || !put_node(w, "Div", base, 0, x, scale, NULL, divided) ||
            !put_cast(w, base, form->type, divided, codes) || !put_cast(w, base, ESPL_F32, codes, whole) ||
            !put_node(w, "Mul", base, 0, whole, scale, NULL, w->read[v->id]))
            return espl__nomem(w->diag, 0);
    } else if (!put_cast(w, base, form->type, x, codes) || !put_cast(w, base, ESPL_F32, codes, w->read[v->id])) {
        return espl__nomem(w->diag, 0);
    }
    return ESPL_OK;
}

espl_status espl__writer_round(espl__writer *w, const espl__value *v) {
    if (!espl__is_quantized(v) || w->uses[v->id] == 0) return ESPL_OK;
    const espl__form *form = &w->forms[v->id];
    const char *base = w->is_output[v->id] ? w->read[v->id] : w->name[v->id], *x = w->name[v->id];
    if (form->kind == ESPL__FORM_PLAIN) {
        w->unrounded_activations++;
        return ESPL_OK;
    }
    if (form->clip && !(x = put_clip(w, v, base))) return espl__nomem(w->diag, 0);
    w->clipped_activations += form->clip && form->kind == ESPL__FORM_LINEAR;
    return form->kind == ESPL__FORM_LINEAR ? round_linear(w, v, base, x) : round_cast(w, v, base, x);
}

/* --- constants -------------------------------------------------------------------------------------- */

/* Codes -> Cast to f32 -> Mul by the scales. */
static espl_status scale_codes(espl__writer *w, const espl__value *v, const char *codes, const char *name) {
    espl__scales s = {.type = w->forms[v->id].type};
    espl_status status = espl__writer_scales(w, v, name, &s, true);
    const char *whole = between(w, name, "_whole");
    if (status != ESPL_OK) return status;
    if (!put_cast(w, name, ESPL_F32, codes, whole) || !put_node(w, "Mul", name, 0, whole, s.scale, NULL, name))
        return espl__nomem(w->diag, 0);
    return ESPL_OK;
}

static espl_status write_codes(espl__writer *w, const espl__value *v, const char *name) {
    espl_status status = ESPL_OK;
    const espl__form *form = &w->forms[v->id];
    const bool cast = form->kind == ESPL__FORM_CAST;
    const char *codes = between(w, name, cast ? "_rounded" : "_quantized");
    const void *data = espl__writer_codes(w, v, form->type);
    if (!codes || !data || !espl__writer_initializer(w, codes, form->type, &v->constant->shape, data))
        return espl__nomem(w->diag, 0);
    if (espl_format_bits(v->quant.format) < 8) w->narrow_constants++;
    if (cast) return put_cast(w, name, ESPL_F32, codes, name) ? ESPL_OK : espl__nomem(w->diag, 0);
    if (form->kind == ESPL__FORM_SCALED) return scale_codes(w, v, codes, name);
    espl__scales s = {.type = form->type};
    ESPL_TRY(espl__writer_scales(w, v, name, &s, false));
    const int64_t block = v->quant.group;
    ESPL_TRY(write_linear(w, "DequantizeLinear", name, block > 0 ? v->quant.group_axis : v->quant.axis, block, &s, codes,
                          name));
done:
    return status;
}

espl_status espl__writer_constant(espl__writer *w, const espl__value *v) {
    if (w->constant_done[v->id]) return ESPL_OK;
    w->constant_done[v->id] = true;
    const char *name = w->name[v->id];
    const bool quantized = espl__is_quantized(v), plain = quantized && w->forms[v->id].kind == ESPL__FORM_PLAIN;
    if (quantized && !plain) return write_codes(w, v, name);
    const void *data = plain ? (const void *)espl__writer_numbers(w, v) : espl__writer_elements(w, v->constant);
    w->plain_constants += plain;
    if (!data || !espl__writer_initializer(w, name, plain ? ESPL_F32 : v->constant->dtype, &v->constant->shape, data))
        return espl__nomem(w->diag, 0);
    return ESPL_OK;
}
