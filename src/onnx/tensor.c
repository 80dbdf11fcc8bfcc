/* TensorProto to espl_tensor. Everything is checked against what the file really holds before memory is taken. */
#include "onnx/onnx_impl.h"

#include <inttypes.h>

/* Where the elements of a tensor are. */
typedef struct source {
    bool external;
    uint64_t offset; /* external: where in the file */
    bool raw;
} source;

/* Names of the ONNX types that Espalier does not have, for messages. */
static const struct {
    int64_t number;
    const char *name;
} foreign_types[] = {
    {0, "undefined"},       {14, "complex64"},  {15, "complex128"},
    {18, "float8e4m3fnuz"}, {20, "float8e5m2fnuz"},  {23, "float4e2m1"}, {24, "float8e8m0"},
    {25, "uint2"},          {26, "int2"},            {27, "float6e2m3"}, {28, "float6e3m2"},
};

/* Elements of 4 bits: two in a byte, the lower half first. */
static bool is_nibble(espl_dtype dtype) { return dtype == ESPL_S4 || dtype == ESPL_U4; }

uint64_t espl__onnx_bytes(espl_dtype dtype, uint64_t count) {
    return is_nibble(dtype) ? count / 2 + count % 2 : count * espl_dtype_bytes(dtype);
}

/* The packed bytes stand at the front of the elements' own memory: from the last to the first none is needed again. */
static void unpack_nibbles(espl_tensor *t) {
    uint8_t *e = t->data;
    for (int64_t i = espl_shape_count(&t->shape) - 1; i >= 0; i--) {
        uint8_t nibble = e[i / 2] >> (i % 2 * 4) & 15;
        e[i] = t->dtype == ESPL_S4 ? (uint8_t)((nibble ^ 8) - 8) : nibble;
    }
}

espl_status espl__onnx_dtype(int64_t number, const char *what, espl_dtype *out, espl_diag *diag) {
    if (espl__dtype_from_onnx(number, out)) return ESPL_OK;
    for (size_t i = 0; i < ESPL_COUNT(foreign_types); i++)
        if (foreign_types[i].number == number)
            return espl__fail(diag, ESPL_UNSUPPORTED, "%s: element type %s is not supported", what,
                              foreign_types[i].name);
    return espl__fail(diag, ESPL_FORMAT, "%s: %" PRId64 " is no element type", what, number);
}

static espl_status read_shape(const pb_tensor *proto, espl_shape *shape, espl_diag *diag) {
    *shape = (espl_shape){0};
    if (proto->n_dims > ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_UNSUPPORTED, "has %zu dimensions, at most %d are supported", proto->n_dims,
                          ESPL_MAX_RANK);
    for (size_t i = 0; i < proto->n_dims; i++) {
        if (proto->dims[i] < 0)
            return espl__fail(diag, ESPL_FORMAT, "dimension %zu is %" PRId64, i, proto->dims[i]);
        shape->dim[shape->rank++] = proto->dims[i];
    }
    if (espl_shape_count(shape) < 0) return espl__fail(diag, ESPL_FORMAT, "has too many elements to count");
    return ESPL_OK;
}

/* Elements in the typed field that ONNX uses for `dtype`. */
static size_t typed_count(const pb_tensor *proto, espl_dtype dtype) {
    switch (dtype) {
        case ESPL_F32: return proto->n_float_data;
        case ESPL_F64: return proto->n_double_data;
        case ESPL_S64: return proto->n_int64_data;
        case ESPL_U32:
        case ESPL_U64: return proto->n_uint64_data;
        case ESPL_STRING: return proto->n_string_data;
        default: return proto->n_int32_data;
    }
}

/* Finds the data and checks their size. */
static espl_status locate(espl__external *external, const pb_tensor *proto, espl_dtype dtype,
                          const espl_shape *shape, source *from, espl_diag *diag) {
    uint64_t count = (uint64_t)espl_shape_count(shape), bytes = espl__onnx_bytes(dtype, count);
    char text[128];
    *from = (source){0};
    if (dtype == ESPL_STRING && ((proto->has_data_location && proto->data_location) || proto->raw_data.len))
        return espl__fail(diag, ESPL_FORMAT, "has strings that do not stand in string_data");
    if (proto->has_data_location && proto->data_location == ESPL_PB__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        from->external = true;
        return espl__external_open(external, proto, bytes, &from->offset, diag);
    }
    size_t typed = typed_count(proto, dtype);
    from->raw = dtype != ESPL_STRING && proto->has_raw_data && (proto->raw_data.len > 0 || typed == 0);
    if (from->raw && proto->raw_data.len != bytes)
        return espl__fail(diag, ESPL_FORMAT, "has %zu bytes of data where %s of shape '%s' takes %" PRIu64,
                          proto->raw_data.len, espl_dtype_name(dtype), espl_shape_text(shape, text, sizeof text),
                          bytes);
    if (is_nibble(dtype)) count = bytes;
    if (!from->raw && typed != count)
        return espl__fail(diag, ESPL_FORMAT, "has %zu elements of data where %s of shape '%s' takes %" PRIu64, typed,
                          espl_dtype_name(dtype), espl_shape_text(shape, text, sizeof text), count);
    return ESPL_OK;
}

/* Smallest and largest int32_data element of the types that share that field; small floats and pairs of 4 bits stand there
 * as bits. */
static void int32_range(espl_dtype dtype, int32_t *lo, int32_t *hi) {
    switch (dtype) {
        case ESPL_E4M3:
        case ESPL_E5M2:
        case ESPL_S4:
        case ESPL_U4:
        case ESPL_U8: *lo = 0, *hi = UINT8_MAX; break;
        case ESPL_S8: *lo = INT8_MIN, *hi = INT8_MAX; break;
        case ESPL_S16: *lo = INT16_MIN, *hi = INT16_MAX; break;
        case ESPL_U16:
        case ESPL_F16:
        case ESPL_BF16: *lo = 0, *hi = UINT16_MAX; break;
        default: *lo = INT32_MIN, *hi = INT32_MAX; break;
    }
}

static espl_status fill_int32(const pb_tensor *proto, espl_tensor *t, espl_diag *diag) {
    int32_t lo, hi;
    int32_range(t->dtype, &lo, &hi);
    size_t size = espl_dtype_bytes(t->dtype);
    for (size_t i = 0; i < proto->n_int32_data; i++) {
        int32_t v = proto->int32_data[i];
        if (v < lo || v > hi)
            return espl__fail(diag, ESPL_FORMAT, "element %zu is %" PRId32 ", which %s cannot hold", i, v,
                              espl_dtype_name(t->dtype));
        memcpy((char *)t->data + i * size, &v, size); /* little-endian, as the rest of the project assumes */
    }
    return ESPL_OK;
}

static espl_status fill_typed(const pb_tensor *proto, espl_tensor *t, espl_diag *diag) {
    size_t bytes = espl__tensor_bytes(t);
    if (bytes == 0) return ESPL_OK;
    switch (t->dtype) {
        case ESPL_F32: memcpy(t->data, proto->float_data, bytes); return ESPL_OK;
        case ESPL_F64: memcpy(t->data, proto->double_data, bytes); return ESPL_OK;
        case ESPL_S64: memcpy(t->data, proto->int64_data, bytes); return ESPL_OK;
        case ESPL_U64: memcpy(t->data, proto->uint64_data, bytes); return ESPL_OK;
        case ESPL_U32:
            for (size_t i = 0; i < proto->n_uint64_data; i++) {
                if (proto->uint64_data[i] > UINT32_MAX)
                    return espl__fail(diag, ESPL_FORMAT, "element %zu is %" PRIu64 ", which u32 cannot hold", i,
                                      proto->uint64_data[i]);
                ((uint32_t *)t->data)[i] = (uint32_t)proto->uint64_data[i];
            }
            return ESPL_OK;
        default: return fill_int32(proto, t, diag);
    }
}

static espl_status fill(espl__external *external, const pb_tensor *proto, const source *from, espl_tensor *t,
                        espl_diag *diag) {
    espl_status status = ESPL_OK;
    size_t bytes = (size_t)espl__onnx_bytes(t->dtype, (uint64_t)espl_shape_count(&t->shape));
    if (from->external)
        ESPL_TRY(espl__external_read(external, from->offset, t->data, bytes, diag));
    else if (!from->raw)
        ESPL_TRY(fill_typed(proto, t, diag));
    else if (bytes)
        memcpy(t->data, proto->raw_data.data, bytes);
    if (is_nibble(t->dtype)) unpack_nibbles(t);
    if (t->dtype == ESPL_BOOL) /* other bytes than 0 and 1 would be no bool of C's */
        for (size_t i = 0; i < bytes; i++) ((uint8_t *)t->data)[i] = ((uint8_t *)t->data)[i] != 0;
done:
    return status;
}

bool espl__onnx_texts(espl_context *ctx, const ProtobufCBinaryData *from, size_t count, espl_text **out) {
    *out = espl__calloc(ctx, (uint64_t)count + 1, sizeof **out);
    for (size_t i = 0; *out && i < count; i++) (*out)[i] = (espl_text){(const char *)from[i].data, from[i].len};
    return *out != NULL;
}

static const char *tensor_name(const pb_tensor *proto) { return proto->name ? proto->name : ""; }

static espl_status prepare(espl__external *external, const pb_tensor *proto, espl_dtype *dtype, espl_shape *shape,
                           source *from, espl_diag *diag) {
    espl_status status = ESPL_OK;
    ESPL_TRY(espl__onnx_dtype(proto->has_data_type ? proto->data_type : 0, "its data", dtype, diag));
    ESPL_TRY(read_shape(proto, shape, diag));
    ESPL_TRY(locate(external, proto, *dtype, shape, from, diag));
done:
    return status;
}

espl_status espl__onnx_graph_tensor(espl_graph *graph, espl__external *external, const pb_tensor *proto,
                                    espl_tensor **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_dtype dtype;
    espl_shape shape;
    source from;
    *out = NULL;
    espl_text *texts = NULL;
    ESPL_TRY(prepare(external, proto, &dtype, &shape, &from, diag));
    bool good = dtype != ESPL_STRING || espl__onnx_texts(graph->arena.ctx, proto->string_data, proto->n_string_data, &texts);
    *out = good ? espl__graph_tensor(graph, dtype, &shape, texts) : NULL;
    espl__free(graph->arena.ctx, texts);
    if (!*out) return espl__nomem(diag, (uint64_t)espl_shape_count(&shape) * espl_dtype_bytes(dtype));
    if (dtype != ESPL_STRING) ESPL_TRY(fill(external, proto, &from, *out, diag));
done:
    if (status != ESPL_OK) espl__diag_prefix(diag, "tensor '%.200s'", tensor_name(proto));
    return status;
}

static espl_status copy_texts(espl_context *ctx, const pb_tensor *proto, const espl_shape *shape, espl_tensor *out,
                              espl_diag *diag) {
    espl_tensor t = {ESPL_STRING, *shape, NULL};
    espl_text *texts;
    if (!espl__onnx_texts(ctx, proto->string_data, proto->n_string_data, &texts))
        return espl__nomem(diag, proto->n_string_data * sizeof *texts);
    t.data = texts;
    espl_status status = espl__tensor_copy(ctx, &t, out, diag);
    espl__free(ctx, texts);
    return status;
}

espl_status espl__onnx_tensor(espl_context *ctx, espl__external *external, const pb_tensor *proto, espl_tensor *out,
                              espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_dtype dtype;
    espl_shape shape;
    source from;
    *out = (espl_tensor){0};
    ESPL_TRY(prepare(external, proto, &dtype, &shape, &from, diag));
    if (dtype == ESPL_STRING) return copy_texts(ctx, proto, &shape, out, diag);
    ESPL_TRY(espl_tensor_alloc(ctx, dtype, &shape, out, diag));
    ESPL_TRY(fill(external, proto, &from, out, diag));
done:
    if (status != ESPL_OK) {
        espl_tensor_free(ctx, out);
        espl__diag_prefix(diag, "tensor '%.200s'", tensor_name(proto));
    }
    return status;
}

espl_status espl_onnx_read_tensor(espl_context *ctx, const char *path, espl_tensor *out, espl_diag *diag) {
    ProtobufCMessage *message = NULL;
    espl__external external;
    *out = (espl_tensor){0};
    espl__external_init(&external, ctx, path);
    espl_status status = espl__onnx_unpack(ctx, path, &espl_pb__tensor_proto__descriptor, &message, diag);
    if (status == ESPL_OK) {
        status = espl__onnx_tensor(ctx, &external, (const pb_tensor *)message, out, diag);
        if (status != ESPL_OK) espl__diag_prefix(diag, "%.300s", path);
    }
    espl__external_close(&external);
    espl__onnx_unpacked_free(ctx, message);
    return status;
}

static espl_status read_sequence(espl_context *ctx, espl__external *external, const EsplPb__SequenceProto *from,
                                 espl_tensor *out, int most, int *count, espl_diag *diag) {
    if (from->n_sequence_values || from->n_tensor_values > (size_t)most)
        return espl__fail(diag, ESPL_UNSUPPORTED, "a sequence of sequences, or of more than %d tensors", most);
    for (size_t i = 0; i < from->n_tensor_values; i++) {
        espl_status status = espl__onnx_tensor(ctx, external, from->tensor_values[i], &out[i], diag);
        if (status != ESPL_OK) return status;
        ++*count;
    }
    return ESPL_OK;
}

espl_status espl__onnx_read_list(espl_context *ctx, const char *path, bool optional, espl_tensor *out, int most, int *count,
                                 bool *list, espl_diag *diag) {
    ProtobufCMessage *message = NULL;
    espl__external external;
    espl__external_init(&external, ctx, path);
    *count = 0;
    *list = true;
    espl_status status = espl__onnx_unpack(
        ctx, path, optional ? &espl_pb__optional_proto__descriptor : &espl_pb__sequence_proto__descriptor, &message, diag);
    const EsplPb__OptionalProto *o = optional ? (const EsplPb__OptionalProto *)message : NULL;
    const EsplPb__SequenceProto *sequence = o ? o->sequence_value : (const EsplPb__SequenceProto *)message;
    if (status == ESPL_OK && o && !sequence) {
        *list = false;
        *count = o->tensor_value ? 1 : -1;
        if (o->tensor_value) status = espl__onnx_tensor(ctx, &external, o->tensor_value, out, diag);
    } else if (status == ESPL_OK) {
        status = read_sequence(ctx, &external, sequence, out, most, count, diag);
    }
    espl__external_close(&external);
    espl__onnx_unpacked_free(ctx, message);
    return status;
}
