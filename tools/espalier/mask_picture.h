/* Pictures of which weights a layer keeps. */
#ifndef MASK_PICTURE_H
#define MASK_PICTURE_H

#include "espalier/compress.h"
#include "picture.h"

/* Draws the same weights in several forms (`count` of them, at least 1; the first as the model has them) side
 * by side: kept ones shaded by magnitude, zeros white. A matrix that is too large is shown from its first row
 * and input on, and the caption says so. Free with free(picture.dots), NULL without memory. */
picture mask_picture(const char *title, const espl_weights *forms, int count);
/* "2:4", "as in the model: dense": what a form is called. */
const char *mask_caption(const espl_weights *form, bool first, char *buf, size_t size);

/* LSTM, GRU, RNN: the first weights are W, the second R, and taps are directions. */
bool mask_is_recurrent(const espl_weights *form);

#endif
