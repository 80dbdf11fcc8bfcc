/* Checkpoints of training: numbers, settings and vectors. The checksum is made to fit. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "train/checkpoint.h"

/* docs/training.md: the CRC-32 of what follows stands at byte 12. */
enum { HEADER = 16, CRC_AT = 12 };

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    espl__checkpoint c, mine = {0};
    espl_diag diag = {0};
    float statistics[8], weights[24];
    uint8_t *file = malloc(size + 1);
    fuzz_expect(file != NULL, "memory for the file");
    memcpy(file, data, size);
    if (size >= HEADER) {
        uint32_t crc = espl__crc32(file + HEADER, size - HEADER);
        memcpy(file + CRC_AT, &crc, sizeof crc);
    }
    espl__checkpoint_add(&mine, statistics, sizeof statistics);
    espl__checkpoint_add(&mine, weights, sizeof weights);
    const char *path = fuzz_file("last.ckpt", file, size);
    espl_status status = espl__checkpoint_read(ctx, &c, path, &diag);
    if (status == ESPL_OK)
        (void)espl__crc32((const uint8_t *)c.settings, c.settings_length); /* all of it is there */
    if (status == ESPL_OK) status = espl__checkpoint_take(&c, &mine, path, &diag);
    espl__checkpoint_free(ctx, &c);
    free(file);
    fuzz_judge(status, &diag);
}
