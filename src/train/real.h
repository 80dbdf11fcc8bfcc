/* Code for both kinds of reals. A file grad_x.c has its arithmetic in grad_x.inc.h and says
 *
 *     #define REAL_FILE "train/ops/x.inc.h"
 *     #include "train/real.h"
 *
 * which includes that file twice: with REAL = float and FN(name) = name_f32, then with double and name_f64.
 */
#ifndef REAL_FILE
#error "define REAL_FILE"
#endif

#define REAL float
#define REAL_IS_FLOAT 1
#define FN(name) name##_f32
#define M(name) name##f
#include REAL_FILE
#undef REAL
#undef REAL_IS_FLOAT
#undef FN
#undef M

#define REAL double
#define REAL_IS_FLOAT 0
#define FN(name) name##_f64
#define M(name) name
#include REAL_FILE
#undef REAL
#undef REAL_IS_FLOAT
#undef FN
#undef M
#undef REAL_FILE
