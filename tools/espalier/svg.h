/* What pictures in SVG share: axes with round numbers, text. */
#ifndef SVG_H
#define SVG_H

#include <stdio.h>

typedef struct axis {
    double low, high, step;
    int from, to; /* dots */
} axis;

/* Round numbers, about `wanted` of them, from the multiple below `low` to that above `high`. */
axis svg_axis(double low, double high, int wanted, int from, int to);
double svg_dot(const axis *a, double value);
/* The head of a file: white paper, letters of 13 dots, lines of class "grid". */
void svg_begin(FILE *out, int width, int height);
/* Text without its markup. */
void svg_text(FILE *out, const char *text);

#endif
