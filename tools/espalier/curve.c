#include "curve.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "report.h"
#include "svg.h"
#include "text.h"

char curve_kind(const char *path) {
    const char *end = strrchr(path, '.');
    if (!end) return 0;
    return strcmp(end, ".svg") == 0    ? 's'
           : strcmp(end, ".json") == 0 ? 'j'
           : strcmp(end, ".csv") == 0  ? 'c'
                                       : 0;
}

/* --- the plot ----------------------------------------------------------------------------------------- */

#define DEEPEST 0.3 /* of the score, below the best, that is shown */
enum { WIDTH = 860, HEIGHT = 520, LEFT = 78, RIGHT = 24, TOP = 62, BOTTOM = 64 };

static const char *const uniform_colour = "#c2571a", *const mixed_colour = "#0b5394";

typedef struct plot {
    FILE *out;
    const espl_result *r;
    axis x, y;
} plot;

/* What the search made small; in kB, ms or mJ. */
static double figure_of(const espl_result *r, uint64_t bytes, double ms, double joules) {
    if (r->goal == ESPL_GOAL_SIZE) return (double)bytes / 1000;
    return r->goal == ESPL_GOAL_ENERGY && joules > 0 ? 1e3 * joules : ms;
}

static const char *figure_name(const espl_result *r) {
    if (r->goal == ESPL_GOAL_SIZE) return "size of the .espl file, kB";
    bool energy = r->goal == ESPL_GOAL_ENERGY && r->joules_after > 0;
    return energy ? "energy of one inference, mJ" : "time of one inference, ms";
}

/* Not finite where the chip cannot run the format. */
static double x_of(const espl_result *r, const espl_curve_point *p) {
    return figure_of(r, p->bytes, p->ms, p->joules);
}

static void find_axes(plot *p) {
    const espl_result *r = p->r;
    double low = INFINITY, high = -INFINITY, worst = 1, best = r->score_before;
    for (int i = 0; i < r->curve_count; i++) {
        double x = x_of(r, &r->curve[i]), y = r->curve[i].score;
        if (!isfinite(x) || !isfinite(y)) continue;
        low = fmin(low, x);
        high = fmax(high, x);
        worst = fmin(worst, y);
        best = fmax(best, y);
    }
    p->x = svg_axis(low, high, 8, LEFT, WIDTH - RIGHT);
    p->y = svg_axis(100 * fmax(worst, best - DEEPEST), 100 * best, 8, HEIGHT - BOTTOM, TOP);
}

/* Points far below are left out; a line may leave the plot on its way to them. */
static bool shown(const plot *p, const espl_curve_point *q) {
    return isfinite(x_of(p->r, q)) && 100 * q->score >= p->y.low;
}

static void text_at(const plot *p, double x, double y, const char *attributes, const char *text) {
    fprintf(p->out, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, attributes);
    svg_text(p->out, text);
    fputs("</text>\n", p->out);
}

static void draw_grid(const plot *p) {
    for (int i = 0; p->x.low + i * p->x.step < p->x.high + p->x.step / 2; i++) {
        double value = p->x.low + i * p->x.step, at = svg_dot(&p->x, value);
        fprintf(p->out, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>\n", at, TOP, HEIGHT - BOTTOM);
        text_at(p, at, HEIGHT - BOTTOM + 18, " text-anchor=\"middle\"", cell_format("%g", value).text);
    }
    for (int i = 0; p->y.low + i * p->y.step < p->y.high + p->y.step / 2; i++) {
        double value = p->y.low + i * p->y.step, at = svg_dot(&p->y, value);
        fprintf(p->out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", LEFT, at, WIDTH - RIGHT);
        text_at(p, LEFT - 8, at + 4, " text-anchor=\"end\"", cell_format("%g", value).text);
    }
    text_at(p, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 18, " text-anchor=\"middle\"", figure_name(p->r));
    bool top1 = strcmp(p->r->metric, "top1") == 0;
    fprintf(p->out, "<text transform=\"translate(22 %d) rotate(-90)\" text-anchor=\"middle\">%s, %%</text>\n",
            (TOP + HEIGHT - BOTTOM) / 2, top1 ? "top-1 accuracy" : p->r->metric);
}

static int by_x(const void *a, const void *b) {
    double x = ((const double *)a)[0], y = ((const double *)b)[0];
    return (x > y) - (x < y);
}

/* The points of one kind, joined from left to right. */
static bool draw_line(const plot *p, bool mixed, const char *colour) {
    const espl_result *r = p->r;
    double(*at)[2] = malloc(sizeof *at * (size_t)(r->curve_count + 1));
    int n = 0;
    if (!at) return false;
    for (int i = 0; i < r->curve_count; i++) {
        if (r->curve[i].mixed != mixed || !shown(p, &r->curve[i])) continue;
        at[n][0] = svg_dot(&p->x, x_of(r, &r->curve[i]));
        at[n++][1] = svg_dot(&p->y, 100 * r->curve[i].score);
    }
    qsort(at, (size_t)n, sizeof *at, by_x);
    fprintf(p->out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (int i = 0; i < n; i++) fprintf(p->out, "%s%.1f,%.1f", i ? " " : "", at[i][0], at[i][1]);
    fputs("\"/>\n", p->out);
    for (int i = 0; i < n; i++)
        fprintf(p->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", at[i][0], at[i][1],
                colour);
    free(at);
    return true;
}

static void draw_names(const plot *p) {
    for (int i = 0; i < p->r->curve_count; i++) {
        const espl_curve_point *q = &p->r->curve[i];
        if (q->mixed || !shown(p, q)) continue;
        fprintf(p->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"%s\">",
                svg_dot(&p->x, x_of(p->r, q)), svg_dot(&p->y, 100 * q->score) + 20, uniform_colour);
        svg_text(p->out, q->name);
        fputs("</text>\n", p->out);
    }
}

/* The f32 network's score, and the network that was chosen. */
static void draw_marks(const plot *p) {
    const espl_result *r = p->r;
    double y = svg_dot(&p->y, 100 * r->score_before);
    double x = figure_of(r, r->bytes_after, r->ms_after, r->joules_after);
    fprintf(p->out, "<path d=\"M%d %.1fH%d\" stroke=\"#777\" stroke-dasharray=\"5 4\"/>\n", LEFT, y,
            WIDTH - RIGHT);
    text_at(p, LEFT + 6, y - 6, " fill=\"#555\"", cell_format("f32: %.2f %%", 100 * r->score_before).text);
    if (x < p->x.low || x > p->x.high) return;
    fprintf(
        p->out,
        "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"9\" fill=\"none\" stroke=\"#1a7f37\" stroke-width=\"2.5\"/>\n",
        svg_dot(&p->x, x), svg_dot(&p->y, 100 * r->score_after));
}

static void draw_legend(const plot *p, const char *model) {
    const espl_result *r = p->r;
    const struct {
        const char *colour, *text;
    } rows[] = {{uniform_colour, "one format for all layers"},
                {mixed_colour, "mixed: a format for each layer"},
                {"#1a7f37", "the network that was written"}};
    int y = HEIGHT - BOTTOM - 66;
    fprintf(p->out, "<text x=\"%d\" y=\"26\" font-size=\"16\" font-weight=\"bold\">", LEFT);
    svg_text(p->out, model);
    fputs("</text>\n", p->out);
    text_at(p, LEFT, 46, " fill=\"#555\"", cell_format("score on %" PRId64 " samples", r->eval_samples).text);
    fprintf(p->out, "<rect x=\"%d\" y=\"%d\" width=\"232\" height=\"62\" fill=\"#fff\" stroke=\"#ccc\"/>\n",
            WIDTH - RIGHT - 240, y - 4);
    for (int i = 0; i < (int)COUNT(rows); i++) {
        fprintf(p->out,
                "<circle cx=\"%d\" cy=\"%d\" r=\"5\" fill=\"%s\" stroke=\"%s\" stroke-width=\"2\"/>\n",
                WIDTH - RIGHT - 226, y + 8 + 19 * i, i == 2 ? "none" : rows[i].colour, rows[i].colour);
        text_at(p, WIDTH - RIGHT - 212, y + 12 + 19 * i, "", rows[i].text);
    }
}

/* "resnet20/model.onnx" of a longer path. */
static const char *short_name(const char *path) {
    const char *name = path;
    int parts = 0;
    for (const char *p = path + strlen(path); p > path && parts < 2; p--) {
        if (p[-1] == '/') parts++;
        if (parts < 2) name = p - 1;
    }
    return name;
}

static bool draw(FILE *out, const char *model, const espl_result *r) {
    plot p = {.out = out, .r = r};
    find_axes(&p);
    svg_begin(out, WIDTH, HEIGHT);
    draw_grid(&p);
    draw_marks(&p);
    bool good = draw_line(&p, false, uniform_colour) && draw_line(&p, true, mixed_colour);
    draw_names(&p);
    draw_legend(&p, short_name(model));
    fputs("</svg>\n", out);
    return good;
}

/* --- figures ------------------------------------------------------------------------------------------ */

static void list(FILE *out, const espl_result *r) {
    fprintf(out, "name,mixed,bytes,ms,joules,score,drop,loss,damage\n");
    for (int i = 0; i < r->curve_count; i++) {
        const espl_curve_point *p = &r->curve[i];
        fprintf(out, "%s,%d,%" PRIu64 ",%.6g,%.6g,%.6f,%.4f,%.6f,%.6g\n", p->name, p->mixed, p->bytes, p->ms,
                p->joules, p->score, p->drop, p->loss, p->damage);
    }
}

static espl_status write_json(cli *c, const char *path, const espl_result *r) {
    json_t *root = curve_value(r);
    char *text = json_text(root);
    json_decref(root);
    espl_status status = text ? write_text(c, path, text) : nomem(c);
    free(text);
    return status;
}

espl_status curve_write(cli *c, const char *path, const char *model, const espl_result *r) {
    text_stream out;
    if (curve_kind(path) == 'j') return write_json(c, path, r);
    stream_open(&out);
    bool good = out.file != NULL;
    if (good && curve_kind(path) == 's')
        good = draw(out.file, model, r);
    else if (good)
        list(out.file, r);
    espl_status status = stream_write(c, &out, good ? path : NULL);
    return good ? status : nomem(c);
}
