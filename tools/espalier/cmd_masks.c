#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "inputs.h"
#include "mask_picture.h"
#include "text.h"

typedef struct masks_options {
    const char *folder, *layer, *patterns;
} masks_options;

static const option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(masks_options, folder),
     .argument = "DIR",
     .required = true,
     .help = "the folder for the pictures"},
    {.name = "layer",
     .kind = OPTION_TEXT,
     .offset = offsetof(masks_options, layer),
     .argument = "NAME",
     .help = "only this layer, as espalier inspect names it"},
    {.name = "patterns",
     .kind = OPTION_TEXT,
     .offset = offsetof(masks_options, patterns),
     .argument = "LIST",
     .help = "patterns to put on the weights, each drawn beside them: 'unstructured 75%,bank 4:16,block 4x4 "
             "75%'"},
    {0},
};

enum { MOST_PATTERNS = 8, NAME_ROOM = 128 };

typedef struct job {
    espl_graph *graph;
    espl_sparsity patterns[MOST_PATTERNS];
    int pattern_count, drawn;
    output_folder out;
    json_t *list;
    table *table;
} job;

static const column columns[] = {
    {"layer", COLUMN_NAME},   {"file", COLUMN_TAIL},      {"pattern", COLUMN_TEXT},
    {"zeros", COLUMN_NUMBER}, {"balance", COLUMN_NUMBER}, {"magnitude kept", COLUMN_NUMBER},
};

static espl_status parse_patterns(cli *c, const char *list, job *j) {
    char forms[ESPL_SPARSITY_FORMS];
    while (list && *list) {
        char text[ESPL_SPARSITY_TEXT] = "";
        size_t skip = strspn(list, " "), length = strcspn(list + skip, ",");
        size_t end = length;
        while (end > 0 && list[skip + end - 1] == ' ') end--;
        if (j->pattern_count == MOST_PATTERNS)
            return usage_fail(c, "--patterns: more than %d are asked for", MOST_PATTERNS);
        if (end < sizeof text) memcpy(text, list + skip, end);
        if (end >= sizeof text || !espl_sparsity_parse(text, &j->patterns[j->pattern_count]))
            return usage_fail(c, "--patterns: '%.*s' is not a pattern; give some of: %s", (int)end,
                              list + skip, espl_sparsity_forms(forms, sizeof forms));
        j->pattern_count++;
        list += skip + length;
        if (*list) list++;
    }
    return ESPL_OK;
}

/* "layer1.0.conv1", "#7", of a layer with several weights "lstm W": what the weights are called here. */
static void name_layer(const espl_weights *w, char *buf) {
    char part[16] = "";
    if (mask_is_recurrent(w))
        snprintf(part, sizeof part, " %s", w->input == 1 ? "W" : "R");
    else if (w->tensors > 1)
        snprintf(part, sizeof part, " input %d", w->input);
    if (*w->layer)
        snprintf(buf, NAME_ROOM, "%.100s%s", w->layer, part);
    else
        snprintf(buf, NAME_ROOM, "#%d%s", w->node, part);
    text_tame(buf);
}

/* "007-layer1.0.conv1.png": names of layers hold slashes and worse. */
static void name_file(const char *layer, int index, char *buf, size_t size) {
    size_t used = (size_t)snprintf(buf, size, "%03d-", index);
    while (*layer == '/') layer++;
    for (; *layer && used + 5 < size; layer++) {
        char l = *layer;
        bool plain =
            (l >= 'a' && l <= 'z') || (l >= 'A' && l <= 'Z') || (l >= '0' && l <= '9') || strchr("._-#", l);
        buf[used++] = plain ? l : '_';
    }
    snprintf(buf + used, size - used, ".png");
}

static void note_form(job *j, const espl_weights *w, json_t *forms, const char *layer, const char *file,
                      bool first) {
    char caption[256], text[ESPL_SPARSITY_TEXT];
    json_t *row = json_object();
    put(row, "pattern", text_value(espl_sparsity_text(&w->pattern, text, sizeof text)));
    put(row, "given", json_boolean(first));
    put(row, "sparsity", number_value(w->sparsity));
    put(row, "balance", number_value(w->balance));
    put(row, "magnitude", number_value(w->magnitude));
    put(row, "why", text_value(w->why));
    push(forms, row);
    table_add(j->table, first ? layer : "");
    table_add(j->table, first ? file : "");
    table_add(j->table, mask_caption(w, first, caption, sizeof caption));
    table_cell(j->table, cell_percent(w->sparsity));
    table_cell(j->table, cell_format("%.2f", w->balance));
    table_cell(j->table, cell_percent(w->magnitude));
}

/* The weights under each pattern; forms[0] are those as they are. */
static espl_status read_forms(cli *c, const job *j, int index, espl_weights *forms) {
    espl_status status = ESPL_OK;
    for (int k = 1; k <= j->pattern_count && status == ESPL_OK; k++)
        status = espl_weights_read(c->ctx, j->graph, index, &j->patterns[k - 1], &forms[k], &c->diag);
    return status;
}

static bool is_wanted(const espl_weights *w, const char *name, const char *only) {
    char number[16];
    snprintf(number, sizeof number, "#%d", w->node);
    return !only || strcmp(only, name) == 0 || strcmp(only, w->layer) == 0 || strcmp(only, number) == 0;
}

static espl_status draw(cli *c, job *j, int index, const espl_weights *forms, const char *layer) {
    char title[NAME_ROOM + 64], file[NAME_ROOM + 16];
    name_file(layer, index, file, sizeof file);
    snprintf(title, sizeof title, "%s   %s", layer, forms->op);
    picture p = mask_picture(title, forms, j->pattern_count + 1);
    char *path = output_path(&j->out, file);
    espl_status status = p.dots && path ? picture_write(c, path, &p) : nomem(c);
    json_t *entry = json_object(), *list = json_array();
    for (int k = 0; k <= j->pattern_count; k++) note_form(j, &forms[k], list, layer, file, k == 0);
    put(entry, "layer", text_value(layer));
    put(entry, "file", text_value(file));
    put(entry, "forms", list);
    push(j->list, entry);
    j->drawn++;
    free(path);
    free(p.dots);
    return status;
}

static espl_status draw_one(cli *c, job *j, int index, const char *only) {
    espl_weights forms[MOST_PATTERNS + 1] = {0};
    char layer[NAME_ROOM];
    espl_status status = espl_weights_read(c->ctx, j->graph, index, NULL, &forms[0], &c->diag);
    if (status == ESPL_OK) {
        name_layer(&forms[0], layer);
        if (is_wanted(&forms[0], layer, only)) {
            status = read_forms(c, j, index, forms);
            if (status == ESPL_OK) status = draw(c, j, index, forms, layer);
        }
    }
    for (int k = 0; k <= j->pattern_count; k++) espl_weights_free(c->ctx, &forms[k]);
    return status;
}

static espl_status draw_all(cli *c, job *j, const masks_options *o) {
    int count = espl_weights_count(j->graph);
    espl_status status = output_begin(c, o->folder, &j->out);
    for (int i = 0; i < count && status == ESPL_OK; i++) {
        status = draw_one(c, j, i, o->layer);
        if (status == ESPL_OK && !progress_update(&c->progress, "layers", i + 1, count))
            status = fail(c, ESPL_CANCELLED, "cancelled");
    }
    progress_clear(&c->progress);
    if (status == ESPL_OK && !j->drawn && o->layer)
        status = fail(c, ESPL_INVALID,
                      "--layer: %s has no layer '%s' with weights; espalier inspect lists the names",
                      c->operands[0], o->layer);
    else if (status == ESPL_OK && !j->drawn)
        status = fail(c, ESPL_INVALID, "%s: has no layer with weights", c->operands[0]);
    if (status == ESPL_OK) status = output_commit(c, &j->out);
    output_end(&j->out);
    return status;
}

static espl_status run(cli *c, const void *given) {
    const masks_options *o = given;
    job j = {.list = json_array(), .table = table_new(columns, COUNT(columns))};
    progress_catch_interrupt();
    espl_status status = parse_patterns(c, o->patterns, &j);
    if (status == ESPL_OK) status = espl_graph_read(c->ctx, c->operands[0], &j.graph, &c->diag);
    if (status == ESPL_OK) status = draw_all(c, &j, o);
    if (status == ESPL_OK && c->common.json) {
        json_t *root = json_object();
        put(root, "file", text_value(c->operands[0]));
        put(root, "folder", text_value(o->folder));
        put(root, "layers", json_incref(j.list));
        status = json_print(c, root);
    } else if (status == ESPL_OK && !table_print(j.table, stdout, TABLE_WIDTH)) {
        status = nomem(c);
    }
    table_free(j.table);
    json_decref(j.list);
    espl_graph_destroy(&j.graph);
    return status;
}

const command command_masks = {
    .operands = "MODEL",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .size = sizeof(masks_options),
    .run = run,
    .about =
        "Draws which weights of each layer are zero: one PNG a layer, a square for each weight that is kept, "
        "the darker the larger, white for zeros, lines between banks and blocks. A row is an output, a "
        "column "
        "an input, tap after tap; of large matrices the first rows and columns are shown, and the picture "
        "says "
        "so.\n\n"
        "With --patterns the same weights stand side by side under each of them, pruned by magnitude, with "
        "the "
        "share of zeros, the balance (see espalier inspect) and how much of the sum of |w| is kept. The "
        "model "
        "itself is not changed; espalier compress --recipe does that.",
    .example = "espalier masks small/model.espl -o pictures\n"
               "espalier masks examples/digits.onnx -o pictures --patterns 'unstructured 75%,bank 4:16,block 4x4 75%'",
};
