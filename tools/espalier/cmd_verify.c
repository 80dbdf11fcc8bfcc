#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "files.h"
#include "inputs.h"
#include "text.h"

typedef struct verify_options {
    double tolerance;
    const char *model;
} verify_options;

static const verify_options defaults = {.tolerance = 1e-4};

static const option options[] = {
    {.name = "tolerance",
     .kind = OPTION_NUMBER,
     .offset = offsetof(verify_options, tolerance),
     .argument = "T",
     .least = 0,
     .most = 1e9,
     .help = "largest error allowed, relative to the largest value of the reference output (default 1e-4)"},
    {.name = "model",
     .kind = OPTION_TEXT,
     .offset = offsetof(verify_options, model),
     .argument = "FILE",
     .help = "the model to run instead of the folder's own, .onnx or .espl"},
    {0},
};

static const char set_prefix[] = "test_data_set_";

/* What one run of the command gathers. */
typedef struct verification {
    cli *c;
    double tolerance, worst;
    int compared;
    table *table;
    json_t *sets;
} verification;

/* --- the folder -------------------------------------------------------------------------------------- */

/* model.onnx, or the only .onnx file there is. */
static espl_status find_model(cli *c, const char *folder, char **out) {
    char **names;
    int count, chosen = -1;
    espl_status status = list_folder(c, folder, "", ".onnx", &names, &count);
    for (int i = 0; i < count; i++)
        if (count == 1 || strcmp(names[i], "model.onnx") == 0) chosen = i;
    if (status == ESPL_OK && chosen < 0)
        status = fail(c, ESPL_IO, "%s: has %s", folder,
                      count ? "several .onnx files and none is model.onnx; name one with --model"
                            : "no .onnx file");
    if (status == ESPL_OK && !(*out = join(folder, names[chosen]))) status = nomem(c);
    free_names(names, count);
    return status;
}

/* Reads folder/<what>_<index>.pb. */
static espl_status read_array(cli *c, const char *folder, const char *what, int index, espl_tensor *out) {
    char *file = join(folder, cell_format("%s_%d.pb", what, index).text);
    espl_status status = file ? espl_onnx_read_tensor(c->ctx, file, out, &c->diag) : nomem(c);
    free(file);
    return status;
}

/* --- comparing --------------------------------------------------------------------------------------- */

/* Largest difference over the largest magnitude of the reference, infinite where only one is not a number. Strings are the
 * same, or infinitely far from it. */
static double relative_error(const espl_tensor *got, const espl_tensor *wanted) {
    double worst = 0, scale = 0;
    int64_t count = espl_shape_count(&wanted->shape);
    if (wanted->dtype == ESPL_STRING) return same_texts(got, wanted) ? 0 : INFINITY;
    for (int64_t i = 0; i < count; i++) {
        double a = element(got, i), b = element(wanted, i);
        if (isfinite(b) && fabs(b) > scale) scale = fabs(b);
        if (a == b || (isnan(a) && isnan(b))) continue;
        double difference = fabs(a - b);
        if (!(difference <= worst)) worst = isnan(difference) ? INFINITY : difference;
    }
    return worst == 0 ? 0 : scale > 0 ? worst / scale : INFINITY;
}

static void add_result(verification *v, json_t *rows, const char *set, const char *name, double error) {
    bool good = error <= v->tolerance;
    if (!(error <= v->worst)) v->worst = error;
    v->compared++;
    json_t *row = json_object();
    put(row, "name", text_value(name));
    put(row, "error", number_value(error));
    put(row, "passed", json_boolean(good));
    push(rows, row);
    table_add(v->table, set);
    table_add(v->table, name);
    table_cell(v->table, cell_format("%.3g", error));
    table_add(v->table, good ? "ok" : "beyond the tolerance");
}

static espl_status compare_outputs(verification *v, const char *set, const char *folder,
                                   const espl_session *session, const espl_tensor *outputs, json_t *rows) {
    cli *c = v->c;
    char **names;
    int files;
    espl_status status = list_folder(c, folder, "output_", ".pb", &names, &files);
    free_names(names, files);
    if (status == ESPL_OK && files == 0) status = fail(c, ESPL_IO, "%s: has no output_0.pb", folder);
    if (status == ESPL_OK && files != espl_session_output_count(session))
        status = fail(c, ESPL_SHAPE, "%s: has %d files output_*.pb; the model has %d outputs, and each needs one", folder,
                      files, espl_session_output_count(session));
    for (int i = 0; status == ESPL_OK && i < files; i++) {
        espl_tensor wanted = {0};
        char a[160], b[160];
        const char *name = espl_session_output_name(session, i);
        status = read_array(c, folder, "output", i, &wanted);
        if (status != ESPL_OK) break;
        if (wanted.dtype != outputs[i].dtype || !espl_shape_equal(&wanted.shape, &outputs[i].shape))
            status =
                fail(c, ESPL_CHECK_FAILED, "%s: output '%s' is %s %s; output_%d.pb holds %s %s", folder, name,
                     espl_dtype_name(outputs[i].dtype), espl_shape_text(&outputs[i].shape, a, sizeof a), i,
                     espl_dtype_name(wanted.dtype), espl_shape_text(&wanted.shape, b, sizeof b));
        else
            add_result(v, rows, set, name, relative_error(&outputs[i], &wanted));
        espl_tensor_free(c->ctx, &wanted);
    }
    return status;
}

static espl_status verify_set(verification *v, const espl_graph *graph, const char *root, const char *set) {
    cli *c = v->c;
    int input_count = espl_graph_input_count(graph);
    char *folder = join(root, set);
    espl_shape *shapes = calloc((size_t)input_count + 1, sizeof *shapes);
    espl_tensor *inputs = new_arrays(input_count), *outputs = NULL;
    espl_session *session = NULL;
    espl_status status = folder && shapes && inputs ? ESPL_OK : nomem(c);
    for (int i = 0; status == ESPL_OK && i < input_count; i++) {
        status = read_array(c, folder, "input", i, &inputs[i]);
        shapes[i] = inputs[i].shape;
    }
    espl_session_options session_options = {.input_shapes = shapes};
    if (status == ESPL_OK) status = espl_session_create(c->ctx, graph, &session_options, &session, &c->diag);
    if (status == ESPL_OK) status = alloc_outputs(c, session, &outputs);
    if (status != ESPL_OK) goto done;
    status = espl_session_run(session, inputs, outputs, &c->diag);
    if (status != ESPL_OK) goto done;
    json_t *entry = json_object(), *rows = json_array();
    status = compare_outputs(v, set, folder, session, outputs, rows);
    put(entry, "name", text_value(set));
    put(entry, "outputs", rows);
    push(v->sets, entry);
done:
    free_outputs(c, session, &outputs);
    if (inputs) free_arrays(c, &inputs, input_count);
    espl_session_destroy(&session);
    free(shapes);
    free(folder);
    return status;
}

/* --- the command ------------------------------------------------------------------------------------- */

static espl_status print_verdict(verification *v, const char *model) {
    cli *c = v->c;
    bool passed = v->worst <= v->tolerance;
    espl_status status = ESPL_OK;
    if (c->common.json) {
        json_t *root = json_object();
        put(root, "file", text_value(model));
        put(root, "tolerance", number_value(v->tolerance));
        put(root, "max_error", number_value(v->worst));
        put(root, "passed", json_boolean(passed));
        put(root, "sets", json_incref(v->sets));
        status = json_print(c, root);
    } else {
        if (!table_print(v->table, stdout, TABLE_WIDTH)) return nomem(c);
        printf("\nlargest error %.3g of the largest reference value, %g allowed\n", v->worst, v->tolerance);
    }
    if (status != ESPL_OK || passed) return status;
    return fail(c, ESPL_CHECK_FAILED, "%s: the largest error, %.3g, is beyond the tolerance of %g", model,
                v->worst, v->tolerance);
}

static espl_status run(cli *c, const void *given) {
    static const column columns[] = {
        {"data", COLUMN_TEXT}, {"output", COLUMN_NAME}, {"error", COLUMN_NUMBER}, {"", COLUMN_TEXT}};
    const verify_options *o = given;
    const char *root = c->operands[0];
    verification v = {.c = c, .tolerance = o->tolerance};
    char *own = NULL, **sets = NULL;
    int set_count = 0;
    espl_graph *graph = NULL;
    espl_status status = list_folder(c, root, set_prefix, "", &sets, &set_count);
    if (status == ESPL_OK && set_count == 0)
        status = fail(c, ESPL_IO, "%s: has no folder %s0", root, set_prefix);
    if (status == ESPL_OK && !o->model) status = find_model(c, root, &own);
    const char *model = o->model ? o->model : own;
    if (status == ESPL_OK) status = espl_graph_read(c->ctx, model, &graph, &c->diag);
    if (status != ESPL_OK) goto done;
    v.table = table_new(columns, COUNT(columns));
    v.sets = json_array();
    if (!v.table || !v.sets) status = nomem(c);
    for (int i = 0; status == ESPL_OK && i < set_count; i++) status = verify_set(&v, graph, root, sets[i]);
    if (status == ESPL_OK) status = print_verdict(&v, model);
done:
    json_decref(v.sets);
    table_free(v.table);
    free_names(sets, set_count);
    free(own);
    espl_graph_destroy(&graph);
    return status;
}

const command command_verify = {
    .operands = "DIR",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .defaults = &defaults,
    .size = sizeof(verify_options),
    .run = run,
    .about = "Checks a model against stored outputs. DIR is laid out as ONNX's model zoo does: one .onnx "
             "file, and folders "
             "test_data_set_N with input_0.pb, ... and output_0.pb, ... in the order of the model's inputs "
             "and outputs. "
             "Prints the largest error of each output relative to the largest magnitude in its reference, "
             "and fails (exit "
             "code 1) beyond the tolerance.",
    .example = "espalier verify models/resnet20\nespalier verify models/resnet20 --model small.espl "
               "--tolerance 0.05",
};
