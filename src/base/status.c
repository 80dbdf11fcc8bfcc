#include "base/base.h"

#include <stdio.h>

static const struct {
    const char *name, *message;
    int exit_code;
} statuses[] = {
#define ROW(name, code, text) {#name, text, code},
    ESPL_STATUS_LIST(ROW)
#undef ROW
};

const char *espl_status_name(espl_status status) {
    return (unsigned)status < ESPL_COUNT(statuses) ? statuses[status].name : "?";
}
const char *espl_status_message(espl_status status) {
    return (unsigned)status < ESPL_COUNT(statuses) ? statuses[status].message : "unknown status";
}
int espl_status_exit_code(espl_status status) {
    return (unsigned)status < ESPL_COUNT(statuses) ? statuses[status].exit_code : 3;
}

/* File names and node names come from outside: control characters must not reach a terminal. */
static void tame(char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = ' ';
}

espl_status espl__fail(espl_diag *diag, espl_status status, const char *fmt, ...) {
    if (!diag || diag->status != ESPL_OK) return status;
    va_list args;
    va_start(args, fmt);
    vsnprintf(diag->message, sizeof diag->message, fmt, args);
    va_end(args);
    diag->status = status;
    tame(diag->message);
    return status;
}

void espl__diag_prefix(espl_diag *diag, const char *fmt, ...) {
    if (!diag || diag->status == ESPL_OK) return;
    char old[sizeof diag->message];
    memcpy(old, diag->message, sizeof old);
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(diag->message, sizeof diag->message, fmt, args);
    va_end(args);
    size_t used = n < 0 ? 0 : ESPL_MIN((size_t)n, sizeof diag->message - 3),
           room = sizeof diag->message - used - 3;
    memcpy(diag->message + used, ": ", 2);
    memcpy(diag->message + used + 2, old, room);
    diag->message[sizeof diag->message - 1] = 0;
    tame(diag->message);
}

void espl__diag_name_file(espl_diag *diag, const char *file) {
    if (diag && diag->status != ESPL_OK && *file && !strstr(diag->message, file)) espl__diag_prefix(diag, "%s", file);
}
