/* Every method there is, from the lists that define them. */
#include "compress/mixed/mixed.h"
#include "compress/prune/prune.h"
#include "compress/quant/accumulator.h"
#include "compress/quant/observer.h"
#include "compress/quant/weights.h"
#include "compress/repair/repair.h"
#include "espalier/compress.h"

static const espl_method methods[] = {
#define X(NAME, name, kind, bits, sign, text) {"format", "format", name, "", text},
    ESPL_FORMAT_LIST(X)
#undef X
#define X(NAME, name, text) {"compute", "compute", name, "", text},
        ESPL__COMPUTE_LIST(X)
#undef X
#define X(NAME, name, parameters, text) {"scale", "", name, parameters, text},
            ESPL__SCALES_LIST(X)
#undef X
#define X(NAME, name, text) {"fit", "fit", name, "", text},
                ESPL__FIT_LIST(X)
#undef X
#define X(NAME, name, text) {"round", "round", name, "", text},
                    ESPL__ROUND_LIST(X)
#undef X
#define X(NAME, name, parameter, least, most, usual, text) {"observer", "observer", name, parameter, text},
                        ESPL__OBSERVER_LIST(X)
#undef X
#define X(NAME, name, parameters, stage, text) {"repair", "repair", name, parameters, text},
    ESPL__REPAIR_LIST(X)
#undef X
#define X(NAME, name, parameters, text) {"pattern", "pattern", name, parameters, text},
                            ESPL_PATTERN_LIST(X)
#undef X
#define X(NAME, name, text) {"saliency", "saliency", name, "", text},
                                ESPL__SALIENCY_LIST(X)
#undef X
#define X(NAME, name, parameters, text) {"search", "", name, parameters, text},
        ESPL__SEARCH_LIST(X)
#undef X
#define X(NAME, name, text) {"accumulator", "on_overflow", name, "", text},
                                    ESPL__OVERFLOW_LIST(X)
#undef X
#define X(NAME, name, text) {"emulation", "", name, "", text},
                                        ESPL__EMULATION_LIST(X)
#undef X
};

const espl_method *espl_method_at(int index) {
    return index >= 0 && (size_t)index < ESPL_COUNT(methods) ? &methods[index] : NULL;
}
