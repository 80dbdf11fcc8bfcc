/* The built-in generator of labelled digits, by itself: no files, no allocation. */
#ifndef ESPL_DATA_DIGITS_H
#define ESPL_DATA_DIGITS_H

#include "base/base.h"

enum { ESPL__DIGIT_SIDE = 28, ESPL__DIGIT_PIXELS = ESPL__DIGIT_SIDE * ESPL__DIGIT_SIDE };

typedef enum espl__split { ESPL__TRAIN, ESPL__TEST } espl__split;

/* 0..9; every ten samples from a multiple of ten on hold each digit once. index >= 0. */
int espl__digit_label(uint64_t seed, espl__split split, int64_t index);
/* Draws 28 x 28 grey levels, ink bright on dark. */
void espl__digit_draw(uint64_t seed, espl__split split, int64_t index, uint8_t *pixels);

#endif
