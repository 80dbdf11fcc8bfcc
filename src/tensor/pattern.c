/* Sparsity patterns: their names and parameters as text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tensor/tensor.h"

static const struct {
    const char *name, *parameters;
} patterns[] = {
#define X(NAME, name, parameters, text) {name, parameters},
    ESPL_PATTERN_LIST(X)
#undef X
};

const char *espl_pattern_name(espl_pattern p) {
    return (unsigned)p < ESPL_PATTERN_COUNT ? patterns[p].name : "?";
}

bool espl_pattern_parse(const char *name, espl_pattern *out) {
    for (int i = 0; i < ESPL_PATTERN_COUNT; i++)
        if (strcmp(name, patterns[i].name) == 0) {
            *out = (espl_pattern)i;
            return true;
        }
    return false;
}

static bool by_banks(const espl_sparsity *s) {
    return s->pattern == ESPL_PATTERN_NM || s->pattern == ESPL_PATTERN_BANK;
}

double espl_sparsity_share(const espl_sparsity *s) {
    if (by_banks(s)) return s->m ? 1 - (double)s->n / s->m : 0;
    return s->pattern == ESPL_PATTERN_DENSE ? 0 : (double)s->share;
}

bool espl__sparsity_implies(const espl_sparsity *a, const espl_sparsity *b) {
    if (b->pattern == ESPL_PATTERN_DENSE) return true;
    if (by_banks(a) && by_banks(b)) return b->m % a->m == 0 && (int64_t)a->n * (b->m / a->m) <= b->n;
    if (a->pattern != b->pattern || a->rows != b->rows || a->columns != b->columns) return false;
    return a->share > b->share - 1e-6f;
}

const char *espl_sparsity_text(const espl_sparsity *s, char *buf, size_t size) {
    const char *name = espl_pattern_name(s->pattern);
    double percent = 100 * (double)s->share;
    switch (s->pattern) {
        case ESPL_PATTERN_NM:
            snprintf(buf, size, "%d:%d", s->n, s->m);
            break;
        case ESPL_PATTERN_BANK:
            snprintf(buf, size, "%s %d:%d", name, s->n, s->m);
            break;
        case ESPL_PATTERN_BLOCK:
            snprintf(buf, size, "%s %dx%d %.7g%%", name, s->rows, s->columns, percent);
            break;
        case ESPL_PATTERN_DENSE:
            snprintf(buf, size, "%s", name);
            break;
        default:
            snprintf(buf, size, "%s %.7g%%%s", name, percent, s->global ? " global" : "");
    }
    return buf;
}

const char *espl_sparsity_forms(char *buf, size_t size) {
    size_t used = 0;
    if (size) *buf = 0;
    for (int i = 0; i < ESPL_PATTERN_COUNT && used < size; i++) {
        const char *name = patterns[i].name, *parameters = patterns[i].parameters;
        bool bare = i == ESPL_PATTERN_NM;
        used += (size_t)snprintf(buf + used, size - used, "%s%s%s%s", i ? ", " : "", bare ? "" : name,
                                 bare || !*parameters ? "" : " ", parameters);
    }
    return buf;
}

bool espl_sparsity_equal(const espl_sparsity *a, const espl_sparsity *b) {
    if (by_banks(a) && by_banks(b)) return a->n == b->n && a->m == b->m;
    if (a->pattern != b->pattern || a->pattern == ESPL_PATTERN_DENSE) return a->pattern == b->pattern;
    bool blocks = a->pattern != ESPL_PATTERN_BLOCK || (a->rows == b->rows && a->columns == b->columns);
    return blocks && fabsf(a->share - b->share) < 1e-6f && a->global == b->global;
}

/* A positive integer up to ESPL_BANK_MAX, then `end`; moves *text behind it. */
static bool whole(const char **text, char end, int32_t *out) {
    char *stop;
    if (**text < '1' || **text > '9') return false;
    long v = strtol(*text, &stop, 10);
    if (v > ESPL_BANK_MAX || *stop != end) return false;
    *out = (int32_t)v;
    *text = stop + (end != 0);
    return true;
}

/* "90%", then nothing or, where it has a meaning, " global". The digits are read by hand: strtod goes by the
 * program's locale. */
static bool share(const char *text, float *out, bool *global) {
    double v = 0, unit = 1;
    bool point = false, digits = false;
    for (; (*text >= '0' && *text <= '9') || (*text == '.' && !point); text++) {
        point |= *text == '.';
        if (*text == '.') continue;
        digits = true;
        if (v > 100) return false;
        if (point)
            v += (*text - '0') * (unit /= 10);
        else
            v = 10 * v + (*text - '0');
    }
    if (!digits || *text != '%' || v > 100) return false;
    *out = (float)(v / 100);
    if (!global || strcmp(text, "% global") != 0) return text[1] == 0;
    return *global = true;
}

static bool parameters(espl_sparsity *s, const char *text) {
    switch (s->pattern) {
        case ESPL_PATTERN_NM:
        case ESPL_PATTERN_BANK:
            return whole(&text, ':', &s->n) && whole(&text, 0, &s->m) && s->n < s->m;
        case ESPL_PATTERN_BLOCK:
            return whole(&text, 'x', &s->rows) && whole(&text, ' ', &s->columns) &&
                   share(text, &s->share, NULL);
        case ESPL_PATTERN_DENSE:
            return *text == 0;
        case ESPL_PATTERN_UNSTRUCTURED:
            return share(text, &s->share, &s->global);
        default:
            return share(text, &s->share, NULL);
    }
}

bool espl_sparsity_parse(const char *text, espl_sparsity *out) {
    espl_sparsity s = {0};
    char name[16];
    size_t length = strcspn(text, " ");
    if (*text >= '1' && *text <= '9') {
        s.pattern = ESPL_PATTERN_NM;
    } else {
        if (length >= sizeof name) return false;
        memcpy(name, text, length);
        name[length] = 0;
        if (!espl_pattern_parse(name, &s.pattern)) return false;
        text += length;
        if (*text == ' ') text++;
    }
    if (!parameters(&s, text)) return false;
    *out = s;
    return true;
}

bool espl__matrix_of(const espl_shape *shape, int row_axis, int inner_axis, espl__matrix *out) {
    int64_t step[ESPL_MAX_RANK] = {0}, next = 1, tap_end = -1;
    if (row_axis < 0 || inner_axis < 0 || row_axis == inner_axis || row_axis >= shape->rank ||
        inner_axis >= shape->rank || espl_shape_count(shape) <= 0)
        return false;
    for (int i = shape->rank - 1; i >= 0; i--) {
        step[i] = next;
        next *= shape->dim[i];
    }
    *out = (espl__matrix){.rows = shape->dim[row_axis],
                          .taps = 1,
                          .inputs = shape->dim[inner_axis],
                          .by_row = step[row_axis],
                          .by_input = step[inner_axis]};
    for (int i = shape->rank - 1; i >= 0; i--) {
        if (i == row_axis || i == inner_axis || shape->dim[i] == 1) continue;
        if (tap_end >= 0 && step[i] != tap_end) return false;
        if (tap_end < 0) out->by_tap = step[i];
        out->taps *= shape->dim[i];
        tap_end = step[i] * shape->dim[i];
    }
    return true;
}

espl__unit espl__pattern_unit(const espl_sparsity *pattern, const espl__matrix *m) {
    espl__unit u = {.rows = 1, .taps = 1, .inputs = 1};
    switch (pattern->pattern) {
        case ESPL_PATTERN_BLOCK:
            u.rows = pattern->rows;
            u.inputs = pattern->columns;
            break;
        case ESPL_PATTERN_ROW:
            u.taps = m->taps;
            u.inputs = m->inputs;
            break;
        case ESPL_PATTERN_COLUMN:
            u.rows = m->rows;
            break;
        case ESPL_PATTERN_KERNEL:
            u.taps = m->taps;
            break;
        default:
            break;
    }
    u.high = (m->rows + u.rows - 1) / u.rows;
    u.deep = (m->taps + u.taps - 1) / u.taps;
    u.wide = (m->inputs + u.inputs - 1) / u.inputs;
    return u;
}

int64_t espl__unit_size(const espl__unit *u, const espl__matrix *m, int64_t index) {
    int64_t input = index % u->wide * u->inputs, tap = index / u->wide % u->deep * u->taps;
    int64_t row = index / u->wide / u->deep * u->rows;
    return ESPL_MIN(u->rows, m->rows - row) * ESPL_MIN(u->taps, m->taps - tap) *
           ESPL_MIN(u->inputs, m->inputs - input);
}
