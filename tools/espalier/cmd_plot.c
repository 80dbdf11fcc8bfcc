#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "files.h"
#include "svg.h"
#include "text.h"

typedef struct plot_options {
    const char *output;
} plot_options;

static const option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(plot_options, output),
     .argument = "FILE.svg",
     .required = true,
     .help = "the picture to write"},
    {0},
};

/* --- a log ---------------------------------------------------------------------------------------------- */

enum { MOST_LOGS = 8, BINS = 320 };

typedef struct series {
    double (*at)[2];
    int count, room;
} series;

enum { TRAIN_LOSS, EVAL_LOSS, TRAIN_TOP1, EVAL_TOP1, EVAL_PERPLEXITY, SERIES };

typedef struct train_log {
    const char *path;
    series s[SERIES];   /* by step */
    double epoch_steps; /* 0: no epoch has ended */
} train_log;

static espl_status add(cli *c, series *s, double x, double y) {
    if (s->count == s->room) {
        int room = s->room ? 2 * s->room : 1024;
        double(*grown)[2] = realloc(s->at, (size_t)room * sizeof *grown);
        if (!grown) return nomem(c);
        s->at = grown;
        s->room = room;
    }
    s->at[s->count][0] = x;
    s->at[s->count++][1] = y;
    return ESPL_OK;
}

static espl_status add_key(cli *c, series *s, const json_t *line, const char *key, double factor) {
    const json_t *x = json_object_get(line, "step"), *y = json_object_get(line, key);
    return json_is_number(y) ? add(c, s, json_number_value(x), factor * json_number_value(y)) : ESPL_OK;
}

/* Jansson tells a lack of memory as any mistake of the text, so its memory is watched. */
static bool refused;
static void *allocate(size_t n) {
    void *p = malloc(n);
    if (!p) refused = true;
    return p;
}

static espl_status read_line(cli *c, train_log *l, const char *text, int number) {
    json_error_t error;
    json_t *line = json_loads(text, 0, &error);
    const json_t *step = json_object_get(line, "step"), *epoch = json_object_get(line, "epoch");
    espl_status status = ESPL_OK;
    if (refused)
        status = nomem(c);
    else if (!json_is_number(step) || !json_is_number(epoch))
        status = fail(c, ESPL_FORMAT, "%s:%d: is no line of a log of espalier train", l->path, number);
    else if (!json_object_get(line, "loss") && l->epoch_steps == 0 && json_number_value(epoch) > 0)
        l->epoch_steps = json_number_value(step) / json_number_value(epoch);
    if (status == ESPL_OK) status = add_key(c, &l->s[TRAIN_LOSS], line, "loss", 1);
    if (status == ESPL_OK) status = add_key(c, &l->s[TRAIN_TOP1], line, "top1", 100);
    if (status == ESPL_OK) status = add_key(c, &l->s[EVAL_LOSS], line, "eval_loss", 1);
    if (status == ESPL_OK) status = add_key(c, &l->s[EVAL_TOP1], line, "eval_top1", 100);
    if (status == ESPL_OK) status = add_key(c, &l->s[EVAL_PERPLEXITY], line, "perplexity", 1);
    json_decref(line);
    return status;
}

static espl_status read_log(cli *c, const char *path, train_log *l) {
    FILE *in = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    espl_status status = ESPL_OK;
    l->path = path;
    if (!in)
        return fail(c, errno == ENOMEM ? ESPL_NOMEM : ESPL_IO, "%s: cannot be opened: %s", path,
                    strerror(errno));
    json_set_alloc_funcs(allocate, free);
    ssize_t got = 0;
    int number = 0;
    /* The last line of a log that is being written may lack its end. */
    while (status == ESPL_OK && (got = getline(&line, &room, in)) > 0 && line[got - 1] == '\n')
        status = read_line(c, l, line, ++number);
    if (status == ESPL_OK && got < 0 && !feof(in))
        status = fail(c, ESPL_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (status == ESPL_OK && l->s[TRAIN_LOSS].count + l->s[EVAL_LOSS].count == 0)
        status = fail(c, ESPL_FORMAT, "%s: holds no step of a training", path);
    free(line);
    fclose(in);
    return status;
}

/* Means of neighbours, so that a line of thousands of batches can be read. */
static void thin(series *s) {
    int bins = s->count < BINS ? s->count : BINS;
    for (int b = 0; b < bins; b++) {
        int first = (int)((int64_t)b * s->count / bins), end = (int)((int64_t)(b + 1) * s->count / bins);
        double x = 0, y = 0;
        for (int i = first; i < end; i++) {
            x += s->at[i][0];
            y += s->at[i][1];
        }
        s->at[b][0] = x / (end - first);
        s->at[b][1] = y / (end - first);
    }
    s->count = bins;
}

/* --- the picture ------------------------------------------------------------------------------------- */

enum { WIDTH = 860, LEFT = 78, RIGHT = 24, HEAD = 44, LEGEND = 20, PANEL = 250, GAP = 26, FOOT = 50 };

static const char *const colours[MOST_LOGS] = {"#0b5394", "#c2571a", "#1a7f37", "#8e2a8e",
                                               "#a61c1c", "#0f7c8a", "#6b5b00", "#444444"};

typedef struct panel {
    const char *title;
    int train, eval; /* series; -1: none */
} panel;

typedef struct plot {
    FILE *out;
    const train_log *logs;
    int count;
    bool epochs; /* along the axis, else steps */
    axis x, y;
} plot;

static void include(const series *s, int coordinate, double *low, double *high) {
    for (int i = 0; i < s->count; i++) {
        *low = fmin(*low, s->at[i][coordinate]);
        *high = fmax(*high, s->at[i][coordinate]);
    }
}

static bool has(const plot *p, int series_index) {
    for (int i = 0; series_index >= 0 && i < p->count; i++)
        if (p->logs[i].s[series_index].count) return true;
    return false;
}

static double x_dot(const plot *p, const train_log *l, double step) {
    return svg_dot(&p->x, p->epochs ? step / l->epoch_steps : step);
}

static void find_x(plot *p) {
    double high = 0;
    p->epochs = true;
    for (int i = 0; i < p->count; i++) p->epochs &= p->logs[i].epoch_steps > 0;
    for (int i = 0; i < p->count; i++)
        for (int k = 0; k < SERIES; k++) {
            double low = 0, most = 0;
            include(&p->logs[i].s[k], 0, &low, &most);
            high = fmax(high, p->epochs ? most / p->logs[i].epoch_steps : most);
        }
    p->x = svg_axis(0, high, 8, LEFT, WIDTH - RIGHT);
}

static void draw_grid(const plot *p, const char *title, bool last) {
    for (int i = 0; p->x.low + i * p->x.step < p->x.high + p->x.step / 2; i++) {
        double value = p->x.low + i * p->x.step, at = svg_dot(&p->x, value);
        fprintf(p->out, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>\n", at, p->y.to, p->y.from);
        if (last)
            fprintf(p->out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", at,
                    p->y.from + 18, value);
    }
    for (int i = 0; p->y.low + i * p->y.step < p->y.high + p->y.step / 2; i++) {
        double value = p->y.low + i * p->y.step, at = svg_dot(&p->y, value);
        fprintf(p->out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", LEFT, at, WIDTH - RIGHT);
        fprintf(p->out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT - 8, at + 4,
                fabs(value) < p->y.step / 1e6 ? 0 : value);
    }
    fprintf(p->out, "<text transform=\"translate(22 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
            (p->y.from + p->y.to) / 2, title);
    if (last)
        fprintf(p->out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                (LEFT + WIDTH - RIGHT) / 2, p->y.from + 38, p->epochs ? "epoch" : "step");
}

static void draw_series(const plot *p, const train_log *l, int which, const char *colour, bool eval) {
    const series *s = &l->s[which];
    fprintf(p->out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%s\"%s points=\"", colour,
            eval ? "2.2" : "1.2", eval ? "" : " stroke-opacity=\"0.6\"");
    for (int i = 0; i < s->count; i++)
        fprintf(p->out, "%s%.1f,%.1f", i ? " " : "", x_dot(p, l, s->at[i][0]), svg_dot(&p->y, s->at[i][1]));
    fputs("\"/>\n", p->out);
    for (int i = 0; eval && i < s->count; i++)
        fprintf(p->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x_dot(p, l, s->at[i][0]),
                svg_dot(&p->y, s->at[i][1]), colour);
}

static void draw_panel(plot *p, const panel *what, int top, bool last) {
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < p->count; i++) {
        if (what->train >= 0) include(&p->logs[i].s[what->train], 1, &low, &high);
        include(&p->logs[i].s[what->eval], 1, &low, &high);
    }
    p->y = svg_axis(low, fmax(high, low + 1e-6), 6, top + PANEL, top);
    draw_grid(p, what->title, last);
    for (int i = 0; i < p->count; i++) {
        if (what->train >= 0) draw_series(p, &p->logs[i], what->train, colours[i], false);
        draw_series(p, &p->logs[i], what->eval, colours[i], true);
    }
}

static void draw_legend(const plot *p) {
    fprintf(
        p->out,
        "<text x=\"%d\" y=\"26\" font-size=\"16\" font-weight=\"bold\">training</text>\n"
        "<text x=\"%d\" y=\"26\" text-anchor=\"end\" fill=\"#555\">thin: batches while training; thick: the "
        "evaluation data after each epoch</text>\n",
        LEFT, WIDTH - RIGHT);
    for (int i = 0; i < p->count; i++) {
        int y = HEAD + LEGEND * i;
        fprintf(p->out, "<path d=\"M%d %dh26\" stroke=\"%s\" stroke-width=\"3\"/>\n<text x=\"%d\" y=\"%d\">",
                LEFT, y, colours[i], LEFT + 34, y + 4);
        svg_text(p->out, p->logs[i].path);
        fputs("</text>\n", p->out);
    }
}

static void draw(FILE *out, const train_log *logs, int count) {
    plot p = {.out = out, .logs = logs, .count = count};
    const panel all[] = {{"loss", TRAIN_LOSS, EVAL_LOSS},
                         {"top-1 accuracy, %", TRAIN_TOP1, EVAL_TOP1},
                         {"perplexity", -1, EVAL_PERPLEXITY}};
    const panel *shown[COUNT(all)];
    int panels = 0, top = HEAD + LEGEND * count + 6;
    for (size_t i = 0; i < COUNT(all); i++)
        if (has(&p, all[i].train) || has(&p, all[i].eval)) shown[panels++] = &all[i];
    find_x(&p);
    svg_begin(out, WIDTH, top + panels * (PANEL + GAP) - GAP + FOOT);
    draw_legend(&p);
    for (int i = 0; i < panels; i++) draw_panel(&p, shown[i], top + i * (PANEL + GAP), i == panels - 1);
    fputs("</svg>\n", out);
}

static espl_status run(cli *c, const void *given) {
    const plot_options *o = given;
    train_log logs[MOST_LOGS] = {0};
    espl_status status = check_ending(c, "--output", o->output, ".svg");
    for (int i = 0; i < c->operand_count && status == ESPL_OK; i++) {
        status = read_log(c, c->operands[i], &logs[i]);
        thin(&logs[i].s[TRAIN_LOSS]);
        thin(&logs[i].s[TRAIN_TOP1]);
    }
    if (status == ESPL_OK) {
        text_stream out;
        stream_open(&out);
        if (out.file) draw(out.file, logs, c->operand_count);
        status = stream_write(c, &out, o->output);
    }
    for (int i = 0; i < MOST_LOGS; i++)
        for (int k = 0; k < SERIES; k++) free(logs[i].s[k].at);
    return status;
}

const command command_plot = {
    .operands = "LOG...",
    .least_operands = 1,
    .most_operands = MOST_LOGS,
    .options = options,
    .size = sizeof(plot_options),
    .run = run,
    .about = "Draws what espalier train --log wrote, one log or several: the loss, the accuracy and, for "
             "text, the "
             "perplexity, over the epochs (over the steps, while no epoch has ended). A log that is still "
             "being written "
             "can be drawn.",
    .example = "espalier plot lenet5.jsonl -o lenet5.svg\n"
               "espalier plot sgd.jsonl adam.jsonl -o both.svg",
};
