/* Any bytes as a rank table: parsed or refused with a text, never a crash. */
#include "comm/rank_table.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct epx_rank_table table;
    enum epx_status status = epx_rank_table_parse("fuzz", bytes > 0 ? (const char *)data : "", bytes, &table);
    if (status == EPX_OK) {
        if (table.rank_count == 0 || table.server_count == 0 || table.server_count > table.rank_count) {
            abort();
        }
        epx_rank_table_fini(&table);
    } else if (epx_error_text()[0] == '\0') {
        abort();
    }
    return 0;
}
