/* Four u8 times four s8 a lane by one instruction, of any width: the including file has vi and names it ESPL__VNNI_BYTES, and
 * its twin for two numbers of 16 bits ESPL__VNNI_WORDS. */
#ifndef ESPL_SIMD_VNNI_H
#define ESPL_SIMD_VNNI_H

/* Both operands hold one element a lane, within 16 bits. */
static INLINE vi vi_madd(vi acc, vi x, vi w) {
    return ESPL__VNNI_WORDS(acc, x, w);
}

typedef vi x_operand;
typedef vi w_operand;
static INLINE x_operand x_of(vi x) {
    return x;
}
static INLINE w_operand w_load(const int8_t *from) {
    return vi_load(from);
}
static INLINE vi dot(vi acc, x_operand x, w_operand w) {
    return ESPL__VNNI_BYTES(acc, x, w);
}

#endif
