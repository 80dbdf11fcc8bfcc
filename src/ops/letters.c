/* The table is ours and not the C library's: towlower knows what the program's locale knows, which is ASCII
 * until someone sets one, and results would differ from machine to machine. */
#include "ops/letters.h"
#include "base/base.h"

/* Code points first, first + step, ..., `count` of them, become themselves + delta. Runs do not overlap. */
typedef struct letters {
    uint32_t first;
    uint16_t count;
    uint8_t step;
    int32_t delta;
} letters;

#include "ops/letters.inc.h"

enum { NOT_UTF8 = 0x40000000 }; /* a byte of its own, behind all code points */

static uint32_t map(const letters *table, size_t count, uint32_t c) {
    size_t low = 0, high = count; /* the last run that begins at c or before */
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        *(table[middle].first <= c ? &low : &high) = middle;
    }
    const letters *r = &table[low];
    const bool in =
        c >= r->first && c - r->first < (uint32_t)r->count * r->step && (c - r->first) % r->step == 0;
    return in ? (uint32_t)((int32_t)c + r->delta) : c;
}

static uint32_t change(espl__case to, uint32_t c) {
    if (to == ESPL__CASE_LOWER) return map(to_lower, ESPL_COUNT(to_lower), c);
    return to == ESPL__CASE_UPPER ? map(to_upper, ESPL_COUNT(to_upper), c) : c;
}

/* The code point at `at`, which moves behind it; overlong forms and surrogates are none (RFC 3629). */
static uint32_t next(const espl_text *text, uint64_t *at) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const uint8_t *p = (const uint8_t *)text->bytes + *at;
    const int more = *p < 0x80                 ? 0
                     : *p >= 0xc2 && *p < 0xe0 ? 1
                     : *p >= 0xe0 && *p < 0xf0 ? 2
                     : *p >= 0xf0 && *p < 0xf5 ? 3
                                               : -1;
    uint32_t c = more <= 0 ? *p : *p & (0x3f >> more);
    bool good = more >= 0 && text->length - *at > (uint64_t)more;
    for (int i = 1; good && i <= more; i++) {
        good = (p[i] & 0xc0) == 0x80;
        c = c << 6 | (p[i] & 0x3f);
    }
    good = good && c >= least[more] && c <= 0x10ffff && !(c >= 0xd800 && c < 0xe000);
    *at += good ? (uint64_t)more + 1 : 1;
    return good ? c : NOT_UTF8 | *p;
}

static uint64_t put(uint32_t c, char *out) {
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    if (c < 0x80 || c & NOT_UTF8) {
        out[0] = (char)(c & 0xff);
        return 1;
    }
    const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out[0] = (char)(uint8_t)(lead[more] | c >> 6 * more);
    for (int i = 1; i <= more; i++) out[i] = (char)(uint8_t)(0x80 | (c >> 6 * (more - i) & 0x3f));
    return (uint64_t)more + 1;
}

uint64_t espl__case_change(espl__case to, const espl_text *text, char *out) {
    uint64_t length = 0;
    for (uint64_t at = 0; at < text->length;) length += put(change(to, next(text, &at)), out + length);
    return length;
}

int espl__case_compare(espl__case in, const espl_text *a, const espl_text *b) {
    for (uint64_t i = 0, j = 0;;) {
        if (i == a->length || j == b->length) return (i < a->length) - (j < b->length);
        const uint32_t x = change(in, next(a, &i)), y = change(in, next(b, &j));
        if (x != y) return x < y ? -1 : 1;
    }
}
