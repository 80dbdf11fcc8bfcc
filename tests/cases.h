/* How many random cases a test runs. */
#ifndef CASES_H
#define CASES_H

/* The values are for the optimised build to check; a sanitizer looks at what happens on the way, and takes several times as
 * long for it. A second compiler (ESPL_ONE_BODY: kernels that only tests run) has the same source to get wrong, and so has
 * another processor (ESPL_CROSS), which an emulator makes ten to fifty times as slow. */
#if defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1, SHARE = 10 };
#elif defined(ESPL_SANITIZED)
enum { SANITIZED = 1, SHARE = 4 };
#elif defined(ESPL_ONE_BODY)
enum { SANITIZED = 0, SHARE = 4 };
#elif defined(ESPL_CROSS)
enum { SANITIZED = 0, SHARE = 8 };
#else
enum { SANITIZED = 0, SHARE = 1 };
#endif

/* n in the optimised build for this processor, a share of it elsewhere. */
#define CASES(n) (((n) + SHARE - 1) / SHARE)

#endif
