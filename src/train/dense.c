#include "train/dense.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "train/onednn.h"

#define REAL_FILE "train/dense.inc.h"
#include "train/real.h"

static const espl__dense plain = {"plain", gemm_f32, gemm_f64, NULL};
static espl__dense library; /* the plain one, and what oneDNN does better */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic(const espl__dense *) in_use;

static void choose(void) {
    const char *name = getenv("ESPL_DENSE");
    library = plain;
    bool found = espl__onednn_open(&library);
    atomic_store(&in_use, found && !(name && strcmp(name, plain.name) == 0) ? &library : &plain);
}

const espl__dense *espl__dense_get(void) {
    pthread_once(&once, choose);
    return atomic_load(&in_use);
}

bool espl__dense_use(const char *name) {
    pthread_once(&once, choose);
    const espl__dense *wanted = strcmp(name, plain.name) == 0 ? &plain : &library;
    if (strcmp(wanted->name, name) != 0) return false;
    atomic_store(&in_use, wanted);
    return true;
}
