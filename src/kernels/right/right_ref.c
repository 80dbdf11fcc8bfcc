/* Packing of the right side for any machine. */
#define SET espl__right_ref
#include "kernels/right/right.inc.h"
