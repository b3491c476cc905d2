/*
 * JSON files whose content means nothing to epx, but that programs expect to be read. Thread: any.
 */
#ifndef EPX_COMM_JSON_FILE_H
#define EPX_COMM_JSON_FILE_H

#include "base/status.h"

/* Whether `path` is a regular file with a JSON text. EPX_ERR_FILE: it cannot be read; EPX_ERR_SYNTAX: it is not JSON,
 * with line and column. */
EPX_NODISCARD enum epx_status epx_json_file_check(const char *path);

#endif
