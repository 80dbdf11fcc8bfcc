/* Rows of recipes as decisions, and back. */
#include "compress/compress.h"

espl__fit espl__fit_usual(espl_format f) {
    const int least = espl_format_kind_of(f) == ESPL_FORMAT_KIND_INTEGER ? 4 : 9;
    return espl_format_bits(f) < least ? ESPL__FIT_MSE : ESPL__FIT_MAX;
}

void espl__recipe_decide(const espl__recipe_layer *row, decision *d) {
    const espl_format activations = row->activations ? (espl_format)(row->activations - 1) : ESPL_FORMAT_F32;
    const bool left = row->activations == ESPL__ACTIVATIONS_F32 || row->compute == ESPL__COMPUTE_WEIGHTS + 1;
    const bool codes = row->activations == ESPL__ACTIVATIONS_UNSET || espl__format_is_code8(activations);
    *d =
        (decision){.pattern = espl__recipe_pattern(row),
                   .saliency = row->saliency ? (espl__saliency)(row->saliency - 1) : ESPL__SALIENCY_MAGNITUDE,
                   .weights = row->format,
                   .activations = activations,
                   .dynamic = row->compute == ESPL__COMPUTE_DYNAMIC + 1,
                   .per_tensor = row->scale == ESPL__SCALE_TENSOR,
                   .group = row->group,
                   .pow2 = row->grid == ESPL__GRID_POW2,
                   .fit = row->fit ? (espl__fit)(row->fit - 1) : espl__fit_usual(row->format),
                   .round = row->round ? (espl__round)(row->round - 1) : ESPL__ROUND_NEAREST};
    d->integer = espl__format_is_code8(row->format) && codes && !left && !d->dynamic && d->group == 0;
}

espl__recipe_layer espl__recipe_row(const decision *d) {
    espl__recipe_layer row = {.format = d->weights};
    const bool plain = espl__format_is_float(d->weights);
    if (d->pattern.pattern != ESPL_PATTERN_DENSE && d->saliency != ESPL__SALIENCY_MAGNITUDE)
        row.saliency = (espl__recipe_saliency)d->saliency + 1;
    if (d->activations != ESPL_FORMAT_F32) row.activations = (int)d->activations + 1;
    if (d->dynamic) row.compute = ESPL__COMPUTE_DYNAMIC + 1;
    if (!d->integer && !d->dynamic && d->activations == ESPL_FORMAT_F32 &&
        espl__format_is_code8(d->weights) && d->group == 0)
        row.activations = ESPL__ACTIVATIONS_F32;
    if (plain) return row;
    if (d->per_tensor) row.scale = ESPL__SCALE_TENSOR;
    row.group = (uint32_t)d->group;
    if (d->pow2) row.grid = ESPL__GRID_POW2;
    if (d->fit != espl__fit_usual(d->weights)) row.fit = (espl__recipe_fit)d->fit + 1;
    if (d->round != ESPL__ROUND_NEAREST) row.round = (espl__recipe_round)d->round + 1;
    return row;
}
