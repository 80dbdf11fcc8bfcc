#include "svg.h"

#include <math.h>

axis svg_axis(double low, double high, int wanted, int from, int to) {
    double raw = fmax(high - low, 1e-9) / wanted, power = pow(10, floor(log10(raw))), step = power;
    while (step < raw * (1 - 1e-9))
        step = step < 1.5 * power ? 2 * power : step < 3 * power ? 5 * power : 10 * power;
    return (axis){floor(low / step) * step, ceil(high / step) * step, step, from, to};
}

double svg_dot(const axis *a, double value) {
    return a->from + (value - a->low) / (a->high - a->low) * (a->to - a->from);
}

void svg_begin(FILE *out, int width, int height) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
            "font-family=\"sans-serif\" font-size=\"13\">\n"
            "<style>.grid{stroke:#e2e2e2}</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            width, height, width, height);
}

void svg_text(FILE *out, const char *text) {
    for (; *text; text++)
        if (*text == '&' || *text == '<' || *text == '>')
            fprintf(out, "&#%d;", *text);
        else
            fputc((unsigned char)*text < ' ' ? '?' : *text, out);
}
