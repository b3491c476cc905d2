#include "base/fault.h"

#ifdef EPX_FAULTS

#include "base/config.h"
#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POINT_BYTES 64

enum fault_action { ACTION_FAIL, ACTION_KILL, ACTION_STOP, ACTION_SLEEP };

struct fault {
    char point[POINT_BYTES]; /* "" when there is none */
    uint64_t passage;        /* from 1 */
    int64_t rank;            /* -1: any */
    enum fault_action action;
    uint64_t sleep_ms;
};

static pthread_once_t read_once = PTHREAD_ONCE_INIT;
static struct fault fault;
static _Atomic uint64_t passages;

/* Reads decimal digits at *text and moves it behind them. */
static bool take_number(const char **text, uint64_t *value)
{
    if (**text < '0' || **text > '9') {
        return false;
    }
    char *end;
    *value = strtoull(*text, &end, 10);
    *text = end;
    return true;
}

static bool parse_action(const char *text, struct fault *parsed)
{
    static const char sleep_prefix[] = "sleep=";
    if (strcmp(text, "fail") == 0) {
        parsed->action = ACTION_FAIL;
    } else if (strcmp(text, "kill") == 0) {
        parsed->action = ACTION_KILL;
    } else if (strcmp(text, "stop") == 0) {
        parsed->action = ACTION_STOP;
    } else if (strncmp(text, sleep_prefix, sizeof sleep_prefix - 1) == 0) {
        parsed->action = ACTION_SLEEP;
        text += sizeof sleep_prefix - 1;
        return take_number(&text, &parsed->sleep_ms) && *text == '\0';
    } else {
        return false;
    }
    return true;
}

static bool parse_fault(const char *text, struct fault *parsed)
{
    size_t point_length = strcspn(text, ":");
    if (point_length == 0 || point_length >= POINT_BYTES || text[point_length] == '\0') {
        return false;
    }
    memcpy(parsed->point, text, point_length);
    text += point_length + 1;
    if (!take_number(&text, &parsed->passage) || parsed->passage == 0) {
        return false;
    }
    return *text == '\0' || (*text == ':' && parse_action(text + 1, parsed));
}

static void read_environment(void)
{
    struct fault parsed = {.rank = -1};
    const char *text = epx_option_text(EPX_OPTION_FAULT);
    if (text[0] == '\0') {
        return;
    }
    if (!parse_fault(text, &parsed)) {
        epx_log(EPX_LOG_ERROR, "EPX_FAULT is \"%s\", must be <point>:<n>[:fail|kill|stop|sleep=<ms>]: ignored", text);
        return;
    }
    if (epx_option_integer(EPX_OPTION_FAULT_RANK, &parsed.rank) != EPX_OK) {
        epx_log(EPX_LOG_ERROR, "%s: EPX_FAULT is ignored", epx_error_text());
        return;
    }
    fault = parsed;
}

static void sleep_for_ms(uint64_t duration_ms)
{
    struct timespec left = {.tv_sec = (time_t)(duration_ms / 1000), .tv_nsec = (long)(duration_ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0) {
    }
}

bool epx_fault(const char *point, int rank)
{
    (void)pthread_once(&read_once, read_environment);
    if (strcmp(point, fault.point) != 0 || (fault.rank >= 0 && fault.rank != rank)) {
        return false;
    }
    if (atomic_fetch_add_explicit(&passages, 1, memory_order_relaxed) + 1 != fault.passage) {
        return false;
    }
    epx_log(EPX_LOG_WARN, "fault at %s, passage %llu", point, (unsigned long long)fault.passage);
    switch (fault.action) {
    case ACTION_FAIL: return true;
    case ACTION_KILL: (void)kill(getpid(), SIGKILL); break;
    case ACTION_STOP: (void)kill(getpid(), SIGSTOP); break;
    case ACTION_SLEEP: sleep_for_ms(fault.sleep_ms); break;
    }
    return false;
}

enum epx_status epx_fault_first_step(uint64_t *step)
{
    int64_t value = 0;
    EPX_TRY(epx_option_integer(EPX_OPTION_FAULT_FIRST_STEP, &value));
    *step = (uint64_t)value;
    return EPX_OK;
}

#endif
