/* Code for both kinds of reals. A file grad_x.c has its arithmetic in grad_x.inc.h and says
 *
 *     #define REAL_FILE "train/ops/x.inc.h"
 *     #include "train/real.h"
 *
 * which includes that file twice: with REAL = float, BITS the integer as wide, and FN(name) = name_f32, then
 * with double and name_f64.
 */
#ifndef REAL_FILE
#error "define REAL_FILE"
#endif

/* A function of loops that is compiled for several instruction sets, of which the best that the machine has
 * is taken when the program is loaded: all round alike, since nothing is contracted or reordered. Sanitizers'
 * runtimes do not stand being entered that early. */
#ifndef ESPL__CLONES
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(ESPL_SANITIZED)
#define ESPL__CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ESPL__CLONES
#endif
#define ESPL__INLINE __attribute__((always_inline))
#endif

#define REAL float
#define BITS int32_t
#define REAL_IS_FLOAT 1
#define FN(name) name##_f32
#define M(name) name##f
#include REAL_FILE
#undef REAL
#undef BITS
#undef REAL_IS_FLOAT
#undef FN
#undef M

#define REAL double
#define BITS int64_t
#define REAL_IS_FLOAT 0
#define FN(name) name##_f64
#define M(name) name
#include REAL_FILE
#undef REAL
#undef BITS
#undef REAL_IS_FLOAT
#undef FN
#undef M
#undef REAL_FILE
