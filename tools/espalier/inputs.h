/* Models, shapes and data as the command line names them. */
#ifndef INPUTS_H
#define INPUTS_H

#include "cli.h"
#include "espalier/compress.h"

/* Options that several commands have. */
#define SHAPE_OPTION(type)                                                                   \
    {                                                                                        \
        .name = "shape", .kind = OPTION_LIST, .offset = offsetof(type, shapes),              \
        .argument = "NAME=1x3x224x224",                                                      \
        .help = "binds the unknown dimensions of an input; may be given once for each input" \
    }
const char *flavour_choice(int index);

/* The shapes given by --shape, one per input of the graph (rank -1: the graph's own), to be freed with
 * free(); NULL if none was given. With `data` unknown dimensions that --shape leaves are taken from its
 * samples. */
ESPL_NODISCARD espl_status bind_shapes(cli *c, const espl_graph *graph, const text_list *given,
                                       const espl_dataset *data, espl_shape **out);
/* Reads the model and creates a session of it; its shapes are found here. */
ESPL_NODISCARD espl_status open_session(cli *c, const char *model, const text_list *shapes,
                                        const espl_dataset *data, espl_session_options options,
                                        espl_session **out);
/* {"name", "dtype", "shape"} */
json_t *array_value(const char *name, espl_dtype dtype, const espl_shape *shape);
json_t *shape_value(const espl_shape *shape);
/* "bank 2:16", "unstructured": a pattern for a table, without its share. */
const char *pattern_text(const espl_sparsity *pattern, char *buf, size_t size);
/* The input whose name "NAME=VALUE" begins with, -1 if there is none; *value is what follows the '='. */
int find_input(const espl_graph *graph, const char *text, const char **value);
/* The names of the graph's inputs, in one line. */
const char *input_names(const espl_graph *graph, char *buf, size_t size);

#endif
