/* What the targets share. A target is a file target_NAME.c that defines fuzz_target, and a row of
 * targets.list.
 *
 * Built by clang with -fsanitize=fuzzer it is a libFuzzer program (make fuzz); else replay.c runs it over the
 * files of the corpus (make check). */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/graph.h"

/* Gives the bytes to the reader at hand. Whatever was allocated must be free again when it returns. */
void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size);

/* What LLVM's libFuzzer calls. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

/* Writes a file of this name, one of a few, into a folder that goes when the program ends. */
const char *fuzz_file(const char *name, const void *data, size_t size);
/* A status that is not ESPL_OK must be the caller's fault (exit code 1 or 2) and have its sentence in diag;
 * else the program ends here, and that is a finding. */
void fuzz_judge(espl_status status, const espl_diag *diag);
/* The same for what is not a status. */
void fuzz_expect(bool good, const char *what);
/* Lowers the graph, and runs it on zeros if that is little work. */
espl_status fuzz_session(espl_context *ctx, const espl_graph *graph, espl_diag *diag);
/* Writes the bytes into the file `name`, opens the data set that `description` (YAML) makes of it, and reads
 * some samples. */
void fuzz_dataset(espl_context *ctx, const char *description, const char *name, const uint8_t *data,
                  size_t size);

#endif
