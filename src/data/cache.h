/* Decoded pictures in memory, so that from the second epoch on a sample costs reading it once. Filled as
 * samples are first asked for: as bytes while all values are whole and 0 to 255, else as floats. */
#ifndef ESPL_DATA_CACHE_H
#define ESPL_DATA_CACHE_H

#include "data/data.h"

typedef struct espl__cache {
    espl_dataset *dataset;
    int64_t count, size; /* samples, values of each */
    uint64_t limit;
    uint8_t *bytes; /* [count][size] of one of these two; neither: there is no room */
    float *floats;
    bool *known; /* [count] */
} espl__cache;

/* Keeps at most `limit` bytes of samples of a data set of one input; what there is no memory for is decoded
 * every time. */
void espl__cache_init(espl__cache *cache, espl_dataset *dataset, uint64_t limit);
void espl__cache_free(espl__cache *cache);
/* The values of sample `index` before scale, mean and std, in *bytes or else in *floats, valid until the next
 * call. `scratch` has room for one sample. */
ESPL_NODISCARD espl_status espl__cache_read(espl__cache *cache, int64_t index, float *scratch,
                                            const uint8_t **bytes, const float **floats, espl_diag *diag);

#endif
