/* A recipe: the encoding of every layer. One schema for compress, train and search, so that what one writes
 * another reads.
 *
 *     chip: x86-avx512-vnni      # optional, and so are flavour (portable, ort-x86), goal (latency, size,
 * energy), max_drop: 0.5              # max_drop (points of the score), observer (minmax), note layers:
 *     - {match: '*', format: s8}
 *     - {match: 'op:Gemm', pattern: 'bank 2:16', saliency: magnitude, format: s4, activations: u8, scale: channel}
 *     - {match: 'op:MatMul', format: s4, compute: dynamic, group: 32, grid: any, fit: mse, round: nearest}
 *     - {match: 'conv1', format: f32}
 *
 * match is a layer's name with * (any text) and ? (any character), or op: and an operator's name likewise.
 * The last row that matches a layer decides; rows are not merged. */
#ifndef ESPL_RECIPE_H
#define ESPL_RECIPE_H

#include "base/base.h"
#include "espalier/tensor.h"

/* In each of these 0 means that the recipe does not say, and that the caller's default holds. */
typedef enum espl__recipe_scale {
    ESPL__SCALE_UNSET,
    ESPL__SCALE_CHANNEL,
    ESPL__SCALE_TENSOR
} espl__recipe_scale;
/* espl_format + 1 */
enum { ESPL__GROUP_MAX = 1 << 20 };
enum { ESPL__ACTIVATIONS_UNSET, ESPL__ACTIVATIONS_F32 = ESPL_FORMAT_F32 + 1 };
typedef enum espl__recipe_flavour {
    ESPL__FLAVOUR_UNSET,
    ESPL__FLAVOUR_PORTABLE,
    ESPL__FLAVOUR_ORT_X86
} espl__recipe_flavour;
typedef enum espl__recipe_goal {
    ESPL__GOAL_UNSET,
    ESPL__GOAL_LATENCY,
    ESPL__GOAL_SIZE,
    ESPL__GOAL_ENERGY
} espl__recipe_goal;
/* espl__saliency, espl__compute, espl__fit, espl__round + 1 */
typedef int espl__recipe_saliency, espl__recipe_compute, espl__recipe_fit, espl__recipe_round;
typedef enum espl__recipe_grid { ESPL__GRID_UNSET, ESPL__GRID_ANY, ESPL__GRID_POW2 } espl__recipe_grid;

typedef struct espl__recipe_layer {
    char *match;
    char *pattern; /* a text that espl_sparsity_parse takes; NULL: dense */
    espl__recipe_saliency saliency;
    espl_format format; /* of the weights */
    int activations;
    espl__recipe_compute compute;
    espl__recipe_scale scale;
    uint32_t group; /* 0: none */
    espl__recipe_grid grid;
    espl__recipe_fit fit;
    espl__recipe_round round;
    char *note; /* NULL: none */
} espl__recipe_layer;

/* Strings and lists belong to the recipe when it was read. A caller may also fill one of its own and emit it.
 */
typedef struct espl__recipe {
    char *chip, *note; /* NULL: not given */
    espl__recipe_flavour flavour;
    espl__recipe_goal goal;
    uint32_t accumulator; /* bits; 0: what the chip's profile says */
    int on_overflow;      /* espl__overflow + 1 */
    char *observer; /* a text that espl__observer_parse takes; NULL: not given */
    char **repair;  /* texts that espl__repair_parse takes */
    uint32_t repair_count;
    double *max_drop; /* NULL: not given */
    espl__recipe_layer *layers;
    uint32_t layer_count;
} espl__recipe;

/* The ready ones, from recipes/. */
extern const espl__bundled espl__recipe_bundle[];
/* `path` is a file or the name of a ready recipe. *out is owned by the caller: espl__recipe_destroy. Mistakes are one sentence with file, line and key. */
ESPL_NODISCARD espl_status espl__recipe_read(espl_context *ctx, const char *path, espl__recipe **out,
                                             espl_diag *diag);
/* The same from a text of `length` bytes; `label` stands for the file name. */
ESPL_NODISCARD espl_status espl__recipe_parse(espl_context *ctx, const char *label, const char *text,
                                              size_t length, espl__recipe **out, espl_diag *diag);
void espl__recipe_destroy(espl_context *ctx, espl__recipe **recipe);

bool espl__recipe_row_matches(const espl__recipe_layer *row, const char *layer_name, const char *op_name);
/* The row that decides for a layer of this name and operator ("Conv"), or NULL. Borrowed. */
const espl__recipe_layer *espl__recipe_lookup(const espl__recipe *recipe, const char *layer_name,
                                              const char *op_name);
/* What the row says of the pattern. */
espl_sparsity espl__recipe_pattern(const espl__recipe_layer *row);
/* The flavour's name, "" if the recipe does not say. */
const char *espl__recipe_flavour_name(const espl__recipe *recipe);
/* Appends the recipe as YAML that reads back as the same. */
ESPL_NODISCARD espl_status espl__recipe_emit(espl_context *ctx, const espl__recipe *recipe, espl__buffer *out,
                                             espl_diag *diag);

#endif
