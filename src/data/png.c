/* PNG by libpng, with its errors turned into ours. */
#include "base/refused.h"
#include "data/data.h"

#include <setjmp.h>

#include <png.h>

enum { MAX_CHUNK = 8 << 20 };

typedef struct decoder {
    png_structp png;
    png_infop info;
    const uint8_t *at, *end;
    uint8_t *image; /* interleaved, as libpng gives it */
    uint8_t **rows;
    char text[128];
} decoder;

_Noreturn static void on_error(png_structp png, png_const_charp message) {
    decoder *d = png_get_error_ptr(png);
    size_t n = ESPL_MIN(strlen(message), sizeof d->text - 1);
    memcpy(d->text, message, n);
    d->text[n] = 0;
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

/* libpng's own memory is the context's: palettes, texts, rows. */
static png_voidp on_alloc(png_structp png, png_alloc_size_t bytes) {
    return espl__alloc(png_get_mem_ptr(png), bytes);
}

static void on_free(png_structp png, png_voidp ptr) {
    espl__free(png_get_mem_ptr(png), ptr);
}

static void on_read(png_structp png, png_bytep out, size_t length) {
    decoder *d = png_get_io_ptr(png);
    if ((size_t)(d->end - d->at) < length) png_error(png, "it ends too early");
    memcpy(out, d->at, length);
    d->at += length;
}

/* 8-bit grey or RGB: palettes and few bits expanded, 16 bits cut to the upper 8, transparency dropped. */
static void read_header(decoder *d) {
    png_set_user_limits(d->png, ESPL__IMAGE_MAX_SIDE, ESPL__IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(d->png, MAX_CHUNK);
    png_set_chunk_cache_max(d->png, 64);
    png_set_read_fn(d->png, d, on_read);
    png_read_info(d->png, d->info);
    png_set_expand(d->png);
    png_set_strip_16(d->png);
    png_set_strip_alpha(d->png);
    (void)png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
}

/* Grey from colour: ITU-R BT.601, as JPEG has it. */
static float luma(const uint8_t *rgb) {
    return (float)((299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000);
}

static void unpack(const decoder *d, int stored, espl__picture *p) {
    int64_t pixels = (int64_t)p->height * p->width;
    for (int64_t i = 0; i < pixels; i++) {
        const uint8_t *in = d->image + i * stored;
        for (int c = 0; c < p->channels; c++)
            p->data[c * pixels + i] = stored > p->channels ? luma(in) : (float)in[stored == 1 ? 0 : c];
    }
}

static espl_status make_room(decoder *d, int channels, espl__picture *p, espl_diag *diag) {
    uint64_t width = png_get_image_width(d->png, d->info), height = png_get_image_height(d->png, d->info);
    uint64_t stored = png_get_channels(d->png, d->info);
    if ((stored != 1 && stored != 3) || png_get_rowbytes(d->png, d->info) != width * stored)
        return espl__fail(diag, ESPL_UNSUPPORTED, "the PNG has %d channels", (int)stored);
    espl_status status =
        espl__picture_size(p, channels ? channels : (int64_t)stored, (int64_t)height, (int64_t)width, diag);
    if (status != ESPL_OK) return status;
    d->image = espl__alloc(p->ctx, width * height * stored);
    d->rows = espl__calloc(p->ctx, height, sizeof *d->rows);
    if (!d->image || !d->rows) return espl__nomem(diag, width * height * stored);
    for (uint64_t y = 0; y < height; y++) d->rows[y] = d->image + y * width * stored;
    return ESPL_OK;
}

espl_status espl__png_decode(const uint8_t *bytes, uint64_t length, int channels, espl__picture *picture,
                             espl_diag *diag) {
    espl_context *ctx = picture->ctx;
    volatile espl_status status = ESPL_OK;
    const uint64_t refused = espl__refused(ctx);
    decoder *const d = espl__calloc(ctx, 1, sizeof *d);
    if (!d) return espl__nomem(diag, sizeof *d);
    d->at = bytes;
    d->end = bytes + length;
    d->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, d, on_error, on_warning, ctx, on_alloc, on_free);
    if (d->png) d->info = png_create_info_struct(d->png);
    if (!d->info) {
        status = espl__nomem(diag, 4096);
        goto done;
    }
    if (setjmp(png_jmpbuf(d->png))) {
        status = espl__refused(ctx) != refused
                     ? espl__nomem(diag, length)
                     : espl__fail(diag, ESPL_FORMAT, "the PNG cannot be decoded: %s", d->text);
        goto done;
    }
    read_header(d);
    status = make_room(d, channels, picture, diag);
    if (status != ESPL_OK) goto done;
    png_read_image(d->png, d->rows);
    png_read_end(d->png, NULL);
    unpack(d, (int)png_get_channels(d->png, d->info), picture);
done:
    if (d->png) png_destroy_read_struct(&d->png, &d->info, NULL);
    espl__free(ctx, d->image);
    espl__free(ctx, d->rows);
    espl__free(ctx, d);
    return status;
}
