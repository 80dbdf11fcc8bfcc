/* Numbers as strings and back, for Cast. */
#ifndef ESPL_NUMERALS_H
#define ESPL_NUMERALS_H

#include "espalier/tensor.h"

enum { ESPL__NUMERAL = 32 }; /* bytes that a number takes at most */

/* From a tensor of strings, to one, or both. A number is written with as many digits as bring back the same
 * one ("0.1", "1e+20", "NaN", "INF", "-INF"), in the form of the C locale; a bool as 0 or 1. Text behind
 * `to`'s elements has room for ESPL__NUMERAL bytes an element. What is no number reads as NaN, or 0 where
 * there is none; what is out of range saturates. */
void espl__numerals(const espl_tensor *from, espl_tensor *to);

#endif
