/* cifar-bin: CIFAR-10's binary records, a label byte and 32x32 pixels in planes of red, green and blue
 * (https://www.cs.toronto.edu/~kriz/cifar.html). */
#include "data/data.h"

#include <inttypes.h>

enum { SIDE = 32, PIXELS = 3 * SIDE * SIDE, RECORD = 1 + PIXELS, CLASSES = 10 };

typedef struct part {
    uint8_t *bytes;
    int64_t records;
} part;

typedef struct cifar {
    part *parts;
    unsigned count;
} cifar;

static espl_status open_part(espl_dataset *d, const char *key, const char *name, part *p, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const char *path;
    uint64_t length;
    ESPL_TRY(espl__desc_path(d, key, name, d->folder, &path, diag));
    ESPL_TRY(espl__gz_read(d->ctx, path, &p->bytes, &length, diag));
    p->records = (int64_t)(length / RECORD);
    if (length == 0 || length % RECORD != 0) {
        status = espl__fail(diag, ESPL_FORMAT,
                            "%s: has %" PRIu64 " bytes, not a multiple of a CIFAR-10 record's %d", path,
                            length, RECORD);
        goto done;
    }
    for (int64_t i = 0; i < p->records; i++)
        if (p->bytes[i * RECORD] >= CLASSES) {
            status = espl__fail(diag, ESPL_FORMAT, "%s: record %" PRId64 " has label %d; CIFAR-10 has 0 to 9",
                                path, i, p->bytes[i * RECORD]);
            goto done;
        }
    if (d->total == 0) d->source = espl__data_base_name(path);
    d->total += p->records;
done:
    return status;
}

static espl_status cifar_open(espl_dataset *d, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__data_desc *c = d->desc;
    if (!c->path == !c->paths)
        return espl__desc_fail(d, ESPL_INVALID, "path", diag,
                               "give either path (one file) or paths (a list of files)");
    cifar *s = espl__arena_alloc(&d->arena, sizeof *s);
    if (!s) return espl__nomem(diag, sizeof *s);
    d->state = s;
    unsigned count = c->path ? 1 : c->paths_count;
    s->parts = espl__arena_alloc(&d->arena, count * sizeof *s->parts);
    if (!s->parts) return espl__nomem(diag, count * sizeof *s->parts);
    d->has_labels = true;
    for (s->count = 0; s->count < count;) {
        unsigned i = s->count++;
        ESPL_TRY(
            open_part(d, c->path ? "path" : "paths", c->path ? c->path : c->paths[i], &s->parts[i], diag));
    }
done:
    return status;
}

static const uint8_t *record_at(const espl_dataset *d, int64_t index) {
    const part *p = ((const cifar *)d->state)->parts;
    while (index >= p->records) index -= p++->records;
    return p->bytes + index * RECORD;
}

static espl_status cifar_picture(espl_dataset *d, int64_t index, espl__picture *picture, espl_diag *diag) {
    espl_status status = espl__picture_size(picture, 3, SIDE, SIDE, diag);
    if (status != ESPL_OK) return status;
    const uint8_t *record = record_at(d, index);
    for (int i = 0; i < PIXELS; i++) picture->data[i] = (float)record[1 + i];
    return ESPL_OK;
}

static espl_status cifar_label(espl_dataset *d, int64_t index, int64_t *label, espl_diag *diag) {
    (void)diag;
    *label = *record_at(d, index);
    return ESPL_OK;
}

static void cifar_close(espl_dataset *d) {
    const cifar *s = d->state;
    if (!s) return;
    for (unsigned i = 0; i < s->count; i++) espl__free(d->ctx, s->parts[i].bytes);
}

const espl__data_kind espl__data_kind_cifar_bin = {
    .name = "cifar-bin",
    .keys = ESPL__KEY_NUMBERS | ESPL__KEY_PATH | ESPL__KEY_PATHS | ESPL__KEY_PICTURE,
    .open = cifar_open,
    .picture = cifar_picture,
    .label = cifar_label,
    .close = cifar_close,
};
