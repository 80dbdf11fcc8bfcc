/* Handwritten-like digits drawn by program: skeletons of strokes, bent, slanted, rubbed out and made noisy.
 *
 * The same (seed, split, index) gives the same bytes on every machine: only +, -, *, / and sqrt in f32, which
 * IEEE 754 rounds one way, integer noise, and pixels rounded to 8 bits at the end. Random numbers are drawn
 * one a statement or declarator: the order of arguments and initializers is the compiler's choice. */
#include "data/digits.h"

#include <math.h>

enum { MAX_POINTS = 10, SPAN = 6 }; /* of a stroke; lines that a span of a spline is drawn with */

/* One stroke of one way to write a digit. Coordinates are percent of the glyph's box, y down. A smooth stroke
 * is a Catmull-Rom spline through its points. */
typedef struct stroke {
    uint8_t digit, variant, smooth, count;
    uint8_t xy[MAX_POINTS][2];
} stroke;

/* clang-format off */
static const stroke strokes[] = {
    {0, 0, 1, 9, {{50, 10}, {29, 22}, {22, 50}, {29, 78}, {50, 90}, {71, 78}, {78, 50}, {71, 22}, {50, 10}}},
    {0, 1, 1, 7, {{58, 10}, {32, 26}, {26, 62}, {44, 90}, {68, 76}, {74, 38}, {54, 9}}},
    {1, 0, 0, 2, {{50, 10}, {50, 90}}},
    {1, 1, 0, 3, {{33, 28}, {53, 10}, {53, 90}}},
    {1, 2, 0, 3, {{36, 24}, {52, 10}, {52, 90}}},
    {1, 2, 0, 2, {{32, 90}, {72, 90}}},
    {2, 0, 1, 7, {{26, 28}, {34, 13}, {52, 9}, {70, 20}, {69, 40}, {50, 64}, {25, 90}}},
    {2, 0, 0, 2, {{25, 90}, {77, 90}}},
    {2, 1, 1, 10, {{26, 24}, {46, 9}, {69, 20}, {67, 46}, {46, 74}, {28, 87}, {25, 76}, {38, 73}, {58, 87}, {79, 84}}},
    {3, 0, 1, 9, {{26, 20}, {46, 9}, {69, 18}, {68, 36}, {47, 47}, {70, 56}, {75, 74}, {54, 90}, {25, 82}}},
    {3, 1, 0, 3, {{27, 12}, {72, 12}, {46, 42}}},
    {3, 1, 1, 5, {{46, 42}, {70, 50}, {75, 70}, {55, 90}, {25, 82}}},
    {4, 0, 0, 3, {{31, 10}, {25, 55}, {79, 55}}},
    {4, 0, 0, 2, {{64, 28}, {61, 91}}},
    {4, 1, 0, 4, {{66, 91}, {66, 10}, {21, 62}, {83, 62}}},
    {5, 0, 0, 3, {{73, 12}, {35, 12}, {31, 44}}},
    {5, 0, 1, 5, {{31, 44}, {54, 39}, {75, 56}, {67, 84}, {26, 84}}},
    {5, 1, 1, 7, {{37, 13}, {33, 42}, {56, 40}, {73, 58}, {67, 80}, {48, 91}, {25, 80}}},
    {5, 1, 0, 2, {{36, 11}, {78, 9}}},
    {6, 0, 1, 9, {{67, 10}, {42, 27}, {27, 56}, {32, 82}, {52, 90}, {72, 78}, {70, 58}, {50, 50}, {30, 64}}},
    {6, 1, 0, 2, {{56, 9}, {29, 62}}},
    {6, 1, 1, 6, {{29, 62}, {36, 87}, {62, 89}, {74, 70}, {56, 55}, {29, 64}}},
    {7, 0, 0, 3, {{24, 12}, {77, 12}, {44, 91}}},
    {7, 1, 0, 3, {{24, 13}, {76, 11}, {46, 91}}},
    {7, 1, 0, 2, {{37, 50}, {73, 49}}},
    {7, 2, 1, 6, {{22, 22}, {26, 12}, {50, 15}, {77, 11}, {56, 48}, {48, 91}}},
    {8, 0, 1, 7, {{52, 47}, {31, 34}, {34, 14}, {53, 9}, {70, 16}, {68, 36}, {50, 48}}},
    {8, 0, 1, 8, {{50, 48}, {27, 62}, {28, 83}, {50, 91}, {73, 82}, {72, 62}, {50, 48}, {46, 46}}},
    {8, 1, 1, 10, {{70, 18}, {46, 9}, {28, 24}, {48, 44}, {73, 66}, {62, 89}, {36, 88}, {27, 68}, {56, 42}, {71, 17}}},
    {9, 0, 1, 8, {{70, 30}, {55, 10}, {33, 17}, {29, 38}, {47, 50}, {66, 40}, {71, 26}, {70, 24}}},
    {9, 0, 0, 2, {{71, 22}, {67, 91}}},
    {9, 1, 1, 10, {{71, 26}, {52, 9}, {31, 20}, {32, 42}, {52, 49}, {69, 36}, {71, 24}, {70, 60}, {56, 86}, {30, 86}}},
};
/* clang-format on */

/* What differs from sample to sample. */
typedef struct pen {
    espl__rng rng;
    float a, b, c, d, tx, ty;           /* glyph box -> pixels: x' = a x + b y + tx, y' = c x + d y + ty */
    float radius;                       /* of the stroke, in pixels */
    float distance[ESPL__DIGIT_PIXELS]; /* squared, from each pixel's centre to the nearest line */
} pen;

static float uniform(espl__rng *rng, float lo, float hi) {
    return lo + (hi - lo) * espl__rng_float(rng);
}

/* Taylor polynomials, good to 1e-5 for |x| <= 0.6: a C library's sin and cos may differ in the last bit. */
static float small_sin(float x) {
    return x * (1.0f - x * x * (1.0f / 6 - x * x * (1.0f / 120)));
}
static float small_cos(float x) {
    return 1.0f - x * x * (0.5f - x * x * (1.0f / 24 - x * x * (1.0f / 720)));
}

/* --- lines ---------------------------------------------------------------------------------- */

typedef struct point {
    float x, y;
} point;

static void clear_lines(pen *p) {
    for (int i = 0; i < ESPL__DIGIT_PIXELS; i++) p->distance[i] = 1e9f;
}

/* Lowers `distance` around the segment from s to e; only pixels within `reach` matter. */
static void draw_segment(pen *p, point s, point e, float reach) {
    float lx = e.x - s.x, ly = e.y - s.y, length2 = lx * lx + ly * ly;
    float x0 = ESPL_MIN(s.x, e.x) - reach, x1 = ESPL_MAX(s.x, e.x) + reach;
    float y0 = ESPL_MIN(s.y, e.y) - reach, y1 = ESPL_MAX(s.y, e.y) + reach;
    for (int y = 0; y < ESPL__DIGIT_SIDE; y++) {
        float py = (float)y + 0.5f;
        if (py < y0 || py > y1) continue;
        for (int x = 0; x < ESPL__DIGIT_SIDE; x++) {
            float px = (float)x + 0.5f;
            if (px < x0 || px > x1) continue;
            float t = length2 > 0 ? ((px - s.x) * lx + (py - s.y) * ly) / length2 : 0;
            t = ESPL_MAX(0.0f, ESPL_MIN(1.0f, t));
            float dx = px - (s.x + t * lx), dy = py - (s.y + t * ly), d2 = dx * dx + dy * dy;
            float *d = &p->distance[y * ESPL__DIGIT_SIDE + x];
            if (d2 < *d) *d = d2;
        }
    }
}

/* How much of the pixel a line of this radius covers, with an edge one pixel wide. */
static float coverage(const pen *p, int pixel, float radius) {
    float c = radius + 0.5f - sqrtf(p->distance[pixel]);
    return ESPL_MAX(0.0f, ESPL_MIN(1.0f, c));
}

/* Point t in [0, 1] of the Catmull-Rom span from q1 to q2. */
static point spline(point q0, point q1, point q2, point q3, float t) {
    float t2 = t * t, t3 = t2 * t;
    float w0 = 0.5f * (2 * t2 - t3 - t), w1 = 0.5f * (3 * t3 - 5 * t2 + 2);
    float w2 = 0.5f * (4 * t2 - 3 * t3 + t), w3 = 0.5f * (t3 - t2);
    return (point){w0 * q0.x + w1 * q1.x + w2 * q2.x + w3 * q3.x,
                   w0 * q0.y + w1 * q1.y + w2 * q2.y + w3 * q3.y};
}

static void draw_stroke(pen *p, const stroke *s) {
    point q[MAX_POINTS];
    float reach = p->radius + 1.0f;
    for (int i = 0; i < s->count; i++) {
        float x = (float)s->xy[i][0] * 0.01f - 0.5f + uniform(&p->rng, -0.065f, 0.065f);
        float y = (float)s->xy[i][1] * 0.01f - 0.5f + uniform(&p->rng, -0.065f, 0.065f);
        q[i] = (point){p->a * x + p->b * y + p->tx, p->c * x + p->d * y + p->ty};
    }
    for (int i = 0; i + 1 < s->count; i++) {
        if (!s->smooth) {
            draw_segment(p, q[i], q[i + 1], reach);
            continue;
        }
        point before = q[i ? i - 1 : 0], after = q[i + 2 < s->count ? i + 2 : i + 1], from = q[i];
        for (int k = 1; k <= SPAN; k++) {
            point to = spline(before, q[i], q[i + 1], after, (float)k / SPAN);
            draw_segment(p, from, to, reach);
            from = to;
        }
    }
}

/* --- one sample ------------------------------------------------------------------------------ */

/* Rotation, slant, size and place of the glyph, and the width of the pen. */
static void place_glyph(pen *p) {
    float angle = uniform(&p->rng, -0.38f, 0.38f), slant = uniform(&p->rng, -0.35f, 0.35f);
    float width = uniform(&p->rng, 16.0f, 26.0f), height = uniform(&p->rng, 18.0f, 26.0f);
    float s = small_sin(angle), c = small_cos(angle);
    p->a = c * width;
    p->b = (slant * c - s) * height;
    p->c = s * width;
    p->d = (slant * s + c) * height;
    p->tx = 14.0f + uniform(&p->rng, -2.5f, 2.5f);
    p->ty = 14.0f + uniform(&p->rng, -2.5f, 2.5f);
    p->radius = uniform(&p->rng, 0.6f, 1.7f);
}

static void draw_digit(pen *p, int digit, float *ink) {
    int variants = 0;
    for (size_t i = 0; i < ESPL_COUNT(strokes); i++)
        if (strokes[i].digit == digit) variants = ESPL_MAX(variants, strokes[i].variant + 1);
    int variant = (int)espl__rng_below(&p->rng, (uint32_t)variants);
    clear_lines(p);
    for (size_t i = 0; i < ESPL_COUNT(strokes); i++)
        if (strokes[i].digit == digit && strokes[i].variant == variant) draw_stroke(p, &strokes[i]);
    for (int i = 0; i < ESPL__DIGIT_PIXELS; i++) ink[i] = coverage(p, i, p->radius);
}

/* A stray line: `strength` of ink is added, or ink is rubbed out if negative. */
static void draw_stray(pen *p, float *ink, float strength, float radius, float length) {
    point s, e;
    s.x = uniform(&p->rng, 2, 26);
    s.y = uniform(&p->rng, 2, 26);
    e.x = s.x + uniform(&p->rng, -length, length);
    e.y = s.y + uniform(&p->rng, -length, length);
    clear_lines(p);
    draw_segment(p, s, e, radius + 1.0f);
    for (int i = 0; i < ESPL__DIGIT_PIXELS; i++) {
        float c = coverage(p, i, radius);
        ink[i] = strength > 0 ? ESPL_MAX(ink[i], c * strength) : ink[i] * (1.0f - c);
    }
}

/* Sum of four uniform bytes: close to normal, mean 510, standard deviation 147.8. */
static float noise(espl__rng *rng) {
    uint32_t x = espl__rng_u32(rng);
    int32_t sum = (int32_t)((x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24));
    return (float)(sum - 510) * (1.0f / 147.8f);
}

static void expose(pen *p, const float *ink, uint8_t *pixels) {
    float paper = uniform(&p->rng, 0.0f, 0.25f), contrast = uniform(&p->rng, 0.3f, 0.75f);
    float grain = uniform(&p->rng, 0.02f, 0.19f);
    for (int i = 0; i < ESPL__DIGIT_PIXELS; i++) {
        float v = (paper + contrast * ink[i] + grain * noise(&p->rng)) * 255.0f + 0.5f;
        pixels[i] = (uint8_t)ESPL_MAX(0.0f, ESPL_MIN(255.0f, v));
    }
}

int espl__digit_label(uint64_t seed, espl__split split, int64_t index) {
    espl__rng rng = espl__rng_at(seed, 2 + (uint64_t)split, (uint64_t)index / 10);
    uint8_t order[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    for (uint32_t i = 9; i > 0; i--) {
        uint32_t j = espl__rng_below(&rng, i + 1);
        uint8_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    return order[index % 10];
}

void espl__digit_draw(uint64_t seed, espl__split split, int64_t index, uint8_t *pixels) {
    float ink[ESPL__DIGIT_PIXELS];
    pen p = {.rng = espl__rng_at(seed, (uint64_t)split, (uint64_t)index)};
    place_glyph(&p);
    draw_digit(&p, espl__digit_label(seed, split, index), ink);
    if (espl__rng_below(&p.rng, 2)) draw_stray(&p, ink, -1.0f, uniform(&p.rng, 1.0f, 2.6f), 12.0f);
    if (espl__rng_below(&p.rng, 2)) {
        float strength = uniform(&p.rng, 0.4f, 1.0f), radius = uniform(&p.rng, 0.4f, 1.3f);
        draw_stray(&p, ink, strength, radius, 8.0f);
    }
    expose(&p, ink, pixels);
}
