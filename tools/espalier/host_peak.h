/* What this machine can do at best, measured once and kept. */
#ifndef HOST_PEAK_H
#define HOST_PEAK_H

#include "cli.h"
#include "espalier/chip.h"

/* The profile of this machine, from the cache or measured now; freed by the caller. */
ESPL_NODISCARD espl_status host_chip(cli *c, espl_chip **out);
/* Keeps a profile that was just measured. */
void keep_host_chip(cli *c, const espl_chip *chip);
/* Billions of operations a second (a MAC is two) that `threads` cores reach at this format; 0 if not known.
 */
double peak_gops(const espl_chip *host, const char *format, int threads);

#endif
