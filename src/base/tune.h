/* Choices between two ways to compute something, as they were measured: key to gain, kept by the context. */
#ifndef ESPL_TUNE_H
#define ESPL_TUNE_H

#include "base/base.h"

enum { ESPL__TUNE_KEY = 160 };
/* False if ESPL_TUNE=0 forbids to measure; what was read from a file holds nevertheless. */
bool espl__tune_allowed(void);
/* How many times faster the second way was; 0: not known. */
double espl__tune_find(espl_context *ctx, const char *key);
/* Without memory nothing is kept. */
void espl__tune_keep(espl_context *ctx, const char *key, double gain);

#endif
