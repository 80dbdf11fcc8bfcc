/* Small pictures: rectangles and text in RGB, written as PNG. */
#ifndef PICTURE_H
#define PICTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "cli.h"

typedef struct colour {
    uint8_t red, green, blue;
} colour;

typedef struct picture {
    int width, height;
    colour *dots; /* row by row */
} picture;

/* A white one; `dots` NULL without memory. Free with free(dots). */
picture picture_new(int width, int height);
/* What lies outside the picture is left out. */
void picture_fill(picture *p, int x, int y, int width, int height, colour c);
/* Text in letters of FONT_WIDTH x FONT_HEIGHT dots times `scale`, one dot apart; some reach two dots lower. */
enum { FONT_WIDTH = 5, FONT_HEIGHT = 7 };
void picture_text(picture *p, int x, int y, int scale, colour c, const char *text);
/* Appears whole or not at all. */
ESPL_NODISCARD espl_status picture_write(cli *c, const char *path, const picture *p);

/* Whether a dot of a letter is set (font.c). */
bool font_dot(char letter, int x, int y);

#endif
