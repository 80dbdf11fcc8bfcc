#include <stdlib.h>

#include "files.h"
#include "inputs.h"
#include "text.h"

typedef struct inspect_options {
    text_list shapes;
} inspect_options;

static const option options[] = {SHAPE_OPTION(inspect_options), {0}};

static const column columns[] = {
    {"layer", COLUMN_NAME},     {"op", COLUMN_TAIL},      {"MACs", COLUMN_NUMBER},
    {"params", COLUMN_NUMBER},  {"pattern", COLUMN_TEXT}, {"zeros", COLUMN_NUMBER},
    {"balance", COLUMN_NUMBER}, {"format", COLUMN_TEXT},  {"acc", COLUMN_NUMBER},     {"stored", COLUMN_NUMBER},
    {"at f32", COLUMN_NUMBER},  {"at s8", COLUMN_NUMBER}, {"out f32", COLUMN_NUMBER},
    {"out s8", COLUMN_NUMBER},
};

enum { PRUNED_WIDTH = 124 }; /* of a table with the columns of patterns */

/* Sums over the layers that have weights to multiply with: what an accelerator of convolutions sees. */
typedef struct weighted {
    uint64_t output_f32, output_s8;
} weighted;

static weighted sum_weighted(const espl_costs *costs) {
    weighted sum = {0, 0};
    for (int i = 0; i < costs->count; i++) {
        if (costs->layers[i].macs == 0 || costs->layers[i].params == 0) continue;
        sum.output_f32 += costs->layers[i].output_bytes_f32;
        sum.output_s8 += costs->layers[i].output_bytes_s8;
    }
    return sum;
}

static double sparsity(const espl_layer_cost *l) {
    return l->weights ? (double)l->zeros / (double)l->weights : 0;
}

/* --- table ---------------------------------------------------------------------------------------------- */

static cell bytes_or_dash(uint64_t bytes) {
    return bytes ? cell_bytes(bytes) : cell_format("-");
}

/* A pattern without its share, which is in the column of zeros. Empty where nothing is pruned, so that the
 * columns of a dense model are left out. */
static void add_pattern(table *t, const espl_layer_cost *l) {
    char text[ESPL_SPARSITY_TEXT];
    bool pruned = l->pattern.pattern != ESPL_PATTERN_DENSE;
    table_add(t, pruned ? pattern_text(&l->pattern, text, sizeof text) : "");
    table_cell(t, l->weights ? cell_percent(sparsity(l)) : cell_format("-"));
    table_cell(t, pruned ? cell_format("%.2f", l->balance) : cell_format("%s", ""));
}

static void add_row(table *t, const espl_layer_cost *l, int index) {
    table_add(t, *l->name ? l->name : cell_format("#%d", index).text);
    table_add(t, l->op ? l->op : "");
    table_cell(t, cell_count(l->macs, true));
    table_cell(t, cell_count(l->params, true));
    add_pattern(t, l);
    table_add(t, l->params && l->format ? l->format : "");
    table_cell(t, l->accumulator_bits ? cell_format("%d", l->accumulator_bits) : cell_format("%s", ""));
    table_cell(t, bytes_or_dash(l->weight_bytes));
    table_cell(t, bytes_or_dash(l->weight_bytes_f32));
    table_cell(t, bytes_or_dash(l->weight_bytes_s8));
    table_cell(t, bytes_or_dash(l->output_bytes_f32));
    table_cell(t, bytes_or_dash(l->output_bytes_s8));
}

static espl_status print_table(cli *c, const char *path, const espl_costs *costs) {
    table *t = table_new(columns, COUNT(columns));
    const espl_layer_cost *total = &costs->total;
    bool pruned = false;
    for (int i = 0; i < costs->count; i++) {
        add_row(t, &costs->layers[i], i);
        pruned |= costs->layers[i].pattern.pattern != ESPL_PATTERN_DENSE;
    }
    table_rule(t);
    add_row(t, total, 0);
    bool good = table_print(t, stdout, pruned ? PRUNED_WIDTH : TABLE_WIDTH);
    table_free(t);
    if (!good) return nomem(c);
    weighted sum = sum_weighted(costs);
    for (int i = 0; i < espl_graph_input_count(costs->graph); i++) {
        char shape[160], name[256];
        espl_shape s = espl_graph_input_shape(costs->graph, i);
        snprintf(name, sizeof name, "%s", espl_graph_input_name(costs->graph, i));
        text_tame(name);
        printf("%s%s %s %s", i ? ", " : "\ninput ", name,
               espl_dtype_name(espl_graph_input_dtype(costs->graph, i)),
               espl_shape_text(&s, shape, sizeof shape));
    }
    printf("\n%s parameters, %s MACs = %s operations, file of %s\n", cell_count(total->params, false).text,
           cell_count(total->macs, false).text, cell_count(2 * total->macs, false).text,
           cell_bytes(file_size(path)).text);
    printf("outputs of the layers with weights: %s at f32, %s at s8\n", cell_bytes(sum.output_f32).text,
           cell_bytes(sum.output_s8).text);
    return ESPL_OK;
}

/* --- JSON ----------------------------------------------------------------------------------------------- */

static json_t *layer_value(const espl_layer_cost *l) {
    char pattern[ESPL_SPARSITY_TEXT];
    json_t *row = json_object();
    put(row, "name", text_value(l->name));
    put(row, "op", text_value(l->op));
    put(row, "macs", json_integer(l->macs));
    put(row, "params", json_integer(l->params));
    put(row, "format", text_value(l->format));
    put(row, "accumulator_bits", l->accumulator_bits ? json_integer(l->accumulator_bits) : json_null());
    put(row, "pattern", text_value(espl_sparsity_text(&l->pattern, pattern, sizeof pattern)));
    put(row, "sparsity", number_value(sparsity(l)));
    put(row, "balance", number_value(l->balance));
    put(row, "weight_bytes", json_integer((json_int_t)l->weight_bytes));
    put(row, "weight_bytes_f32", json_integer((json_int_t)l->weight_bytes_f32));
    put(row, "weight_bytes_s8", json_integer((json_int_t)l->weight_bytes_s8));
    put(row, "output_bytes_f32", json_integer((json_int_t)l->output_bytes_f32));
    put(row, "output_bytes_s8", json_integer((json_int_t)l->output_bytes_s8));
    return row;
}

static json_t *costs_value(const char *path, const espl_costs *costs) {
    json_t *root = json_object(), *layers = json_array(), *inputs = json_array(), *outputs = json_array();
    const espl_layer_cost *total = &costs->total;
    weighted sum = sum_weighted(costs);
    for (int i = 0; i < costs->count; i++) push(layers, layer_value(&costs->layers[i]));
    for (int i = 0; i < espl_graph_input_count(costs->graph); i++) {
        espl_shape shape = espl_graph_input_shape(costs->graph, i);
        push(inputs, array_value(espl_graph_input_name(costs->graph, i),
                                 espl_graph_input_dtype(costs->graph, i), &shape));
    }
    for (int i = 0; i < espl_graph_output_count(costs->graph); i++) {
        espl_shape shape = espl_graph_output_shape(costs->graph, i);
        push(outputs, array_value(espl_graph_output_name(costs->graph, i),
                                  espl_graph_output_dtype(costs->graph, i), &shape));
    }
    put(root, "file", text_value(path));
    put(root, "bytes", json_integer((json_int_t)file_size(path)));
    put(root, "macs", json_integer(total->macs));
    put(root, "params", json_integer(total->params));
    put(root, "sparsity", number_value(sparsity(total)));
    put(root, "weight_bytes", json_integer((json_int_t)total->weight_bytes));
    put(root, "weight_bytes_f32", json_integer((json_int_t)total->weight_bytes_f32));
    put(root, "weight_bytes_s8", json_integer((json_int_t)total->weight_bytes_s8));
    put(root, "output_bytes_f32", json_integer((json_int_t)total->output_bytes_f32));
    put(root, "output_bytes_s8", json_integer((json_int_t)total->output_bytes_s8));
    put(root, "weighted_output_bytes_f32", json_integer((json_int_t)sum.output_f32));
    put(root, "weighted_output_bytes_s8", json_integer((json_int_t)sum.output_s8));
    put(root, "inputs", inputs);
    put(root, "outputs", outputs);
    put(root, "layers", layers);
    return root;
}

static espl_status run(cli *c, const void *given) {
    const inspect_options *o = given;
    const char *path = c->operands[0];
    espl_graph *graph = NULL;
    espl_shape *shapes = NULL;
    espl_costs costs = {0};
    espl_status status = espl_graph_read(c->ctx, path, &graph, &c->diag);
    if (status == ESPL_OK) status = bind_shapes(c, graph, &o->shapes, NULL, &shapes);
    if (status == ESPL_OK) {
        status = espl_costs_compute(c->ctx, graph, shapes, &costs, &c->diag);
        if (status == ESPL_OK)
            status = c->common.json ? json_print(c, costs_value(path, &costs)) : print_table(c, path, &costs);
        espl_costs_free(c->ctx, &costs);
    }
    free(shapes);
    espl_graph_destroy(&graph);
    return status;
}

const command command_inspect = {
    .operands = "MODEL",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .size = sizeof(inspect_options),
    .run = run,
    .about =
        "Lists the layers of a model (.onnx or .espl) with what each costs: multiplications (MACs), "
        "parameters and how "
        "many of the weights among them are zero, bytes of the weights as they are stored and as they would "
        "be at f32 and "
        "s8, and bytes "
        "of the output at f32 and s8. One MAC is one multiplication and one addition: two operations.\n\n"
        "Of a pruned model, whatever tool pruned it, the table also has the tightest pattern that the zeros "
        "of a "
        "layer satisfy (docs/recipes.md), and how evenly they lie: the balance is the mean number of "
        "non-zeros in "
        "a bank over the largest number in any; in patterns without banks, in a row. At 1.00 all have the "
        "same.",
    .example =
        "espalier inspect examples/digits.onnx\nespalier inspect model.onnx --shape input=1x3x224x224 --json",
};
