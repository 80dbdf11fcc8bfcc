/* idx: images (and labels) in IDX files, as MNIST comes. */
#include "data/idx.h"

#include <inttypes.h>

typedef struct idx_set {
    espl__idx images;
    int64_t channels, height, width;
    int64_t *labels;
} idx_set;

static espl_status open_images(espl_dataset *d, idx_set *s, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const char *path;
    if (!d->desc->path)
        return espl__desc_fail(d, ESPL_INVALID, "path", diag, "is missing: give the images' IDX file");
    ESPL_TRY(espl__desc_path(d, "path", d->desc->path, d->folder, &path, diag));
    ESPL_TRY(espl__idx_read(d->ctx, path, &s->images, diag));
    const espl_shape *shape = &s->images.shape;
    if (shape->rank != 3 && shape->rank != 4) {
        status = espl__fail(diag, ESPL_SHAPE,
                            "%s: images must have the dimensions count, (channels,) height, width", path);
        goto done;
    }
    d->source = espl__data_base_name(path);
    d->total = shape->dim[0];
    s->channels = shape->rank == 4 ? shape->dim[1] : 1;
    s->height = shape->dim[shape->rank - 2];
    s->width = shape->dim[shape->rank - 1];
done:
    return status;
}

static espl_status idx_open(espl_dataset *d, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const char *path;
    int64_t count;
    idx_set *s = espl__arena_alloc(&d->arena, sizeof *s);
    if (!s) return espl__nomem(diag, sizeof *s);
    d->state = s;
    ESPL_TRY(open_images(d, s, diag));
    if (!d->desc->labels) goto done;
    ESPL_TRY(espl__desc_path(d, "labels", d->desc->labels, d->folder, &path, diag));
    ESPL_TRY(espl__labels_idx(d->ctx, path, &s->labels, &count, diag));
    d->has_labels = true;
    if (count != d->total)
        status = espl__fail(diag, ESPL_SHAPE, "%s: holds %" PRId64 " labels for %" PRId64 " images", path,
                            count, d->total);
done:
    return status;
}

static espl_status idx_picture(espl_dataset *d, int64_t index, espl__picture *picture, espl_diag *diag) {
    const idx_set *s = d->state;
    espl_status status = espl__picture_size(picture, s->channels, s->height, s->width, diag);
    if (status != ESPL_OK) return status;
    int64_t count = s->channels * s->height * s->width;
    for (int64_t i = 0; i < count; i++)
        picture->data[i] = (float)espl__idx_element(&s->images, index * count + i);
    return ESPL_OK;
}

static espl_status idx_label(espl_dataset *d, int64_t index, int64_t *label, espl_diag *diag) {
    (void)diag;
    *label = ((const idx_set *)d->state)->labels[index];
    return ESPL_OK;
}

static void idx_close(espl_dataset *d) {
    idx_set *s = d->state;
    if (!s) return;
    espl__free(d->ctx, s->images.file);
    espl__free(d->ctx, s->labels);
}

const espl__data_kind espl__data_kind_idx = {
    .name = "idx",
    .keys = ESPL__KEY_NUMBERS | ESPL__KEY_PATH | ESPL__KEY_LABELS | ESPL__KEY_PICTURE,
    .open = idx_open,
    .picture = idx_picture,
    .label = idx_label,
    .close = idx_close,
};
