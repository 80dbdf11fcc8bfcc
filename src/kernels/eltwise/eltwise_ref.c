/* The elementwise kernels for any machine. */
#define SET espl__eltwise_ref
#include "kernels/eltwise/eltwise.inc.h"
