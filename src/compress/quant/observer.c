/* The rows of ESPL__OBSERVER_LIST: names, and what each does with samples. */
#include "compress/quant/observer.h"

#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct row {
    const char *name, *parameter;
    double least, most, usual;
} rows[ESPL__OBSERVER_COUNT] = {
#define X(NAME, name, parameter, least, most, usual, text) {name, parameter, least, most, usual},
    ESPL__OBSERVER_LIST(X)
#undef X
};

bool espl__observer_parse(const char *text, espl__observer *out) {
    for (int i = 0; i < ESPL__OBSERVER_COUNT; i++) {
        size_t length = strlen(rows[i].name);
        const char *rest = text + length;
        char *end;
        if (strncmp(text, rows[i].name, length) != 0) continue;
        *out = (espl__observer){(espl__observer_kind)i, rows[i].usual};
        if (*rest == 0) return true;
        if (*rest != ' ' || !*rows[i].parameter || !(isdigit((unsigned char)rest[1]) || rest[1] == '.'))
            continue;
        out->parameter = strtod(rest, &end);
        return *end == 0 && out->parameter >= rows[i].least && out->parameter <= rows[i].most;
    }
    return false;
}

const char *espl__observer_text(const espl__observer *observer, char *buf, size_t size) {
    const struct row *row = &rows[observer->kind];
    if (*row->parameter)
        snprintf(buf, size, "%s %.12g", row->name, observer->parameter);
    else
        snprintf(buf, size, "%s", row->name);
    return buf;
}

const char *espl__observer_forms(char *buf, size_t size) {
    size_t used = 0;
    *buf = 0;
    for (int i = 0; i < ESPL__OBSERVER_COUNT && used < size; i++) {
        int n = snprintf(buf + used, size - used, *rows[i].parameter ? "%s%s [%s, %g to %g]" : "%s%s",
                         i ? ", " : "", rows[i].name, rows[i].parameter, rows[i].least, rows[i].most);
        used += n > 0 ? (size_t)n : size;
    }
    return buf;
}

bool espl__observer_counts(const espl__observer *observer) {
    return observer->kind == ESPL__OBSERVER_PERCENTILE || observer->kind == ESPL__OBSERVER_MSE ||
           observer->kind == ESPL__OBSERVER_KL;
}

/* --- samples ------------------------------------------------------------------------------------------- */

/* Jacob et al. 2018: exponential moving averages of the two ends. */
static void average(range *r, float min, float max) {
    double m = r->seen ? r->observer.parameter : 0;
    r->min = (float)(m * r->min + (1 - m) * min);
    r->max = (float)(m * r->max + (1 - m) * max);
}

static void count(range *r, const float *x, int64_t n, bool finite, espl__tally *tally) {
    if (finite) {
        espl__histogram_add(r->histogram, x, n, tally);
        return;
    }
    float kept[256];
    int k = 0;
    for (int64_t i = 0; i < n; i++) {
        if (fabsf(x[i]) <= FLT_MAX) kept[k++] = x[i];
        if (k < (int)ESPL_COUNT(kept) && i + 1 < n) continue;
        espl__histogram_add(r->histogram, kept, k, tally);
        k = 0;
    }
}

static void observe_sample(range *r, const float *x, int64_t n, espl__tally *tally) {
    float min, max;
    bool finite = espl__extremes(x, n, &min, &max);
    if (r->observer.kind == ESPL__OBSERVER_AVERAGE) {
        average(r, min, max);
    } else {
        min = fminf(min, r->min);
        max = fmaxf(max, r->max);
        if (r->histogram) espl__histogram_fit(r->histogram, r, min, max);
        r->min = min;
        r->max = max;
        if (r->histogram) count(r, x, n, finite, tally);
    }
    r->seen++;
}

void espl__range_observe(range *r, const float *x, int64_t samples, int64_t size, espl__tally *tally) {
    for (int64_t i = 0; i < samples; i++) observe_sample(r, x + i * size, size, tally);
}

/* --- ranges -------------------------------------------------------------------------------------------- */

static espl_status copy_histogram(espl_context *ctx, range *into, const range *from, espl_diag *diag) {
    into->histogram = espl__alloc(ctx, sizeof *into->histogram);
    if (!into->histogram) return espl__nomem(diag, sizeof *into->histogram);
    *into->histogram = *from->histogram;
    return ESPL_OK;
}

/* The bins of `from` are no wider than those of the union. */
static void add_histogram(range *into, const range *from, float min, float max) {
    espl__histogram *h = into->histogram, other = *from->histogram;
    espl__histogram_fit(h, into, min, max);
    espl__histogram_fit(&other, from, min, max);
    if (h->count == 0) h->exponent = other.exponent;
    for (int k = 0; k < ESPL__SLOTS; k++) h->bins[k] += other.bins[k];
    h->count += other.count;
}

espl_status espl__range_merge(espl_context *ctx, range *into, const range *from, espl_diag *diag) {
    espl_status status = ESPL_OK;
    float min = fminf(into->min, from->min), max = fmaxf(into->max, from->max);
    if (!from->seen) return ESPL_OK;
    if (!into->seen) {
        into->observer = from->observer;
        if (from->histogram) status = copy_histogram(ctx, into, from, diag);
    } else if (into->histogram && from->histogram) {
        add_histogram(into, from, min, max);
    } else { /* one of them has not counted: what they share is the range */
        espl__range_free(ctx, into);
    }
    into->min = min;
    into->max = max;
    into->seen += from->seen;
    return status;
}

void espl__range_free(espl_context *ctx, range *r) {
    espl__free(ctx, r->histogram);
    r->histogram = NULL;
}

void espl__range_settle(range *r, const espl__grid *grid) {
    if (!r->histogram || r->histogram->count == 0) return;
    switch (r->observer.kind) {
        case ESPL__OBSERVER_PERCENTILE:
            espl__clip_percentile(r);
            break;
        case ESPL__OBSERVER_MSE:
            espl__clip_mse(r, grid);
            break;
        case ESPL__OBSERVER_KL:
            espl__clip_kl(r, grid);
            break;
        default:
            break;
    }
    r->observer = (espl__observer){0};
}
