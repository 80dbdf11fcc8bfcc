#include "picture.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

picture picture_new(int width, int height) {
    picture p = {width, height, malloc(sizeof(colour) * (size_t)width * (size_t)height)};
    if (p.dots) memset(p.dots, 255, sizeof(colour) * (size_t)width * (size_t)height);
    return p;
}

void picture_fill(picture *p, int x, int y, int width, int height, colour c) {
    int right = x + width < p->width ? x + width : p->width,
        end = y + height < p->height ? y + height : p->height;
    for (int row = y > 0 ? y : 0; row < end; row++)
        for (int at = x > 0 ? x : 0; at < right; at++)
            p->dots[(size_t)row * (size_t)p->width + (size_t)at] = c;
}

void picture_text(picture *p, int x, int y, int scale, colour c, const char *text) {
    for (; *text; text++, x += (FONT_WIDTH + 1) * scale)
        for (int row = 0; row < FONT_HEIGHT + 2; row++)
            for (int at = 0; at < FONT_WIDTH; at++)
                if (font_dot(*text, at, row))
                    picture_fill(p, x + at * scale, y + row * scale, scale, scale, c);
}

espl_status picture_write(cli *c, const char *path, const picture *p) {
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)p->width,
                       .height = (png_uint_32)p->height,
                       .format = PNG_FORMAT_RGB};
    png_alloc_size_t length = 0;
    void *bytes = NULL;
    espl_status status = ESPL_OK;
    if (png_image_write_to_memory(&image, NULL, &length, 0, p->dots, 0, NULL)) bytes = malloc(length);
    /* Pictures of ours are sound: all that libpng can lack is memory. */
    if (!bytes || !png_image_write_to_memory(&image, bytes, &length, 0, p->dots, 0, NULL))
        status = nomem(c);
    else
        status = espl_file_write(c->ctx, path, bytes, length, &c->diag);
    free(bytes);
    return status;
}
