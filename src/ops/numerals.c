#include "ops/numerals.h"
#include "ops/ops.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LONGEST = 400 }; /* bytes of a numeral that is read: f64 has up to 309 digits before its point */

/* Decimal digits that tell every number of the type from its neighbours (max_digits10). */
static int digits_of(espl_dtype dtype) {
    switch (dtype) {
        case ESPL_F64:
            return 17;
        case ESPL_F32:
            return 9;
        case ESPL_F16:
            return 5;
        case ESPL_BF16:
            return 4;
        default:
            return 3;
    }
}

/* The point of printf and strtod follows the program's locale; that of numerals does not. All that is no
 * digit, sign or letter is that point. */
static int with_point(char *text, int length) {
    int at = 0;
    bool seen = false;
    for (int i = 0; i < length; i++) {
        const char c = text[i];
        const bool other = c != '-' && c != '+' && !(c >= '0' && c <= '9') && c != 'e';
        if (other && seen) continue;
        seen |= other;
        text[at++] = other ? '.' : c;
    }
    return at;
}

/* The fewest digits that bring back the element at `p`. */
static int fewest_digits(espl_dtype dtype, const void *p, double x, char *buf) {
    uint8_t back[8];
    for (int digits = 1; digits < digits_of(dtype); digits++) {
        snprintf(buf, ESPL__NUMERAL, "%.*e", digits - 1, x);
        const double y = strtod(buf, NULL);
        espl__store_f64(dtype, &y, 1, back);
        if (memcmp(back, p, espl_dtype_bytes(dtype)) == 0) return digits;
    }
    return digits_of(dtype);
}

/* With an exponent where it is below -4 or above 15. */
static int print_real(espl_dtype dtype, const void *p, char *out) {
    double x;
    espl__load_f64(dtype, p, 0, 1, &x);
    if (isnan(x)) return snprintf(out, ESPL__NUMERAL, "NaN");
    if (isinf(x)) return snprintf(out, ESPL__NUMERAL, x < 0 ? "-INF" : "INF");
    const int digits = fewest_digits(dtype, p, x, out);
    snprintf(out, ESPL__NUMERAL, "%.*e", digits - 1, x);
    const int exponent = (int)strtol(strchr(out, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent > 15) return with_point(out, (int)strlen(out));
    return with_point(out, snprintf(out, ESPL__NUMERAL, "%.*f", ESPL_MAX(digits - 1 - exponent, 0), x));
}

static int print(const espl_tensor *from, int64_t i, char *out) {
    const void *p = espl__at(from->data, from->dtype, i);
    int64_t whole;
    if (espl_dtype_is_float(from->dtype)) return print_real(from->dtype, p, out);
    espl__load_s64(from->dtype, p, 0, 1, &whole);
    if (from->dtype == ESPL_U64) return snprintf(out, ESPL__NUMERAL, "%" PRIu64, (uint64_t)whole);
    return snprintf(out, ESPL__NUMERAL, "%" PRId64, whole);
}

/* A zero-ended copy without spaces around, its point that of the locale if `real`; "" if it is longer than a
 * number. */
static const char *numeral(const espl_text *text, bool real, char *buf) {
    const char *p = text->bytes, *point = real ? localeconv()->decimal_point : ".";
    uint64_t n = text->length;
    size_t at = 0;
    for (; n && (*p == ' ' || *p == '\t'); n--) p++;
    while (n && (p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
    for (uint64_t i = 0; i < n; i++) {
        const size_t length = p[i] == '.' ? strlen(point) : 1;
        if (at + length >= LONGEST) return "";
        memcpy(buf + at, p[i] == '.' ? point : &p[i], length);
        at += length;
    }
    buf[at] = 0;
    return buf;
}

static double read_real(const espl_text *text) {
    char buf[LONGEST], *end;
    const char *start = numeral(text, true, buf);
    const double x = strtod(start, &end);
    return end == start || *end ? NAN : x;
}

/* Whole numbers exactly; others as their fraction falls away. */
static void read_whole(const espl_text *text, espl_dtype dtype, void *to) {
    char buf[LONGEST], *end;
    const char *start = numeral(text, false, buf);
    errno = 0;
    const int64_t x =
        dtype == ESPL_U64 && *start != '-' ? (int64_t)strtoull(start, &end, 10) : strtoll(start, &end, 10);
    if (end != start && !*end && errno == 0) {
        const double real = (double)x;
        if (dtype == ESPL_S64 || dtype == ESPL_U64)
            espl__store_s64(dtype, &x, 1, to);
        else
            espl__store_f64(dtype, &real, 1, to); /* saturates */
        return;
    }
    const double real = read_real(text);
    espl__store_f64(dtype, &real, 1, to);
}

void espl__numerals(const espl_tensor *from, espl_tensor *to) {
    const espl_text *e = from->data;
    const int64_t n = espl_shape_count(&from->shape);
    char *text = (char *)to->data + espl__tensor_bytes(to);
    for (int64_t i = 0; i < n; i++) {
        void *y = espl__at_mut(to->data, to->dtype, i);
        if (from->dtype != ESPL_STRING) {
            const int length = print(from, i, text);
            *(espl_text *)y = (espl_text){text, (uint64_t)length};
            text += length;
        } else if (to->dtype == ESPL_STRING) {
            *(espl_text *)y = e[i];
        } else if (espl_dtype_is_float(to->dtype)) {
            const double x = read_real(&e[i]);
            espl__store_f64(to->dtype, &x, 1, y);
        } else {
            read_whole(&e[i], to->dtype, y);
        }
    }
}
