/* Status codes and the diagnostic that carries the sentence a person reads. */
#ifndef ESPALIER_STATUS_H
#define ESPALIER_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define ESPL_NODISCARD __attribute__((warn_unused_result))
#define ESPL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define ESPL_NODISCARD
#define ESPL_PRINTF(fmt, args)
#endif

/* X(name, exit code of the command line, message). The one list of statuses. */
#define ESPL_STATUS_LIST(X)                                                      \
    X(OK, 0, "success")                                                          \
    X(CHECK_FAILED, 1, "a check failed")                                         \
    X(INVALID, 2, "invalid argument")                                            \
    X(IO, 2, "input or output failed")                                           \
    X(FORMAT, 2, "malformed file")                                               \
    X(UNSUPPORTED, 2, "not supported")                                           \
    X(SHAPE, 2, "shapes or types do not fit")                                    \
    X(LIMIT, 2, "a resource limit was exceeded")                                 \
    X(CANCELLED, 3, "cancelled")                                                 \
    X(NOMEM, 3, "out of memory")                                                 \
    X(INTERNAL, 3, "internal error")

typedef enum espl_status {
#define ESPL_STATUS_ENUM(name, code, text) ESPL_##name,
    ESPL_STATUS_LIST(ESPL_STATUS_ENUM)
#undef ESPL_STATUS_ENUM
} espl_status;

/* Name ("FORMAT") and message ("malformed file") of a status; static strings. */
const char *espl_status_name(espl_status status);
const char *espl_status_message(espl_status status);
/* Exit code of the command line for a status: 0, 1, 2 or 3. */
int espl_status_exit_code(espl_status status);

/* Owned by the caller, zero-initialised; the first failure fills it. Every function that takes
 * an espl_diag accepts NULL. `message` is one sentence: file, place, reason, remedy. */
typedef struct espl_diag {
    espl_status status;
    char message[1024];
} espl_diag;

#ifdef __cplusplus
}
#endif
#endif
