#include <string.h>

#include "espalier/model.h"
#include "files.h"
#include "inputs.h"
#include "text.h"

typedef struct export_options {
    int flavour;
    const char *file;
} export_options;

/* No flavour given: whatever the model was quantized for is right, and ort-x86 takes everything. */
static const export_options defaults = {.flavour = ESPL_FLAVOUR_ORT_X86};

static const option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(export_options, file),
     .argument = "FILE",
     .required = true,
     .help = "the file to write; its ending, .onnx or .espl, says what"},
    {.name = "flavour",
     .kind = OPTION_CHOICE,
     .offset = offsetof(export_options, flavour),
     .choices = flavour_choice,
     .help = "whom the ONNX file is for: the integers stay as they are, and a model that was quantized for "
             "others gets "
             "a warning"},
    {0},
};

static espl_status run(cli *c, const void *given) {
    const export_options *o = given;
    bool onnx = ends_with(o->file, ".onnx");
    if (!onnx && !ends_with(o->file, ".espl"))
        return usage_fail(c, "-o: '%s' ends in neither .onnx nor .espl", o->file);
    espl_graph *graph = NULL;
    espl_onnx_options onnx_options = {.flavour = (espl_flavour)o->flavour};
    espl_status status = espl_graph_read(c->ctx, c->operands[0], &graph, &c->diag);
    if (status == ESPL_OK && onnx)
        status = espl_onnx_write(c->ctx, graph, &onnx_options, o->file, &c->diag);
    else if (status == ESPL_OK)
        status = espl_model_write(c->ctx, graph, o->file, &c->diag);
    espl_graph_destroy(&graph);
    if (status != ESPL_OK) return status;
    if (!c->common.json) {
        note(c, "%s: %s", o->file, cell_bytes(file_size(o->file)).text);
        return ESPL_OK;
    }
    json_t *root = json_object();
    put(root, "file", text_value(o->file));
    put(root, "bytes", json_integer((json_int_t)file_size(o->file)));
    return json_print(c, root);
}

const command command_export = {
    .operands = "MODEL",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .defaults = &defaults,
    .size = sizeof(export_options),
    .run = run,
    .about = "Writes a model (.onnx or .espl) as standard ONNX, quantizations as QuantizeLinear and "
             "DequantizeLinear, or as "
             "an .espl file. The file appears whole or not at all.",
    .example = "espalier export model.espl -o model.onnx",
};
