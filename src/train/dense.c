#include "train/dense.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "train/amx.h"
#include "train/onednn.h"

#define REAL_FILE "train/dense.inc.h"
#include "train/real.h"

/* Each has what it does better and the rest from the one before it. */
static espl__dense tables[3] = {{"plain", gemm_f32, gemm_f64, NULL}};
static int count = 1;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic(const espl__dense *) in_use;

static atomic_bool failed;

void espl__dense_fail(void) {
    atomic_store(&failed, true);
}
bool espl__dense_failed(void) {
    return atomic_load(&failed) && atomic_exchange(&failed, false);
}

static bool use(const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(tables[i].name, name) == 0) {
            atomic_store(&in_use, &tables[i]);
            return true;
        }
    return false;
}

/* What comes after the one that is asked for stays closed: oneDNN's setting up does not bear a lack of
 * memory. */
static void choose(void) {
    static bool (*const open[])(espl__dense *) = {espl__onednn_open, espl__amx_open};
    const char *name = getenv("ESPL_DENSE");
    for (size_t i = 0; i < ESPL_COUNT(open) && !(name && strcmp(tables[count - 1].name, name) == 0); i++) {
        tables[count] = tables[count - 1];
        if (open[i](&tables[count])) count++;
    }
    if (!name || !use(name)) atomic_store(&in_use, &tables[count - 1]);
}

const espl__dense *espl__dense_get(void) {
    pthread_once(&once, choose);
    return atomic_load(&in_use);
}

bool espl__dense_use(const char *name) {
    pthread_once(&once, choose);
    return use(name);
}
