#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "inputs.h"
#include "text.h"

typedef struct blame_options {
    const char *data, *calib, *recipe, *chip;
    int64_t calib_count, samples;
    int flavour;
    text_list shapes;
} blame_options;

static const blame_options defaults = {.flavour = -1};

static const option options[] = {
    {.name = "data",
     .kind = OPTION_TEXT,
     .offset = offsetof(blame_options, data),
     .argument = "DATA",
     .required = true,
     .help = "a YAML description or digits; every 5th sample is calibrated and measured on, unless there is "
             "--calib"},
    {.name = "calib",
     .kind = OPTION_TEXT,
     .offset = offsetof(blame_options, calib),
     .argument = "DATA",
     .help = "calibrate and measure on these samples instead"},
    {.name = "calib-count",
     .kind = OPTION_INT,
     .offset = offsetof(blame_options, calib_count),
     .argument = "N",
     .least = 1,
     .most = 1e9,
     .help = "at most so many samples for the ranges (default 512)"},
    {.name = "samples",
     .kind = OPTION_INT,
     .offset = offsetof(blame_options, samples),
     .argument = "N",
     .least = 1,
     .most = 1e9,
     .help = "damage is measured on the first N of them (default 32)"},
    {.name = "recipe",
     .kind = OPTION_TEXT,
     .offset = offsetof(blame_options, recipe),
     .argument = "NAME|FILE",
     .help = "what is done to each layer (default: s8 weights and 8-bit activations everywhere)"},
    {.name = "chip",
     .kind = OPTION_TEXT,
     .offset = offsetof(blame_options, chip),
     .argument = "NAME|FILE",
     .choices = espl_chip_list,
     .help =
         "the chip, which decides what is computed in integers, and the flavour (default x86-avx512-vnni)"},
    {.name = "flavour",
     .kind = OPTION_CHOICE,
     .offset = offsetof(blame_options, flavour),
     .choices = flavour_choice,
     .help = "the grids of activations, as in espalier compress"},
    SHAPE_OPTION(blame_options),
    {0},
};

/* What one call holds. */
typedef struct job {
    espl_chip *chip;
    espl_dataset *data, *calib;
    espl_graph *graph;
    espl_shape *shapes;
    espl_blame *blame;
} job;

static void job_free(job *j) {
    espl_blame_destroy(&j->blame);
    espl_graph_destroy(&j->graph);
    espl_dataset_close(&j->calib);
    espl_dataset_close(&j->data);
    espl_chip_destroy(&j->chip);
    free(j->shapes);
}

static espl_status measure(cli *c, const blame_options *o, job *j) {
    espl_status status = espl_graph_read(c->ctx, c->operands[0], &j->graph, &c->diag);
    if (status == ESPL_OK) status = espl_dataset_open(c->ctx, o->data, &j->data, &c->diag);
    if (status == ESPL_OK && o->calib) status = espl_dataset_open(c->ctx, o->calib, &j->calib, &c->diag);
    if (status == ESPL_OK) status = bind_shapes(c, j->graph, &o->shapes, j->data, &j->shapes);
    if (status == ESPL_OK && o->chip) status = espl_chip_load(c->ctx, o->chip, &j->chip, &c->diag);
    if (status != ESPL_OK) return status;
    espl_compress_options settings = {
        .chip = j->chip,
        .data = j->data,
        .calib = j->calib,
        .calib_count = o->calib_count,
        .max_drop = -1,
        .goal = -1,
        .flavour = o->flavour,
        .recipe = o->recipe,
        .input_shapes = j->shapes,
        .progress = progress_update,
        .user = &c->progress,
    };
    status = espl_blame_layers(c->ctx, j->graph, &settings, o->samples, &j->blame, &c->diag);
    progress_clear(&c->progress);
    return status;
}

/* --- JSON ------------------------------------------------------------------------------------------- */

static json_t *damage_value(const espl_damage *d) {
    json_t *root = json_object();
    put(root, "kl", number_value(d->kl));
    put(root, "soft", number_value(d->soft));
    put(root, "error", number_value(d->error));
    put(root, "drop", number_value(d->drop));
    return root;
}

static json_t *blame_value(const char *file, const espl_blame *b) {
    json_t *root = json_object(), *layers = json_array();
    for (int i = 0; i < b->count; i++) {
        const espl_blame_layer *l = &b->layers[i];
        json_t *row = json_object();
        put(row, "name", text_value(l->name));
        put(row, "node", json_integer(l->node));
        put(row, "op", text_value(l->op));
        put(row, "format", text_value(l->format));
        put(row, "integer", json_boolean(l->integer));
        put(row, "sqnr_db", number_value(l->sqnr_db));
        put(row, "alone", damage_value(&l->alone));
        put(row, "spared", damage_value(&l->spared));
        push(layers, row);
    }
    put(root, "file", text_value(file));
    put(root, "data", text_value(b->data));
    put(root, "samples", json_integer(b->samples));
    put(root, "whole", damage_value(&b->whole));
    put(root, "layers", layers);
    return root;
}

/* --- table ------------------------------------------------------------------------------------------ */

static const column columns[] = {
    {"layer", COLUMN_NAME},       {"op", COLUMN_TAIL},
    {"format", COLUMN_TEXT},      {"SQNR dB", COLUMN_NUMBER},
    {"alone: divergence", COLUMN_NUMBER}, {"error", COLUMN_NUMBER},
    {"points", COLUMN_NUMBER},    {"as f32 returns", COLUMN_NUMBER},
    {"error", COLUMN_NUMBER},     {"points", COLUMN_NUMBER},
};

static cell divergence_cell(double x) {
    return isnan(x) ? cell_format("%s", "") : cell_format("%.2e", x);
}

static cell points_cell(double points) {
    return isnan(points) ? cell_format("%s", "") : cell_format("%.2f", points + 0.0);
}

static void add_damage(table *t, double divergence, double error, double points) {
    table_cell(t, divergence_cell(divergence));
    table_cell(t, cell_format("%.2f %%", 100 * error));
    table_cell(t, points_cell(points));
}

static bool print_table(const char *file, const espl_blame *b) {
    table *t = table_new(columns, COUNT(columns));
    for (int i = 0; i < b->count; i++) {
        const espl_blame_layer *l = &b->layers[i];
        table_add(t, *l->name ? l->name : cell_format("#%d", l->node).text);
        table_add(t, l->op);
        table_cell(t, cell_format("%s%s", l->format, l->integer ? "" : " stored"));
        table_cell(t, isnan(l->sqnr_db) ? cell_format("-") : cell_format("%.1f", l->sqnr_db));
        add_damage(t, l->alone.soft, l->alone.error, l->alone.drop);
        add_damage(t, b->whole.soft - l->spared.soft, b->whole.error - l->spared.error,
                   b->whole.drop - l->spared.drop);
    }
    printf("%s, quantized; %" PRId64 " samples of %s\n\n", file, b->samples, b->data);
    bool good = table_print(t, stdout, TABLE_WIDTH);
    table_free(t);
    printf("\nall together: relative error of the output %.2f %%", 100 * b->whole.error);
    if (!isnan(b->whole.kl)) printf(", KL divergence %.3g nats", b->whole.kl);
    if (!isnan(b->whole.drop)) printf(", %.2f points of top-1 lost", b->whole.drop + 0.0);
    printf("\n");
    return good;
}

static espl_status run(cli *c, const void *given) {
    const blame_options *o = given;
    job j = {0};
    progress_catch_interrupt();
    espl_status status = measure(c, o, &j);
    if (status == ESPL_OK && c->common.json)
        status = json_print(c, blame_value(c->operands[0], j.blame));
    else if (status == ESPL_OK && !print_table(c->operands[0], j.blame))
        status = nomem(c);
    job_free(&j);
    return status;
}

const command command_blame = {
    .operands = "MODEL",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .defaults = &defaults,
    .size = sizeof(blame_options),
    .run = run,
    .about =
        "Says which layers of a model (.onnx) do the damage when it is quantized, worst first. SQNR is the "
        "signal-to-quantization-noise ratio of the layer's output inside the quantized network, in decibels: "
        "what the layers before it did is part of it.\n\n"
        "'alone' is what the network's output loses if only this layer is quantized: Kullback-Leibler "
        "divergence of the classes from those of f32 (in nats, at a temperature of 4, which makes few samples "
        "tell as much as many; in JSON the plain one too), relative L2 error, and points of top-1 where there "
        "are labels. 'as f32 returns' is what comes back of the loss of the whole quantized network if only "
        "this layer stays f32. A layer may do little alone and much in company, or the other way round. "
        "Repairs that follow rounding (adaround, gptq, bias, batchnorm) are left out.\n\n"
        "A quantized model cannot be blamed; give the f32 model and the recipe.yaml of its folder.",
    .example = "espalier blame examples/digits.onnx --data digits\n"
               "espalier blame model.onnx --data test.yaml --recipe small/recipe.yaml --samples 64 --json",
};
