/* Observers: what calibration keeps of a value's elements, and the range that a grid takes from it. An
 * observer is a row of the list; what the kinds compute is in docs/methods.md.
 *
 * Memory is two numbers a value, or a histogram of 2048 bins. All but the moving average are functions of the
 * multiset of elements: the order of samples, how they are grouped, and the number of threads change no bit.
 * The moving average goes by samples, one after the other. */
#ifndef ESPL_OBSERVER_H
#define ESPL_OBSERVER_H

#include "tensor/tensor.h"

/* X(NAME, name, what its parameter is ("": none), least, most, default, what it is) */
#define ESPL__OBSERVER_LIST(X)                                                          \
    X(MINMAX, "minmax", "", 0, 0, 0, "the smallest and the largest element")            \
    X(AVERAGE, "average", "momentum", 0, 1, 0.9,                                        \
      "moving average of the samples' smallest and largest elements")                   \
    X(PERCENTILE, "percentile", "per cent", 50, 100, 99.99,                             \
      "the elements that so many per cent are not above, and not below")                \
    X(MSE, "mse", "", 0, 0, 0, "the range whose grid has the least mean squared error") \
    X(KL, "kl", "", 0, 0, 0,                                                            \
      "the clip with the least Kullback-Leibler divergence between clipped and quantized elements")

typedef enum espl__observer_kind {
#define X(NAME, name, parameter, least, most, usual, text) ESPL__OBSERVER_##NAME,
    ESPL__OBSERVER_LIST(X)
#undef X
        ESPL__OBSERVER_COUNT
} espl__observer_kind;

/* All zero: minmax. */
typedef struct espl__observer {
    espl__observer_kind kind;
    double parameter;
} espl__observer;

enum { ESPL__OBSERVER_TEXT = 48, ESPL__OBSERVER_FORMS = 256 };
/* "percentile 99.99", "kl"; false if the text is none, or the number is out of its range. */
bool espl__observer_parse(const char *text, espl__observer *out);
/* Writes what parse reads to buf (ESPL__OBSERVER_TEXT bytes are enough) and returns buf. */
const char *espl__observer_text(const espl__observer *observer, char *buf, size_t size);
/* The forms that parse takes, for messages: "minmax, average MOMENTUM, ..."; returns buf. */
const char *espl__observer_forms(char *buf, size_t size);
/* Whether it needs a histogram. */
bool espl__observer_counts(const espl__observer *observer);

/* Bins of the width 2^exponent: element x, if it is not 0, is counted in bins[floor(x / 2^exponent) mod
 * 2048]. Only 2048 neighbouring ones are in use; the exponent is the least with which they hold the range.
 * When the range grows, neighbours are added in pairs, which gives what counting in wide bins from the start
 * would have given. */
enum { ESPL__BINS = 2048, ESPL__SLOTS = ESPL__BINS + 16 };
typedef struct espl__histogram {
    int exponent;
    int64_t count; /* of all elements */
    /* Behind the bins the elements that are 0, of which there are many behind a Relu, in 16 places in turn,
     * so that no one waits for the one before. */
    int64_t bins[ESPL__SLOTS];
} espl__histogram;

/* What calibration saw of a value: finite elements only, and 0 whether it was there or not, because every
 * grid holds it. seen == 0: nothing. */
typedef struct range {
    float min, max;
    int64_t seen; /* samples */
    espl__observer observer;
    espl__histogram *histogram; /* NULL unless the observer counts */
} range;

/* Room to count in; clear before the first use, and left clear. */
typedef struct espl__tally {
    uint32_t slots[4][ESPL__SLOTS];
} espl__tally;

/* Adds `samples` samples of `size` elements each. */
void espl__range_observe(range *r, const float *x, int64_t samples, int64_t size, espl__tally *tally);
/* Adds what `from` saw, as if `into` had seen it too; the first one's observer stays. `into` gets a histogram
 * of its own. */
ESPL_NODISCARD espl_status espl__range_merge(espl_context *ctx, range *into, const range *from,
                                             espl_diag *diag);
void espl__range_free(espl_context *ctx, range *r);

/* The grid that a range is for: codes lo to hi; symmetric ones have their zero point at code 0. */
typedef struct espl__grid {
    int32_t lo, hi;
    bool symmetric;
} espl__grid;
/* The observer's last word: min and max become the range that the grid should hold. Doing it again changes
 * nothing. */
void espl__range_settle(range *r, const espl__grid *grid);

/* --- inside: histogram.c and clip.c ------------------------------------------------------------------ */

int64_t espl__histogram_zeros(const espl__histogram *h);
/* The bin that x is in. */
int32_t espl__bin_of(const espl__histogram *h, float x);
/* Makes the bins wide enough for min to max. `r` says what they hold so far. */
void espl__histogram_fit(espl__histogram *h, const range *r, float min, float max);
/* Counts finite elements that the bins have room for. */
void espl__histogram_add(espl__histogram *h, const float *x, int64_t count, espl__tally *tally);
/* All but infinities and NaN count; false if there are some. */
bool espl__extremes(const float *x, int64_t count, float *min, float *max);

void espl__clip_percentile(range *r);
void espl__clip_mse(range *r, const espl__grid *grid);
void espl__clip_kl(range *r, const espl__grid *grid);

#endif
