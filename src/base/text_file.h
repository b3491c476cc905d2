/*
 * Small files of the kernel (proc, cgroup), read whole. Thread: any.
 */
#ifndef EPX_BASE_TEXT_FILE_H
#define EPX_BASE_TEXT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads at most text_bytes - 1 bytes and ends them with NUL; false when the file cannot be read. */
bool epx_text_file_read(const char *path, char *text, size_t text_bytes);

/* The number in the line "<name><white space><number>…" of a text; false when there is no such line. */
bool epx_text_number_of(const char *text, const char *name, uint64_t *value);

#endif
