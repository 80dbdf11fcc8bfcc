#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "inputs.h"
#include "text.h"

/* --- JSON ----------------------------------------------------------------------------------------------- */

static json_t *known(double value) {
    return value > 0 ? number_value(value) : json_null();
}

static json_t *side_value(const espl_scores *scores, double score, uint64_t bytes, double ms, double joules) {
    json_t *side = json_object();
    put(side, "score", number_value(score));
    put(side, "top1", scores->has_labels ? number_value(scores->top1) : json_null());
    put(side, "top5", scores->has_labels ? number_value(scores->top5) : json_null());
    put(side, "loss", scores->has_labels ? number_value(scores->loss) : json_null());
    put(side, "perplexity", scores->has_perplexity ? number_value(scores->perplexity) : json_null());
    put(side, "mse", scores->has_mse ? number_value(scores->mse) : json_null());
    put(side, "bytes", json_integer((json_int_t)bytes));
    put(side, "median_ms", known(ms));
    put(side, "joules", known(joules));
    return side;
}

static double sparsity(int64_t zeros, int64_t weights) {
    return weights ? (double)zeros / (double)weights : 0;
}

static json_t *layer_value(const espl_layer_choice *l) {
    char pattern[ESPL_SPARSITY_TEXT];
    json_t *row = json_object();
    put(row, "name", text_value(l->name));
    put(row, "op", text_value(l->op));
    put(row, "pattern", text_value(espl_sparsity_text(&l->pattern, pattern, sizeof pattern)));
    put(row, "sparsity", number_value(sparsity(l->zeros, l->weights)));
    put(row, "format_before", text_value(l->format_before));
    put(row, "format_after", text_value(l->format_after));
    put(row, "bytes_before", json_integer((json_int_t)l->bytes_before));
    put(row, "bytes_after", json_integer((json_int_t)l->bytes_after));
    put(row, "ms_before", known(l->ms_before));
    put(row, "ms_after", known(l->ms_after));
    put(row, "macs", json_integer(l->macs));
    put(row, "params", json_integer(l->params));
    put(row, "kl_alone", number_value(l->alone.kl));
    put(row, "error_alone", number_value(l->alone.error));
    put(row, "accumulator_bits", l->accumulator_bits ? json_integer(l->accumulator_bits) : json_null());
    put(row, "why", text_value(l->why));
    return row;
}

static double ratio(double before, double after) {
    return before > 0 && after > 0 ? before / after : NAN;
}

static json_t *repair_value(const espl_repair_effect *e) {
    json_t *row = json_object();
    put(row, "repair", text_value(e->repair));
    put(row, "score_before", number_value(e->score_before));
    put(row, "score_after", number_value(e->score_after));
    put(row, "seconds", number_value(e->seconds));
    return row;
}

json_t *curve_value(const espl_result *r) {
    json_t *points = json_array();
    for (int i = 0; i < r->curve_count; i++) {
        const espl_curve_point *p = &r->curve[i];
        json_t *point = json_object();
        put(point, "name", text_value(p->name));
        put(point, "mixed", json_boolean(p->mixed));
        put(point, "bytes", json_integer((json_int_t)p->bytes));
        put(point, "ms", known(p->ms));
        put(point, "joules", known(p->joules));
        put(point, "score", number_value(p->score));
        put(point, "drop", number_value(p->drop));
        put(point, "loss", number_value(p->loss));
        put(point, "damage", number_value(p->damage));
        push(points, point);
    }
    return points;
}

static json_t *search_value(const espl_result *r) {
    json_t *root = json_object();
    put(root, "samples", json_integer(r->search_samples));
    put(root, "damage", number_value(r->search_damage));
    put(root, "bound", number_value(r->search_bound));
    put(root, "curve", curve_value(r));
    return root;
}

/* Weights, which must have room in some memory of the chip, even without activations beside them. */
static uint64_t weights_after(const espl_result *r) {
    uint64_t bytes = 0;
    for (int i = 0; i < r->layer_count; i++) bytes += r->layers[i].bytes_after;
    return bytes;
}

static bool fits(const espl_result *r, const report_settings *s) {
    return !s->chip || espl_chip_fits(s->chip, weights_after(r), 1);
}

/* With the memories where weights may be. */
static void print_no_room(const espl_result *r, const espl_chip *chip, FILE *out) {
    espl_chip_memory m;
    fprintf(out, "%-16s NOT on %s: %s of weights for", "room", espl_chip_name(chip),
            cell_bytes(weights_after(r)).text);
    for (int i = 0, shown = 0; espl_chip_memory_at(chip, i, &m); i++)
        if (m.holds_weights) fprintf(out, "%s %s of %s", shown++ ? "," : "", cell_bytes(m.bytes).text, m.name);
    fputs("; fewer bits (--formats) or pruning help\n", out);
}

json_t *report_value(const espl_result *r, const report_settings *s) {
    json_t *root = json_object(), *layers = json_array();
    for (int i = 0; i < r->layer_count; i++) push(layers, layer_value(&r->layers[i]));
    put(root, "espalier", text_value(espl_version()));
    put(root, "file", text_value(s->model));
    put(root, "chip", text_value(r->chip));
    put(root, "data", text_value(r->data));
    put(root, "goal", text_value(espl_goal_name(r->goal)));
    put(root, "flavour", text_value(espl_flavour_name(r->flavour)));
    put(root, "metric", text_value(r->metric));
    put(root, "samples", json_integer(r->eval_samples));
    put(root, "calibration_samples", json_integer(r->calib_samples));
    put(root, "calibration", text_value(r->calib_data));
    put(root, "drop", number_value(r->drop));
    put(root, "max_drop", number_value(r->max_drop));
    put(root, "within_budget", json_boolean(r->within_budget));
    put(root, "measured", json_boolean(r->measured));
    put(root, "threads", r->measured ? json_integer(s->threads) : json_null());
    put(root, "top1", r->after.has_labels ? number_value(r->after.top1) : json_null());
    put(root, "bytes", json_integer((json_int_t)r->bytes_after));
    if (r->onnx_bytes)
        put(root, "onnx_bytes", json_integer((json_int_t)r->onnx_bytes)); /* once it is written */
    put(root, "fits", s->chip ? json_boolean(fits(r, s)) : json_null());
    put(root, "median_ms", known(r->ms_after));
    put(root, "macs", json_integer(r->macs));
    put(root, "params", json_integer(r->params));
    put(root, "sparsity", number_value(sparsity(r->zeros, r->weights)));
    put(root, "size_ratio", number_value(ratio((double)r->bytes_before, (double)r->bytes_after)));
    put(root, "speedup", number_value(ratio(r->ms_before, r->ms_after)));
    put(root, "before",
        side_value(&r->before, r->score_before, r->bytes_before, r->ms_before, r->joules_before));
    put(root, "after", side_value(&r->after, r->score_after, r->bytes_after, r->ms_after, r->joules_after));
    json_t *repairs = json_array();
    for (int i = 0; i < r->repair_count; i++) push(repairs, repair_value(&r->repairs[i]));
    put(root, "repairs", repairs);
    if (r->search_samples) put(root, "search", search_value(r));
    put(root, "layers", layers);
    return root;
}

/* --- table ---------------------------------------------------------------------------------------------- */

enum { REPORT_WIDTH = 118 };

static const column columns[] = {
    {"layer", COLUMN_NAME},  {"op", COLUMN_TAIL},      {"pattern", COLUMN_TEXT}, {"zeros", COLUMN_NUMBER},
    {"format", COLUMN_TEXT}, {"acc", COLUMN_NUMBER}, {"bytes", COLUMN_NUMBER}, {"→", COLUMN_NUMBER},     {"ms", COLUMN_NUMBER},
    {"→", COLUMN_NUMBER},    {"why", COLUMN_WRAP},
};

static cell bytes_cell(uint64_t bytes) {
    return bytes ? cell_bytes(bytes) : cell_format("-");
}

static bool is_pruned(const espl_result *r) {
    bool any = false;
    for (int i = 0; i < r->layer_count; i++) any |= r->layers[i].pattern.pattern != ESPL_PATTERN_DENSE;
    return any;
}

/* In a table of pruned layers each has its pattern, without the share, which is in the column of zeros; else
 * the two columns stay empty. */
static void add_pattern(table *t, const espl_layer_choice *l, bool pruned, bool has_one) {
    char text[ESPL_SPARSITY_TEXT];
    bool has = pruned && l->weights > 0;
    table_add(t, has && has_one ? pattern_text(&l->pattern, text, sizeof text) : "");
    table_cell(t, has ? cell_percent(sparsity(l->zeros, l->weights)) : cell_format("%s", ""));
}

static void add_layer(table *t, const espl_layer_choice *l, int index, bool pruned) {
    bool changed = *l->format_after && strcmp(l->format_before, l->format_after) != 0;
    table_add(t, l->name && *l->name ? l->name : cell_format("#%d", index).text);
    table_add(t, l->op);
    add_pattern(t, l, pruned, *l->op);
    if (changed)
        table_cell(t, cell_format("%s → %s", l->format_before, l->format_after));
    else
        table_add(t, l->format_after);
    table_cell(t, l->accumulator_bits ? cell_format("%d", l->accumulator_bits) : cell_format("%s", ""));
    table_cell(t, bytes_cell(l->bytes_before));
    table_cell(t, bytes_cell(l->bytes_after));
    table_cell(t, cell_ms(l->ms_before));
    table_cell(t, cell_ms(l->ms_after));
    table_add(t, l->why ? l->why : "");
}

/* The sums of the layers, whose bytes are those of the weights alone. */
static void add_sums(table *t, const espl_result *r) {
    espl_layer_choice sum = {.name = "all layers", .op = "", .format_before = "", .format_after = ""};
    for (int i = 0; i < r->layer_count; i++) {
        sum.weights += r->layers[i].weights;
        sum.zeros += r->layers[i].zeros;
        sum.bytes_before += r->layers[i].bytes_before;
        sum.bytes_after += r->layers[i].bytes_after;
        sum.ms_before += r->layers[i].ms_before;
        sum.ms_after += r->layers[i].ms_after;
    }
    table_rule(t);
    add_layer(t, &sum, 0, is_pruned(r));
}

static const char *metric_text(const char *metric) {
    if (strcmp(metric, "top1") == 0) return "top-1 accuracy";
    if (strcmp(metric, "agreement") == 0) return "top-1 agreement";
    if (strcmp(metric, "none") == 0) return "accuracy";
    return metric;
}

/* "2.13x faster", "1.05x slower" or "as before": how often the lesser goes into the greater. */
static cell change(double before, double after, const char *less, const char *more) {
    double times = ratio(before, after);
    if (!isfinite(times)) return cell_format("-");
    if (times > 0.995 && times < 1.005) return cell_format("as before");
    return times > 1 ? cell_format("%.2fx %s", times, less) : cell_format("%.2fx %s", 1 / times, more);
}

static void print_accuracy(const espl_result *r, FILE *out) {
    fprintf(out, "\n%-16s ", metric_text(r->metric));
    if (r->eval_samples)
        fprintf(out, "%9.2f %% → %9.2f %%   %+.2f points on %" PRId64 " samples", 100 * r->score_before,
                100 * r->score_after, 0 - r->drop, r->eval_samples);
    else
        fprintf(out, "not measured: there was no --data");
    if (r->calib_samples) fprintf(out, ", calibrated on %" PRId64, r->calib_samples);
    if (r->calib_data && strcmp(r->calib_data, "drawn") == 0)
        fprintf(out,
                " inputs of noise:\n%-16s the ranges are good for timing only; give --calib before the model "
                "is used",
                "");
    fputc('\n', out);
    if (r->before.has_perplexity && r->after.has_perplexity)
        fprintf(out, "%-16s %9.2f   → %9.2f\n", "perplexity", r->before.perplexity, r->after.perplexity);
    for (int i = 0; i < r->repair_count; i++) {
        const espl_repair_effect *e = &r->repairs[i];
        if (isnan(e->score_after))
            fprintf(out, "%-16s %s\n", "repair", e->repair);
        else
            fprintf(out, "%-16s %9.2f %% → %9.2f %%   %s, %.1f s\n", "repair", 100 * e->score_before,
                    100 * e->score_after, e->repair, e->seconds);
    }
}

/* How near the knapsack's solution is to the best there may be. */
static void print_search(const espl_result *r, FILE *out) {
    double above = r->search_bound > 0 ? r->search_damage / r->search_bound - 1 : 0;
    fprintf(out,
            "%-16s each layer measured alone in each on %" PRId64
            " samples; no choice at this cost does better by more than %.2g %%\n",
            "formats", r->search_samples, 100 * above);
}

static void print_totals(const espl_result *r, int threads, FILE *out) {
    cell how = r->measured ? cell_format("measured here on %d thread%s", threads, threads == 1 ? "" : "s")
                           : cell_format("modelled");
    print_accuracy(r, out);
    fprintf(out, "%-16s %11s → %11s   %s", "file", cell_bytes(r->bytes_before).text,
            cell_bytes(r->bytes_after).text,
            change((double)r->bytes_before, (double)r->bytes_after, "smaller", "larger").text);
    if (r->onnx_bytes) fprintf(out, " (as ONNX: %s)", cell_bytes(r->onnx_bytes).text);
    fputc('\n', out);
    if (r->ms_before > 0 && r->ms_after > 0)
        fprintf(out, "%-16s %8s ms → %8s ms   %s, %s\n", "latency", cell_ms(r->ms_before).text,
                cell_ms(r->ms_after).text, change(r->ms_before, r->ms_after, "faster", "slower").text,
                how.text);
    if (r->joules_before > 0 && r->joules_after > 0)
        fprintf(out, "%-16s %8.4g mJ → %8.4g mJ   %s, modelled\n", "energy", 1e3 * r->joules_before,
                1e3 * r->joules_after, change(r->joules_before, r->joules_after, "less", "more").text);
}

bool report_print(const espl_result *r, const report_settings *s, FILE *out) {
    table *t = table_new(columns, COUNT(columns));
    fprintf(out, "%s for %s, goal %s, flavour %s\ndata: %s\n\n", s->model, r->chip, espl_goal_name(r->goal),
            espl_flavour_name(r->flavour), r->data);
    for (int i = 0; i < r->layer_count; i++) add_layer(t, &r->layers[i], i, is_pruned(r));
    add_sums(t, r);
    bool good = table_print(t, out, REPORT_WIDTH);
    table_free(t);
    if (!good) return false;
    print_totals(r, s->threads, out);
    if (!fits(r, s)) print_no_room(r, s->chip, out);
    if (r->search_samples) print_search(r, out);
    fprintf(out, "%s: model.espl, model.onnx, recipe.yaml, report.json\n", s->folder);
    if (r->eval_samples == 0) return true;
    if (r->within_budget)
        fprintf(out, "within the budget: %.2f points lost, %g allowed\n", r->drop > 0 ? r->drop : 0,
                r->max_drop);
    else
        fprintf(out, "NOT within the budget: %.2f points lost, %g allowed\n", r->drop, r->max_drop);
    return true;
}
