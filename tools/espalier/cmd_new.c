#include <stdio.h>
#include <string.h>

#include "espalier/onnx.h"
#include "espalier/zoo.h"
#include "files.h"
#include "text.h"

typedef struct new_options {
    espl_zoo_options network;
    int64_t seed;
    const char *file, *input;
    bool list;
} new_options;

static const new_options defaults = {.seed = 1};

#define COUNT_OPTION(field_name, word, sentence)                                         \
    {                                                                                    \
        .name = word, .kind = OPTION_INT, .argument = "N", .help = sentence,             \
        .offset = offsetof(new_options, network.field_name), .least = 1, .most = 1 << 24 \
    }

static const option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(new_options, file),
     .argument = "FILE",
     .help = "the ONNX file to write"},
    {.name = "list",
     .kind = OPTION_FLAG,
     .offset = offsetof(new_options, list),
     .help = "lists the networks and what each takes, as without a NAME"},
    {.name = "seed",
     .kind = OPTION_INT,
     .offset = offsetof(new_options, seed),
     .argument = "N",
     .least = 0,
     .most = 9e15,
     .help = "of the weights: the same one gives the same file (default 1)"},
    {.name = "input",
     .kind = OPTION_TEXT,
     .offset = offsetof(new_options, input),
     .argument = "CxHxW",
     .help = "shape of one sample, such as 3x32x32"},
    {.name = "width",
     .kind = OPTION_NUMBER,
     .offset = offsetof(new_options, network.width),
     .argument = "W",
     .least = 0.01,
     .most = 100,
     .help = "multiplies the numbers of channels (default 1)"},
    {.name = "dropout",
     .kind = OPTION_NUMBER,
     .offset = offsetof(new_options, network.dropout),
     .argument = "P",
     .least = 0,
     .most = 0.99,
     .help = "share of activations dropped while training (default 0)"},
    COUNT_OPTION(classes, "classes", "classes to tell apart"),
    COUNT_OPTION(hidden, "hidden", "units of a hidden or recurrent layer, or width of a token"),
    COUNT_OPTION(layers, "layers", "hidden or recurrent layers, or transformer blocks"),
    COUNT_OPTION(heads, "heads", "attention heads"),
    COUNT_OPTION(vocabulary, "vocab", "different tokens"),
    COUNT_OPTION(embedding, "embedding", "numbers that a token becomes (default: as --hidden)"),
    COUNT_OPTION(sequence, "sequence", "tokens in a sequence"),
    {0},
};

const char *network_word(int index) {
    const espl_zoo_network *n = espl_zoo_at(index);
    return n ? n->name : NULL;
}

/* --- the list ----------------------------------------------------------------------------------------- */

static json_t *network_value(const espl_zoo_network *n) {
    char names[256];
    json_t *row = json_object(), *list = json_array();
    espl_zoo_option_names(n->options, names, sizeof names);
    for (char *name = names; *name;) {
        size_t length = strcspn(name, ",");
        push(list, json_stringn(name + 2, length - 2));
        name += length;
        name += strspn(name, ", ");
    }
    put(row, "name", text_value(n->name));
    put(row, "data", text_value(n->data));
    put(row, "options", list);
    put(row, "what", text_value(n->text));
    return row;
}

static espl_status print_list(cli *c) {
    static const column columns[] = {
        {"name", COLUMN_TEXT}, {"data", COLUMN_TEXT}, {"what it is", COLUMN_WRAP}};
    char names[256], text[512];
    espl_status status = ESPL_OK;
    const espl_zoo_network *n;
    json_t *list = json_array();
    table *t = table_new(columns, COUNT(columns));
    for (int i = 0; t && (n = espl_zoo_at(i)); i++) {
        push(list, network_value(n));
        table_add(t, n->name);
        table_add(t, n->data);
        snprintf(text, sizeof text, "%s; %s", n->text,
                 espl_zoo_option_names(n->options, names, sizeof names));
        table_add(t, text);
    }
    if (!t) status = nomem(c);
    if (status == ESPL_OK && c->common.json) {
        status = json_print(c, list);
        list = NULL;
    } else if (status == ESPL_OK && !table_print(t, stdout, TABLE_WIDTH)) {
        status = nomem(c);
    }
    json_decref(list);
    table_free(t);
    return status;
}

/* --- one network --------------------------------------------------------------------------------------- */

static espl_status report(cli *c, const char *file) {
    if (!c->common.json) {
        note(c, "%s: %s", file, cell_bytes(file_size(file)).text);
        return ESPL_OK;
    }
    json_t *root = json_object();
    put(root, "file", text_value(file));
    put(root, "bytes", json_integer((json_int_t)file_size(file)));
    return json_print(c, root);
}

static espl_status run(cli *c, const void *given) {
    const new_options *o = given;
    espl_zoo_options network = o->network;
    espl_graph *graph = NULL;
    if (o->list || c->operand_count == 0) return print_list(c);
    if (!o->file && espl_zoo_find(c->operands[0]))
        return usage_fail(c, "--output FILE is missing: the ONNX file to write");
    if (o->input && (!espl_shape_parse(o->input, &network.input) || network.input.rank == 0))
        return usage_fail(c, "--input: '%s' is not a shape such as 3x32x32", o->input);
    network.seed = (uint64_t)o->seed;
    espl_status status = o->file ? check_ending(c, "--output", o->file, ".onnx") : ESPL_OK;
    if (status == ESPL_OK)
        status = espl_zoo_build(c->ctx, c->operands[0], &network, &graph, &c->diag);
    if (status == ESPL_OK) status = espl_onnx_write(c->ctx, graph, NULL, o->file, &c->diag);
    espl_graph_destroy(&graph);
    return status == ESPL_OK ? report(c, o->file) : status;
}

const command command_new = {
    .operands = "[NAME]",
    .words = network_word,
    .most_operands = 1,
    .options = options,
    .defaults = &defaults,
    .size = sizeof(new_options),
    .run = run,
    .about =
        "Writes an untrained network of the zoo as ONNX, with weights drawn from --seed; without a NAME, "
        "lists the networks, what each is usually trained on, and the options that it takes. The batch is "
        "open. docs/zoo.md describes them.",
    .example = "espalier new\nespalier new resnet8 -o resnet8.onnx\nespalier new mobilenet-v2 --width 0.5 "
               "--classes 100 -o "
               "small.onnx\nespalier new lstm-lm --hidden 650 --dropout 0.5 -o lm.onnx",
};
