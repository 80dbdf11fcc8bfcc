/* Damaged protocol buffers: messages whose fields are left out, repeated, exchanged and changed, with lengths
 * that fit again, so that the reader behind the parser sees them. */
#ifndef FUZZ_PROTOBUF_H
#define FUZZ_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

/* xorshift64*, Marsaglia 2003 and Vigna 2016; *state is not 0. */
uint64_t fuzz_random(uint64_t *state);
/* Changes one field of the message in data, which has room for `most` bytes; returns the new size. What was
 * done is put into `what` (room bytes; NULL: not asked for). A message that cannot be understood has a byte
 * changed. */
size_t protobuf_mutate(uint8_t *data, size_t size, size_t most, uint64_t *random, char *what, size_t room);

#endif
