/* What this machine can do at best, measured once and kept. */
#ifndef HOST_PEAK_H
#define HOST_PEAK_H

#include "cli.h"
#include "espalier/chip.h"
#include "espalier/session.h"

/* The profile of this machine, from the cache or measured now; freed by the caller. */
ESPL_NODISCARD espl_status host_chip(cli *c, espl_chip **out);
/* Keeps a profile that was just measured. */
void keep_host_chip(cli *c, const espl_chip *chip);
/* Which of two kernels was faster here, from the cache; how many choices are known now. And to the cache. */
int read_choices(cli *c);
void keep_choices(cli *c);
/* Billions of operations a second (a MAC is two) that `threads` cores reach at this format; 0 if not known.
 */
double peak_gops(const espl_chip *host, const char *format, int threads);
/* The least that a layer takes on `threads` cores, in milliseconds, for its multiplications and for its
 * bytes, among weights of resident_bytes in all; 0 if not known. */
void layer_limits(const espl_chip *host, const espl_layer *layer, uint64_t resident_bytes, int threads,
                  double *compute_ms, double *memory_ms);

#endif
