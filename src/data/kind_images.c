/* images: JPEG and PNG files in a folder, .tar or .tar.gz, one sub-folder a class or with a list of labels.
 */
#include "data/bundle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct item {
    int64_t member;
    int64_t label;
} item;

typedef struct image_set {
    espl__bundle bundle;
    item *items; /* in the order of the samples */
    int64_t count;
} image_set;

static bool is_image(const char *name) {
    const char *dot = strrchr(name, '.');
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"};
    for (size_t i = 0; dot && i < ESPL_COUNT(endings); i++)
        if (strcmp(dot, endings[i]) == 0) return true;
    return false;
}

/* --- class folders -----------------------------------------------------------------------------------
 *
 * Round k holds file k of every class, in an order drawn for that round: so every first `count` samples are
 * balanced, and every n-th sample does not fall on one class. */

typedef struct class_range {
    const char *name; /* `length` bytes */
    size_t length;
    int64_t first, count; /* into a list of members sorted by name */
} class_range;

typedef struct class_list {
    class_range *classes;
    int64_t count, capacity;
    int64_t *members;
    int64_t member_count;
} class_list;

static espl_status add_class(espl_context *ctx, class_list *list, class_range c, espl_diag *diag) {
    if (list->count == list->capacity) {
        uint64_t capacity = (uint64_t)ESPL_MAX(list->capacity * 2, 64);
        class_range *classes = espl__realloc(ctx, list->classes, (uint64_t)list->count * sizeof *classes,
                                             capacity * sizeof *classes);
        if (!classes) return espl__nomem(diag, capacity * sizeof *classes);
        list->classes = classes;
        list->capacity = (int64_t)capacity;
    }
    list->classes[list->count++] = c;
    return ESPL_OK;
}

static int by_class_name(const void *a, const void *b) {
    const class_range *x = a, *y = b;
    int order = memcmp(x->name, y->name, ESPL_MIN(x->length, y->length));
    return order ? order : x->length < y->length ? -1 : x->length > y->length;
}

/* The members of one class stand together, for all are sorted. The classes are sorted once more by
 * themselves: among whole names "cat-big/" comes before "cat/". */
static espl_status find_classes(const image_set *s, const char *prefix, class_list *list, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_context *ctx = s->bundle.ctx;
    size_t skip = strlen(prefix);
    class_range c = {0};
    list->members = espl__calloc(ctx, (uint64_t)s->bundle.count, sizeof(int64_t));
    if (!list->members) return espl__nomem(diag, (uint64_t)s->bundle.count * sizeof(int64_t));
    for (int64_t i = 0; i < s->bundle.count; i++) {
        const char *name = s->bundle.members[i].name, *slash;
        if (strncmp(name, prefix, skip) != 0 || !is_image(name) || !(slash = strchr(name + skip, '/')))
            continue;
        class_range next = {name + skip, (size_t)(slash - name) - skip, list->member_count, 0};
        if (list->count == 0 || by_class_name(&c, &next) != 0) {
            ESPL_TRY(add_class(ctx, list, next, diag));
            c = next;
        }
        list->members[list->member_count++] = i;
        list->classes[list->count - 1].count++;
    }
    if (list->count) qsort(list->classes, (size_t)list->count, sizeof *list->classes, by_class_name);
done:
    return status;
}

static void deal_rounds(const class_list *list, int64_t *order, image_set *s) {
    espl__rng rng = espl__rng_seed(0, 0);
    for (int64_t round = 0; s->count < list->member_count; round++) {
        for (int64_t i = 0; i < list->count; i++) order[i] = i;
        espl__rng_shuffle(&rng, order, list->count);
        for (int64_t i = 0; i < list->count; i++) {
            const class_range *c = &list->classes[order[i]];
            if (round < c->count) s->items[s->count++] = (item){list->members[c->first + round], order[i]};
        }
    }
}

static espl_status label_by_folder(espl_dataset *d, image_set *s, const char *prefix, espl_diag *diag) {
    espl_status status = ESPL_OK;
    class_list list = {0};
    int64_t *order = NULL;
    ESPL_TRY(find_classes(s, prefix, &list, diag));
    if (list.member_count == 0) {
        status = espl__fail(diag, ESPL_FORMAT,
                            "%s: has no .jpg or .png files at %sCLASS/FILE; give split or labels",
                            s->bundle.path, prefix);
        goto done;
    }
    s->items = espl__calloc(d->ctx, (uint64_t)list.member_count, sizeof *s->items);
    order = espl__calloc(d->ctx, (uint64_t)list.count, sizeof *order);
    if (!s->items || !order) {
        status = espl__nomem(diag, (uint64_t)list.member_count * sizeof *s->items);
        goto done;
    }
    deal_rounds(&list, order, s);
done:
    espl__free(d->ctx, list.classes);
    espl__free(d->ctx, list.members);
    espl__free(d->ctx, order);
    return status;
}

/* --- a list of labels ----------------------------------------------------------------------------------- */

/* Cuts "file class" in two; the name may hold spaces. */
static bool parse_line(char *line, char **name, int64_t *label) {
    size_t n = strlen(line);
    while (n && (line[n - 1] == '\r' || line[n - 1] == ' ' || line[n - 1] == '\t')) line[--n] = 0;
    size_t digit = n;
    while (digit && line[digit - 1] >= '0' && line[digit - 1] <= '9') digit--;
    if (digit == n || digit == 0 || n - digit > 9 || (line[digit - 1] != ' ' && line[digit - 1] != '\t'))
        return false;
    *label = strtol(line + digit, NULL, 10);
    while (digit && (line[digit - 1] == ' ' || line[digit - 1] == '\t')) digit--;
    line[digit] = 0;
    *name = line;
    return digit > 0;
}

static espl__member *find_in(image_set *s, const char *folder, const char *name) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%s%s", folder, name);
    return n > 0 && (size_t)n < sizeof path ? espl__bundle_find(&s->bundle, path) : NULL;
}

/* `text` is cut into lines in place; file names are relative to `folder` inside the bundle. */
static espl_status parse_labels(espl_dataset *d, image_set *s, const char *label_file, char *text,
                                const char *folder, espl_diag *diag) {
    int64_t capacity = 1, line_number = 0;
    for (const char *p = text; *p; p++) capacity += *p == '\n';
    s->items = espl__calloc(d->ctx, (uint64_t)capacity, sizeof *s->items);
    if (!s->items) return espl__nomem(diag, (uint64_t)capacity * sizeof *s->items);
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        line_number++;
        if (line[strspn(line, " \t\r")] == 0) continue;
        char *name;
        int64_t label;
        if (!parse_line(line, &name, &label))
            return espl__fail(diag, ESPL_FORMAT, "%s:%" PRId64 ": is not a file name and a class number",
                              label_file, line_number);
        espl__member *m = find_in(s, folder, name);
        if (!m)
            return espl__fail(diag, ESPL_FORMAT, "%s:%" PRId64 ": there is no '%s%s' in %s", label_file,
                              line_number, folder, name, s->bundle.path);
        s->items[s->count++] = (item){m - s->bundle.members, label};
    }
    return ESPL_OK;
}

/* A list inside the bundle names files beside it; one outside names files from the bundle's root (and split).
 */
static espl_status label_by_list(espl_dataset *d, image_set *s, const char *prefix, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const char *label_file = d->desc->labels, *folder = prefix;
    const uint8_t *bytes;
    uint8_t *outside = NULL;
    char *text = NULL;
    uint64_t length;
    espl__member *m = espl__bundle_find(&s->bundle, label_file);
    if (m) {
        m->wanted = true;
        length = m->size;
        ESPL_TRY(espl__bundle_keep(&s->bundle, diag));
        ESPL_TRY(espl__bundle_read(&s->bundle, m, &bytes, diag));
        folder = espl__arena_strndup(&d->arena, m->name, (size_t)(espl__data_base_name(m->name) - m->name));
    } else {
        ESPL_TRY(espl__desc_path(d, "labels", label_file, d->folder, &label_file, diag));
        ESPL_TRY(espl__file_read(d->ctx, label_file, ESPL__MEMBER_MAX, &outside, &length, diag));
        bytes = outside;
    }
    text = espl__alloc(d->ctx, length + 1);
    if (!text || !folder) {
        status = espl__nomem(diag, length + 1);
        goto done;
    }
    memcpy(text, bytes, (size_t)length);
    text[length] = 0;
    ESPL_TRY(parse_labels(d, s, label_file, text, folder, diag));
done:
    espl__free(d->ctx, outside);
    espl__free(d->ctx, text);
    return status;
}

/* --- the kind ---------------------------------------------------------------------------------------- */

/* Of a compressed archive only what `every` and `count` leave is kept. */
static void mark_wanted(const espl_dataset *d, image_set *s) {
    const espl__data_every *every = d->desc->every;
    int64_t taken = 0;
    for (int64_t i = 0; i < s->count; i++) {
        bool take = !every;
        for (unsigned k = 0; every && k < every->keep_count; k++) take |= i % every->n == every->keep[k];
        if (!take) continue;
        if (d->desc->count && taken == d->desc->count) break;
        s->bundle.members[s->items[i].member].wanted = true;
        taken++;
    }
}

static espl_status images_open(espl_dataset *d, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const char *path, *split = d->desc->split ? d->desc->split : "";
    char prefix[512];
    if (!d->desc->path)
        return espl__desc_fail(d, ESPL_INVALID, "path", diag,
                               "is missing: give a folder, a .tar or a .tar.gz");
    int n = snprintf(prefix, sizeof prefix, "%s%s", split, *split ? "/" : "");
    if (n < 0 || (size_t)n >= sizeof prefix)
        return espl__desc_fail(d, ESPL_INVALID, "split", diag, "is too long");
    image_set *s = espl__arena_alloc(&d->arena, sizeof *s);
    if (!s) return espl__nomem(diag, sizeof *s);
    d->state = s;
    ESPL_TRY(espl__desc_path(d, "path", d->desc->path, d->folder, &path, diag));
    ESPL_TRY(espl__bundle_open(d->ctx, path, &s->bundle, diag));
    status = d->desc->labels ? label_by_list(d, s, prefix, diag) : label_by_folder(d, s, prefix, diag);
    if (status != ESPL_OK) goto done;
    mark_wanted(d, s);
    ESPL_TRY(espl__bundle_keep(&s->bundle, diag));
    d->source = espl__data_base_name(path);
    d->total = s->count;
    d->has_labels = true;
done:
    return status;
}

static espl_status images_picture(espl_dataset *d, int64_t index, espl__picture *picture, espl_diag *diag) {
    static const uint8_t png[] = {0x89, 'P', 'N', 'G'}, jpeg[] = {0xff, 0xd8};
    image_set *s = d->state;
    const espl__member *m = &s->bundle.members[s->items[index].member];
    const uint8_t *bytes;
    int channels = (int)d->desc->channels;
    espl_status status = espl__bundle_read(&s->bundle, m, &bytes, diag);
    if (status != ESPL_OK) return status;
    if (m->size > sizeof png && memcmp(bytes, png, sizeof png) == 0)
        status = espl__png_decode(bytes, m->size, channels, picture, diag);
    else if (m->size > sizeof jpeg && memcmp(bytes, jpeg, sizeof jpeg) == 0)
        status = espl__jpeg_decode(bytes, m->size, channels, picture, diag);
    else
        status = espl__fail(diag, ESPL_FORMAT, "is neither JPEG nor PNG");
    if (status != ESPL_OK) espl__diag_prefix(diag, "%s: %s", s->bundle.path, m->name);
    return status;
}

static espl_status images_label(espl_dataset *d, int64_t index, int64_t *label, espl_diag *diag) {
    (void)diag;
    *label = ((const image_set *)d->state)->items[index].label;
    return ESPL_OK;
}

static void images_close(espl_dataset *d) {
    image_set *s = d->state;
    if (!s) return;
    espl__bundle_close(&s->bundle);
    espl__free(d->ctx, s->items);
}

const espl__data_kind espl__data_kind_images = {
    .name = "images",
    .keys = ESPL__KEY_NUMBERS | ESPL__KEY_PATH | ESPL__KEY_LABELS | ESPL__KEY_SPLIT | ESPL__KEY_CHANNELS |
            ESPL__KEY_PICTURE,
    .open = images_open,
    .picture = images_picture,
    .label = images_label,
    .close = images_close,
};
