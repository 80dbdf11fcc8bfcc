/* npy: one array of samples, or one for each input of the model, and perhaps labels, all saved by NumPy. */
#include "data/data.h"

#include <inttypes.h>

typedef struct npy_set {
    espl_tensor arrays[ESPL__DATA_MAX_INPUTS];
    int64_t *labels;
} npy_set;

static espl_status open_array(espl_dataset *d, npy_set *s, int input, const char *key, const char *name,
                              espl_diag *diag) {
    espl_status status = ESPL_OK;
    const char *path;
    espl_tensor *t = &s->arrays[input];
    ESPL_TRY(espl__desc_path(d, key, name, d->folder, &path, diag));
    ESPL_TRY(espl_npy_read(d->ctx, path, t, diag));
    if (t->shape.rank == 0) {
        status =
            espl__fail(diag, ESPL_SHAPE, "%s: is a scalar; the first dimension must count the samples", path);
        goto done;
    }
    if (input == 0) {
        d->total = t->shape.dim[0];
        d->source = espl__data_base_name(path);
    } else if (t->shape.dim[0] != d->total) {
        status =
            espl__fail(diag, ESPL_SHAPE, "%s: holds %" PRId64 " samples where the first input has %" PRId64,
                       path, t->shape.dim[0], d->total);
        goto done;
    }
    espl_shape *sample = &d->shape[input];
    sample->rank = t->shape.rank - 1;
    memcpy(sample->dim, t->shape.dim + 1, sizeof(int64_t) * (size_t)sample->rank);
done:
    return status;
}

static espl_status open_labels(espl_dataset *d, npy_set *s, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const char *path;
    int64_t count;
    ESPL_TRY(espl__desc_path(d, "labels", d->desc->labels, d->folder, &path, diag));
    ESPL_TRY(espl__labels_npy(d->ctx, path, &s->labels, &count, diag));
    d->has_labels = true;
    if (count != d->total)
        status = espl__fail(diag, ESPL_SHAPE, "%s: holds %" PRId64 " labels for %" PRId64 " samples", path,
                            count, d->total);
done:
    return status;
}

static espl_status npy_open(espl_dataset *d, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__data_desc *c = d->desc;
    if (!c->path == !c->inputs)
        return espl__desc_fail(d, ESPL_INVALID, "path", diag,
                               "give either path (one .npy file) or inputs (a list)");
    npy_set *s = espl__arena_alloc(&d->arena, sizeof *s);
    if (!s) return espl__nomem(diag, sizeof *s);
    d->state = s;
    if (c->path) {
        ESPL_TRY(open_array(d, s, 0, "path", c->path, diag));
    } else {
        d->inputs = (int)c->inputs_count;
        for (int i = 0; i < d->inputs; i++) {
            d->input_name[i] = c->inputs[i].name ? c->inputs[i].name : "";
            ESPL_TRY(open_array(d, s, i, "inputs", c->inputs[i].path, diag));
        }
    }
    if (c->labels) ESPL_TRY(open_labels(d, s, diag));
done:
    return status;
}

static espl_status npy_read(espl_dataset *d, int input, int64_t index, float *sample, espl_diag *diag) {
    const espl_tensor *t = &((const npy_set *)d->state)->arrays[input];
    int64_t count = espl_shape_count(&d->shape[input]);
    const char *base = (const char *)t->data + index * count * (int64_t)espl_dtype_bytes(t->dtype);
    (void)diag;
    switch (t->dtype) {
#define CASE(NAME, type)                                                                              \
    case ESPL_##NAME:                                                                                 \
        for (int64_t i = 0; i < count; i++) sample[i] = (float)((const type *)(const void *)base)[i]; \
        break
        CASE(F32, float);
        CASE(F64, double);
        CASE(U8, uint8_t);
        CASE(S8, int8_t);
        CASE(BOOL, uint8_t);
        CASE(U16, uint16_t);
        CASE(S16, int16_t);
        CASE(U32, uint32_t);
        CASE(S32, int32_t);
        CASE(U64, uint64_t);
        CASE(S64, int64_t);
#undef CASE
        case ESPL_F16:
            for (int64_t i = 0; i < count; i++)
                sample[i] = espl__half_to_float(((const uint16_t *)(const void *)base)[i]);
            break;
        default:
            return espl__fail(diag, ESPL_INTERNAL, "a .npy file cannot hold %s", espl_dtype_name(t->dtype));
    }
    return ESPL_OK;
}

static espl_status npy_label(espl_dataset *d, int64_t index, int64_t *label, espl_diag *diag) {
    (void)diag;
    *label = ((const npy_set *)d->state)->labels[index];
    return ESPL_OK;
}

static void npy_close(espl_dataset *d) {
    npy_set *s = d->state;
    if (!s) return;
    for (int i = 0; i < ESPL__DATA_MAX_INPUTS; i++) espl_tensor_free(d->ctx, &s->arrays[i]);
    espl__free(d->ctx, s->labels);
}

const espl__data_kind espl__data_kind_npy = {
    .name = "npy",
    .keys = ESPL__KEY_NUMBERS | ESPL__KEY_PATH | ESPL__KEY_INPUTS | ESPL__KEY_LABELS,
    .open = npy_open,
    .read = npy_read,
    .label = npy_label,
    .close = npy_close,
};
