#include <inttypes.h>

#include "files.h"
#include "host_peak.h"
#include "inputs.h"
#include "text.h"

typedef struct bench_options {
    int64_t runs;
    double seconds;
    bool layers, no_peak;
    text_list shapes;
} bench_options;

static const bench_options defaults = {.runs = 10, .seconds = 1};

static const option options[] = {
    {.name = "layers",
     .kind = OPTION_FLAG,
     .offset = offsetof(bench_options, layers),
     .help = "the time of every layer too, and its share of what the machine can do"},
    {.name = "runs",
     .kind = OPTION_INT,
     .offset = offsetof(bench_options, runs),
     .argument = "N",
     .least = 1,
     .most = 1e6,
     .help = "at least so many runs (default 10)"},
    {.name = "seconds",
     .kind = OPTION_NUMBER,
     .offset = offsetof(bench_options, seconds),
     .argument = "S",
     .least = 0,
     .most = 3600,
     .help = "at least so many seconds of them (default 1)"},
    {.name = "no-peak",
     .kind = OPTION_FLAG,
     .offset = offsetof(bench_options, no_peak),
     .help = "does not measure the machine's peak for --layers (it is measured once and kept)"},
    SHAPE_OPTION(bench_options),
    {0},
};

/* What is known of one layer. */
typedef struct layer_time {
    espl_layer layer;
    double ms, share, gops, peak_share, memory_share; /* 0: not known */
} layer_time;

static double total_ms(const espl_session *session) {
    double sum = 0;
    for (int i = 0; i < espl_session_layer_count(session); i++) {
        espl_layer l = espl_session_layer(session, i);
        if (l.runs) sum += 1e3 * l.seconds / (double)l.runs;
    }
    return sum;
}

static uint64_t layer_bytes(const espl_layer *l) {
    return l->weight_bytes + l->activation_bytes;
}

static layer_time layer_at(cli *c, const espl_session *session, int index, double total,
                           const espl_chip *host) {
    layer_time t = {.layer = espl_session_layer(session, index)};
    if (t.layer.runs) t.ms = 1e3 * t.layer.seconds / (double)t.layer.runs;
    if (total > 0) t.share = t.ms / total;
    if (t.ms > 0) t.gops = 2e-6 * (double)t.layer.macs / t.ms;
    uint64_t workspace, weights;
    double compute, memory;
    espl_session_memory(session, &workspace, &weights);
    layer_limits(host, &t.layer, weights, espl_context_threads(c->ctx), &compute, &memory);
    if (t.ms > 0) t.peak_share = compute / t.ms, t.memory_share = memory / t.ms;
    return t;
}

static int64_t total_macs(const espl_session *session) {
    int64_t macs = 0;
    for (int i = 0; i < espl_session_layer_count(session); i++) macs += espl_session_layer(session, i).macs;
    return macs;
}

/* --- table ---------------------------------------------------------------------------------------------- */

static bool any_choice(const espl_session *session) {
    for (int i = 0; i < espl_session_layer_count(session); i++)
        if (*espl_session_layer(session, i).slower) return true;
    return false;
}

/* "conv_u8 1.8x": what else could compute the layer, and how much slower it was. */
static cell slower_cell(const espl_layer *l) {
    if (!*l->slower) return cell_format("-");
    return l->gain > 0 ? cell_format("%s %.2fx", l->slower, l->gain) : cell_format("%s", l->slower);
}

static espl_status print_layers(cli *c, const espl_session *session, const espl_chip *host) {
    static const column columns[] = {
        {"layer", COLUMN_NAME},  {"op", COLUMN_TAIL},        {"kernel", COLUMN_TAIL},
        {"isa", COLUMN_TEXT},    {"ms", COLUMN_NUMBER},      {"share", COLUMN_NUMBER},
        {"MACs", COLUMN_NUMBER}, {"GOP/s", COLUMN_NUMBER},   {"of peak", COLUMN_NUMBER},
        {"GB/s", COLUMN_NUMBER}, {"of peak", COLUMN_NUMBER}, {"slower", COLUMN_TEXT}};
    bool choices = any_choice(session);
    table *t = table_new(columns, COUNT(columns) - !choices);
    double total = total_ms(session);
    for (int i = 0; i < espl_session_layer_count(session); i++) {
        layer_time l = layer_at(c, session, i, total, host);
        table_add(t, *l.layer.name      ? l.layer.name
                     : l.layer.node < 0 ? "(input)"
                                        : cell_format("#%d", l.layer.node).text);
        table_add(t, l.layer.op);
        table_add(t, l.layer.kernel);
        table_add(t, *l.layer.isa ? l.layer.isa : "-");
        table_cell(t, cell_ms(l.ms));
        table_cell(t, cell_percent(l.share));
        table_cell(t, cell_count(l.layer.macs, true));
        table_cell(t, l.layer.macs ? cell_format("%.1f", l.gops) : cell_format("-"));
        table_cell(t, l.peak_share > 0 ? cell_percent(l.peak_share) : cell_format("-"));
        table_cell(t, l.ms > 0 ? cell_format("%.1f", 1e-6 * (double)layer_bytes(&l.layer) / l.ms)
                               : cell_format("-"));
        table_cell(t, l.memory_share > 0 ? cell_percent(l.memory_share) : cell_format("-"));
        if (choices) table_cell(t, slower_cell(&l.layer));
    }
    bool good = table_print(t, stdout, TABLE_WIDTH);
    table_free(t);
    if (good && host)
        printf("\npeak of %d thread%s here: %.0f GOP/s at s8, %.0f GOP/s at f32\n\n",
               espl_context_threads(c->ctx), espl_context_threads(c->ctx) == 1 ? "" : "s",
               peak_gops(host, "s8", espl_context_threads(c->ctx)),
               peak_gops(host, "f32", espl_context_threads(c->ctx)));
    else
        printf("\n");
    return good ? ESPL_OK : nomem(c);
}

static void print_timing(cli *c, const espl_session *session, const espl_timing *t) {
    uint64_t workspace, weights;
    int threads = espl_context_threads(c->ctx);
    espl_session_memory(session, &workspace, &weights);
    printf("median    %s ms\nmin       %s ms\np90       %s ms\n", cell_ms(t->median_ms).text,
           cell_ms(t->min_ms).text, cell_ms(t->p90_ms).text);
    printf("runs      %" PRId64 ", %d thread%s, %s kernels\n", t->runs, threads, threads == 1 ? "" : "s",
           espl_cpu_name());
    printf("work      %s MACs, %.1f GOP/s\n", cell_count(total_macs(session), false).text,
           t->median_ms > 0 ? 2e-6 * (double)total_macs(session) / t->median_ms : 0);
    printf("memory    %s workspace, %s packed weights\n", cell_bytes(workspace).text,
           cell_bytes(weights).text);
}

/* --- JSON ----------------------------------------------------------------------------------------------- */

static json_t *layers_value(cli *c, const espl_session *session, const espl_chip *host) {
    json_t *rows = json_array();
    double total = total_ms(session);
    for (int i = 0; i < espl_session_layer_count(session); i++) {
        layer_time l = layer_at(c, session, i, total, host);
        json_t *row = json_object();
        put(row, "name", text_value(l.layer.name));
        put(row, "op", text_value(l.layer.op));
        put(row, "kernel", text_value(l.layer.kernel));
        put(row, "isa", text_value(l.layer.isa));
        put(row, "format", text_value(l.layer.format));
        put(row, "ms", number_value(l.ms));
        put(row, "share", number_value(l.share));
        put(row, "macs", json_integer(l.layer.macs));
        put(row, "gops", number_value(l.gops));
        put(row, "peak_share", l.peak_share > 0 ? number_value(l.peak_share) : json_null());
        put(row, "bytes", json_integer((json_int_t)layer_bytes(&l.layer)));
        put(row, "memory_share", l.memory_share > 0 ? number_value(l.memory_share) : json_null());
        put(row, "sparse", json_boolean(l.layer.sparse));
        put(row, "slower", *l.layer.slower ? text_value(l.layer.slower) : json_null());
        put(row, "gain", l.layer.gain > 0 ? number_value(l.layer.gain) : json_null());
        push(rows, row);
    }
    return rows;
}

static json_t *timing_value(cli *c, const espl_session *session, const espl_timing *t) {
    uint64_t workspace, weights;
    json_t *root = json_object();
    espl_session_memory(session, &workspace, &weights);
    put(root, "file", text_value(c->operands[0]));
    put(root, "bytes", json_integer((json_int_t)file_size(c->operands[0])));
    put(root, "macs", json_integer(total_macs(session)));
    put(root, "threads", json_integer(espl_context_threads(c->ctx)));
    put(root, "cpu", text_value(espl_cpu_name()));
    put(root, "median_ms", number_value(t->median_ms));
    put(root, "min_ms", number_value(t->min_ms));
    put(root, "p90_ms", number_value(t->p90_ms));
    put(root, "runs", json_integer(t->runs));
    put(root, "workspace_bytes", json_integer((json_int_t)workspace));
    put(root, "weight_bytes", json_integer((json_int_t)weights));
    return root;
}

static espl_status run(cli *c, const void *given) {
    const bench_options *o = given;
    espl_session *session = NULL;
    espl_chip *host = NULL;
    espl_timing timing;
    espl_status status = open_session(c, c->operands[0], &o->shapes, NULL, (espl_session_options){.profile = o->layers}, &session);
    /* One run to warm up, which the times of the layers leave out. */
    if (status == ESPL_OK) status = espl_time_session(c->ctx, session, 1, 0, &timing, &c->diag);
    if (status != ESPL_OK) goto done;
    espl_session_profile_reset(session);
    status = espl_time_session(c->ctx, session, (int)o->runs, o->seconds, &timing, &c->diag);
    if (status == ESPL_OK && o->layers && !o->no_peak) status = host_chip(c, &host);
    if (status != ESPL_OK) goto done;
    if (c->common.json) {
        json_t *root = timing_value(c, session, &timing);
        if (o->layers) put(root, "layers", layers_value(c, session, host));
        status = json_print(c, root);
    } else {
        if (o->layers) status = print_layers(c, session, host);
        if (status == ESPL_OK) print_timing(c, session, &timing);
    }
done:
    espl_chip_destroy(&host);
    espl_session_destroy(&session);
    return status;
}

const command command_bench = {
    .operands = "MODEL",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .defaults = &defaults,
    .size = sizeof(bench_options),
    .run = run,
    .about =
        "Times one inference of a model (.onnx or .espl) on random input: median, minimum and 90th "
        "percentile. "
        "With --layers also every layer: its time and share, the kernel that ran it and that kernel's "
        "instruction set, its rate in billions of operations a second (a MAC is two), the bytes of weights "
        "and "
        "activations that it passes a second, and how much of its time this machine would need at least for "
        "those operations and for those bytes. What the machine reaches is measured once and kept in "
        "~/.cache/espalier/host.yaml (espalier chip probe measures it again). Layers that share bands of "
        "rows otherwise "
        "run one by one then, which takes a little longer.",
    .example = "espalier bench examples/digits.onnx\nespalier bench model.espl --threads 1 --layers",
};
