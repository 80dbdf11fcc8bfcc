#include "text.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

void text_tame(char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
        else if ((unsigned char)text[0] == 0xc2 && ((unsigned char)text[1] & 0xe0) == 0x80)
            text[0] = text[1] = ' '; /* U+0080 to U+009F */
}

int text_width(const char *text) {
    int width = 0;
    for (; *text; text++) width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

cell cell_format(const char *fmt, ...) {
    cell c;
    va_list args;
    va_start(args, fmt);
    vsnprintf(c.text, sizeof c.text, fmt, args);
    va_end(args);
    return c;
}

/* Three digits: 1.23, 12.3, 123. */
static int decimals(double value) {
    return value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
}

cell cell_bytes(uint64_t bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) return cell_format("%" PRIu64 " B", bytes);
    double value = (double)bytes / 1024;
    size_t unit = 0;
    while (value >= 1023.5 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    return cell_format("%.*f %s", value < 99.95, value, units[unit]);
}

cell cell_count(int64_t count, bool dash) {
    static const char units[] = "kMGTPE";
    if (count == 0 && dash) return cell_format("-");
    if (count < 10000) return cell_format("%" PRId64, count);
    double value = (double)count / 1000;
    size_t unit = 0;
    while (value >= 999.5 && units[unit + 1]) {
        value /= 1000;
        unit++;
    }
    return cell_format("%.*f %c", decimals(value), value, units[unit]);
}

cell cell_ms(double ms) {
    if (!isfinite(ms) || ms <= 0) return cell_format("-");
    return cell_format("%.*f", ms < 0.09995 ? 4 : ms < 0.9995 ? 3 : decimals(ms), ms);
}

cell cell_percent(double fraction) {
    if (!isfinite(fraction)) return cell_format("-");
    return cell_format("%.1f %%", 100 * fraction);
}
