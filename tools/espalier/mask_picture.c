#include "mask_picture.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inputs.h"

enum {
    MARGIN = 24,
    GAP = 32,
    ACROSS = 3,     /* panels in a line */
    SIDE = 512,     /* of a panel, about */
    MOST_MANY = 64, /* rows and columns shown, of several panels */
    MOST_ONE = 128, /* and of one */
    MOST_CELL = 24,
    LINE = 22, /* of text */
    TEXT = 2,  /* scale of letters */
    CAPTION = 3 * LINE,
    HEAD = 3 * LINE,
    FOOT = 2 * LINE,
};

static const colour black = {24, 24, 24}, grey = {110, 110, 110}, frame = {170, 170, 170},
                    faint = {192, 200, 212}, white = {255, 255, 255};

typedef struct sheet {
    const espl_weights *forms;
    int count, across, rows, columns, cell; /* rows and columns: shown of the matrix */
    int panel_width, panel_height;
    float darkest;
} sheet;

static int64_t columns_of(const espl_weights *w) {
    return w->taps * w->inputs;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The magnitude that 98 % of the kept weights shown stay below: a few large ones do not make all others pale.
 * Negative without memory. */
static float find_darkest(const sheet *s) {
    float *shown = malloc(sizeof *shown * (size_t)s->rows * (size_t)s->columns), found = 0;
    size_t n = 0;
    if (!shown) return -1;
    for (int r = 0; r < s->rows; r++)
        for (int i = 0; i < s->columns; i++) {
            float w = fabsf(s->forms[0].data[r * columns_of(s->forms) + i]);
            if (w > 0) shown[n++] = w;
        }
    if (n) {
        qsort(shown, n, sizeof *shown, ascending);
        found = shown[n * 98 / 100];
    }
    free(shown);
    return found;
}

/* From pale to dark blue; the palest still stands out from white. */
static colour shade(double level) {
    static const double pale[3] = {176, 206, 232}, dark[3] = {6, 38, 96};
    double t = level < 1 ? level : 1;
    return (colour){(uint8_t)(pale[0] + t * (dark[0] - pale[0])),
                    (uint8_t)(pale[1] + t * (dark[1] - pale[1])),
                    (uint8_t)(pale[2] + t * (dark[2] - pale[2]))};
}

static sheet plan(const espl_weights *forms, int count) {
    sheet s = {.forms = forms, .count = count, .across = count < ACROSS ? count : count == 4 ? 2 : ACROSS};
    int most = count > 1 ? MOST_MANY : MOST_ONE;
    s.rows = (int)(forms->rows < most ? forms->rows : most);
    s.columns = (int)(columns_of(forms) < most ? columns_of(forms) : most);
    s.cell = SIDE / (s.rows > s.columns ? s.rows : s.columns);
    s.cell = s.cell > MOST_CELL ? MOST_CELL : s.cell;
    s.panel_width = s.columns * s.cell + 1;
    s.panel_height = s.rows * s.cell + 1;
    if (s.panel_width < SIDE) s.panel_width = SIDE; /* room for the captions */
    s.darkest = find_darkest(&s);
    return s;
}

/* --- one panel --------------------------------------------------------------------------------------- */

/* Lines between banks or blocks. */
static void draw_grid(picture *p, const sheet *s, const espl_weights *w, int x, int y) {
    int wide = w->pattern.m ? w->pattern.m : w->pattern.columns, high = w->pattern.rows;
    int inputs = (int)(w->inputs < s->columns ? w->inputs : s->columns);
    for (int from = 0; wide > 0 && from < s->columns; from += inputs) /* banks begin anew at every tap */
        for (int i = from; i < from + inputs && i < s->columns; i += wide)
            if (i) picture_fill(p, x + i * s->cell, y, 1, s->rows * s->cell, faint);
    for (int i = high; high > 0 && i < s->rows; i += high)
        picture_fill(p, x, y + i * s->cell, s->columns * s->cell, 1, faint);
}

static void draw_cells(picture *p, const sheet *s, const espl_weights *w, int x, int y) {
    int gap = s->cell >= 5;
    for (int r = 0; r < s->rows; r++)
        for (int i = 0; i < s->columns; i++) {
            float v = fabsf(w->data[r * columns_of(w) + i]);
            if (v == 0) continue;
            picture_fill(p, x + i * s->cell + gap, y + r * s->cell + gap, s->cell - gap, s->cell - gap,
                         shade(s->darkest > 0 ? (double)v / (double)s->darkest : 1));
        }
}

const char *mask_caption(const espl_weights *w, bool first, char *buf, size_t size) {
    char text[ESPL_SPARSITY_TEXT];
    snprintf(buf, size, "%s%s", first ? "as in the model: " : "",
             *w->why ? w->why : espl_sparsity_text(&w->pattern, text, sizeof text));
    return buf;
}

static void draw_panel(picture *p, const sheet *s, int index, int x, int y) {
    const espl_weights *w = &s->forms[index];
    char line[256];
    int width = s->columns * s->cell, height = s->rows * s->cell, below = y + height + 10;
    picture_fill(p, x, y, width + 1, height + 1, frame);
    picture_fill(p, x + 1, y + 1, width - 1, height - 1, white);
    draw_grid(p, s, w, x, y);
    draw_cells(p, s, w, x, y);
    picture_text(p, x, below, TEXT, black, mask_caption(w, index == 0, line, sizeof line));
    snprintf(line, sizeof line, "%.1f %% zeros, balance %.2f", 100 * w->sparsity, w->balance);
    picture_text(p, x, below + LINE, TEXT, grey, line);
    if (index == 0) return;
    snprintf(line, sizeof line, "keeps %.1f %% of the magnitude", 100 * w->magnitude);
    picture_text(p, x, below + 2 * LINE, TEXT, grey, line);
}

bool mask_is_recurrent(const espl_weights *w) {
    return strcmp(w->op, "LSTM") == 0 || strcmp(w->op, "GRU") == 0 || strcmp(w->op, "RNN") == 0;
}

/* --- head and foot ----------------------------------------------------------------------------------- */

static void draw_head(picture *p, const sheet *s, const char *title) {
    const espl_weights *w = s->forms;
    char line[256];
    picture_text(p, MARGIN, MARGIN, TEXT, black, title);
    int n =
        snprintf(line, sizeof line, "%" PRId64 " rows (outputs) x %" PRId64 " inputs", w->rows, w->inputs);
    const char *tap = mask_is_recurrent(w) ? "direction" : "tap";
    if (w->taps > 1) n += snprintf(line + n, sizeof line - (size_t)n, " x %" PRId64 " %ss", w->taps, tap);
    picture_text(p, MARGIN, MARGIN + LINE, TEXT, grey, line);
    if (s->rows == w->rows && s->columns == columns_of(w)) return;
    n = snprintf(line, sizeof line, "shown: rows 1-%d, ", s->rows);
    if (s->columns <= w->inputs && w->taps > 1)
        snprintf(line + n, sizeof line - (size_t)n, "inputs 1-%d of the first %s", s->columns, tap);
    else if (s->columns <= w->inputs)
        snprintf(line + n, sizeof line - (size_t)n, "inputs 1-%d", s->columns);
    else
        snprintf(line + n, sizeof line - (size_t)n, "the first %d columns, %s after %s", s->columns, tap,
                 tap);
    picture_text(p, MARGIN, MARGIN + 2 * LINE, TEXT, grey, line);
}

static void draw_legend(picture *p, const sheet *s, int y) {
    enum { STEPS = 120, HEIGHT = 14 };
    char line[64];
    picture_text(p, MARGIN, y, TEXT, grey, "|w|  0");
    int x = MARGIN + 6 * (FONT_WIDTH + 1) * TEXT + 8;
    picture_fill(p, x, y, HEIGHT, HEIGHT, frame);
    picture_fill(p, x + 1, y + 1, HEIGHT - 2, HEIGHT - 2, white);
    x += HEIGHT + 12;
    for (int i = 0; i < STEPS; i++) picture_fill(p, x + i, y, 1, HEIGHT, shade((double)i / STEPS));
    snprintf(line, sizeof line, "%.3g and more", (double)s->darkest);
    picture_text(p, x + STEPS + 8, y, TEXT, grey, line);
}

picture mask_picture(const char *title, const espl_weights *forms, int count) {
    sheet s = plan(forms, count);
    int lines = (count + s.across - 1) / s.across;
    int width = 2 * MARGIN + s.across * (s.panel_width + GAP) - GAP;
    int step = s.panel_height + 10 + CAPTION + GAP / 2;
    if (s.darkest < 0) return (picture){0};
    picture p = picture_new(width, 2 * MARGIN + HEAD + 8 + lines * step + FOOT);
    if (!p.dots) return p;
    draw_head(&p, &s, title);
    for (int i = 0; i < count; i++)
        draw_panel(&p, &s, i, MARGIN + i % s.across * (s.panel_width + GAP),
                   MARGIN + HEAD + 8 + i / s.across * step);
    draw_legend(&p, &s, p.height - MARGIN - LINE);
    return p;
}
