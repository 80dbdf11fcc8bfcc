/* JPEG by libjpeg-turbo, with its errors turned into ours. */
#include "data/data.h"

#include <limits.h>
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>

/* More scans than any encoder writes: a small progressive file may ask for hours of work. */
enum { MAX_SCANS = 200 };

typedef struct decoder {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    char text[JMSG_LENGTH_MAX];
    bool large;   /* it needs more memory than it may have */
    bool refused; /* there is no more memory */
    JSAMPLE *row;
} decoder;

_Noreturn static void on_error(j_common_ptr info) {
    decoder *d = info->client_data;
    d->large = info->err->msg_code == JERR_NO_BACKING_STORE;
    d->refused = info->err->msg_code == JERR_OUT_OF_MEMORY;
    info->err->format_message(info, d->text);
    longjmp(d->escape, 1);
}

/* libjpeg goes on after damage and invents pixels; we do not. Harmless oddities pass. */
static void on_message(j_common_ptr info, int level) {
    int code = info->err->msg_code;
    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE))
        on_error(info);
}

static void on_output(j_common_ptr info) {
    (void)info;
}

static void on_progress(j_common_ptr info) {
    decoder *d = info->client_data;
    if (d->info.input_scan_number <= MAX_SCANS) return;
    snprintf(d->text, sizeof d->text, "it has more than %d scans", MAX_SCANS);
    longjmp(d->escape, 1);
}

static void start(decoder *d, const uint8_t *bytes, uint64_t length) {
    d->info.err = jpeg_std_error(&d->errors);
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    d->errors.output_message = on_output;
    d->info.client_data = d;
    jpeg_create_decompress(&d->info);
    d->progress.progress_monitor = on_progress;
    d->info.progress = &d->progress;
    jpeg_mem_src(&d->info, bytes, (unsigned long)length);
    (void)jpeg_read_header(&d->info, TRUE);
}

/* Grey stays grey and colour becomes RGB unless `channels` asks otherwise. */
static bool choose_colours(decoder *d, int channels) {
    bool grey = d->info.jpeg_color_space == JCS_GRAYSCALE;
    if (!grey && d->info.jpeg_color_space != JCS_YCbCr && d->info.jpeg_color_space != JCS_RGB) return false;
    if (channels == 0) channels = grey ? 1 : 3;
    d->info.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    d->info.dct_method = JDCT_ISLOW; /* the same bits from every build of the library */
    return true;
}

static void read_rows(decoder *d, espl__picture *p) {
    int64_t plane = (int64_t)p->height * p->width;
    while (d->info.output_scanline < d->info.output_height) {
        float *out = p->data + (int64_t)d->info.output_scanline * p->width;
        if (jpeg_read_scanlines(&d->info, &d->row, 1) != 1) break;
        for (int x = 0; x < p->width; x++)
            for (int c = 0; c < p->channels; c++) out[c * plane + x] = (float)d->row[x * p->channels + c];
    }
}

espl_status espl__jpeg_decode(const uint8_t *bytes, uint64_t length, int channels, espl__picture *picture,
                              espl_diag *diag) {
    /* Set before setjmp or only through pointers, so that nothing is lost by longjmp. */
    espl_context *ctx = picture->ctx;
    volatile espl_status status = ESPL_OK;
    decoder *const d = espl__calloc(ctx, 1, sizeof *d);
    if (!d) return espl__nomem(diag, sizeof *d);
    if (setjmp(d->escape)) {
        status = d->refused ? espl__fail(diag, ESPL_NOMEM, "out of memory while the JPEG was decoded")
                 : d->large
                     ? espl__fail(diag, ESPL_LIMIT,
                                  "the JPEG needs more memory than is allowed; convert it to one that is not "
                                  "progressive, or raise the limit (--max-memory)")
                     : espl__fail(diag, ESPL_FORMAT, "the JPEG cannot be decoded: %s", d->text);
        goto done;
    }
    start(d, bytes, length);
    if (!choose_colours(d, channels)) {
        status = espl__fail(diag, ESPL_UNSUPPORTED,
                            "the JPEG is neither grey nor YCbCr nor RGB; convert it to RGB");
        goto done;
    }
    jpeg_calc_output_dimensions(&d->info);
    status = espl__picture_size(picture, d->info.out_color_components, d->info.output_height,
                                d->info.output_width, diag);
    if (status != ESPL_OK) goto done;
    d->row = espl__alloc(ctx, (uint64_t)picture->width * 3);
    if (!d->row) {
        status = espl__nomem(diag, (uint64_t)picture->width * 3);
        goto done;
    }
    /* Whole images of coefficients, as progressive files need them, are libjpeg's own. */
    d->info.mem->max_memory_to_use = (long)ESPL_MIN(espl__memory_left(ctx), (uint64_t)LONG_MAX);
    (void)jpeg_start_decompress(&d->info);
    read_rows(d, picture);
    (void)jpeg_finish_decompress(&d->info);
done:
    jpeg_destroy_decompress(&d->info);
    espl__free(ctx, d->row);
    espl__free(ctx, d);
    return status;
}
