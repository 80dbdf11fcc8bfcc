/* Histograms of any range in 2048 bins. */
#include "compress/quant/observer.h"

#include <float.h>
#include <math.h>

enum {
    LANES = 32,  /* so many that compilers keep the loop and vectorise it */
    RUN = 256,   /* elements whose bins are found at a time */
    MANY = 4096, /* elements from which four tables pay for being added up */
    MASK = ESPL__BINS - 1,
    LEAST = -126, /* exponents: the factors 2^exponent and 2^-exponent are normal numbers */
    MOST = 118    /* FLT_MAX is then in bin 1023 */
};

/* floor(x / 2^exponent) of any x: widths are powers of two, so quotients are exact. */
static int64_t floor_at(float x, int exponent) {
    return (int64_t)floor(ldexp((double)x, -exponent));
}

int32_t espl__bin_of(const espl__histogram *h, float x) {
    return (int32_t)floor_at(x, h->exponent);
}

int64_t espl__histogram_zeros(const espl__histogram *h) {
    int64_t zeros = 0;
    for (int k = ESPL__BINS; k < ESPL__SLOTS; k++) zeros += h->bins[k];
    return zeros;
}

/* The least exponent with which 2048 bins hold min <= 0 <= max. */
static int exponent_for(float min, float max) {
    int e;
    float most = fmaxf(max, -min);
    if (most == 0) return LEAST;
    (void)frexpf(most, &e); /* both are below 2^e */
    e = ESPL_MAX(e - 12, LEAST);
    while (floor_at(max, e) - floor_at(min, e) >= ESPL__BINS) e++;
    return ESPL_MIN(e, MOST);
}

void espl__histogram_fit(espl__histogram *h, const range *r, float min, float max) {
    int64_t old[ESPL__BINS];
    int exponent = exponent_for(min, max), by = exponent - h->exponent;
    if (h->count == 0) h->exponent = exponent;
    if (h->count == 0 || by <= 0) return;
    int32_t first = espl__bin_of(h, r->min), last = espl__bin_of(h, r->max);
    memcpy(old, h->bins, sizeof old);
    memset(h->bins, 0, sizeof old);
    by = ESPL_MIN(by, 31);
    for (int32_t k = first; k <= last; k++) { /* towards minus infinity, as floor does */
        int32_t to = k < 0 ? ~(~k >> by) : k >> by;
        h->bins[to & MASK] += old[k & MASK];
    }
    h->exponent = exponent;
}

bool espl__extremes(const float *x, int64_t count, float *min, float *max) {
    float lo[LANES] = {0}, hi[LANES] = {0}, odd[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++) { /* 0 * infinity and 0 * NaN are NaN */
            lo[l] = x[i + l] < lo[l] ? x[i + l] : lo[l];
            hi[l] = x[i + l] > hi[l] ? x[i + l] : hi[l];
            odd[l] += x[i + l] * 0.0f;
        }
    for (int l = 0; l < LANES && i + l < count; l++) {
        lo[l] = x[i + l] < lo[l] ? x[i + l] : lo[l];
        hi[l] = x[i + l] > hi[l] ? x[i + l] : hi[l];
        odd[l] += x[i + l] * 0.0f;
    }
    bool finite = true;
    *min = *max = 0;
    for (int l = 0; l < LANES; l++) {
        *min = fminf(*min, lo[l]);
        *max = fmaxf(*max, hi[l]);
        finite = finite && odd[l] == 0;
    }
    if (finite) return true;
    *min = *max = 0;
    for (i = 0; i < count; i++) {
        if (!(fabsf(x[i]) <= FLT_MAX)) continue;
        *min = fminf(*min, x[i]);
        *max = fmaxf(*max, x[i]);
    }
    return false;
}

/* Where `count` <= RUN elements are counted. */
static void find_slots(float inverse, float width, const float *x, int count, int32_t *slots) {
    for (int i = 0; i < count; i++) {
        int32_t k = (int32_t)(x[i] * inverse);
        k -= (float)k * width > x[i]; /* truncated to floor; x * inverse may have become -0 */
        slots[i] = x[i] == 0 ? ESPL__BINS + (i & 15) : k & MASK;
    }
}

/* Neighbours are often alike: with four tables none waits for the one before. */
static void add_many(espl__histogram *h, float inverse, float width, const float *x, int64_t count,
                     espl__tally *tally) {
    int32_t slots[RUN];
    for (int64_t i = 0; i < count; i += RUN) {
        int n = (int)ESPL_MIN(count - i, RUN), k = 0;
        find_slots(inverse, width, x + i, n, slots);
        for (; k + 4 <= n; k += 4) {
            tally->slots[0][slots[k]]++;
            tally->slots[1][slots[k + 1]]++;
            tally->slots[2][slots[k + 2]]++;
            tally->slots[3][slots[k + 3]]++;
        }
        for (; k < n; k++) tally->slots[0][slots[k]]++;
    }
    for (int k = 0; k < ESPL__SLOTS; k++)
        for (int t = 0; t < 4; t++) h->bins[k] += tally->slots[t][k];
    memset(tally, 0, sizeof *tally);
}

static void add_few(espl__histogram *h, float inverse, float width, const float *x, int64_t count) {
    int32_t slots[RUN];
    for (int64_t i = 0; i < count; i += RUN) {
        int n = (int)ESPL_MIN(count - i, RUN);
        find_slots(inverse, width, x + i, n, slots);
        for (int k = 0; k < n; k++) h->bins[slots[k]]++;
    }
}

void espl__histogram_add(espl__histogram *h, const float *x, int64_t count, espl__tally *tally) {
    const float inverse = ldexpf(1, -h->exponent), width = ldexpf(1, h->exponent);
    const int64_t piece = 1 << 30; /* 32 bits count them */
    h->count += count;
    for (int64_t n; count > 0; x += n, count -= n) {
        n = ESPL_MIN(count, piece);
        if (n < MANY)
            add_few(h, inverse, width, x, n);
        else
            add_many(h, inverse, width, x, n, tally);
    }
}
