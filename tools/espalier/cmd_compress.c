#include <math.h>
#include <stdlib.h>

#include "curve.h"
#include "files.h"
#include "inputs.h"
#include "report.h"
#include "text.h"

typedef struct compress_options {
    const char *chip, *data, *calib, *recipe, *repair, *folder, *observer, *formats;
    int64_t calib_count;
    double max_drop, size;
    int goal, flavour;
    text_list shapes, curves;
} compress_options;

static const compress_options defaults = {.max_drop = -1, .goal = -1, .flavour = -1};

static const char *goal_choice(int index) {
    return index < ESPL_GOAL_COUNT ? espl_goal_name((espl_goal)index) : NULL;
}

static const option options[] = {
    {.name = "chip",
     .kind = OPTION_TEXT,
     .offset = offsetof(compress_options, chip),
     .argument = "NAME|FILE",
     .choices = espl_chip_list,
     .help =
         "the chip: a name of espalier chip list, host for this machine, or a profile's file (with --recipe "
         "default: what the recipe says, else host)"},
    {.name = "data",
     .kind = OPTION_TEXT,
     .offset = offsetof(compress_options, data),
     .argument = "DATA",
     .help =
         "the data that accuracy is measured on: a YAML description or digits (with --recipe it may be left "
         "out)"},
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(compress_options, folder),
     .argument = "DIR",
     .required = true,
     .help = "the folder for the result"},
    {.name = "calib",
     .kind = OPTION_TEXT,
     .offset = offsetof(compress_options, calib),
     .argument = "DATA",
     .help = "the data that ranges are calibrated on (without it every 5th sample of --data, which is then "
             "left out of "
             "the measurement)"},
    {.name = "calib-count",
     .kind = OPTION_INT,
     .offset = offsetof(compress_options, calib_count),
     .argument = "N",
     .least = 1,
     .most = 1e9,
     .help = "at most so many calibration samples (default 512)"},
    {.name = "observer",
     .kind = OPTION_TEXT,
     .offset = offsetof(compress_options, observer),
     .argument = "NAME",
     .help = "how ranges of activations follow from the samples: minmax, average [MOMENTUM], percentile [PER CENT], mse "
             "or kl; docs/methods.md says what each is (default: what the recipe says, else minmax, or mse where "
             "activations have fewer than 8 bits)"},
    {.name = "max-drop",
     .kind = OPTION_NUMBER,
     .offset = offsetof(compress_options, max_drop),
     .argument = "POINTS",
     .least = 0,
     .most = 100,
     .help =
         "accuracy that may be lost, in points: 1 is one per cent (default: what the recipe says, else 1)"},
    {.name = "goal",
     .kind = OPTION_CHOICE,
     .offset = offsetof(compress_options, goal),
     .choices = goal_choice,
     .help = "what is to become small (default: what the recipe says, else latency)"},
    {.name = "flavour",
     .kind = OPTION_CHOICE,
     .offset = offsetof(compress_options, flavour),
     .choices = flavour_choice,
     .help =
         "whom model.onnx is for: portable has s8 activations with zero points of 0, which every tool takes; "
         "ort-x86 has u8 activations, fastest in ONNX Runtime on x86 (default: what the chip's profile "
         "names)"},
    {.name = "repair",
     .kind = OPTION_TEXT,
     .offset = offsetof(compress_options, repair),
     .argument = "LIST",
     .help =
         "repairs after quantization, with commas between: equalize, smooth, adaround, gptq, batchnorm, bias "
         "(docs/methods.md; default: what the recipe says, else none)"},
    {.name = "recipe",
     .kind = OPTION_TEXT,
     .offset = offsetof(compress_options, recipe),
     .argument = "NAME|FILE",
     .help = "what to do with each layer, instead of finding it out: a file (docs/recipes.md), or a ready "
             "recipe such as "
             "bank-2-16-s8"},
    {.name = "formats",
     .kind = OPTION_TEXT,
     .offset = offsetof(compress_options, formats),
     .argument = "LIST",
     .help =
         "gives each layer its own of these formats, as in s8,s4,s2: the search for the smallest network (or "
         "fastest, see --goal) within --max-drop; with --recipe the layers that it leaves in f32 stay so"},
    {.name = "size",
     .kind = OPTION_NUMBER,
     .offset = offsetof(compress_options, size),
     .argument = "BYTES|SHARE",
     .least = 1e-9,
     .most = 1e15,
     .help = "with --formats: the best network whose file has at most so many bytes, or, below 1, such a "
             "share of the "
             "f32 file"},
    {.name = "curve",
     .kind = OPTION_LIST,
     .offset = offsetof(compress_options, curves),
     .argument = "FILE",
     .help = "with --formats: writes score against size of networks in one format and of mixed ones, drawn "
             "(.svg) or as "
             "figures (.json, .csv); may be given several times"},
    SHAPE_OPTION(compress_options),
    {0},
};

/* What one call holds. */
typedef struct job {
    espl_chip *chip;
    espl_dataset *data, *calib;
    espl_graph *graph;
    espl_shape *shapes;
    espl_result *result;
} job;

static void job_free(job *j) {
    espl_result_destroy(&j->result);
    espl_graph_destroy(&j->graph);
    espl_dataset_close(&j->calib);
    espl_dataset_close(&j->data);
    espl_chip_destroy(&j->chip);
    free(j->shapes);
}

static espl_status open_all(cli *c, const compress_options *o, job *j) {
    /* The model first: a mistake in its name should not wait for a measurement of the machine. */
    espl_status status = ESPL_OK;
    if (!o->recipe && !o->chip) return usage_fail(c, "--chip NAME|FILE is missing: host is this machine, and espalier chip lists others");
    if (!o->recipe && !o->data)
        return usage_fail(c, "--data DATA is missing; only with --recipe can there be none");
    if (!o->formats && (o->size > 0 || o->curves.count))
        return usage_fail(c, "--size and --curve need --formats LIST to choose from");
    for (int i = 0; i < o->curves.count; i++)
        if (!curve_kind(o->curves.item[i]))
            return usage_fail(c, "--curve: '%s' is no .svg, .json or .csv file", o->curves.item[i]);
    status = espl_graph_read(c->ctx, c->operands[0], &j->graph, &c->diag);
    if (status == ESPL_OK) status = espl_result_check_folder(c->ctx, o->folder, &c->diag);
    for (int i = 0; status == ESPL_OK && i < o->curves.count; i++)
        status = check_place(c, o->curves.item[i], o->folder);
    if (status == ESPL_OK && o->data) status = espl_dataset_open(c->ctx, o->data, &j->data, &c->diag);
    if (status == ESPL_OK && o->calib) status = espl_dataset_open(c->ctx, o->calib, &j->calib, &c->diag);
    if (status == ESPL_OK)
        status = bind_shapes(c, j->graph, &o->shapes, j->data ? j->data : j->calib, &j->shapes);
    if (status == ESPL_OK && o->chip) status = espl_chip_load(c->ctx, o->chip, &j->chip, &c->diag);
    return status;
}

static espl_status compress(cli *c, const compress_options *o, job *j) {
    espl_compress_options settings = {
        .chip = j->chip,
        .data = j->data,
        .calib = j->calib,
        .calib_count = o->calib_count,
        .observer = o->observer,
        .max_drop = o->max_drop,
        .goal = o->goal,
        .flavour = o->flavour,
        .recipe = o->recipe,
        .repair = o->repair,
        .formats = o->formats,
        .size = o->size,
        .curve = o->curves.count > 0,
        .input_shapes = j->shapes,
        .progress = progress_update,
        .user = &c->progress,
    };
    espl_status status = espl_compress(c->ctx, j->graph, &settings, &j->result, &c->diag);
    progress_clear(&c->progress);
    return status;
}

static espl_status run(cli *c, const void *given) {
    const compress_options *o = given;
    job j = {0};
    char *text = NULL;
    report_settings settings = {
        .model = c->operands[0], .folder = o->folder, .threads = espl_context_threads(c->ctx)};
    progress_catch_interrupt();
    espl_status status = open_all(c, o, &j);
    if (status == ESPL_OK) status = compress(c, o, &j);
    if (status != ESPL_OK) goto done;
    settings.chip = j.chip;
    json_t *report = report_value(j.result, &settings);
    text = json_text(report);
    json_decref(report);
    status = text ? espl_result_write(c->ctx, j.result, o->folder, text, &c->diag) : nomem(c);
    for (int i = 0; i < o->curves.count && status == ESPL_OK; i++)
        status = curve_write(c, o->curves.item[i], c->operands[0], j.result);
    if (status == ESPL_OK && c->common.json)
        status = json_print(c, report_value(j.result, &settings));
    else if (status == ESPL_OK && !report_print(j.result, &settings, stdout))
        status = nomem(c);
    if (status == ESPL_OK && !j.result->within_budget)
        status = fail(c, ESPL_CHECK_FAILED, "%s: loses %.2f points, more than the %g allowed", c->operands[0],
                      j.result->drop, j.result->max_drop);
done:
    free(text);
    job_free(&j);
    return status;
}

const command command_compress = {
    .operands = "MODEL",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .defaults = &defaults,
    .size = sizeof(compress_options),
    .run = run,
    .about = "Fits a model (.onnx) to a chip: quantizes what the chip runs faster or stores smaller, layer "
             "by layer, and "
             "undoes every step that does not pay in the goal's own figure or that costs more accuracy than "
             "allowed. "
             "Latency is measured if the chip is this machine and modelled otherwise.\n\n"
             "The folder gets model.espl (what espalier runs), model.onnx (the same integers as standard "
             "ONNX for other "
             "tools), recipe.yaml (what was done, to be done again with --recipe) and report.json. They "
             "appear together at "
             "the end or not at all. The table says of every layer what was chosen and why.\n\n"
             "With --formats a format is looked for layer by layer: each layer alone in each format is run "
             "on some "
             "calibration samples, which gives the divergence of the output; a knapsack takes the formats "
             "with the "
             "least sum of these within a size (or time, or energy), and the size is halved towards the "
             "smallest whose "
             "real score keeps --max-drop. The recipe that it writes has a row for each layer, with a note "
             "why.\n\n"
             "Without labels the drop is measured against the f32 model: 1 - top-1 agreement, or the "
             "relative error.\n\n"
             "With --recipe everything is done as it says: patterns of zeros (docs/recipes.md), formats, "
             "arithmetic. Then data may be missing: accuracy is not measured, and ranges of integer "
             "activations, where the recipe asks for them, are those of inputs of noise. That is enough for "
             "the time and size of a network; for its answers give --calib.",
    .example = "espalier compress examples/digits.onnx --chip host --data digits -o small\n"
               "espalier compress examples/digits.onnx --recipe bank-2-16-s8 -o sparse\n"
               "espalier compress model.onnx --chip x86-avx512-vnni --data test.yaml --calib train.yaml "
               "--max-drop 0.5 -o small\n"
               "espalier compress model.onnx --chip host --data test.yaml --goal size --formats s8,s6,s4 "
               "--curve c.svg -o mixed",
};
