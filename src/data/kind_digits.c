/* digits: the built-in generator as a data set; nothing to read. */
#include "data/data.h"
#include "data/digits.h"

static espl__split split_of(const espl_dataset *d) {
    return d->desc->split && strcmp(d->desc->split, "train") == 0 ? ESPL__TRAIN : ESPL__TEST;
}

static espl_status digits_open(espl_dataset *d, espl_diag *diag) {
    espl__data_desc *c = d->desc;
    if (c->split && strcmp(c->split, "train") != 0 && strcmp(c->split, "test") != 0)
        return espl__desc_fail(d, ESPL_INVALID, "split", diag, "'%s' is neither train nor test", c->split);
    bool train = split_of(d) == ESPL__TRAIN;
    d->source = train ? "train" : "test";
    d->has_labels = true;
    /* There is no end to the samples: these are the usual numbers, and `count` may ask for more. */
    d->total = train ? 10000 : 2000;
    int64_t group = c->every ? c->every->n : 1;
    if (c->count > d->total / group) d->total = c->count > INT64_MAX / group ? c->count : c->count * group;
    return ESPL_OK;
}

static espl_status digits_picture(espl_dataset *d, int64_t index, espl__picture *picture, espl_diag *diag) {
    uint8_t pixels[ESPL__DIGIT_PIXELS];
    espl_status status = espl__picture_size(picture, 1, ESPL__DIGIT_SIDE, ESPL__DIGIT_SIDE, diag);
    if (status != ESPL_OK) return status;
    espl__digit_draw(d->desc->seed, split_of(d), index, pixels);
    for (int i = 0; i < ESPL__DIGIT_PIXELS; i++) picture->data[i] = (float)pixels[i] / 255.0f;
    return ESPL_OK;
}

static espl_status digits_label(espl_dataset *d, int64_t index, int64_t *label, espl_diag *diag) {
    (void)diag;
    *label = espl__digit_label(d->desc->seed, split_of(d), index);
    return ESPL_OK;
}

const espl__data_kind espl__data_kind_digits = {
    .name = "digits",
    .keys = ESPL__KEY_NUMBERS | ESPL__KEY_SPLIT | ESPL__KEY_SEED | ESPL__KEY_PICTURE,
    .open = digits_open,
    .picture = digits_picture,
    .label = digits_label,
};
