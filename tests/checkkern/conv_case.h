/* Random cases of kernels that take an espl__conv, and what they may write. */
#ifndef CONV_CASE_H
#define CONV_CASE_H

#include "checkkern.h"

enum { MAX_SEGMENTS = 80 };
typedef struct {
    espl__conv p;
    int32_t seg_off[MAX_SEGMENTS];
    const void *in, *res;
    int pixels, block0, block1;
    bool hostile;
    int most; /* pixels; 0: as a kernel of register tiles needs */
    outputs out;
} conv_case;

static inline int round16(int n) {
    return (n + 15) / 16 * 16;
}

const float *random_mults(int channels, bool hostile);
espl__epilogue_u8 random_epilogue(int channels, bool hostile);
void random_clamp(float *lo, float *hi);
/* Channels, and which blocks of them. */
void random_blocks(conv_case *c);
/* Shapes cover every register tile: pixels from 1 past the widest, in one row or several, blocks from 1 to 9
 * and many, one k and many; half of the integer ones in whole lines of memory. `unit`: bytes of an element.
 */
void random_shape(conv_case *c, int unit, bool large, bool gemv);
/* An input that ends with what the segments of the last pixel read; the last step of random_shape. */
void place_input(conv_case *c, int unit);
void random_weights_u8(conv_case *c);
/* Outputs of random shapes: rows lie behind each other, with or without gaps. */
void random_outputs(conv_case *c, int unit, bool residual);

#define CASE_FORMAT "%d x %d groups, %d channels, %d pixels in rows of %d, blocks %d to %d%s"
#define CASE_ARGS(c)                                                                              \
    (c).p.segments, (c).p.seg_k, (c).p.channels, (c).pixels, (c).p.width, (c).block0, (c).block1, \
        (c).res ? ", residual" : ""

/* Channels of the case's blocks. */
int first_channel(const conv_case *c);
int last_channel(const conv_case *c);
ptrdiff_t at(const conv_case *c, int pixel, ptrdiff_t step, ptrdiff_t row);
/* Whether the reference wrote the blocks' channels of each pixel and nothing else. */
bool wrote_its_own(const conv_case *c, int unit);
void random_output(const conv_case *c, int *pixel, int *channel);
/* Whether y is x clamped, within the rounding of `terms` float operations on values up to `size`. */
bool is_close(double x, double size, double terms, float lo, float hi, float y);

#endif
