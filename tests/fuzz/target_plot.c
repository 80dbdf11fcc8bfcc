/* Logs of training, as `espalier plot` reads them. The program itself is linked in, its main renamed. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

int espalier_main(int count, char **words);

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    char picture[310], log[300];
    (void)ctx;
    snprintf(log, sizeof log, "%s", fuzz_file("train.log", data, size));
    snprintf(picture, sizeof picture, "%s", fuzz_file("plot.svg", "", 0));
    char name[] = "espalier", command[] = "plot", quiet[] = "-q", output[] = "-o";
    char *words[] = {name, command, quiet, log, output, picture, NULL};
    int code = espalier_main(6, words);
    fuzz_expect(code >= 0 && code <= 2, "plot ends with another code than 0, 1 or 2");
}
