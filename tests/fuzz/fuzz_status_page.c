/* Any bytes as the copy of a control region: read or refused with a text, and printed, never a crash. */
#include "comm/jobs.h"
#include "comm/status_page.h"

#include <stdlib.h>
#include <string.h>

#define RANKS 2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void print(struct epx_status_page *page)
{
    struct epx_jobs jobs = {.pages = page, .page_count = 1};
    char *text = NULL;
    size_t text_bytes = 0;
    FILE *out = open_memstream(&text, &text_bytes);
    if (out == NULL) {
        abort();
    }
    epx_jobs_print_ranks(&jobs, out);
    epx_jobs_print_list(&jobs, out);
    epx_jobs_print_json(&jobs, out);
    (void)fclose(out);
    free(text);
}

/* The first byte says whether the stamp is made good; the bytes follow from the word on. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint64_t region_bytes = epx_control_bytes(RANKS);
    struct epx_process processes[RANKS];
    struct epx_status_page page;
    if (bytes == 0) {
        return 0;
    }
    struct epx_control *control = aligned_alloc(EPX_CONTROL_LINE_BYTES, (size_t)region_bytes);
    if (control == NULL) {
        abort();
    }
    memset(control, 0, (size_t)region_bytes);
    bool stamped = (data[0] & 1) != 0;
    size_t from = stamped ? EPX_CONTROL_LINE_BYTES : 0;
    size_t room = (size_t)region_bytes - from;
    memcpy((char *)control + from, data + 1, bytes - 1 < room ? bytes - 1 : room);
    if (stamped) {
        atomic_store(&control->identity, epx_control_identity(RANKS));
    }
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        processes[rank] = (struct epx_process){.state = (enum epx_process_state)(data[0] >> (2 * rank + 1) & 3)};
    }
    if (epx_status_page_read(control, region_bytes, UINT64_C(1) << 60, processes, RANKS, &page) == EPX_OK) {
        print(&page);
    } else if (epx_error_text()[0] == '\0') {
        abort();
    }
    epx_status_page_fini(&page);
    free(control);
    return 0;
}
