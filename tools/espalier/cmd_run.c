#include <stdlib.h>
#include <string.h>

#include "espalier/onnx.h"

#include "arrays.h"
#include "files.h"
#include "inputs.h"
#include "text.h"

typedef struct run_options {
    text_list inputs;
    const char *folder;
} run_options;

static const option options[] = {
    {.name = "input",
     .letter = 'i',
     .kind = OPTION_LIST,
     .offset = offsetof(run_options, inputs),
     .required = true,
     .argument = "NAME=FILE.npy",
     .help = "the array for an input, once for each; a model with one input takes FILE.npy alone; FILE.pb: ONNX's "
             "TensorProto, which may hold strings"},
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(run_options, folder),
     .argument = "DIR",
     .required = true,
     .help = "the folder for the outputs, one NAME.npy each"},
    {0},
};

/* --- inputs ------------------------------------------------------------------------------------------ */

/* The input and the file of "NAME=FILE". */
static espl_status split_input(cli *c, const espl_graph *graph, const char *text, int *input,
                               const char **file) {
    char names[512];
    *file = text;
    *input = find_input(graph, text, file);
    if (*input < 0 && espl_graph_input_count(graph) == 1 && !strchr(text, '=')) *input = 0;
    if (*input >= 0) return ESPL_OK;
    return fail(c, ESPL_INVALID, "--input: '%s' names no input of the model; its inputs are: %s", text,
                input_names(graph, names, sizeof names));
}

/* The array has the shape of the input, but where that has a '?'. (None may mean that the model does not say its rank; then
 * the session looks.) */
static espl_status check_shape(cli *c, const espl_graph *graph, int input, const char *file, const espl_shape *got) {
    const espl_shape want = espl_graph_input_shape(graph, input);
    char wants[160], has[160];
    bool good = got->rank == want.rank || want.rank == 0;
    for (int d = 0; good && d < want.rank; d++) good = want.dim[d] < 0 || want.dim[d] == got->dim[d];
    if (good) return ESPL_OK;
    return fail(c, ESPL_INVALID, "%s: has the shape %s, and the model's input '%s' has %s", file,
                espl_shape_text(got, has, sizeof has), espl_graph_input_name(graph, input),
                espl_shape_text(&want, wants, sizeof wants));
}

static espl_status read_inputs(cli *c, const espl_graph *graph, const text_list *given, espl_tensor *inputs) {
    char names[512];
    for (int i = 0; i < given->count; i++) {
        int input;
        const char *file;
        espl_status status = split_input(c, graph, given->item[i], &input, &file);
        if (status != ESPL_OK) return status;
        if (inputs[input].data)
            return usage_fail(c, "--input: '%s' is given twice", espl_graph_input_name(graph, input));
        size_t length = strlen(file);
        if (length > 3 && strcmp(file + length - 3, ".pb") == 0)
            status = espl_onnx_read_tensor(c->ctx, file, &inputs[input], &c->diag);
        else
            status = espl_npy_read(c->ctx, file, &inputs[input], &c->diag);
        if (status == ESPL_OK) status = check_shape(c, graph, input, file, &inputs[input].shape);
        if (status == ESPL_OK && espl_graph_input_dtype(graph, input) == ESPL_F32)
            status = to_f32(c, &inputs[input]);
        if (status != ESPL_OK) return status;
    }
    for (int i = 0; i < espl_graph_input_count(graph); i++)
        if (!inputs[i].data)
            return usage_fail(c, "--input: there is none for '%s'; the model's inputs are: %s",
                              espl_graph_input_name(graph, i), input_names(graph, names, sizeof names));
    return ESPL_OK;
}

/* A session for arrays of these very shapes. */
static espl_status session_for(cli *c, const espl_graph *graph, const espl_tensor *inputs,
                               espl_session **out) {
    int count = espl_graph_input_count(graph);
    espl_shape *shapes = calloc((size_t)count + 1, sizeof *shapes);
    if (!shapes) return nomem(c);
    for (int i = 0; i < count; i++) shapes[i] = inputs[i].shape;
    espl_session_options session_options = {.input_shapes = shapes};
    espl_status status = espl_session_create(c->ctx, graph, &session_options, out, &c->diag);
    free(shapes);
    return status;
}

/* --- outputs ----------------------------------------------------------------------------------------- */

/* Names of outputs become names of files: letters, digits and "._-" stay. Names that fall together get a
 * number. */
static void file_name(const espl_session *session, int index, char *buf, size_t size) {
    size_t n = 0;
    for (const char *p = espl_session_output_name(session, index); *p && n + 1 < size - 24; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                     *p == '-' || *p == '_' || (*p == '.' && n > 0);
        buf[n++] = plain ? *p : '_';
    }
    buf[n] = 0;
}

static void unique_name(const espl_session *session, int index, char *buf, size_t size) {
    char other[160];
    bool taken = false;
    file_name(session, index, buf, size);
    for (int i = 0; i < espl_session_output_count(session) && !taken; i++) {
        file_name(session, i, other, sizeof other);
        taken = i != index && strcmp(buf, other) == 0;
    }
    size_t n = strlen(buf);
    if (taken || n == 0) n += (size_t)snprintf(buf + n, size - n, "_%d", index);
    snprintf(buf + n, size - n, ".npy");
}

static espl_status write_outputs(cli *c, const espl_session *session, const espl_tensor *outputs,
                                 const char *path) {
    output_folder folder;
    espl_status status = output_begin(c, path, &folder);
    for (int i = 0; status == ESPL_OK && i < espl_session_output_count(session); i++) {
        char name[160];
        unique_name(session, i, name, sizeof name);
        char *file = output_path(&folder, name);
        status = file ? espl_npy_write(c->ctx, file, &outputs[i], &c->diag) : nomem(c);
        free(file);
    }
    if (status == ESPL_OK) status = output_commit(c, &folder);
    output_end(&folder);
    return status;
}

static espl_status print_outputs(cli *c, const espl_session *session, const espl_tensor *outputs,
                                 const char *folder) {
    static const column columns[] = {
        {"output", COLUMN_NAME}, {"type", COLUMN_TEXT}, {"shape", COLUMN_TEXT}, {"file", COLUMN_NAME}};
    json_t *root = c->common.json ? json_object() : NULL, *rows = root ? json_array() : NULL;
    table *t = c->common.json ? NULL : table_new(columns, COUNT(columns));
    bool good = true;
    for (int i = 0; i < espl_session_output_count(session); i++) {
        char name[160], shape[160];
        unique_name(session, i, name, sizeof name);
        char *file = join(folder, name);
        good &= file != NULL;
        if (c->common.json) {
            json_t *row =
                array_value(espl_session_output_name(session, i), outputs[i].dtype, &outputs[i].shape);
            put(row, "file", file ? text_value(file) : NULL);
            push(rows, row);
        } else {
            table_add(t, espl_session_output_name(session, i));
            table_add(t, espl_dtype_name(outputs[i].dtype));
            table_add(t, espl_shape_text(&outputs[i].shape, shape, sizeof shape));
            table_add(t, file ? file : name);
        }
        free(file);
    }
    if (c->common.json) {
        put(root, "file", text_value(c->operands[0]));
        put(root, "outputs", rows);
        return json_print(c, root);
    }
    good = good && table_print(t, stdout, TABLE_WIDTH);
    table_free(t);
    return good ? ESPL_OK : nomem(c);
}

static espl_status run(cli *c, const void *given) {
    const run_options *o = given;
    espl_graph *graph = NULL;
    espl_session *session = NULL;
    espl_tensor *inputs = NULL, *outputs = NULL;
    int input_count = 0;
    espl_status status = espl_graph_read(c->ctx, c->operands[0], &graph, &c->diag);
    if (status != ESPL_OK) goto done;
    input_count = espl_graph_input_count(graph);
    inputs = new_arrays(input_count);
    status = inputs ? read_inputs(c, graph, &o->inputs, inputs) : nomem(c);
    if (status == ESPL_OK) status = session_for(c, graph, inputs, &session);
    if (status == ESPL_OK) status = alloc_outputs(c, session, &outputs);
    if (status != ESPL_OK) goto done;
    status = espl_session_run(session, inputs, outputs, &c->diag);
    if (status == ESPL_OK) status = write_outputs(c, session, outputs, o->folder);
    if (status == ESPL_OK) status = print_outputs(c, session, outputs, o->folder);
done:
    free_outputs(c, session, &outputs);
    free_arrays(c, &inputs, input_count);
    espl_session_destroy(&session);
    espl_graph_destroy(&graph);
    return status;
}

const command command_run = {
    .operands = "MODEL",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .size = sizeof(run_options),
    .run = run,
    .about = "Runs a model (.onnx or .espl) once on arrays in NumPy's .npy files and writes its outputs as "
             ".npy files. "
             "Unknown dimensions of the inputs are those of the arrays; where the model wants f32, arrays of "
             "other types are "
             "converted. A folder that is not there yet appears whole at the end.",
    .example = "espalier run examples/digits.onnx --input image=digit.npy -o result",
};
