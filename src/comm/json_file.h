/*
 * Small JSON files: those whose content means nothing to epx but that programs expect to be read, and lists of texts.
 * Thread: any.
 */
#ifndef EPX_COMM_JSON_FILE_H
#define EPX_COMM_JSON_FILE_H

#include "base/status.h"

/* Whether `path` is a regular file with a JSON text. EPX_ERR_FILE: it cannot be read; EPX_ERR_SYNTAX: it is not JSON,
 * with line and column. */
EPX_NODISCARD enum epx_status epx_json_file_check(const char *path);

/* Offers each text of the list `key` of the object in such a file; no such list is an empty one. Ends with what `take`
 * returns when that is not EPX_OK. EPX_ERR_FILE; EPX_ERR_SYNTAX: also no object, no list, something else in it. */
EPX_NODISCARD enum epx_status epx_json_file_texts(const char *path, const char *key,
                                                  enum epx_status (*take)(void *context, const char *text),
                                                  void *context);

#endif
