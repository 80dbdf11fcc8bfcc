/* Results appear whole or not at all. */
#ifndef FILES_H
#define FILES_H

#include "cli.h"
#include "espalier/files.h"

/* Size of a file in bytes, 0 if it cannot be told. */
uint64_t file_size(const char *path);
bool is_folder(const char *path);
/* "folder/name", to be freed with free(); NULL without memory. */
char *join(const char *folder, const char *name);
/* Last part of a path, borrowed. */
const char *base_name(const char *path);

/* Entries of a folder that begin with `prefix` and end with `ending`, sorted, shorter names first: set 2 comes before set 10.
 * *out is for free_names, whatever comes back. */
ESPL_NODISCARD espl_status list_folder(cli *c, const char *folder, const char *prefix, const char *ending, char ***out,
                                       int *count);
void free_names(char **names, int count);

ESPL_NODISCARD espl_status write_text(cli *c, const char *path, const char *text);
/* Whether a path ends like this, as ".onnx"; and the failure of the option `what` where it has to. */
bool ends_with(const char *path, const char *ending);
ESPL_NODISCARD espl_status check_ending(cli *c, const char *what, const char *path, const char *ending);
/* Asked before long work: can a file be put at `path`? Into `later` it can, a folder that will be there. */
ESPL_NODISCARD espl_status check_place(cli *c, const char *path, const char *later);

/* A stream whose text becomes a file in the end. (Of open_memstream nobody learns that it ran out of memory.)
 */
typedef struct text_stream {
    FILE *file; /* to print to; NULL without memory */
    char *text;
    size_t length, room;
    bool failed;
} text_stream;
void stream_open(text_stream *s);
/* Ends the stream; what was printed becomes the file `path`, unless path is NULL or something is missing. */
ESPL_NODISCARD espl_status stream_write(cli *c, text_stream *s, const char *path);

/* A folder to put files into. It is filled under a temporary name and appears at its end, with the files that
 * were there. */
typedef struct output_folder {
    espl_context *ctx;
    const char *path; /* borrowed */
    char *temporary;
} output_folder;
ESPL_NODISCARD espl_status output_begin(cli *c, const char *path, output_folder *out);
/* Path of a file in it, to be freed with free(). */
char *output_path(const output_folder *folder, const char *name);
ESPL_NODISCARD espl_status output_commit(cli *c, output_folder *folder);
/* Removes what was not committed; fine to call always. */
void output_end(output_folder *folder);

#endif
