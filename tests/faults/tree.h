/* What lies in a folder: every path with a hash of what is in it. */
#ifndef TREE_H
#define TREE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tree_entry {
    char *path; /* below the folder, "a/b" */
    uint64_t hash;
    bool folder;
} tree_entry;

typedef struct tree {
    tree_entry *entry; /* sorted by path */
    int count;
} tree;

tree tree_read(const char *folder);
void tree_free(tree *t);
const tree_entry *tree_find(const tree *t, const char *path);
bool tree_same(const tree *a, const tree *b);
/* Makes `folder` anew as a copy of `from`; ends the program if that cannot be done. */
void tree_copy(const char *from, const char *folder);
void tree_remove(const char *folder);
/* A whole file, NUL behind it, to be freed; NULL if it cannot be read. */
char *file_text(const char *path);

#endif
