/* JPEG and PNG: decoded as they are and as grey, made smaller, cropped. */
#include "data/data.h"
#include "fuzz.h"

enum { MOST_PIXELS = 1 << 20, SIDE = 24 };

static void decode(espl_context *ctx, const uint8_t *data, size_t size, int channels) {
    espl__picture p = {.ctx = ctx}, other = {.ctx = ctx};
    espl_diag diag = {0};
    espl_status status = size > 1 && data[0] == 0xff ? espl__jpeg_decode(data, size, channels, &p, &diag)
                                                     : espl__png_decode(data, size, channels, &p, &diag);
    if (status == ESPL_OK && (int64_t)p.height * p.width <= MOST_PIXELS) {
        status = espl__picture_resize(&p, &other, SIDE, &diag);
        if (status == ESPL_OK) status = espl__picture_crop(&p, SIDE, &diag);
    }
    fuzz_judge(status, &diag);
    espl__picture_free(&p);
    espl__picture_free(&other);
}

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    decode(ctx, data, size, 0);
    decode(ctx, data, size, 1);
}
