/* The public functions: selection of samples, preprocessing, and what is the same for every kind. */
#include "data/data.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* --- selection: every, count --------------------------------------------------------------------- */

static int compare_int64(const void *a, const void *b) {
    int64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* Samples i with i mod n in `keep`, the first `count` of them. */
static espl_status select_samples(espl_dataset *d, espl_diag *diag) {
    const espl__data_desc *c = d->desc;
    d->every_n = 1;
    d->keep_count = 1;
    d->keep = espl__arena_alloc(&d->arena, sizeof(int64_t) * (c->every ? c->every->keep_count : 1));
    if (!d->keep) return espl__nomem(diag, sizeof(int64_t));
    if (c->every) {
        d->every_n = c->every->n;
        d->keep_count = 0;
        qsort(c->every->keep, c->every->keep_count, sizeof(int64_t), compare_int64);
        for (unsigned i = 0; i < c->every->keep_count; i++)
            if (i == 0 || c->every->keep[i] != c->every->keep[i - 1])
                d->keep[d->keep_count++] = c->every->keep[i];
    }
    d->count = d->total / d->every_n * d->keep_count;
    for (int64_t i = 0; i < d->keep_count; i++) d->count += d->keep[i] < d->total % d->every_n;
    if (d->count == 0)
        return espl__desc_fail(d, ESPL_INVALID, c->every ? "every" : "kind", diag,
                               "selects none of the %" PRId64 " samples of %s", d->total, d->source);
    if (c->count > d->count)
        return espl__desc_fail(d, ESPL_INVALID, "count", diag,
                               "asks for %" PRId64 " samples; there are %" PRId64, c->count, d->count);
    if (c->count) d->count = c->count;
    return ESPL_OK;
}

static int64_t source_index(const espl_dataset *d, int64_t index) {
    return index / d->keep_count * d->every_n + d->keep[index % d->keep_count];
}

/* --- preprocessing --------------------------------------------------------------------------------- */

/* A number, or a quotient such as 1/255; 0 if it is neither. */
static double parse_quotient(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text) return 0;
    if (*end == '/') {
        const char *divisor = end + 1;
        value /= strtod(divisor, &end);
        if (end == divisor) return 0;
    }
    return *end == 0 && isfinite(value) ? value : 0;
}

static espl_status parse_scale(espl_dataset *d, espl_diag *diag) {
    const char *text = d->desc->scale;
    d->scale = 1;
    if (!text) return ESPL_OK;
    /* strtod wants the decimal point of the program's locale; ours is always the C locale's. */
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!c) return espl__nomem(diag, 1024);
    locale_t before = uselocale(c);
    d->scale = parse_quotient(text);
    uselocale(before);
    freelocale(c);
    if (d->scale != 0) return ESPL_OK;
    return espl__desc_fail(d, ESPL_INVALID, "scale", diag,
                           "'%s' is neither a number nor a quotient such as 1/255", text);
}

static int64_t channel_count(const espl_dataset *d) {
    const espl_shape *s = &d->shape[0];
    return s->rank == 0 ? 1 : s->dim[d->nhwc ? s->rank - 1 : 0];
}

/* One value for all channels or one for each. */
static espl_status check_per_channel(const espl_dataset *d, const char *key, const double *values,
                                     unsigned count, espl_diag *diag) {
    if (!values) return ESPL_OK;
    if (d->inputs > 1)
        return espl__desc_fail(d, ESPL_UNSUPPORTED, key, diag,
                               "is for data sets of one input; normalise the files instead");
    if (count != 1 && (int64_t)count != channel_count(d))
        return espl__desc_fail(d, ESPL_SHAPE, key, diag,
                               "has %u values; give 1, or one for each of the %" PRId64 " channels", count,
                               channel_count(d));
    for (unsigned i = 0; i < count; i++)
        if (!isfinite(values[i]) || (key[0] == 's' && values[i] == 0))
            return espl__desc_fail(d, ESPL_INVALID, key, diag, "value %u is zero or not finite", i + 1);
    return ESPL_OK;
}

espl__affine espl__dataset_affine(const espl_dataset *d, int64_t channel) {
    const espl__data_desc *c = d->desc;
    return (espl__affine){d->scale, c->mean ? c->mean[c->mean_count > 1 ? channel : 0] : 0,
                          c->std ? c->std[c->std_count > 1 ? channel : 0] : 1};
}

static void normalise(const espl_dataset *d, int input, float *x) {
    const espl__data_desc *c = d->desc;
    if (d->scale == 1 && !c->mean && !c->std) return;
    int64_t channels = c->mean || c->std ? channel_count(d) : 1, count = espl_shape_count(&d->shape[input]);
    if (count == 0) return;
    int64_t inner = d->nhwc ? 1 : count / channels, outer = count / channels / inner;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t channel = 0; channel < channels; channel++, x += inner) {
            espl__affine a = espl__dataset_affine(d, channel);
            for (int64_t i = 0; i < inner; i++) x[i] = espl__affine_apply(a, x[i]);
        }
}

/* Augmentation moves pixels of one image. */
static espl_status check_augment(const espl_dataset *d, espl_diag *diag) {
    const espl__data_augment *a = d->desc->augment;
    const espl_shape *s = &d->shape[0];
    char text[128];
    if (!a) return ESPL_OK;
    if (d->inputs > 1 || s->rank != 3)
        return espl__desc_fail(d, ESPL_SHAPE, "augment", diag,
                               "is for images of channels, height and width; samples here are %s",
                               d->inputs > 1 ? "several arrays" : espl_shape_text(s, text, sizeof text));
    int64_t side = d->nhwc ? ESPL_MIN(s->dim[0], s->dim[1]) : ESPL_MIN(s->dim[1], s->dim[2]);
    if (a->pad >= side || a->cutout > side)
        return espl__desc_fail(d, ESPL_INVALID, a->pad >= side ? "augment.pad" : "augment.cutout", diag,
                               "is too large for images of %s", espl_shape_text(s, text, sizeof text));
    return ESPL_OK;
}

static void lay_out(const espl_dataset *d, const espl__picture *p, float *sample) {
    int64_t pixels = (int64_t)p->height * p->width;
    if (!d->nhwc || p->channels == 1) {
        memcpy(sample, p->data, sizeof(float) * (size_t)(pixels * p->channels));
        return;
    }
    for (int64_t i = 0; i < pixels; i++)
        for (int c = 0; c < p->channels; c++) sample[i * p->channels + c] = p->data[c * pixels + i];
}

/* Decodes sample `index` (before selection) into d->picture, resized and cropped. */
static espl_status prepare_picture(espl_dataset *d, int64_t index, espl_diag *diag) {
    espl_status status = ESPL_OK;
    ESPL_TRY(d->kind->picture(d, index, &d->picture, diag));
    if (d->desc->resize) ESPL_TRY(espl__picture_resize(&d->picture, &d->temporary, d->desc->resize, diag));
    if (d->desc->crop) ESPL_TRY(espl__picture_crop(&d->picture, d->desc->crop, diag));
done:
    if (status != ESPL_OK) espl__diag_prefix(diag, "%s: sample %" PRId64, d->file, index);
    return status;
}

static espl_shape picture_shape(const espl_dataset *d, const espl__picture *p) {
    if (d->nhwc) return (espl_shape){3, {p->height, p->width, p->channels}};
    return (espl_shape){3, {p->channels, p->height, p->width}};
}

/* --- open and close ---------------------------------------------------------------------------------- */

static void write_description(espl_dataset *d) {
    char shape[128];
    snprintf(d->describe, sizeof d->describe, "%s%s%.200s, %" PRId64 " samples of %s", d->kind->name,
             *d->source ? " " : "", d->source, d->count, espl_shape_text(&d->shape[0], shape, sizeof shape));
    for (int i = 1; i < d->inputs; i++) {
        size_t used = strlen(d->describe);
        snprintf(d->describe + used, sizeof d->describe - used, " and %s",
                 espl_shape_text(&d->shape[i], shape, sizeof shape));
    }
    size_t used = strlen(d->describe);
    if (d->tokens)
        snprintf(d->describe + used, sizeof d->describe - used, ", %" PRId64 " tokens of %" PRId64,
                 d->token_count, d->vocabulary);
}

/* `count` ends a text behind the last label of its samples. */
static void cut_text(espl_dataset *d) {
    if (d->tokens && d->desc->count) d->token_count = d->count * d->shape[0].dim[0] + 1;
}

espl_status espl_dataset_open(espl_context *ctx, const char *spec, espl_dataset **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    *out = NULL;
    espl_dataset *d = espl__calloc(ctx, 1, sizeof *d);
    if (!d) return espl__nomem(diag, sizeof *d);
    d->ctx = d->picture.ctx = d->temporary.ctx = ctx;
    d->source = "";
    espl__arena_init(&d->arena, ctx);
    ESPL_TRY(espl__desc_read(d, spec, diag));
    d->nhwc = d->desc->layout && strcmp(d->desc->layout, "nhwc") == 0;
    d->inputs = 1;
    d->input_name[0] = "";
    ESPL_TRY(d->kind->open(d, diag));
    ESPL_TRY(select_samples(d, diag));
    if (d->kind->picture) {
        ESPL_TRY(prepare_picture(d, source_index(d, 0), diag));
        d->shape[0] = picture_shape(d, &d->picture);
    }
    ESPL_TRY(parse_scale(d, diag));
    ESPL_TRY(check_per_channel(d, "mean", d->desc->mean, d->desc->mean_count, diag));
    ESPL_TRY(check_per_channel(d, "std", d->desc->std, d->desc->std_count, diag));
    ESPL_TRY(check_augment(d, diag));
    cut_text(d);
    write_description(d);
    *out = d;
    d = NULL;
done:
    espl_dataset_close(&d);
    return status;
}

void espl_dataset_close(espl_dataset **dataset) {
    espl_dataset *d = *dataset;
    if (!d) return;
    if (d->kind && d->kind->close) d->kind->close(d);
    espl__picture_free(&d->picture);
    espl__picture_free(&d->temporary);
    espl__desc_free(d);
    espl__arena_free(&d->arena);
    espl__free(d->ctx, d);
    *dataset = NULL;
}

/* --- queries ------------------------------------------------------------------------------------------- */

int64_t espl_dataset_count(const espl_dataset *d) {
    return d->count;
}
bool espl_dataset_has_labels(const espl_dataset *d) {
    return d->has_labels;
}
int espl_dataset_inputs(const espl_dataset *d) {
    return d->inputs;
}
int64_t espl_dataset_vocabulary(const espl_dataset *d) {
    return d->vocabulary;
}
const int32_t *espl_dataset_tokens(const espl_dataset *d, int64_t *count) {
    *count = d->token_count;
    return d->tokens;
}
const char *espl_dataset_describe(const espl_dataset *d) {
    return d->describe;
}

const char *espl_dataset_input_name(const espl_dataset *d, int input) {
    return input >= 0 && input < d->inputs ? d->input_name[input] : "";
}

espl_shape espl_dataset_shape(const espl_dataset *d, int input) {
    return input >= 0 && input < d->inputs ? d->shape[input] : (espl_shape){0};
}

static espl_status check_index(const espl_dataset *d, int input, int64_t index, espl_diag *diag) {
    if (input < 0 || input >= d->inputs)
        return espl__fail(diag, ESPL_INVALID, "%s: input %d asked for; there are %d", d->file, input,
                          d->inputs);
    if (index < 0 || index >= d->count)
        return espl__fail(diag, ESPL_INVALID, "%s: sample %" PRId64 " asked for; there are %" PRId64, d->file,
                          index, d->count);
    return ESPL_OK;
}

espl_status espl__dataset_raw(espl_dataset *d, int input, int64_t index, float *sample, espl_diag *diag) {
    espl_status status = check_index(d, input, index, diag);
    if (status != ESPL_OK) return status;
    int64_t i = source_index(d, index);
    if (d->kind->picture) {
        ESPL_TRY(prepare_picture(d, i, diag));
        espl_shape shape = picture_shape(d, &d->picture);
        char have[128], want[128];
        if (!espl_shape_equal(&shape, &d->shape[0])) {
            status = espl__fail(diag, ESPL_SHAPE,
                                "%s: sample %" PRId64 " is %s where the first is %s; give resize, crop "
                                "and channels",
                                d->file, i, espl_shape_text(&shape, have, sizeof have),
                                espl_shape_text(&d->shape[0], want, sizeof want));
            goto done;
        }
        lay_out(d, &d->picture, sample);
    } else {
        ESPL_TRY(d->kind->read(d, input, i, sample, diag));
    }
done:
    return status;
}

espl_status espl_dataset_read(espl_dataset *d, int input, int64_t index, float *sample, espl_diag *diag) {
    espl_status status = espl__dataset_raw(d, input, index, sample, diag);
    if (status == ESPL_OK) normalise(d, input, sample);
    return status;
}

espl_status espl_dataset_label(espl_dataset *d, int64_t index, int64_t *label, espl_diag *diag) {
    *label = -1;
    espl_status status = check_index(d, 0, index, diag);
    if (status != ESPL_OK || !d->has_labels) return status;
    status = d->kind->label(d, source_index(d, index), label, diag);
    if (status == ESPL_OK) *label += d->desc->label_offset;
    return status;
}
