#include "onnx/onnx_impl.h"

static const char *const flavours[] = {
#define X(NAME, name, text) name,
    ESPL_FLAVOUR_LIST(X)
#undef X
};

const char *espl_flavour_name(espl_flavour flavour) {
    return (unsigned)flavour < ESPL_FLAVOUR_COUNT ? flavours[flavour] : "?";
}

bool espl_flavour_parse(const char *name, espl_flavour *out) {
    for (int i = 0; i < ESPL_FLAVOUR_COUNT; i++)
        if (strcmp(name, flavours[i]) == 0) {
            *out = (espl_flavour)i;
            return true;
        }
    return false;
}
